"""The certificate of a compiled network: what is proven, conditional, approximate. ``certificate.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PassRecord(_Model):
    """One pass that ran.

    Attributes:
        spec: its name and options as text.
        preserves: ``exact`` or ``approximate``.
        note: measured effect of an approximate pass.
    """

    spec: str
    preserves: Literal["exact", "approximate"]
    note: str = ""


class Approximation(_Model):
    """Measured effect of an approximate step on the calibration inputs.

    Attributes:
        step: the pass.
        samples: calibration inputs.
        layers: per neuron node, values that changed of values compared.
        decisions_changed: samples whose largest class score moved; -1 where that means nothing.
        accuracy_before, accuracy_after: on labelled calibration inputs, else None.
    """

    step: str
    samples: int
    layers: dict[str, tuple[int, int]]
    decisions_changed: int
    accuracy_before: float | None = None
    accuracy_after: float | None = None


class LayerRange(_Model):
    """Range of one layer's membrane, or accumulator, over every order of its input events.

    Attributes:
        layer: the neuron node.
        quantity: what the range is of.
        bits: width of the chip's word for it.
        word_low, word_high: what that word holds, less what the schedule itself needs.
        all_inputs: bounds over every input that the types allow.
        observed: bounds over the calibration inputs.
        proven: whether ``all_inputs`` lies within the word; else the certificate of this layer is
            conditional on ``allowed``, which is checked at run time.
        allowed: range of input sums that the schedule admits.
        ties: calibration values exactly half-way between two counts that go where rounding to even would
            not send them: up, or in a layer that rounds half down, down.
        ties_other: those that would, if the layer sent ties the other way.
    """

    layer: str
    quantity: str = "membrane"
    bits: int
    word_low: int
    word_high: int
    all_inputs: tuple[int, int]
    observed: tuple[int, int]
    allowed: tuple[int, int]
    proven: bool
    ties: int = 0
    ties_other: int = 0


class Certificate(_Model):
    """Everything that is claimed about a compiled network."""

    version: Literal[1] = 1
    target: str
    schedule: str
    claim: str
    passes: tuple[PassRecord, ...]
    approximations: tuple[Approximation, ...]
    ranges: tuple[LayerRange, ...]
    notes: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether every layer's range is proven for all inputs."""
        return all(r.proven for r in self.ranges)
