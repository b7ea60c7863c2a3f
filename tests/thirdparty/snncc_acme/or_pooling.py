"""or-pooling: the maximum of single spikes is a neuron for which one of them suffices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.errors import Problem, problem, raise_all
from snncc.ir import Const, Conv2d, Family, Graph, MaxPool2d, Neuron, Node, Spikes
from snncc.ir.node import FLOAT_ONLY, describe
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class OrPooling:
    """Lowers max pooling, which the core does not: weights of one and a threshold of one spike."""

    name: ClassVar[str] = "or-pooling"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({MaxPool2d})

    def run(self, graph: Graph) -> Graph:
        """See the class.

        Raises:
            ModelError: ACME-M001 for pooling over counts.
        """
        raise_all(_counts(graph))
        nodes = (new for node in graph.nodes for new in _lowered(graph, node))
        return replace(graph, nodes=tuple(nodes))


def _counts(graph: Graph) -> Iterator[Problem]:
    for node in graph.nodes:
        kind = graph.types[node.inputs[0]] if isinstance(node, MaxPool2d) else None
        if kind is not None and not (isinstance(kind, Spikes) and kind.levels == 1):
            hint = "neurons of one spike a timestep in front of it"
            yield problem("ACME-M001", describe(node), "pools no single spikes", got=kind, hint=hint)


def _lowered(graph: Graph, node: Node) -> tuple[Node, ...]:
    if not isinstance(node, MaxPool2d):
        return (node,)
    kind = graph.types[node.inputs[0]]
    assert isinstance(kind, Spikes)
    channels = kind.shape[0]
    sums = Conv2d(
        name=f"{node.name}.sum",
        inputs=node.inputs,
        source=node.source,
        weight=Const(np.ones((channels, 1, *node.kernel), np.float32)),
        stride=node.stride,
        padding=node.padding,
        groups=channels,
    )
    fires = Neuron(
        name=node.name,
        inputs=(sums.name,),
        source=node.source,
        threshold=kind.unit,
        output_scale=kind.unit,
    )
    return sums, fires
