"""snncc: from a trained PyTorch spiking network to a neuromorphic chip, verified on the way.

The verbs of the command line are functions here: :func:`compile`, :func:`check`, :func:`verify`,
:func:`simulate`, :func:`energy`, :func:`report`, :func:`export`, :func:`load_model`, :func:`open_artifact`;
:func:`register_neuron` tells snncc what a neuron class of your own computes. They load on first
use, so that ``import snncc`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snncc.api import (
        check,
        compile,
        energy,
        export,
        load_model,
        open_artifact,
        register_neuron,
        report,
        simulate,
        verify,
    )

__all__ = [
    "check",
    "compile",
    "energy",
    "export",
    "load_model",
    "open_artifact",
    "register_neuron",
    "report",
    "simulate",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from snncc import api

        return getattr(api, name)
    raise AttributeError(f"module 'snncc' has no attribute {name!r}")
