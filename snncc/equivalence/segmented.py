"""Runs an emitted program part by part: segments by an executor, the host's islands in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from snncc.arrays import Array
from snncc.artifact import Artifact
from snncc.ir.interp import values_from
from snncc.ir.nodes import Encode
from snncc.mapping.build import port_names
from snncc.mapping.mapped import Part
from snncc.mapping.segments import played

Counts = Mapping[str, Array]


def run_program(artifact: Artifact, execute: Callable[[Path, Counts], Counts], inputs: Counts) -> Counts:
    """Counts [N, T, C, H, W] of every piece of an artifact's emitted program.

    The islands are computed by :mod:`snncc.ir.interp` on ``integer.snn``, from what the segments before
    them counted: window for window that is what the host would do micro-step by micro-step.

    Args:
        artifact: with one program in ``target/``, or one in a folder there for every segment.
        execute: runs the program of a folder on counts [N, T, C, H, W] by port.
        inputs: counts [N, T, C, H, W] by port of the whole network.
    """
    folder, mapped = artifact.path / "target", artifact.mapped
    if not mapped.parts:
        return execute(folder, inputs)
    counts = dict(inputs)
    for part in mapped.parts:
        if part.on_host:
            counts |= _island(artifact, part, counts)
        else:
            counts |= execute(folder / part.name, played(mapped, part, counts))
    return {piece.name: counts[piece.name] for piece in mapped.pieces}


def _island(artifact: Artifact, part: Part, counts: Counts) -> dict[str, Array]:
    """What the host computes for a part, of all counts that are known before it."""
    graph, senders = artifact.integer_graph, artifact.mapped.senders
    names = port_names(artifact.spike_graph)
    nodes = {names[n.name]: n.inputs[0] for n in artifact.spike_graph.nodes if isinstance(n, Encode)}
    known = {}
    for name, value in counts.items():
        node = nodes.get(name, name)
        known[node] = value.reshape(*value.shape[:2], *graph.types[node].shape)
    found = values_from(graph, part.pieces, known)
    return {name: value.reshape(*value.shape[:2], *senders[name].shape) for name, value in found.items()}
