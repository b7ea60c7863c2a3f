"""The neurons of spikingjelly: 2.0 and 0.0.0.0.13/14 ``activation_based``, and older ``clock_driven``.

Equations: docs/semantics.md#neurons-of-libraries. Everything here is a hypothesis that capture verifies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from snncc_torch.registry import NeuronSpec, Recogniser, Refused

BASE = "spikingjelly.activation_based.neuron"
OLD = "spikingjelly.clock_driven.neuron"


def _layout(module: Any) -> str:
    """Old releases have a class for several steps, new ones a mode."""
    if type(module).__name__.startswith("MultiStep"):
        return "multi"
    return "multi" if getattr(module, "step_mode", "s") == "m" else "single"


def _resetting(module: Any, decay: float, gain: float, bias: float) -> NeuronSpec:
    """Fire at ``v >= v_threshold``; without ``v_reset`` subtract the threshold."""
    hard = module.v_reset is not None
    rest = float(module.v_reset) if hard else 0.0
    return NeuronSpec(
        layout=_layout(module), threshold=float(module.v_threshold), decay=decay, gain=gain, bias=bias,
        reset="value" if hard else "subtract", reset_to=rest, v_init=rest,
    )  # fmt: skip


def _leaky(module: Any, k: float) -> NeuronSpec:
    """V + (x - (v - v_reset))·k, or v - (v - v_reset)·k + x without ``decay_input``."""
    rest = 0.0 if module.v_reset is None else float(module.v_reset)
    # Releases before 0.0.0.0.9 have no such switch and decay the input.
    gain = k if getattr(module, "decay_input", True) else 1.0
    return _resetting(module, 1.0 - k, gain, rest * k)


def integrate_and_fire(module: Any) -> NeuronSpec:
    """IFNode: u = v + x."""
    return _resetting(module, 1.0, 1.0, 0.0)


def lif(module: Any) -> NeuronSpec:
    """LIFNode with time constant ``tau``."""
    return _leaky(module, 1.0 / float(module.tau))


def parametric_lif(module: Any) -> NeuronSpec:
    """ParametricLIFNode: sigmoid(w) in the place of 1/tau."""
    return _leaky(module, float(torch.sigmoid(module.w.detach())))


def half_threshold(module: Any) -> NeuronSpec:
    """HalfThresholdIFNode: an IFNode that starts at half its threshold."""
    return replace(integrate_and_fire(module), v_init=float(module.v_threshold) / 2)


def klif(module: Any) -> NeuronSpec:
    """KLIFNode: u = relu(k·LIF charge).

    The relu never changes who fires, so it is the clamp of the membrane at 0 behind the reset,
    unless the reset itself goes below 0. With ``scale_reset`` the membrane is u/k again.
    """
    k, plain = float(module.k.detach()), lif(module)
    if k <= 0:
        raise Refused(f"k must be positive to be a leaky neuron, got {k:g}")
    if plain.reset == "value" and plain.reset_to < 0:
        raise Refused(f"v_reset below 0 is undone by the rectifier of the next step, got {plain.reset_to:g}")
    if module.scale_reset:
        return replace(plain, threshold=plain.threshold / k, v_min=0.0)
    return replace(plain, decay=plain.decay * k, gain=plain.gain * k, bias=plain.bias * k, v_min=0.0)


def ilif(module: Any) -> NeuronSpec:
    """ILIFNode: integer spikes round(clip(u/θ, 0, D)), soft reset."""
    levels = int(module.surrogate_function.max_spike_count)
    return replace(lif(module), max_spikes=levels, rounding="half_even")


def cuba(module: Any) -> NeuronSpec:
    """CUBALIFNode: a current c = c_decay·c + x that charges v = v_decay·v + c."""
    plain = _resetting(module, float(module.v_decay), 1.0, 0.0)
    return replace(plain, synapse_decay=float(module.c_decay), synapse_order="decay_add_read")


def activation_aware(module: Any) -> NeuronSpec:
    """ActivationAwareIFNode: fires at v + offset ≥ θ and subtracts θ."""
    if module.v_threshold.numel() != 1 or module.v_offset.numel() != 1:
        raise Refused("a threshold or an offset per channel is not supported yet")
    theta = float(module.v_threshold)
    plain = integrate_and_fire(module)
    return replace(plain, threshold=theta - float(module.v_offset), reset_by=theta)


def _from_zero(recogniser: Recogniser) -> Recogniser:
    """The Simple... classes start at 0 whatever ``v_reset`` is."""
    return lambda module: replace(recogniser(module), v_init=0.0)


def rest(module: Any) -> None:
    """Put a copy of a neuron of an old release at rest and let it run on a CPU.

    Up to 0.0.0.0.4 nothing but ``reset`` knows what rest is.
    """
    if not type(module).__module__.startswith(OLD):
        return
    if getattr(module, "backend", None) == "cupy":  # the same equations, on a GPU alone
        module.backend = "torch"
    reset = getattr(module, "reset", None)
    if callable(reset):
        reset()


def _set(module: Any, name: str, value: float) -> None:
    """Set an attribute for good: releases from 0.0.0.0.10 count parameters among what a reset restores."""
    setattr(module, name, value)
    resting = getattr(module, "_memories_rv", {})
    if name in resting:
        resting[name] = value


def dyadic(module: Any) -> None:
    """Give a copy of a neuron parameters in which float arithmetic is exact, so that ties are real."""
    _set(module, "v_threshold", 1.0)
    if isinstance(getattr(module, "tau", None), float):
        _set(module, "tau", 2.0)
    if isinstance(getattr(module, "w", None), torch.nn.Parameter):
        module.w = torch.nn.Parameter(torch.zeros_like(module.w))
    if module.v_reset is not None:
        _set(module, "v_reset", 0.25)
    _set(module, "v", 0.0 if module.v_reset is None else module.v_reset)


_FILES: dict[str, dict[str, Recogniser]] = {
    "integrate_and_fire": {
        "IFNode": integrate_and_fire,
        "SimpleIFNode": _from_zero(integrate_and_fire),
        "HalfThresholdIFNode": half_threshold,
        "ActivationAwareIFNode": activation_aware,
    },
    "lif": {"LIFNode": lif, "SimpleLIFNode": _from_zero(lif)},
    "plif": {"ParametricLIFNode": parametric_lif},
    "ilif": {"ILIFNode": ilif},
    "lif_variants": {"KLIFNode": klif, "CUBALIFNode": cuba},
}
_CLOCK_DRIVEN: dict[str, Recogniser] = {
    "IFNode": integrate_and_fire, "LIFNode": lif, "ParametricLIFNode": parametric_lif,
    "MultiStepIFNode": integrate_and_fire, "MultiStepLIFNode": lif,
    "MultiStepParametricLIFNode": parametric_lif,
}  # fmt: skip

NEURONS: dict[str, Recogniser] = {
    f"{BASE}.{file}.{name}": found for file, names in _FILES.items() for name, found in names.items()
}
# 0.0.0.0.13 and .14 have one file for all.
NEURONS |= {f"{BASE}.{name}": found for names in _FILES.values() for name, found in names.items()}
NEURONS |= {f"{OLD}.{name}": found for name, found in _CLOCK_DRIVEN.items()}

TWINS = {
    name: dyadic
    for name in NEURONS
    if name.rpartition(".")[2].removeprefix("MultiStep")
    in ("IFNode", "LIFNode", "ParametricLIFNode", "ILIFNode")
}

_QUADRATIC = "its membrane is charged by a non-linear function of itself"
_ADAPTS = "it has a second state that adapts to its own spikes"
_PARALLEL = "it weighs the inputs of several timesteps, later ones too, in place of a membrane"
_SIGNED = "it fires negative spikes"
_READS = "it returns a list or a statistic of membranes and no spikes"
_REASONS: dict[str, dict[str, str]] = {
    "nonlinear_if": {"QIFNode": _QUADRATIC, "EIFNode": _QUADRATIC},
    "adapt": {"IzhikevichNode": _ADAPTS},
    "psn": {
        "PSN": _PARALLEL,
        "MaskedPSN": "it weighs the inputs of the last k timesteps in place of a membrane",
        "SlidingPSN": "it weighs the inputs of the last k timesteps in place of a membrane",
    },
    "ternary": {"TernaryIFNode": _SIGNED, "TernaryLIFNode": _SIGNED},
    "spikezip": {"STBIFNode": _SIGNED},
    "few_spike": {
        "FewSpikeNode": "its thresholds and spike sizes change from timestep to timestep",
        "OutlierAwareThresholdNode": "its thresholds and spike sizes change from timestep to timestep",
        "HGNode": "its thresholds and spike sizes change from timestep to timestep",
    },
    "lif_variants": {
        "GatedLIFNode": "its leak, reset and conductance are gated, and differ from timestep to timestep",
        "ComplementaryLIFNode": "it has a second (complementary) membrane that changes the reset",
        "LIAFNode": "it delivers a real-valued function of its membrane and no spikes",
    },
    "resonate": {"RAFNode": "it resonates: two coupled states"},
    "integrate_and_fire": {"NonSpikingIFNode": _READS},
    "lif": {"NonSpikingLIFNode": _READS},
    "inter_layer_connection": dict.fromkeys(
        ("ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"), "it feeds its own spikes back by weights of its own"
    ),
    "noisy": dict.fromkeys(
        ("NoisyCUBALIFNode", "NoisyILCCUBALIFNode", "NoisyNonSpikingIFNode"), "it draws noise at every step"
    ),
    "dsr": dict.fromkeys(
        ("DSRIFNode", "DSRLIFNode"), "it stands for a whole spike train: it delivers rates and no spikes"
    ),
    "mpbn": {"MPBNLIFNode": "it normalises its membrane by learned statistics at every timestep"},
    "online_learning": dict.fromkeys(
        ("OTTTLIFNode", "SLTTLIFNode"), "it is made for online training and returns traces beside its spikes"
    ),
    "flexsn": {"FlexSN": "its equations are Python code of yours"},
}  # fmt: skip

# Known, and refused with the reason.
REFUSED: dict[str, str] = {
    f"{prefix}.{name}": reason
    for file, names in _REASONS.items()
    for name, reason in names.items()
    for prefix in (f"{BASE}.{file}", BASE)
}
RESHAPING = frozenset(name for name in REFUSED if "NonSpiking" in name)
REFUSED |= {
    f"{OLD}.{name}": reason
    for name, reason in {
        "QIFNode": _QUADRATIC, "EIFNode": _QUADRATIC, "MultiStepEIFNode": _QUADRATIC,
        "LIAFNode": _REASONS["lif_variants"]["LIAFNode"],
        **dict.fromkeys(("GeneralNode", "MultiStepGeneralNode"), "its equations are Python code of yours"),
    }.items()
}  # fmt: skip
