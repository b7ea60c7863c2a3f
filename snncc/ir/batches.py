"""Graphs on whole data sets: run in pieces that bound memory, and what the results decide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snncc.arrays import Array
from snncc.ir.graph import Graph
from snncc.ir.interp import Run, run
from snncc.ir.node import Decode, OverTime

CHUNK = 128  # samples that are computed at once


def in_chunks(
    graph: Graph, x: Array, keep: tuple[str, ...] | None = None, host: Mapping[str, Array] | None = None
) -> Run:
    """:func:`snncc.ir.interp.run` of inputs [N, T, *shape] in pieces that bound memory."""
    runs = []
    for i in range(0, len(x), CHUNK):
        part = {name: v[i : i + CHUNK] for name, v in (host or {}).items()}
        runs.append(run(graph, x[i : i + CHUNK], keep, part))
    values = {name: np.concatenate([r.values[name] for r in runs]) for name in runs[0].values}
    return Run(values, np.concatenate([r.result for r in runs]))


def decisions(graph: Graph, result: Array) -> Array:
    """Largest class score of each sample, over the flattened result; scores of several timesteps add up."""
    output = graph.output
    per_step = graph.steps > 1 and output.over_time is OverTime.NONE and output.decode is not Decode.MEMBRANE
    scores = result.sum(axis=1) if per_step else result
    return np.asarray(scores.reshape(len(scores), -1).argmax(axis=1))


def accuracy(graph: Graph, result: Array, labels: Array | None) -> float | None:
    """Share of samples [N, ...] decided as labelled."""
    return None if labels is None else float((decisions(graph, result) == labels).mean())
