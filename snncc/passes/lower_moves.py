"""lower-moves: sums, paddings, cuts and joins of spikes become weights of zero and one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir import (
    Add,
    AvgPool2d,
    Concat,
    Const,
    Conv2d,
    Current,
    Family,
    Graph,
    Linear,
    Mean,
    Mul,
    Neuron,
    Node,
    Pad,
    Resample,
    Reshape,
    Slice,
    Spikes,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.synapses import Weighted
from snncc.ir.types import ValueType
from snncc.passes.base import Semantics, describe
from snncc.passes.chains import computed_by_host
from snncc.passes.identity import counting

# What adds values up; the others only move them.
_SUMS = AvgPool2d | Mean | Resample | Sum | SumPool2d
_MOVES = _SUMS | Concat | Pad | Slice

# Weights of a pooling whose windows differ: inputs × outputs a channel. 64 MiB in float32.
_MOST_OF_SITES = 2**24


@dataclass(frozen=True)
class LowerMoves:
    """Rewrites what is linear and holds no weights as weights, where no address function takes it in.

    Pooling whose windows tile the map stands in an address function as it is, and so do means and sums
    over rows and columns, joined channels and upsampled maps; zeros around a map become the padding of
    the convolutions that read it. Everything else becomes a convolution of zeros and ones, or, where
    windows differ from site to site, of weights for every site. Where
    weights read a sum, it is the first of two layers in a row, which merge-chains composes or relays.
    Where spikes are asked for, neurons of threshold one pass on what the convolution gives, count for
    count.
    """

    name: ClassVar[str] = "lower-moves"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-conv-bn",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({Mean, Pad, Resample, Slice, Sum})

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        graph = _without_paddings(graph)
        host = computed_by_host(graph)
        nodes = (new for n in graph.nodes for new in ((n,) if n.name in host else _lowered(graph, n)))
        return replace(graph, nodes=tuple(nodes))


@dataclass(frozen=True)
class _Along:
    """A convolution along one axis: what each tap weighs, and its geometry."""

    taps: Array
    stride: int = 1
    padding: int = 0


_STILL = _Along(np.ones(1))


@dataclass(frozen=True)
class _Move:
    """What a node does to the axes of a map [C, H, W]; to vectors [C] only ``channels`` applies.

    Attributes:
        channels: matrix [O, C]; None: each channel by itself.
    """

    channels: Array | None = None
    rows: _Along = _STILL
    columns: _Along = _STILL


# ---- which nodes, and what they become ---------------------------------------------------------------


def _without_paddings(graph: Graph) -> Graph:
    """Zeros around maps of spikes that convolutions alone read are these convolutions' padding."""
    removed = {n.name: n.inputs[0] for n in graph.nodes if isinstance(n, Pad) and _is_padding(graph, n)}

    def wider(node: Node) -> Node | None:
        pad = graph.by_name[node.inputs[0]] if isinstance(node, Conv2d) else None
        if not isinstance(node, Conv2d) or not isinstance(pad, Pad) or pad.name not in removed:
            return None
        (down, right), (_, rows, columns) = node.padding, pad.before
        return replace(node, padding=(down + rows, right + columns))

    return graph.rewrite(wider).without(removed) if removed else graph


def _is_padding(graph: Graph, pad: Pad) -> bool:
    even = len(pad.before) == 3 and pad.before == pad.after and pad.before[0] == 0 and _is_zero(pad)
    return even and _of_spikes(graph, pad) and all(isinstance(r, Conv2d) for r in graph.readers[pad.name])


def _is_zero(pad: Pad) -> bool:
    return not isinstance(pad.value, Const) and pad.value == 0


def _of_spikes(graph: Graph, node: Node) -> bool:
    """Whether all that it reads is spikes without a sign, and no product that counts itself."""
    return all(_counts(graph.types[i]) and not _multiplies(graph, i) for i in node.inputs)


def _counts(kind: ValueType) -> bool:
    return isinstance(kind, Spikes) and not kind.signed


def _multiplies(graph: Graph, name: str) -> bool:
    """Whether a value is a product of counts, behind views: products have addresses of their own."""
    node, kind = graph.by_name[name], graph.types[name]
    while isinstance(node, Reshape | Sum):
        node = graph.by_name[node.inputs[0]]
    return isinstance(node, Mul) and isinstance(kind, Spikes) and kind.levels > 1


def _lowered(graph: Graph, node: Node) -> Iterator[Node]:
    kinds = [graph.types[i] for i in node.inputs]
    if not isinstance(node, _MOVES) or len(kinds[0].shape) not in (1, 3) or _has_address(graph, node):
        yield node
    elif isinstance(node, Sum | Mean) and _pools(graph, node):
        yield from _as_pooling(graph, node)
    elif _of_spikes(graph, node):
        yield from _as_weights(graph, node, spikes=_wants_spikes(graph, node))
    elif isinstance(node, _SUMS | Slice) and isinstance(kinds[0], Current):
        yield from _as_weights(graph, node, spikes=False)
    else:
        yield node


def _has_address(graph: Graph, node: Node) -> bool:
    """Whether an address function, a later pass or the host's part takes the node as it is."""
    match node:
        case SumPool2d() | AvgPool2d():
            tiles = node.kernel == node.stride and node.padding == (0, 0)
            return tiles and _of_spikes(graph, node) and not _is_upsampled(graph, node)
        case Mean():
            whole = node.axes == (1, 2) and len(graph.types[node.inputs[0]].shape) == 3
            return whole and not _is_upsampled(graph, node)
        case Sum():
            return _multiplies(graph, node.inputs[0]) or not isinstance(graph.types[node.inputs[0]], Spikes)
        case Concat():
            return node.axis == 0
        case Pad():
            return not _is_zero(node)
        case _:
            return False


def _is_upsampled(graph: Graph, node: Node) -> bool:
    """Whether an upsampled map is pooled: an address function knows the other order alone."""
    before = [graph.by_name[name] for name in node.inputs if not isinstance(node, Neuron | Weighted)]
    return any(isinstance(n, Upsample) or _is_upsampled(graph, n) for n in before)


def _wants_spikes(graph: Graph, node: Node) -> bool:
    """Whether what reads it needs spikes, not a sum: layers of weights behind a sum are one chain."""
    readers = Neuron | Weighted if isinstance(node, _SUMS) else Neuron
    return not all(isinstance(reader, readers) for reader in graph.readers[node.name])


def _pools(graph: Graph, node: Sum | Mean) -> bool:
    return 0 not in node.axes and _of_spikes(graph, node) and not _is_upsampled(graph, node)


def _as_pooling(graph: Graph, node: Sum | Mean) -> Iterator[Node]:
    """A sum over whole rows or columns, as the pooling that address functions know."""
    _, height, width = graph.types[node.inputs[0]].shape
    window = (height if 1 in node.axes else 1, width if 2 in node.axes else 1)
    name = node.name if node.keepdim else f"{node.name}.pooled"
    pool: type[AvgPool2d] | type[SumPool2d] = AvgPool2d if isinstance(node, Mean) else SumPool2d
    yield pool(name=name, inputs=node.inputs, source=node.source, kernel=window, stride=window)
    yield from _reshaped(graph, node, name)


def _reshaped(graph: Graph, node: Node, name: str) -> Iterator[Node]:
    """The view that gives the result ``name`` the shape of the node whose place it takes, if another."""
    if name != node.name:
        shape = graph.types[node.name].shape
        yield Reshape(name=node.name, inputs=(name,), source=node.source, shape=shape)


def _as_weights(graph: Graph, node: Node, spikes: bool) -> Iterator[Node]:
    """Weights in a node's place, added up where it joins several; ``spikes``: with neurons behind them."""
    kind = graph.types[node.name]
    keeps = not isinstance(node, Sum | Mean) or node.keepdim
    result = node.name if keeps else f"{node.name}.map"
    parts = len(node.inputs)
    sums = f"{node.name}.moved" if spikes else result
    names = [f"{node.name}.part{i}" for i in range(parts)] if parts > 1 else [sums]
    for i, name in enumerate(names):
        shape = graph.types[node.inputs[i]].shape
        yield _weights(_move(graph, node, i), shape, node, i, name)
    if parts > 1:
        yield Add(name=sums, inputs=tuple(names), source=node.source)
    if spikes:
        assert isinstance(kind, Spikes)
        yield counting(result, sums, node.source, kind)
    yield from _reshaped(graph, node, result)


def _weights(move: _Move, shape: tuple[int, ...], node: Node, at: int, name: str) -> Weighted:
    """What a node does to one of its inputs, of ``shape``, as a convolution or linear layer."""
    reads, source = (node.inputs[at],), node.source
    if len(shape) == 1:
        matrix = np.eye(shape[0]) if move.channels is None else move.channels
        weight = Const(matrix.astype(np.float32))
        return Linear(name=name, inputs=reads, source=source, weight=weight)
    _fits(node, shape[0] * move.rows.taps.size * move.columns.taps.size)
    taps = np.multiply.outer(move.rows.taps, move.columns.taps)
    alone = move.channels is None
    matrix = np.ones((shape[0], 1)) if move.channels is None else move.channels
    return Conv2d(
        name=name,
        inputs=reads,
        source=source,
        weight=Const((matrix[:, :, None, None] * taps).astype(np.float32)),
        stride=(move.rows.stride, move.columns.stride),
        padding=(move.rows.padding, move.columns.padding),
        groups=shape[0] if alone else 1,
    )


def _fits(node: Node, weights: int) -> None:
    if isinstance(node, Resample) and weights > _MOST_OF_SITES:
        raise fail(
            "SNNC-M012",
            describe(node),
            "a pooling whose windows differ takes weights of its own for every site",
            got=f"{weights:,} weights",
            limit=f"{_MOST_OF_SITES:,}",
            hint="windows that are alike: sizes that divide evenly, ceil_mode=False, count_include_pad=True",
        )


# ---- what each kind of node does ---------------------------------------------------------------------


def _move(graph: Graph, node: Node, at: int) -> _Move:
    shape = graph.types[node.inputs[at]].shape
    match node:
        case SumPool2d() | AvgPool2d():
            share = np.prod(node.kernel) if isinstance(node, AvgPool2d) else 1
            sides = zip(node.kernel, node.stride, node.padding, (share, 1), strict=True)
            return _Move(None, *(_Along(np.ones(k) / part, s, p) for k, s, p, part in sides))
        case Resample():
            rows = node.rows.array / node.divisor
            return _Move(None, _of_sites(rows, shape[1]), _of_sites(node.columns.array, shape[2]))
        case Sum() | Mean():
            share = np.prod([shape[a] for a in node.axes]) if isinstance(node, Mean) else 1
            channels = np.ones((1, shape[0])) if 0 in node.axes else np.eye(shape[0])
            each = [_Along(np.ones(n)) if a in node.axes else _STILL for a, n in enumerate(shape)]
            return _Move(channels / share, *each[1:])
        case Pad():
            return _placed(shape, node.before, node.after)
        case Slice():
            return _cut(shape, node)
        case Concat():
            sizes = [graph.types[i].shape[node.axis] for i in node.inputs]
            before, after = ([0] * len(shape) for _ in range(2))
            before[node.axis], after[node.axis] = sum(sizes[:at]), sum(sizes[at + 1 :])
            return _placed(shape, tuple(before), tuple(after))
        case _:
            raise AssertionError(f"{node.kind} is no move")


def _placed(shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> _Move:
    """A map within a larger one: of one tap, in a kernel as wide as its sides differ."""
    channels = None
    if before[0] or after[0]:
        channels = np.eye(before[0] + shape[0] + after[0])[:, before[0] : before[0] + shape[0]]
    sides = zip(before[1:], after[1:], strict=True)
    return _Move(channels, *(_one_tap(abs(a - b) + 1, max(a, b) - b, padding=max(a, b)) for b, a in sides))


def _cut(shape: tuple[int, ...], node: Slice) -> _Move:
    """Every ``step``-th element from ``start`` on: a stride, and one tap so far from the edge."""
    rows = np.arange(node.start, node.stop, node.step)
    if node.axis == 0:
        return _Move(np.eye(shape[0])[rows])
    size = shape[node.axis] - (len(rows) - 1) * node.step
    along = _one_tap(size, node.start, stride=node.step)
    return _Move(None, along, _STILL) if node.axis == 1 else _Move(None, _STILL, along)


def _of_sites(weights: Array, size: int) -> _Along:
    """Weights [outputs, size] of their own for every output.

    In steps of the whole axis no output sees the map through taps that another sees it through.
    """
    return _Along(weights[::-1].ravel(), size, (len(weights) - 1) * size)


def _one_tap(size: int, at: int, stride: int = 1, padding: int = 0) -> _Along:
    return _Along(np.eye(size)[at], stride, padding)
