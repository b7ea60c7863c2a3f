"""Reference semantics of the nodes without state, shared by the float, integer and spike families.

Written to be read, though convolutions run as matrix products. Integer sums are exact: they are
computed in the narrowest type that holds every partial sum exactly, never rounded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir.const import Const, number_array
from snncc.ir.nodes import (
    Add,
    AddConst,
    And,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Function,
    LayerNorm,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Op,
    Pad,
    Permute,
    Resample,
    Reshape,
    Scale,
    SiteGate,
    Slice,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.sites import gated

# Matrix products work on this many elements of unfolded input at a time (64 MiB of float64).
_UNFOLD_ELEMENTS = 8_000_000


def evaluate(node: Node, args: list[Array]) -> Array:
    """Result [N, *shape] of a node without state."""
    x = args[0]
    match node:
        case Linear():
            return with_bias(node, exact_product(x, node.weight.array.T))
        case Conv2d():
            return with_bias(node, _conv2d(node, x))
        case ConvTranspose2d():
            return with_bias(node, _conv_transpose2d(node, x))
        case MatMul():
            return exact_product(x, args[1])
        case AvgPool2d():
            return np.asarray(_sum_windows(node, x) / np.float32(node.kernel[0] * node.kernel[1]))
        case SumPool2d():
            return _sum_windows(node, x)
        case MaxPool2d():
            return _max_windows(node, x)
        case Mean():
            axes = tuple(a + 1 for a in node.axes)
            return np.asarray(x.mean(axis=axes, keepdims=node.keepdim, dtype=x.dtype))
        case Sum():
            axes = tuple(a + 1 for a in node.axes)
            return np.asarray(x.sum(axis=axes, keepdims=node.keepdim, dtype=x.dtype))
        case Upsample():
            return x.repeat(node.factor[0], axis=2).repeat(node.factor[1], axis=3)
        case Resample():
            rows, columns = (side.array.astype(x.dtype) for side in (node.rows, node.columns))
            return np.asarray(rows @ x @ columns.T / np.float32(node.divisor))
        case Reshape():
            return x.reshape(x.shape[0], *node.shape)
        case Permute():
            return x.transpose(0, *(a + 1 for a in node.axes))
        case Pad():
            return _padded(node, x)
        case Concat():
            return np.concatenate(args, axis=node.axis + 1)
        case SiteGate():
            return gated(node, args)
        case Slice():
            return x[(slice(None),) * (node.axis + 1) + (slice(node.start, node.stop, node.step),)]
        case _:
            return _elementwise(node, args)


def _elementwise(node: Node, args: list[Array]) -> Array:
    x = args[0]
    match node:
        case BatchNorm():
            mean, var, gamma, beta = (
                number_array(c, x.ndim) for c in (node.mean, node.var, node.gamma, node.beta)
            )
            y = x - mean  # in place from here on: the arrays are large
            y /= np.sqrt(var + np.float32(node.eps))
            y *= gamma
            y += beta
            return np.asarray(y)
        case Scale():
            return np.asarray(x * number_array(node.factor, x.ndim))
        case Add():
            return np.asarray(sum(args[1:], x))
        case AddConst():
            value = node.value.array[None] if isinstance(node.value, Const) else node.value
            return np.asarray(x + value, dtype=x.dtype)
        case Mul():
            return np.asarray(x * args[1])
        case And():
            return np.asarray((1 - x if node.invert_first else x) * args[1])
        case Function():
            return _function(node, x)
        case LayerNorm():
            axes = tuple(range(x.ndim - len(node.gamma.shape), x.ndim))
            centred = x - x.mean(axis=axes, keepdims=True)
            spread = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + np.float32(node.eps))
            return np.asarray(centred / spread * node.gamma.array + node.beta.array)
        case _:
            raise AssertionError(f"{node.kind} has state")


def _function(node: Function, x: Array) -> Array:
    match node.op:
        case Op.RELU:
            return np.maximum(x, 0)
        case Op.SIGMOID:
            return _sigmoid(x)
        case Op.TANH:
            return np.asarray(np.tanh(x))
        case Op.SILU:
            return np.asarray(x * _sigmoid(x))
        case Op.GELU:
            erf = np.asarray(np.frompyfunc(math.erf, 1, 1)(x * np.float32(math.sqrt(0.5))), x.dtype)
            return np.asarray(x * np.float32(0.5) * (1 + erf))
        case Op.SOFTMAX:
            axis = node.axis if node.axis < 0 else node.axis + 1
            raised = np.exp(x - x.max(axis=axis, keepdims=True))
            return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def _sigmoid(x: Array) -> Array:
    """Without an exponential of a positive number, which overflows."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), dtype=x.dtype)


def with_bias(node: Linear | Conv2d | ConvTranspose2d, y: Array) -> Array:
    """``y`` [N, *shape], what the node's weights give, with its bias."""
    if node.bias is None:
        return y
    shape = [1] * y.ndim
    shape[-1 if isinstance(node, Linear) else 1] = -1
    return np.asarray(y + node.bias.array.reshape(shape).astype(y.dtype))


def exact_product(x: Array, matrix: Array) -> Array:
    """``x @ matrix``, [..., rows, columns]; without any rounding where ``matrix`` holds integers (int64)."""
    if matrix.ndim > 2:  # heads of attention are views, which numpy would multiply in slow loops
        x, matrix = np.ascontiguousarray(x), np.ascontiguousarray(matrix)
    if not np.issubdtype(matrix.dtype, np.integer):
        return np.asarray(x @ matrix)
    dtype = _exact_type(x, matrix, -2)
    return np.asarray(x.astype(dtype) @ matrix.astype(dtype)).astype(np.int64)


def _exact_type(x: Array, weight: Array, axes: int | tuple[int, ...]) -> Any:
    """The narrowest type that holds every partial sum of products of ``x`` with weights along ``axes``."""
    most, terms = _largest(x), math.prod(np.take(weight.shape, axes).ravel().tolist())
    if most * _largest(weight) * terms < 2**24:  # the cheap bound; weights are many more than what reads them
        return np.float32
    # In float64, for a sum of absolute integers that is too large for it is too large for int64 as well.
    sums = np.abs(weight, dtype=np.float64).sum(axis=axes).max(initial=0)
    largest = most * int(sums)
    # Below 2^24 (2^53) every partial sum is a whole number which the float type holds exactly.
    return np.float32 if largest < 2**24 else np.float64 if largest < 2**53 else np.int64


def _largest(values: Array) -> int:
    """Largest size of whole numbers."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _windows(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    fill: float = 0,
) -> Array:
    """View [N, C, OH, OW, kh, kw] of the padded input's receptive fields."""
    (ph, pw), (kh, kw), (dh, dw) = padding, kernel, dilation
    padded = x
    if ph or pw:
        padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    span = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return np.asarray(view[:, :, :: stride[0], :: stride[1], ::dh, ::dw])


def _conv2d(node: Conv2d, x: Array) -> Array:
    weight = node.weight.array
    if not np.issubdtype(weight.dtype, np.integer):
        return _correlated(node, x, weight)
    dtype = _exact_type(x, weight, (1, 2, 3))
    narrow, exact = x.astype(dtype), weight.astype(dtype)
    if node.groups == weight.shape[0] and weight.shape[1] == 1:
        return _depthwise(node, narrow, exact).astype(np.int64)
    return _correlated(node, narrow, exact).astype(np.int64)


def _depthwise(node: Conv2d, x: Array, weight: Array) -> Array:
    """Channel by channel, tap by tap; for types in which the order of a sum does not matter."""
    kernel = weight.shape[2:]
    view = _windows(x, (kernel[0], kernel[1]), node.stride, node.padding, node.dilation)
    total = np.zeros(view.shape[:4], x.dtype)
    # Kernels that move maps, or weigh every site on its own, hold many taps of zeros alone.
    for tap in zip(*np.nonzero(weight.any(axis=(0, 1))), strict=True):
        total += view[(..., *tap)] * weight[:, 0, *tap, None, None]
    return total


def _correlated(node: Conv2d, x: Array, kernels: Array) -> Array:
    """Matrix products of ``kernels`` [O, I/groups, kh, kw] with the unfolded input."""
    out, inner, kh, kw = kernels.shape
    groups = node.groups
    per_sample = max(1, x[0].size * kh * kw) if len(x) else 1
    chunk = max(1, _UNFOLD_ELEMENTS // per_sample)
    weight = kernels.reshape(groups, out // groups, inner * kh * kw)
    parts = []
    for start in range(0, max(len(x), 1), chunk):
        view = _windows(x[start : start + chunk], (kh, kw), node.stride, node.padding, node.dilation)
        n, _, oh, ow = view.shape[:4]
        columns = view.reshape(n, groups, inner, oh, ow, kh, kw).transpose(0, 1, 2, 5, 6, 3, 4)
        columns = columns.reshape(n, groups, inner * kh * kw, oh * ow)
        parts.append(np.asarray(weight @ columns).reshape(n, out, oh, ow))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _sum_windows(node: AvgPool2d | SumPool2d, x: Array) -> Array:
    return np.asarray(_windows(x, node.kernel, node.stride, node.padding).sum(axis=(4, 5), dtype=x.dtype))


def _conv_transpose2d(node: ConvTranspose2d, x: Array) -> Array:
    """The convolution with the mirrored kernel of the input with zeros between its elements."""
    inner, per_group, kh, kw = node.weight.shape
    (sh, sw), (dh, dw), groups = node.stride, node.dilation, node.groups
    n, _, h, w = x.shape
    spread = np.zeros((n, inner, (h - 1) * sh + 1, (w - 1) * sw + 1), x.dtype)
    spread[:, :, ::sh, ::sw] = x
    mirrored = node.weight.array.reshape(groups, inner // groups, per_group, kh, kw)[..., ::-1, ::-1]
    weight = mirrored.transpose(0, 2, 1, 3, 4).reshape(groups * per_group, inner // groups, kh, kw)
    reach = (dh * (kh - 1), dw * (kw - 1))
    full = _conv2d(
        Conv2d(name="", weight=Const(weight), padding=reach, dilation=node.dilation, groups=groups), spread
    )
    (ph, pw), (oh, ow) = node.padding, node.output_padding
    full = np.pad(full, ((0, 0), (0, 0), (0, oh), (0, ow)))
    return full[:, :, ph : full.shape[2] - ph, pw : full.shape[3] - pw]


def _max_windows(node: MaxPool2d, x: Array) -> Array:
    lowest = np.iinfo(x.dtype).min if np.issubdtype(x.dtype, np.integer) else -np.inf
    view = _windows(x, node.kernel, node.stride, node.padding, node.dilation, fill=lowest)
    found = view[..., 0, 0].copy()
    for at in list(np.ndindex(view.shape[4:]))[1:]:  # far faster than a reduction over a strided view
        np.maximum(found, view[(..., *at)], out=found)
    return found


def _padded(node: Pad, x: Array) -> Array:
    sides = ((0, 0), *zip(node.before, node.after, strict=True))
    if not isinstance(node.value, Const):
        return np.pad(x, sides, constant_values=node.value)
    inside = tuple(slice(b, b + n) for (b, _), n in zip(sides, x.shape, strict=True))
    shape = tuple(b + n + a for (b, a), n in zip(sides, x.shape, strict=True))
    full = np.empty(shape, x.dtype)
    full[...] = number_array(node.value, x.ndim)
    full[inside] = x
    return full
