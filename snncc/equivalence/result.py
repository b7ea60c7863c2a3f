"""What ``snncc verify`` found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from snncc import display
from snncc.errors import Problem

Share = float | None


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LayerMatch(_Model):
    """One layer of the exported network against the integers.

    Attributes:
        name: neuron node.
        layer: path of the module it came from.
        quantity: spike counts of each timestep, or a readout's final membrane potential.
        neurons: size of the layer.
        compared: values compared (samples × timesteps × neurons).
        mismatches: of these, how many differ.
    """

    name: str
    layer: str
    quantity: Literal["spike count", "membrane potential"]
    neurons: int
    compared: int
    mismatches: int


class ResultMatch(_Model):
    """Decoded results of the exported network against those of the integers."""

    compared: int
    mismatches: int


class Divergence(_Model):
    """The first value that differs: lowest layer, then sample, timestep and neuron."""

    layer: str
    sample: int
    timestep: int
    neuron: tuple[int, ...]
    integer: int
    spikes: int


class Accuracy(_Model):
    """Share of samples whose largest class score is the label; None without labels."""

    float: Share
    integer: Share
    spikes: Share


class Excursion(_Model):
    """Samples that left the range for which a layer's schedule is made."""

    layer: str
    samples: int
    first_sample: int
    saturations: int
    early: int


class OtherOrder(_Model):
    """The same events in another order (where a neuron fires as soon as it can)."""

    seed: int
    layers: tuple[LayerMatch, ...]
    accuracy: float | None


class LayerBounds(_Model):
    """Interval bounds on a free-running layer's counts, for every order of its events.

    Attributes:
        name: neuron node.
        values: counts bounded (samples × neurons).
        outside: measured counts outside their bounds; anything but 0 is our bug.
        decided: counts that the bounds fix to one number.
        mean_low, mean_high: bounds, averaged over all values.
    """

    name: str
    values: int
    outside: int
    decided: int
    mean_low: float
    mean_high: float


class Verification(_Model):
    """Integers against exported spikes.

    Attributes:
        equivalent: every compared value and every result equal, no excursion, no disagreement, under a
            schedule that promises it.
        schedule: its name; ``promises``: whether it claims that counts equal the integers.
        pair: the two executors that were compared.
        order: order in which input events were played.
        agreement: share of samples in which spikes and integers decide alike.
        not_compared: host regions: their float arithmetic runs once, in the reference interpreter, and
            its spikes feed both sides.
        results: decoded values compared and how many of them differ.
        disagreements: parts of the artifact, the chip files among them, that contradict each other or could
            not be checked.
        proven: whether the certificate holds for all inputs (else for the calibrated ranges,
            which were checked on every sample here), and nothing disagrees with it.
    """

    equivalent: bool
    schedule: str
    promises: bool
    target: str
    pair: tuple[str, str]
    samples: int
    layers: tuple[LayerMatch, ...]
    accuracy: Accuracy
    agreement: float
    results: ResultMatch
    first_divergence: Divergence | None
    excursions: tuple[Excursion, ...]
    proven: bool
    order: str
    not_compared: tuple[str, ...] = ()
    shuffled: OtherOrder | None = None
    bounds: tuple[LayerBounds, ...] = ()
    disagreements: tuple[Problem, ...] = ()

    def _repr_html_(self) -> str | None:
        return display.html(self)
