"""Nodes that move values and leave them as they are."""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snncc.ir.const import Const, Number, values_of
from snncc.ir.node import Node, Trait, only, want
from snncc.ir.types import Current, Spikes, ValueType, reshaped


@dataclass(frozen=True, kw_only=True)
class Reshape(Node):
    """Row-major reshape of the features (flatten is a reshape to one axis)."""

    kind = "reshape"
    traits = frozenset({Trait.VIEW, Trait.MONOTONE, Trait.LINEAR})
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
        return reshaped(x, self.shape)


@dataclass(frozen=True, kw_only=True)
class Permute(Node):
    """Reordering of the feature axes."""

    kind = "permute"
    traits = frozenset({Trait.VIEW, Trait.MONOTONE, Trait.LINEAR})
    axes: tuple[int, ...]

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(sorted(self.axes) == list(range(len(x.shape))), self, "axes are no permutation", self.axes)
        return reshaped(x, tuple(x.shape[a] for a in self.axes))


@dataclass(frozen=True, kw_only=True)
class Pad(Node):
    """Surrounds the features with a constant, one number or one per channel (axis 0).

    Attributes:
        before: elements put in front of each feature axis.
        after: elements put behind each feature axis.
        value: what they hold. RepConv pads with what batch normalisation makes of zero.
    """

    kind = "pad"
    traits = frozenset({Trait.MONOTONE})
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: Number = 0

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(
            len(self.before) == len(self.after) == len(x.shape),
            self,
            "needs one amount per feature axis and side",
            (self.before, self.after),
            len(x.shape),
        )
        want(min((*self.before, *self.after), default=0) >= 0, self, "amounts must not be negative")
        if isinstance(self.value, Const):
            fits = self.value.shape == x.shape[:1] and self.before[0] == self.after[0] == 0
            want(fits, self, "value must be one number, or [C] with channels not padded", self.value.shape)
        shape = tuple(b + n + a for b, n, a in zip(self.before, x.shape, self.after, strict=True))
        if isinstance(x, Current):
            return Current(shape, x.dtype)
        counts = values_of(self.value) / x.unit
        if (counts != np.rint(counts)).any() or (not x.signed and (counts < 0).any()):
            return Current(shape)
        return Spikes(shape, max(x.levels, int(np.abs(counts).max(initial=0))), x.signed, x.unit)


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """Values behind each other along a feature axis. Spikes of one unit stay spikes."""

    kind = "concat"
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    axis: int

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        want(len(args) >= 2, self, "takes two or more inputs", len(args))
        rank = len(args[0].shape)
        want(0 <= self.axis < rank, self, "no such axis", self.axis, rank)
        others = {(*a.shape[: self.axis], *a.shape[self.axis + 1 :]) for a in args}
        same = len(others) == 1 and all(len(a.shape) == rank for a in args)
        want(same, self, "inputs differ in another axis", [a.shape for a in args])
        size = sum(a.shape[self.axis] for a in args)
        shape = (*args[0].shape[: self.axis], size, *args[0].shape[self.axis + 1 :])
        spikes = [a for a in args if isinstance(a, Spikes)]
        if len(spikes) == len(args) and len({a.unit for a in spikes}) == 1:
            levels, signed = max(a.levels for a in spikes), any(a.signed for a in spikes)
            return Spikes(shape, levels, signed, spikes[0].unit)
        kinds = {a.dtype for a in args if isinstance(a, Current)} or {"f32"}
        want(len(kinds) == 1, self, "currents of two types", sorted(kinds))
        return Current(shape, kinds.pop())


@dataclass(frozen=True, kw_only=True)
class Slice(Node):
    """Elements ``start``, ``start + step``, ... before ``stop`` of a feature axis."""

    kind = "slice"
    traits = frozenset({Trait.MONOTONE, Trait.LINEAR})
    axis: int
    start: int
    stop: int
    step: int = 1

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(0 <= self.axis < len(x.shape), self, "no such axis", self.axis, len(x.shape))
        size = x.shape[self.axis]
        ok = 0 <= self.start < self.stop <= size and self.step >= 1
        want(ok, self, "takes no element of the axis", (self.start, self.stop, self.step), size)
        count = -(-(self.stop - self.start) // self.step)
        return reshaped(x, (*x.shape[: self.axis], count, *x.shape[self.axis + 1 :]))
