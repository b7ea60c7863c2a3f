"""Scales of layers: how many units of an integer membrane one unit of a real one becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from snncc.analysis.ranges import Shared, extremes, held
from snncc.arrays import Array
from snncc.ir import (
    Add,
    CentreGate,
    Const,
    Current,
    Graph,
    HostRegion,
    MaxPool2d,
    Neuron,
    Node,
    Reshape,
    SiteGate,
    SumPool2d,
    Upsample,
)
from snncc.ir.const import number_array, values_of
from snncc.ir.neurons import POTENTIALS
from snncc.ir.synapses import Weighted
from snncc.passes.rounding import Scale, exponent_for, integers, theta_of

# Rounding moves sums by a few per cent at most, so that the second attempt nearly always fits.
_ATTEMPTS = 8

# Bits that the largest weight of every branch keeps beside its sign, where exponents can see to it:
# with fewer, rounding changes more than every tenth count of a trained network.
_KEPT = 5


@dataclass(frozen=True)
class Widths:
    """Words of a chip.

    Attributes:
        weight: bits of a weight, two's complement, symmetric range.
        membrane: of a membrane, in units of a weight.
        sum: of what adds up one timestep's inputs.
        exponent: largest power of two that stands before the weights of a connection; 0: none do.
        event: of the number that a graded event carries, its sign included.
    """

    weight: int
    membrane: int
    sum: int
    exponent: int = 0
    event: int = 32


@dataclass(frozen=True)
class Group:
    """Neurons and weights that add up in common membranes and hence share one scale."""

    graph: Graph
    neurons: tuple[Neuron, ...]
    weighted: tuple[Weighted, ...]

    @cached_property
    def currents(self) -> tuple[Weighted, ...]:
        """Weights of one behind currents of the host."""
        return tuple(w for w in self.weighted if is_current(self.graph, w.inputs[0]))

    @property
    def branches(self) -> tuple[Weighted, ...]:
        """The other weights."""
        host = {w.name for w in self.currents}
        return tuple(w for w in self.weighted if w.name not in host)

    def in_units(self, units: Mapping[str, float]) -> Group:
        """The group as it reads counts of relays that are worth so many times what they were."""
        factors = {w.name: np.float32(units.get(w.inputs[0], 1)) for w in self.weighted}
        read = tuple(
            w if factors[w.name] == 1 else replace(w, weight=Const(w.weight.array * factors[w.name]))
            for w in self.weighted
        )
        return replace(self, weighted=read)

    def exponent(self, node: Weighted, scale: Scale, bits: int) -> int:
        """The power of two before a branch's words at a scale."""
        return exponent_for(float((_sizes(node, each=True) * scale).max(initial=0)), bits)

    @property
    def tie(self) -> str:
        """Why the channels of its membranes have one scale, and not one each; empty where they need not."""
        neuron = self.neurons[0]
        if len(self.weighted) + len(self.neurons) > 2:
            return "several branches or neurons share a sum"
        if neuron.is_readout:
            return "the membranes of a readout have one unit"
        if neuron.signed:
            return "what a relay sends has one unit"
        return "" if keeps_channels(self.graph, neuron) else "its sums change channels before the neurons"


_CHANNELWISE = Weighted | Add | SumPool2d | MaxPool2d | Upsample | SiteGate | CentreGate


def keeps_channels(graph: Graph, neuron: Neuron) -> bool:
    """Whether output channel c of a neuron's weights reaches channel c of the neuron, and no other."""

    def keeps(node: Node) -> bool:
        shapes = [graph.types[name].shape for name in (node.name, *node.inputs)]
        if isinstance(node, Weighted):
            return node.weight.shape[0] == shapes[0][0]
        return isinstance(node, _CHANNELWISE) or (
            isinstance(node, Reshape) and shapes[0][:1] == shapes[1][:1]
        )

    return all(keeps(node) for node in graph.layers[neuron.name].path)


def is_current(graph: Graph, name: str) -> bool:
    """Whether a value is a current that the host adds to a sum."""
    return isinstance(graph.by_name[name], HostRegion) and isinstance(graph.types[name], Current)


def groups(graph: Graph) -> Iterator[Group]:
    """The groups of a float graph; all readers of a current of the host are of one."""
    shared: nx.Graph[str] = nx.Graph()
    for neuron in (n for n in graph.nodes if isinstance(n, Neuron)):
        shared.add_node(neuron.name)
        shared.add_edges_from((neuron.name, w.name) for w in graph.layers[neuron.name].weighted)
    for w in [graph.by_name[name] for name in shared]:
        if isinstance(w, Weighted) and is_current(graph, w.inputs[0]):
            shared.add_edge(w.name, w.inputs[0])
    for component in nx.connected_components(shared):
        members = [n for n in graph.nodes if n.name in component]
        neurons = tuple(n for n in members if isinstance(n, Neuron))
        yield Group(graph, neurons, tuple(n for n in members if isinstance(n, Weighted)))


def scale_of(
    group: Group, widths: Widths, values: Mapping[str, Array], margin: float, each: bool = False
) -> Scale:
    """Largest scale whose integer weights, as they come out rounded, respect the accumulator.

    It starts where the largest weight fills its word; where chips have exponents and a branch would keep
    less than it needs, by so many powers of two higher. It ends where s·θ is a whole number.

    Args:
        group: what shares it.
        widths: of the chip.
        values: calibration values [N, *shape] of what the weights read.
        margin: how much wider than on the calibration inputs sums may become.
        each: whether every channel gets the largest of its own, [C]; of a group without tie.
    """
    if not group.weighted:  # a maximum of counts, which no weight multiplies
        return 1.0
    # One control event, of at most a weight's size, must fit beside the range.
    room, sum_room = (2 ** (bits - 1) - 2 ** (widths.weight - 1) for bits in (widths.membrane, widths.sum))
    scale: Any = _first_scales(group, widths, room) if each else _first_scale(group, widths)
    firing = sorted((n for n in group.neurons if not n.is_readout), key=lambda n: n.signed)
    theta = theta_of(firing[0]) if firing else None
    for _ in range(_ATTEMPTS):
        if theta is not None:
            whole = np.minimum(np.floor(theta * scale * (1 + 1e-9)), room)
            scale = np.where(theta * scale >= 1, whole / theta, scale)[()]
        one, all_held = _spans(group, widths, values, scale, margin)
        over = np.maximum(one / sum_room, all_held / room)
        if (over <= 1).all():
            break
        scale = np.where(over > 1, scale * (0.99 / np.maximum(over, 1)), scale)[()]
    return scale if each else float(scale)


def _sizes(node: Weighted, each: bool) -> Any:
    """Size of the largest weight, or of the largest of each output channel [C], float64."""
    size = np.abs(node.weight.array).reshape(len(node.weight.array), -1)
    return size.max(axis=1 if each else None, initial=0).astype(np.float64)


def _first_scales(group: Group, widths: Widths, room: int) -> Array:
    """Where the scales of channels begin: their largest weights fill the word, no potential leaves it."""
    (node,), (neuron,) = group.weighted, group.neurons
    sizes = _sizes(node, each=True)
    first = (2 ** (widths.weight - 1) - 1) / np.where(sizes > 0, sizes, theta_of(neuron))
    potentials = [v for name in POTENTIALS if (v := getattr(neuron, name)) is not None]
    largest = np.maximum.reduce([np.abs(values_of(v)) + 0 * sizes for v in potentials])
    return np.asarray(np.minimum(first, room / largest))


def _first_scale(group: Group, widths: Widths) -> float:
    top = 2 ** (widths.weight - 1) - 1
    sizes = [size for w in group.branches if (size := float(_sizes(w, each=False))) > 0]
    if not sizes:
        # A layer without weights above zero still needs a scale in which its threshold is an integer.
        return float(top / max(theta_of(n) for n in group.neurons))
    scale, kept = top / max(sizes), 2 ** (min(_KEPT, widths.weight - 1) - 1)
    raised = max(0, math.ceil(math.log2(kept / (min(sizes) * scale))))
    return float(scale * 2 ** min(raised, widths.exponent))


def _spans(
    group: Group, widths: Widths, values: Mapping[str, Array], scale: Any, margin: float
) -> tuple[Any, Any]:
    """Widest any-order prefix range of one timestep's inputs, and of what a membrane holds.

    With the margin, in integers of ``scale``; of each channel where it is one of each.
    """
    graph = group.graph
    rounded = {w.name: _rounded(group, w, scale, widths) for w in group.weighted}
    spans, shared = [], Shared()
    for neuron in group.neurons:
        found = extremes(graph, neuron, values, lambda w: rounded[w.name], shared)
        rank, each = found.rest.ndim, np.ndim(scale) > 0
        axes = tuple(a for a in range(rank) if a != 1) if each else None
        low, high = found.low.min(axis=axes, initial=0), found.high.max(axis=axes, initial=0)
        # Biases of the weights are not rounded here; how they differ between neurons adds to the span.
        fixed = np.abs(found.rest + number_array(neuron.bias, rank)).max(axis=axes, initial=0)
        low, high, fixed = (np.float64(x) for x in (low, high, fixed))
        one = (high - low) * margin + 2 * fixed * scale
        spans.append((one, one * held(neuron, graph.steps)))
    return np.maximum.reduce([s[0] for s in spans]), np.maximum.reduce([s[1] for s in spans])


def _rounded(group: Group, node: Weighted, scale: Any, widths: Widths) -> Weighted:
    """A node with its integer weights as floats; a current of the host is as fine as the scale."""
    if is_current(group.graph, node.inputs[0]):
        return replace(node, weight=Const(node.weight.array * np.float32(scale)))
    whole = integers(node.weight.array, scale, widths.weight, group.exponent(node, scale, widths.weight))
    return replace(node, weight=Const(whole.astype(np.float32), copy=False))
