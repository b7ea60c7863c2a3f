"""The neurons of :mod:`snncc_torch.nn`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snncc_torch.registry import NeuronSpec, Recogniser


def _sfa(module: Any) -> NeuronSpec:
    levels = int(module.D)
    scale = 1.0 / levels if module.normalize else 1.0
    return NeuronSpec(layout="none", max_spikes=levels, rounding="half_even", output_scale=scale)


def _integrator(module: Any) -> NeuronSpec:
    decay, gain = module.factors()
    hard = module.v_reset is not None
    rest = float(module.v_reset) if hard else 0.0
    return NeuronSpec(
        layout="multi" if module.step_mode == "m" else "single", threshold=float(module.v_threshold),
        decay=decay, gain=gain, reset="value" if hard else "subtract", reset_to=rest, v_init=rest,
    )  # fmt: skip


def _integer(module: Any) -> NeuronSpec:
    """The integrator's membrane under SFA's fire function."""
    scale = 1.0 / module.D if module.normalize else 1.0
    levels = int(module.D)
    return replace(_integrator(module), max_spikes=levels, rounding="half_even", output_scale=scale)


NEURONS: dict[str, Recogniser] = {
    "snncc_torch.nn.SFA": _sfa,
    "snncc_torch.nn.ILIF": _integer,
    "snncc_torch.nn.IF": _integrator,
    "snncc_torch.nn.LIF": _integrator,
}


def dyadic(module: Any) -> None:
    """Give a copy of a neuron parameters in which float arithmetic is exact, so that ties are real.

    It resets to 0: a membrane that halves from elsewhere carries a fraction that never is a tie.
    """
    module.v_threshold = 1.0
    if hasattr(module, "tau"):
        module.tau = 2.0
    if hasattr(module, "decay"):
        module.decay = 0.5
    if module.v_reset is not None:
        module.v_reset = 0.0


TWINS = {name: dyadic for name, recogniser in NEURONS.items() if recogniser in (_integrator, _integer)}
