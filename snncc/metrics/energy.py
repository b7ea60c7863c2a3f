"""Energy of a trained network under named models, by chosen conventions and by their alternatives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from snncc.metrics.conventions import Conventions, work
from snncc.metrics.figures import Figures, NeuronFigures
from snncc.metrics.models import MODELS
from snncc.metrics.models.model import EnergyModel, Work
from snncc.metrics.models.paper45 import PAPER45
from snncc.simulation import NOTHING, Component, Cost, Energy, Estimate


class Baseline(StrEnum):
    """A twin of the network that reviewers ask for: the same shapes without spikes."""

    ANN = "ann"  # one pass, multiply-accumulates of 32-bit floats
    QNN = "qnn"  # one pass, activations of as many bits as T·D spikes tell apart


@dataclass(frozen=True)
class Twin:
    """The network without spikes, a sample.

    Attributes:
        kind: which.
        macs: multiply-accumulates of one pass, padding taps included.
        activation_bits: width of its activations.
        energy: under the papers' rule, whose constant is that of 32-bit floats; None for another width,
            for which the rule has no constant.
    """

    kind: Baseline
    macs: int
    activation_bits: int
    energy: Energy | None


@dataclass(frozen=True)
class TrainedEnergy:
    """What ``snncc energy`` found.

    Attributes:
        figures: counts.
        conventions: how they were read.
        works: of each layer of ``figures``, operations a sample.
        energies: of a sample, by model.
        alternatives: conventions with one choice turned, and the energy by the papers' rule under them;
            those alone that give another.
        twins: networks to compare with.
        of: images of the whole set, where these are a part of it.
    """

    figures: Figures
    conventions: Conventions
    works: tuple[Work, ...]
    energies: tuple[Energy, ...]
    alternatives: tuple[tuple[Conventions, Energy], ...]
    twins: tuple[Twin, ...] = ()
    of: int | None = None

    @property
    def total(self) -> Work:
        """Operations of all layers, a sample."""
        return total(self.works)

    @property
    def padding(self) -> float | None:
        """How much the papers' accumulates exceed the exact ones, as a share; None without any."""
        exact = self.total.acs
        return self.total.acs_paper / exact - 1 if exact else None


def energy_of(
    figures: Figures, chosen: Conventions, baselines: Iterable[Baseline] = (), of: int | None = None
) -> TrainedEnergy:
    """Energy of counted figures.

    Args:
        figures: of :func:`snncc.metrics.measure.measure`.
        chosen: how they are read.
        baselines: twins to add.
        of: images of the whole set, where those that ran are a part of it.
    """
    works = tuple(work(figures, layer, chosen) for layer in figures.layers)
    energies = tuple(_energy(model, figures, works) for model in MODELS)
    return TrainedEnergy(
        figures,
        chosen,
        works,
        energies,
        _alternatives(figures, chosen, energies),
        _twins(figures, baselines),
        of,
    )


def with_trained(cost: Cost, trained: TrainedEnergy) -> Cost:
    """A chip's cost with what the papers count of the trained network, which no lowering changes."""
    papers = next(e for e in trained.energies if e.model == PAPER45.name)
    return replace(
        cost,
        energy=(papers, *cost.energy),
        firing_rate=trained.figures.firing_rate,
        acs_paper=trained.total.acs_paper,
        not_modelled=(*(f"{PAPER45.name}: {text}" for text in papers.missing), *cost.not_modelled),
    )


def total(works: Iterable[Work]) -> Work:
    """Sum of operations."""
    found = Work()
    for each in works:
        found = found + each
    return found


def _energy(model: EnergyModel, figures: Figures, works: Iterable[Work]) -> Energy:
    neurons = (neuron_work(n, figures) for n in figures.neurons)
    parts: dict[str, Estimate] = {}
    for each in (*works, *neurons):
        for c in model.energy(each).components:
            parts[c.name] = parts.get(c.name, NOTHING) + c.energy_nj
    components = tuple(Component(name, e) for name, e in parts.items())
    return Energy(model.name, components, model.constants(), (model.missing,), model.about)


def neuron_work(neurons: NeuronFigures, figures: Figures) -> Work:
    """What a layer of neurons does, a sample: an update a neuron and timestep."""
    return Work(
        neuron_updates=neurons.neurons * figures.steps,
        spikes=sum(neurons.spikes) / max(figures.samples, 1),
        neurons=neurons.neurons,
    )


def _alternatives(
    figures: Figures, chosen: Conventions, energies: tuple[Energy, ...]
) -> tuple[tuple[Conventions, Energy], ...]:
    mine = next(e for e in energies if e.model == PAPER45.name).total_nj
    found = []
    for other in chosen.others():
        works = (work(figures, layer, other) for layer in figures.layers)
        energy = _energy(PAPER45, figures, works)
        if energy.total_nj != mine:
            found.append((other, energy))
    return tuple(found)


def _twins(figures: Figures, baselines: Iterable[Baseline]) -> tuple[Twin, ...]:
    macs = sum(layer.dense for layer in figures.layers)
    most = max((n.levels for n in figures.neurons), default=1)
    bits = {Baseline.ANN: 32, Baseline.QNN: math.ceil(math.log2(figures.steps * most + 1))}
    return tuple(
        Twin(b, macs, bits[b], PAPER45.energy(Work(macs=macs)) if b is Baseline.ANN else None)
        for b in dict.fromkeys(baselines)
    )
