"""What an energy model is: from a layer's counts to components of energy, with constants from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from importlib.resources import files

from pydantic import TypeAdapter

from snncc.hw.quantity import Quantity
from snncc.simulation import Component, Constant, Energy, Estimate

Constants = Mapping[str, Quantity]


@dataclass(frozen=True)
class Work:
    """What one layer, or the host's part, does for a sample; means over the samples that ran.

    Attributes:
        macs: multiply-accumulates on real values, padding taps included.
        macs_valid: the same without padding taps.
        acs: accumulates: level of the spikes read x synapses reached.
        acs_paper: accumulates by the papers' rule: mean count of an input x dense operations.
        synaptic_operations: weights looked up by events.
        neuron_updates: membrane updates other than synaptic ones.
        spikes: spikes sent.
        weights: stored weights; 0 where no tensors were given.
        neurons: neurons that keep a membrane potential.
    """

    macs: float = 0.0
    macs_valid: float = 0.0
    acs: float = 0.0
    acs_paper: float = 0.0
    synaptic_operations: float = 0.0
    neuron_updates: float = 0.0
    spikes: float = 0.0
    weights: int = 0
    neurons: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class EnergyModel:
    """A rule that gives a layer's energy from its counts alone.

    Attributes:
        name: as results and people call it; also of the TOML file of its constants beside it.
        about: what it counts and what it is for, one line.
        components: energy of one layer by component, picojoules a sample.
        missing: what it leaves out.
        of_chips: whether it also reads what a mapped network does; else the trained network alone.
    """

    name: str
    about: str
    components: Callable[[Work, Constants], Mapping[str, Estimate]]
    missing: str
    of_chips: bool = True

    def energy(self, work: Work) -> Energy:
        """Energy of one layer, nJ a sample."""
        found = self.components(work, constants(self.name))
        parts = tuple(Component(name, picojoules.times(1 / 1000)) for name, picojoules in found.items())
        return Energy(self.name, parts, about=self.about)

    def constants(self) -> tuple[Constant, ...]:
        """Its constants with source and grade."""
        return tuple(
            Constant(name, q.value, q.low, q.high, q.source, q.grade)
            for name, q in constants(self.name).items()
        )


def constants(name: str) -> Constants:
    """Constants of the model of that name, from the file beside this one; units stand in their names."""
    text = files("snncc.metrics.models").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Quantity]).validate_python(tomllib.loads(text))


def each(quantity: Quantity) -> Estimate:
    """A constant with its band."""
    return Estimate(quantity.value, quantity.low, quantity.high)
