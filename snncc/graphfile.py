"""Graph files: one ``.snnc`` file holds a captured model and nothing that runs.

A safetensors file whose metadata hold the text form of the float graph and what came with it; the
arrays stand beside it by digest, calibration inputs as ``calibration/x`` and ``calibration/y``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import Problem, SnnccError, fail, problem, raise_all
from snncc.ir import Const, Family, Graph, HostRegion, Node, parse, to_text
from snncc.ir.const import DTYPES, values_of
from snncc.ir.neurons import numbers
from snncc.model import Comparison, Model
from snncc.safeio import LIMITS, Limits, read_tensors, shown, tensor_bytes, write_whole

VERSION = "1"
SUFFIX = ".snnc"
# Elements of one value (a sample at one timestep) and timesteps of a sample.
MAX_ELEMENTS = 2**28
MAX_STEPS = 1_000_000
MAX_TEXT = 32 * 2**20


def write_graph_file(path: Path, model: Model, *, force: bool = False) -> None:
    """Write ``model`` as a graph file, whole or not at all.

    Args:
        path: must end in ``.snnc``.
        model: with a float graph.
        force: overwrite an existing file.

    Raises:
        UsageError: SNNC-U005 for another suffix, SNNC-U002 if the file exists, SNNC-U003 if it
            cannot be written.
    """
    if path.suffix != SUFFIX:
        raise fail(
            "SNNC-U005", shown(str(path)), "a graph file ends in .snnc", got=path.suffix or "no suffix"
        )
    arrays: dict[str, NDArray[Any]] = dict(model.graph.constants())
    if model.calibration is not None:
        arrays["calibration/x"] = _compact(model.calibration, model.graph.input.levels)
    if model.labels is not None:
        arrays["calibration/y"] = np.asarray(model.labels, np.int64)
    about = {
        "comparison": None if model.comparison is None else asdict(model.comparison),
        "notes": list(model.notes),
        "origin": model.origin,
    }
    metadata = {"snncc": VERSION, "graph": to_text(model.graph), "model": json.dumps(about, sort_keys=True)}
    write_whole(path, tensor_bytes(arrays, metadata), force=force)


def _compact(inputs: NDArray[Any], levels: int) -> NDArray[Any]:
    """Inputs in the smallest type that holds them; counts fit in bytes."""
    return np.asarray(inputs, np.uint8 if 0 < levels <= 255 else np.int32 if levels else np.float32)


def read_graph_file(path: Path, limits: Limits = LIMITS) -> Model:
    """The model of a graph file.

    Calibration inputs come back as int64 where the input is spike counts, else as float32.

    Raises:
        UsageError: SNNC-U001 if there is no such file.
        ModelError: SNNC-M001 if it is no graph file, SNNC-M007 for NaN or infinity, SNNC-M010 or
            M011 if its graph is ill-formed.
        UnsafeFileError: SNNC-S002 if it declares more than it has or than the limits allow.
    """
    where = shown(str(path))
    metadata, arrays = read_tensors(path, limits)
    if metadata.get("snncc") != VERSION or not {"graph", "model"} <= set(metadata):
        hint = "a file written by snncc.export"
        raise fail(
            "SNNC-M001", where, "is no graph file", got=shown(metadata.get("snncc", "")) or None, hint=hint
        )
    if len(metadata["graph"]) > MAX_TEXT:
        raise fail(
            "SNNC-S002",
            where,
            "has a graph text that is too long",
            got=len(metadata["graph"]),
            limit=MAX_TEXT,
        )
    graph = _graph(metadata["graph"], arrays, where)
    comparison, notes, origin = _about(metadata["model"], where)
    x, y = _calibration(arrays, graph, where)
    return Model(graph, x, y, comparison, notes, origin)


def _graph(text: str, arrays: dict[str, NDArray[Any]], where: str) -> Graph:
    constants = {k: v for k, v in arrays.items() if not k.startswith("calibration/")}
    for name, array in constants.items():
        if array.dtype.name not in DTYPES:
            raise fail(
                "SNNC-M001", where, f"tensor {shown(name)!r} has a dtype no graph has", got=array.dtype.name
            )
    try:
        graph = parse(text, constants)
    except SnnccError:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
        # Numbers that no network has (a stride of 0, five thousand digits) end here.
        raise fail("SNNC-M011", where, "has a graph that cannot be read", got=shown(str(error))) from None
    if graph.family is not Family.FLOAT:
        raise fail("SNNC-M001", where, "must hold a float graph", got=graph.family)
    raise_all([*_size_problems(graph, where), *_number_problems(graph)])
    return graph


def _size_problems(graph: Graph, where: str) -> list[Problem]:
    found = []
    if graph.steps > MAX_STEPS:
        found.append(problem("SNNC-S002", where, "has too many timesteps", got=graph.steps, limit=MAX_STEPS))
    for name, kind in graph.types.items():
        if (count := math.prod(kind.shape)) > MAX_ELEMENTS:
            found.append(
                problem("SNNC-S002", f"%{name}", "is too large", got=f"{count} elements", limit=MAX_ELEMENTS)
            )
    return found


def _number_problems(graph: Graph) -> list[Problem]:
    return [p for node in graph.nodes for p in _node_problems(node)]


def _node_problems(node: Node) -> list[Problem]:
    if isinstance(node, HostRegion):
        return _number_problems(node.body)
    found = []
    for name, value in numbers(node).items():
        if not isinstance(value, Const | float):
            continue
        bad = ~np.isfinite(values_of(value))
        if bad.any():
            got = f"{int(bad.sum())} of {bad.size} numbers"
            found.append(problem("SNNC-M007", f"%{node.name}", f"{name} is NaN or infinite", got=got))
    return found


def _about(text: str, where: str) -> tuple[Comparison | None, tuple[str, ...], str]:
    try:
        about = json.loads(text)
        made = about["comparison"]
        comparison = (
            None if made is None else Comparison(**{f.name: made[f.name] for f in fields(Comparison)})
        )
        notes, origin = about["notes"], about["origin"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise fail("SNNC-M001", where, "has damaged metadata", got=shown(str(error))) from None
    numbers = () if comparison is None else asdict(comparison).values()
    ok = isinstance(notes, list) and all(isinstance(n, str) for n in notes) and isinstance(origin, str)
    if not ok or not all(type(n) in (int, float) for n in numbers):
        raise fail("SNNC-M001", where, "has damaged metadata", hint="writing it again with snncc.export")
    return comparison, tuple(notes), origin


def _calibration(
    arrays: dict[str, NDArray[Any]], graph: Graph, where: str
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    x, y = arrays.get("calibration/x"), arrays.get("calibration/y")
    shape, levels = (graph.steps, *graph.input.shape), graph.input.levels
    if x is not None:
        if x.shape[1:] != shape:
            raise fail(
                "SNNC-M001",
                where,
                "has calibration inputs of another shape",
                got=list(x.shape[1:]),
                limit=list(shape),
            )
        if bad := int((~np.isfinite(x)).sum()):
            got = f"{bad} of {x.size} numbers"
            raise fail("SNNC-M007", where, "has calibration inputs that are NaN or infinite", got=got)
        if levels and (np.any(x != np.rint(x)) or x.min(initial=0) < 0 or x.max(initial=0) > levels):
            raise fail(
                "SNNC-M001", where, "has calibration inputs outside the input's levels", limit=f"0..{levels}"
            )
        x = x.astype(np.int64 if levels else np.float32)
    if y is not None and (
        y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or x is None or len(y) != len(x)
    ):
        got, limit = f"{y.dtype}{list(y.shape)}", f"integers [{0 if x is None else len(x)}]"
        raise fail("SNNC-M001", where, "has labels that do not fit its inputs", got=got, limit=limit)
    return x, None if y is None else y.astype(np.int64)
