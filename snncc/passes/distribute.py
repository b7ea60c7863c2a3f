"""distribute: every neuron gets its own copy of the weights whose sums others read too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.equivalence.ranges import weighted_inputs
from snncc.ir import Graph, Neuron, Node
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class Distribute:
    """Lowers membrane shortcuts (x ← x + conv(s)) to pure spikes (DESIGN §5.6).

    A current cannot travel between cores. Where the same sum reaches several neurons, each of
    them gets synapses of its own from every contributing branch, with the same weights, so that
    only spikes travel; balancing delays come with the schedule. O(L²) synapses for L blocks.
    The first reader keeps the original nodes.
    """

    name: ClassVar[str] = "distribute"
    preserves: ClassVar[Semantics] = Semantics.EXACT

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        owner: dict[str, str] = {}
        nodes: list[Node] = []
        copies: Counter[str] = Counter()
        for node in graph.nodes:
            if isinstance(node, Neuron):
                renamed: dict[str, str] = {}
                for part in weighted_inputs(graph, node)[0]:
                    if owner.setdefault(part.name, node.name) == node.name:
                        continue
                    copies[part.name] += 1
                    renamed[part.name] = f"{part.name}.copy{copies[part.name]}"
                    inputs = tuple(renamed.get(i, i) for i in part.inputs)
                    nodes.append(replace(part, name=renamed[part.name], inputs=inputs))
                node = replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))
            nodes.append(node)
        return replace(graph, nodes=tuple(nodes))
