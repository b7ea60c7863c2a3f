"""The papers' formula for the operations of attention, by the network's products.

Spikingformer (arXiv:2304.11954) counts T·H·N·d²·(min(fr_k, fr_v) + fr_q) accumulates for the two
products of Q Kᵀ V, whatever the order in which they are executed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from snncc.ir.graph import Graph
from snncc.ir.nodes import MatMul, Permute, Reshape, Scale


@dataclass(frozen=True)
class Term:
    """What the formula counts for one product.

    Attributes:
        operations: a timestep, at a rate of 1.
        factors: values whose smallest rate counts.
    """

    operations: int
    factors: tuple[str, ...]


def attention_terms(graph: Graph) -> dict[str, Term]:
    """Terms of every product of a graph, by its name.

    Of A B C in either order one product gets the term of A, the other that of B and C; a product that
    stands alone counts its own operations at the smaller rate of its operands.
    """
    found = {n.name: _alone(graph, n) for n in graph.nodes if isinstance(n, MatMul)}
    for name in tuple(found):
        outer = graph.by_name[name]
        assert isinstance(outer, MatMul)
        for position, read in enumerate(outer.inputs):
            inner = _behind(graph, read)
            if inner is not None:
                found |= _pair(graph, inner, outer, position)
                break
    return found


def _alone(graph: Graph, node: MatMul) -> Term:
    inner = graph.types[node.inputs[0]].shape[-1]
    return Term(graph.elements(node.name) * inner, node.inputs)


def _behind(graph: Graph, name: str) -> MatMul | None:
    """The product that a value is, but for views and scales."""
    node = graph.by_name[name]
    while isinstance(node, Permute | Reshape | Scale):
        node = graph.by_name[node.inputs[0]]
    return node if isinstance(node, MatMul) else None


def _pair(graph: Graph, inner: MatMul, outer: MatMul, position: int) -> dict[str, Term]:
    """Terms of two products in a row, of which the first is the second's operand at ``position``."""
    other = outer.inputs[1 - position]
    a, b, c = (*inner.inputs, other) if position == 0 else (other, *inner.inputs)
    shapes = [graph.types[name].shape for name in (a, b, c)]
    heads, (rows, _), (width, tokens), out = (
        math.prod(shapes[0][:-2]), shapes[0][-2:], shapes[1][-2:], shapes[2][-1]
    )  # fmt: skip
    first, joint = Term(heads * rows * width * out, (a,)), Term(heads * width * tokens * out, (b, c))
    return {inner.name: first, outer.name: joint} if position == 0 else {inner.name: joint, outer.name: first}
