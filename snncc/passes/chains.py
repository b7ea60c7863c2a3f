"""chains: layers of weights with no neuron between become one, or send what they sum as relays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem, raise_all
from snncc.ir import Const, Current, Family, Graph, Neuron, Node, Pad, Rounding, Scale, SiteGate, Spikes
from snncc.ir.const import values_of
from snncc.ir.interp import run
from snncc.ir.node import FLOAT_ONLY, Pair
from snncc.ir.synapses import Weighted
from snncc.ir.types import ValueType
from snncc.passes.base import Semantics, describe
from snncc.passes.compose import Kernel, Refused, as_node, compose, kernel_of, outline, padded

# Samples on which events are counted for the choice.
_PROBED = 2


@dataclass(frozen=True)
class Link:
    """A layer of weights of a chain, with the paddings and factors around it taken in.

    Attributes:
        node: whose name the result keeps.
        kernel: what it computes.
        size: rows and columns that it reads.
    """

    node: Weighted
    kernel: Kernel
    size: Pair

    @property
    def values(self) -> int:
        """Elements of its result."""
        return len(self.kernel.weight) * math.prod(self.kernel.result(self.size))


@dataclass(frozen=True)
class Chain:
    """Layers of weights in a row that nothing else reads, and where they are cut.

    Attributes:
        source: the value that the first reads.
        nodes: from the first layer to the last, with what stands between.
        links: the layers.
        cuts: links behind which a relay stands.
        merged: synaptic operations a sample as one layer; None where they are not one.
        relayed: the same with a relay behind every link; ``chosen`` as it is cut.
        neurons: relays of the choice.
        reason: why the whole is not one layer; empty where it is.
    """

    source: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    cuts: tuple[int, ...] = ()
    merged: int | None = None
    relayed: int = 0
    chosen: int = 0
    neurons: int = 0
    reason: str = ""

    @property
    def segments(self) -> Iterator[tuple[Link, ...]]:
        """Links that become one layer each."""
        for start, stop in pairwise((0, *(c + 1 for c in self.cuts), len(self.links))):
            yield self.links[start:stop]


@dataclass(frozen=True)
class Chains:
    """What merging and relaying cost in a network's chains; see :meth:`MergeChains.weigh`."""

    chains: tuple[Chain, ...]

    def __str__(self) -> str:
        merged = sum(c.merged or 0 for c in self.chains)
        never = sum(c.merged is None for c in self.chains)
        relayed, chosen, neurons = (
            sum(getattr(c, name) for c in self.chains) for name in ("relayed", "chosen", "neurons")
        )
        apart = f" ({never} of them are no single layer)" if never else ""
        kept = sum(bool(c.cuts) for c in self.chains)
        one = len(self.chains) - kept
        return (
            f"{len(self.chains)} chains without a neuron: merged {merged:,} synaptic operations "
            f"a sample{apart}, relays behind every layer {relayed:,}; chosen: {one} merged, "
            f"{kept} with relays ({chosen:,} synaptic operations and {neurons:,} relays)"
        )


@dataclass(frozen=True)
class MergeChains:
    """Composes weights that read the sums of others (RepConv, pairs of 1×1), where that is exact and pays.

    Merging multiplies kernels: a depthwise convolution between two of 1×1 becomes a full one. Where a
    chip sends graded events with a sign, a chain may instead be cut, and a relay carries the sum on
    (:class:`RelayChains`). Synaptic operations and relays decide, estimated from the events of a
    few calibration inputs. Nothing is merged across a mask.

    Attributes:
        calibration: inputs [N, T, *shape].
        relays: whether sums may travel as signed graded events.
        bits: of a quantized weight.
        sum_bits: width of what adds up one timestep's inputs, in units of a weight.
        told: what was chosen, for people; filled by :meth:`run`.
    """

    name: ClassVar[str] = "merge-chains"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({Pad})

    calibration: Array = field(compare=False)
    relays: bool = False
    bits: int = 8
    sum_bits: int = 32
    told: list[str] = field(default_factory=list, compare=False, repr=False)

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        weighed = self.weigh(graph)
        chains = weighed.chains
        self.told[:] = [str(weighed)] if chains else []
        if not self.relays:
            raise_all((*_never_one(chains), *_masked(graph)))
        made = {c.nodes[-1].name: tuple(_merged(c)) for c in chains}
        gone = {n.name for c in chains for n in c.nodes[:-1]}
        nodes = (m for n in graph.nodes if n.name not in gone for m in made.get(n.name, (n,)))
        return replace(graph, nodes=tuple(nodes)) if chains else graph

    def weigh(self, graph: Graph) -> Chains:
        """The chains of a folded float graph, each cut where that takes the fewest operations."""
        found = tuple(chains_of(graph))
        if not found:
            return Chains(())
        names = {c.source for c in found} | {link.node.name for c in found for link in c.links}
        values = run(graph, self.calibration[:_PROBED], tuple(sorted(names))).values
        return Chains(tuple(self._cut(graph, chain, values) for chain in found))

    def _cut(self, graph: Graph, chain: Chain, values: Mapping[str, Array]) -> Chain:
        kind = graph.types[chain.source]
        events, unit = 1.0, 1.0
        if isinstance(kind, Spikes):
            events, unit = float(np.abs(values[chain.source]).mean() / kind.unit), kind.unit
        fits = tuple(_fits(chain, values, unit, self.bits, self.sum_bits)) if self.relays else ()
        return _cut(chain, graph.steps, events, fits)


# ---- chains of a graph ----------------------------------------------------------------------------


def chains_of(graph: Graph) -> Iterator[Chain]:
    """Layers of weights in a row, with paddings and factors between, outside the analog stem."""
    analog = computed_by_host(graph)
    before = {n.name: _before(graph, n) for n in graph.nodes if isinstance(n, Weighted)}
    inner = {nodes[0].name for nodes in before.values() if nodes}
    for node in graph.nodes:
        if node.name in inner or not before.get(node.name) or node.name in analog:
            continue
        nodes: tuple[Node, ...] = (node,)
        while earlier := before[nodes[0].name]:
            nodes = (*earlier, *nodes)
        links = tuple(_links(graph, nodes))
        if len(links) > 1:
            yield Chain(nodes[0].inputs[0], nodes, links)


def computed_by_host(graph: Graph) -> set[str]:
    """Real values that depend on the input alone: the stem in front of the first neurons."""
    found = set[str]()
    for node in graph.nodes:
        real = isinstance(graph.types[node.name], Current) and not isinstance(node, Neuron)
        if real and set(node.inputs) <= found:
            found.add(node.name)
    return found


def _before(graph: Graph, node: Weighted) -> tuple[Node, ...]:
    """The layer whose sums a layer reads, and what stands between; nothing if others read them, too."""
    nodes: list[Node] = []
    name = node.inputs[0]
    while len(graph.readers[name]) == 1:
        found = graph.by_name[name]
        nodes.insert(0, found)
        if isinstance(found, Weighted):
            return tuple(nodes)
        if not isinstance(found, Pad | Scale) or isinstance(getattr(found, "factor", None), Const):
            break
        name = found.inputs[0]
    return ()


def _links(graph: Graph, nodes: tuple[Node, ...]) -> Iterator[Link]:
    """The layers of a chain; none if a padding between has no place in one."""
    found: list[Link] = []
    zeros: Pair = (0, 0)
    for node in nodes:
        shape = graph.types[node.inputs[0]].shape
        size = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
        if isinstance(node, Weighted):
            kernel = kernel_of(node, shape)
            more = (kernel.padding[0] + zeros[0], kernel.padding[1] + zeros[1])
            inside = (size[0] - 2 * zeros[0], size[1] - 2 * zeros[1])
            found.append(Link(node, replace(kernel, padding=more), inside))
            zeros = (0, 0)
            continue
        last = found[-1]
        if isinstance(node, Scale):
            kernel_or_not: Kernel | Refused = compose(last.kernel, kernel_of(node, shape), last.size)
        elif _pads_zeros(node):
            assert isinstance(node, Pad)
            zeros = (zeros[0] + node.before[1], zeros[1] + node.before[2])
            continue
        else:
            assert isinstance(node, Pad)
            kernel_or_not = padded(last.kernel, node, last.size)
        if isinstance(kernel_or_not, Refused):
            return
        found[-1] = replace(last, kernel=kernel_or_not)
    yield from found


def _pads_zeros(node: Node) -> bool:
    """Whether a padding is a convolution's own: zeros, as many on both sides."""
    same = (
        isinstance(node, Pad) and len(node.before) == 3 and node.before == node.after and not node.before[0]
    )
    return same and isinstance(node, Pad) and not values_of(node.value).any()


# ---- where to cut ---------------------------------------------------------------------------------


def _fits(chain: Chain, values: Mapping[str, Array], unit: float, bits: int, sum_bits: int) -> Iterator[int]:
    """Links whose sums a relay can carry: what the next layer adds up of its events fits the word.

    With the largest sum of the probed inputs in every place, and twice as wide, for prefixes.
    """
    top = 2 ** (bits - 1) - 1
    for i, (link, following) in enumerate(pairwise(chain.links)):
        unit = float(np.abs(link.kernel.weight).max(initial=0)) * unit / top or 1.0
        sent = float(np.abs(values[link.node.name]).max(initial=0)) / unit
        size = np.abs(following.kernel.weight)
        sums = size.sum(axis=(1, 2, 3), dtype=np.float64).max(initial=0) / (float(size.max(initial=0)) or 1.0)
        if 2 * sent * top * float(sums) < 2 ** (sum_bits - 1):
            yield i


def _cut(chain: Chain, steps: int, events: float, fits: tuple[int, ...]) -> Chain:
    """The chain with the cuts of least cost, behind links among ``fits``, and what the two extremes cost.

    One layer costs what it reads in events an element times its multiply-accumulates; a relay sends
    one event a value, and is updated once a timestep.
    """
    count = len(chain.links)
    spans = {(i, j): _one(chain.links[i:j]) for i in range(count) for j in range(i + 1, count + 1)}
    cost = {span: _operations(chain.links[span[0]], one, events if span[0] == 0 else 1.0, steps)
            for span, one in spans.items() if isinstance(one, Kernel)}  # fmt: skip
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for j in range(1, count + 1):
        ways = [
            (best[i][0] + cost[i, j] + (chain.links[i - 1].values * steps if i else 0), (*best[i][1], i))
            for i in range(j)
            if i in best and (i, j) in cost and (i == 0 or i - 1 in fits)
        ]
        if ways:
            best[j] = min(ways)
    starts = best[count][1] if count in best else tuple(range(count))
    cuts = tuple(i - 1 for i in starts if i)
    segments = pairwise((*starts, count))
    whole = spans[0, count]
    return replace(
        chain,
        cuts=cuts,
        merged=cost.get((0, count)),
        relayed=sum(cost[i, i + 1] for i in range(count)),
        chosen=sum(cost[span] for span in segments),
        neurons=sum(chain.links[c].values for c in cuts),
        reason=whole.reason if isinstance(whole, Refused) else "",
    )


def _one(links: tuple[Link, ...]) -> Kernel | Refused:
    """The outline of links as one layer."""
    whole: Kernel | Refused = links[0].kernel
    for link in links[1:]:
        if isinstance(whole, Refused):
            return whole
        whole = outline(whole, link.kernel, links[0].size)
    return whole


def _operations(first: Link, kernel: Kernel, events: float, steps: int) -> int:
    return round(kernel.macs(first.size) * events * steps)


def _never_one(chains: tuple[Chain, ...]) -> Iterator[Problem]:
    """Chains that are no single layer, where no relay can carry their sums."""
    for chain in chains:
        if chain.merged is None:
            first, last = chain.links[0].node, chain.links[-1].node
            yield problem(
                "SNNC-M018",
                describe(last),
                f"reads the sums of %{first.name} with no neuron between, and the two are not one layer",
                got=chain.reason,
                hint="a neuron between them, or a chip with signed graded events, which carry sums",
            )


def _masked(graph: Graph) -> Iterator[Problem]:
    """Layers that read another's masked sums, where no relay can carry them."""
    for node in graph.nodes:
        source = graph.by_name[node.inputs[0]] if isinstance(node, Weighted) else None
        if isinstance(source, SiteGate) and isinstance(graph.types[source.name], Current):
            yield problem(
                "SNNC-M018",
                describe(node),
                "reads masked sums with no neuron between: the two layers are one only without the mask",
                got=f"%{source.name}",
                hint="a neuron between them, or a chip with signed graded events, which carry sums",
            )


def _merged(chain: Chain) -> Iterator[Weighted]:
    """The layers of a chain as it is cut, each with the name of the last that it is made of."""
    reads = chain.source
    for segment in chain.segments:
        whole: Kernel | Refused = segment[0].kernel
        for link in segment[1:]:
            assert isinstance(whole, Kernel)
            whole = compose(whole, link.kernel, segment[0].size)
        assert isinstance(whole, Kernel), "its outline was not refused"
        node = as_node(whole, segment[-1].node, (reads,))
        yield node
        reads = node.name


# ---- relays ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RelayChains:
    """Puts a relay in front of weights that read the sums of others: a signed quantizer without memory.

    Its unit is one step of the quantized weights behind it, so that the integer neuron's threshold is
    1 and it carries the integer sum as it is. It never clips: it counts as far as its weights reach.

    Attributes:
        bits: of a quantized weight.
        event_bits: of the number that an event carries; where sums reach further, the unit grows.
    """

    name: ClassVar[str] = "relay-chains"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("merge-chains",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    bits: int = 8
    event_bits: int = 24

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        analog = computed_by_host(graph)
        relays: dict[str, Neuron] = {}
        for node in graph.nodes:
            weights = _summed_by(graph, node) if node.name not in analog else None
            if weights is not None:
                before = relays.get(weights.inputs[0])
                kind = (
                    graph.types[weights.inputs[0]]
                    if before is None
                    else before.infer((graph.types[weights.inputs[0]],))
                )
                relays[node.inputs[0]] = self._relay(node.inputs[0], weights, kind)
        nodes: list[Node] = []
        for node in graph.nodes:
            reads = tuple(relays[i].name if i in relays else i for i in node.inputs)
            nodes.append(replace(node, inputs=reads) if isinstance(node, Weighted) else node)
            nodes += [relays[node.name]] if node.name in relays else []
        return replace(graph, nodes=tuple(nodes)) if relays else graph

    def _relay(self, name: str, weights: Weighted, kind: ValueType) -> Neuron:
        """The relay of a value ``name`` that ``weights``, which read a ``kind``, sum up."""
        array = np.abs(weights.weight.array.astype(np.float64))
        unit, levels = (kind.unit, kind.levels) if isinstance(kind, Spikes) else (1.0, None)
        # A hair more than a step, so that rounding the weights to float32 leaves the threshold at 1.
        theta = float(array.max(initial=0)) * unit / (2 ** (self.bits - 1) - 1) * (1 + 1e-6) or 1.0
        most = 2 ** (self.event_bits - 1) - 1
        if levels is not None:
            bias = 0.0 if weights.bias is None else np.abs(weights.bias.array)
            sums = array.reshape(len(array), -1).sum(axis=1)
            high = float((sums * unit * levels + bias).max(initial=0))
            theta *= max(1, math.ceil(high / theta / most))
            most = min(most, math.ceil(high / theta) + 1)
        return Neuron(
            name=f"{name}.passed",
            inputs=(name,),
            source=weights.source,
            threshold=theta,
            max_spikes=most,
            signed=True,
            rounding=Rounding.HALF_EVEN,
            output_scale=theta,
        )


def _summed_by(graph: Graph, node: Node) -> Weighted | None:
    """The weights whose sums another layer reads, through a mask or not."""
    if not isinstance(node, Weighted):
        return None
    source = graph.by_name[node.inputs[0]]
    while isinstance(source, SiteGate):
        source = graph.by_name[source.inputs[0]]
    return source if isinstance(source, Weighted) else None
