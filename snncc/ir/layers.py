"""Layers of a graph: neurons, what drives them (weights and products), and the spikes that those read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    places = {node.name: i for i, node in enumerate(nodes)}
    return tuple(_layer(nodes, places, n) for n in nodes if isinstance(n, AnyNeuron))


def _layer(nodes: Sequence[Node], places: Mapping[str, int], neuron: AnyNeuron) -> Layer:
    """The way back from a neuron; ``places``: where each node stands among ``nodes``."""
    wanted, found = [neuron.inputs[0]], set[int]()
    while wanted:
        at = places.get(wanted.pop())
        if at is None or at in found:
            continue
        found.add(at)
        if not isinstance(nodes[at], Weighted | Bilinear):
            wanted += through(nodes[at])
    path = tuple(nodes[at] for at in sorted(found))
    weighted = tuple(n for n in path if isinstance(n, Weighted))
    return Layer(neuron, path, weighted, tuple(n for n in path if isinstance(n, Bilinear)))
