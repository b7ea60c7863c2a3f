"""Which node kinds the passes can carry to integers and spikes; the others are refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from snncc.errors import Problem, problem
from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    Delay,
    Encode,
    Function,
    Graph,
    HostRegion,
    Input,
    IntegerNeuron,
    LayerNorm,
    Linear,
    MatMul,
    Mean,
    Neuron,
    Node,
    Output,
    Permute,
    Reshape,
    Scale,
    SumPool2d,
    WindowNeuron,
)
from snncc.ir.node import describe

_LOWERABLE = (
    Input, Linear, Conv2d, BatchNorm, Scale, Add, Concat, AvgPool2d, SumPool2d, Reshape, Permute, Neuron,
    IntegerNeuron, Encode, WindowNeuron, Delay, HostRegion, Output,
)  # fmt: skip


def unlowerable(graph: Graph) -> Iterator[Problem]:
    """One problem, SNNC-M012, for every node that no pass lowers yet."""
    for node in graph.nodes:
        if isinstance(node, _LOWERABLE) or _spatial_mean(graph, node):
            continue
        if isinstance(node, Function | LayerNorm):
            name = node.op if isinstance(node, Function) else node.kind
            hint = "a neuron in its place, or keep it outside the exported module"
            yield problem(
                "SNNC-M012", describe(node), f"{name} is real-valued: no spikes compute it", hint=hint
            )
        else:
            what = f"no pass lowers {node.kind} to spikes yet"
            way_out = "a network without attention products" if isinstance(node, MatMul) else None
            yield problem("SNNC-M012", describe(node), what, hint=way_out)


def _spatial_mean(graph: Graph, node: Node) -> bool:
    return isinstance(node, Mean) and node.axes == (1, 2) and len(graph.types[node.inputs[0]].shape) == 3
