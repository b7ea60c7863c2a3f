"""What an integer graph under a schedule asks of a chip, held against the chip's abilities.

Passes bring a graph near to a chip; what is left is asked for here, one demand an ability and node, and
refused in one place if the chip's description denies the ability. Limits (sizes, widths, cores) are the
backend's to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.cell import EACH_CHANNEL
from snncc.ir.const import Integer, values_of
from snncc.ir.graph import Graph
from snncc.ir.neurons import IntegerNeuron
from snncc.ir.node import Decode, Node, Reset, describe
from snncc.ir.nodes import HostRegion, Input, Upsample
from snncc.ir.schedule import Engine, Schedule
from snncc.ir.sites import SiteGate
from snncc.ir.trains import largest_train, trains
from snncc.ir.types import Spikes


@dataclass(frozen=True)
class Demand:
    """Something that a network needs and not every chip can do.

    Attributes:
        ability: field of :class:`~snncc.hw.spec.Abilities` that says whether a chip can.
        where: the node that asks for it; empty for the network as a whole.
        got: what of it asks.
        hint: what would not ask.
        limit: what a chip without the ability can do, if that is a number.
        neuron: the neuron that a host can compute in the chip's place, so that the chip need not;
            empty where none can.
    """

    ability: str
    where: str
    got: str
    hint: str
    limit: int | None = None
    neuron: str = ""


_SCHEDULE, _NEURON, _EVENT, _RESULT = "SNNC-C015", "SNNC-C010", "SNNC-C016", "SNNC-C017"
_SYNAPSE = "SNNC-C012"
# What a chip lacks that denies an ability, and the code of its kind.
LACKING: Mapping[str, tuple[str, str]] = {
    "clocked": (_SCHEDULE, "the chip has no clock for micro-steps"),
    "windows": (_SCHEDULE, "the chip's neurons cannot gather a timestep's input before they fire"),
    "second_accumulator": (_SCHEDULE, "timesteps need a second accumulator while a window fires"),
    "clips_counts": (_SCHEDULE, "the chip holds no neuron back after its largest count"),
    "leak_between_timesteps": (_NEURON, "the chip's membranes do not leak between timesteps"),
    "hard_reset": (_NEURON, "the chip's neurons do not reset to a value"),
    "soft_reset": (_NEURON, "the chip's neurons do not reset by subtraction"),
    "lower_clamp": (_NEURON, "the chip's membranes have no lower clamp"),
    "start_values": (_NEURON, "the chip's membranes start a sample at zero"),
    "synaptic_current": (_NEURON, "the chip's neurons have no synaptic current"),
    "custom_neurons": (_NEURON, "the chip's neurons are no programs"),
    "graded_events": (_EVENT, "the chip's events carry no counts"),
    "signed_events": (_EVENT, "the chip's events carry no sign"),
    "gates_sites": (_SYNAPSE, "the chip's layers work at every site of their maps"),
    "multiplies_counts": (_EVENT, "the chip's cores multiply no spikes with spikes"),
    "pools_counts": (_NEURON, "the chip's neurons add up what they get and take no maximum of it"),
    "upsamples": (_SYNAPSE, "the chip's addresses raise no map to a larger one"),
    "channel_numbers": (_NEURON, "the chip's layers hold one threshold, leak and reset for all channels"),
    "reads_membranes": (_RESULT, "the chip's membranes cannot be read"),
}


def denied(demands: Iterable[Demand], chip: ChipSpec) -> tuple[Demand, ...]:
    """Those that the chip does not meet, in order."""
    return tuple(d for d in demands if not getattr(chip.abilities, d.ability))


def unmet(demands: Iterable[Demand], chip: ChipSpec) -> Iterator[Problem]:
    """A problem for each demand that the chip does not meet, in order."""
    for d in denied(demands, chip):
        code, what = LACKING[d.ability]
        where = f"{d.where or 'network'} on {chip.name}"
        yield problem(code, where, what, got=d.got, limit=d.limit, hint=d.hint)


def demands(graph: Graph, schedule: Schedule, reach: Mapping[str, int]) -> tuple[Demand, ...]:
    """What a legalised integer graph under a schedule asks of a chip.

    ``reach``: the largest count that each neuron's inputs allow, by name; above it a clip never binds.
    """
    found = [*_of_schedule(graph, schedule), *_of_ports(graph), *_of_result(graph)]
    for node in graph.nodes:
        if isinstance(node, IntegerNeuron):
            own = [*_of_reset(node, graph.steps, schedule), *_of_membrane(node, graph.steps)]
            own += [*_of_channels(node), *_of_current(node), *_of_events(node), *_of_sites(graph, node)]
            own += [*_of_products(graph, node), *_of_pools(graph, node), *_of_maps(graph, node)]
            found += [*(replace(d, neuron=node.name) for d in own), *_of_counts(node, reach)]
    return tuple(found)


# ---- schedule and result ----------------------------------------------------------------------------


def _of_schedule(graph: Graph, schedule: Schedule) -> Iterator[Demand]:
    asked = f"schedule {schedule.name}"
    if schedule.engine is Engine.CLOCKED:
        yield Demand("clocked", "", asked, "a schedule without micro-steps")
    if schedule.graded:
        yield Demand("graded_events", "", asked, "--schedule exact")
    at_once = schedule.engine is Engine.CLOCKED and schedule.micro_steps(largest_train(graph)) == 1
    if not schedule.has_windows or at_once:
        return
    yield from _of_windows(graph, schedule)
    if graph.steps > 1:
        got, hint = f"{graph.steps} timesteps", "a network of one timestep (SFA), or --target sim"
        yield Demand("second_accumulator", "", got, hint, limit=1)


def _of_ports(graph: Graph) -> Iterator[Demand]:
    """What several host regions, and currents of the host, ask for."""
    kinds = {n: graph.types[n.name] for n in graph.nodes if isinstance(n, Input | HostRegion)}
    ports = {n: kind for n, kind in kinds.items() if isinstance(kind, Spikes)}
    if len(ports) > 1:
        names = ", ".join(describe(n) for n in ports)
        yield Demand("clocked", "", f"inputs at several layers: {names}", "one neuron layer behind the stem")
    for node, kind in ports.items():
        if kind.signed:
            got, hint = f"a current of the host up to ±{kind.levels:,}", "a neuron behind the analog stem"
            yield Demand("graded_events", describe(node), got, hint)
            yield Demand("signed_events", describe(node), got, hint)


def _of_windows(graph: Graph, schedule: Schedule) -> Iterator[Demand]:
    """Neurons that count need windows; sources that do, where no neuron does; else the schedule itself."""
    hint = "single spikes a timestep, or a target whose neurons have windows"
    counting = [(n, kind.levels) for n, kind in trains(graph) if kind.levels > 1]
    for node, most in [c for c in counting if isinstance(c[0], IntegerNeuron)] or counting:
        yield Demand("windows", describe(node), f"counts up to {most}", hint, limit=1)
    if not counting:
        yield Demand("windows", "", f"schedule {schedule.name}", "a schedule without windows")


def _of_result(graph: Graph) -> Iterator[Demand]:
    if graph.output.decode is Decode.MEMBRANE:
        hint = "neurons that fire as the last layer: their spikes are counted"
        got, last = "a result that is a membrane potential", _last_neuron(graph)
        yield Demand("reads_membranes", describe(graph.output), got, hint, neuron=last)


def _last_neuron(graph: Graph) -> str:
    node: Node = graph.output
    while not isinstance(node, IntegerNeuron):
        node = graph.by_name[node.inputs[0]]
    return node.name


# ---- neurons ----------------------------------------------------------------------------------------


def _of_reset(node: IntegerNeuron, steps: int, schedule: Schedule) -> Iterator[Demand]:
    """What a spike leaves behind, where the next timestep reads it, or, without windows, the next spike."""
    cell = node.cell
    kept = steps > 1 and not cell.is_stateless
    several = cell.max_spikes > 1 and not schedule.has_windows
    if cell.is_readout or not (kept or several):
        return
    where = describe(node)
    if cell.reset is Reset.VALUE:
        yield Demand("hard_reset", where, "hard reset", "soft reset, by subtraction of the threshold")
        if cell.reset_to != 0:
            yield Demand("custom_neurons", where, "a reset to another value than 0", "a reset to 0")
        return
    yield Demand("soft_reset", where, "soft reset", "hard reset to 0")
    if cell.reset_by is not None:
        hint = "a reset by the threshold"
        yield Demand("custom_neurons", where, "a reset by another amount than the threshold", hint)


def _of_membrane(node: IntegerNeuron, steps: int) -> Iterator[Demand]:
    cell, where = node.cell, describe(node)
    if steps > 1 and not cell.integrates:
        kept = "no memory" if cell.decay == 0 else f"a leak to {_span(cell.decay)}/{1 << cell.decay_bits}"
        yield Demand("leak_between_timesteps", where, kept, "neurons without leak (IF), or one timestep")
    if cell.v_min is not None:
        yield Demand("lower_clamp", where, "a bound v_min", "no lower bound")
    if cell.starts_charged:
        yield Demand("start_values", where, "v_init other than 0", "v_init = 0")


def _span(value: Integer) -> str:
    least, most = values_of(value).min(), values_of(value).max()
    return str(least) if least == most else f"{least}..{most}"


def _of_channels(node: IntegerNeuron) -> Iterator[Demand]:
    names = [name for name in node.cell.per_channel() if name not in EACH_CHANNEL]
    if names:
        numbers = ", ".join(f"{name} {_span(getattr(node.cell, name))}" for name in names)
        got = f"{numbers} in {node.cell.constants()[0].shape[0]} channels"
        yield Demand("channel_numbers", describe(node), got, "one number for the layer, or --target sim")


def _of_products(graph: Graph, node: IntegerNeuron) -> Iterator[Demand]:
    for product in graph.layers[node.name].products:
        yield Demand("multiplies_counts", describe(product), "a product of spikes", "--target sim")


def _of_maps(graph: Graph, node: IntegerNeuron) -> Iterator[Demand]:
    """What the chip's addresses must do to the maps on the way to the weights."""
    for before in _between(graph, node):
        if isinstance(before, Upsample):
            got = f"a map of {before.factor[0]}×{before.factor[1]} times the size"
            hint = "a detector or segmenter whose maps the host upsamples, or --target sim"
            yield Demand("upsamples", describe(before), got, hint)


def _between(graph: Graph, node: IntegerNeuron) -> Iterator[Node]:
    """Nodes between neurons and the weights of one of them, each once."""
    waiting, seen = list(graph.layers[node.name].sources), set[str]()
    while waiting:
        before = graph.by_name[waiting.pop()]
        if before.name in seen or isinstance(before, IntegerNeuron | Input | HostRegion):
            continue
        seen.add(before.name)
        waiting += before.inputs
        yield before


def _of_current(node: IntegerNeuron) -> Iterator[Demand]:
    cell, where = node.cell, describe(node)
    if not cell.has_current:
        return
    yield Demand("synaptic_current", where, "a synaptic current", "neurons without synaptic current")
    if not cell.current_fades:
        yield Demand("custom_neurons", where, "a synaptic current that never fades", "a leak of the synapse")


def _of_events(node: IntegerNeuron) -> Iterator[Demand]:
    cell, where = node.cell, describe(node)
    if cell.signed:
        got, hint = f"a relay of sums up to ±{cell.max_spikes:,}", "spike shortcuts in place of currents"
        yield Demand("graded_events", where, got, hint)
        yield Demand("signed_events", where, got, hint)


def _of_pools(graph: Graph, node: IntegerNeuron) -> Iterator[Demand]:
    for pool in graph.layers[node.name].pools:
        hint = "max pooling of single spikes, behind a neuron of one spike a timestep"
        yield Demand("pools_counts", describe(pool), "a maximum of counts", hint)


def _of_counts(node: IntegerNeuron, reach: Mapping[str, int]) -> Iterator[Demand]:
    """A chip that holds no neuron back gets a spike graph without clips, which a host keeps to as well."""
    cell = node.cell
    if not cell.is_readout and cell.max_spikes < reach[node.name]:
        got = f"at most {cell.max_spikes:,} of {reach[node.name]:,} possible"
        yield Demand("clips_counts", describe(node), got, "neurons without a largest count")


def _of_sites(graph: Graph, node: IntegerNeuron) -> Iterator[Demand]:
    hint = "a network without mask, whose gates close nothing and go, or --target sim"
    for gate in graph.layers[node.name].path:
        if isinstance(gate, SiteGate):
            closed = int((~gate.bitmap).sum())
            got = f"a {gate.kind} that closes {closed:,} of {gate.bitmap.size:,} sites"
            yield Demand("gates_sites", describe(gate), got, hint)
