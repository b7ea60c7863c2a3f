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

# Numbers of a float neuron that integers hold once a layer, as messages call them.
_ONE_A_LAYER = {
    "threshold": "threshold",
    "reset_by": "amount of reset",
    "reset_to": "reset potential",
    "v_min": "lower bound",
}


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
        d = float(node.synapse_decay)  # type: ignore[arg-type]  # one a layer: not_quantizable has seen to it
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
            yield from _numbers(node)
            yield from _synapse(graph, node)
            yield from _reset(node)


def _no(code: str, node: Node, what: str, hint: str) -> Problem:
    return problem(code, describe(node), what, hint=hint)


def _numbers(node: Neuron) -> Iterator[Problem]:
    for name, what in _ONE_A_LAYER.items():
        if len(different_values(getattr(node, name))) > 1:
            yield _no("SNNC-M020", node, f"one {what} per channel", f"one {what} for the layer")


def _synapse(graph: Graph, node: Neuron) -> Iterator[Problem]:
    if node.synapse_decay is not None and rest_drive(graph, node).any():
        what = "a bias that passes a synapse with memory has no integer form"
        yield _no("SNNC-M021", node, what, "bias=False in front of it")
    elif node.synapse_decay == 0:
        what = "a synaptic leak of 0 leaves no current to hold"
        yield _no("SNNC-M021", node, what, "a neuron without synaptic current")
    elif isinstance(node.synapse_decay, Const):
        what = "one synaptic leak per channel has no integer form"
        yield _no("SNNC-M020", node, what, "one leak for the layer")
    elif node.synapse_order is SynapseOrder.ADD_DECAY_READ and node.synapse_decay and node.is_readout:
        what = "a readout behind a synapse that decays first"
        yield _no("SNNC-M021", node, what, "a readout without one")


def _reset(node: Neuron) -> Iterator[Problem]:
    if node.reset_next:
        what = "a reset in the following step has no integer form yet"
        yield _no("SNNC-M021", node, what, "a neuron that resets in the step in which it fires")
    if node.reset is Reset.NONE and not node.is_stateless and not node.is_readout:
        what = "a neuron with memory that never resets has no spike form"
        yield _no("SNNC-M021", node, what, "reset by subtraction")
