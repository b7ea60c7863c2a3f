"""Work of the host part: multiply-accumulates of weights that see real values."""

from __future__ import annotations

import math

from snncc.ir import Conv2d, Graph, HostRegion, Linear


def host_macs(graph: Graph) -> int:
    """Multiply-accumulates a sample (all timesteps) of the graph's host regions, padding taps included."""
    bodies = (n.body for n in graph.nodes if isinstance(n, HostRegion))
    return graph.steps * sum(map(_dense_macs, bodies))


def _dense_macs(graph: Graph) -> int:
    total = 0
    for node in graph.nodes:
        if isinstance(node, Linear):
            total += graph.elements(node.name) * node.weight.shape[1]
        elif isinstance(node, Conv2d):
            total += graph.elements(node.name) * math.prod(node.weight.shape[1:])
    return total
