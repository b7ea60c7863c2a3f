"""lower-products: every product gets two operands that spikes can carry, one of which can be held."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import (
    Add,
    Cell,
    Current,
    Family,
    Graph,
    HostRegion,
    Input,
    IntegerNeuron,
    Mul,
    Node,
    Reshape,
    Slice,
    Spikes,
)
from snncc.ir.layers import Bilinear
from snncc.ir.node import INTEGER_ONLY, Trait
from snncc.ir.products import held_operand
from snncc.ir.synapses import Weighted
from snncc.passes.associate import associated
from snncc.passes.base import Semantics
from snncc.passes.identity import identity
from snncc.passes.relays import relay


@dataclass(frozen=True)
class LowerProducts:
    """Makes every operand of a product spikes, of which one can be held (docs/semantics.md#products).

    Two products in a row stand in the cheaper order. A sum that a product or weights read, as the second
    product of attention reads the first, becomes a relay: one event a value, which carries the whole
    number. Where both operands are trains of several spikes,
    one of them, the smaller, is latched: a relay adds its window up. Single spikes need no latch. A
    product of spikes that weights read becomes neurons of threshold 1.

    Attributes:
        graded: whether the schedule's events carry counts, so that nothing needs a latch.
    """

    name: ClassVar[str] = "lower-products"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()
    graded: bool = False

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = _counted(associated(graph))
        for reader in [n for n in graph.nodes if isinstance(n, Bilinear | Weighted)]:
            for position in range(len(reader.inputs)):
                graph = _relayed(graph, reader.name, position)
            if isinstance(reader, Bilinear):
                graph = self._latched(graph, reader.name)
        return graph

    def _latched(self, graph: Graph, name: str) -> Graph:
        """The graph with a latch for one operand of a product, where neither is complete at once."""
        product = graph.by_name[name]
        assert isinstance(product, Bilinear)
        for position in (0, 1):
            if not _addressable(graph, product.inputs[position]):
                graph = _with_latch(graph, name, position)
        product = graph.by_name[name]
        assert isinstance(product, Bilinear)
        if held_operand(graph, product, self.graded) is not None:
            return graph
        smaller = min((1, 0), key=lambda i: graph.elements(product.inputs[i]))
        return _with_latch(graph, name, smaller)


# ---- products as spikes -----------------------------------------------------------------------------


def _counted(graph: Graph) -> Graph:
    """Every product of spikes that is read as spikes, not as a sum, through neurons that count it."""
    sums = {n.name for layer in graph.layers.values() for n in layer.path}
    neurons = {layer.neuron.name for layer in graph.layers.values()}
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        names = {} if node.name in neurons or _passes(node, sums) else renamed
        nodes.append(replace(node, inputs=tuple(names.get(i, i) for i in node.inputs)))
        if isinstance(node, Mul) and isinstance(graph.types[node.name], Spikes):
            readers = [r for r in graph.readers[node.name] if r.name not in neurons and not _passes(r, sums)]
            if readers:
                counter = _counter(graph, node)
                nodes.append(counter)
                renamed[node.name] = counter.name
    return replace(graph, nodes=tuple(nodes))


def _passes(node: Node, sums: set[str]) -> bool:
    """Whether a node passes sums on to a neuron, in place of reading spikes."""
    return node.name in sums and not isinstance(node, Bilinear | Weighted)


def _counter(graph: Graph, node: Mul) -> IntegerNeuron:
    kind = graph.types[node.name]
    assert isinstance(kind, Spikes)
    # Counts travel as one event: a train as long as the product of two would stretch every window.
    cell = Cell(max_spikes=kind.levels, signed=kind.levels > 1)
    return IntegerNeuron(name=f"{node.name}.count", inputs=(node.name,), source=node.source, cell=cell)


# ---- relays and latches -----------------------------------------------------------------------------


def _as_map(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which neurons can hold a value: a map [C, H, W] or a vector."""
    if len(shape) in (1, 3):
        return shape
    return (*shape, 1) if len(shape) == 2 else (math.prod(shape[:-2]), *shape[-2:])


def _relayed(graph: Graph, name: str, position: int) -> Graph:
    """The graph in which a product reads a sum through a relay; another operand stays as it is."""
    operand = graph.by_name[name].inputs[position]
    kind = graph.types[operand]
    if not isinstance(kind, Current):
        return graph
    relayed = f"{operand}.whole"
    if relayed in graph.by_name:
        return _reading(graph, name, position, relayed)
    source, shape = graph.by_name[operand].source, _as_map(kind.shape)
    if shape == kind.shape:
        return _inserted(graph, name, position, (relay(relayed, operand, source),))
    steps = (
        Reshape(name=f"{operand}.as_map", inputs=(operand,), source=source, shape=shape),
        relay(f"{operand}.relayed", f"{operand}.as_map", source),
        Reshape(name=relayed, inputs=(f"{operand}.relayed",), source=source, shape=kind.shape),
    )
    return _inserted(graph, name, position, steps)


def _addressable(graph: Graph, name: str) -> bool:
    """Whether events of an operand keep one place each: neurons, their sums, and views of those."""
    node = graph.by_name[name]
    if isinstance(node, Add) or _moves(node):
        return all(_addressable(graph, i) for i in node.inputs)
    return isinstance(node, Input | HostRegion | IntegerNeuron)


def _moves(node: Node) -> bool:
    return node.has(Trait.VIEW) or isinstance(node, Slice)


def _with_latch(graph: Graph, name: str, position: int) -> Graph:
    """The graph in which a product reads an operand's whole counts, a window later."""
    operand = graph.by_name[name].inputs[position]
    views: list[Node] = []
    base = graph.by_name[operand]
    while _moves(base):
        views.insert(0, base)
        base = graph.by_name[base.inputs[0]]
    latched = f"{base.name}.latch"
    steps = [] if latched in graph.by_name else list(_latch(graph, base, latched))
    last = latched
    for view in views:
        mine = f"{view.name}.latched"
        if mine not in graph.by_name:
            steps.append(replace(view, name=mine, inputs=(last,)))
        last = mine
    return _inserted(graph, name, position, tuple(steps), last)


def _latch(graph: Graph, base: Node, name: str) -> tuple[Node, ...]:
    """A relay that adds a window's spikes up, through weights of one."""
    ones = identity(f"{name}.ones", base.name, graph.types[base.name].shape, base.source)
    return ones, relay(name, ones.name, base.source)


def _inserted(
    graph: Graph, name: str, position: int, steps: tuple[Node, ...], operand: str | None = None
) -> Graph:
    """The graph with ``steps`` in front of a node, which then reads the last of them (or ``operand``)."""
    at = next(i for i, n in enumerate(graph.nodes) if n.name == name)
    last = operand if operand is not None else steps[-1].name
    changed = _reads(graph.nodes[at], position, last)
    return replace(graph, nodes=(*graph.nodes[:at], *steps, changed, *graph.nodes[at + 1 :]))


def _reading(graph: Graph, name: str, position: int, operand: str) -> Graph:
    return graph.rewrite(lambda n: _reads(n, position, operand) if n.name == name else None)


def _reads(node: Node, position: int, operand: str) -> Node:
    return replace(node, inputs=tuple(operand if i == position else v for i, v in enumerate(node.inputs)))
