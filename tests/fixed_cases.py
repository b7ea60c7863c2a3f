"""Networks of Lava processes as plain data, for Lava's own environment, the emulator and golden files.

A case is a dictionary of JSON values and integer arrays::

    {"name", "steps": T, "inputs": {name: [T, *shape] array},
     "populations": {name: {"kind", "shape", ...fields of the process}},
     "links": [{"source", "target", "wait", "synapses": {"kind", ...fields} or None}]}

Fields bear the names of :mod:`snncc_loihi.fixed`. Traces are ``{population: {"spikes", "v", "u"}}``.
"""

import json

import numpy as np

from cells import split as split_cell
from snncc.ir.nodes import Reset
from snncc_loihi.fixed import LIF, Conv, Dense, GradedVec, Population, SignMode, Sparse, Streaming
from snncc_loihi.fixed_network import FixedNetwork, Link

KINDS = {
    "dense": Dense,
    "sparse": Sparse,
    "conv": Conv,
    "tapconv": Conv,
    "lif": LIF,
    "graded": GradedVec,
    "population": Population,
    "streaming": Streaming,
}
WORDS = {"sign_mode": SignMode, "reset": Reset}
LAVA_ONLY = ("kind", "started")  # what tells Lava's driver which of several equal processes to take


def process(fields):
    """The emulator's process of a case's fields."""
    own = {k: v for k, v in fields.items() if k not in LAVA_ONLY}
    for name, kind in WORDS.items():
        if own.get(name) is not None:
            own[name] = kind(own[name])
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
    if fields["kind"] in ("population", "streaming"):
        cell, own = split_cell(
            {k: v.astype(np.int32) if isinstance(v, np.ndarray) else v for k, v in own.items()}
        )
        own["cell"] = cell
    return KINDS[fields["kind"]](**own)


def network(case):
    """The emulator's network of a case."""
    links = [
        Link(link["source"], link["target"], link["synapses"] and process(link["synapses"]), link["wait"])
        for link in case["links"]
    ]
    shapes = {name: x.shape[1:] for name, x in case["inputs"].items()}
    return FixedNetwork(shapes, {n: process(p) for n, p in case["populations"].items()}, tuple(links))


def emulate(case):
    """Traces of a case by the emulator."""
    found = network(case).run(case["inputs"])
    return {name: {"spikes": t.spikes, "v": t.v, "u": t.u} for name, t in found.items()}


# ---- files ------------------------------------------------------------------------------------------


def split(value, arrays):
    """``value`` with every array moved to the list ``arrays`` and its number in its place."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {k: split(v, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [split(v, arrays) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def joined(value, arrays):
    """The inverse of :func:`split`."""
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {k: joined(v, arrays) for k, v in value.items()}
    return [joined(v, arrays) for v in value] if isinstance(value, list) else value


def save_golden(path, content):
    """Write JSON values with integer arrays as one compressed file.

    Each array stands in the narrowest type that holds it, flags eight to a byte; arrays of a type
    are stored end to end, because thousands of small members would outweigh their content.
    """
    arrays, index = [], []
    tree = split(content, arrays)
    parts = {name: [] for name in ("bits", "int8", "int16", "int32")}
    for a in arrays:
        low, high = a.min(initial=0), a.max(initial=0)
        kind = (
            "bits"
            if low >= 0 and high <= 1
            else next(t for t in list(parts)[1:] if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
        )
        parts[kind].append(a.astype(np.uint8 if kind == "bits" else kind).ravel())
        index.append([kind, list(a.shape)])
    flat = {k: np.concatenate([np.zeros(0, np.uint8 if k == "bits" else k), *v]) for k, v in parts.items()}
    flat["bits"] = np.packbits(flat["bits"])
    text = json.dumps({"tree": tree, "index": index}, separators=(",", ":")).encode()
    np.savez_compressed(path, text=np.frombuffer(text, np.uint8), **flat)


def load_golden(path):
    """What :func:`save_golden` wrote; arrays are int64."""
    with np.load(path) as file:
        stored = dict(file)
    text = json.loads(stored.pop("text").tobytes())
    stored["bits"] = np.unpackbits(stored["bits"])
    at, arrays = dict.fromkeys(stored, 0), []
    for kind, shape in text["index"]:
        size = int(np.prod(shape))
        arrays.append(stored[kind][at[kind] : at[kind] + size].astype(np.int64).reshape(shape))
        at[kind] += size
    return joined(text["tree"], arrays)


def save_case(folder, case):
    """Write ``<name>.json`` and ``<name>.npz`` for Lava's driver."""
    arrays = []
    tree = split(case, arrays)
    (folder / f"{case['name']}.json").write_text(json.dumps(tree), encoding="utf-8")
    np.savez(folder / f"{case['name']}.npz", *arrays)


def differences(case, found, expected):
    """One line for each array of traces ``found`` that is not the same as in ``expected``."""
    lines = []
    for name, traces in expected.items():
        for what, array in traces.items():
            mine = found[name][what]
            if mine.shape != array.shape:
                lines.append(f"{case['name']} {name}.{what}: shape {mine.shape}, not {array.shape}")
            elif (mine != array).any():
                at = tuple(int(i) for i in np.argwhere(mine != array)[0])
                lines.append(f"{case['name']} {name}.{what}{list(at)}: {mine[at]}, not {array[at]}")
    return lines
