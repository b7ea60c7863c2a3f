"""drop-clip: counts without an upper bound, for chips that cannot hold a neuron back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.equivalence.ranges import start_potential, type_extremes
from snncc.ir import Const, Graph, Neuron
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class DropClip:
    """Replaces n = clip(round(u/θ), 0, D) by max(0, round(u/θ)).

    ``max_spikes`` becomes the largest count that the types of the inputs allow, so that it bounds
    without clipping. Counts above D change what the next layer sees, hence approximate.
    """

    name: ClassVar[str] = "drop-clip"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        for neuron in [n for n in graph.nodes if isinstance(n, Neuron)]:
            if not neuron.is_readout:
                unclipped = replace(neuron, max_spikes=max(1, _largest_count(graph, neuron)))
                graph = graph.rewrite(lambda n, new=unclipped: new if n.name == new.name else None)  # type: ignore[misc]
        return graph


def _largest_count(graph: Graph, neuron: Neuron) -> int:
    found = type_extremes(graph, neuron)
    assert not isinstance(neuron.threshold, Const)
    top = int((start_potential(neuron, found.rest) + found.high).max())
    return top // int(neuron.threshold)
