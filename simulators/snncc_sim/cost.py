"""Energy and latency of what a mapped network did, under named models.

Operation counts are exact integers over the whole batch; energy and latency are means a sample,
with the band that their constants support. What a model leaves out is listed in :attr:`Cost.not_modelled`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.hw.spec import ChipSpec, Quantity
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import Mapped, Piece, neurons_of
from snncc.metrics.models import MODELS
from snncc.metrics.models.model import Work
from snncc.simulation import (
    NOTHING,
    Activity,
    Component,
    Constant,
    Cost,
    Energy,
    Estimate,
    Latency,
    LayerActivity,
    LayerCost,
    Operations,
)
from snncc_sim.exchange import exchange_gaps, with_exchanges
from snncc_sim.mesh_energy import (
    active_energy,
    barrier_energy,
    chips_used,
    fixed_rounds,
    mesh_constants,
    mesh_gaps,
    mesh_missing,
    piece_energy,
)

if TYPE_CHECKING:
    from snncc_sim.timing import Totals

Times = NDArray[np.float64]

_MODELS = tuple(model for model in MODELS if model.of_chips)
HOST = "host"  # name of the row of what the host computes
BARRIERS = "micro-steps between barriers"


def estimate(
    mapped: Mapped,
    activity: Activity,
    chip: ChipSpec,
    host_macs_per_sample: int,
    tensors: Mapping[str, Array] | None = None,
) -> Cost:
    """Cost of what ``activity`` says ``mapped`` did on ``chip``.

    Args:
        mapped: the network.
        activity: what a simulator counted.
        chip: constants; what it does not give is listed, never taken as zero silently.
        host_macs_per_sample: multiply-accumulates that the host does a sample before the first spike.
        tensors: the network's arrays by digest, to count stored weights.
    """
    totals, meshed = _on_mesh(mapped, activity, chip)
    layers = [
        _layer(mapped, piece, done, activity, chip, tensors, totals)
        for piece, done in zip(mapped.pieces, activity.layers, strict=True)
    ]
    if host_macs_per_sample:
        layers.insert(0, _host(host_macs_per_sample, activity.samples))
    total = sum((layer.operations for layer in layers), Operations())
    latency = with_exchanges(meshed or _latency(mapped, activity, chip), mapped, chip)
    profile = _chip_energy(layers, latency, chip, mapped, totals is not None)
    whole = active_energy(latency, chip)
    energy = (
        *(replace(_sum(layers, m.name, m.constants()), about=m.about) for m in _MODELS),
        *([profile] if profile.components else []),
        *([whole] if whole is not None else []),
    )
    return Cost(
        activity.samples,
        tuple(layers),
        total,
        energy,
        latency,
        (*chip.not_modelled, *(f"{chip.name}, {m}" for m in profile.missing), *_gaps(mapped, chip, latency)),
        activity.crossings,
    )


def _on_mesh(mapped: Mapped, activity: Activity, chip: ChipSpec) -> tuple[Totals | None, Latency | None]:
    """Totals and latency of a network whose tiles stand on a mesh; nothing for any other."""
    tiled = mapped.engine is Engine.CLOCKED and mapped.tiles
    if not tiled or chip.mesh is None or activity.inputs is None:
        return None, None
    from snncc_sim.timing import mesh_run  # compiled kernels: not imported by other chips

    return mesh_run(mapped, activity, chip)


# ---- layers -----------------------------------------------------------------------------------------


def _layer(
    mapped: Mapped,
    piece: Piece,
    done: LayerActivity,
    activity: Activity,
    chip: ChipSpec,
    tensors: Mapping[str, Array] | None,
    totals: Totals | None,
) -> LayerCost:
    operations = Operations(
        events=done.events,
        synaptic_operations=done.synaptic_operations,
        acs=done.unit_operations,
        control_events=done.control_events,
        control_operations=done.control_operations,
        spikes=done.spikes,
        neurons=0 if piece.is_readout else neurons_of(piece, tensors or {}),
        neuron_updates=done.neuron_updates,
        saturations=done.saturations,
        early=done.early,
    )
    stored = None if tensors is None else sum(tensors[d].size for d in {c.weight for c in piece.connections})
    neurons = neurons_of(piece, tensors or {})
    held = sum(math.prod(p.address.held_shape) for p in piece.products)  # read as weights are
    work = _work(neurons, operations, (stored or 0) + held, activity.samples)
    own = (
        _synapses(operations, activity.samples, chip)
        if totals is None
        else piece_energy(totals.of(mapped, piece.name), activity.samples, chip)
    )
    cost = LayerCost(
        piece.name,
        piece.layer,
        mapped.cores_of(piece.name),
        operations,
        _rate(operations, mapped, activity.samples),
        _busy(_synop_time(mapped, piece, chip), done, activity.samples),
        stored,
        (*(model.energy(work) for model in _MODELS), own),
    )
    return _by_host(cost) if piece.on_host else cost


def _by_host(cost: LayerCost) -> LayerCost:
    """The cost of a piece that the host computes: its accumulates are none of the chip's."""
    done = cost.operations
    moved = Operations(
        host_acs=done.acs,
        host_updates=done.neuron_updates,
        spikes=done.spikes,
        neurons=done.neurons,
        saturations=done.saturations,
    )
    models = {m.name for m in _MODELS}
    energy = tuple(_hosted(e) for e in cost.energy if e.model in models)
    return replace(cost, operations=moved, busy_ns=None, energy=energy, on_host=True)


def _hosted(energy: Energy) -> Energy:
    parts = (replace(c, name=f"host_{c.name}") for c in energy.components if c.energy_nj != NOTHING)
    return replace(energy, components=tuple(parts))


def _work(neurons: int, done: Operations, stored: int, samples: int) -> Work:
    each = 1 / max(samples, 1)
    return Work(
        synaptic_operations=(done.synaptic_operations + done.control_operations) * each,
        neuron_updates=done.neuron_updates * each,
        spikes=done.spikes * each,
        weights=stored,
        neurons=neurons,
    )


def _host(macs: int, samples: int) -> LayerCost:
    operations = Operations(macs=macs * samples)
    energy = tuple(model.energy(Work(macs=macs)) for model in _MODELS)
    return LayerCost(HOST, HOST, (), operations, None, None, None, energy, on_host=True)


def _rate(operations: Operations, mapped: Mapped, samples: int) -> float | None:
    chances = operations.neurons * mapped.steps * samples
    return operations.spikes / chances if chances else None


def _busy(per: Quantity | None, done: LayerActivity, samples: int) -> Estimate | None:
    if per is None:
        return None
    operations = done.synaptic_operations + done.control_operations
    return _band(per).times(operations / max(samples, 1))


# ---- energy -----------------------------------------------------------------------------------------


def _band(quantity: Quantity) -> Estimate:
    return Estimate(quantity.value, quantity.low, quantity.high)


def _constant(name: str, quantity: Quantity) -> Constant:
    return Constant(name, quantity.value, quantity.low, quantity.high, quantity.source, quantity.grade)


def _synapses(operations: Operations, samples: int, chip: ChipSpec) -> Energy:
    """A layer's dynamic energy under the chip's own profile."""
    per = chip.costs.synop_energy_pj
    if per is None:
        return Energy(chip.name, ())  # listed as missing in the total
    each = _band(per).times(1 / (1000 * max(samples, 1)))
    parts = (
        Component("synapses", each.times(operations.synaptic_operations)),
        Component("control_synapses", each.times(operations.control_operations)),
    )
    return Energy(chip.name, parts)


def _sum(layers: list[LayerCost], model: str, constants: tuple[Constant, ...]) -> Energy:
    """Component-wise sum of the layers' energies under one model."""
    parts: dict[str, Estimate] = {}
    for layer in layers:
        for energy in layer.energy:
            if energy.model == model:
                for c in energy.components:
                    parts[c.name] = parts.get(c.name, NOTHING) + c.energy_nj
    return Energy(model, tuple(Component(name, e) for name, e in parts.items()), constants)


def _chip_energy(
    layers: list[LayerCost], latency: Latency, chip: ChipSpec, mapped: Mapped, meshed: bool
) -> Energy:
    """The chip's profile: what its layers did, and static and I/O power over the latency."""
    energy = _sum(layers, chip.name, ())
    parts, constants, missing = list(energy.components), list[Constant](), list[str]()
    if meshed:
        constants += mesh_constants(chip)
        missing += mesh_missing(chip)
        parts += barrier_energy(mapped, latency, chip)
    elif chip.mesh is not None:
        missing.append("all components: they need tiles and the input that was executed")
    elif chip.costs.synop_energy_pj is None:
        missing.append("synapses: the chip's description has no energy of a synaptic operation")
    else:
        constants.append(_constant("synop_energy_pj", chip.costs.synop_energy_pj))
    if mapped.on_host:
        missing.append("islands of the host: whose computer it is, the chip's description does not say")
    powers = (("static", "static_power_mw"), ("host_io", "io_power_mw"))
    for name, key in powers:
        power: Quantity | None = getattr(chip.costs, key)
        if power is None or latency.mean_ns is None:
            missing.append(
                f"{name}: the chip's description has no {'power' if power is None else 'time'} for it"
            )
            continue
        t = latency.mean_ns
        picojoules = Estimate(power.value * t.value, power.low * t.low, power.high * t.high)  # mW x ns
        parts.append(Component(name, picojoules.times(chips_used(mapped, chip) / 1000)))
        constants.append(_constant(key, power))
    return replace(energy, components=tuple(parts), constants=tuple(constants), missing=tuple(missing))


# ---- latency ----------------------------------------------------------------------------------------


def _synop_time(mapped: Mapped, piece: Piece, chip: ChipSpec) -> Quantity | None:
    """Time of a synaptic operation on the cores that hold a layer; None if unknown or not the same on all."""
    kinds = chip.cores
    times = {kinds[core].synop_time_ns if core in kinds else None for core in mapped.cores_of(piece.name)}
    return times.pop() if len(times) == 1 else None


def _latency(mapped: Mapped, activity: Activity, chip: ChipSpec) -> Latency:
    if mapped.engine is Engine.CLOCKED:
        last = max((p.phase for p in mapped.pieces), default=0)
        steps = last + mapped.steps * mapped.micro_steps
        rounds = chip.mesh_costs is not None and chip.mesh is None
        return fixed_rounds(steps, chip) if rounds else Latency(BARRIERS, steps, None, None)
    gated = mapped.engine is Engine.GATED
    model = (
        "sequential phases: data of the first layers, then each layer's release against its readers' data"
        if gated
        else "busy time of the slowest core + longest path x hop"
    )
    hop, io = chip.costs.hop_latency_ns, chip.costs.io_latency_ns
    times = {p.name: _synop_time(mapped, p, chip) for p in mapped.on_chip}
    if hop is None or io is None or any(t is None for t in times.values()) or not activity.samples:
        return Latency(model, None, None, None)
    formula = _gated_ns if gated else _free_ns
    bands = []
    for pick in (_value, _low, _high):
        per = {name: pick(t) for name, t in times.items() if t is not None}
        bands.append(pick(io) + formula(mapped, activity, per, pick(hop)))
    constants = [_constant("hop_latency_ns", hop), _constant("io_latency_ns", io)]
    constants += [_constant(f"synop_time_ns of {name}", t) for name, t in times.items() if t is not None]
    mean, most = (Estimate(*(float(f(b)) for b in bands)) for f in (np.mean, np.max))
    return Latency(model, None, mean, most, tuple(constants))


def _value(q: Quantity) -> float:
    return q.value


def _low(q: Quantity) -> float:
    return q.low


def _high(q: Quantity) -> float:
    return q.high


def _readers(mapped: Mapped) -> dict[str, list[str]]:
    """Pieces whose last source each name is: their data time belongs to that source's phase."""
    order = {name: i for i, name in enumerate(mapped.senders)}
    found: dict[str, list[str]] = {name: [] for name in order}
    for piece in mapped.pieces:
        sources = piece.sources
        if sources:
            found[max(sources, key=order.__getitem__)].append(piece.name)
    return found


def _gated_ns(mapped: Mapped, activity: Activity, per: dict[str, float], hop: float) -> Times:
    """Time of each sample [N]: phases of the gated schedule one after the other."""
    data = {name: activity.per_sample[name][:, 0] * t for name, t in per.items()}
    control = {name: activity.per_sample[name][:, 1] * t for name, t in per.items()}
    readers = _readers(mapped)

    def slowest(names: list[str]) -> Times:
        zero = np.zeros(activity.samples)
        return np.asarray(np.max([zero, *(data[n] for n in names)], axis=0))

    total = slowest([name for port in mapped.ports for name in readers[port]])
    for piece in mapped.pieces:
        if piece.gate is not None:
            total = total + np.maximum(control[piece.name], slowest(readers[piece.name])) + hop
    return total


def _free_ns(mapped: Mapped, activity: Activity, per: dict[str, float], hop: float) -> Times:
    """Time of each sample [N]: the slowest core's work, then the way through all layers."""
    depth = dict.fromkeys(mapped.ports, 0)
    for piece in mapped.pieces:
        depth[piece.name] = 1 + max((depth[name] for name in piece.sources), default=0)
    work = [activity.per_sample[name].sum(axis=1) * t for name, t in per.items()]
    return np.asarray(np.max(work, axis=0) + max(depth.values()) * hop)


def _gaps(mapped: Mapped, chip: ChipSpec, latency: Latency) -> tuple[str, ...]:
    """What these models leave out, beside what the chip's description says."""
    gaps = [f"{model.name}: {model.missing}" for model in _MODELS]
    if latency.steps is not None:
        gaps += mesh_gaps(mapped, chip)
    elif latency.mean_ns is None and chip.mesh is not None:
        gaps.append("time in ns: it needs tiles, the input that was executed, and times of operations")
    elif latency.mean_ns is None:
        gaps.append("time in ns: the chip's description has no time constants for this engine")
    elif mapped.engine is Engine.CLOCKED:
        gaps.append("whether the network fits: all cores are taken to end each micro-step in time")
    elif mapped.engine is Engine.GATED:
        gaps.append("overlap of a phase with the next; a merge's data count in the phase of its last source")
    else:
        gaps.append("waiting between cores: the slowest core is taken to be busy without a gap")
    gaps += exchange_gaps(mapped, chip)
    if mapped.engine is not Engine.CLOCKED:
        gaps.append("overload: queues are unbounded and never stall")
    return tuple(gaps)
