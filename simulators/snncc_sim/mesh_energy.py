"""Energy of clocked chips by component, from exact counts and the constants of the chip's description.

A component whose constant nobody published is listed as missing; it is never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from snncc.hw.quantity import Quantity
from snncc.hw.spec import ChipSpec
from snncc.hw.timing import MeshCosts
from snncc.mapping.mapped import Mapped
from snncc.simulation import Component, Constant, Energy, Estimate, Latency

# component, the constant in MeshCosts, the count that it multiplies, what it is
PARTS = (
    ("synapses", "synop_energy_pj", "operations", "a synaptic operation"),
    ("axon_lookups", "axon_in_energy_pj", "lookups", "the look-up of an arriving packet"),
    ("neuron_updates", "neuron_update_energy_pj", "active", "a neuron update"),
    ("idle_neurons", "neuron_idle_energy_pj", "idle", "a neuron that only leaks"),
    ("packets", "spike_out_energy_pj", "packets", "sending a packet"),
    ("hops_x", "hop_x_energy_pj", "hops_x", "a hop along x"),
    ("hops_y", "hop_y_energy_pj", "hops_y", "a hop along y"),
)
_TIMES = (
    ("axon_in_time_ns", "looking packets up"),
    ("spike_out_time_ns", "sending packets"),
    ("hop_x_time_ns", "hops along x"),
    ("hop_y_time_ns", "hops along y"),
    ("barrier_time_ns", "the barrier"),
)


def constant(name: str, quantity: Quantity) -> Constant:
    """A constant of a chip's description, as results list it."""
    return Constant(name, quantity.value, quantity.low, quantity.high, quantity.source, quantity.grade)


def piece_energy(counts: Mapping[str, int], samples: int, chip: ChipSpec) -> Energy:
    """Dynamic energy of one piece, nJ a sample.

    Args:
        counts: sums over all samples of operations, lookups, active, idle, packets, hops_x, hops_y.
        samples: how many.
        chip: names the profile and gives the constants.
    """
    costs = chip.mesh_costs or MeshCosts()
    parts = []
    for name, key, count, _ in PARTS:
        each: Quantity | None = getattr(costs, key)
        if each is not None:
            nanojoules = Estimate(each.value, each.low, each.high).times(1 / (1000 * max(samples, 1)))
            parts.append(Component(name, nanojoules.times(counts[count])))
    return Energy(chip.name, tuple(parts))


def barrier_energy(mapped: Mapped, latency: Latency, chip: ChipSpec) -> list[Component]:
    """Energy of a sample's barriers on all chips in use; none where it is unknown."""
    each = None if chip.mesh_costs is None else chip.mesh_costs.barrier_energy_pj
    if each is None or latency.micro_steps is None:
        return []
    picojoules = Estimate(each.value, each.low, each.high)
    return [Component("barriers", picojoules.times(latency.micro_steps * chips_used(mapped, chip) / 1000))]


def chips_used(mapped: Mapped, chip: ChipSpec) -> int:
    """Chips that hold at least one tile; 1 for networks without tiles."""
    if chip.mesh is None or not mapped.tiles:
        return 1
    return len({t.core // chip.mesh.cores_per_chip for t in mapped.tiles})


def mesh_constants(chip: ChipSpec) -> Iterator[Constant]:
    """The energies that entered a profile."""
    costs = chip.mesh_costs or MeshCosts()
    for key in (*(p[1] for p in PARTS), "barrier_energy_pj"):
        quantity: Quantity | None = getattr(costs, key)
        if quantity is not None:
            yield constant(key, quantity)


def mesh_missing(chip: ChipSpec) -> Iterator[str]:
    """Components without a constant."""
    costs = chip.mesh_costs or MeshCosts()
    known = [(name, key, what) for name, key, _, what in PARTS] + [
        ("barriers", "barrier_energy_pj", "a barrier")
    ]
    for name, key, what in known:
        if getattr(costs, key) is None:
            yield f"{name.replace('_', ' ')}: the chip's description has no energy of {what}"


def mesh_gaps(mapped: Mapped, chip: ChipSpec) -> Iterator[str]:
    """What the times of a mesh leave out."""
    costs = chip.mesh_costs or MeshCosts()
    yield "the way of input events to their cores and of results to the host: events stand at their cores"
    yield "back-pressure: queues are unbounded, a full link never stops a core"
    unknown = [what for key, what in _TIMES if getattr(costs, key) is None]
    if unknown:
        yield f"time of {', '.join(unknown)}: no constant, so that micro-steps take longer than stated"
    if chips_used(mapped, chip) > 1:
        yield "links and barriers between chips: taken as within a chip, which they are slower than"
    if any(p.streams for p in mapped.pieces):
        yield "when neurons fire in the free schedule: their spikes are put into their first micro-steps"


def fixed_rounds(rounds: int, chip: ChipSpec) -> Latency:
    """Latency of a chip whose micro-steps are rounds of one length, and of which nothing else is known."""
    costs = chip.mesh_costs or MeshCosts()
    model, shortest = "rounds of fixed length, one a micro-step", costs.step_time_min_ns
    if shortest is None:
        return Latency(model, rounds, None, None)
    time = Estimate(shortest.value, shortest.low, shortest.high).times(rounds)
    used = [constant("step_time_min_ns", shortest)]
    used += [] if costs.clock_mhz is None else [constant("clock_mhz", costs.clock_mhz)]
    return Latency(model, rounds, time, time, tuple(used), cycles(time, costs))


def cycles(time: Estimate, costs: MeshCosts) -> Estimate | None:
    """A time in ns as clock cycles; None for chips without a clock."""
    mhz = costs.clock_mhz
    if mhz is None:
        return None
    return Estimate(time.value * mhz.value / 1000, time.low * mhz.low / 1000, time.high * mhz.high / 1000)


def active_energy(latency: Latency, chip: ChipSpec) -> Energy | None:
    """Power of the working chip over the latency: an energy of its own, where the chip has that figure."""
    power = None if chip.mesh_costs is None else chip.mesh_costs.active_power_mw
    if power is None or latency.mean_ns is None:
        return None
    t = latency.mean_ns
    picojoules = Estimate(power.value * t.value, power.low * t.low, power.high * t.high)  # mW x ns
    part = Component("active_power", picojoules.times(1 / 1000))
    return Energy(f"{chip.name}-power", (part,), (constant("active_power_mw", power),))
