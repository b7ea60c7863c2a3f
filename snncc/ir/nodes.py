"""The closed set of node kinds and the type each computes from its inputs.

A node is a frozen value; shapes leave out batch and time. What a node *computes* stands in
:mod:`snncc.ir.interp`; nothing is added here without semantics there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snncc.ir.const import Const, Number
from snncc.ir.neurons import Delay, Encode, Neuron, WindowNeuron
from snncc.ir.node import (
    FLOAT_ONLY,
    Decode,
    Node,
    OverTime,
    Release,
    Reset,
    Rounding,
    SynapseOrder,
    ill_formed,
    only,
    want,
)
from snncc.ir.types import Current, Family, Spikes, ValueType

if TYPE_CHECKING:
    from snncc.ir.graph import Graph

__all__ = [
    "KINDS",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Decode",
    "Delay",
    "Encode",
    "HostRegion",
    "Input",
    "Linear",
    "Mean",
    "Neuron",
    "Node",
    "Output",
    "OverTime",
    "Pair",
    "Permute",
    "Release",
    "Reset",
    "Reshape",
    "Rounding",
    "Scale",
    "SumPool2d",
    "SynapseOrder",
    "WindowNeuron",
    "ill_formed",
    "window_count",
]  # fmt: skip

Pair = tuple[int, int]


def _current_of(weight: Const, shape: tuple[int, ...]) -> Current:
    return Current(shape, "i32" if weight.is_integer else "f32")


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Number of kernel positions along one axis (the usual convolution formula)."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


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
class Linear(Node):
    """``y = W x + b`` over the last axis. ``weight`` is [O, I], ``bias`` [O]."""

    kind = "linear"
    weight: Const
    bias: Const | None = None

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(len(self.weight.shape) == 2, self, "weight must be [out, in]", self.weight.shape)
        out, inner = self.weight.shape
        want(
            bool(x.shape) and x.shape[-1] == inner,
            self,
            "input features do not fit the weight",
            x.shape,
            inner,
        )
        want(self.bias is None or self.bias.shape == (out,), self, "bias must be [out]")
        return _current_of(self.weight, (*x.shape[:-1], out))


@dataclass(frozen=True, kw_only=True)
class Conv2d(Node):
    """2-D cross-correlation as in torch. ``weight`` is [O, I/groups, kh, kw], ``bias`` [O]."""

    kind = "conv2d"
    weight: Const
    bias: Const | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        want(len(self.weight.shape) == 4, self, "weight must be [O, I/groups, kh, kw]", self.weight.shape)
        out, inner, kh, kw = self.weight.shape
        want(
            self.groups >= 1 and out % self.groups == 0,
            self,
            "groups must divide the output channels",
            self.groups,
        )
        want(
            x.shape[0] == inner * self.groups,
            self,
            "input channels do not fit the weight",
            x.shape[0],
            inner * self.groups,
        )
        want(
            min(self.stride) >= 1 and min(self.dilation) >= 1 and min(self.padding) >= 0,
            self,
            "stride and dilation must be positive, padding not negative",
        )
        want(self.bias is None or self.bias.shape == (out,), self, "bias must be [out]")
        size = tuple(
            window_count(n, k, s, p, d)
            for n, k, s, p, d in zip(
                x.shape[1:], (kh, kw), self.stride, self.padding, self.dilation, strict=True
            )
        )
        want(min(size) >= 1, self, "kernel is larger than the padded input", (kh, kw), x.shape[1:])
        return _current_of(self.weight, (out, *size))


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """Inference-mode batch normalisation over axis 0 (channels); all constants are [C]."""

    kind = "batchnorm"
    families = FLOAT_ONLY
    gamma: Const
    beta: Const
    mean: Const
    var: Const
    eps: float

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        for part in (self.gamma, self.beta, self.mean, self.var):
            want(
                bool(x.shape) and part.shape == (x.shape[0],),
                self,
                "parameters must be [C]",
                part.shape,
                x.shape[:1],
            )
        return Current(x.shape)


@dataclass(frozen=True, kw_only=True)
class Scale(Node):
    """Multiplication by a constant, one or per channel (axis 0)."""

    kind = "scale"
    families = FLOAT_ONLY
    factor: Number

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        if isinstance(self.factor, Const):
            want(self.factor.shape == x.shape[:1], self, "factor must be [C]", self.factor.shape, x.shape[:1])
        elif isinstance(x, Spikes) and self.factor > 0:
            return Spikes(x.shape, x.levels, x.signed, x.unit * float(self.factor))
        return Current(x.shape)


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """Element-wise sum. Spikes of one unit stay spikes and their levels add; else a current."""

    kind = "add"

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        want(len(args) >= 2, self, "takes two or more inputs", len(args))
        want(len({a.shape for a in args}) == 1, self, "inputs differ in shape", [a.shape for a in args])
        spikes = [a for a in args if isinstance(a, Spikes)]
        if len(spikes) == len(args) and len({a.unit for a in spikes}) == 1:
            return Spikes(
                args[0].shape, sum(a.levels for a in spikes), any(a.signed for a in spikes), spikes[0].unit
            )
        integer = any(isinstance(a, Current) and a.dtype == "i32" for a in args)
        return Current(args[0].shape, "i32" if integer else "f32")


def _pooled(node: AvgPool2d | SumPool2d, x: ValueType) -> tuple[int, ...]:
    want(len(x.shape) == 3, node, "input must be [C, H, W]", x.shape)
    want(
        all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True)),
        node,
        "padding must not exceed half the kernel",
        node.padding,
    )
    size = tuple(
        window_count(n, k, s, p)
        for n, k, s, p in zip(x.shape[1:], node.kernel, node.stride, node.padding, strict=True)
    )
    want(min(size) >= 1, node, "window is larger than the input", node.kernel, x.shape[1:])
    return (x.shape[0], *size)


@dataclass(frozen=True, kw_only=True)
class AvgPool2d(Node):
    """Mean over windows; padding counts as zeros (torch's ``count_include_pad=True``)."""

    kind = "avg_pool2d"
    families = FLOAT_ONLY
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        shape, taps = _pooled(self, x), math.prod(self.kernel)
        if isinstance(x, Spikes):
            return Spikes(shape, x.levels * taps, x.signed, x.unit / taps)
        return Current(shape, x.dtype)


@dataclass(frozen=True, kw_only=True)
class SumPool2d(Node):
    """Sum over windows: for spikes, events whose address is divided by the stride."""

    kind = "sum_pool2d"
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        shape = _pooled(self, x)
        if isinstance(x, Spikes):
            return Spikes(shape, x.levels * math.prod(self.kernel), x.signed, x.unit)
        return Current(shape, x.dtype)


@dataclass(frozen=True, kw_only=True)
class Mean(Node):
    """Mean over both spatial axes of [C, H, W]; ``keepdim`` leaves [C, 1, 1], else [C]."""

    kind = "mean"
    families = FLOAT_ONLY
    keepdim: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        shape = (x.shape[0], 1, 1) if self.keepdim else (x.shape[0],)
        taps = math.prod(x.shape[1:])
        if isinstance(x, Spikes):
            return Spikes(shape, x.levels * taps, x.signed, x.unit / taps)
        return Current(shape)


def _reshaped(x: ValueType, shape: tuple[int, ...]) -> ValueType:
    if isinstance(x, Spikes):
        return Spikes(shape, x.levels, x.signed, x.unit)
    return Current(shape, x.dtype)


@dataclass(frozen=True, kw_only=True)
class Reshape(Node):
    """Row-major reshape of the features (flatten is a reshape to one axis)."""

    kind = "reshape"
    shape: tuple[int, ...]

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(
            math.prod(self.shape) == math.prod(x.shape),
            self,
            "number of elements changes",
            self.shape,
            x.shape,
        )
        return _reshaped(x, self.shape)


@dataclass(frozen=True, kw_only=True)
class Permute(Node):
    """Reordering of the feature axes."""

    kind = "permute"
    axes: tuple[int, ...]

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(sorted(self.axes) == list(range(len(x.shape))), self, "axes are no permutation", self.axes)
        return _reshaped(x, tuple(x.shape[a] for a in self.axes))


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
        Input, Linear, Conv2d, BatchNorm, Scale, Add, AvgPool2d, SumPool2d, Mean, Reshape, Permute,
        Neuron, Encode, WindowNeuron, Delay, HostRegion, Output,
    )
}  # fmt: skip
