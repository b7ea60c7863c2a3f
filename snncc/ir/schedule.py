"""The schedule: when the neurons of a spike graph act and fire. A value that a target offers by its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Engine(StrEnum):
    """How the mapped network runs."""

    CLOCKED = "clocked"  # windows of micro-steps, a barrier after each
    GATED = "gated"  # event-driven; a layer integrates, then control events release it
    EVENT = "event"  # event-driven, free-running


class Release(StrEnum):
    """When a neuron of a spike graph may fire."""

    WINDOW = "window"  # after the window of its inputs has ended
    STREAM = "stream"  # in every micro-step, on what arrived until then (clocked chips)
    FREE = "free"  # whenever its membrane reaches the threshold (event-driven chips)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What is made of an integer graph, and what is claimed of it.

    Attributes:
        name: as users say it.
        promises: whether spike counts equal the integer graph's, bit for bit.
        claim: the promise in the certificate's words, or why there is none.
        engine: how the mapped network runs.
        release: when a neuron may fire.
        graded: whether a count travels as one event that carries it, at the window's first micro-step.
        spare: whether a timestep ends with a micro-step in which no source sends. Windows need none where
            a neuron is charged, in its window's first micro-step, with what was sent in the one before.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str
    promises: bool
    claim: str
    engine: Engine
    release: Release
    graded: bool = False
    spare: bool = False

    def __str__(self) -> str:
        more = ", graded" * self.graded + ", spare" * self.spare
        return f"{self.name} ({self.engine}, {self.release}{more})"

    @property
    def has_windows(self) -> bool:
        """Whether a neuron waits until all that a timestep brings has arrived."""
        return self.release is Release.WINDOW

    def micro_steps(self, most: int) -> int:
        """Micro-steps P of a timestep in which a source sends ``most`` >= 1 spikes at most."""
        return (1 if self.graded else most) + self.spare

    def phase(self, depth: int, micro_steps: int) -> int:
        """First micro-step in which a neuron of this depth acts; the layers behind the input have depth 1."""
        match self.release:
            case Release.WINDOW:
                return depth * micro_steps
            case Release.STREAM:
                return depth
            case Release.FREE:
                return 0


EXACT = Schedule(
    name="exact",
    promises=True,
    claim="spike counts of every neuron equal the integer graph's, window by window",
    engine=Engine.CLOCKED,
    release=Release.WINDOW,
)
