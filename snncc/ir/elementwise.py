"""Element-wise nodes: normalisation, factors, sums, products, and what only a host can compute."""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snncc.ir.const import Const, Number
from snncc.ir.node import FLOAT_ONLY, Node, Trait, only, two, want
from snncc.ir.types import Current, Spikes, ValueType, at_most_one, is_unsigned


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
    traits = frozenset({Trait.LINEAR})
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
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})

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


@dataclass(frozen=True, kw_only=True)
class AddConst(Node):
    """Sum with a constant, one number or an array that broadcasts over the features.

    A position embedding, or a bias that no layer holds.
    """

    kind = "add_const"
    traits = frozenset({Trait.MONOTONE})
    value: Number

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        if isinstance(self.value, Const):
            fits = len(self.value.shape) == len(x.shape) and all(
                n in (1, m) for n, m in zip(self.value.shape, x.shape, strict=True)
            )
            want(fits, self, "value must broadcast over the features", self.value.shape, x.shape)
        whole = self.value.is_integer if isinstance(self.value, Const) else isinstance(self.value, int)
        real = isinstance(x, Current) and x.dtype == "f32"
        return Current(x.shape, "i32" if whole and not real else "f32")


def _broadcast(node: Node, args: tuple[ValueType, ...]) -> tuple[ValueType, ValueType, tuple[int, ...]]:
    a, b = two(node, args)
    fits = len(a.shape) == len(b.shape) and all(
        n == m or 1 in (n, m) for n, m in zip(a.shape, b.shape, strict=True)
    )
    want(fits, node, "inputs do not broadcast", a.shape, b.shape)
    return a, b, tuple(map(max, a.shape, b.shape))


@dataclass(frozen=True, kw_only=True)
class Mul(Node):
    """Element-wise product of two values, broadcast over axes of size 1.

    Spikes times spikes are spikes whose levels and units multiply; anything else is a current. Two
    currents multiply in float graphs alone, where a host computes them.
    """

    kind = "mul"

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        a, b, shape = _broadcast(self, args)
        if isinstance(a, Spikes) and isinstance(b, Spikes):
            return Spikes(shape, a.levels * b.levels, a.signed or b.signed, a.unit * b.unit)
        kinds = {x.dtype for x in (a, b) if isinstance(x, Current)}
        want(len(kinds) == 1, self, "currents of two types", sorted(kinds))
        both = isinstance(a, Current) and isinstance(b, Current)
        want(not both or kinds == {"f32"}, self, "one of two factors must be spikes")
        return Current(shape, kinds.pop())


@dataclass(frozen=True, kw_only=True)
class And(Node):
    """Element-wise AND of binary spikes, a·b; with ``invert_first`` (1 - a)·b, the IAND of SEW-ResNet.

    SEW writes ``identity·(1 - out)``: there ``out`` is the first input. An IAND is also taken of counts
    n/D, of which 1 - a is such a count again.
    """

    kind = "and"
    invert_first: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        a, b, shape = _broadcast(self, args)
        if self.invert_first:
            want(at_most_one(a), self, "inverts spikes that are at most one", a)
            want(is_unsigned(b), self, "takes spikes without a sign", b)
            assert isinstance(a, Spikes)
            assert isinstance(b, Spikes)
            return Spikes(shape, a.levels * b.levels, unit=a.unit * b.unit)
        for x in (a, b):
            binary = isinstance(x, Spikes) and x.levels == 1 and not x.signed and x.unit == 1
            want(binary, self, "takes binary spikes", x)
        return Spikes(shape, 1)


class Op(StrEnum):
    """Functions that no spike computes."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    SILU = "silu"
    GELU = "gelu"  # the exact one, with erf
    SOFTMAX = "softmax"


@dataclass(frozen=True, kw_only=True)
class Function(Node):
    """A real function that a host computes, element by element; softmax over ``axis``."""

    kind = "function"
    families = FLOAT_ONLY
    op: Op
    axis: int = -1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        if self.op is Op.SOFTMAX:
            want(-len(x.shape) <= self.axis < len(x.shape), self, "no such axis", self.axis, len(x.shape))
        return Current(x.shape)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Node):
    """Normalisation over the last axes, which a host computes; ``gamma`` and ``beta`` have their shape."""

    kind = "layernorm"
    families = FLOAT_ONLY
    gamma: Const
    beta: Const
    eps: float

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        rank = len(self.gamma.shape)
        want(
            0 < rank <= len(x.shape) and self.gamma.shape == self.beta.shape == x.shape[-rank:],
            self,
            "gamma and beta must have the shape of the last axes",
            self.gamma.shape,
            x.shape,
        )
        return Current(x.shape)
