"""What of a float graph has no integer form, and the order of a synapse that has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from snncc.analysis.ranges import rest_drive
from snncc.errors import Problem, problem
from snncc.ir import Const, Graph, Neuron, Node, Number, Reset, SynapseOrder
from snncc.ir.neurons import POTENTIALS
from snncc.ir.synapses import Weighted
from snncc.passes.base import describe


def different_values(value: Number | None) -> set[float]:
    """The different numbers among a layer's; none where there is none."""
    if value is None:
        return set()
    return set(value.array.tolist()) if isinstance(value, Const) else {float(value)}


def synapse_first(node: Node) -> Node | None:
    """The order in which integer synapses run: I = d·I + x, then read.

    Norse's order reads the same values. Sinabs' reads d times them: its potentials are d times
    those of a neuron with this order, exactly.
    """
    if not isinstance(node, Neuron) or node.synapse_decay is None:
        return None
    changes: dict[str, Any] = {"synapse_order": SynapseOrder.DECAY_ADD_READ}
    if node.synapse_order is SynapseOrder.ADD_DECAY_READ:
        d = max(different_values(node.synapse_decay))  # one a layer: not_quantizable has seen to it
        for name in POTENTIALS:
            value = getattr(node, name)
            if value is not None:
                changes[name] = Const(value.array / np.float32(d)) if isinstance(value, Const) else value / d
    return replace(node, **changes)


def not_quantizable(graph: Graph) -> Iterator[Problem]:
    """One problem for everything of a float graph that has no integer form."""
    driving = {w.name for layer in graph.layers.values() for w in layer.weighted}
    for node in graph.nodes:
        if isinstance(node, Weighted) and node.name not in driving:
            what, hint = "weights whose sums no neuron integrates", "a neuron between two layers of weights"
            yield _no("SNNC-M018", node, what, hint)
        if isinstance(node, Neuron):
            yield from _thresholds(node)
            yield from _synapse(graph, node)
            yield from _reset(node)


def _no(code: str, node: Node, what: str, hint: str, got: str | None = None) -> Problem:
    return problem(code, describe(node), what, got=got, hint=hint)


def _thresholds(node: Neuron) -> Iterator[Problem]:
    """Thresholds that the pass fold-threshold found no weights for."""
    values = different_values(node.threshold)
    if len(values) > 1 and not node.is_readout:
        what = "one threshold per channel, whose weights serve other neurons or other channels too"
        got = f"{len(values)} from {min(values):g} to {max(values):g}"
        yield _no("SNNC-M020", node, what, "one threshold for the layer", got)


def _synapse(graph: Graph, node: Neuron) -> Iterator[Problem]:
    decays_first = node.synapse_order is SynapseOrder.ADD_DECAY_READ
    if node.synapse_decay is not None and rest_drive(graph, node).any():
        what = "a bias that passes a synapse with memory has no integer form"
        yield _no("SNNC-M021", node, what, "bias=False in front of it")
    elif node.synapse_decay is not None and 0 in different_values(node.synapse_decay):
        what = "a synaptic leak of 0 leaves no current to hold"
        yield _no("SNNC-M021", node, what, "a neuron without synaptic current")
    elif len(different_values(node.synapse_decay)) > 1 and decays_first:
        what = "one synaptic leak per channel, in a synapse that decays first"
        yield _no("SNNC-M020", node, what, "one leak for the layer")
    elif decays_first and node.synapse_decay is not None and node.is_readout:
        what = "a readout behind a synapse that decays first"
        yield _no("SNNC-M021", node, what, "a readout without one")


def _reset(node: Neuron) -> Iterator[Problem]:
    if node.reset_next:
        what = "a reset in the following step has no integer form yet"
        yield _no("SNNC-M021", node, what, "a neuron that resets in the step in which it fires")
    if node.reset is Reset.NONE and not node.is_stateless and not node.is_readout:
        what = "a neuron with memory that never resets has no spike form"
        yield _no("SNNC-M021", node, what, "reset by subtraction")
