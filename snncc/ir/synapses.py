"""Nodes with weights, and the product of two values: what synapses compute."""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

from dataclasses import dataclass

from snncc.ir.const import Const
from snncc.ir.node import Node, Pair, Trait, only, two, want
from snncc.ir.types import Current, Spikes, ValueType


def _current_of(weight: Const, shape: tuple[int, ...]) -> Current:
    return Current(shape, "i32" if weight.is_integer else "f32")


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Number of kernel positions along one axis (the usual convolution formula)."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """``y = W x + b`` over the last axis. ``weight`` is [O, I], ``bias`` [O]."""

    kind = "linear"
    traits = frozenset({Trait.WEIGHTED, Trait.LINEAR})
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
    traits = frozenset({Trait.WEIGHTED, Trait.LINEAR})
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


# The weighted nodes that neurons can be driven through; each ends the way back from a neuron.
Weighted = Linear | Conv2d


@dataclass(frozen=True, kw_only=True)
class ConvTranspose2d(Node):
    """Transposed 2-D convolution as in torch. ``weight`` is [I, O/groups, kh, kw], ``bias`` [O].

    The adjoint of :class:`Conv2d` with the same attributes: an input event at y adds the kernel at
    y·stride - padding. ``output_padding`` adds rows and columns at the far end.
    """

    kind = "conv_transpose2d"
    traits = frozenset({Trait.WEIGHTED, Trait.LINEAR})
    weight: Const
    bias: Const | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        want(len(self.weight.shape) == 4, self, "weight must be [I, O/groups, kh, kw]", self.weight.shape)
        inner, per_group, kh, kw = self.weight.shape
        want(
            self.groups >= 1 and inner % self.groups == 0,
            self,
            "groups must divide the input channels",
            self.groups,
        )
        want(x.shape[0] == inner, self, "input channels do not fit the weight", x.shape[0], inner)
        out = per_group * self.groups
        want(self.bias is None or self.bias.shape == (out,), self, "bias must be [out]")
        want(
            min(self.stride) >= 1 and min(self.dilation) >= 1 and min(self.padding) >= 0,
            self,
            "stride and dilation must be positive, padding not negative",
        )
        limit = tuple(max(s, d) for s, d in zip(self.stride, self.dilation, strict=True))
        want(
            all(0 <= o < m for o, m in zip(self.output_padding, limit, strict=True)),
            self,
            "output_padding must be smaller than stride or dilation",
            self.output_padding,
            limit,
        )
        size = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1 + o
            for n, s, p, d, k, o in zip(
                x.shape[1:],
                self.stride,
                self.padding,
                self.dilation,
                (kh, kw),
                self.output_padding,
                strict=True,
            )
        )
        want(min(size) >= 1, self, "padding removes the whole result", self.padding)
        return _current_of(self.weight, (out, *size))


@dataclass(frozen=True, kw_only=True)
class MatMul(Node):
    """``a @ b`` over the last two axes of two values, batched over equal leading feature axes.

    The product of attention: no weights, so what it sums are pairs of events, or an event and a
    current. Two currents multiply in float graphs alone, where a host computes them.

    Attributes:
        integer: whether whole numbers are multiplied (integer graphs), without any rounding.
    """

    kind = "matmul"
    integer: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        a, b = two(self, args)
        fits = len(a.shape) == len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2]
        want(fits and a.shape[-1] == b.shape[-2], self, "inputs do not fit", a.shape, b.shape)
        dtype = "i32" if self.integer else "f32"
        currents = [x for x in (a, b) if isinstance(x, Current)]
        want(
            all(x.dtype == dtype for x in currents),
            self,
            f"currents must be {dtype}",
            [x.dtype for x in currents],
        )
        want(
            not self.integer or any(isinstance(x, Spikes) for x in (a, b)),
            self,
            "one of two factors must be spikes",
        )
        return Current((*a.shape[:-1], b.shape[-1]), dtype)
