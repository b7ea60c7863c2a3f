"""pool-behind: a maximum of currents becomes one of spikes where the neuron behind it has no memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import Current, Family, Graph, MaxPool2d, Neuron, Node
from snncc.ir.const import values_of
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class PoolBehind:
    """Exchanges a maximum of currents (CML) and the neurons that alone read it.

    What such a neuron sends never falls when its current grows, and over a window its numbers are the
    same, for they are given once a layer or a channel. So the neuron of the largest current sends the
    largest count, if nothing but that current decides: with memory each position would keep a
    membrane of its own, and over several timesteps that is another network. There the maximum stays
    one of currents.
    """

    name: ClassVar[str] = "pool-behind"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        moved = {n.name for n in graph.nodes if isinstance(n, MaxPool2d) and _commutes(graph, n)}
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


def _commutes(graph: Graph, pool: MaxPool2d) -> bool:
    readers = graph.readers[pool.name]
    if not isinstance(graph.types[pool.inputs[0]], Current):
        return False
    return bool(readers) and all(isinstance(n, Neuron) and _is_monotone(n, graph.steps) for n in readers)


def _is_monotone(neuron: Neuron, steps: int) -> bool:
    """Whether its count is a function of one timestep's current that never falls."""
    alone = steps == 1 or neuron.is_stateless
    return alone and not neuron.is_readout and bool((values_of(neuron.gain) > 0).all())
