"""Nodes that reduce or repeat feature axes: pooling, sums, means, upsampling, resampling."""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from snncc.ir.const import Const
from snncc.ir.node import FLOAT_ONLY, Node, Pair, Trait, feature_axes, only, want
from snncc.ir.synapses import window_count
from snncc.ir.types import Current, Spikes, ValueType, reshaped


def _pooled(
    node: AvgPool2d | SumPool2d | MaxPool2d, x: ValueType, dilation: Pair = (1, 1)
) -> tuple[int, ...]:
    want(len(x.shape) == 3, node, "input must be [C, H, W]", x.shape)
    want(
        min(*node.kernel, *node.stride, *dilation) >= 1 and min(node.padding) >= 0,
        node,
        "kernel, stride and dilation must be positive, padding not negative",
    )
    want(
        all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True)),
        node,
        "padding must not exceed half the kernel",
        node.padding,
    )
    size = tuple(
        window_count(n, k, s, p, d)
        for n, k, s, p, d in zip(x.shape[1:], node.kernel, node.stride, node.padding, dilation, strict=True)
    )
    want(min(size) >= 1, node, "window is larger than the input", node.kernel, x.shape[1:])
    return (x.shape[0], *size)


@dataclass(frozen=True, kw_only=True)
class AvgPool2d(Node):
    """Mean over windows; padding counts as zeros (torch's ``count_include_pad=True``)."""

    kind = "avg_pool2d"
    families = FLOAT_ONLY
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
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
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
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
class MaxPool2d(Node):
    """Maximum over windows; padding never wins."""

    kind = "max_pool2d"
    traits = frozenset({Trait.MONOTONE})
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        shape = _pooled(self, x, self.dilation)
        for axis, empty in enumerate(self._empty_windows(x.shape[1:], shape[1:])):
            what = f"a window of {'rows' if axis == 0 else 'columns'} covers padding alone"
            want(empty is None, self, what, f"the one of output {empty}")
        return reshaped(x, shape)

    def _empty_windows(self, size: tuple[int, ...], out: tuple[int, ...]) -> Iterator[int | None]:
        """Along each axis the first output whose window holds no element, whose maximum would be none."""
        axes = zip(size, out, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        for n, m, kernel, stride, padding, dilation in axes:
            at = np.add.outer(np.arange(m) * stride - padding, np.arange(kernel) * dilation)
            empty = np.flatnonzero(~((at >= 0) & (at < n)).any(axis=1))
            yield int(empty[0]) if empty.size else None


def _reduced(node: Mean | Sum, args: tuple[ValueType, ...]) -> tuple[ValueType, tuple[int, ...], int]:
    """The input, the result's shape, and how many elements become one."""
    x = only(node, args)
    feature_axes(node, node.axes, x)
    kept = tuple(
        1 if a in node.axes else n for a, n in enumerate(x.shape) if node.keepdim or a not in node.axes
    )
    return x, kept, math.prod(x.shape[a] for a in node.axes)


@dataclass(frozen=True, kw_only=True)
class Mean(Node):
    """Mean over feature axes; by default both spatial axes of [C, H, W]."""

    kind = "mean"
    families = FLOAT_ONLY
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    axes: tuple[int, ...] = (1, 2)
    keepdim: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x, shape, taps = _reduced(self, args)
        if isinstance(x, Spikes):
            return Spikes(shape, x.levels * taps, x.signed, x.unit / taps)
        return Current(shape)


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """Sum over feature axes; spikes stay spikes, whose levels grow with the number summed."""

    kind = "sum"
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    axes: tuple[int, ...]
    keepdim: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x, shape, taps = _reduced(self, args)
        if isinstance(x, Spikes):
            return Spikes(shape, x.levels * taps, x.signed, x.unit)
        return Current(shape, x.dtype)


@dataclass(frozen=True, kw_only=True)
class Upsample(Node):
    """Nearest-neighbour upsampling: every element of [C, H, W] repeated ``factor`` times a side."""

    kind = "upsample"
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    factor: Pair

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        want(min(self.factor) >= 1, self, "factor must be positive", self.factor)
        return reshaped(x, (x.shape[0], x.shape[1] * self.factor[0], x.shape[2] * self.factor[1]))


@dataclass(frozen=True, kw_only=True)
class Resample(Node):
    """``rows · x · columnsᵀ / divisor`` in every channel: a pooling whose windows differ from site to site.

    Attributes:
        rows: whole numbers [OH, H], none negative.
        columns: the same, [OW, W].
        divisor: what all are parts of.
    """

    kind = "resample"
    families = FLOAT_ONLY
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    rows: Const
    columns: Const
    divisor: int = 1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        sides = (self.rows, self.columns)
        fits = all(len(side.shape) == 2 and side.array.dtype == np.int32 for side in sides)
        want(fits, self, "rows and columns must be matrices of i32", [side.shape for side in sides])
        read = (self.rows.shape[1], self.columns.shape[1])
        want(len(x.shape) == 3 and x.shape[1:] == read, self, "input must be [C, H, W]", x.shape, read)
        whole = self.divisor >= 1 and min(int(side.array.min()) for side in sides) >= 0
        want(whole, self, "weights must not be negative, the divisor positive", self.divisor)
        shape = (x.shape[0], self.rows.shape[0], self.columns.shape[0])
        if isinstance(x, Spikes):
            most = math.prod(int(side.array.sum(axis=1).max()) for side in sides)
            return Spikes(shape, x.levels * most, x.signed, x.unit / self.divisor)
        return Current(shape, x.dtype)
