"""Where the papers count differently: each choice by name, and what a layer's figures become under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from snncc.analysis.operations import Operand
from snncc.errors import problem, raise_all
from snncc.metrics.figures import Figures, LayerFigures, Part
from snncc.metrics.models.model import Work


class Repeat(StrEnum):
    """How often the two ends of a network run a sample."""

    ONCE = "once"
    STEPS = "steps"  # at every timestep, as the layers between them


class Integers(StrEnum):
    """What a layer does that reads counts above one."""

    ACS = "acs"  # one accumulate for every unit of a count
    MACS = "macs"  # dense multiply-accumulates, as on real values


class Attention(StrEnum):
    """How products of attention are counted by the papers' rule."""

    EXECUTED = "executed"  # pairs of spikes that meet, in the order in which the network multiplies
    PAPERS = "papers"  # N·d²·(min(fr_k, fr_v) + fr_q), whatever the order (Spikingformer)


@dataclass(frozen=True)
class Conventions:
    """How figures are counted where published tables differ.

    Attributes:
        stem: of layers in front of the first spikes, where an image is the same at all timesteps.
        head: of layers behind the last ones, where results are averaged or summed over time. Run once
            they read means over time, which are real values: the papers' classifiers stand behind the mean.
        integers: of layers that read counts.
        attention: of products in the papers' rule; counts of pairs are exact in any case.
        bias: add a layer's biases to its operations, at the rate of its inputs.
    """

    stem: Repeat = Repeat.STEPS
    head: Repeat = Repeat.STEPS
    integers: Integers = Integers.ACS
    attention: Attention = Attention.EXECUTED
    bias: bool = False

    @classmethod
    def of(cls, stem: str, head: str, integers: str, attention: str, bias: bool) -> Conventions:
        """By the words of the command line.

        Raises:
            UsageError: SNNC-U005 for a word that is none of them.
        """
        kinds = {"stem": Repeat, "head": Repeat, "integers": Integers, "attention": Attention}
        given = {"stem": stem, "head": head, "integers": integers, "attention": attention}
        raise_all(
            problem("SNNC-U005", f"--{name}", "no such convention", got=word, limit=", ".join(kinds[name]))
            for name, word in given.items()
            if word not in list(kinds[name])
        )
        return cls(Repeat(stem), Repeat(head), Integers(integers), Attention(attention), bias)

    def __str__(self) -> str:
        return ", ".join(f"{f.name} {_word(getattr(self, f.name))}" for f in fields(self))

    def others(self) -> Iterator[Conventions]:
        """The same with one choice turned, for each choice that published tables differ in."""
        yield replace(self, stem=next(r for r in Repeat if r is not self.stem))
        yield replace(self, head=next(r for r in Repeat if r is not self.head))
        yield replace(self, integers=next(i for i in Integers if i is not self.integers))


def _word(value: StrEnum | bool) -> str:
    return value.value if isinstance(value, StrEnum) else "counted" if value else "left out"


def times(figures: Figures, layer: LayerFigures, chosen: Conventions) -> int:
    """Timesteps of a sample in which a layer runs."""
    once = {Part.STEM: figures.static and chosen.stem is Repeat.ONCE, Part.HEAD: chosen.head is Repeat.ONCE}
    return 1 if once.get(layer.part, False) else figures.steps


def work(figures: Figures, layer: LayerFigures, chosen: Conventions) -> Work:
    """Operations of one layer, a sample."""
    runs = times(figures, layer, chosen)
    biases = layer.biases * chosen.bias
    held = {"weights": layer.parameters, "neurons": layer.outputs}
    if _multiplies(layer, chosen, runs < figures.steps):
        macs, valid = (runs * (n + biases) for n in (layer.dense, layer.valid))
        return Work(macs=macs, macs_valid=valid, **held)
    each = runs / figures.steps / max(figures.samples, 1)
    return Work(
        acs_paper=_by_the_papers(figures, layer, chosen, biases) * runs / figures.steps,
        acs=layer.unit_events * each + runs * biases,
        synaptic_operations=layer.events * each,
        **held,
    )


def _multiplies(layer: LayerFigures, chosen: Conventions, once: bool) -> bool:
    if layer.operand is Operand.REAL or (layer.part is Part.HEAD and once):
        return True
    return layer.operand is Operand.COUNTS and chosen.integers is Integers.MACS


def _by_the_papers(figures: Figures, layer: LayerFigures, chosen: Conventions, biases: int) -> float:
    """Rate x timesteps x dense operations, padding taps included."""
    if not layer.is_product:
        return sum(layer.rates) * (layer.dense + biases)
    if chosen.attention is Attention.EXECUTED:
        return layer.unit_events / max(figures.samples, 1)
    return figures.steps * layer.term_rate * layer.term
