"""The closed set of node kinds and the type each computes from its inputs.

A node is a frozen value; shapes leave out batch and time. What a node *computes* stands in
:mod:`snncc.ir.interp`; nothing is added here without semantics there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from snncc.errors import fail
from snncc.ir.const import Const, Number
from snncc.ir.types import Current, Family, Spikes, ValueType

if TYPE_CHECKING:
    from snncc.ir.graph import Graph

ALL = frozenset(Family)
FLOAT_ONLY = frozenset({Family.FLOAT})
SPIKE_ONLY = frozenset({Family.SPIKE})
Pair = tuple[int, int]


class Rounding(StrEnum):
    """How the membrane over the threshold becomes a spike count."""

    FLOOR = "floor"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class Reset(StrEnum):
    """What a spike does to the membrane potential."""

    SUBTRACT = "subtract"
    VALUE = "value"
    NONE = "none"


class SynapseOrder(StrEnum):
    """Order of update of a one-pole synapse with current ``i`` and drive ``x``."""

    ADD_READ_DECAY = "add_read_decay"  # i += x; I = i; i *= d        (norse)
    DECAY_ADD_READ = "decay_add_read"  # i = d*i + x; I = i            (snntorch Synaptic)
    ADD_DECAY_READ = "add_decay_read"  # i = d*(i + x); I = i          (sinabs, rockpool)


class Decode(StrEnum):
    """What the network's result is."""

    COUNT = "count"  # spikes of the last layer, counted over its window
    MEMBRANE = "membrane"  # the last layer's final membrane potential
    VALUE = "value"  # a float graph's real value


class OverTime(StrEnum):
    """How the result of T timesteps becomes one."""

    NONE = "none"
    SUM = "sum"
    MEAN = "mean"


class Release(StrEnum):
    """When a neuron of a spike graph may fire."""

    WINDOW = "window"  # after the window of its inputs has ended (schedule `exact`)
    FREE = "free"  # whenever its membrane reaches the threshold (schedule `free`)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
        name: unique in its graph.
        inputs: names of the values it reads.
        source: path of the module it came from, for messages.
    """

    kind: ClassVar[str]
    families: ClassVar[frozenset[Family]] = ALL

    name: str
    inputs: tuple[str, ...] = ()
    source: str = field(default="", compare=False)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        """Type of the result, from the types of the inputs.

        Raises:
            ModelError: SNNC-M010 if the inputs do not fit.
        """
        raise NotImplementedError


def ill_formed(node: Node, what: str, got: Any = None, limit: Any = None) -> Exception:
    """The error for a node that its inputs or attributes do not fit."""
    where = f"%{node.name}" + (f" ({node.source})" if node.source else "")
    return fail("SNNC-M010", where, f"{node.kind}: {what}", got=got, limit=limit)


def _want(ok: bool, node: Node, what: str, got: Any = None, limit: Any = None) -> None:
    if not ok:
        raise ill_formed(node, what, got, limit)


def _one(node: Node, args: tuple[ValueType, ...]) -> ValueType:
    _want(len(args) == 1, node, "takes one input", len(args))
    return args[0]


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
        _want(not args, self, "takes no input")
        _want(self.levels >= 0, self, "levels must not be negative", self.levels)
        _want(all(n > 0 for n in self.shape), self, "sizes must be positive", self.shape)
        return Spikes(self.shape, self.levels) if self.levels else Current(self.shape)


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """``y = W x + b`` over the last axis. ``weight`` is [O, I], ``bias`` [O]."""

    kind = "linear"
    weight: Const
    bias: Const | None = None

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(len(self.weight.shape) == 2, self, "weight must be [out, in]", self.weight.shape)
        out, inner = self.weight.shape
        _want(bool(x.shape) and x.shape[-1] == inner, self, "input features do not fit the weight", x.shape, inner)
        _want(self.bias is None or self.bias.shape == (out,), self, "bias must be [out]")
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
        x = _one(self, args)
        _want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        _want(len(self.weight.shape) == 4, self, "weight must be [O, I/groups, kh, kw]", self.weight.shape)
        out, inner, kh, kw = self.weight.shape
        _want(self.groups >= 1 and out % self.groups == 0, self, "groups must divide the output channels", self.groups)
        _want(x.shape[0] == inner * self.groups, self, "input channels do not fit the weight", x.shape[0], inner * self.groups)
        _want(min(self.stride) >= 1 and min(self.dilation) >= 1 and min(self.padding) >= 0, self, "stride and dilation must be positive, padding not negative")
        _want(self.bias is None or self.bias.shape == (out,), self, "bias must be [out]")
        size = tuple(
            window_count(n, k, s, p, d)
            for n, k, s, p, d in zip(x.shape[1:], (kh, kw), self.stride, self.padding, self.dilation, strict=True)
        )
        _want(min(size) >= 1, self, "kernel is larger than the padded input", (kh, kw), x.shape[1:])
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
        x = _one(self, args)
        for part in (self.gamma, self.beta, self.mean, self.var):
            _want(bool(x.shape) and part.shape == (x.shape[0],), self, "parameters must be [C]", part.shape, x.shape[:1])
        return Current(x.shape)


@dataclass(frozen=True, kw_only=True)
class Scale(Node):
    """Multiplication by a constant, one or per channel (axis 0)."""

    kind = "scale"
    families = FLOAT_ONLY
    factor: Number

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        if isinstance(self.factor, Const):
            _want(self.factor.shape == x.shape[:1], self, "factor must be [C]", self.factor.shape, x.shape[:1])
        elif isinstance(x, Spikes) and self.factor > 0:
            return Spikes(x.shape, x.levels, x.signed, x.unit * float(self.factor))
        return Current(x.shape)


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """Element-wise sum. Spikes of one unit stay spikes and their levels add; else a current."""

    kind = "add"

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        _want(len(args) >= 2, self, "takes two or more inputs", len(args))
        _want(len({a.shape for a in args}) == 1, self, "inputs differ in shape", [a.shape for a in args])
        spikes = [a for a in args if isinstance(a, Spikes)]
        if len(spikes) == len(args) and len({a.unit for a in spikes}) == 1:
            return Spikes(args[0].shape, sum(a.levels for a in spikes), any(a.signed for a in spikes), spikes[0].unit)
        integer = any(isinstance(a, Current) and a.dtype == "i32" for a in args)
        return Current(args[0].shape, "i32" if integer else "f32")


def _pooled(node: AvgPool2d | SumPool2d, x: ValueType) -> tuple[int, ...]:
    _want(len(x.shape) == 3, node, "input must be [C, H, W]", x.shape)
    _want(all(2 * p <= k for p, k in zip(node.padding, node.kernel, strict=True)), node, "padding must not exceed half the kernel", node.padding)
    size = tuple(
        window_count(n, k, s, p)
        for n, k, s, p in zip(x.shape[1:], node.kernel, node.stride, node.padding, strict=True)
    )
    _want(min(size) >= 1, node, "window is larger than the input", node.kernel, x.shape[1:])
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
        x = _one(self, args)
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
        x = _one(self, args)
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
        x = _one(self, args)
        _want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
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
        x = _one(self, args)
        _want(math.prod(self.shape) == math.prod(x.shape), self, "number of elements changes", self.shape, x.shape)
        return _reshaped(x, self.shape)


@dataclass(frozen=True, kw_only=True)
class Permute(Node):
    """Reordering of the feature axes."""

    kind = "permute"
    axes: tuple[int, ...]

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(sorted(self.axes) == list(range(len(x.shape))), self, "axes are no permutation", self.axes)
        return _reshaped(x, tuple(x.shape[a] for a in self.axes))


@dataclass(frozen=True, kw_only=True)
class Neuron(Node):
    """The canonical neuron of float and integer graphs, one update a timestep.

    In order, with drive ``x`` and membrane potential ``v`` (``facts/frontends.md`` §3)::

        synapse  I = x, or one pole with ``synapse_decay`` and ``synapse_order``
        charge   u = decay·v + gain·I + bias
        fire     n = clip(round(u/θ), 0, max_spikes)      the count, by ``rounding``; ``strict`` is u > nθ
        reset    subtract: u - n·reset_by   value: reset_to where n > 0   none
        clamp    v = max(u, v_min)
        output   n · output_scale

    ``reset_next`` applies the reset to the charged membrane of the *following* step. A neuron
    with ``max_spikes`` 0 never fires and delivers its membrane (readout). ``decay`` 0 makes it
    stateless (SFA), 1 an integrate-and-fire neuron.

    In integer graphs every number is an integer, ``gain`` and ``output_scale`` are 1, and the
    decay is the fixed-point product ``trunc(v·decay / 2^decay_bits)``, rounded toward zero.

    Attributes:
        threshold: θ, one or per channel; positive.
        max_spikes: largest count a timestep (D of SFA, 1 of a binary neuron, 0 for a readout).
        reset_by: what one spike subtracts; the threshold if absent.
        v_init: membrane potential before the first timestep.
    """

    kind = "neuron"
    families = frozenset({Family.FLOAT, Family.INTEGER})
    threshold: Number = 1.0
    max_spikes: int = 1
    rounding: Rounding = Rounding.FLOOR
    strict: bool = False
    decay: Number = 0
    decay_bits: int = 0
    gain: Number = 1
    bias: Number = 0
    synapse_decay: Number | None = None
    synapse_order: SynapseOrder = SynapseOrder.DECAY_ADD_READ
    reset: Reset = Reset.SUBTRACT
    reset_by: Number | None = None
    reset_to: Number = 0
    reset_next: bool = False
    v_min: Number | None = None
    v_init: Number = 0
    output_scale: float = 1.0

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.max_spikes == 0

    @property
    def is_stateless(self) -> bool:
        """Whether nothing of one timestep reaches the next."""
        return self.decay == 0 and self.synapse_decay is None and not self.reset_next

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(self.max_spikes >= 0, self, "max_spikes must not be negative", self.max_spikes)
        low = self.threshold.array.min() if isinstance(self.threshold, Const) else self.threshold
        _want(bool(low > 0), self, "threshold must be positive", low)
        _want(not (self.strict and self.rounding is not Rounding.FLOOR), self, "strict goes with rounding=floor")
        for name in ("threshold", "decay", "gain", "bias", "reset_by", "reset_to", "v_min", "v_init", "synapse_decay"):
            value = getattr(self, name)
            ok = not isinstance(value, Const) or value.shape == x.shape[:1]
            _want(ok, self, f"{name} must be one number or [C]", getattr(value, "shape", None), x.shape[:1])
        if self.is_readout:
            return Current(x.shape, x.dtype if isinstance(x, Current) else "f32")
        return Spikes(x.shape, self.max_spikes, unit=float(self.output_scale))


@dataclass(frozen=True, kw_only=True)
class Encode(Node):
    """Spike graphs only: an integer n becomes n single spikes at micro-steps 0..n-1 of the window."""

    kind = "encode"
    families = SPIKE_ONLY

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(isinstance(x, Spikes) and not x.signed, self, "takes unsigned spikes", x)
        return Spikes(x.shape, 1)


@dataclass(frozen=True, kw_only=True)
class WindowNeuron(Node):
    """Integrate-and-fire neuron of spike graphs: at most one spike a micro-step.

    With ``release=window`` the input of timestep t collects in a second accumulator ``a``; at
    micro-step ``phase + t·period`` (period: the graph's ``micro_steps``)::

        u = trunc(v·decay / 2^decay_bits) + a + bias + precharge;  a = 0

    and then for ``window`` micro-steps, at most ``window`` spikes: fire if u ≥ θ, u -= θ. At the
    window's end v = u - precharge, or ``reset_to`` if it fired and resets to a value, then
    ``v = max(v, v_min)``. The count of a window is clip(⌊(u₀)/θ⌋, 0, window) (DESIGN §5.4).

    With ``release=free`` the membrane starts at ``v_init + bias + precharge`` and fires once in
    every update that leaves it at or over θ, as an event-driven chip does, at most ``window``
    times if ``capped``.

    Attributes:
        window: D, the largest count; 0 makes a readout that only integrates.
        phase: first micro-step of the first window.
        precharge: ⌊θ/2⌋ for round-half-up, 0 for floor, -1 for ``>`` in place of ``≥``.
    """

    kind = "window_neuron"
    families = SPIKE_ONLY
    threshold: int
    window: int
    phase: int = 0
    precharge: int = 0
    bias: Number = 0
    decay: int = 0
    decay_bits: int = 0
    reset: Reset = Reset.SUBTRACT
    reset_to: int = 0
    v_min: int | None = None
    v_init: Number = 0
    release: Release = Release.WINDOW
    capped: bool = True

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.window == 0

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(self.threshold >= 1, self, "threshold must be at least 1", self.threshold)
        _want(self.window >= 0 and self.phase >= 0, self, "window and phase must not be negative")
        return Current(x.shape, "i32") if self.is_readout else Spikes(x.shape, 1)


@dataclass(frozen=True, kw_only=True)
class Delay(Node):
    """Holds spikes back for ``steps`` timesteps (micro-steps in spike graphs); starts with none.

    The only node that may name a later value, so its own type is declared and then checked.
    """

    kind = "delay"
    steps: int
    shape: tuple[int, ...]
    levels: int = 1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        _want(self.steps >= 1, self, "steps must be at least 1", self.steps)
        return Spikes(self.shape, self.levels)


@dataclass(frozen=True, kw_only=True)
class HostRegion(Node):
    """A float graph that the host computes: what stands before the first spike.

    ``body`` has one input and one output and keeps its own float semantics in every family.
    """

    kind = "host"
    body: Graph

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = _one(self, args)
        _want(self.body.family is Family.FLOAT, self, "body must be a float graph", self.body.family)
        declared = self.body.types[self.body.input.name]
        _want(declared == x, self, "input does not fit the body", x, declared)
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
        return _one(self, args)


KINDS: dict[str, type[Node]] = {
    cls.kind: cls
    for cls in (
        Input, Linear, Conv2d, BatchNorm, Scale, Add, AvgPool2d, SumPool2d, Mean, Reshape, Permute,
        Neuron, Encode, WindowNeuron, Delay, HostRegion, Output,
    )
}  # fmt: skip
