"""fold-conv-bn: batch normalisation into the weights before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.ir import (
    BatchNorm,
    CentreGate,
    Const,
    Conv2d,
    Family,
    Graph,
    Linear,
    Node,
    Reshape,
    Scale,
    SiteGate,
)
from snncc.ir.const import values_of
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.synapses import Weighted
from snncc.passes.base import Semantics
from snncc.passes.ungate import open_gates


@dataclass(frozen=True)
class FoldConvBN:
    """Rewrites ``y = γ (x - μ) / √(σ² + ε) + β`` as weights.

    Behind a convolution or linear layer that nothing else reads it is folded in; elsewhere it
    becomes a depthwise 1×1 convolution. Per-channel and negative scales are folded the same way.
    Computed in float64 and rounded once. A gate in front of it goes where one behind it keeps no more
    sites, so that a masked convolution and its masked norm are one convolution under one gate; a gate
    that closes nothing goes, too.
    """

    name: ClassVar[str] = "fold-conv-bn"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({BatchNorm, Scale})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = graph.without(open_gates(graph))
        graph = graph.without({gate: graph.by_name[gate].inputs[0] for gate in _needless_gates(graph)})
        return _folded(graph)


def _is_affine(node: Node) -> bool:
    if isinstance(node, Scale):
        return isinstance(node.factor, Const) or node.factor <= 0
    return isinstance(node, BatchNorm)


def _needless_gates(graph: Graph) -> Iterator[str]:
    """Gates right in front of a norm whose own gate closes at least as much."""
    for node in filter(_is_affine, graph.nodes):
        inner, behind = graph.by_name[node.inputs[0]], graph.readers[node.name]
        outer = behind[0] if len(behind) == 1 else None
        alone = len(graph.readers[inner.name]) == 1
        if isinstance(inner, SiteGate) and isinstance(outer, SiteGate) and alone and _covers(inner, outer):
            yield inner.name


def _covers(inner: SiteGate, outer: SiteGate) -> bool:
    """Whether no site that ``inner`` closes is open behind ``outer``."""
    if isinstance(inner, CentreGate):
        opened = (inner.inputs[1], inner.stride, inner.offset)
        if not isinstance(outer, CentreGate) or opened != (outer.inputs[1], outer.stride, outer.offset):
            return False
    return bool((outer.bitmap <= inner.bitmap).all())


def _affine_of(node: Node, channels: int) -> tuple[Array, Array]:
    """Multiplier and offset [C] in float64."""
    if isinstance(node, Scale):
        factor = values_of(node.factor).astype(np.float64)
        return np.broadcast_to(factor, (channels,)), np.zeros(channels)
    assert isinstance(node, BatchNorm)
    gamma, beta, mean, var = (
        c.array.astype(np.float64) for c in (node.gamma, node.beta, node.mean, node.var)
    )
    scale = gamma / np.sqrt(var + node.eps)
    return scale, beta - mean * scale


def _folded(graph: Graph) -> Graph:
    """The graph without its norms and scales, folded in order of flow."""
    now: dict[str, tuple[Node, ...]] = {n.name: (n,) for n in graph.nodes}  # what stands in each one's place
    gone: dict[str, str] = {}  # and where what is folded has gone
    for node in filter(_is_affine, graph.nodes):
        source = gone.get(node.inputs[0], node.inputs[0])
        before, alone = now[source][-1], len(graph.readers[node.inputs[0]]) == 1
        scale, shift = _affine_of(node, graph.types[node.name].shape[0])
        # A linear layer's last axis is the channel axis only where it is the only one.
        channels_last = isinstance(before, Linear) and len(graph.types[source].shape) > 1
        if isinstance(before, Weighted) and alone and not channels_last:
            now[source], gone[node.name] = (_scaled(before, scale, shift),), source
        else:
            now[node.name] = _as_depthwise(graph, node, scale, shift)
    return replace(graph, nodes=tuple(m for n in graph.nodes for m in now[n.name])).without(gone)


def _scaled(node: Weighted, scale: Array, shift: Array) -> Weighted:
    weight = node.weight.array.astype(np.float64)
    bias = 0.0 if node.bias is None else node.bias.array.astype(np.float64)
    weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return replace(
        node, weight=Const(weight.astype(np.float32)), bias=Const((bias * scale + shift).astype(np.float32))
    )


def _as_depthwise(graph: Graph, node: Node, scale: Array, shift: Array) -> tuple[Node, ...]:
    shape = graph.types[node.name].shape
    weight, bias = Const(scale.astype(np.float32).reshape(-1, 1, 1, 1)), Const(shift.astype(np.float32))
    conv = Conv2d(
        name=node.name, inputs=node.inputs, source=node.source, weight=weight, bias=bias, groups=len(scale)
    )
    if len(shape) == 3:
        return (conv,)
    # Maps of another rank pass through [C, L, 1].
    tall = Reshape(
        name=f"{node.name}.as_map",
        inputs=node.inputs,
        source=node.source,
        shape=(shape[0], int(np.prod(shape[1:])), 1),
    )
    conv = replace(conv, name=f"{node.name}.affine", inputs=(tall.name,))
    return tall, conv, Reshape(name=node.name, inputs=(conv.name,), source=node.source, shape=shape)
