"""pool-behind: a maximum of currents, or an upsampling, becomes one of spikes where neurons allow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import Current, Family, Graph, MaxPool2d, Neuron, Node, Upsample
from snncc.ir.const import values_of
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class PoolBehind:
    """Exchanges a maximum of currents (CML), or an upsampling of them, and the neurons that alone read it.

    What such a neuron sends never falls when its current grows, and over a window its numbers are the
    same, for they are given once a layer or a channel. So the neuron of the largest current sends the
    largest count, if nothing but that current decides: with memory each position would keep a
    membrane of its own, and over several timesteps that is another network. There the maximum stays
    one of currents. Copies of a current, on the other hand, move all neurons alike, with memory too.
    """

    name: ClassVar[str] = "pool-behind"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        while moved := {n.name for n in graph.nodes if _commutes(graph, n)}:
            graph = _exchanged(graph, moved)
        return graph


def _exchanged(graph: Graph, moved: set[str]) -> Graph:
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in moved:
            continue
        pool = graph.by_name[node.inputs[0]] if node.inputs else node
        if pool.name in moved:
            fires = replace(node, name=f"{node.name}.each", inputs=pool.inputs)
            nodes += [fires, replace(pool, name=node.name, inputs=(fires.name,), source=node.source)]
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _commutes(graph: Graph, node: Node) -> bool:
    if not isinstance(node, MaxPool2d | Upsample) or not isinstance(graph.types[node.inputs[0]], Current):
        return False
    readers, copies = graph.readers[node.name], isinstance(node, Upsample)
    fire = all(isinstance(n, Neuron) and not n.is_readout for n in readers)
    return fire and bool(readers) and all(copies or _is_monotone(n, graph.steps) for n in readers)


def _is_monotone(neuron: Node, steps: int) -> bool:
    """Whether its count is a function of one timestep's current that never falls."""
    assert isinstance(neuron, Neuron)
    return (steps == 1 or neuron.is_stateless) and bool((values_of(neuron.gain) > 0).all())
