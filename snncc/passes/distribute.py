"""distribute: every neuron gets its own copy of the weights whose sums others read too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import Family, Graph, Node
from snncc.ir.node import FLOAT_ONLY, INTEGER_ONLY
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class Distribute:
    """Lowers membrane shortcuts (x ← x + conv(s)) to pure spikes.

    A current cannot travel between cores (docs/semantics.md#membrane-shortcuts).
    Where the same sum reaches several neurons, each of
    them gets synapses of its own from every contributing branch, with the same weights, so that
    only spikes travel; balancing delays come with the schedule. O(L²) synapses for L blocks.
    The first reader keeps the original nodes.
    """

    name: ClassVar[str] = "distribute"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY | INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        driving = {name: layer.path for name, layer in graph.layers.items()}
        readers = Counter(part.name for parts in driving.values() for part in parts)
        if max(readers.values(), default=0) <= 1:
            return graph
        nodes: list[Node] = []
        copies: Counter[str] = Counter()
        for node in graph.nodes:
            if node.name in readers:
                # It stands in front of each of its readers: what it reads may be a copy there.
                continue
            names: dict[str, str] = {}
            for part in driving.get(node.name, ()):
                names[part.name] = _copy_name(part.name, copies[part.name])
                copies[part.name] += 1
                nodes.append(_renamed(part, names))
            nodes.append(_renamed(node, names) if names else node)
        return replace(graph, nodes=tuple(nodes))


def _copy_name(name: str, copies: int) -> str:
    return f"{name}.copy{copies}" if copies else name


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    inputs = tuple(names.get(i, i) for i in node.inputs)
    return replace(node, name=names.get(node.name, node.name), inputs=inputs)
