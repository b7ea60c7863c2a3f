"""Bounds on the spike counts of a free-running network, whatever order its events arrive in.

For one neuron that starts at v₀ and never clamps: behind its last spike the membrane is not
negative, so n·θ ≤ v₀ + P with P the sum of all its positive inputs. If no weight exceeds θ and
v₀ < θ, the membrane is below θ behind every update, so n·θ > v₀ + S - θ with S the sum of all
inputs; otherwise, and on clocked chips, where a micro-step may bring several thresholds' worth and
allows one spike, nothing bounds n from below but 0. The inputs are themselves free counts, so
intervals are propagated layer by layer (docs/semantics.md#interval-bounds).
"""

from __future__ import annotations

import numpy as np

from snncc.analysis.ranges import drive, rest_drive, signed_part, start_range
from snncc.arrays import Array
from snncc.ir.const import number_array
from snncc.ir.graph import Graph
from snncc.ir.interp import evaluate, host_values
from snncc.ir.node import Trait
from snncc.ir.nodes import IntegerNeuron, Node, Output
from snncc.ir.types import Spikes

Interval = tuple[Array, Array]


def free_bounds(graph: Graph, x: Array, capped: bool, clocked: bool = False) -> dict[str, Interval]:
    """Least and largest free count of every firing neuron, [N, *shape] each.

    Args:
        graph: integer graph of one timestep.
        x: inputs [N, 1, *shape].
        capped: whether the chip holds a neuron back after its ``max_spikes``.
        clocked: whether a neuron fires once a micro-step, on all that it brought, not behind each event.
    """
    known: dict[str, Interval] = {}
    for name, value in host_values(graph, x).items():
        known[name] = (value[:, 0], value[:, 0])
    found: dict[str, Interval] = {}
    for node in graph.nodes:
        if isinstance(node, IntegerNeuron):
            if not node.is_readout:
                known[node.name] = found[node.name] = _counts(graph, node, known, capped, clocked)
        elif node.name not in known and _is_between(graph, node):
            # Monotone, so ends map to ends.
            low, high = zip(*(known[i] for i in node.inputs), strict=True)
            known[node.name] = (evaluate(node, list(low)), evaluate(node, list(high)))
    return found


def _is_between(graph: Graph, node: Node) -> bool:
    if not isinstance(graph.types[node.name], Spikes) or isinstance(node, Output):
        return False
    assert node.has(Trait.MONOTONE), f"{node.kind}: expand-sfa refuses what has no bounds"
    return True


def _counts(
    graph: Graph, neuron: IntegerNeuron, known: dict[str, Interval], capped: bool, clocked: bool
) -> Interval:
    layer = graph.layers[neuron.name]
    least = {name: known[name][0] for name in layer.sources}
    most = {name: known[name][1] for name in layer.sources}
    start, _ = start_range(neuron.cell, rest_drive(graph, neuron), 1)
    theta = number_array(neuron.cell.threshold, start.ndim)
    positive_most = drive(graph, neuron, most, signed_part(1))
    high = np.maximum(0, (start + positive_most) // theta)
    total_least = drive(graph, neuron, least, signed_part(1)) + drive(graph, neuron, most, signed_part(-1))
    largest = max(int(w.weight.array.max(initial=0)) for w in layer.weighted)
    steady = not clocked and number_array(neuron.cell.gain, start.ndim) * largest <= theta
    low = np.where(steady & (start < theta), np.maximum(0, (start + total_least) // theta), 0)
    if capped:
        low, high = np.minimum(low, neuron.cell.max_spikes), np.minimum(high, neuron.cell.max_spikes)
    return low, high
