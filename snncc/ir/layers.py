"""Layers of a graph: neurons, what drives them (weights and products), and the spikes that those read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snncc.ir.elementwise import AddConst, BatchNorm, Function, LayerNorm, Mul
from snncc.ir.neurons import IntegerNeuron, Neuron, WindowNeuron
from snncc.ir.node import Node, Trait
from snncc.ir.pools import MaxPool2d
from snncc.ir.sites import through
from snncc.ir.synapses import MatMul, Weighted

AnyNeuron = Neuron | IntegerNeuron | WindowNeuron

# Products of two values: they hold no weights, and end the way back from a neuron as weights do.
Bilinear = MatMul | Mul

# What the way back from a neuron ends at: it reads spikes, and what it gives is integrated.
End = Weighted | Bilinear | MaxPool2d


@dataclass(frozen=True)
class Layer:
    """A neuron node and its drive.

    Attributes:
        neuron: the node that integrates.
        path: the nodes from the weights, products and pools, these included, to the neuron, in order of
            flow.
        weighted: those of them that hold weights.
        products: those of them that multiply two values.
        pools: those of them that take the maximum of spikes; one of currents is passed through.
    """

    neuron: AnyNeuron
    path: tuple[Node, ...]
    weighted: tuple[Weighted, ...]
    products: tuple[Bilinear, ...] = ()
    pools: tuple[MaxPool2d, ...] = ()

    @property
    def ends(self) -> tuple[End, ...]:
        """Weights, products and pools, in order of flow: what reads spikes."""
        return tuple(n for n in self.path if isinstance(n, Weighted | Bilinear) or n in self.pools)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the values that the ends read, in their order; twice where two read one."""
        return tuple(name for end in self.ends for name in end.inputs)


def layers_of(nodes: Sequence[Node]) -> tuple[Layer, ...]:
    """The layer of every neuron among ``nodes``, which stand in order of flow."""
    places = {node.name: i for i, node in enumerate(nodes)}
    pools = _pools_of_spikes(nodes)
    return tuple(_layer(nodes, places, pools, n) for n in nodes if isinstance(n, AnyNeuron))


def _pools_of_spikes(nodes: Sequence[Node]) -> frozenset[str]:
    """Names of the maxima that are taken of spikes, not of what weights or products give."""
    currents: set[str] = set()
    for node in nodes:
        gives = node.has(Trait.WEIGHTED) or isinstance(
            node, Bilinear | AddConst | BatchNorm | Function | LayerNorm
        )
        if gives or (not isinstance(node, AnyNeuron) and not currents.isdisjoint(node.inputs)):
            currents.add(node.name)
    return frozenset(n.name for n in nodes if isinstance(n, MaxPool2d) and n.name not in currents)


def _layer(
    nodes: Sequence[Node], places: Mapping[str, int], pools: frozenset[str], neuron: AnyNeuron
) -> Layer:
    """The way back from a neuron; ``places``: where each node stands among ``nodes``."""
    wanted, found = [neuron.inputs[0]], set[int]()
    while wanted:
        at = places.get(wanted.pop())
        if at is None or at in found:
            continue
        found.add(at)
        if not isinstance(nodes[at], Weighted | Bilinear) and nodes[at].name not in pools:
            wanted += through(nodes[at])
    path = tuple(nodes[at] for at in sorted(found))
    weighted = tuple(n for n in path if isinstance(n, Weighted))
    products = tuple(n for n in path if isinstance(n, Bilinear))
    maxima = tuple(n for n in path if isinstance(n, MaxPool2d) and n.name in pools)
    return Layer(neuron, path, weighted, products, maxima)
