"""single-step: with one timestep a neuron's memory is never read again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.ir import Const, Family, Graph, IntegerNeuron, Node, Reset
from snncc.ir.cell import leaked
from snncc.ir.const import number_array
from snncc.ir.node import INTEGER_ONLY
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class SingleStep:
    """In an integer graph of one timestep, drops what only a later one would see.

    Leak acts on the initial potential alone and joins the bias; a synaptic current starts at
    nothing; reset and lower clamp change nothing that is read. What is left is the stateless neuron
    n = clip(round(u/θ), 0, D).
    """

    name: ClassVar[str] = "single-step"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return graph if graph.steps > 1 else graph.rewrite(_memoryless)


def _memoryless(node: Node) -> Node | None:
    if not isinstance(node, IntegerNeuron):
        return None
    cell = node.cell
    v, b, decay = (number_array(n, 2) for n in (cell.v_init, cell.bias, cell.decay))
    bias = np.asarray(b + leaked(np.asarray(v, np.int64), decay, cell.decay_bits))
    memoryless = replace(
        cell,
        decay=0,
        decay_bits=0,
        synapse_decay=0,
        synapse_bits=0,
        bias=Const(bias.ravel().astype(np.int32)) if bias.ndim else int(bias),
        v_init=0,
        v_min=None,
        reset=Reset.SUBTRACT,
        reset_by=None,
        reset_to=0,
    )
    return replace(node, cell=memoryless)
