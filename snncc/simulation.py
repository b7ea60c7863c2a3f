"""What a simulator takes and gives: the contract between the core and simulator packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.errors import fail
from snncc.hw.spec import ChipSpec
from snncc.ir.interp import decode
from snncc.ir.nodes import Output
from snncc.mapping.crossing import Crossing
from snncc.mapping.mapped import Mapped, OutputPort

Progress = Callable[[int], None]  # called with the number of samples just finished
# Counts [N, T, C, H, W] by input port; an array stands for the one port's of a network that has no other.
Inputs = Array | Mapping[str, Array]


@dataclass(frozen=True)
class LayerActivity:
    """Integer totals of one piece over all samples.

    Attributes:
        events: data spikes that arrived (after pooling; one a connection).
        synaptic_operations: weight look-ups those caused, taps outside the map excluded,
            zero weights included.
        unit_operations: the same times what each event carries; more only for graded events.
        control_events, control_operations: the same for the gate's control events.
        spikes: spikes that the piece sent.
        neuron_updates: membrane updates other than synaptic ones (bias, decay, fire pass).
        saturations: updates that left the membrane's word and were clamped.
        early: neurons that fired while their layer was still integrating (gated engine).
        out_of_range: samples in which either happened.
    """

    name: str
    events: int = 0
    synaptic_operations: int = 0
    unit_operations: int = 0
    control_events: int = 0
    control_operations: int = 0
    spikes: int = 0
    neuron_updates: int = 0
    saturations: int = 0
    early: int = 0
    out_of_range: tuple[int, ...] = ()


@dataclass(frozen=True)
class Activity:
    """What a mapped network did on a batch.

    Attributes:
        samples: N.
        counts: per piece [N, T, C, H, W]: spikes of each timestep's window; a readout's membrane.
        layers: totals, one a piece, in order.
        result: decoded result [N, ...].
        per_sample: per piece, synaptic operations of each sample: data and control, [N, 2] int64.
        connection_events: per piece, spikes that arrived over each of its connections, a graded
            event counted as often as it says.
        inputs: what was executed, [N, T, C, H, W] by port; models of time by micro-step need it.
        crossings: events between host and chip.
        product_events: per piece, spikes of the streaming operand of each of its products, a graded
            event counted as often as it says.
    """

    samples: int
    counts: dict[str, Array]
    layers: tuple[LayerActivity, ...]
    result: Array
    per_sample: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    connection_events: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: Mapping[str, Array] | None = None
    crossings: tuple[Crossing, ...] = ()
    product_events: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """A physical quantity with its band; the unit stands in the name of the field that holds it."""

    value: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Estimate:
        """The estimate, scaled by an exact factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


NOTHING = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Constant:
    """A constant that a model used.

    Attributes:
        name: what it is, with its unit.
        value, low, high: best estimate and band.
        source: where it is from.
        grade: what kind of evidence that is.
    """

    name: str
    value: float
    low: float
    high: float
    source: str
    grade: str

    @property
    def estimate(self) -> Estimate:
        """Value and band."""
        return Estimate(self.value, self.low, self.high)


@dataclass(frozen=True)
class Operations:
    """Counts over all samples.

    Attributes:
        events: data spikes that arrived, after pooling, one a connection.
        synaptic_operations: weight look-ups that those caused; taps outside the map excluded.
        acs: accumulates: sum of level x valid fan-out of the data events.
        macs: multiply-accumulates of the host's part.
        host_acs, host_updates: accumulates and neuron updates of the host's islands; the chip's
            events, look-ups, accumulates and updates leave them out.
        control_events, control_operations: the gate's events and the look-ups they caused.
        spikes: spikes sent.
        neurons: neurons that send spikes.
        neuron_updates, saturations, early: as in :class:`snncc.simulation.LayerActivity`.
    """

    events: int = 0
    synaptic_operations: int = 0
    acs: int = 0
    macs: int = 0
    host_acs: int = 0
    host_updates: int = 0
    control_events: int = 0
    control_operations: int = 0
    spikes: int = 0
    neurons: int = 0
    neuron_updates: int = 0
    saturations: int = 0
    early: int = 0

    def __add__(self, other: Operations) -> Operations:
        mine, yours = asdict(self), asdict(other)
        return Operations(**{k: mine[k] + yours[k] for k in mine})


@dataclass(frozen=True)
class Component:
    """One part of an energy model, nJ a sample."""

    name: str
    energy_nj: Estimate


@dataclass(frozen=True)
class Energy:
    """Energy of one sample under a named model.

    Attributes:
        model: its name.
        components: its parts; their sum is ``total_nj``.
        constants: what it used.
        missing: components that the chip's description gives no constant for: not in the total.
        about: what the model counts and what it is for, for people.
    """

    model: str
    components: tuple[Component, ...]
    constants: tuple[Constant, ...] = ()
    missing: tuple[str, ...] = ()
    about: str = ""

    @property
    def total_nj(self) -> Estimate:
        """Sum of the components."""
        return sum((c.energy_nj for c in self.components), NOTHING)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model,
            "total_nj": asdict(self.total_nj),
            "components": {c.name: asdict(c.energy_nj) for c in self.components},
            "constants": [asdict(c) for c in self.constants],
            "missing": list(self.missing),
        }


@dataclass(frozen=True)
class LayerCost:
    """One piece, or the host's part.

    Attributes:
        cores: numbers of the cores that hold it.
        operations: counts over all samples.
        firing_rate: spikes a neuron and timestep; None where nothing fires.
        busy_ns: mean service time of the core, data and control; None without a constant.
        stored_weights: weights kept for it; None if no tensors were given.
        energy: the layer's own components by model, nJ a sample; static and I/O belong to the chip
            alone.
        on_host: whether the host computes it.
    """

    name: str
    layer: str
    cores: tuple[int, ...]
    operations: Operations
    firing_rate: float | None
    busy_ns: Estimate | None
    stored_weights: int | None
    energy: tuple[Energy, ...]
    on_host: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "layer": self.layer,
            "on_host": self.on_host,
            "cores": list(self.cores),
            **asdict(self.operations),
            "firing_rate": self.firing_rate,
            "busy_ns": None if self.busy_ns is None else asdict(self.busy_ns),
            "stored_weights": self.stored_weights,
            "energy": {
                e.model: {k: v for k, v in e.as_dict().items() if k in ("total_nj", "components")}
                for e in self.energy
            },
        }


@dataclass(frozen=True)
class Limit:
    """What micro-steps waited for: a component of a core or link, and its share of all time."""

    component: str
    where: str
    share: float


@dataclass(frozen=True)
class CoreUse:
    """Shares of the time in which a core's units were busy: updating neurons, sending, receiving."""

    core: int
    update: float
    send: float
    receive: float


@dataclass(frozen=True)
class LinkUse:
    """A link between routers: packets over it in all samples, and the share of the time it was busy."""

    link: str
    packets: int
    share: float


@dataclass(frozen=True)
class MicroSteps:
    """What the micro-steps of a mesh of cores take, barriers included.

    Attributes:
        mean_ns, longest_ns: of one micro-step.
        packets, hops: over all samples.
        queued_samples: samples whose every packet was played through every queue.
        queueing: their time with queues, over the bound that the other samples are scaled from.
        limits: what was waited for, by falling share; the shares add up to 1.
        cores, links: how busy each one is that was used.
    """

    mean_ns: Estimate
    longest_ns: Estimate
    packets: int
    hops: int
    queued_samples: int
    queueing: float
    limits: tuple[Limit, ...]
    cores: tuple[CoreUse, ...]
    links: tuple[LinkUse, ...]


@dataclass(frozen=True)
class Latency:
    """Time from the first input event to the result.

    Attributes:
        model: how it was computed.
        micro_steps: clocked chips: barrier-to-barrier steps a sample.
        mean_ns, max_ns: over the samples; None where the chip gives no time constants.
        constants: what was used.
        cycles: clock cycles of the mean; None for chips without a clock.
        steps: of a mesh of cores, what the micro-steps take; None elsewhere.
    """

    model: str
    micro_steps: int | None
    mean_ns: Estimate | None
    max_ns: Estimate | None
    constants: tuple[Constant, ...] = ()
    cycles: Estimate | None = None
    steps: MicroSteps | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"constants": [asdict(c) for c in self.constants]}


@dataclass(frozen=True)
class Cost:
    """Cost of a batch; ``operations`` and ``crossings`` are exact sums, the rest is a mean a sample.

    Attributes:
        energy: by model; those of the trained network come first, once it was run as well.
        firing_rate: of the trained network's neurons; None where nothing fires or it was not run.
        acs_paper: the trained network's accumulates a sample, by the papers' rule; None if it was not run.
    """

    samples: int
    layers: tuple[LayerCost, ...]
    operations: Operations
    energy: tuple[Energy, ...]
    latency: Latency
    not_modelled: tuple[str, ...]
    crossings: tuple[Crossing, ...] = ()
    firing_rate: float | None = None
    acs_paper: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``total``, ``layers``, ``crossings``, ``energy`` by model, ``latency``."""
        return {
            "samples": self.samples,
            "layers": [layer.as_dict() for layer in self.layers],
            "total": {
                **asdict(self.operations),
                "acs_paper_per_sample": self.acs_paper,
                "firing_rate": self.firing_rate,
            },
            "crossings": [asdict(c) for c in self.crossings],
            "energy": {e.model: e.as_dict() for e in self.energy},
            "latency": self.latency.as_dict(),
            "not_modelled": list(self.not_modelled),
        }


def by_port(names: Sequence[str], x: Inputs) -> dict[str, Array]:
    """Counts of every port, in the order of ``names``.

    Raises:
        DataError: SNNC-D004 where they are of other ports, or of different numbers of samples.
    """
    given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
    if set(given) != set(names):
        got, limit = sorted(given), sorted(names)
        raise fail("SNNC-D004", "input", "counts of other ports than the network's", got=got, limit=limit)
    if len({len(counts) for counts in given.values()}) > 1:
        sizes = {name: len(counts) for name, counts in given.items()}
        raise fail("SNNC-D004", "input", "ports of different numbers of samples", got=sizes)
    return {name: given[name] for name in names}


def decoded(port: OutputPort, counts: Array, tensors: Mapping[str, Array]) -> Array:
    """The network's result, as the interpreter decodes it, of its last piece's counts [N, T, C, H, W]."""
    node = Output(
        name="output", inputs=(port.piece,), decode=port.decode, over_time=port.over_time, scale=port.scale
    )
    flat = counts.astype(np.int64).reshape(*counts.shape[:2], int(np.prod(counts.shape[2:])))
    ordered = flat if port.order is None else flat[..., tensors[port.order]]
    return decode(node, ordered.reshape(*counts.shape[:2], *port.shape))


def observed(mapped: Mapped, tensors: Mapping[str, Array], counts: Mapping[str, Array]) -> Activity:
    """Activity of counts [N, T, C, H, W] a piece that something else executed: values, no operations."""
    layers = tuple(LayerActivity(p.name) for p in mapped.pieces)
    result = decoded(mapped.output, counts[mapped.output.piece], tensors)
    return Activity(len(result), {p.name: counts[p.name] for p in mapped.pieces}, layers, result)


class Simulator(Protocol):
    """Executes mapped networks."""

    name: str

    def execute(
        self,
        mapped: Mapped,
        tensors: Mapping[str, Array],
        x: Inputs,
        *,
        shuffle: int | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> Activity:
        """Run a batch of spike counts ``x`` [N, T, C, H, W] a port.

        ``shuffle`` plays the input events of the event-driven engines in a random order of that seed.
        """
        ...

    def estimate(
        self,
        mapped: Mapped,
        activity: Activity,
        chip: ChipSpec,
        host_macs_per_sample: int,
        tensors: Mapping[str, Array] | None = None,
    ) -> Cost:
        """Energy and latency of what ``execute`` counted, under named models."""
        ...
