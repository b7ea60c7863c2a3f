"""What a graph begins and ends with: its input and its output."""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

from dataclasses import dataclass

from snncc.ir.node import Decode, Node, OverTime, only, want
from snncc.ir.types import Current, Spikes, ValueType


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
