"""PyTorch frontend: trainable neurons, capture of trained modules, safe files.

Here stand what users name (:mod:`.nn`, :mod:`.zoo`, :mod:`.registry`, :mod:`.sfa_neurons`) and
:mod:`.capturing`, which takes a module through the rooms: ``tracing``, ``neurons``, ``operations``,
``comparing``; ``files`` reads and writes what lies on disk. An import goes from a later to an earlier
of ``registry``, ``neurons``, ``operations``, ``tracing``, ``comparing``, ``capturing``, ``files``.

torch is imported when one of the names is first used, so that the plugin registers at no cost.
No module here bears a public function's name: ``snncc_torch.capture`` is always the function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snncc_torch import nn, sfa_neurons, zoo
    from snncc_torch.capturing import capture
    from snncc_torch.files.description import describe
    from snncc_torch.files.exporting import export
    from snncc_torch.registry import NeuronSpec, register_neuron

__all__ = ["NeuronSpec", "capture", "describe", "export", "nn", "register_neuron", "sfa_neurons", "zoo"]

_HOMES = {
    "capture": "capturing", "describe": "files.description", "export": "files.exporting",
    "NeuronSpec": "registry", "register_neuron": "registry",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("nn", "sfa_neurons", "zoo"):
        return import_module(f"snncc_torch.{name}")
    if name in _HOMES:
        return getattr(import_module(f"snncc_torch.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'snncc_torch' has no attribute {name!r}")
