"""ssc-to-vsc: sparse convolutions without their gates, where no gate ever closes a site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snncc.errors import Problem, problem, raise_all
from snncc.ir import CentreGate, Family, Graph, Node, SiteGate
from snncc.ir.node import FLOAT_ONLY, INTEGER_ONLY
from snncc.passes.base import Semantics, describe


@dataclass(frozen=True)
class Ungate:
    """Turns every spike sparse convolution into the vanilla one: for a network that masks nothing.

    As fine-tuning does behind masked pre-training. Identical only where no site is closed: not under a
    mask, not where spikes open the sites, and not where the centres of sites at the border lie
    outside the map (an even kernel).
    """

    name: ClassVar[str] = "ssc-to-vsc"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY | INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({SiteGate})

    def run(self, graph: Graph) -> Graph:
        """See the class.

        Raises:
            ModelError: SNNC-M025 for every gate that closes a site.
        """
        raise_all(_closing(graph))
        return graph.without(open_gates(graph))


def open_gates(graph: Graph) -> dict[str, str]:
    """Gates that close nothing, and what each of them passes on."""
    gates = (n for n in graph.nodes if isinstance(n, SiteGate) and not isinstance(n, CentreGate))
    return {gate.name: gate.inputs[0] for gate in gates if gate.bitmap.all()}


def _closing(graph: Graph) -> Iterator[Problem]:
    for node in graph.nodes:
        if not isinstance(node, SiteGate):
            continue
        closed = int((~node.bitmap).sum())
        what = "without its gate the convolution computes something else"
        if isinstance(node, CentreGate):
            yield problem("SNNC-M025", describe(node), what, got="sites that spikes open", hint="mode='mask'")
        elif closed:
            got = f"{closed} of {node.bitmap.size} sites closed"
            hint = "no mask, and odd kernels padded by half"
            yield problem("SNNC-M025", describe(node), what, got=got, limit=0, hint=hint)
