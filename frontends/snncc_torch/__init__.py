"""PyTorch frontend: trainable neurons, capture of trained modules, safe files.

torch is imported when one of the names is first used, so that the plugin registers at no cost.
No module here bears a public function's name: ``snncc_torch.capture`` is always the function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snncc_torch import nn
    from snncc_torch.capturing import capture
    from snncc_torch.description import describe
    from snncc_torch.exporting import export

__all__ = ["capture", "describe", "export", "nn"]

_HOMES = {"capture": "capturing", "describe": "description", "export": "exporting"}


def __getattr__(name: str) -> Any:
    if name == "nn":
        return import_module("snncc_torch.nn")
    if name in _HOMES:
        return getattr(import_module(f"snncc_torch.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'snncc_torch' has no attribute {name!r}")
