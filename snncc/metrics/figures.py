"""What a trained network does on data: rates, events and operations, by layer.

Counts are integers over all samples; what a dense execution would do is of one sample. Nothing here
knows a chip or an energy; how counts are read where the papers differ is :mod:`snncc.metrics.conventions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snncc.analysis.operations import Operand


class Part(StrEnum):
    """Which part of the network a layer belongs to: the ends may run once a sample, not once a timestep."""

    STEM = "stem"  # reads the input with nothing that fires in between
    BODY = "body"
    HEAD = "head"  # nothing fires behind it, and its results are summed or averaged over time


@dataclass(frozen=True)
class LayerFigures:
    """A node that multiplies: weights, or a product of two values.

    Attributes:
        name: of the node.
        source: path of the module it came from.
        kind: of the node.
        part: which part of the network it is.
        operand: declared type of what it reads.
        levels: largest declared level of what it reads; 0 for real values.
        largest: largest level that was read; 0 for real values.
        parameters: stored numbers.
        outputs: values that it gives a timestep.
        dense: multiply-accumulates of a dense execution of one timestep, padding taps included.
        valid: the same without padding taps.
        biases: additions of biases a timestep.
        rates: mean level of what it reads, by timestep; of real values 1.
        others: of a product of two spikes, those of the second operand; empty else.
        is_product: whether it multiplies two values, not a value by weights.
        term: operations a timestep of a product in the papers' formula of attention; of others 0.
        term_rate: the rate that the formula takes for them.
        events: spikes read x synapses reached, all samples.
        nonzero: the same over weights that are not 0.
        unit_events: level of the spikes read x synapses reached, all samples.
    """

    name: str
    source: str
    kind: str
    part: Part
    operand: Operand
    levels: int
    largest: int
    parameters: int
    outputs: int
    dense: int
    valid: int
    biases: int
    rates: tuple[float, ...]
    others: tuple[float, ...]
    is_product: bool
    term: int
    term_rate: float
    events: int
    nonzero: int
    unit_events: int

    @property
    def rate(self) -> float:
        """Mean level of what it reads, over all timesteps."""
        return sum(self.rates) / len(self.rates)

    @property
    def multiplicity(self) -> float:
        """Unit events an event; 1 for binary spikes."""
        return self.unit_events / self.events if self.events else 1.0


@dataclass(frozen=True)
class NeuronFigures:
    """A layer of neurons.

    Attributes:
        name: of the node.
        source: path of the module it came from.
        neurons: how many.
        levels: largest count of a timestep (D).
        by_level: values of at least 1, 2, ... D, all samples, [T][D]: a count n is n unit spikes, the first
            n of D virtual timesteps.
        samples: that ran.
    """

    name: str
    source: str
    neurons: int
    levels: int
    by_level: tuple[tuple[int, ...], ...]
    samples: int

    @property
    def spikes(self) -> tuple[int, ...]:
        """Unit spikes sent, all samples, by timestep."""
        return tuple(map(sum, self.by_level))

    @property
    def rates(self) -> tuple[float, ...]:
        """Unit spikes a neuron, by timestep."""
        return tuple(n / (self.neurons * self.samples) for n in self.spikes)

    @property
    def rate(self) -> float:
        """Unit spikes a neuron and timestep."""
        return sum(self.rates) / len(self.rates)


@dataclass(frozen=True)
class Figures:
    """A network on data.

    Attributes:
        network: name of the graph.
        samples: that ran.
        steps: timesteps T.
        layers: what multiplies, in order.
        neurons: what fires, in order.
        parameters: stored numbers, norms included.
        additions: of residual connections, a sample.
        masks: products of spikes by spikes, element by element, a sample.
        pooling: additions and comparisons of pools, means and sums, a sample.
        norms: values that a norm computes, a sample; 0 once they are folded into weights.
        static: whether every sample shows the same input at all timesteps.
    """

    network: str
    samples: int
    steps: int
    layers: tuple[LayerFigures, ...]
    neurons: tuple[NeuronFigures, ...]
    parameters: int
    additions: int
    masks: int
    pooling: int
    norms: int
    static: bool

    @property
    def updates(self) -> int:
        """Updates of membrane potentials, a sample."""
        return sum(n.neurons for n in self.neurons) * self.steps

    @property
    def firing_rate(self) -> float | None:
        """Unit spikes a neuron and timestep over all layers of neurons; None where nothing fires."""
        chances = self.updates * self.samples
        return sum(sum(n.spikes) for n in self.neurons) / chances if chances else None

    @property
    def nsfr(self) -> tuple[float, ...]:
        """NSFR(t): unit spikes at t over the number of neurons (SFA paper), by timestep."""
        chances = sum(n.neurons for n in self.neurons) * self.samples
        return tuple(
            sum(n.spikes[t] for n in self.neurons) / chances if chances else 0.0 for t in range(self.steps)
        )

    @property
    def virtual_nsfr(self) -> tuple[float, ...]:
        """NSFR over T x D virtual timesteps, D the largest of all layers."""
        most = max((n.levels for n in self.neurons), default=0)
        chances = sum(n.neurons for n in self.neurons) * self.samples
        return tuple(
            sum(n.by_level[t][d] for n in self.neurons if d < n.levels) / chances
            for t in range(self.steps)
            for d in range(most)
        )
