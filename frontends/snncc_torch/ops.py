"""Operators of our own: one that stands for a recognised neuron while a module is traced, and a gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.library.custom_op("snncc::neuron", mutates_args=())
def neuron(x: Tensor, site: int) -> Tensor:
    """A recognised neuron, of what its module takes ([B, ...] or [T, B, ...]); only traced, never run."""
    return x.clone()


@neuron.register_fake
def _(x: Tensor, site: int) -> Tensor:
    return torch.empty_like(x)


class Site(nn.Module):
    """Stands in the place of the recognised neuron number ``index`` while the module is traced."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        """One call of the opaque operator; ``x`` and result as the module's, [B, ...] or [T, B, ...]."""
        result: Tensor = neuron(x, self.index)
        return result


def swap(root: nn.Module, sites: dict[int, int]) -> nn.Module:
    """Replace neurons in ``root`` by their sites, wherever they are registered.

    Args:
        root: module to change in place.
        sites: site number by ``id`` of a neuron module.

    Returns:
        ``root``, or the site if ``root`` itself is a neuron.
    """
    if id(root) in sites:
        return Site(sites[id(root)])
    for module in list(nn.Module.modules(root)):
        for name, child in module._modules.items():
            if child is not None and id(child) in sites:
                module._modules[name] = Site(sites[id(child)])
    return root


# ---- the gate of a spike sparse convolution, mode "centre" -----------------------------------------


def fired_centres(spikes: Tensor, sites: Tensor, stride: list[int], offset: list[int]) -> Tensor:
    """Whether any channel of ``spikes`` [B, C, H, W] is not 0 at o·stride + offset, bool [B, OH, OW]."""
    fired = (spikes != 0).any(1)
    for axis, count in enumerate(sites.shape):
        at = torch.arange(count, device=spikes.device) * stride[axis] + offset[axis]
        size = fired.shape[1 + axis]
        inside = ((at >= 0) & (at < size)).reshape((-1, 1) if axis == 0 else (1, -1))
        fired = fired.index_select(1 + axis, at.clamp(0, size - 1)) & inside
    return fired


@torch.library.custom_op("snncc::centre_gate", mutates_args=())
def centre_gate(x: Tensor, spikes: Tensor, sites: Tensor, stride: list[int], offset: list[int]) -> Tensor:
    """``x`` [B, C, OH, OW] where ``sites`` [OH, OW] is not 0 and a channel fired at the centre, else 0."""
    return x * (fired_centres(spikes, sites, stride, offset) & sites.bool()).unsqueeze(1)


@centre_gate.register_fake
def _(x: Tensor, spikes: Tensor, sites: Tensor, stride: list[int], offset: list[int]) -> Tensor:
    return torch.empty_like(x)


def _keep_open(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, spikes, sites, stride, offset = inputs
    ctx.save_for_backward(fired_centres(spikes, sites, stride, offset) & sites.bool())


def _open_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    (kept,) = ctx.saved_tensors
    return grad * kept.unsqueeze(1), None, None, None, None


centre_gate.register_autograd(_open_gradient, setup_context=_keep_open)
