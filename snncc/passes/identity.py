"""Weights of one and neurons of one spike's worth: they pass a value on as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from snncc.ir import Const, Conv2d, Linear, Neuron, Node, Rounding, SiteGate, Spikes
from snncc.ir.sites import Bitmap, sites_const
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


def kept_closed(weights: Weighted, sites: Bitmap | None) -> tuple[Node, ...]:
    """Weights of one, and behind them a gate of the sites at which alone their source has anything.

    So that all that meets in a sum is closed at the same sites. ``sites`` None: it has everywhere.
    """
    if sites is None or sites.all():
        return (weights,)
    gate = f"{weights.name}.gate"
    return (
        weights,
        SiteGate(name=gate, inputs=(weights.name,), source=weights.source, sites=sites_const(sites)),
    )


def counting(name: str, reads: str, source: str, kind: Spikes) -> Neuron:
    """Sends as many spikes of a kind as it gets the worth of."""
    return Neuron(
        name=name,
        inputs=(reads,),
        source=source,
        threshold=kind.unit,
        max_spikes=kind.levels,
        rounding=Rounding.HALF_UP,
        output_scale=kind.unit,
    )
