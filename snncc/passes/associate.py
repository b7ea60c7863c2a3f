"""Order of two products in a row: (AB)C or A(BC), by cost; whole numbers know no difference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from snncc.ir import Graph, IntegerNeuron, MatMul, Node, Reshape


@dataclass(frozen=True)
class Order:
    """Dense multiply-accumulates of one timestep of both orders of two products.

    Attributes:
        product: the second product's node.
        chosen, other: operations of the order that stands, and of the other.
    """

    product: str
    chosen: int
    other: int

    def __str__(self) -> str:
        return (
            f"%{self.product}: two products in a row take {self.chosen:,} operations a timestep, "
            f"in the other order {self.other:,}"
        )


@dataclass(frozen=True)
class _Chain:
    """A product of three factors: ``inner`` is an operand of ``outer``, at ``position``."""

    outer: MatMul
    inner: MatMul
    position: int

    @property
    def factors(self) -> tuple[str, str, str]:
        """Names of A, B and C."""
        a, b = self.inner.inputs
        other = self.outer.inputs[1 - self.position]
        return (a, b, other) if self.position == 0 else (other, a, b)

    def costs(self, graph: Graph) -> tuple[int, int]:
        """Operations of (AB)C and of A(BC)."""
        a, b, c = (graph.types[name].shape for name in self.factors)
        rows, inner, columns, out = a[-2], a[-1], b[-1], c[-1]
        batch = math.prod(a[:-2])
        left = batch * (rows * inner * columns + rows * columns * out)
        right = batch * (inner * columns * out + rows * inner * out)
        return left, right

    def order(self, graph: Graph) -> Order:
        """What it costs as it stands, and the other way."""
        left, right = self.costs(graph)
        return Order(self.outer.name, *((left, right) if self.position == 0 else (right, left)))


def associated(graph: Graph) -> Graph:
    """The integer graph with every two products in a row in the cheaper order."""
    for name in [n.name for n in graph.nodes if isinstance(n, MatMul)]:
        for chain in _chains(graph, name):
            order = chain.order(graph)
            if order.other < order.chosen:
                graph = _turned(graph, chain)
                break
    return graph


def product_orders(graph: Graph) -> tuple[Order, ...]:
    """Costs of both orders, of every two products in a row of an integer graph."""
    return tuple(c.order(graph) for n in graph.nodes if isinstance(n, MatMul) for c in _chains(graph, n.name))


def _chains(graph: Graph, name: str) -> Iterator[_Chain]:
    outer = graph.by_name[name]
    assert isinstance(outer, MatMul)
    for position, operand in enumerate(outer.inputs):
        inner = _behind_relay(graph, operand)
        if isinstance(inner, MatMul) and len(graph.readers[inner.name]) == 1:
            yield _Chain(outer, inner, position)


def _behind_relay(graph: Graph, name: str) -> Node:
    """What a relay of a sum, and a change of shape around it, read."""
    node, shape = graph.by_name[name], graph.types[name].shape
    while isinstance(node, Reshape) or (isinstance(node, IntegerNeuron) and node.cell.signed):
        node = graph.by_name[node.inputs[0]]
    return node if graph.types[node.name].shape == shape else graph.by_name[name]


def _turned(graph: Graph, chain: _Chain) -> Graph:
    """The same product in the other order; both nodes keep their names."""
    a, b, c = chain.factors
    name = chain.inner.name
    inner_of, outer_of = ((b, c), (a, name)) if chain.position == 0 else ((a, b), (name, c))
    inner, outer = replace(chain.inner, inputs=inner_of), replace(chain.outer, inputs=outer_of)
    kept = [n for n in graph.nodes if n.name != inner.name]
    at = next(i for i, n in enumerate(kept) if n.name == outer.name)
    return replace(graph, nodes=(*kept[:at], inner, outer, *kept[at + 1 :]))
