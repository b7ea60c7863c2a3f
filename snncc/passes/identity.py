"""Weights of one: synapses that pass a value on as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from snncc.ir import Const, Conv2d, Linear
from snncc.ir.synapses import Weighted


def identity(
    name: str, reads: str, shape: tuple[int, ...], source: str, dtype: DTypeLike = np.int8, factor: int = 1
) -> Weighted:
    """Weights ``factor`` from each element of a map [C, H, W] or vector [C] to the same of another."""
    if len(shape) == 3:
        ones = Const(np.full((shape[0], 1, 1, 1), factor, dtype))
        return Conv2d(name=name, inputs=(reads,), source=source, weight=ones, groups=shape[0])
    ones = Const(factor * np.eye(shape[-1], dtype=dtype))
    return Linear(name=name, inputs=(reads,), source=source, weight=ones)
