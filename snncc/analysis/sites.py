"""Which sites of a layer's map can ever receive anything."""

from __future__ import annotations

import numpy as np

from snncc.errors import fail
from snncc.ir.graph import Graph
from snncc.ir.neurons import IntegerNeuron, Neuron
from snncc.ir.node import Node, describe
from snncc.ir.nodes import Add, BatchNorm, Scale
from snncc.ir.sites import Bitmap, SiteGate, through


def open_map(graph: Graph, neuron: IntegerNeuron) -> Bitmap | None:
    """Sites [H, W] of a neuron's map that some weights reach past their gates; None if all do.

    Raises:
        ModelError: SNNC-M025 if neurons of the other sites would do something without any input.
    """
    found: dict[str, Bitmap | None] = {}
    for node in graph.layers[neuron.name].path:
        found[node.name] = _reached(node, found)
    sites = found.get(neuron.inputs[0])
    if sites is None or sites.all():
        return None
    _silent(graph, neuron)
    return sites


def open_maps(graph: Graph) -> dict[str, Bitmap | None]:
    """Sites [H, W] at which alone each value can be other than 0, if gates leave some out; None: everywhere.

    Neurons are taken to do nothing without input, which :func:`open_map` sees to in the end.
    """
    found: dict[str, Bitmap | None] = {}
    for node in graph.nodes:
        found[node.name] = _reached(node, found)
    return found


def _reached(node: Node, found: dict[str, Bitmap | None]) -> Bitmap | None:
    maps = [found.get(name) for name in through(node)]
    known = [m for m in maps if m is not None]
    if isinstance(node, SiteGate):
        return np.asarray(np.logical_and.reduce([node.bitmap, *known]))
    if isinstance(node, Add | Neuron | IntegerNeuron) and len(known) == len(maps):
        return np.asarray(np.logical_or.reduce(known))
    return None


def _silent(graph: Graph, neuron: IntegerNeuron) -> None:
    """Raise if a neuron that never gets anything fires, or, a readout, holds anything."""
    cell = neuron.cell
    nothing = np.zeros((1, graph.types[neuron.name].shape[0], 1, 1), np.int64)
    state = cell.start(nothing.shape)
    for _ in range(graph.steps):
        counts, state = cell.step(nothing, state)
        if counts.any():
            what = "a mask closes sites whose neurons act without input"
            hint = "no bias and no initial potential of the neurons' own"
            got = f"{int(np.abs(counts).max())} without input"
            raise fail("SNNC-M025", describe(neuron), what, got=got, hint=hint)


def gate_behind(graph: Graph, node: Node) -> Bitmap | None:
    """Sites [H, W] of a node that the gate right behind it leaves open; None without one.

    A norm or a scale may stand in between, which a pass folds into the weights.
    """
    behind = graph.readers[node.name]
    while len(behind) == 1 and isinstance(behind[0], BatchNorm | Scale):
        behind = graph.readers[behind[0].name]
    gate = behind[0] if len(behind) == 1 else None
    return gate.bitmap if isinstance(gate, SiteGate) else None


def is_gated(graph: Graph, name: str) -> bool:
    """Whether a gate stands between a value and what reads it: then no weights move across."""
    return any(isinstance(node, SiteGate) and name in through(node) for node in graph.readers[name])
