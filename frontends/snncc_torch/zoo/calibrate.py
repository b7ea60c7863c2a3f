"""BatchNorm statistics from data, so that an untrained network spikes in every layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snncc_torch.masked import MaskedBatchNorm2d
from snncc_torch.nn import IF, ILIF, LIF, SFA


def _set_statistics(norm: nn.Module, inputs: tuple[Any, ...], mean: float, std: float) -> None:
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
        raise TypeError(f"calibrate_batchnorm: not a BatchNorm: {type(norm).__name__}")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("calibrate_batchnorm: a BatchNorm does not track running statistics")
    x: Tensor = inputs[0]
    if isinstance(norm, MaskedBatchNorm2d):
        x = norm.kept_values(x, inputs[1])
    axes = [axis for axis in range(x.dim()) if axis != 1]
    var = x.var(axes, correction=0)
    # A channel that hardly varies would be blown up: give it a share of the layer's variance.
    var = var.clamp_min(float(var.mean()) * 0.05 + 1e-6)
    norm.running_var.copy_(var / std**2)
    norm.running_mean.copy_(x.mean(axes) - mean * (var.sqrt() / std))


def calibrate_batchnorm(
    module: nn.Module, inputs: Tensor, mean: float = 0.5, std: float = 2.0
) -> dict[str, float]:
    """Set every BatchNorm's running statistics from one pass over ``inputs``, in place.

    Before its weight and bias apply, each norm then has the given mean and standard deviation over
    ``inputs``. Layers are set in the order in which they run, each on what the calibrated ones before
    it deliver. Weights are untouched and the training flag is as before.

    Args:
        module: model.
        inputs: what it takes; a few varied samples.
        mean: of the normalised currents; more makes neurons fire more.
        std: of the normalised currents.

    Returns:
        For each neuron of :mod:`snncc_torch.nn`, by module path, the share of outputs that are not 0.

    Raises:
        ValueError: a neuron stayed silent.
    """
    training = module.training
    rates: dict[str, float] = {}

    def norm_hook(norm: nn.Module, args: tuple[Any, ...]) -> None:
        _set_statistics(norm, args, mean, std)

    handles = []
    for path, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            handles.append(part.register_forward_pre_hook(norm_hook))
        elif isinstance(part, SFA | ILIF | IF | LIF):

            def neuron_hook(_: nn.Module, __: Any, spikes: Tensor, path: str = path) -> None:
                rates[path] = float((spikes != 0).float().mean())

            handles.append(part.register_forward_hook(neuron_hook))
    try:
        with torch.no_grad():
            module.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
        module.train(training)
    silent = [path for path, rate in rates.items() if rate == 0]
    if silent:
        raise ValueError(
            f"calibrate_batchnorm: neurons that stayed silent: {', '.join(silent)}. "
            "Try a larger mean or std, or more varied inputs."
        )
    return rates
