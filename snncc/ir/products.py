"""Products of spikes: which operand of one can be held over a window, and which should be."""

from __future__ import annotations

from snncc.ir.elementwise import Mul
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.layers import Bilinear
from snncc.ir.neurons import IntegerNeuron
from snncc.ir.ports import Input
from snncc.ir.synapses import MatMul
from snncc.ir.types import Spikes

__all__ = ["Bilinear", "MatMul", "Mul", "at_once", "held_operand"]


def at_once(graph: Graph, name: str, graded: bool) -> bool:
    """Whether a value of an integer graph is complete in the first micro-step of its window.

    As single spikes, relays and, under a ``graded`` schedule, all counts are; a train of several
    spikes is not. Sums of such values are, too.
    """
    node = graph.by_name[name]
    if isinstance(node, Input | HostRegion | IntegerNeuron):
        kind = graph.types[name]
        return isinstance(kind, Spikes) and (graded or kind.signed or kind.levels == 1)
    return all(at_once(graph, i, graded) for i in node.inputs)


def held_operand(graph: Graph, product: Bilinear, graded: bool) -> int | None:
    """Position of the operand that a product of an integer graph holds; None where neither can be held.

    Rather a relay than spikes: spikes that stream then add numbers up, and none are multiplied. Then
    the smaller one.
    """
    able = [i for i in (0, 1) if at_once(graph, product.inputs[i], graded)]
    return min(able, key=lambda i: _preference(graph, product.inputs[i], i), default=None)


def _preference(graph: Graph, name: str, position: int) -> tuple[bool, int, int]:
    kind = graph.types[name]
    relayed = isinstance(kind, Spikes) and kind.signed
    return not relayed, graph.elements(name), -position
