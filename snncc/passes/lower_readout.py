"""lower-readout: the last layer becomes neurons too; every neuron is driven through weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.analysis.sites import open_maps
from snncc.errors import fail
from snncc.ir import (
    Add,
    Decode,
    Family,
    Graph,
    MaxPool2d,
    Neuron,
    Node,
    OverTime,
    Spikes,
)
from snncc.ir.node import FLOAT_ONLY, Trait
from snncc.passes.base import Semantics, describe
from snncc.passes.identity import identity, kept_closed


@dataclass(frozen=True)
class LowerReadout:
    """Puts the last layer on the chip.

    A result that is a current (class scores of a linear layer) becomes the membrane potential of
    neurons that integrate and never fire, over all timesteps where the result is their sum or
    mean; a result that is spikes is counted.
    A neuron fed by spikes without weights gets identity weights, unless it counts a maximum of them.
    """

    name: ClassVar[str] = "lower-readout"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return _with_identities(_with_readout(graph))


def _with_readout(graph: Graph) -> Graph:
    output = graph.output
    views: list[Node] = []
    last = graph.by_name[output.inputs[0]]
    while last.has(Trait.VIEW):
        views.append(last)
        last = graph.by_name[last.inputs[0]]
    if isinstance(last, Neuron):
        decode = Decode.MEMBRANE if last.is_readout else Decode.COUNT
        return graph.rewrite(lambda n: replace(output, decode=decode) if n.name == output.name else None)
    if isinstance(graph.types[last.name], Spikes):
        raise fail(
            "SNNC-M019",
            describe(last),
            "the result is spikes that several addresses share",
            hint="ending the model with a neuron or a linear layer",
        )
    if graph.steps > 1 and output.over_time is OverTime.NONE:
        raise fail(
            "SNNC-M019",
            describe(output),
            "a membrane is read once, after the last timestep, but the result is one value a timestep",
            hint="the mean or sum over time as result",
        )
    readout = Neuron(
        name=f"{last.name}.readout",
        inputs=(last.name,),
        source=last.source,
        max_spikes=0,
        decay=0 if graph.steps == 1 else 1,
    )
    scale = output.scale / graph.steps if output.over_time is OverTime.MEAN else output.scale
    end = replace(output, decode=Decode.MEMBRANE, over_time=OverTime.NONE, scale=scale)
    return _read_through(graph, last, readout, {n.name for n in views}, end)


def _read_through(graph: Graph, last: Node, readout: Neuron, views: set[str], end: Node) -> Graph:
    """``graph`` with ``readout`` between ``last`` and the views and output behind it."""
    nodes: list[Node] = []
    for node in graph.nodes:
        node = end if node.name == end.name else node
        if node.name in views or node.name == end.name:
            node = replace(node, inputs=tuple(readout.name if i == last.name else i for i in node.inputs))
        nodes += [node, readout] if node.name == last.name else [node]
    return replace(graph, nodes=tuple(nodes))


def _with_identities(graph: Graph) -> Graph:
    """Identity weights wherever a current is asked for and spikes are given."""
    nodes: list[Node] = []
    maps = open_maps(graph)
    for node in graph.nodes:
        if not isinstance(node, Neuron | Add) or (
            isinstance(node, Add) and isinstance(graph.types[node.name], Spikes)
        ):
            nodes.append(node)
            continue
        inputs = []
        for i, name in enumerate(node.inputs):
            pooled = isinstance(node, Neuron) and isinstance(graph.by_name[name], MaxPool2d)
            if isinstance(graph.types[name], Spikes) and not pooled:
                shape = graph.types[name].shape
                weights = identity(f"{node.name}.identity{i or ''}", name, shape, node.source, np.float32)
                passed = kept_closed(weights, maps[name])
                nodes += passed
                name = passed[-1].name
            inputs.append(name)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(graph, nodes=tuple(nodes))
