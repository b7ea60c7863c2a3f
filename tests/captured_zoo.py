"""The zoo's small models with their captured graphs, each captured once a run."""

from __future__ import annotations

from functools import cache

from torch import Tensor, nn

from snncc.model import Model
from snncc_torch.capturing import modelled, trace
from snncc_torch.comparing.lockstep import Traced
from snncc_torch.zoo import reduced


@cache
def traced(name: str) -> tuple[nn.Module, Tensor, Traced]:
    """Module, example input of batch 1 and trace of an entry of ``zoo.REDUCED``; nobody changes them."""
    module, example = reduced(name)
    return module, example, trace(module, example, timesteps=getattr(module, "T", None))


@cache
def captured(name: str) -> tuple[nn.Module, Tensor, Model]:
    """The same, captured."""
    module, example, found = traced(name)
    return module, example, modelled(found)
