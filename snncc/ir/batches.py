"""Graphs on whole data sets: run in pieces that bound memory, and what the results decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from snncc.arrays import Array
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.interp import Run, run
from snncc.ir.node import Decode, OverTime

CHUNK = 128  # samples that are computed at once, at most
MOST_ELEMENTS = 1 << 24  # of the largest value, in all samples that are computed at once: 128 MiB of int64


def chunks(graph: Graph, samples: int) -> Iterator[slice]:
    """Runs of samples that are computed at once: fewer where a network's values are large."""
    bodies = (n.body for n in graph.nodes if isinstance(n, HostRegion))
    largest = max(g.elements(n.name) for g in (graph, *bodies) for n in g.nodes)
    count = max(1, min(CHUNK, MOST_ELEMENTS // max(1, largest)))
    return (slice(i, i + count) for i in range(0, samples, count))


def in_chunks(
    graph: Graph, x: Array, keep: tuple[str, ...] | None = None, host: Mapping[str, Array] | None = None
) -> Run:
    """:func:`snncc.ir.interp.run` of inputs [N, T, *shape] in pieces that bound memory."""
    runs = []
    for some in chunks(graph, len(x)):
        runs.append(run(graph, x[some], keep, {name: v[some] for name, v in (host or {}).items()}))
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
