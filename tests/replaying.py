"""What artifacts compute, as digests and numbers that a later version is held against; see bench/replay.py.

Only the verbs of snncc are used, and attributes that are part of what they return. A recorded value
must come back; a value that is new (another energy model, another total) is no difference.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import snncc
from snncc.data import Dataset
from snncc.errors import SnnccError
from snncc.ir import Graph, Spikes
from snncc.ir.interp import Run, run
from snncc.model import Model

if TYPE_CHECKING:
    from snncc.artifact import Artifact
    from snncc.simulation import LayerActivity

Array = NDArray[Any]
Values = dict[str, Any]  # plain JSON values
Runs = dict[str, Values]  # quantities by target and schedule

WAYS = (
    ("sim", "exact"),
    ("sim", "free"),
    ("speck2f", "exact"),
    ("speck2f", "free"),
    ("loihi2", "exact"),
    ("loihi2", "free"),
    ("loihi2", "graded"),
    ("loihi1", "exact"),
    ("tianjic", "exact"),
)
QUANTITIES = (
    "float", "integer", "spike", "counts", "totals", "operations", "energy", "latency", "verification",
)  # fmt: skip
TOTALS = (
    "events", "synaptic_operations", "unit_operations", "control_events", "control_operations", "spikes",
    "neuron_updates", "saturations", "early", "out_of_range",
)  # fmt: skip
# Of the cost, beside energy and the mean latency: what is kept as a digest.
TOTAL = ("macs", "neurons", "acs_paper_per_sample", "firing_rate")
LAYER = ("firing_rate", "busy_ns", "stored_weights")
LATENCY = ("max_ns", "cycles")
STEPS = (
    "mean_ns", "longest_ns", "packets", "hops", "queued_samples", "queueing", "limits", "cores", "links",
)  # fmt: skip
LONGEST = 100  # micro-steps of a window
REFUSED = "refused"
MENDABLE = {"SNNC-X001", "SNNC-M012"}  # refusals that may end: errors of ours, kinds that no pass lowered yet


@dataclass(frozen=True)
class Difference:
    """``where``: network, target and schedule, quantity, layer and what is below it."""

    where: tuple[str, ...]
    recorded: Any
    now: Any

    def __str__(self) -> str:
        return f"{': '.join(self.where)}: recorded {self.recorded}, now {self.now}"


# ---- recording ----------------------------------------------------------------------------------------


def replayed(model: Model, x: Array) -> Runs:
    """What the artifacts of a model compute on inputs [N, T, *shape], by target and schedule."""
    found: Runs = {"inputs": {"x": _digest(x)}}
    for target, schedule in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{target} {schedule}"] = _one_way(model, x, target, schedule, Path(folder) / "artifact")
    return found


def _one_way(model: Model, x: Array, target: str, schedule: str, out: Path) -> Values:
    graded = schedule == "graded"
    plain = "exact" if graded else schedule
    try:
        snncc.compile(model, target=target, out=out, schedule=plain, graded=graded)
    except SnnccError as error:
        return _refused(error)
    artifact, data = snncc.open_artifact(out), Dataset(x)
    done = snncc.simulate(artifact, data, workers=1)
    return {
        "float": _of_float(artifact.float_graph, x),
        "integer": _of_graph(artifact.integer_graph, x),
        "spike": _of_windows(artifact.spike_graph, x),
        "counts": _digests(done.activity.counts, done.activity.result),
        "totals": {layer.name: _totals(layer) for layer in done.activity.layers},
        **_of_cost(done.cost.as_dict()),
        "verification": _verified(artifact, data),
    }


def _refused(error: SnnccError) -> Values:
    return {REFUSED: sorted({p.code for p in error.problems})}


def _of_float(graph: Graph, x: Array) -> Values:
    """Counts in whole units; of membranes and results no last bits, for those are the processor's."""
    done = run(graph, x)
    kinds = {name: graph.types[name] for name in _neurons(graph, done)}
    counts = {n: np.rint(done.values[n] / k.unit) for n, k in kinds.items() if isinstance(k, Spikes)}
    return {n: _digest(v.astype(np.int64)) for n, v in counts.items()} | {"result": _moments(done.result)}


def _neurons(graph: Graph, done: Run) -> list[str]:
    return [name for name in done.values if name != graph.output.name]


def _moments(result: Array) -> list[float]:
    """One number a sample that every element of its real-valued result changes."""
    flat = result.reshape(len(result), -1).astype(np.float64)
    return [float(f"{v:.7g}") for v in flat @ np.arange(1, flat.shape[1] + 1)]


def _of_graph(graph: Graph, x: Array) -> Values:
    done = run(graph, x)
    return _digests({name: done.values[name] for name in _neurons(graph, done)}, done.result)


def _of_windows(graph: Graph, x: Array) -> Values:
    """Not of windows so long (no clip bounds the counts) that the reference semantics take minutes."""
    return _of_graph(graph, x) if graph.micro_steps <= LONGEST else {}


def _digests(values: Mapping[str, Array], result: Array) -> Values:
    """Of every layer's counts or membranes [N, T, ...], and of the result."""
    return {name: _digest(v) for name, v in values.items()} | {"result": _digest(result)}


def _totals(layer: LayerActivity) -> list[Any]:
    """In the order of :data:`TOTALS`, without the zeros at the end."""
    values = _rounded([getattr(layer, name) for name in TOTALS])
    while values and not values[-1]:
        values.pop()
    return values


def _of_cost(cost: Values) -> Values:
    layers, total = cost["layers"], cost["total"]
    return {
        "operations": _short([[total[k] for k in TOTAL], *([layer[k] for k in LAYER] for layer in layers)]),
        "energy": {name: _energy(energy, layers) for name, energy in cost["energy"].items()},
        "latency": _latency(cost["latency"]),
    }


def _latency(latency: Values) -> Values:
    steps = latency["steps"]
    rest = [latency[k] for k in LATENCY] + [None if steps is None else steps[k] for k in STEPS]
    return {k: _band(latency[k]) for k in ("micro_steps", "mean_ns")} | {"rest": _short(rest)}


def _energy(energy: Values, layers: list[Values]) -> Values:
    """Each component, and a digest of those of the layers."""
    parts = {name: _band(estimate) for name, estimate in energy["components"].items()}
    own = [layer["energy"].get(energy["model"], {"components": None}) for layer in layers]
    return parts | {"layers": _short([each["components"] for each in own])}


def _verified(artifact: Artifact, data: Dataset) -> Values:
    try:
        found = snncc.verify(artifact, data, workers=1)
    except SnnccError as error:
        return _refused(error)
    other = () if found.shuffled is None else found.shuffled.layers
    return {
        "equivalent": found.equivalent,
        "agreement": _rounded(found.agreement),
        "mismatches": [m.mismatches for m in found.layers],
        "in another order": [m.mismatches for m in other],
        "excursions": [[e.layer, e.samples] for e in found.excursions],
        "outside bounds": sum(b.outside for b in found.bounds),
    }


# ---- digests and numbers --------------------------------------------------------------------------------


def _digest(values: Array) -> str:
    """First 16 hex digits of SHA-256 over kind, shape [N, T, elements] and bytes; integers of any width alike."""
    kept = values.astype("<i8" if values.dtype.kind in "biu" else f"<f{values.dtype.itemsize}")
    flat = kept.reshape(*kept.shape[:2], -1)
    return hashlib.sha256(f"{flat.dtype.str}{flat.shape}".encode() + flat.tobytes()).hexdigest()[:16]


def _short(values: Any) -> str:
    """Digest of the numbers in JSON values, to nine digits: less than the order of a sum may change."""
    text = json.dumps(list(_numbers(_rounded(values, 9))))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _numbers(values: Any) -> Iterator[Any]:
    """What is neither a name nor a text, names in order."""
    if isinstance(values, dict):
        values = [values[name] for name in sorted(values)]
    if isinstance(values, list):
        for value in values:
            yield from _numbers(value)
    elif not isinstance(values, str):
        yield values


def _rounded(values: Any, digits: int = 12) -> Any:
    """JSON values with every real number to so many significant digits."""
    if isinstance(values, float):
        return float(f"{values:.{digits}g}")
    if isinstance(values, dict):
        return {k: _rounded(v, digits) for k, v in values.items()}
    return [_rounded(v, digits) for v in values] if isinstance(values, list | tuple) else values


def _band(estimate: Any) -> Any:
    """Value, low and high end; one number where all are the same, or where there is no band."""
    if not isinstance(estimate, dict):
        return estimate
    band = _rounded([estimate[k] for k in ("value", "low", "high")])
    return band[0] if len(set(band)) == 1 else band


# ---- comparing ------------------------------------------------------------------------------------------


def differences(recorded: Any, now: Any, where: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Every recorded value that is missing or another now."""
    if not (isinstance(recorded, dict) and isinstance(now, dict)):
        if not _same(recorded, now, 1e-5 if "float" in where else 1e-11):
            yield Difference(where, recorded, now)
        return
    if REFUSED in recorded or REFUSED in now:
        yield from _refusals(recorded, now, where)
        return
    for key, value in recorded.items():
        yield from differences(value, now.get(key), (*where, key))


def _refusals(recorded: Values, now: Values, where: tuple[str, ...]) -> Iterator[Difference]:
    """What was refused stays refused and the rest is not; codes are for :func:`notes`."""
    mended = MENDABLE.intersection(recorded.get(REFUSED, ()))
    if (REFUSED in recorded) != (REFUSED in now) and not mended:
        got = [v.get(REFUSED, "computed") for v in (recorded, now)]
        yield Difference((*where, REFUSED), *got)


def notes(recorded: Runs, now: Runs) -> Iterator[str]:
    """Refusals with other codes than recorded, and those that ended."""
    for way, values in recorded.items():
        codes, other = values.get(REFUSED), now.get(way, {}).get(REFUSED)
        if codes is not None and codes != other:
            yield f"{way}: refused as {', '.join(codes)}, now {', '.join(other) if other else 'computed'}"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return bool(a == b)


# ---- the file ---------------------------------------------------------------------------------------------


def packed(networks: dict[str, Runs]) -> str:
    """JSON text in which what several runs share stands once; a run lists the places of its quantities."""
    pool: dict[str, int] = {}
    rows = {
        network: {way: _row(pool, values) for way, values in ways.items()}
        for network, ways in networks.items()
    }
    lines = [f"{json.dumps(name)}:{_compact(row)}" for name, row in rows.items()]
    return '{"values":[\n' + ",\n".join(pool) + '\n],\n"networks":{\n' + ",\n".join(lines) + "\n}}\n"


def _row(pool: dict[str, int], values: Values) -> Values | list[int]:
    places = {k: pool.setdefault(_compact(v), len(pool)) for k, v in values.items()}
    return list(places.values()) if tuple(places) == QUANTITIES else places


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def unpacked(text: str) -> dict[str, Runs]:
    """What :func:`packed` was given."""
    read = json.loads(text)
    values = read["values"]

    def run_of(row: Any) -> Values:
        places = row if isinstance(row, dict) else dict(zip(QUANTITIES, row, strict=True))
        return {k: values[i] for k, i in places.items()}

    return {n: {way: run_of(row) for way, row in ways.items()} for n, ways in read["networks"].items()}
