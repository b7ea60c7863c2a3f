"""lower-logic: AND, IAND and the maximum of single spikes are neurons without memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.ir import (
    Add,
    And,
    Const,
    Conv2d,
    Family,
    Graph,
    Linear,
    MaxPool2d,
    Mul,
    Neuron,
    Node,
    Reshape,
    Spikes,
    ValueType,
)
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics
from snncc.passes.identity import counting, identity


@dataclass(frozen=True)
class LowerLogic:
    """Rewrites the logic of *binary* spikes as neurons, which wait for their window as all others do.

    ===================  ==========================  =========
    node                 weights                     threshold
    ===================  ==========================  =========
    ``a·b`` (AND, mul)   one and one                 2
    ``(1 - a)·b`` (IAND) minus one and one           1
    maximum (OR)         one for each of the window  1
    ===================  ==========================  =========

    Exact for spikes of one level alone: of counts a, b ≤ D a window of such neurons gives another
    number than the product or the maximum. A maximum of counts stays one, and neurons of threshold
    one count it: aligned trains are runs of ones, so that the OR of each micro-step adds up to it.
    Products of counts are left as they are; an IAND of counts a = n/D is the product of b with what
    neurons of weight minus one and bias one send, which is 1 - a. Padding is silent,
    which is the maximum that it never wins. A spike worth ``u`` gets a weight of 1/u, and the
    threshold stands half a spike lower, out of reach of rounding. An operand that is broadcast
    reaches all neurons of its row, column or channel through a kernel of that size.
    """

    name: ClassVar[str] = "lower-logic"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({And, MaxPool2d, Mul})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = _on_maps(graph)
        return replace(graph, nodes=tuple(new for node in graph.nodes for new in _lowered(graph, node)))


def is_binary(kind: ValueType) -> bool:
    """Whether a value is spikes of which an address sends one or none a timestep."""
    return isinstance(kind, Spikes) and kind.levels == 1 and not kind.signed


def _is_counts(kind: ValueType) -> bool:
    return isinstance(kind, Spikes) and kind.levels > 1 and not kind.signed


def _of_binary(graph: Graph, node: Node) -> bool:
    return all(is_binary(graph.types[name]) for name in node.inputs)


def _lowered(graph: Graph, node: Node) -> Iterator[Node]:
    if isinstance(node, MaxPool2d) and _is_counts(graph.types[node.inputs[0]]):
        yield from _most_of_window(node, _spikes(graph, node, 0))
    elif isinstance(node, And) and not _of_binary(graph, node):
        yield from _inverted(node, _spikes(graph, node, 0))
    elif not isinstance(node, And | Mul | MaxPool2d) or not _of_binary(graph, node):
        yield node
    elif isinstance(node, MaxPool2d):
        yield from _any_of_window(node, _spikes(graph, node, 0))
    elif len(graph.types[node.name].shape) in (1, 3):
        yield from _both(graph, node)
    else:
        yield node


def _spikes(graph: Graph, node: Node, at: int) -> Spikes:
    kind = graph.types[node.inputs[at]]
    assert isinstance(kind, Spikes)
    return kind


def _neuron(node: Node, reads: str, needed: int, unit: float, whole: bool) -> Neuron:
    """Fires once where ``needed`` spikes arrive; ``whole``: whether sums of spikes are exact."""
    threshold = float(needed) if whole else needed - 0.5
    return Neuron(name=node.name, inputs=(reads,), source=node.source, threshold=threshold, output_scale=unit)


def _any_of_window(node: MaxPool2d, kind: Spikes) -> Iterator[Node]:
    channels = kind.shape[0]
    ones = np.full((channels, 1, *node.kernel), 1 / kind.unit, np.float32)
    yield Conv2d(
        name=f"{node.name}.any",
        inputs=node.inputs,
        source=node.source,
        weight=Const(ones),
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=channels,
    )
    yield _neuron(node, f"{node.name}.any", 1, kind.unit, kind.unit == 1)


def _most_of_window(node: MaxPool2d, kind: Spikes) -> Iterator[Node]:
    """Neurons that count what the window's largest count is, unit by unit."""
    yield replace(node, name=f"{node.name}.max")
    yield counting(node.name, f"{node.name}.max", node.source, kind)


def _inverted(node: And, kind: Spikes) -> Iterator[Node]:
    """(1 - a)·b of counts: neurons that send what a count of n/D lacks of D/D, times b."""
    weights = identity(f"{node.name}.less", node.inputs[0], kind.shape, node.source, np.float32, -1)
    yield replace(weights, bias=Const(np.ones(kind.shape[0], np.float32)))
    yield counting(f"{node.name}.rest", weights.name, node.source, kind)
    yield Mul(name=node.name, inputs=(f"{node.name}.rest", node.inputs[1]), source=node.source)


def _both(graph: Graph, node: And | Mul) -> Iterator[Node]:
    """AND or IAND of vectors or maps."""
    inverted = isinstance(node, And) and node.invert_first
    shape, units = graph.types[node.name].shape, []
    for at, part in enumerate(("first", "second")):
        kind = _spikes(graph, node, at)
        sign = -1 if inverted and at == 0 else 1
        yield _spread(f"{node.name}.{part}", node, at, kind.shape, shape, sign / kind.unit)
        units.append(kind.unit)
    yield Add(
        name=f"{node.name}.sum",
        inputs=(f"{node.name}.first", f"{node.name}.second"),
        source=node.source,
    )
    whole = all(unit == 1 for unit in units)
    yield _neuron(node, f"{node.name}.sum", 1 if inverted else 2, units[0] * units[1], whole)


def _spread(
    name: str, node: Node, at: int, own: tuple[int, ...], target: tuple[int, ...], value: float
) -> Node:
    """Synapses of strength ``value`` from an operand of shape ``own`` to neurons of shape ``target``."""
    reads = (node.inputs[at],)
    if len(target) == 1:
        row = np.full((target[0], 1), value) if own[0] == 1 else np.eye(target[0]) * value
        return Linear(name=name, inputs=reads, source=node.source, weight=Const(row.astype(np.float32)))
    # One row that must reach n: a kernel of n taps that slides over it from one end to the other.
    height, width = (n if m == 1 else 1 for m, n in zip(own[1:], target[1:], strict=True))
    return Conv2d(
        name=name,
        inputs=reads,
        source=node.source,
        weight=Const(np.full((target[0], 1, height, width), value, np.float32)),
        padding=(height - 1, width - 1),
        groups=own[0],
    )


def _on_maps(graph: Graph) -> Graph:
    """``graph`` with logic of other ranks between views: neurons stand in vectors or maps."""
    return replace(graph, nodes=tuple(new for node in graph.nodes for new in _viewed(graph, node)))


def _viewed(graph: Graph, node: Node) -> Iterator[Node]:
    shapes = [graph.types[name].shape for name in node.inputs]
    maps = _as_maps(shapes) if isinstance(node, And | Mul) and _of_binary(graph, node) else None
    if maps is None:
        yield node
        return
    names = tuple(f"{node.name}.as-map{at}" for at in range(2))
    for at, name in enumerate(names):
        yield Reshape(name=name, inputs=(node.inputs[at],), source=node.source, shape=maps[at])
    yield replace(node, name=f"{node.name}.of-maps", inputs=names)
    result = graph.types[node.name].shape
    yield Reshape(name=node.name, inputs=(f"{node.name}.of-maps",), source=node.source, shape=result)


def _as_maps(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """The same elements as maps, all axes behind the second one; None where they are or cannot be."""
    rank = len(shapes[0])
    ends = [shape[2:] for shape in shapes]
    mixed = len({*ends}) > 1 and not any(math.prod(end) == 1 for end in ends)
    if rank in (1, 3) or mixed:
        return None
    return [(*shape[:2], math.prod(shape[2:])) for shape in shapes]
