"""canonical-layout: every neuron stands in a map [C, H, W] or a vector [C], channels first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from snncc.arrays import Array
from snncc.ir import (
    Add,
    AddConst,
    And,
    BatchNorm,
    Concat,
    Const,
    Conv2d,
    Delay,
    Family,
    Function,
    Graph,
    Input,
    LayerNorm,
    Linear,
    MatMul,
    Mean,
    Mul,
    Neuron,
    Node,
    Output,
    Permute,
    Reshape,
    Scale,
    Slice,
    Sum,
)
from snncc.ir.elementwise import Op
from snncc.ir.neurons import PER_CHANNEL
from snncc.ir.node import FLOAT_ONLY, Trait
from snncc.passes.arrangement import Arranged, Atom, Shape, aligned, arranged, labelled
from snncc.passes.base import Semantics

PRODUCTS = MatMul | Mul | And


@dataclass(frozen=True)
class CanonicalLayout:
    """Rewrites reshapes and permutations away, and what lies between them onto maps [C, H, W].

    What views and element-wise nodes connect is one map in several arrangements; the map is what a
    convolution gives or reads. Linear layers over rows (tokens first) become 1×1 convolutions, sums
    and means over tokens spatial ones, numbers along the first axis the channels'. Views remain in
    front of products, between a product and what reads it, in front of linear layers that read a
    whole map, and at the output. A graph that is so already is left alone.
    """

    name: ClassVar[str] = "canonical-layout"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        return rearranged(graph)[0] if any(out_of_layout(graph)) else graph


def out_of_layout(graph: Graph) -> Iterator[str]:
    """What stands against the canonical layout, in order of the nodes; nothing if a graph has it."""
    for node in graph.nodes:
        shape = graph.types[node.name].shape
        if isinstance(node, Neuron) and len(shape) not in (1, 3):
            yield f"%{node.name}: a neuron of shape {'x'.join(map(str, shape))}"
        if isinstance(node, Linear) and len(graph.types[node.inputs[0]].shape) != 1:
            yield f"%{node.name}: a linear layer over rows"
        if node.has(Trait.VIEW):
            for reader in _disturbed(graph, node):
                yield f"%{node.name}: a view in front of %{reader.name}"


def _disturbed(graph: Graph, view: Node) -> Iterator[Node]:
    """Readers of a view that it may not stand in front of."""
    source = graph.by_name[view.inputs[0]]
    while source.has(Trait.VIEW) or isinstance(source, Scale):
        source = graph.by_name[source.inputs[0]]
    for reader in graph.readers[view.name]:
        flat = isinstance(reader, Linear) and len(graph.types[view.name].shape) == 1
        behind_product = isinstance(source, PRODUCTS) and isinstance(reader, Neuron | Scale | Add | BatchNorm)
        allowed = isinstance(source, Input) or isinstance(reader, PRODUCTS | Output)
        if not (reader.has(Trait.VIEW) or flat or behind_product or allowed):
            yield reader


def rearranged(graph: Graph) -> tuple[Graph, dict[str, Arranged]]:
    """The graph in canonical layout, and how each of the values [*shape] of ``graph`` is held in it."""
    rewriter = _Rewriter(graph)
    for node in graph.nodes:
        if isinstance(node, Output):
            rewriter.close_loops()
        rewriter.take(node)
    return replace(graph, nodes=tuple(rewriter.nodes)), rewriter.values


def held_in(graph: Graph) -> Callable[[str, Array], Array]:
    """From a value's name and its values [N, T, *shape] to these as the canonical layout has them."""
    held = rearranged(graph)[1] if any(out_of_layout(graph)) else {}

    def moved(name: str, values: Array) -> Array:
        value = held.get(name)
        return values if value is None or value.name != name else value.brought(values)

    return moved


@dataclass
class _Rewriter:
    """The new graph's nodes so far, and how the old one's values are held in them."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Arranged] = field(default_factory=dict)
    _views: dict[tuple[str, str, Shape], str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._names = {n.name for n in self.graph.nodes if not n.has(Trait.VIEW)}

    # ---- where a value is found ----

    def original(self, name: str) -> str:
        """Node that holds a value as the old graph has it."""
        value = self.values[name]
        return self.moved(value, value.order, value.shape, name)

    def home(self, name: str) -> str:
        """Node that holds a value's map."""
        value = self.values[name]
        if value.held != value.straight or value.held_shape != value.home:
            self.values[name] = value.at_home(self.moved(value, value.straight, value.home, f"{name}.map"))
        return self.values[name].name

    def moved(self, value: Arranged, order: tuple[int, ...], shape: Shape, wanted: str) -> str:
        """Node that holds the map of a value in another order and shape."""
        name, moves = value.name, value.moves(order, shape)
        for i, (kind, numbers) in enumerate(moves):
            known = self._views.get((name, kind, numbers))
            if known is None:
                own = self._free(wanted if i == len(moves) - 1 else f"{wanted}.{kind}")
                source = self.graph.by_name.get(wanted.removesuffix(".map"))
                known = self._views[name, kind, numbers] = own
                made: dict[str, Any] = {
                    "name": own,
                    "inputs": (name,),
                    "source": source.source if source else "",
                }
                view = Reshape(**made, shape=numbers) if kind == "reshape" else Permute(**made, axes=numbers)
                self.nodes.append(view)
            name = known
        return name

    def _free(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._names:
            number += 1
            name = f"{wanted}.view{number if number > 1 else ''}"
        self._names.add(name)
        return name

    # ---- one node at a time ----

    def put(self, node: Node, *inputs: str, held: Arranged | None = None) -> None:
        """Add a node that reads ``inputs``; ``held`` says how it has the old graph's value."""
        self.nodes.append(replace(node, inputs=inputs))
        self.values[node.name] = held or _fresh(node.name, self.graph.types[node.name].shape)

    def take(self, node: Node) -> None:
        """Rewrite one node."""
        rule = _RULES.get(type(node), _as_before)
        rule(self, node)

    def close_loops(self) -> None:
        """Let delays read what stands behind them."""
        for i, node in enumerate(self.nodes):
            if isinstance(node, Delay):
                self.nodes[i] = replace(node, inputs=(self.original(node.inputs[0]),))

    def rooted(self, name: str) -> Arranged:
        """A value as a map of its own, whose channels are the old graph's first axis."""
        value = self.values[name]
        held = self.moved(value, value.order, _as_map(value.shape), f"{name}.map")
        return arranged(held, _as_map(value.shape), value.shape)


def _as_map(shape: Shape) -> Shape:
    """The map of a value of any rank whose first axis are its channels."""
    if len(shape) in (1, 3):
        return shape
    return (shape[0], math.prod(shape[1:]), 1) if shape else (1,)


def _fresh(name: str, shape: Shape) -> Arranged:
    """A node that starts a map of its own."""
    return arranged(name, _as_map(shape), shape).as_it_stands(name)


# ---- one rule a kind of node -------------------------------------------------------------------


def _as_before(r: _Rewriter, node: Node) -> None:
    """Reads its inputs as the old graph has them, and starts a map of its own."""
    r.put(node, *map(r.original, node.inputs))


def _input(r: _Rewriter, node: Input) -> None:
    """Rows of features, if a linear layer reads them, are a map whose channels stand last."""
    rows = len(node.shape) == 2 and any(isinstance(n, Linear) for n in r.graph.readers[node.name])
    axes = [[(Atom(n, axis), 0)] if n > 1 else [] for n, axis in zip(node.shape, (1, 0), strict=False)]
    r.put(node, held=labelled(node.name, node.shape, axes) if rows else None)


def _delay(r: _Rewriter, node: Delay) -> None:
    r.put(node, *node.inputs)


def _view(r: _Rewriter, node: Reshape | Permute) -> None:
    value = r.values[node.inputs[0]]
    seen = value.permuted(node.axes) if isinstance(node, Permute) else value.reshaped(node.shape)
    if seen is None:  # its cuts do not nest with the map's
        _as_before(r, node)
    else:
        r.values[node.name] = seen


def _of_channels(*names: str) -> Callable[[_Rewriter, Any], None]:
    """Rule of element-wise nodes with numbers along the first axis, in the fields ``names``."""

    def rule(r: _Rewriter, node: Node) -> None:
        value = r.values[node.inputs[0]]
        numbers = {f: getattr(node, f) for f in names}
        moved = {f: value.per_channel(c.array) for f, c in numbers.items() if isinstance(c, Const)}
        known: dict[str, Any] = {f: Const(a) for f, a in moved.items() if a is not None}
        if len(known) < len(moved):
            value = r.rooted(node.inputs[0])
            r.put(node, value.name, held=value.at_home(node.name))
        else:
            home = r.home(node.inputs[0])
            r.put(replace(node, **known), home, held=value.at_home(node.name))

    return rule


def _each_element(r: _Rewriter, node: Node) -> None:
    value = r.values[node.inputs[0]]
    r.put(node, value.name, held=replace(value, name=node.name))


def _scale(r: _Rewriter, node: Scale) -> None:
    (_of_channels("factor") if isinstance(node.factor, Const) else _each_element)(r, node)


def _add_const(r: _Rewriter, node: AddConst) -> None:
    if not isinstance(node.value, Const):
        return _each_element(r, node)
    home, value = r.home(node.inputs[0]), r.values[node.inputs[0]]
    moved = replace(node, value=Const(value.as_map(node.value.array)))
    return r.put(moved, home, held=value.at_home(node.name))


def _along_axes(r: _Rewriter, node: Function | LayerNorm) -> None:
    if isinstance(node, Function) and node.op is not Op.SOFTMAX:
        return _each_element(r, node)
    value = r.values[node.inputs[0]]
    return r.put(node, r.original(node.inputs[0]), held=value.as_it_stands(node.name))


def _joined(r: _Rewriter, node: Add | Mul | And) -> None:
    """On one map, if all inputs fit it element by element; else as the old graph has them."""
    shape = r.graph.types[node.name].shape
    whole = [i for i in node.inputs if r.values[i].shape == shape]
    for first in sorted(whole, key=lambda i: r.values[i].held != r.values[i].straight):
        inputs = [_fitted(r, first, i) for i in node.inputs]
        if all(i is not None for i in inputs):
            r.put(node, *map(str, inputs), held=r.values[first].at_home(node.name))
            return
    axes = [max((_along(r.values[i])[a] for i in node.inputs), key=_elements) for a in range(len(shape))]
    r.put(node, *map(r.original, node.inputs), held=labelled(node.name, shape, axes))


def _fitted(r: _Rewriter, first: str, name: str) -> str | None:
    """Node that holds a value in the home of another; None if it has no place there."""
    if name == first:
        return r.home(first)
    fit = aligned(r.values[first], r.values[name])
    if fit is None:
        return None
    one, other, order, shape = fit
    r.values[first] = one
    return r.moved(other, order, shape, f"{name}.map")


def _along(value: Arranged) -> list[list[tuple[Atom, int]]]:
    """Atoms along each axis, with their places at home."""
    return [[(value.atoms[i], i) for i in run] for run in value.runs]


def _elements(axis: list[tuple[Atom, int]]) -> int:
    return math.prod(atom.size for atom, _ in axis)


def _matmul(r: _Rewriter, node: MatMul) -> None:
    a, b = (_along(r.values[i]) for i in node.inputs)
    held = labelled(node.name, r.graph.types[node.name].shape, [*a[:-1], b[-1]])
    r.put(node, *map(r.original, node.inputs), held=held)


def _conv2d(r: _Rewriter, node: Conv2d) -> None:
    """1×1 reads any arrangement of a map's places."""
    value = r.values[node.inputs[0]]
    alone = (node.weight.shape[2:], node.stride, node.padding) == ((1, 1), (1, 1), (0, 0))
    if not alone or value.runs[0] != value.channels or value.rank != 3:
        return _as_before(r, node)
    shape = r.graph.types[node.name].shape
    home = r.home(node.inputs[0])
    return r.put(node, home, held=value.replaced(0, shape[0], shape, node.name))


def _linear(r: _Rewriter, node: Linear) -> None:
    """Over rows it is a convolution, one that reads a whole map stays."""
    value = r.values[node.inputs[0]]
    if len(value.shape) == 1 or tuple(sorted(value.runs[-1])) != value.channels:
        return _as_before(r, node)
    shape, home = r.graph.types[node.name].shape, r.home(node.inputs[0])
    held = value.replaced(len(shape) - 1, shape[-1], shape, node.name)
    weight = Const(value.columns(node.weight.array))
    if value.rank == 1:
        return r.put(replace(node, weight=weight), home, held=held)
    square = Const(weight.array[:, :, None, None])
    conv = Conv2d(name=node.name, source=node.source, weight=square, bias=node.bias)
    return r.put(conv, home, held=held)


def _reduced(r: _Rewriter, node: Mean | Sum) -> None:
    """Over whole axes of a map."""
    value, shape = r.values[node.inputs[0]], r.graph.types[node.name].shape
    gone = {i for a in node.axes for i in value.runs[a]}
    keep = [i for i in value.straight if i not in gone]
    axes = {value.atoms[i].axis for i in gone}
    if value.is_home and node.axes == (1, 2):
        return _as_before(r, node)
    if not gone:  # only axes of one element
        r.values[node.name] = replace(value, shape=shape)
        return None
    if value.rank == 1 or any(value.atoms[i].axis in axes for i in keep):
        return _as_before(r, node)
    home = r.home(node.inputs[0])
    if not node.keepdim and axes | {i for i in (1, 2) if value.home[i] == 1} == {1, 2}:
        return r.put(replace(node, axes=(1, 2)), home, held=value.only(keep, shape, 1, node.name))
    whole = replace(node, axes=tuple(sorted(axes)), keepdim=True)
    return r.put(whole, home, held=value.only(keep, shape, 3, node.name))


def _concat(r: _Rewriter, node: Concat) -> None:
    """Along the channels, of maps whose places are arranged alike."""
    values = [r.values[i] for i in node.inputs]
    places = {_places(v, node.axis) for v in values}
    if len(places) > 1 or any(v.runs[node.axis] != v.channels for v in values):
        return _as_before(r, node)
    shape, homes = r.graph.types[node.name].shape, [r.home(i) for i in node.inputs]
    held = values[0].replaced(node.axis, shape[node.axis], shape, node.name)
    return r.put(replace(node, axis=0), *homes, held=held)


def _places(value: Arranged, channels: int) -> tuple[Any, ...]:
    """How the places of a map are arranged along the axes of the other graph."""
    first = len(value.channels)
    runs = (run for a, run in enumerate(value.runs) if a != channels)
    return value.home[1:], tuple(tuple((i - first, value.atoms[i]) for i in run) for run in runs)


def _slice(r: _Rewriter, node: Slice) -> None:
    """Along the channels, or along their first factor where it takes neighbours."""
    value, shape = r.values[node.inputs[0]], r.graph.types[node.name].shape
    run, channels = value.runs[node.axis], value.channels
    whole = run == channels
    if not run or run != channels[: len(run)] or not (whole or node.step == 1):
        return _as_before(r, node)
    each = 1 if whole else math.prod(value.atoms[i].size for i in channels[len(run) :])
    cut = replace(node, axis=0, start=node.start * each, stop=node.stop * each)
    held = value.replaced(node.axis, shape[node.axis], shape, node.name)
    return r.put(cut, r.home(node.inputs[0]), held=held)


_RULES: dict[type[Node], Callable[[_Rewriter, Any], None]] = {
    Input: _input,
    Delay: _delay,
    Reshape: _view,
    Permute: _view,
    Neuron: _of_channels(*PER_CHANNEL),
    BatchNorm: _of_channels("gamma", "beta", "mean", "var"),
    Scale: _scale,
    AddConst: _add_const,
    Function: _along_axes,
    LayerNorm: _along_axes,
    Add: _joined,
    Mul: _joined,
    And: _joined,
    MatMul: _matmul,
    Conv2d: _conv2d,
    Linear: _linear,
    Mean: _reduced,
    Sum: _reduced,
    Concat: _concat,
    Slice: _slice,
}
