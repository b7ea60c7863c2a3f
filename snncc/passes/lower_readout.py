"""lower-readout: the last layer becomes neurons too; every neuron is driven through weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.errors import fail
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Decode,
    Graph,
    Linear,
    Neuron,
    Node,
    OverTime,
    Permute,
    Reshape,
    Spikes,
)
from snncc.passes.base import Semantics, describe


@dataclass(frozen=True)
class LowerReadout:
    """Puts the last layer on the chip.

    A result that is a current (class scores of a linear layer) becomes the membrane potential of
    neurons that integrate and never fire, over all timesteps where the result is their sum or
    mean; a result that is spikes is counted. Views between the last neuron and the output go.
    A neuron fed by spikes without weights gets identity weights.
    """

    name: ClassVar[str] = "lower-readout"
    preserves: ClassVar[Semantics] = Semantics.EXACT

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return _with_identities(_with_readout(graph))


def _with_readout(graph: Graph) -> Graph:
    output = graph.output
    last = graph.by_name[output.inputs[0]]
    while isinstance(last, Reshape | Permute):
        last = graph.by_name[last.inputs[0]]
    if isinstance(last, Neuron):
        decode = Decode.MEMBRANE if last.is_readout else Decode.COUNT
        return _replace_output(graph, (replace(output, inputs=(last.name,), decode=decode),))
    if isinstance(graph.types[last.name], Spikes):
        raise fail(
            "SNNC-M012",
            describe(last),
            "the result is spikes that several addresses share",
            hint="end the model with a neuron or a linear layer",
        )
    if graph.steps > 1 and output.over_time is OverTime.NONE:
        raise fail(
            "SNNC-M012",
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
    end = replace(
        output, inputs=(readout.name,), decode=Decode.MEMBRANE, over_time=OverTime.NONE, scale=scale
    )
    return _replace_output(graph, (readout, end))


def _replace_output(graph: Graph, ending: tuple[Node, ...]) -> Graph:
    """``graph`` with another ending, without the views that nothing reads any more."""
    nodes = [*graph.nodes[:-1], *ending]
    while True:
        read = {name for n in nodes for name in n.inputs} | {ending[-1].name}
        alive = [n for n in nodes if n.name in read or not isinstance(n, Reshape | Permute)]
        if len(alive) == len(nodes):
            return replace(graph, nodes=tuple(nodes))
        nodes = alive


def _with_identities(graph: Graph) -> Graph:
    """Identity weights wherever a current is asked for and spikes are given."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if not isinstance(node, Neuron | Add) or (
            isinstance(node, Add) and isinstance(graph.types[node.name], Spikes)
        ):
            nodes.append(node)
            continue
        inputs = []
        for i, name in enumerate(node.inputs):
            if isinstance(graph.types[name], Spikes):
                weights = _identity(
                    f"{node.name}.identity{i or ''}", name, node.source, graph.types[name].shape
                )
                nodes.append(weights)
                name = weights.name
            inputs.append(name)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(graph, nodes=tuple(nodes))


def _identity(name: str, reads: str, source: str, shape: tuple[int, ...]) -> Node:
    if len(shape) == 3:
        ones = Const(np.ones((shape[0], 1, 1, 1), np.float32))
        return Conv2d(name=name, inputs=(reads,), source=source, weight=ones, groups=shape[0])
    return Linear(
        name=name, inputs=(reads,), source=source, weight=Const(np.eye(shape[-1], dtype=np.float32))
    )
