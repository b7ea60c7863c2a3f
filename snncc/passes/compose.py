"""Two linear maps in a row as one: convolutions, linear layers, normalisations and paddings composed.

The arithmetic is float64; what becomes a node is rounded once, to float32. What is only looked at keeps
the arrays of its nodes: a network's weights twice over in float64 do not fit beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from snncc.arrays import Array
from snncc.ir import BatchNorm, Const, Conv2d, Linear, Node, Pad, Scale
from snncc.ir.const import values_of
from snncc.ir.node import Pair
from snncc.ir.synapses import Weighted, window_count

# A padding is the bias that it stands for if it lies within this share of the sums that make the bias.
_SAME = 1e-6

# Weights of one layer; 512 MiB while two are composed in float64.
_MOST = 2**26


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution with a bias; a linear layer over [C] is one of 1×1 over [C, 1, 1].

    Attributes:
        weight: [O, I/groups, kh, kw], float32 as a node holds it, or float64.
        bias: [O], float64.
        vector: whether it reads and gives [C] in place of maps.
    """

    weight: Array
    bias: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    vector: bool = False

    @property
    def taps(self) -> Pair:
        """Rows and columns of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    def result(self, size: Pair) -> Pair:
        """Rows and columns that it makes of ``size``."""
        rows, columns = (self._count(size, axis) for axis in (0, 1))
        return rows, columns

    def macs(self, size: Pair) -> int:
        """Multiply-accumulates on a map of ``size``, those of zero weights and of padding included."""
        return self.weight.size * math.prod(self.result(size))

    def _count(self, size: Pair, axis: int) -> int:
        k, s, p, d = (x[axis] for x in (self.taps, self.stride, self.padding, self.dilation))
        return window_count(size[axis], k, s, p, d)

    def reads_outside(self, size: Pair) -> bool:
        """Whether results right beside its own map (a map of ``size`` is read) would see elements of it."""
        return any(self._sees(size, axis) for axis in (0, 1))

    def _sees(self, size: Pair, axis: int) -> bool:
        k, s, p, d = (x[axis] for x in (self.taps, self.stride, self.padding, self.dilation))
        before = -s - p + (k - 1) * d
        behind = self._count(size, axis) * s - p
        return before >= 0 or behind < size[axis]


@dataclass(frozen=True)
class Refused:
    """Why two maps are not one."""

    reason: str


def kernel_of(node: Weighted | BatchNorm | Scale, shape: tuple[int, ...]) -> Kernel:
    """The map of a node that reads ``shape``, [C, H, W] or [C]; channel by channel for the last two."""
    vector = len(shape) == 1
    match node:
        case Conv2d():
            weight = node.weight.array
            return Kernel(
                weight, _bias(node, len(weight)), node.stride, node.padding, node.dilation, node.groups
            )
        case Linear():
            weight = node.weight.array[:, :, None, None]
            return Kernel(weight, _bias(node, len(weight)), vector=vector)
        case BatchNorm() | Scale():
            scale, shift = affine_of(node, shape[0])
            return Kernel(scale.reshape(-1, 1, 1, 1), shift, groups=shape[0], vector=vector)


def affine_of(node: BatchNorm | Scale, channels: int) -> tuple[Array, Array]:
    """Multiplier and offset [C] in float64, of ``y = γ (x - μ) / √(σ² + ε) + β`` or ``y = f x``."""
    if isinstance(node, Scale):
        factor = values_of(node.factor).astype(np.float64)
        return np.broadcast_to(factor, (channels,)), np.zeros(channels)
    gamma, beta, mean, var = (
        c.array.astype(np.float64) for c in (node.gamma, node.beta, node.mean, node.var)
    )
    scale = gamma / np.sqrt(var + node.eps)
    return scale, beta - mean * scale


def _bias(node: Weighted, channels: int) -> Array:
    return np.zeros(channels) if node.bias is None else node.bias.array.astype(np.float64)


def merged(first: Node, second: Weighted | BatchNorm | Scale, shape: tuple[int, ...]) -> Weighted | Refused:
    """One node for ``second`` behind ``first``, with the name of ``second`` and the input of ``first``.

    Args:
        first: weights, a normalisation or a scale.
        second: what reads it, and it alone.
        shape: of what ``first`` reads, [C, H, W] or [C].
    """
    if not isinstance(first, Weighted | BatchNorm | Scale):
        return Refused(f"{first.kind} is no linear map of channels")
    if any(getattr(node, "mask", None) is not None for node in (first, second)):
        return Refused("a mask closes sites between the two")
    if any(isinstance(n, Linear) for n in (first, second)) and len(shape) != 1:
        return Refused("a linear layer over rows of a map is in no canonical layout")
    one, size = kernel_of(first, shape), _size(shape)
    between = (len(one.weight), *one.result(size)) if len(shape) == 3 else (len(one.weight),)
    both = compose(one, kernel_of(second, between), size)
    return both if isinstance(both, Refused) else as_node(both, second, first.inputs)


def _size(shape: tuple[int, ...]) -> Pair:
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def as_node(kernel: Kernel, like: Node, inputs: tuple[str, ...]) -> Weighted:
    """The kernel as a node of float32, with the name and source of ``like``."""
    bias = Const(kernel.bias.astype(np.float32)) if kernel.bias.any() else None
    if kernel.vector:
        flat = Const(_dense(kernel, 1).weight.astype(np.float32)[:, :, 0, 0], copy=False)
        return Linear(name=like.name, inputs=inputs, source=like.source, weight=flat, bias=bias)
    return Conv2d(
        name=like.name,
        inputs=inputs,
        source=like.source,
        weight=Const(kernel.weight.astype(np.float32), copy=False),
        bias=bias,
        stride=kernel.stride,
        padding=kernel.padding,
        dilation=kernel.dilation,
        groups=kernel.groups,
    )


def compose(first: Kernel, second: Kernel, size: Pair) -> Kernel | Refused:
    """``second`` behind ``first``, which reads a map of ``size``.

    With ``first`` at ``m·s₁ - p₁ + k₁·d₁`` and ``second`` at ``o·s₂ - p₂ + k₂·d₂`` the two read
    ``o·s₁s₂ - (p₂s₁ + p₁) + k₂·d₂s₁ + k₁·d₁``: a convolution whose taps are all sums of both. What
    ``second`` pads is zero, whereas the one convolution would go on computing there; the two agree
    where ``first`` neither reads its map from there nor has a bias.
    """
    whole = outline(first, second, size)
    if isinstance(whole, Refused):
        return whole
    first, second = (replace(k, weight=k.weight.astype(np.float64, copy=False)) for k in (first, second))
    bias = _through(second, first.bias) + second.bias
    return replace(whole, weight=_product(first, second, whole), bias=bias)


def outline(first: Kernel, second: Kernel, size: Pair) -> Kernel | Refused:
    """:func:`compose` without its numbers: the weights are zeros, the bias is one where there may be any."""
    if any(second.padding):
        if first.bias.any():
            return Refused("the second pads zeros where the first would give its bias")
        if first.reads_outside(size):
            return Refused("the second pads zeros where the first would still see its map")
    groups = math.gcd(first.groups, second.groups)
    steps = _each(lambda d, s: d * s, second.dilation, first.stride)
    dilation = _each(_common, steps, first.dilation, second.taps, first.taps)
    reach = _each(
        lambda k2, s, k1, d: (k2 - 1) * s + (k1 - 1) * d, second.taps, steps, first.taps, first.dilation
    )
    taps = _each(lambda n, d: n // d + 1, reach, dilation)
    out, inner = len(second.weight), first.weight.shape[1] * first.groups // groups
    if out * inner * math.prod(taps) > _MOST:
        return Refused(f"they would be one layer of {out * inner * math.prod(taps):,} weights")
    return Kernel(
        np.broadcast_to(0.0, (out, inner, *taps)),
        np.broadcast_to(float(first.bias.any() or second.bias.any()), (out,)),
        stride=_each(lambda a, b: a * b, first.stride, second.stride),
        padding=_each(lambda p1, p2, s1: p2 * s1 + p1, first.padding, second.padding, first.stride),
        dilation=dilation,
        groups=groups,
        vector=first.vector and second.vector,
    )


def padded(first: Kernel, pad: Pad, size: Pair) -> Kernel | Refused:
    """``pad`` behind ``first``, which reads a map of ``size``: more padding, if it adds the bias.

    Where a convolution reads zeros alone it gives its bias; RepConv pads with what batch
    normalisation makes of zero, which is the bias once it is folded.
    """
    if pad.before != pad.after or pad.before[0]:
        return Refused("it does not pad rows and columns alike on both sides")
    if first.reads_outside(size):
        return Refused("the first would still see its map where the padding stands")
    value = np.broadcast_to(values_of(pad.value).astype(np.float64), first.bias.shape)
    sums = np.abs(first.weight).sum(axis=(1, 2, 3), dtype=np.float64) + np.abs(first.bias)
    if (np.abs(value - first.bias) > _SAME * sums).any():
        return Refused("the padding is not the bias of what stands before it")
    more = _each(lambda p, a, s: p + a * s, first.padding, pad.before[1:], first.stride)
    return replace(first, padding=more)


def _each(rule: Callable[..., int], *pairs: tuple[int, ...]) -> Pair:
    """``rule`` of the pairs' rows, and of their columns."""
    rows, columns = (rule(*column) for column in zip(*pairs, strict=True))
    return rows, columns


def _through(second: Kernel, value: Array) -> Array:
    """What ``second`` makes of a map whose channels hold ``value`` [I] everywhere: [O], its bias apart."""
    out, inner = second.weight.shape[:2]
    sums = second.weight.sum(axis=(2, 3)).reshape(second.groups, out // second.groups, inner)
    return np.asarray(sums @ value.reshape(second.groups, inner, 1)).reshape(out)


def _product(first: Kernel, second: Kernel, whole: Kernel) -> Array:
    """Weight of the two kernels in a row, whose outline is ``whole``."""
    if whole.groups != second.groups:
        first = _dense(first, whole.groups)
    if second.taps == (1, 1):
        weight = _behind_tap(first, second, whole.groups, (0, 0))
        weight += 0.0  # no zeros below zero, as below
        return weight
    weight = np.zeros(whole.weight.shape)
    for tap in np.ndindex(second.taps):
        starts = _each(lambda t, d, s: t * d * s, tap, second.dilation, first.stride)
        rows, columns = (
            _places(starts[a], first.taps[a], first.dilation[a], whole.dilation[a]) for a in (0, 1)
        )
        weight[:, :, rows, columns] += _behind_tap(first, second, whole.groups, tap)
    return weight


def _common(step: int, dilation: int, taps_of_second: int, taps_of_first: int) -> int:
    """Distance of the taps of both in a row; one tap has none."""
    return math.gcd(step if taps_of_second > 1 else 0, dilation if taps_of_first > 1 else 0) or 1


def _places(start: int, taps: int, apart: int, dilation: int) -> slice:
    """Where the taps of the first stand in the one kernel, for the tap of the second at ``start``."""
    step = max(1, apart // dilation)
    return slice(start // dilation, start // dilation + (taps - 1) * step + 1, step)


def _behind_tap(first: Kernel, second: Kernel, groups: int, tap: tuple[int, ...]) -> Array:
    """``first`` seen through one tap of ``second``, [O₂, I/groups, kh₁, kw₁]."""
    out, read = second.weight.shape[:2]
    through = second.weight[:, :, tap[0], tap[1]]
    _, inner, kh, kw = first.weight.shape
    if groups == second.groups:  # each of its groups reads whole groups of the first
        each = first.groups // groups
        a = through.reshape(groups, out // groups, each, read // each).swapaxes(1, 2)
        b = first.weight.reshape(groups, each, read // each, inner * kh * kw)
        return np.asarray((a @ b).swapaxes(1, 2)).reshape(out, each * inner, kh, kw)
    taps = through.reshape(second.groups, out // second.groups, read)
    rows = first.weight.reshape(second.groups, read, inner * kh * kw)
    return np.asarray(taps @ rows).reshape(out, inner, kh, kw)


def _dense(kernel: Kernel, groups: int) -> Kernel:
    """The same map with fewer groups, a divisor of its own: zeros between those that become one."""
    if groups == kernel.groups:
        return kernel
    out, inner, kh, kw = kernel.weight.shape
    each = kernel.groups // groups
    weight = np.zeros((groups, each, out // kernel.groups, each, inner, kh, kw))
    for e in range(each):
        weight[:, e, :, e] = kernel.weight.reshape(groups, each, -1, inner, kh, kw)[:, e]
    return replace(kernel, weight=weight.reshape(out, each * inner, kh, kw), groups=groups)
