"""The opaque operator that stands for a recognised neuron while torch.export traces a module."""

from __future__ import annotations

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
