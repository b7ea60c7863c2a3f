"""bound-counts: the largest count that a neuron can reach, from the types of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.analysis.ranges import largest_count
from snncc.ir import Delay, Family, Graph, IntegerNeuron, Node, ValueType
from snncc.ir.node import INTEGER_ONLY
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class BoundCounts:
    """Lowers ``max_spikes`` of an integer graph to what its inputs allow; a clip that never binds.

    In order, so that each layer's bound tightens the next one's. Levels, windows and the
    certificate's ranges for all inputs follow from it.
    """

    name: ClassVar[str] = "bound-counts"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        nodes: list[Node] = []
        types: dict[str, ValueType] = {}
        for node in graph.nodes:
            if isinstance(node, IntegerNeuron) and not node.is_readout:
                bound = min(node.cell.max_spikes, max(1, largest_count(graph, node, types)))
                node = replace(node, cell=replace(node.cell, max_spikes=bound))
            nodes.append(node)
            known = () if isinstance(node, Delay) else node.inputs
            types[node.name] = node.infer(tuple(types[name] for name in known))
        return replace(graph, nodes=tuple(nodes))
