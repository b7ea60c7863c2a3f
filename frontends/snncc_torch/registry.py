"""What a user says a neuron class computes: :func:`register_neuron` and :class:`NeuronSpec`.

Nothing here needs torch, so that a model's file may register its classes at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

from snncc.errors import fail
from snncc.ir import Neuron, Reset, Rounding, SynapseOrder

LAYOUTS = ("none", "single", "multi", "batch_first", "squeezed")


class Refused(ValueError):  # noqa: N818 - caught inside the frontend, which makes the error of it
    """A neuron that snncc knows and cannot express; the message says why."""


@dataclass(frozen=True, kw_only=True)
class NeuronSpec:
    """What a neuron module computes, one update a timestep.

    In order, with drive ``x``, membrane potential ``v`` and optionally a synaptic current ``i``::

        synapse  I = x, or one pole with ``synapse_decay`` and ``synapse_order``
        charge   u = decay·v + gain·I + bias
        fire     n = clip(round(u / threshold), 0, max_spikes), by ``rounding``; ``strict``: u > threshold
        reset    "subtract": u - n·reset_by   "value": reset_to where n > 0   "none"
        clamp    v = max(u, v_min)
        output   n · output_scale

    Every number holds for all channels. snncc drives the module itself and refuses it where its
    outputs differ from these.

    Attributes:
        layout: what the module takes: ``multi`` [T, B, ...]; ``batch_first`` [B, T, ...];
            ``squeezed`` [B·T, ...]; ``single`` [B, ...], one timestep from rest; ``none`` any
            tensor, as it keeps no state.
        threshold: θ, positive.
        max_spikes: largest count a timestep (D); 0 for a readout that delivers ``u``.
        rounding: ``floor``, ``half_up`` or ``half_even``.
        reset_by: what one spike subtracts; the threshold if None.
        unbounded: the module knows no largest count: ``max_spikes`` is what snncc assumes.
        note: what a user should know, for the report.
    """

    layout: str = "multi"
    threshold: float = 1.0
    max_spikes: int = 1
    rounding: str = "floor"
    strict: bool = False
    decay: float = 0.0
    gain: float = 1.0
    bias: float = 0.0
    synapse_decay: float | None = None
    synapse_order: str = "decay_add_read"
    reset: str = "subtract"
    reset_by: float | None = None
    reset_to: float = 0.0
    v_min: float | None = None
    v_init: float = 0.0
    output_scale: float = 1.0
    unbounded: bool = False
    note: str = ""

    def neuron(self) -> Neuron:
        """The canonical neuron, without name and inputs.

        Raises:
            ValueError: for a word that none of the fields takes.
        """
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}, expected one of {', '.join(LAYOUTS)}")
        return Neuron(
            name="", threshold=self.threshold, max_spikes=self.max_spikes, rounding=Rounding(self.rounding),
            strict=self.strict, decay=self.decay, gain=self.gain, bias=self.bias,
            synapse_decay=self.synapse_decay, synapse_order=SynapseOrder(self.synapse_order),
            reset=Reset(self.reset), reset_by=self.reset_by, reset_to=self.reset_to, v_min=self.v_min,
            v_init=self.v_init, output_scale=self.output_scale,
        )  # fmt: skip


Recogniser = Callable[[Any], NeuronSpec]

# By full class name: what the user registered. A string names the known class that it is like.
REGISTERED: dict[str, Recogniser | str] = {}


@overload
def register_neuron(name: str | type, recogniser: Recogniser | str) -> None: ...
@overload
def register_neuron(name: str | type, recogniser: None = None) -> Callable[[Recogniser], Recogniser]: ...
def register_neuron(
    name: str | type, recogniser: Recogniser | str | None = None
) -> Callable[[Recogniser], Recogniser] | None:
    """Tell snncc what a neuron class of your own computes.

    As a function, with a recogniser of yours or of :mod:`snncc_torch.sfa_neurons`, or with the full
    name of a known class that yours is like; or as a decorator::

        snncc.register_neuron("models.MultiSpike", snncc_torch.sfa_neurons.multi_spike)
        snncc.register_neuron("models.MyLIF", "spikingjelly.activation_based.neuron.lif.LIFNode")

        @snncc.register_neuron("models.Leaky")
        def leaky(module):
            return NeuronSpec(decay=module.beta, threshold=module.theta)

    What is registered is a claim: each module is driven at capture time and refused (SNNC-M005)
    where it computes something else. Registering a class again replaces what was said before.

    Args:
        name: full name of the class as Python has it (``package.module.Class``), or the class.
        recogniser: from a module to its :class:`NeuronSpec`, or the full name of a known class.

    Raises:
        UsageError: SNNC-U005 if ``name`` is no full name or belongs to torch.nn.
    """
    full = name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}"
    if "." not in full or full.startswith("torch."):
        what = "register_neuron takes the full name of a neuron class"
        raise fail("SNNC-U005", full, what, hint="package.module.Class, or the class itself")
    if recogniser is None:

        def decorate(function: Recogniser) -> Recogniser:
            REGISTERED[full] = function
            return function

        return decorate
    REGISTERED[full] = recogniser
    return None
