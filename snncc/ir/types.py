"""Types of values: what travels on an edge of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """The three graph families; a graph belongs to one and its nodes mean what that family says."""

    FLOAT = "float"
    INTEGER = "integer"
    SPIKE = "spike"


@dataclass(frozen=True, slots=True)
class Spikes:
    """Events that carry an integer.

    Attributes:
        shape: features of one sample at one timestep, without batch and time.
        levels: largest integer an event can carry (1 = binary).
        signed: whether ``-levels`` is possible too.
        unit: what one level is worth as a real number (1/D behind an SFA neuron with
            normalisation); always 1 in integer and spike graphs.
    """

    shape: tuple[int, ...]
    levels: int
    signed: bool = False
    unit: float = 1.0

    def __str__(self) -> str:
        text = f"spikes<{'x'.join(map(str, self.shape))}, {self.levels}"
        if self.signed:
            text += ", signed"
        if self.unit != 1.0:
            text += f", unit={self.unit!r}"
        return text + ">"


@dataclass(frozen=True, slots=True)
class Current:
    """What synapses deliver and a membrane integrates, or a real-valued input.

    Attributes:
        shape: features of one sample at one timestep, without batch and time.
        dtype: ``f32`` in float graphs, ``i32`` in integer and spike graphs.
    """

    shape: tuple[int, ...]
    dtype: str = "f32"

    def __str__(self) -> str:
        return f"current<{'x'.join(map(str, self.shape))}, {self.dtype}>"


ValueType = Spikes | Current


def is_unsigned(kind: ValueType) -> bool:
    """Whether a value is spikes that are never below zero."""
    return isinstance(kind, Spikes) and not kind.signed


def at_most_one(kind: ValueType) -> bool:
    """Whether a value is such spikes whose largest count is worth one: n/D."""
    return isinstance(kind, Spikes) and not kind.signed and abs(kind.levels * kind.unit - 1) < 1e-6


def reshaped(value: ValueType, shape: tuple[int, ...]) -> ValueType:
    """The same kind of value with other features."""
    if isinstance(value, Spikes):
        return Spikes(shape, value.levels, value.signed, value.unit)
    return Current(shape, value.dtype)
