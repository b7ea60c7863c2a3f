"""Counts of the trained network equal loops over its recorded activations, for every kind of layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snncc.analysis.operations import Operand
from snncc.data import Dataset
from snncc.ir import (
    Const,
    Conv2d,
    ConvTranspose2d,
    Family,
    Graph,
    Input,
    Linear,
    MatMul,
    Mean,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reshape,
    Rounding,
    SiteGate,
)
from snncc.ir.interp import run
from snncc.ir.sites import sites_const
from snncc.metrics.conventions import Attention, Conventions, Integers, Repeat, work
from snncc.metrics.figures import Figures, Part
from snncc.metrics.measure import measure

Synapse = tuple[tuple[int, ...], tuple[int, ...], float]


def counted(rng: np.random.Generator, *shape: int, zeros: float = 0.2) -> Const:
    """Weights, some of them 0."""
    return Const((rng.normal(size=shape) * (rng.random(shape) > zeros)).astype(np.float32))


def network(
    node: Node, shape: tuple[int, ...], levels: int, steps: int, gate: np.ndarray | None = None
) -> Graph:
    """Input counts, one node, its gate, and neurons."""
    nodes: list[Node] = [Input(name="x", shape=shape, levels=levels), node]
    if gate is not None:
        nodes.append(SiteGate(name="gate", inputs=(node.name,), sites=sites_const(gate)))
    nodes.append(Neuron(name="fired", inputs=(nodes[-1].name,), decay=0.5, gain=0.5))
    nodes.append(Output(name="y", inputs=("fired",), over_time=OverTime.SUM))
    return Graph("one", Family.FLOAT, tuple(nodes), steps=steps)


def drawn(rng: np.random.Generator, graph: Graph, samples: int) -> Dataset:
    shape = (samples, graph.steps, *graph.input.shape)
    return Dataset(rng.integers(0, graph.input.levels + 1, shape) * (rng.random(shape) < 0.5))


# ---- synapses by loops, one at a time ----------------------------------------------------------------


def conv_synapses(node: Conv2d, shape: tuple[int, ...], result: tuple[int, ...]) -> Iterator[Synapse]:
    w = node.weight.array
    per_out, per_in = w.shape[0] // node.groups, w.shape[1]
    for o, i, k, m in itertools.product(*map(range, w.shape)):
        for y, x in itertools.product(range(result[1]), range(result[2])):
            row = y * node.stride[0] - node.padding[0] + k * node.dilation[0]
            column = x * node.stride[1] - node.padding[1] + m * node.dilation[1]
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                yield (o // per_out * per_in + i, row, column), (o, y, x), float(w[o, i, k, m])


def transposed_synapses(
    node: ConvTranspose2d, shape: tuple[int, ...], result: tuple[int, ...]
) -> Iterator[Synapse]:
    w = node.weight.array
    per_in = w.shape[0] // node.groups
    for i, o, k, m in itertools.product(*map(range, w.shape)):
        for y, x in itertools.product(range(shape[1]), range(shape[2])):
            row = y * node.stride[0] - node.padding[0] + k * node.dilation[0]
            column = x * node.stride[1] - node.padding[1] + m * node.dilation[1]
            if 0 <= row < result[1] and 0 <= column < result[2]:
                yield (i, y, x), (i // per_in * w.shape[1] + o, row, column), float(w[i, o, k, m])


def looped(graph: Graph, node: Node, x: np.ndarray, gate: np.ndarray | None) -> tuple[int, int, int, int]:
    """Events, events of non-zero weights, unit events, and synapses in all."""
    shape, result = graph.types[node.inputs[0]].shape, graph.types[node.name].shape
    if isinstance(node, Linear):
        o, i = node.weight.shape
        links: Iterator[Synapse] = (
            ((j,), (n,), float(node.weight.array[n, j])) for n, j in itertools.product(range(o), range(i))
        )
    elif isinstance(node, Conv2d):
        links = conv_synapses(node, shape, result)
    else:
        assert isinstance(node, ConvTranspose2d)
        links = transposed_synapses(node, shape, result)
    events = nonzero = units = valid = 0
    for source, target, weight in links:
        if gate is not None and not gate[target[1:]]:
            continue
        values = x[(slice(None), slice(None), *source)]
        events += int((values != 0).sum())
        nonzero += int((values != 0).sum()) if weight else 0
        units += int(values.sum())
        valid += 1
    return events, nonzero, units, valid


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Node, tuple[int, ...]]:
    """A convolution, grouped, strided, padded, dilated, or transposed; never square."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pick = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    groups = pick(1, 2)
    into, out = groups * pick(1, 2), groups * pick(1, 2)
    kernel, stride, dilation = (pick(1, 3), pick(1, 3)), (pick(1, 2), pick(1, 3)), (pick(1, 2), pick(1, 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = (into, reach[0] + pick(0, 3), reach[1] + pick(1, 4))
    padding = (pick(0, 1), pick(0, 2))
    common = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if draw(st.booleans()):
        weight = counted(rng, out, into // groups, *kernel)
        return Conv2d(name="w", inputs=("x",), weight=weight, **common), shape
    weight = counted(rng, into, out // groups, *kernel)
    shape = (into, shape[1] + 3, shape[2] + 3)
    return ConvTranspose2d(name="w", inputs=("x",), weight=weight, **common), shape


@settings(max_examples=60, deadline=None)
@given(weighted(), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_events_equal_loops_over_synapses(
    made: tuple[Node, tuple[int, ...]], levels: int, steps: int, gated: bool, seed: int
) -> None:
    node, shape = made
    rng = np.random.default_rng(seed)
    result = network(node, shape, levels, steps).types["w"].shape
    gate = rng.random(result[1:]) < 0.6 if gated else None
    if gate is not None:
        gate[0, 0] = True  # a map without any open site is refused where masks are made
    graph = network(node, shape, levels, steps, gate)
    data = drawn(rng, graph, 2)
    (layer,) = measure(graph, data).layers
    events, nonzero, units, valid = looped(graph, node, data.x, gate)
    assert (layer.events, layer.nonzero, layer.unit_events) == (events, nonzero, units)
    assert layer.valid == valid
    assert layer.largest == data.x.max()
    assert layer.operand is (Operand.BINARY if levels == 1 else Operand.COUNTS)
    assert layer.rates == pytest.approx(data.x.mean(axis=(0, 2, 3, 4)), rel=1e-12)


def test_a_gated_layer_with_fewer_taps_than_sites_is_counted() -> None:
    node = ConvTranspose2d(
        name="w", inputs=("x",), weight=Const(np.ones((1, 1, 1, 1), np.float32)), stride=(1, 2)
    )
    gate = np.zeros((4, 9), bool)
    gate[0, 0] = True
    graph = network(node, (1, 4, 5), 1, 1, gate)
    (layer,) = measure(graph, Dataset(np.ones((1, 1, 1, 4, 5), np.int64))).layers
    assert (layer.events, layer.valid) == (1, 1)


def test_linear_and_its_rows() -> None:
    rng = np.random.default_rng(5)
    graph = network(Linear(name="w", inputs=("x",), weight=counted(rng, 3, 7)), (7,), 4, 2)
    data = drawn(rng, graph, 5)
    (layer,) = measure(graph, data).layers
    assert (layer.events, layer.nonzero, layer.unit_events, layer.valid) == looped(
        graph, graph.by_name["w"], data.x, None
    )
    assert layer.multiplicity == layer.unit_events / layer.events > 1


def attention(order: str, steps: int = 2) -> Graph:
    """Q, K and V are parts of one input of counts; the products stand in either order."""
    heads, tokens, width, out = 2, 3, 5, 4
    total = heads * tokens * (2 * width + out)
    nodes: list[Node] = [Input(name="x", shape=(total,), levels=2)]
    rng = np.random.default_rng(3)
    for name, size in (("q", width), ("k", width), ("v", out)):
        weight = Const(rng.normal(size=(heads * tokens * size, total)).astype(np.float32))
        nodes.append(Linear(name=f"{name}.w", inputs=("x",), weight=weight))
        nodes.append(
            Neuron(
                name=f"{name}.n", inputs=(f"{name}.w",), max_spikes=2, rounding=Rounding.HALF_EVEN, decay=0.0
            )
        )
        nodes.append(Reshape(name=name, inputs=(f"{name}.n",), shape=(heads, tokens, size)))
    nodes.append(Permute(name="kt", inputs=("k",), axes=(0, 2, 1)))
    if order == "(QK)V":
        nodes += [MatMul(name="first", inputs=("q", "kt")), MatMul(name="second", inputs=("first", "v"))]
    else:
        nodes += [MatMul(name="first", inputs=("kt", "v")), MatMul(name="second", inputs=("q", "first"))]
    nodes.append(Neuron(name="fired", inputs=("second",), decay=0.0))
    nodes.append(Output(name="y", inputs=("fired",), over_time=OverTime.SUM))
    return Graph("attention", Family.FLOAT, tuple(nodes), steps=steps)


@pytest.mark.parametrize("order", ["(QK)V", "Q(KV)"])
def test_products_count_the_pairs_that_meet(order: str) -> None:
    graph = attention(order)
    data = drawn(np.random.default_rng(1), graph, 3)
    values = run(graph, data.x, ("q", "kt", "v")).values
    q, k, v = (values[name].astype(np.int64) for name in ("q", "kt", "v"))
    figures = measure(graph, data)
    first, second = (layer for layer in figures.layers if layer.is_product)
    a, b = (q, k) if order == "(QK)V" else (k, v)
    met = units = 0
    for n, t, h in np.ndindex(*a.shape[:3]):
        for i, j, m in itertools.product(range(a.shape[3]), range(a.shape[4]), range(b.shape[4])):
            x, y = int(a[n, t, h, i, j]), int(b[n, t, h, j, m])
            met, units = met + (x != 0 and y != 0), units + x * y
    assert (first.events, first.unit_events) == (met, units)
    # The other product reads a sum: each spike meets the whole row or column of it.
    streamed, fan = (v, 3) if order == "(QK)V" else (q, 4)
    assert (second.events, second.unit_events) == ((streamed != 0).sum() * fan, streamed.sum() * fan)


@pytest.mark.parametrize("order", ["(QK)V", "Q(KV)"])
def test_the_papers_term_of_attention_does_not_know_the_order(order: str) -> None:
    graph = attention(order)
    data = drawn(np.random.default_rng(1), graph, 3)
    values = run(graph, data.x, ("q", "k", "v")).values
    q, k, v = (values[name].mean() for name in ("q", "k", "v"))
    figures = measure(graph, data)
    chosen = Conventions(attention=Attention.PAPERS)
    products = [work(figures, layer, chosen).acs_paper for layer in figures.layers if layer.is_product]
    steps, heads, tokens, width, out = 2, 2, 3, 5, 4
    expected = steps * heads * tokens * width * out * (min(k, v) + q)
    assert sum(products) == pytest.approx(expected, rel=1e-6)


# ---- conventions ------------------------------------------------------------------------------------


def classifier(steps: int, over: OverTime) -> Graph:
    """A convolution on an image, neurons that count to 3, a convolution, a mean, and a classifier."""
    rng = np.random.default_rng(8)
    nodes: tuple[Node, ...] = (
        Input(name="x", shape=(2, 5, 4), levels=0),
        Conv2d(name="stem", inputs=("x",), weight=counted(rng, 3, 2, 3, 3), padding=(1, 1)),
        Neuron(name="n1", inputs=("stem",), max_spikes=3, rounding=Rounding.HALF_EVEN, decay=0.0),
        Conv2d(name="body", inputs=("n1",), weight=counted(rng, 4, 3, 3, 2), bias=counted(rng, 4)),
        Neuron(name="n2", inputs=("body",), decay=0.5, gain=0.5),
        Mean(name="mean", inputs=("n2",), axes=(1, 2)),
        Linear(name="head", inputs=("mean",), weight=counted(rng, 6, 4), bias=counted(rng, 6)),
        Output(name="y", inputs=("head",), over_time=over),
    )
    return Graph("classifier", Family.FLOAT, nodes, steps=steps)


def figures_of(graph: Graph, samples: int = 3, static: bool = True) -> Figures:
    x = (
        np.random.default_rng(4).normal(size=(samples, graph.steps, *graph.input.shape)).astype(np.float32)
        * 2
    )
    return measure(graph, Dataset(np.repeat(x[:, :1], graph.steps, axis=1) if static else x))


def by_name(figures: Figures, chosen: Conventions) -> dict[str, tuple[float, float]]:
    """MACs and accumulates of each layer."""
    done = {layer.name: work(figures, layer, chosen) for layer in figures.layers}
    return {name: (w.macs, w.acs) for name, w in done.items()}


STEM, BODY, HEAD = 3 * 5 * 4 * 18, 4 * 3 * 3 * 18, 24


def test_parts_and_how_often_they_run() -> None:
    figures = figures_of(classifier(4, OverTime.MEAN))
    assert [layer.part for layer in figures.layers] == [Part.STEM, Part.BODY, Part.HEAD]
    stem, body, head = figures.layers
    units = head.unit_events / 3
    assert by_name(figures, Conventions()) == {
        "stem": (4 * STEM, 0),
        "body": (0, body.unit_events / 3),
        "head": (0, units),
    }
    once = by_name(figures, Conventions(stem=Repeat.ONCE, head=Repeat.ONCE, integers=Integers.MACS))
    assert once == {"stem": (STEM, 0), "body": (4 * BODY, 0), "head": (HEAD, 0)}
    biased = by_name(figures, Conventions(bias=True, head=Repeat.ONCE))
    assert biased == {
        "stem": (4 * STEM, 0),
        "body": (0, body.unit_events / 3 + 4 * 36),
        "head": (HEAD + 6, 0),
    }
    assert stem.valid < stem.dense == STEM


def test_what_differs_over_time_runs_at_every_timestep() -> None:
    figures = figures_of(classifier(4, OverTime.MEAN), static=False)
    assert by_name(figures, Conventions(stem=Repeat.ONCE))["stem"] == (4 * STEM, 0)
    results = figures_of(classifier(4, OverTime.NONE))
    assert [layer.part for layer in results.layers] == [Part.STEM, Part.BODY, Part.BODY]


def test_papers_accumulates_take_rates_for_uniform_and_padding_for_spikes() -> None:
    graph = classifier(2, OverTime.SUM)
    figures = figures_of(graph)
    body = figures.layers[1]
    assert work(figures, body, Conventions()).acs_paper == pytest.approx(2 * body.rate * BODY)
    biased = work(figures, body, Conventions(bias=True)).acs_paper
    assert biased == pytest.approx(2 * body.rate * (BODY + 36))


def test_rates_and_nsfr_over_virtual_timesteps() -> None:
    graph = classifier(3, OverTime.MEAN)
    x = np.random.default_rng(2).normal(size=(4, 3, 2, 5, 4)).astype(np.float32) * 3
    figures = measure(graph, Dataset(x))
    values = run(graph, x, ("n1", "n2")).values
    n1, n2 = values["n1"], values["n2"]
    neurons = n1[0, 0].size + n2[0, 0].size
    assert figures.neurons[0].rates == pytest.approx(n1.mean(axis=(0, 2, 3, 4)))
    assert figures.nsfr == pytest.approx([(n1[:, t].sum() + n2[:, t].sum()) / 4 / neurons for t in range(3)])
    virtual = [
        ((n1[:, t] >= d).sum() + (n2[:, t] >= d).sum()) / 4 / neurons for t in range(3) for d in (1, 2, 3)
    ]
    assert figures.virtual_nsfr == pytest.approx(virtual)
    assert figures.firing_rate == pytest.approx(sum(figures.nsfr) / 3)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = classifier(2, OverTime.MEAN)
    whole = figures_of(graph, 7)
    monkeypatch.setattr("snncc.ir.batches.CHUNK", 3)
    assert figures_of(graph, 7) == whole
