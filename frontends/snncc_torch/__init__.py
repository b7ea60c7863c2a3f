"""PyTorch frontend: trainable neurons, capture of trained modules, safe files.

torch is imported when one of the names is first used, so that the plugin registers at no cost.
No module here bears a public function's name: ``snncc_torch.capture`` is always the function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snncc_torch import nn, sfa_neurons, zoo
    from snncc_torch.capturing import capture
    from snncc_torch.description import describe
    from snncc_torch.exporting import export
    from snncc_torch.registry import NeuronSpec, register_neuron

__all__ = ["NeuronSpec", "capture", "describe", "export", "nn", "register_neuron", "sfa_neurons", "zoo"]

_HOMES = {
    "capture": "capturing", "describe": "description", "export": "exporting",
    "NeuronSpec": "registry", "register_neuron": "registry",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("nn", "sfa_neurons", "zoo"):
        return import_module(f"snncc_torch.{name}")
    if name in _HOMES:
        return getattr(import_module(f"snncc_torch.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'snncc_torch' has no attribute {name!r}")
