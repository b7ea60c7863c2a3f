"""Parameters and dense operations of a graph, node by node, by the declared type of the operands.

Operations are those of a dense execution of the graph, padding taps included, biases excluded, a
sample with all its timesteps. Whether one is an accumulate or a real multiply (MAC) follows from
the types alone, never from values (docs/semantics.md#operations).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from snncc.analysis.sites import gate_behind
from snncc.ir.const import Const
from snncc.ir.graph import Graph
from snncc.ir.neurons import numbers
from snncc.ir.node import Node
from snncc.ir.nodes import HostRegion
from snncc.ir.synapses import Conv2d, ConvTranspose2d, Linear, MatMul
from snncc.ir.types import Spikes, ValueType


class Operand(StrEnum):
    """What the moving operand of a weighted node is."""

    BINARY = "binary spikes"  # an operation is one accumulate
    COUNTS = "spike counts"  # one accumulate a unit spike
    REAL = "real values"  # an operation is a multiply-accumulate


@dataclass(frozen=True)
class NodeCost:
    """One node.

    Attributes:
        name: of the node.
        source: path of the module it came from.
        parameters: stored numbers (weights, biases, statistics).
        operations: dense multiply-accumulates a sample; 0 for nodes that multiply nothing.
        operand: what decides whether they are accumulates; None without operations.
        on_host: whether it stands in a host region.
    """

    name: str
    source: str
    parameters: int
    operations: int
    operand: Operand | None
    on_host: bool


def node_costs(graph: Graph) -> tuple[NodeCost, ...]:
    """Costs of every node of a graph and of its host regions, in order.

    Every node counts T = ``graph.steps`` times, for the graph runs it at every timestep. That is
    half of what ``torch.utils.flop_counter`` counts in the module a node came from, except where
    PyTorch runs a layer once a sample: on a static image before it is repeated over time (the stem
    of SEW-ResNet), or behind the mean over time (the head of Spikformer). There the graph counts T
    times as much. It knows of neither: the image comes anew at each step, and the mean, which such
    a head commutes with, stands at the output. Sites that a gate closes are not computed, but by a host.
    """
    return tuple(_costs(graph, graph.steps, on_host=False))


def host_macs(graph: Graph) -> int:
    """Multiply-accumulates a sample that the graph's host regions compute."""
    return sum(c.operations for c in node_costs(graph) if c.on_host)


def _costs(graph: Graph, steps: int, on_host: bool) -> Iterator[NodeCost]:
    for node in graph.nodes:
        if isinstance(node, HostRegion):
            yield from _costs(node.body, steps, on_host=True)
            continue
        args = [graph.types[name] for name in node.inputs]
        operations = steps * _operations(node, args, graph.types[node.name])
        gate = gate_behind(graph, node) if operations and not on_host else None
        if gate is not None:
            # Rounded up: the taps of a transposed convolution are no whole number a site of its output.
            operations = -(-operations * int(gate.sum()) // gate.size)
        operand = _operand(args) if operations else None
        yield NodeCost(node.name, node.source, _parameters(node), operations, operand, on_host)


def _parameters(node: Node) -> int:
    return sum(v.array.size for v in numbers(node).values() if isinstance(v, Const))


def _operations(node: Node, args: list[ValueType], result: ValueType) -> int:
    """Multiply-accumulates of one timestep."""
    match node:
        case Linear():
            return math.prod(result.shape) * node.weight.shape[1]
        case Conv2d():
            return math.prod(result.shape) * math.prod(node.weight.shape[1:])
        case ConvTranspose2d():
            # Every input meets every tap of its group, also those that the padding cuts off.
            return math.prod(args[0].shape) * math.prod(node.weight.shape[1:])
        case MatMul():
            return math.prod(result.shape) * args[0].shape[-1]
        case _:
            return 0


def _operand(args: list[ValueType]) -> Operand:
    """One spike operand is enough for accumulates: the other is then what is added up."""
    levels = [a.levels for a in args if isinstance(a, Spikes)]
    if not levels:
        return Operand.REAL
    return Operand.BINARY if min(levels) == 1 else Operand.COUNTS
