"""Nodes that hold state or make spikes: the neurons of the three families, encoder and delay."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from snncc.ir.cell import Cell
from snncc.ir.const import Const, Number, values_of
from snncc.ir.node import (
    FLOAT_ONLY,
    INTEGER_ONLY,
    SPIKE_ONLY,
    Node,
    Reset,
    Rounding,
    SynapseOrder,
    only,
    want,
)
from snncc.ir.schedule import Release
from snncc.ir.types import Current, Spikes, ValueType


@dataclass(frozen=True, kw_only=True)
class Neuron(Node):
    """The canonical neuron of float graphs, one update a timestep.

    In order, with drive ``x`` and membrane potential ``v`` (docs/semantics.md#neurons-of-libraries)::

        synapse  I = x, or one pole with ``synapse_decay`` and ``synapse_order``
        charge   u = decay·v + gain·I + bias
        fire     n = clip(round(u/θ), least, max_spikes)  the count, by ``rounding``; ``strict`` is u > nθ
        reset    subtract: u - n·reset_by   value: reset_to where n > 0   none
        clamp    v = max(u, v_min)
        output   n · output_scale

    ``reset_next`` applies the reset to the charged membrane of the *following* step. A neuron
    with ``max_spikes`` 0 never fires and delivers its membrane (readout). ``decay`` 0 makes it
    stateless (SFA), 1 an integrate-and-fire neuron.

    Attributes:
        threshold: θ, one or per channel; positive.
        max_spikes: largest count a timestep (D of SFA, 1 of a binary neuron, 0 for a readout).
        signed: counts from -max_spikes, a quantizer of currents; without memory only.
        reset_by: what one spike subtracts; the threshold if absent.
        v_init: membrane potential before the first timestep.
    """

    kind = "neuron"
    families = FLOAT_ONLY
    threshold: Number = 1.0
    max_spikes: int = 1
    signed: bool = False
    rounding: Rounding = Rounding.FLOOR
    strict: bool = False
    decay: Number = 0
    gain: Number = 1
    bias: Number = 0
    synapse_decay: Number | None = None
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
    def least(self) -> int:
        """Smallest count of an update."""
        return -self.max_spikes if self.signed else 0

    @property
    def is_stateless(self) -> bool:
        """Whether nothing of one timestep reaches the next."""
        return self.decay == 0 and self.synapse_decay is None and not self.reset_next

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(self.max_spikes >= 0, self, "max_spikes must not be negative", self.max_spikes)
        low = values_of(self.threshold).min()
        want(bool(low > 0), self, "threshold must be positive", low)
        want(
            not (self.strict and self.rounding is not Rounding.FLOOR), self, "strict goes with rounding=floor"
        )
        want(
            not self.signed or (self.is_stateless and not self.is_readout),
            self,
            "signed goes with spikes and without memory",
        )
        for name in PER_CHANNEL:
            value = getattr(self, name)
            ok = not isinstance(value, Const) or value.shape == x.shape[:1]
            want(ok, self, f"{name} must be one number or [C]", getattr(value, "shape", None), x.shape[:1])
        if self.is_readout:
            return Current(x.shape, x.dtype if isinstance(x, Current) else "f32")
        return Spikes(x.shape, self.max_spikes, self.signed, unit=float(self.output_scale))


# Fields of a float neuron that are membrane potentials and scale with it.
POTENTIALS = ("threshold", "bias", "reset_by", "reset_to", "v_min", "v_init")
# Those that may be one number a channel.
PER_CHANNEL = (*POTENTIALS, "decay", "gain", "synapse_decay")


@dataclass(frozen=True, kw_only=True)
class IntegerNeuron(Node):
    """The neuron of integer graphs: one update of its :class:`Cell` a timestep."""

    kind = "integer_neuron"
    families = INTEGER_ONLY
    cell: Cell

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.cell.is_readout

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        _check_cell(self, self.cell, x)
        if self.is_readout:
            return Current(x.shape, "i32")
        return Spikes(x.shape, self.cell.max_spikes, self.cell.signed)


def _check_cell(node: Node, cell: Cell, x: ValueType) -> None:
    for what, got, limit in cell.problems(x.shape[:1]):
        want(False, node, what, got, limit)


def numbers(node: Node) -> dict[str, Any]:
    """Every attribute of a node by name, those of its cell among them."""
    found = {f.name: getattr(node, f.name) for f in fields(node)}
    cell = found.pop("cell", None)
    return found if cell is None else found | {f.name: getattr(cell, f.name) for f in fields(cell)}


@dataclass(frozen=True, kw_only=True)
class Encode(Node):
    """Spike graphs only: an integer n becomes n single spikes at micro-steps 0..n-1 of the window.

    With ``graded`` it becomes one event that carries n, of either sign, at micro-step 0.
    """

    kind = "encode"
    families = SPIKE_ONLY
    graded: bool = False

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(isinstance(x, Spikes), self, "takes spikes", x)
        assert isinstance(x, Spikes)
        want(self.graded or not x.signed, self, "signed counts travel as graded events", x)
        return Spikes(x.shape, x.levels, x.signed) if self.graded else Spikes(x.shape, 1)


@dataclass(frozen=True, kw_only=True)
class WindowNeuron(Node):
    """The neuron of spike graphs: its :class:`Cell`, spread over the micro-steps of a window.

    With ``release=window`` the input of timestep t collects in a second accumulator ``a``. At
    micro-step ``phase + t·period`` (period: the graph's ``micro_steps``) the cell is charged with it
    and its pre-charge, ``a`` is emptied, and for ``max_spikes`` micro-steps it fires once wherever
    u ≥ θ, u -= θ. At the window's end the pre-charge is taken off and the cell settles: the count of a
    window is the cell's count of one update (docs/semantics.md#windows). With ``graded`` the count leaves at
    once, as one event that carries it (Loihi 2); only such a neuron may be signed.

    With ``release=stream`` (clocked chips, one timestep) the membrane starts at ``v_init + bias +
    precharge`` and in every micro-step from ``phase`` to the end adds what arrived and fires once
    if it is at or over θ, at most ``max_spikes`` times if ``capped``.

    With ``release=free`` the membrane starts at ``v_init + bias + precharge`` and fires once in
    every update that leaves it at or over θ, as an event-driven chip does, at most ``max_spikes``
    times if ``capped``.

    Attributes:
        phase: first micro-step of the first window.
        sites: uint8 [H, W], 0 where a map has no neurons: they neither charge nor fire, and hold 0. None:
            everywhere.
    """

    kind = "window_neuron"
    families = SPIKE_ONLY
    cell: Cell
    graded: bool = False
    phase: int = 0
    release: Release = Release.WINDOW
    capped: bool = True
    sites: Const | None = None

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.cell.is_readout

    @property
    def where(self) -> Any:
        """1 where there are neurons and 0 elsewhere, ready to broadcast over [N, C, H, W]."""
        return 1 if self.sites is None else self.sites.array.astype(np.int64)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        _check_cell(self, self.cell, x)
        want(self.phase >= 0, self, "phase must not be negative", self.phase)
        if self.sites is not None:
            want(self.sites.shape == x.shape[1:], self, "sites must be [H, W]", self.sites.shape, x.shape[1:])
        at_once = self.graded and not self.is_readout and self.release is Release.WINDOW
        want(at_once or not self.cell.signed, self, "signed goes with graded windows")
        if self.is_readout:
            return Current(x.shape, "i32")
        return Spikes(x.shape, self.cell.max_spikes if self.graded else 1, self.cell.signed)


@dataclass(frozen=True, kw_only=True)
class Hold(Node):
    """Spike graphs only: what its input sends in the first micro-step of a window, held until its end.

    One operand of a product, which the other meets micro-step by micro-step. Windows begin at the
    multiples of the graph's ``micro_steps``; what is held must be complete in that first micro-step, as
    single spikes and graded events are (docs/semantics.md#products).
    """

    kind = "hold"
    families = SPIKE_ONLY

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x = only(self, args)
        want(isinstance(x, Spikes), self, "takes spikes", x)
        return x


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
