"""From the products of a spike graph to affine addresses: views between spikes and neurons become strides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir import (
    Add,
    Delay,
    Encode,
    Graph,
    Hold,
    MatMul,
    Node,
    Permute,
    Reshape,
    Slice,
    Sum,
    SumPool2d,
    WindowNeuron,
)
from snncc.ir.evaluation import evaluate
from snncc.ir.layers import Bilinear
from snncc.ir.node import describe
from snncc.mapping.address import Shape3
from snncc.mapping.product import Product, ProductAddress, Strided


@dataclass(frozen=True)
class _Way:
    """From a source of spikes to an operand: which source address each of its elements is, and the wait."""

    source: Encode | WindowNeuron
    index: Array
    delay: int


def products_of(graph: Graph, neuron: WindowNeuron, ports: Mapping[str, str]) -> Iterator[Product]:
    """The products that a neuron integrates, one for every pair of sources whose spikes meet.

    Args:
        graph: spike graph.
        neuron: of it.
        ports: names of the input ports, by the nodes that encode their counts.

    Raises:
        ModelError: SNNC-M022 for one without an affine address.
    """
    for node, target in _targets(graph, neuron):
        held, stream = _roles(graph, node)
        for one in _ways(graph, node.inputs[held]):
            for other in _ways(graph, node.inputs[stream]):
                ways = (one, other) if held == 0 else (other, one)
                first, second = _loops(graph, node, ways)
                at = (first, second) if held == 0 else (second, first)
                yield Product(
                    held=ports.get(one.source.name, one.source.name),
                    stream=ports.get(other.source.name, other.source.name),
                    held_delay=one.delay,
                    stream_delay=other.delay,
                    address=_address(graph, node, (one, other), at, target, neuron),
                )


def _roles(graph: Graph, node: Bilinear) -> tuple[int, int]:
    """Positions of the held and of the streaming operand."""
    held = [i for i, name in enumerate(node.inputs) if isinstance(graph.by_name[name], Hold)]
    if len(held) != 1:
        raise fail("SNNC-M022", describe(node), "one operand of a product is held", got=len(held), limit=1)
    return held[0], 1 - held[0]


def _ways(graph: Graph, name: str, delay: int = 0) -> Iterator[_Way]:
    """All ways to an operand; its elements are numbered by their source's addresses."""
    node = graph.by_name[name]
    match node:
        case Encode() | WindowNeuron():
            shape = graph.types[name].shape
            yield _Way(node, np.arange(math.prod(shape)).reshape(shape), delay)
        case Delay():
            yield from _ways(graph, node.inputs[0], delay + node.steps)
        case Hold():
            yield from _ways(graph, node.inputs[0], delay)
        case Add():
            for source in node.inputs:
                yield from _ways(graph, source, delay)
        case Reshape() | Permute() | Slice():
            for way in _ways(graph, node.inputs[0], delay):
                yield _Way(way.source, evaluate(node, [way.index[None]])[0], way.delay)
        case _:
            raise _no_address(node, f"{node.kind} in front of a product has no address function")


def _no_address(node: Node, what: str) -> Exception:
    return fail("SNNC-M022", describe(node), what, hint="neurons between it and the product")


def _targets(graph: Graph, neuron: WindowNeuron) -> Iterator[tuple[Bilinear, Array]]:
    """Every product of a neuron's drive with the neuron's address of each of its elements."""
    shape = graph.types[neuron.name].shape
    found: dict[str, list[Array]] = {neuron.inputs[0]: [np.arange(math.prod(shape)).reshape(shape)]}
    carrying = _carrying(graph, neuron)
    for node in reversed(carrying):
        for target in found.get(node.name, ()):
            if isinstance(node, Bilinear):
                yield node, target
                continue
            # Sums that meet again, x + (x + y), bring what they share twice.
            for name in (i for i in node.inputs if any(i == n.name for n in carrying)):
                found.setdefault(name, []).append(_before(graph, node, target))


def _carrying(graph: Graph, neuron: WindowNeuron) -> tuple[Node, ...]:
    """The products of a neuron's drive and what stands behind them, in order of flow."""
    found: dict[str, Node] = {}
    for node in graph.layers[neuron.name].path:
        if isinstance(node, Bilinear) or any(i in found for i in node.inputs):
            found[node.name] = node
    return tuple(found.values())


def _before(graph: Graph, node: Node, target: Array) -> Array:
    """Targets of a node's input, from those of its result."""
    shape = graph.types[node.inputs[0]].shape
    match node:
        case Add():
            return target
        case Reshape():
            return target.reshape(shape)
        case Permute():
            return target.transpose(np.argsort(node.axes))
        case Sum():
            kept = tuple(1 if a in node.axes else n for a, n in enumerate(shape))
            return np.broadcast_to(target.reshape(kept), shape)
        case SumPool2d(padding=(0, 0)) if _tiles(node, shape):
            return target.repeat(node.kernel[0], axis=1).repeat(node.kernel[1], axis=2)
        case _:
            raise _no_address(node, f"{node.kind} between a product and neurons has no address function")


def _tiles(node: SumPool2d, shape: tuple[int, ...]) -> bool:
    """Whether the windows of a pooling lie side by side and leave no rest."""
    return node.kernel == node.stride and all(n % k == 0 for n, k in zip(shape[1:], node.kernel, strict=True))


_Loops = tuple[int | None, ...]  # which axis of an operand each loop walks along


def _loops(graph: Graph, node: Bilinear, ways: tuple[_Way, _Way]) -> tuple[_Loops, _Loops]:
    """Loops of a product, by the axes of its first and of its second operand."""
    rank = len(graph.types[node.name].shape)
    if isinstance(node, MatMul):
        batch = tuple(range(rank - 2))
        return (*batch, rank - 2, rank - 1, None), (*batch, None, rank - 2, rank - 1)
    both = [tuple(a if w.index.shape[a] > 1 else None for a in range(rank)) for w in ways]
    return both[0], both[1]


def _address(
    graph: Graph,
    node: Bilinear,
    ways: tuple[_Way, _Way],
    at: tuple[_Loops, _Loops],
    target: Array,
    neuron: WindowNeuron,
) -> ProductAddress:
    """The affine address of a product between the sources of its held and its streaming operand."""
    rank = len(graph.types[node.name].shape)
    of_target: _Loops = tuple(range(rank))
    if isinstance(node, MatMul):
        of_target = (*range(rank - 1), None, rank - 1)
    walked = ((ways[0].index, at[0]), (ways[1].index, at[1]), (target, of_target))
    sizes = tuple(
        max(1 if axes[i] is None else index.shape[axes[i]] for index, axes in walked)  # type: ignore[index]
        for i in range(len(of_target))
    )
    held, stream, to = (_strided(node, index, axes) for index, axes in walked)
    return ProductAddress(
        sizes=sizes,
        held=held,
        stream=stream,
        target=to,
        held_shape=_map_of(graph, ways[0].source),
        stream_shape=_map_of(graph, ways[1].source),
        target_shape=_map_of(graph, neuron),
    )


def _strided(node: Node, index: Array, axes: _Loops) -> Strided:
    """Offset and strides of an array of addresses."""
    first = int(index.flat[0])
    own = [
        int(index[(0,) * a + (1,) + (0,) * (index.ndim - a - 1)]) - first if n > 1 else 0
        for a, n in enumerate(index.shape)
    ]
    straight = Strided(offset=first, strides=tuple(own))
    if min(own, default=0) < 0 or (straight.indices(index.shape) != index).any():
        what = "a change of layout around a product that no strides describe"
        raise fail("SNNC-M022", describe(node), what, hint="heads and tokens that divide channels and maps")
    return Strided(offset=first, strides=tuple(0 if a is None else own[a] for a in axes))


def _map_of(graph: Graph, node: Node) -> Shape3:
    """(C, H, W) of a source or a neuron; (C,) is (C, 1, 1)."""
    shape = graph.types[node.name].shape
    if len(shape) not in (1, 3):
        what = "neurons stand in maps [C, H, W] or vectors [C]"
        raise fail("SNNC-M022", describe(node), what, got=list(shape))
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
