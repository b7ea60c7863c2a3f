"""Layers of a graph: neurons, the weights that drive them, and the spikes that those read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snncc.ir.neurons import IntegerNeuron, Neuron, WindowNeuron
from snncc.ir.node import Node
from snncc.ir.synapses import Weighted

AnyNeuron = Neuron | IntegerNeuron | WindowNeuron


@dataclass(frozen=True)
class Layer:
    """A neuron node and its drive.

    Attributes:
        neuron: the node that integrates.
        path: the nodes from the weights, these included, to the neuron, in order of flow.
        weighted: those of them that hold weights.
    """

    neuron: AnyNeuron
    path: tuple[Node, ...]
    weighted: tuple[Weighted, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the values that the weights read, in their order; twice where two read the same."""
        return tuple(w.inputs[0] for w in self.weighted)


def layers_of(nodes: Sequence[Node]) -> tuple[Layer, ...]:
    """The layer of every neuron among ``nodes``, which stand in order of flow."""
    return tuple(_layer(nodes, n) for n in nodes if isinstance(n, AnyNeuron))


def _layer(nodes: Sequence[Node], neuron: AnyNeuron) -> Layer:
    wanted = {neuron.inputs[0]}
    path: list[Node] = []
    for node in reversed(nodes):
        if node.name not in wanted:
            continue
        path.append(node)
        if not isinstance(node, Weighted):
            wanted |= set(node.inputs)
    path.reverse()
    return Layer(neuron, tuple(path), tuple(n for n in path if isinstance(n, Weighted)))
