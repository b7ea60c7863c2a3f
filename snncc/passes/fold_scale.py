"""fold-scale: every spike counts one, every membrane has gain one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snncc.errors import Problem, fail, problem, raise_all
from snncc.ir import (
    Add,
    AvgPool2d,
    Concat,
    Const,
    Conv2d,
    Family,
    Graph,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Neuron,
    Node,
    Number,
    Output,
    Permute,
    Reshape,
    Scale,
    SiteGate,
    Slice,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.const import values_of
from snncc.ir.layers import Bilinear
from snncc.ir.neurons import POTENTIALS
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.sites import through
from snncc.passes.base import Semantics, describe

# A positive factor of what they read is one of their result.
_HOMOGENEOUS = (
    Add
    | Concat
    | MatMul
    | MaxPool2d
    | Mul
    | Permute
    | Reshape
    | SiteGate
    | Slice
    | Sum
    | SumPool2d
    | Upsample
)


@dataclass(frozen=True)
class FoldScale:
    """Moves every constant factor into weights and thresholds.

    The 1/D of a normalised SFA neuron, average pooling (which becomes sum pooling), means and
    constant scales travel forward as one real factor a value and end in the next weights, or, in
    front of a neuron, in its potentials: with v = g·v', a drive of gain g and threshold θ is one
    of gain 1 and threshold θ/g. Factors of a product's operands multiply. What reaches
    the output becomes the output's scale.

    Run it after fold-conv-bn, which takes per-channel and negative scales.
    """

    name: ClassVar[str] = "fold-scale"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({AvgPool2d, Mean, Scale})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        raise_all(_other_means(graph))
        factor: dict[str, float] = {}  # old value = factor × new value
        removed: dict[str, str] = {}
        nodes: list[Node] = []
        for node in graph.nodes:
            if isinstance(node, Scale):
                assert not isinstance(node.factor, Const), "fold-conv-bn runs first"
                removed[node.name] = node.inputs[0]
                factor[node.name] = factor[node.inputs[0]] * float(node.factor)
                continue
            if isinstance(node, Add) and len(set(node.inputs)) == 1:
                # A value added to itself is a scale, too: no chip sends an event twice.
                removed[node.name] = node.inputs[0]
                factor[node.name] = factor[node.inputs[0]] * len(node.inputs)
                continue
            incoming = _common_factor(node, factor)
            for new, out in _folded(graph, node, incoming):
                nodes.append(new)
                factor[new.name] = out
        nodes = [replace(n, inputs=tuple(_resolve(i, removed) for i in n.inputs)) for n in nodes]
        return replace(graph, nodes=tuple(nodes))


def _other_means(graph: Graph) -> Iterator[Problem]:
    """Means that are not over the rows and columns of a map: no pooling computes them."""
    for node in graph.nodes:
        if isinstance(node, Mean) and (node.axes, len(graph.types[node.inputs[0]].shape)) != ((1, 2), 3):
            shape = "x".join(map(str, graph.types[node.inputs[0]].shape))
            yield problem(
                "SNNC-M012",
                describe(node),
                "only a mean over rows and columns becomes spikes",
                got=f"axes {node.axes} of {shape}",
                hint="a linear layer in its place",
            )


def _resolve(name: str, removed: dict[str, str]) -> str:
    while name in removed:
        name = removed[name]
    return name


def _common_factor(node: Node, factor: dict[str, float]) -> float:
    if isinstance(node, Bilinear):
        return math.prod(factor.get(name, 1.0) for name in node.inputs)
    factors = {factor.get(name, 1.0) for name in through(node)}
    if len(factors) <= 1:
        return factors.pop() if factors else 1.0
    units = ", ".join(f"%{name}: {factor[name]:g}" for name in node.inputs)
    raise fail(
        "SNNC-M023",
        describe(node),
        "joins values whose units differ",
        got=units,
        hint="the same D, normalisation and pooling on both branches",
    )


def _folded(graph: Graph, node: Node, incoming: float) -> Iterator[tuple[Node, float]]:
    """Replacement nodes for ``node``, each with the factor of its value."""
    match node:
        case AvgPool2d():
            pool = SumPool2d(
                name=node.name,
                inputs=node.inputs,
                source=node.source,
                kernel=node.kernel,
                stride=node.stride,
                padding=node.padding,
            )
            yield pool, incoming / math.prod(node.kernel)
        case Mean():
            c, h, w = graph.types[node.inputs[0]].shape
            inner = node.name if node.keepdim else f"{node.name}.sum"
            pool = SumPool2d(name=inner, inputs=node.inputs, source=node.source, kernel=(h, w), stride=(h, w))
            yield pool, incoming / (h * w)
            if not node.keepdim:
                yield (
                    Reshape(name=node.name, inputs=(inner,), source=node.source, shape=(c,)),
                    incoming / (h * w),
                )
        case Linear() | Conv2d():
            weight = node.weight.array * np.float32(incoming) if incoming != 1 else node.weight
            yield replace(node, weight=weight if isinstance(weight, Const) else Const(weight)), 1.0
        case Neuron():
            yield _unit_neuron(node, incoming)
        case Output():
            yield replace(node, scale=node.scale * incoming), 1.0
        case _ if incoming != 1 and not isinstance(node, _HOMOGENEOUS):
            what = f"{node.kind} stands where values are counts, each worth {incoming:g}"
            hint = "the pass that lowers it in front of fold-scale"
            raise fail("SNNC-M012", describe(node), what, hint=hint)
        case _:
            yield node, incoming


def _unit_neuron(node: Neuron, incoming: float) -> tuple[Neuron, float]:
    gain = _times(node.gain, incoming)
    if node.is_readout and isinstance(gain, Const):
        what = "a readout with a gain per channel has no common unit"
        raise fail("SNNC-M020", describe(node), what, hint="one gain for the layer")
    changes: dict[str, Any] = {"gain": 1, "output_scale": 1.0}
    if isinstance(gain, Const) or gain != 1:
        low = values_of(gain).min()
        if low <= 0:
            raise fail("SNNC-M021", describe(node), "the drive's gain must be positive", got=low)
        for field in POTENTIALS:
            value = getattr(node, field)
            if value is not None:
                changes[field] = _over(value, gain)
    out = float(gain) if node.is_readout and not isinstance(gain, Const) else float(node.output_scale)
    return replace(node, **changes), out


def _times(value: Number, factor: float) -> Number:
    if isinstance(value, Const):
        return Const(value.array * np.float32(factor))
    return value if factor == 1 else value * factor


def _over(value: Number, gain: Number) -> Number:
    if not isinstance(value, Const) and not isinstance(gain, Const):
        return value / gain
    top, bottom = (values_of(n).astype(np.float64) for n in (value, gain))
    return Const((top / bottom).astype(np.float32))
