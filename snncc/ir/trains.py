"""Spike trains of a graph: what sends them, and how long the longest is."""

from __future__ import annotations

from collections.abc import Iterator

from snncc.ir.graph import Graph
from snncc.ir.neurons import IntegerNeuron
from snncc.ir.node import Node
from snncc.ir.nodes import HostRegion, Input
from snncc.ir.types import Spikes


def trains(graph: Graph) -> Iterator[tuple[Node, Spikes]]:
    """Sources of an integer graph that send spikes: inputs, host regions, neurons; relays send none."""
    for node in graph.nodes:
        kind = graph.types[node.name]
        sends = isinstance(node, Input | HostRegion | IntegerNeuron)
        if sends and isinstance(kind, Spikes) and not kind.signed:
            yield node, kind


def largest_train(graph: Graph) -> int:
    """The most spikes that one source sends in a timestep."""
    return max((kind.levels for _, kind in trains(graph)), default=1)
