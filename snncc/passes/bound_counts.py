"""bound-counts: the largest count that a neuron can reach, from the types of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.analysis.ranges import held, start_range, type_extremes
from snncc.ir import Const, Graph, Neuron
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class BoundCounts:
    """Lowers ``max_spikes`` of an integer graph to what its inputs allow; a clip that never binds.

    In order, so that each layer's bound tightens the next one's. Levels, windows and the
    certificate's ranges for all inputs follow from it.
    """

    name: ClassVar[str] = "bound-counts"
    preserves: ClassVar[Semantics] = Semantics.EXACT

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        for neuron in [n for n in graph.nodes if isinstance(n, Neuron) and not n.is_readout]:
            bound = min(neuron.max_spikes, max(1, _largest_count(graph, neuron)))
            tighter = replace(neuron, max_spikes=bound)
            graph = graph.rewrite(lambda n, new=tighter: new if n.name == new.name else None)  # type: ignore[misc]
        return graph


def _largest_count(graph: Graph, neuron: Neuron) -> int:
    """⌊u/θ⌋ of the largest charged membrane that the types of the inputs allow; its size if signed."""
    found = type_extremes(graph, neuron)
    assert not isinstance(neuron.threshold, Const)
    steps = held(neuron, graph.steps)
    least, most = start_range(neuron, found.rest, steps)
    high = int((most + found.high * steps).max()) // int(neuron.threshold)
    if not neuron.signed:
        return high
    return max(high, -(int((least + found.low * steps).min()) // int(neuron.threshold)))
