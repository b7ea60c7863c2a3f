"""fold-threshold: thresholds that differ between channels move into the weights in front of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.ir import Const, Family, Graph, Neuron, Node
from snncc.ir.const import values_of
from snncc.ir.layers import Layer
from snncc.ir.neurons import POTENTIALS
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.synapses import Weighted
from snncc.passes.base import Semantics
from snncc.passes.quantizable import different_values
from snncc.passes.scales import is_current, keeps_channels


@dataclass(frozen=True)
class FoldThreshold:
    """Gives a neuron one threshold θ, the largest of its channels'.

    Channel c's weights, biases and potentials become θ/θ_c times what they were, which computes the same
    spikes. Its weights must drive that neuron alone, channel by channel; where they do not, its thresholds
    stay. Run it in front of quantize, when every other pass has moved its factors.
    """

    name: ClassVar[str] = "fold-threshold"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-scale", "split-host")
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        driven = Counter(w.name for layer in graph.layers.values() for w in layer.weighted)
        new: dict[str, Node] = {}
        for layer in graph.layers.values():
            if _is_folded(graph, layer, driven):
                assert isinstance(layer.neuron, Neuron)
                theta = values_of(layer.neuron.threshold).astype(np.float64)
                factors = theta.max() / theta
                new |= {w.name: _times(w, factors) for w in layer.weighted}
                new[layer.neuron.name] = _scaled(layer.neuron, factors)
        return graph.rewrite(lambda n: new.get(n.name)) if new else graph


def _is_folded(graph: Graph, layer: Layer, driven: Counter[str]) -> bool:
    neuron = layer.neuron
    if not isinstance(neuron, Neuron) or neuron.is_readout or len(different_values(neuron.threshold)) == 1:
        return False
    alone = all(driven[w.name] == 1 and not is_current(graph, w.inputs[0]) for w in layer.weighted)
    return alone and len(layer.ends) == len(layer.weighted) and keeps_channels(graph, neuron)


def _times(node: Weighted, factors: Array) -> Weighted:
    along = factors.reshape(-1, *(1,) * (node.weight.array.ndim - 1))
    bias = None if node.bias is None else _const(node.bias.array * factors)
    return replace(node, weight=_const(node.weight.array * along), bias=bias)


def _scaled(neuron: Neuron, factors: Array) -> Neuron:
    changes: dict[str, Any] = {"threshold": float(values_of(neuron.threshold).max())}
    for name in POTENTIALS[1:]:
        value = getattr(neuron, name)
        if value is not None and values_of(value).any():
            changes[name] = _const(values_of(value) * factors)
    return replace(neuron, **changes)


def _const(values: Array) -> Const:
    return Const(np.asarray(values, np.float32))
