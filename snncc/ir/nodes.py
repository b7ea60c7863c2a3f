"""The closed set of node kinds and the type each computes from its inputs.

A node is a frozen value; shapes leave out batch and time. What a node *computes* stands in
:mod:`snncc.ir.evaluation` and :mod:`snncc.ir.interp`; nothing is added here without semantics
there. The kinds stand in files by theme; this one holds what a graph begins and ends with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snncc.ir.elementwise import Add, AddConst, And, BatchNorm, Function, LayerNorm, Mul, Op, Scale
from snncc.ir.neurons import Delay, Encode, Neuron, WindowNeuron
from snncc.ir.node import (
    Decode,
    Node,
    OverTime,
    Pair,
    Release,
    Reset,
    Rounding,
    SynapseOrder,
    ill_formed,
    only,
    want,
)
from snncc.ir.pools import AvgPool2d, MaxPool2d, Mean, Sum, SumPool2d, Upsample
from snncc.ir.synapses import Conv2d, ConvTranspose2d, Linear, MatMul, window_count
from snncc.ir.types import Current, Family, Spikes, ValueType
from snncc.ir.views import Concat, Pad, Permute, Reshape, Slice

if TYPE_CHECKING:
    from snncc.ir.graph import Graph

__all__ = [
    "KINDS", "Add", "AddConst", "And", "AvgPool2d", "BatchNorm", "Concat", "Conv2d", "ConvTranspose2d",
    "Decode", "Delay", "Encode", "Function", "HostRegion", "Input", "LayerNorm", "Linear", "MatMul",
    "MaxPool2d", "Mean", "Mul", "Neuron", "Node", "Op", "Output", "OverTime", "Pad", "Pair", "Permute",
    "Release", "Reset", "Reshape", "Rounding", "Scale", "Slice", "Sum", "SumPool2d", "SynapseOrder",
    "Upsample", "WindowNeuron", "ill_formed", "window_count",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """The network's input: spike counts 0..levels, or real values if ``levels`` is 0."""

    kind = "input"
    shape: tuple[int, ...]
    levels: int = 0

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        want(not args, self, "takes no input")
        want(self.levels >= 0, self, "levels must not be negative", self.levels)
        want(all(n > 0 for n in self.shape), self, "sizes must be positive", self.shape)
        return Spikes(self.shape, self.levels) if self.levels else Current(self.shape)


@dataclass(frozen=True, kw_only=True)
class HostRegion(Node):
    """A float graph that the host computes: what stands before the first spike.

    ``body`` has one input and one output and keeps its own float semantics in every family.
    """

    kind = "host"
    body: Graph

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(self.body.family is Family.FLOAT, self, "body must be a float graph", self.body.family)
        declared = self.body.types[self.body.input.name]
        want(declared == x, self, "input does not fit the body", x, declared)
        return self.body.types[self.body.output.name]


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    """The network's result.

    Attributes:
        decode: what is read.
        over_time: how T timesteps become one result.
        scale: real value of one unit of the result (what folding took out of the graph).
    """

    kind = "output"
    decode: Decode = Decode.VALUE
    over_time: OverTime = OverTime.NONE
    scale: float = 1.0

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        return only(self, args)


KINDS: dict[str, type[Node]] = {
    cls.kind: cls
    for cls in (
        Input, Linear, Conv2d, ConvTranspose2d, MatMul, BatchNorm, Scale, Add, AddConst, Mul, And, Function,
        LayerNorm, AvgPool2d, SumPool2d, MaxPool2d, Mean, Sum, Upsample, Reshape, Permute, Pad, Concat,
        Slice, Neuron, Encode, WindowNeuron, Delay, HostRegion, Output,
    )
}  # fmt: skip
