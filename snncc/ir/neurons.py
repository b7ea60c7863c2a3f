"""Nodes that hold state or make spikes: the canonical neuron, its spike form, encoder and delay."""

from __future__ import annotations

from dataclasses import dataclass

from snncc.ir.const import Const, Number
from snncc.ir.node import SPIKE_ONLY, Node, Release, Reset, Rounding, SynapseOrder, only, want
from snncc.ir.types import Current, Family, Spikes, ValueType


@dataclass(frozen=True, kw_only=True)
class Neuron(Node):
    """The canonical neuron of float and integer graphs, one update a timestep.

    In order, with drive ``x`` and membrane potential ``v`` (``facts/frontends.md`` §3)::

        synapse  I = x, or one pole with ``synapse_decay`` and ``synapse_order``
        charge   u = decay·v + gain·I + bias
        fire     n = clip(round(u/θ), 0, max_spikes)      the count, by ``rounding``; ``strict`` is u > nθ
                 (from -max_spikes if ``signed``: a relay, integer graphs only)
        reset    subtract: u - n·reset_by   value: reset_to where n > 0   none
        clamp    v = max(u, v_min)
        output   n · output_scale

    ``reset_next`` applies the reset to the charged membrane of the *following* step. A neuron
    with ``max_spikes`` 0 never fires and delivers its membrane (readout). ``decay`` 0 makes it
    stateless (SFA), 1 an integrate-and-fire neuron.

    In integer graphs every number is an integer, ``output_scale`` is 1, both decays are fixed-point
    products, as ``trunc(v·decay / 2^decay_bits)``, rounded toward zero, and ``gain`` acts on the
    drive before the synapse (Loihi keeps six fraction bits behind the accumulator).

    Attributes:
        threshold: θ, one or per channel; positive.
        max_spikes: largest count a timestep (D of SFA, 1 of a binary neuron, 0 for a readout).
        reset_by: what one spike subtracts; the threshold if absent.
        v_init: membrane potential before the first timestep.
    """

    kind = "neuron"
    families = frozenset({Family.FLOAT, Family.INTEGER})
    threshold: Number = 1.0
    max_spikes: int = 1
    signed: bool = False
    rounding: Rounding = Rounding.FLOOR
    strict: bool = False
    decay: Number = 0
    decay_bits: int = 0
    gain: Number = 1
    bias: Number = 0
    synapse_decay: Number | None = None
    synapse_bits: int = 0
    synapse_order: SynapseOrder = SynapseOrder.DECAY_ADD_READ
    reset: Reset = Reset.SUBTRACT
    reset_by: Number | None = None
    reset_to: Number = 0
    reset_next: bool = False
    v_min: Number | None = None
    v_init: Number = 0
    output_scale: float = 1.0

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.max_spikes == 0

    @property
    def is_stateless(self) -> bool:
        """Whether nothing of one timestep reaches the next."""
        return self.decay == 0 and self.synapse_decay is None and not self.reset_next

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(self.max_spikes >= 0, self, "max_spikes must not be negative", self.max_spikes)
        low = self.threshold.array.min() if isinstance(self.threshold, Const) else self.threshold
        want(bool(low > 0), self, "threshold must be positive", low)
        want(
            not (self.strict and self.rounding is not Rounding.FLOOR), self, "strict goes with rounding=floor"
        )
        plain = self.max_spikes > 0 and self.reset is Reset.SUBTRACT
        want(plain or not self.signed, self, "signed goes with spikes and reset=subtract")
        for name in (
            "threshold",
            "decay",
            "gain",
            "bias",
            "reset_by",
            "reset_to",
            "v_min",
            "v_init",
            "synapse_decay",
        ):
            value = getattr(self, name)
            ok = not isinstance(value, Const) or value.shape == x.shape[:1]
            want(ok, self, f"{name} must be one number or [C]", getattr(value, "shape", None), x.shape[:1])
        if self.is_readout:
            return Current(x.shape, x.dtype if isinstance(x, Current) else "f32")
        return Spikes(x.shape, self.max_spikes, self.signed, float(self.output_scale))


@dataclass(frozen=True, kw_only=True)
class Encode(Node):
    """Spike graphs only: an integer n becomes n single spikes at micro-steps 0..n-1 of the window.

    With ``graded`` it becomes one event that carries n, at micro-step 0.
    """

    kind = "encode"
    families = SPIKE_ONLY
    graded: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(isinstance(x, Spikes) and not x.signed, self, "takes unsigned spikes", x)
        return Spikes(x.shape, x.levels if self.graded and isinstance(x, Spikes) else 1)


@dataclass(frozen=True, kw_only=True)
class WindowNeuron(Node):
    """Integrate-and-fire neuron of spike graphs: at most one spike a micro-step.

    With ``release=window`` the input of timestep t collects in a second accumulator ``a``; at
    micro-step ``phase + t·period`` (period: the graph's ``micro_steps``)::

        I = trunc(I·synapse_decay / 2^synapse_bits) + gain·a;  a = 0
        u = trunc(v·decay / 2^decay_bits) + I + bias + precharge

    and then for ``window`` micro-steps, at most ``window`` spikes: fire if u ≥ θ, u -= θ. At the
    window's end v = u - precharge, or ``reset_to`` if it fired and resets to a value, then
    ``v = max(v, v_min)``. The count of a window is clip(⌊(u₀)/θ⌋, 0, window) (DESIGN §5.4). With
    ``graded`` it leaves at once, as one event that carries it (Loihi 2); such a neuron may be
    ``signed`` and send clip(⌊(u₀)/θ⌋, -window, window).

    With ``release=stream`` (clocked chips, one timestep) the membrane starts at ``v_init + bias +
    precharge`` and in every micro-step from ``phase`` to the end adds what arrived and fires once
    if it is at or over θ, at most ``window`` times if ``capped``.

    With ``release=free`` the membrane starts at ``v_init + bias + precharge`` and fires once in
    every update that leaves it at or over θ, as an event-driven chip does, at most ``window``
    times if ``capped``.

    Attributes:
        window: D, the largest count; 0 makes a readout that only integrates.
        phase: first micro-step of the first window.
        precharge: ⌊θ/2⌋ for round-half-up, 0 for floor, -1 for ``>`` in place of ``≥``.
    """

    kind = "window_neuron"
    families = SPIKE_ONLY
    threshold: int
    window: int
    gain: int = 1
    synapse_decay: int = 0
    synapse_bits: int = 0
    graded: bool = False
    signed: bool = False
    phase: int = 0
    precharge: int = 0
    bias: Number = 0
    decay: int = 0
    decay_bits: int = 0
    reset: Reset = Reset.SUBTRACT
    reset_to: int = 0
    v_min: int | None = None
    v_init: Number = 0
    release: Release = Release.WINDOW
    capped: bool = True

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.window == 0

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(self.threshold >= 1, self, "threshold must be at least 1", self.threshold)
        want(self.window >= 0 and self.phase >= 0, self, "window and phase must not be negative")
        at_once = self.graded and self.window > 0 and self.release is Release.WINDOW
        plain = at_once and self.reset is Reset.SUBTRACT
        want(plain or not self.signed, self, "signed goes with graded windows and reset=subtract")
        if self.is_readout:
            return Current(x.shape, "i32")
        return Spikes(x.shape, self.window if self.graded else 1, self.signed)


@dataclass(frozen=True, kw_only=True)
class Delay(Node):
    """Holds spikes back for ``steps`` timesteps (micro-steps in spike graphs); starts with none.

    The only node that may name a later value, so its own type is declared and then checked.
    """

    kind = "delay"
    steps: int
    shape: tuple[int, ...]
    levels: int = 1
    signed: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        want(self.steps >= 1, self, "steps must be at least 1", self.steps)
        return Spikes(self.shape, self.levels, self.signed)
