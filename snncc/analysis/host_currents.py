"""Currents of the host: how far their signed counts reach, and samples that may have been cut there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from snncc.analysis.certificate import LayerRange
from snncc.arrays import Array
from snncc.ir.batches import chunks
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.interp import host_values
from snncc.ir.types import Spikes

_REAL = (-(2**31), 2**31 - 1)  # what a host computes of real inputs has no bound


def signed_regions(graph: Graph) -> dict[str, int]:
    """Host regions that count currents, and their largest counts."""
    kinds = {n.name: graph.types[n.name] for n in graph.nodes if isinstance(n, HostRegion)}
    return {name: kind.levels for name, kind in kinds.items() if isinstance(kind, Spikes) and kind.signed}


def host_ranges(graph: Graph, calibration: Array) -> Iterator[LayerRange]:
    """The certificate's entry for each current of the host; conditional, for real inputs have no bound.

    Args:
        graph: of the integer family.
        calibration: inputs [N, T, *shape].
    """
    regions = signed_regions(graph)
    if not regions:
        return
    parts = [host_values(graph, calibration[some]) for some in chunks(graph, len(calibration))]
    for name, levels in regions.items():
        bits = levels.bit_length() + 1
        seen = [(int(p[name].min(initial=0)), int(p[name].max(initial=0))) for p in parts]
        yield LayerRange(
            layer=name,
            quantity="current of the host",
            bits=bits,
            word_low=-(2 ** (bits - 1)),
            word_high=2 ** (bits - 1) - 1,
            all_inputs=_REAL,
            observed=(min(low for low, _ in seen), max(high for _, high in seen)),
            allowed=(1 - levels, levels - 1),
            proven=False,
        )


def cut_samples(graph: Graph, host: Mapping[str, Array]) -> Iterator[tuple[str, list[int], int]]:
    """Per current of the host: its name, samples whose counts reached their end, and how many did.

    ``host`` holds the counts [N, T, *shape] of the regions by name. Names without such samples are left out.
    """
    for name, levels in signed_regions(graph).items():
        at_end = np.abs(host[name]) >= levels
        samples = np.flatnonzero(at_end.reshape(len(at_end), -1).any(axis=1))
        if len(samples):
            yield name, [int(s) for s in samples], int(at_end.sum())
