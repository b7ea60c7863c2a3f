"""Data sets of the command line: ``.npz`` files with ``x`` and optionally ``y``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, fail, problem, raise_all
from snncc.ir.graph import Graph
from snncc.ir.types import Spikes
from snncc.safeio import load_npz

# Inputs are held as int64 or float32 with all timesteps; more than this belongs into several runs.
LIMIT_BYTES = 4 << 30


@dataclass(frozen=True)
class Dataset:
    """Inputs of a network.

    Attributes:
        x: [N, T, *shape]; int64 where the input is spike counts, else float32.
        y: classes [N] int64, or None.
        origin: where it came from, for messages.
    """

    x: Array
    y: Array | None = None
    origin: str = "data"

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int) -> Dataset:
        """The first ``count`` samples."""
        return Dataset(self.x[:count], None if self.y is None else self.y[:count], self.origin)


def load_dataset(path: Path, graph: Graph) -> Dataset:
    """Data of an ``.npz`` file, checked against a graph's input.

    Raises:
        DataError: SNNC-D001 to D008, all problems at once.
        UsageError: SNNC-U001 if there is no such file.
    """
    arrays = load_npz(path, ("x", "y"))
    if "x" not in arrays:
        raise fail("SNNC-D002", str(path), "has no array `x`", hint="np.savez(path, x=inputs, y=classes)")
    return as_dataset(arrays["x"], arrays.get("y"), graph, str(path))


def as_dataset(x: Any, y: Any, graph: Graph, origin: str) -> Dataset:
    """Arrays as a data set of ``graph``; ``x`` is [N, *shape] or [N, T, *shape].

    Raises:
        DataError: SNNC-D003 to D006, all problems at once.
    """
    inputs = np.asarray(x)
    problems = list(_input_problems(inputs, graph, f"{origin}: x"))
    labels = None if y is None else np.asarray(y)
    if labels is not None:
        problems += _label_problems(labels, len(inputs) if inputs.ndim else 0, graph, f"{origin}: y")
    raise_all(problems)
    if len(inputs) * graph.steps * graph.elements(graph.input.name) * 8 > LIMIT_BYTES:
        size = f"{len(inputs)} samples of {graph.steps} x {graph.elements(graph.input.name)} values"
        raise fail(
            "SNNC-D008",
            f"{origin}: x",
            "takes too much memory",
            got=size,
            limit=f"{LIMIT_BYTES >> 30} GiB",
            hint="fewer samples at a time",
        )
    if inputs.ndim == len(graph.input.shape) + 1:
        # One frame is shown at every timestep, as direct encoding does.
        inputs = np.broadcast_to(inputs[:, None], (len(inputs), graph.steps, *graph.input.shape))
    dtype = np.int64 if graph.input.levels else np.float32
    return Dataset(inputs.astype(dtype), None if labels is None else labels.astype(np.int64), origin)


def _input_problems(x: Array, graph: Graph, where: str) -> list[Problem]:
    shape, steps = graph.input.shape, graph.steps
    allowed = [list(shape)] + ([[steps, *shape]] if x.ndim == len(shape) + 2 else [])
    if not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)):
        return [problem("SNNC-D003", where, "must hold numbers", got=x.dtype, limit="integers or floats")]
    if x.ndim < 2 or list(x.shape[1:]) not in allowed or len(x) == 0:
        want = f"[N, {', '.join(map(str, shape))}] or [N, {steps}, {', '.join(map(str, shape))}], N ≥ 1"
        return [problem("SNNC-D004", where, "has the wrong shape", got=list(x.shape), limit=want)]
    found = []
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        found.append(
            problem("SNNC-D005", where, "holds NaN or infinity", got=f"{int((~np.isfinite(x)).sum())} values")
        )
    kind = graph.types[graph.input.name]
    if not found and isinstance(kind, Spikes):
        bad = (x < 0) | (x > kind.levels) | (x != np.rint(x))
        if bad.any():
            value = x[tuple(np.argwhere(bad)[0])]
            found.append(
                problem(
                    "SNNC-D006",
                    where,
                    "the input is spike counts",
                    got=f"{value} and {int(bad.sum()) - 1} more",
                    limit=f"whole numbers 0..{kind.levels}",
                )
            )
    return found


def _label_problems(y: Array, samples: int, graph: Graph, where: str) -> list[Problem]:
    if not np.issubdtype(y.dtype, np.integer):
        return [problem("SNNC-D003", where, "must hold class numbers", got=y.dtype, limit="integers")]
    if y.shape != (samples,):
        return [problem("SNNC-D004", where, "has the wrong shape", got=list(y.shape), limit=f"[{samples}]")]
    classes = graph.elements(graph.output.name)
    if y.size and not (y.min() >= 0 and y.max() < classes):
        return [
            problem(
                "SNNC-D009",
                where,
                "names classes that the network does not have",
                got=f"{y.min()}..{y.max()}",
                limit=f"0..{classes - 1}",
            )
        ]
    return []
