"""Handlers of pooling: over windows that slide, that adapt to a size, and that lie partly outside the map."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from snncc.ir import AvgPool2d, Const, MaxPool2d, Pad, Resample, Spikes, Upsample
from snncc.ir.node import Pair
from snncc.ir.synapses import window_count
from snncc_torch.operations.aten import Call, Handler
from snncc_torch.operations.layers import arranged, linear_in_time, pair, planes, reshaped
from snncc_torch.operations.layout import Unsupported, Value


@dataclass(frozen=True)
class Windows:
    """What each output along an axis of ``size`` elements is made of.

    Attributes:
        size: elements of the axis.
        starts, stops: of each window, within the axis.
        shares: what its sum is divided by.
    """

    size: int
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    shares: tuple[int, ...]

    @property
    def divisor(self) -> int:
        """What all shares divide."""
        return math.lcm(*self.shares)

    @property
    def matrix(self) -> Const:
        """Weights [outputs, size] in parts of the divisor."""
        at = np.arange(self.size)
        inside = (at >= np.array([self.starts]).T) & (at < np.array([self.stops]).T)
        parts = self.divisor // np.array(self.shares, np.int32)
        return Const((inside * parts[:, None]).astype(np.int32))

    @property
    def regular(self) -> Pair | None:
        """Kernel and stride, where windows of one size follow each other in equal steps."""
        sizes = {stop - start for start, stop in zip(self.starts, self.stops, strict=True)}
        steps = set(np.diff(self.starts).tolist()) or {*sizes}
        if len(sizes) > 1 or len(steps) > 1 or 0 in steps:
            return None
        return sizes.pop(), steps.pop()


def adaptive(size: int, out: int) -> Windows:
    """Window i of torch's adaptive pools: from floor(i·size/out) to ceil((i + 1)·size/out)."""
    starts = tuple(i * size // out for i in range(out))
    stops = tuple(-(-(i + 1) * size // out) for i in range(out))
    return Windows(size, starts, stops, tuple(b - a for a, b in zip(starts, stops, strict=True)))


def sliding(size: int, out: int, kernel: int, stride: int, padding: int, counted: bool) -> Windows:
    """Windows of torch's average pools; ``counted``: padding is part of what a sum is divided by."""
    first = [i * stride - padding for i in range(out)]
    behind = [min(start + kernel, size + padding) for start in first]
    starts, stops = tuple(max(a, 0) for a in first), tuple(min(b, size) for b in behind)
    ends = zip(first, behind, strict=True) if counted else zip(starts, stops, strict=True)
    return Windows(size, starts, stops, tuple(b - a for a, b in ends))


def _is_whole(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    """Whether ``ceil_mode`` adds nothing."""
    sides = zip(x.shape[1:], kernel, stride, padding, dilation, strict=True)
    return tuple(window_count(*side) for side in sides) == call.out[-2:]


def _averaged(call: Call, x: Value, rows: Windows, columns: Windows, override: int | None = None) -> Value:
    if override:  # takes the place of every window's own divisor
        rows, columns = (replace(side, shares=(1,) * len(side.starts)) for side in (rows, columns))
    divisor = override or rows.divisor * columns.divisor
    return call.put(Resample, x, rows=rows.matrix, columns=columns.matrix, divisor=divisor)


def _avg_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel, padding = pair(call.args["kernel_size"]), pair(call.args["padding"])
    stride, override = pair(call.args["stride"] or kernel), call.args["divisor_override"]
    counted = call.args["count_include_pad"] or not any(padding)
    usual = counted and override in (None, math.prod(kernel))
    if usual and _is_whole(call, x, kernel, stride, padding, (1, 1)):
        still = kernel == stride == (1, 1)
        return x if still else call.put(AvgPool2d, x, kernel=kernel, stride=stride, padding=padding)
    sides = zip(x.shape[1:], call.out[-2:], kernel, stride, padding, strict=True)
    rows, columns = (sliding(*side, counted) for side in sides)
    return _averaged(call, x, rows, columns, override)


def _avg_pool1d(call: Call) -> Value:
    """Over a map of height 1, as one-dimensional convolutions are."""
    x = arranged(call, call.value("self"), 2)
    (kernel,), (padding,) = call.args["kernel_size"], call.args["padding"]
    (stride,) = call.args["stride"] or [kernel]
    args = {
        "kernel_size": [1, kernel],
        "stride": [1, stride],
        "padding": [0, padding],
        "divisor_override": None,
    }
    flat = reshaped(call, x, (x.shape[0], 1, x.shape[1]))
    out = (*call.out[:-1], 1, call.out[-1])
    y = _avg_pool2d(replace(call, args={**call.args, "self": flat, **args}, out=out))
    return reshaped(call, y, (y.shape[0], y.shape[2]))


def _max_pooled(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Value:
    linear_in_time(x)
    if not _is_whole(call, x, kernel, stride, padding, dilation):
        x = _reaching(call, x, kernel, stride, padding, dilation)
    return call.put(MaxPool2d, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def _reaching(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Value:
    """A map that the windows which ``ceil_mode`` adds do not leave, and that has the same maxima.

    Behind spikes stands silence. Of currents, which may be negative, the last row and column are
    repeated: every window that reaches beyond them holds them, if it is not dilated.
    """
    sides = zip(x.shape[1:], call.out[-2:], kernel, stride, padding, dilation, strict=True)
    more = [max(0, (out - 1) * s + (k - 1) * d + 1 - n - 2 * p) for n, out, k, s, p, d in sides]
    kind = call.imp.types[x.name]
    if isinstance(kind, Spikes) and not kind.signed:
        return call.put(Pad, x, beside="partial", before=(0, 0, 0), after=(0, *more))
    if dilation != (1, 1):
        what = "ceil_mode adds partial windows of currents, which are dilated"
        raise Unsupported(what, got=call.out[-2:], hint="ceil_mode=False, or the pooling behind the neuron")
    rows, columns = (
        Const(np.eye(n, dtype=np.int32)[np.minimum(np.arange(n + m), n - 1)])
        for n, m in zip(x.shape[1:], more, strict=True)
    )
    return call.put(Resample, x, beside="partial", rows=rows, columns=columns)


def _max_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel = pair(call.args["kernel_size"])
    stride = pair(call.args["stride"] or kernel)
    return _max_pooled(call, x, kernel, stride, pair(call.args["padding"]), pair(call.args["dilation"]))


def _max_pool3d(call: Call) -> Value:
    args = {
        key: [call.args[key]] * 3 if isinstance(call.args[key], int) else list(call.args[key])
        for key in ("kernel_size", "stride", "padding", "dilation")
    }
    kernel = args["kernel_size"]
    stride, padding, dilation = args["stride"] or kernel, args["padding"], args["dilation"]
    padding, dilation = ([n[0]] * 3 if len(n) == 1 else n for n in (padding, dilation))
    x = planes(call, ((kernel[0], 1), (stride[0], 1), (padding[0], 0)))
    return _max_pooled(call, x, pair(kernel[1:]), pair(stride[1:]), pair(padding[1:]), pair(dilation[1:]))


def _sizes(call: Call, x: Value) -> tuple[Pair, Pair]:
    """(size, outputs) of an adaptive pool along its rows and along its columns."""
    (height, width), (down, right) = x.shape[1:], call.out[-2:]
    return (height, down), (width, right)


def _adaptive_avg_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    rows, columns = (adaptive(*side) for side in _sizes(call, x))
    down, right = rows.regular, columns.regular
    if down and right:
        kernel, stride = zip(down, right, strict=True)
        return x if kernel == stride == (1, 1) else call.put(AvgPool2d, x, kernel=kernel, stride=stride)
    if rows.divisor == columns.divisor == 1 and not any(out % n for n, out in _sizes(call, x)):
        (n, down_to), (m, right_to) = _sizes(call, x)
        return call.put(Upsample, x, factor=(down_to // n, right_to // m))
    return _averaged(call, x, rows, columns)


def _adaptive_max_pool2d(call: Call) -> Value:
    """Uneven windows are even ones of the map in which every element stands ``out / gcd`` times."""
    x = arranged(call, call.value("self"), 3)
    linear_in_time(x)
    rows, columns = (adaptive(*side).regular for side in _sizes(call, x))
    if rows and columns:
        kernel, stride = zip(rows, columns, strict=True)
        return call.put(MaxPool2d, x, kernel=kernel, stride=stride)
    (down, high), (right, wide) = (
        (out // math.gcd(n, out), n // math.gcd(n, out)) for n, out in _sizes(call, x)
    )
    if (high, wide) == (1, 1):
        return call.put(Upsample, x, factor=(down, right))
    repeated = call.put(Upsample, x, beside="repeated", factor=(down, right))
    return call.put(MaxPool2d, repeated, kernel=(high, wide), stride=(high, wide))


POOLS: dict[str, Handler] = {
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "max_pool3d": _max_pool3d,
    "max_pool3d_with_indices": _max_pool3d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
}
