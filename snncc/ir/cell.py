"""The integer neuron, once: its numbers, and its one update in integers.

Integer graphs, spike graphs, mapped pieces, the simulator's tables and the chips' populations are
made from this value; what they add is when a neuron may fire, never what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import ConfigDict

from snncc.arrays import Array
from snncc.ir.const import Const, Integer, number_array, values_of
from snncc.ir.node import Reset


class CellState(NamedTuple):
    """Membrane potential ``v`` and synaptic current ``i`` between two updates, int64 [N, *shape] each."""

    v: Array
    i: Array


# Numbers that every chip's neurons have one of a channel.
EACH_CHANNEL = ("bias", "v_init")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Numbers of the integer neuron: each one integer, or one a channel (an integer constant [C]).

    One update with drive ``x``, membrane potential ``v`` and synaptic current ``i``; every product with a
    leak is ``trunc(a·numerator / 2^bits)``, rounded toward zero::

        i = trunc(i·synapse_decay / 2^synapse_bits) + gain·x
        u = trunc(v·decay / 2^decay_bits) + i + bias                        charge
        n = clip(⌊(u + precharge) / threshold⌋, 0, max_spikes)              fire
        v = u - n·reset_by,  or reset_to where n > 0 (reset = value)        reset
        v = max(v, v_min)                                                   clamp

    Attributes:
        threshold: θ, at least 1.
        max_spikes: largest count D of an update; 0 makes a readout, which delivers u and keeps it.
        signed: counts from -max_spikes (a relay); with reset by subtraction only.
        precharge: ⌊θ/2⌋ rounds half up, 0 rounds down, -1 makes ``≥`` a ``>``; 0 in a readout.
        gain: what a unit of drive adds, at least 1 (Loihi keeps six fraction bits behind its accumulator).
        synapse_decay: leak of the synaptic current; 0: it has no memory.
        decay: leak of the membrane; 0: no memory (SFA), 1 with 0 bits: integrate-and-fire.
        reset_by: what one spike subtracts; None: the threshold (snntorch subtracts θ/β).
        v_min: lower clamp behind the reset; None: none.
        v_init: membrane potential before the first update.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    threshold: Integer = 1
    max_spikes: int = 1
    signed: bool = False
    precharge: Integer = 0
    gain: Integer = 1
    bias: Integer = 0
    synapse_decay: Integer = 0
    synapse_bits: int = 0
    decay: Integer = 0
    decay_bits: int = 0
    reset: Reset = Reset.SUBTRACT
    reset_by: Integer | None = None
    reset_to: Integer = 0
    v_min: Integer | None = None
    v_init: Integer = 0

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.max_spikes == 0

    @property
    def is_stateless(self) -> bool:
        """Whether nothing of one update reaches the next."""
        return self.decay == 0 and self.synapse_decay == 0

    @property
    def integrates(self) -> bool:
        """Whether the membrane keeps all it has: no leak."""
        return (self.decay, self.decay_bits) == (1, 0)

    @property
    def has_current(self) -> bool:
        """Whether a synaptic current stands between drive and membrane."""
        return bool(values_of(self.synapse_decay).any())

    @property
    def current_fades(self) -> bool:
        """Whether the synaptic current, if any, has a leak."""
        return bool((values_of(self.synapse_decay) < 1 << self.synapse_bits).all())

    @property
    def starts_charged(self) -> bool:
        """Whether a sample starts at a membrane potential other than 0."""
        return bool(values_of(self.v_init).any())

    @property
    def least(self) -> int:
        """Smallest count of an update."""
        return -self.max_spikes if self.signed else 0

    @property
    def rounds_half_up(self) -> bool:
        """Whether the pre-charge is half a threshold, which a tie then reaches."""
        charge, theta = values_of(self.precharge), values_of(self.threshold)
        return bool((charge > 0).any() and (charge == theta // 2).all())

    @property
    def rounds_half_down(self) -> bool:
        """Whether the pre-charge is just too small for ties; not told from flooring with a threshold of 2."""
        charge, theta = values_of(self.precharge), values_of(self.threshold)
        down = (charge > 0).any() and (charge == (theta - 1) // 2).all()
        return bool(down) and not self.rounds_half_up

    @property
    def theta(self) -> int:
        """The threshold of a layer that has one."""
        return one(self.threshold)

    def start(self, shape: tuple[int, ...]) -> CellState:
        """State before the first update, of arrays [N, *shape]; ``shape`` includes N."""
        zeros = np.zeros(shape, np.int64)
        return CellState(zeros + number_array(self.v_init, len(shape)), zeros)

    def step(self, x: Array, state: CellState) -> tuple[Array, CellState]:
        """One update: counts (a readout's membrane) and the next state.

        Args:
            x: drive, int64 [N, *shape].
            state: of the update before.
        """
        charged = self.charge(x, state)
        if self.is_readout:
            return charged.v, charged
        counts = self.counts(charged.v + number_array(self.precharge, x.ndim))
        left = charged.v - counts * number_array(self.threshold, x.ndim)
        return counts, CellState(self.settled(left, counts), charged.i)

    def charge(self, x: Array, state: CellState) -> CellState:
        """Current and membrane [N, *shape] before the neuron fires, pre-charge not included."""

        def num(value: Integer) -> Any:
            return number_array(value, x.ndim)

        i = leaked(state.i, num(self.synapse_decay), self.synapse_bits) + num(self.gain) * x
        return CellState(leaked(state.v, num(self.decay), self.decay_bits) + i + num(self.bias), i)

    def counts(self, u: Array) -> Array:
        """Counts [N, *shape] of membranes that include the pre-charge."""
        return np.asarray(np.clip(u // number_array(self.threshold, u.ndim), self.least, self.max_spikes))

    def settled(self, v: Array, counts: Array) -> Array:
        """What a neuron keeps [N, *shape] whose ``counts`` thresholds were subtracted from ``v``."""
        if self.reset is Reset.VALUE:
            v = np.where(counts > 0, number_array(self.reset_to, v.ndim), v)
        elif self.reset_by is not None:
            v = v + counts * (number_array(self.threshold, v.ndim) - number_array(self.reset_by, v.ndim))
        return v if self.v_min is None else np.maximum(v, number_array(self.v_min, v.ndim))

    def per_channel(self) -> tuple[str, ...]:
        """Names of the numbers that are given channel by channel."""
        return tuple(f.name for f in fields(self) if isinstance(getattr(self, f.name), Const))

    def constants(self) -> tuple[Const, ...]:
        """The values of those numbers."""
        return tuple(getattr(self, name) for name in self.per_channel())

    def problems(self, channels: tuple[int, ...]) -> Iterator[tuple[str, Any, Any]]:
        """What no neuron of ``channels`` (C,) can have: text, value found, value allowed.

        The text is a whole sentence without its end; an empty iterator for a good cell.
        """
        low = values_of(self.threshold).min()
        if low < 1:
            yield "threshold must be at least 1", low, None
        if values_of(self.gain).min() < 1:
            yield "gain must be a positive integer here", self.gain, None
        if self.max_spikes < 0:
            yield "max_spikes must not be negative", self.max_spikes, None
        if self.is_readout and self.precharge != 0:
            yield "a readout has no pre-charge", self.precharge, 0
        if self.signed and not (self.max_spikes and self.reset is Reset.SUBTRACT):
            yield "signed goes with spikes and reset=subtract", None, None
        if self.reset is Reset.NONE:
            yield "an integer neuron resets", self.reset, "subtract, value"
        for name in self.per_channel():
            shape = getattr(self, name).shape
            if shape != channels:
                yield f"{name} must be one number or [C]", shape, channels


def one(value: Integer) -> int:
    """A number of a layer that has one for all its channels; others are refused before they get here."""
    assert isinstance(value, int), "one number a channel reached what holds one a layer"
    return value


def leaked(v: Array, numerator: Any, bits: int) -> Array:
    """``v·numerator / 2^bits``, rounded toward zero."""
    if isinstance(numerator, int) and numerator in (0, 1 << bits):
        return np.asarray(v) if numerator else np.zeros_like(v)
    return np.asarray(np.sign(v) * ((np.abs(v) * numerator) >> bits))
