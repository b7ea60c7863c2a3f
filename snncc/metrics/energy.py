"""Energy of a trained network under named models, by chosen conventions and by their alternatives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from snncc.errors import problem, raise_all
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


def baselines_of(names: Iterable[str]) -> tuple[Baseline, ...]:
    """By the words of the command line, each once.

    Raises:
        UsageError: SNNC-U005 for a word that is none of them.
    """
    given = tuple(dict.fromkeys(names))
    limit = ", ".join(Baseline)
    raise_all(
        problem("SNNC-U005", "--baseline", "no such twin network", got=name, limit=limit)
        for name in given
        if name not in list(Baseline)
    )
    return tuple(map(Baseline, given))


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
    def papers(self) -> Energy:
        """By the papers' rule."""
        return next(e for e in self.energies if e.model == PAPER45.name)

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
    found = TrainedEnergy(figures, chosen, works, energies, (), _twins(figures, baselines), of)
    return replace(found, alternatives=_alternatives(found))


def with_trained(cost: Cost, trained: TrainedEnergy) -> Cost:
    """A chip's cost with what the papers count of the trained network, which no lowering changes."""
    alone = {m.name for m in MODELS if not m.of_chips}
    energies = tuple(e for e in trained.energies if e.model in alone)
    return replace(
        cost,
        energy=(*energies, *cost.energy),
        firing_rate=trained.figures.firing_rate,
        acs_paper=trained.total.acs_paper,
        not_modelled=(*(f"{e.model}: {text}" for e in energies for text in e.missing), *cost.not_modelled),
    )


def total(works: Iterable[Work]) -> Work:
    """Sum of operations."""
    found = Work()
    for each in works:
        found = found + each
    return found


def _energy(model: EnergyModel, figures: Figures, works: Iterable[Work]) -> Energy:
    neurons = (_neuron_work(n, figures) for n in figures.neurons)
    parts: dict[str, Estimate] = {}
    for each in (*works, *neurons):
        for c in model.energy(each).components:
            parts[c.name] = parts.get(c.name, NOTHING) + c.energy_nj
    components = tuple(Component(name, e) for name, e in parts.items())
    return Energy(model.name, components, model.constants(), (model.missing,), model.about)


def _neuron_work(neurons: NeuronFigures, figures: Figures) -> Work:
    """What a layer of neurons does, a sample: an update a neuron and timestep."""
    return Work(
        neuron_updates=neurons.neurons * figures.steps,
        spikes=sum(neurons.spikes) / max(figures.samples, 1),
        neurons=neurons.neurons,
    )


def _alternatives(found: TrainedEnergy) -> tuple[tuple[Conventions, Energy], ...]:
    figures, made = found.figures, []
    for other in found.conventions.others():
        energy = _energy(PAPER45, figures, (work(figures, layer, other) for layer in figures.layers))
        if energy.total_nj != found.papers.total_nj:
            made.append((other, energy))
    return tuple(made)


def _twins(figures: Figures, baselines: Iterable[Baseline]) -> tuple[Twin, ...]:
    macs = sum(layer.dense for layer in figures.layers)
    most = max((n.levels for n in figures.neurons), default=1)
    bits = {Baseline.ANN: 32, Baseline.QNN: math.ceil(math.log2(figures.steps * most + 1))}
    return tuple(
        Twin(b, macs, bits[b], PAPER45.energy(Work(macs=macs)) if b is Baseline.ANN else None)
        for b in baselines
    )
