"""Layouts: whatever reshapes and permutations a network has, its values are found in maps, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snncc.analysis.layerwise import compare_layers
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
    MaxPool2d,
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
from snncc.ir.interp import run
from snncc.passes.arrangement import Arranged, arranged
from snncc.passes.canonical_layout import CanonicalLayout, held_in, out_of_layout, rearranged
from spelled import spelled


@dataclass
class Tokens:
    """A random network that changes its layout: ``layout`` is cwh ([C, H, W]), cn ([C, N]) or nc ([N, C])."""

    data: st.DataObject
    rng: np.random.Generator
    nodes: list[Node]
    places: tuple[int, int]
    channels: int
    layout: str = "chw"

    def const(self, *shape: int) -> Const:
        return Const((self.rng.integers(-4, 5, shape) / 4).astype(np.float32))

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    def put(self, cls: type[Node], *inputs: str, **fields: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(cls(name=name, inputs=inputs or (self.last,), source=name, **fields))
        return name

    def to(self, layout: str, name: str | None = None, have: str | None = None) -> str:
        """``name`` (the last value) in a layout."""
        name, have = name or self.last, have or self.layout
        h, w = self.places
        if have == layout:
            return name
        if have == "chw":
            name = self.put(Reshape, name, shape=(self.channels, h * w))
        elif have == "nc":
            name = self.put(Permute, name, axes=(1, 0))
        if layout == "chw":
            return self.put(Reshape, name, shape=(self.channels, h, w))
        return self.put(Permute, name, axes=(1, 0)) if layout == "nc" else name

    def draw(self, *options: Any) -> Any:
        return self.data.draw(st.sampled_from(options))

    def grow(self) -> None:
        """Weights in a drawn layout, a normalisation of channels in another, a neuron in a third."""
        out = self.draw(2, 4, 6)
        kind = self.draw("rows", "pointwise", "conv")
        if kind == "rows":
            self.to("nc")
            self.put(Linear, weight=self.const(out, self.channels), bias=self.const(out))
            self.layout = "nc"
        else:
            k = 1 if kind == "pointwise" else 3
            self.to("chw")
            self.put(Conv2d, weight=self.const(out, self.channels, k, k), padding=(k // 2, k // 2))
            self.layout = "chw"
        self.channels = out
        self.norm()
        self.spike()

    def norm(self) -> None:
        wanted = self.draw("none", "chw", "cn")
        if wanted == "none":
            return
        self.to(wanted)
        self.layout = wanted
        one = Const(np.full(self.channels, 0.75, np.float32))
        gamma, beta, mean = (self.const(self.channels) for _ in range(3))
        self.put(BatchNorm, gamma=gamma, beta=beta, mean=mean, var=one, eps=0.25)

    def spike(self) -> None:
        wanted = self.draw("chw", "cn", "nc")
        self.to(wanted)
        self.layout = wanted
        fields: dict[str, Any] = {"max_spikes": self.draw(1, 3), "threshold": 0.5, "decay": self.draw(0, 0.5)}
        if wanted != "nc" and self.draw(True, False):
            fields["threshold"] = Const((self.rng.integers(1, 5, self.channels) / 4).astype(np.float32))
            fields["v_init"] = self.const(self.channels)
        self.put(Neuron, **fields)

    def shortcut(self) -> None:
        """A value and one that a layer makes of it, added up in a drawn layout."""
        before, layout, channels = self.last, self.layout, self.channels
        self.grow()
        if self.channels != channels:
            return
        wanted = self.draw("chw", "cn", "nc")
        a, b = self.to(wanted, before, layout), self.to(wanted, self.last_of_layer())
        self.layout = wanted
        self.put(Add, a, b)

    def last_of_layer(self) -> str:
        return next(n.name for n in reversed(self.nodes) if isinstance(n, Neuron))

    def attention(self) -> None:
        """Two products of three projections, tokens first or last, over one or two heads."""
        before, layout = self.last, self.layout
        found = []
        for _ in range(3):
            self.nodes.append(Scale(name=f"v{len(self.nodes)}", inputs=(before,), factor=1.0))
            self.layout = layout
            out = self.channels
            self.to("nc")
            self.put(Linear, weight=self.const(out, self.channels))
            self.layout = "nc"
            self.spike()
            found.append(self.heads())
        q, k, v = found
        turned = self.put(Permute, k, axes=(0, 2, 1))
        self.put(MatMul, self.put(MatMul, q, turned), v)
        self.put(Scale, factor=0.125)
        self.put(Permute, axes=(1, 0, 2))
        self.put(Reshape, shape=(self.places[0] * self.places[1], self.channels))
        self.layout = "nc"
        self.spike()

    def heads(self) -> str:
        n, heads = self.places[0] * self.places[1], 2
        self.to("nc")
        self.put(Reshape, shape=(n, heads, self.channels // heads))
        return self.put(Permute, axes=(1, 0, 2))

    def embed(self) -> None:
        shape = {"chw": (self.channels, *self.places), "cn": (self.channels, self.places[0] * self.places[1])}
        self.to("cn")
        self.layout = "cn"
        self.put(AddConst, value=self.const(*shape[self.draw("cn")]))
        self.spike()

    def end(self) -> Graph:
        way = self.draw("mean", "flat", "spikes")
        if way == "mean":
            self.to("nc")
            self.put(Mean, axes=(0,))
            self.put(Linear, weight=self.const(3, self.channels))
        elif way == "flat":
            self.to(self.draw("nc", "chw", "cn"))
            size = self.channels * self.places[0] * self.places[1]
            self.put(Reshape, shape=(size,))
            self.put(Linear, weight=self.const(3, size))
        return Graph("g", Family.FLOAT, (*self.nodes, Output(name="o", inputs=(self.last,))), 2)


@st.composite
def token_graphs(draw: st.DrawFn) -> Graph:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    places, channels = (
        draw(st.sampled_from([(2, 4), (4, 1), (1, 1), (2, 2)])),
        draw(st.sampled_from([1, 2, 3])),
    )
    net = Tokens(
        draw(st.data()), rng, [Input(name="x", shape=(channels, *places), levels=3)], places, channels
    )
    net.grow()
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from([net.grow, net.shortcut, net.attention, net.embed]))()
    return net.end()


def inputs(graph: Graph, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (3, graph.steps, *graph.input.shape)).astype(np.float32)


def same(graph: Graph, after: Graph | None = None) -> Graph:
    """The graph in canonical layout, all of whose values are the old one's, bit for bit."""
    new, held = rearranged(graph)
    new = after or new
    x = inputs(graph)
    names = tuple(n.name for n in graph.nodes if held.get(n.name) and held[n.name].name == n.name)
    a, b = run(graph, x, names), run(new, x, names)
    for name in names:
        assert np.array_equal(held[name].brought(a.values[name]), b.values[name]), name
    assert np.array_equal(a.result, b.result)
    return new


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(token_graphs())
def test_values_stay_what_they_were(graph: Graph) -> None:
    new = same(graph)
    assert list(out_of_layout(new)) == []
    assert {n.kind for n in new.nodes} <= {n.kind for n in graph.nodes} | {"reshape", "permute", "conv2d"}
    assert sum(a.size for a in new.constants().values()) <= sum(a.size for a in graph.constants().values())
    assert len(same(new).nodes) <= len(new.nodes)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(token_graphs())
def test_the_float_rule_is_asked_of_rearranged_layers(graph: Graph) -> None:
    report = compare_layers(graph, CanonicalLayout().run(graph), inputs(graph), held_in(graph))
    assert (report.worst, report.flips) == (0.0, 0)


# ---- one layer each ------------------------------------------------------------------------------


def real(*shape: int) -> Const:
    n = int(np.prod(shape))
    return Const((((np.arange(n) * 5) % 9 - 4) / 4).reshape(shape).astype(np.float32))


def graph(*nodes: Node, shape: tuple[int, ...], steps: int = 1) -> Graph:
    head = Input(name="x", shape=shape, levels=3)
    return Graph("g", Family.FLOAT, (head, *nodes, Output(name="o", inputs=(nodes[-1].name,))), steps)


def test_tokens_first_becomes_pointwise_convolutions() -> None:
    """Numbers of rows of tokens follow their channels; the whole text."""
    g = graph(
        Conv2d(name="stem", inputs=("x",), weight=real(3, 1, 1, 1)),
        Neuron(name="a", inputs=("stem",)),
        Reshape(name="cn", inputs=("a",), shape=(3, 4)),
        Permute(name="nc", inputs=("cn",), axes=(1, 0)),
        Linear(name="q", inputs=("nc",), weight=real(2, 3), bias=real(2)),
        Permute(name="back", inputs=("q",), axes=(1, 0)),
        Neuron(name="b", inputs=("back",), threshold=Const(np.array([1, 2], np.float32))),
        Permute(name="rows", inputs=("b",), axes=(1, 0)),
        Mean(name="mean", inputs=("rows",), axes=(0,)),
        Linear(name="fc", inputs=("mean",), weight=real(2, 2)),
        shape=(1, 2, 2),
    )
    assert (
        spelled(same(g))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[1, 2, 2], levels=3} : spikes<1x2x2, 3>
  %stem = conv2d %x {weight=[[[[-1.0]]],[[[0.25]]],[[[-0.75]]]]} : current<3x2x2, f32>
  %a = neuron %stem : spikes<3x2x2, 1>
  %q = conv2d %a {weight=[[[[-1.0]],[[0.25]],[[-0.75]]],[[[0.5]],[[-0.5]],[[0.75]]]], bias=[-1.0,0.25]} : current<2x2x2, f32>
  %b = neuron %q {threshold=[1.0,2.0]} : spikes<2x2x2, 1>
  %mean = mean %b : spikes<2, 4, unit=0.25>
  %fc = linear %mean {weight=[[-1.0,0.25],[-0.75,0.5]]} : current<2, f32>
  %o = output %fc : current<2, f32>
}
"""
    )


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 0, 1)])
def test_a_whole_map_that_is_read_in_another_order(axes: tuple[int, ...]) -> None:
    g = graph(
        Conv2d(name="stem", inputs=("x",), weight=real(3, 1, 1, 1)),
        Neuron(name="a", inputs=("stem",)),
        Permute(name="p", inputs=("a",), axes=axes),
        Reshape(name="flat", inputs=("p",), shape=(18,)),
        Neuron(name="b", inputs=("flat",)),
        Linear(name="fc", inputs=("b",), weight=real(2, 18)),
        shape=(1, 2, 3),
    )
    new = same(g)
    assert new.types["b"].shape == (3, 2, 3)
    assert list(out_of_layout(new)) == []


TOKENS = (
    Conv2d(name="stem", inputs=("x",), weight=real(6, 1, 1, 1)),
    Neuron(name="a", inputs=("stem",)),
    Reshape(name="cn", inputs=("a",), shape=(6, 4)),
    Permute(name="nc", inputs=("cn",), axes=(1, 0)),
)


@pytest.mark.parametrize(
    "nodes",
    [
        (Slice(name="s", inputs=("nc",), axis=1, start=1, stop=6, step=2),),
        (Slice(name="s", inputs=("nc",), axis=0, start=1, stop=3),),
        (
            Reshape(name="three", inputs=("nc",), shape=(4, 3, 2, 1)),
            Permute(name="first", inputs=("three",), axes=(1, 2, 0, 3)),
            Slice(name="one", inputs=("first",), axis=0, start=1, stop=2),
            Reshape(name="s", inputs=("one",), shape=(2, 4, 1)),
        ),
        (Concat(name="s", inputs=("nc", "nc"), axis=1),),
        (Concat(name="s", inputs=("nc", "nc"), axis=0),),
        (Sum(name="s", inputs=("nc",), axes=(1,)),),
        (Sum(name="s", inputs=("nc",), axes=(1,), keepdim=True),),
        (Sum(name="s", inputs=("nc",), axes=(0,), keepdim=True),),
        (Sum(name="s", inputs=("nc",), axes=(0, 1)),),
        (Reshape(name="odd", inputs=("nc",), shape=(3, 8)), Scale(name="s", inputs=("odd",), factor=2.0)),
        (Scale(name="s", inputs=("nc",), factor=Const(np.array([1, 2, 4, 8], np.float32))),),
        (Linear(name="l", inputs=("cn",), weight=real(3, 4)), Scale(name="s", inputs=("l",), factor=2.0)),
        (Sum(name="t", inputs=("a",), axes=(0,), keepdim=True), Mul(name="s", inputs=("a", "t"))),
        (Permute(name="t", inputs=("a",), axes=(0, 2, 1)), And(name="s", inputs=("a", "t"))),
        (Permute(name="t", inputs=("a",), axes=(0, 2, 1)), Add(name="s", inputs=("a", "t"))),
        (Function(name="s", inputs=("nc",), op=Op.SOFTMAX),),
        (Function(name="s", inputs=("nc",), op=Op.RELU),),
        (LayerNorm(name="s", inputs=("nc",), gamma=real(6), beta=real(6), eps=1.0),),
        (MaxPool2d(name="s", inputs=("a",), kernel=(2, 2), stride=(2, 2)),),
        (AddConst(name="s", inputs=("nc",), value=real(4, 6)),),
        (AddConst(name="s", inputs=("nc",), value=real(1, 6)),),
        (AddConst(name="s", inputs=("nc",), value=0.5),),
    ],
    ids=lambda nodes: "-".join(n.kind for n in nodes),
)  # fmt: skip
def test_kinds_in_another_layout(nodes: tuple[Node, ...]) -> None:
    g = graph(*TOKENS, *nodes, Neuron(name="n", inputs=("s",), threshold=0.25, max_spikes=5), shape=(1, 2, 2))
    new = same(g)
    assert len(new.types["n"].shape) in (1, 3)


def test_loops_read_what_stands_behind_them() -> None:
    g = graph(
        Delay(name="d", inputs=("nc",), steps=1, shape=(4, 6)),
        *TOKENS[:1],
        Reshape(name="rows", inputs=("d",), shape=(4, 3, 2)),
        Permute(name="turned", inputs=("rows",), axes=(1, 2, 0)),
        Reshape(name="map", inputs=("turned",), shape=(6, 2, 2)),
        Add(name="sum", inputs=("stem", "map")),
        replace(TOKENS[1], inputs=("sum",)),
        *TOKENS[2:],
        Linear(name="fc", inputs=("nc",), weight=real(2, 6)),
        shape=(1, 2, 2),
        steps=3,
    )  # fmt: skip
    same(g)


def test_rows_at_the_input_are_tokens() -> None:
    g = graph(
        Linear(name="l", inputs=("x",), weight=real(2, 3)),
        Neuron(name="n", inputs=("l",)),
        Linear(name="m", inputs=("n",), weight=real(2, 2)),
        shape=(4, 3),
    )
    new = same(g)
    assert new.types["n"].shape == (2, 4, 1)
    assert list(out_of_layout(new)) == []


def test_a_graph_in_canonical_layout_is_left_alone() -> None:
    g = graph(
        Conv2d(name="c", inputs=("x",), weight=real(2, 1, 1, 1)),
        Neuron(name="n", inputs=("c",)),
        Permute(name="p", inputs=("n",), axes=(1, 2, 0)),
        Reshape(name="flat", inputs=("p",), shape=(8,)),
        Linear(name="fc", inputs=("flat",), weight=real(2, 8)),
        shape=(1, 2, 2),
    )
    assert CanonicalLayout().run(g) is g


@pytest.mark.parametrize("fault", ["constants", "columns", "order"])
def test_planted_faults_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of channels, weights of permuted columns and axes of values that are not moved along."""
    g = graph(
        *TOKENS,
        Reshape(name="cut", inputs=("nc",), shape=(4, 2, 3)),
        Permute(name="swap", inputs=("cut",), axes=(2, 1, 0)),
        Neuron(name="n", inputs=("swap",), threshold=Const(np.array([0.25, 1, 2], np.float32)), max_spikes=3),
        Permute(name="again", inputs=("n",), axes=(2, 0, 1)),
        Reshape(name="rows", inputs=("again",), shape=(4, 6)),
        Linear(name="l", inputs=("rows",), weight=real(2, 6)),
        shape=(1, 2, 2),
    )
    same(g)
    if fault == "constants":
        monkeypatch.setattr(Arranged, "per_channel", lambda self, v: v.repeat(self.home[0] // len(v)))
    elif fault == "columns":
        monkeypatch.setattr(Arranged, "columns", lambda _, weight: weight)
    else:
        moves = Arranged.moves
        monkeypatch.setattr(
            Arranged,
            "moves",
            lambda self, order, shape: [m for m in moves(self, order, shape) if m[0] != "permute"],
        )
    with pytest.raises(AssertionError):
        same(g)


def test_cuts_that_do_not_nest_have_no_arrangement() -> None:
    assert arranged("a", (2, 3, 1), (2, 3)).reshaped((3, 2)) is None
