"""Runs networks of :mod:`snncc_loihi.fixed` processes step by step, as Lava's runtime does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem
from snncc_loihi.fixed import (
    LIF,
    UNITY,
    Dense,
    Neurons,
    Shape,
    Sparse,
    Synapses,
    neuron_step,
    slots,
    start,
    synaptic_sums,
)


@dataclass(frozen=True)
class Link:
    """Connection of a source to a population.

    Attributes:
        source: name of an input or population. ``target``: name of a population.
        synapses: their sums arrive one micro-step later; None: the source's own values arrive in the
            same micro-step (an input only: Lava would wait for ever on a loop without a buffer).
        wait: micro-steps that the spikes wait in a delay line before the synapses.
    """

    source: str
    target: str
    synapses: Synapses | None
    wait: int = 0


@dataclass(frozen=True)
class Trace:
    """What a population did, int64 [T, *shape]: what it sent, and membrane and current after it."""

    spikes: Array
    v: Array
    u: Array


@dataclass(frozen=True)
class FixedNetwork:
    """Populations and the connections between them; loops are allowed.

    Attributes:
        inputs: shapes by name. ``populations``: by name.
        links: a population's input is the sum of all links to it.
    """

    inputs: Mapping[str, Shape]
    populations: Mapping[str, Neurons]
    links: tuple[Link, ...]

    def run(self, x: Mapping[str, Array]) -> dict[str, Trace]:
        """Run T micro-steps from the start state.

        Args:
            x: of each input what it sends, integers [T, *shape].

        Returns:
            Traces of all populations by name.
        """
        steps = len(next(iter(x.values())))
        assert {n: a.shape[1:] for n, a in x.items()} == dict(self.inputs), "inputs of other shapes"
        lines = [_Line(link, self._shape(link.target)) for link in self.links]
        states = {name: start(p) for name, p in self.populations.items()}
        kept: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in states}
        for k in range(steps):
            sent = {name: np.asarray(a[k], np.int64) for name, a in x.items()}
            arriving = {name: np.zeros(p.shape, np.int64) for name, p in self.populations.items()}
            for line in lines:
                arriving[line.link.target] += line.read(sent)
            for name, p in self.populations.items():
                state = states[name]
                sent[name] = neuron_step(p, state, arriving[name], k)
                kept[name].append((sent[name], state.v, state.u))
            for line in lines:
                line.write(sent)
        return {
            name: Trace(*(np.stack(part) for part in zip(*all_, strict=True))) for name, all_ in kept.items()
        }

    def _shape(self, name: str) -> Shape:
        return self.populations[name].shape


class _Line:
    """A link at work: spikes that wait, and sums by the number of steps until they arrive."""

    def __init__(self, link: Link, shape: Shape) -> None:
        self.link, self.shape = link, shape
        self.waiting: list[Array] = []
        self.sums = np.zeros((1 if link.synapses is None else slots(link.synapses), *shape), np.int64)

    def read(self, sent: Mapping[str, Array]) -> Array:
        """What arrives in this micro-step."""
        if self.link.synapses is None:
            return sent[self.link.source].reshape(self.shape)
        return np.asarray(self.sums[0])

    def write(self, sent: Mapping[str, Array]) -> None:
        """Take up what the source sent in this micro-step."""
        if self.link.synapses is None:
            return
        self.sums = np.concatenate([self.sums[1:], np.zeros((1, *self.shape), np.int64)])
        self.waiting.append(sent[self.link.source])
        if len(self.waiting) > self.link.wait:
            self.sums += synaptic_sums(self.link.synapses, self.waiting.pop(0)).reshape(self.sums.shape)


def beyond_the_chip(p: Neurons | Synapses, where: str) -> list[Problem]:
    """Parameters that Lava's CPU models take and the chip's words do not hold.

    Widths: ``lava.proc.lif.models`` (docstrings of the bit-accurate models); Loihi 2 delays: 6 bits.

    Returns:
        Problems with code SNNC-C009, empty if all fit.
    """
    ranges: dict[str, tuple[int | Array, int, int]] = {}
    if isinstance(p, LIF):
        ranges = {
            "threshold mantissa": (p.vth, 0, (1 << 17) - 1),
            "current decay du": (p.du, 0, UNITY - 1),
            "membrane decay dv": (p.dv, 0, UNITY),
            "bias mantissa": (p.bias_mant, -(1 << 12), (1 << 12) - 1),
            "bias exponent": (p.bias_exp, 0, 7),
        }
    elif isinstance(p, Dense | Sparse):
        ranges = {
            "weight": (p.weights, -(1 << 8), (1 << 8) - 1),
            "weight exponent": (p.weight_exp, -8, 7),
            "weight bits": (p.num_weight_bits, 1, 8),
        }
        if isinstance(p, Dense) and p.delays is not None:
            ranges["delay"] = (p.delays, 0, 63)
    found = []
    for what, (value, low, high) in ranges.items():
        least, most = int(np.min(value)), int(np.max(value))
        if least < low or most > high:
            got = f"{least}" if least == most else f"{least}..{most}"
            found.append(problem("SNNC-C009", where, f"{what} out of range", got=got, limit=f"{low}..{high}"))
    return found
