"""Layers of a graph: neurons, what drives them (weights and products), and the spikes that those read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snncc.ir.elementwise import Mul
from snncc.ir.neurons import IntegerNeuron, Neuron, WindowNeuron
from snncc.ir.node import Node
from snncc.ir.sites import through
from snncc.ir.synapses import MatMul, Weighted

AnyNeuron = Neuron | IntegerNeuron | WindowNeuron

# Products of two values: they hold no weights, and end the way back from a neuron as weights do.
Bilinear = MatMul | Mul


@dataclass(frozen=True)
class Layer:
    """A neuron node and its drive.

    Attributes:
        neuron: the node that integrates.
        path: the nodes from the weights and products, these included, to the neuron, in order of flow.
        weighted: those of them that hold weights.
        products: those of them that multiply two values.
    """

    neuron: AnyNeuron
    path: tuple[Node, ...]
    weighted: tuple[Weighted, ...]
    products: tuple[Bilinear, ...] = ()

    @property
    def ends(self) -> tuple[Weighted | Bilinear, ...]:
        """Weights and products, in order of flow: what is linear in each of the values that it reads."""
        return tuple(n for n in self.path if isinstance(n, Weighted | Bilinear))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the values that weights and products read, in their order; twice where two read one."""
        return tuple(name for end in self.ends for name in end.inputs)


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
        if not isinstance(node, Weighted | Bilinear):
            wanted |= set(through(node))
    path.reverse()
    weighted = tuple(n for n in path if isinstance(n, Weighted))
    return Layer(neuron, tuple(path), weighted, tuple(n for n in path if isinstance(n, Bilinear)))
