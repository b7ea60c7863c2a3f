"""drop-clip: counts without an upper bound, for chips that cannot hold a neuron back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import Family, Graph, Neuron, Node
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics

# Stands for "no clip" until bound-counts knows what can really be reached.
UNBOUNDED = 1 << 30


@dataclass(frozen=True)
class DropClip:
    """Replaces n = clip(round(u/θ), 0, D) by max(0, round(u/θ)) in every neuron that fires.

    Counts above D change what the next layer sees, hence approximate. Runs on the float graph,
    before quantization, so that weight scales are chosen for the sums that will really come.
    """

    name: ClassVar[str] = "drop-clip"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return graph.rewrite(_unclipped)


def _unclipped(node: Node) -> Node | None:
    if not isinstance(node, Neuron) or node.is_readout:
        return None
    return replace(node, max_spikes=UNBOUNDED)
