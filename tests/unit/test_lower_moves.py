"""lower-moves: what is linear and has no weights reaches spikes, from the float graph to the simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snncc.compilation import Options
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    And,
    AvgPool2d,
    Concat,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Mean,
    Neuron,
    Node,
    Output,
    Pad,
    Resample,
    Reshape,
    Rounding,
    Slice,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.interp import run
from snncc.ir.types import ValueType
from snncc.model import Model
from snncc.passes.lower_logic import is_binary
from snncc.passes.lower_moves import LowerMoves
from snncc_sim.engine import execute
from snncc_sim.target import SIM


def _whole(*rows: tuple[int, ...]) -> Const:
    return Const(np.array(rows, np.int32))


# From 6 rows windows of 3, 2 and 4, the last beyond the others' ends; from 7 columns 1 and 2 of them.
UNEVEN = _whole((4, 4, 4, 0, 0, 0), (0, 0, 6, 6, 0, 0), (0, 0, 3, 3, 3, 3))
NARROW = _whole((2, 0, 0, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 0, 0, 2))

MOVES: dict[str, Node] = {
    "sum over rows": Sum(name="m", inputs=("s",), axes=(1,), keepdim=True),
    "sum over tokens": Sum(name="m", inputs=("s",), axes=(1, 2), keepdim=True),
    "sum over channels": Sum(name="m", inputs=("s",), axes=(0,), keepdim=True),
    "sum over channels and columns": Sum(name="m", inputs=("s",), axes=(0, 2), keepdim=True),
    "mean over columns": Mean(name="m", inputs=("s",), axes=(2,), keepdim=True),
    "mean over channels": Mean(name="m", inputs=("s",), axes=(0,), keepdim=True),
    "overlapping sums": SumPool2d(name="m", inputs=("s",), kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
    "overlapping means": AvgPool2d(name="m", inputs=("s",), kernel=(3, 3), stride=(2, 2), padding=(1, 0)),
    "a rest": AvgPool2d(name="m", inputs=("s",), kernel=(2, 2), stride=(2, 2)),
    "upsampling": Upsample(name="m", inputs=("s",), factor=(2, 3)),
    "uneven means": Resample(name="m", inputs=("s",), rows=UNEVEN, columns=NARROW, divisor=24),
    "a repeated last row": Resample(
        name="m", inputs=("s",), rows=Const(np.eye(6, dtype=np.int32)[[0, 1, 2, 3, 4, 5, 5]]), columns=NARROW
    ),
    "even zeros": Pad(name="m", inputs=("s",), before=(0, 1, 2), after=(0, 1, 2)),
    "uneven zeros": Pad(name="m", inputs=("s",), before=(0, 2, 0), after=(0, 1, 3)),
    "zero channels": Pad(name="m", inputs=("s",), before=(1, 0, 0), after=(2, 0, 1)),
    "cut channels": Slice(name="m", inputs=("s",), axis=0, start=1, stop=3),
    "every second channel": Slice(name="m", inputs=("s",), axis=0, start=0, stop=3, step=2),
    "cut rows": Slice(name="m", inputs=("s",), axis=1, start=2, stop=5),
    "every second column": Slice(name="m", inputs=("s",), axis=2, start=1, stop=7, step=3),
    "joined rows": Concat(name="m", inputs=("s", "s"), axis=1),
    "joined columns": Concat(name="m", inputs=("early", "s"), axis=2),
}


def _conv(name: str, reads: str, inner: int, out: int = 3, seed: int = 0) -> Conv2d:
    weight = np.random.default_rng([seed, inner, out]).normal(0.1, 0.5, (out, inner, 3, 3))
    return Conv2d(name=name, inputs=(reads,), weight=Const(weight.astype(np.float32)), padding=(1, 1))


def _neuron(name: str, reads: str, d: int, decay: float) -> Neuron:
    return Neuron(name=name, inputs=(reads,), max_spikes=d, decay=decay, output_scale=1 / d)


def _graph(move: Node, reader: str, d: int = 1, steps: int = 1) -> Graph:
    """Neurons of two depths, the move, and what reads it."""
    decay = 0.0 if steps == 1 else 0.5
    before: tuple[Node, ...] = (
        Input(name="x", shape=(2, 6, 7), levels=d),
        _conv("c0", "x", 2),
        _neuron("early", "c0", d, decay),
        _conv("c1", "early", 3, seed=1),
        _neuron("s", "c1", d, decay),
        move,
    )
    shape = Graph("g", Family.FLOAT, (*before, Output(name="o", inputs=("m",))), steps).types["m"].shape
    readers: dict[str, tuple[Node, ...]] = {
        "neurons": (Neuron(name="n", inputs=("m",), max_spikes=d, decay=decay, threshold=0.75),),
        "weights": (_conv("c2", "m", shape[0], seed=2), _neuron("n", "c2", d, decay)),
        "a linear layer": (
            Reshape(name="flat", inputs=("m",), shape=(int(np.prod(shape)),)),
            Linear(name="c2", inputs=("flat",), weight=Const(_weights(4, int(np.prod(shape))))),
            _neuron("n", "c2", d, decay),
        ),
        "a sum of spikes": (
            Add(name="both", inputs=("m", "m2")),
            _conv("c2", "both", shape[0], seed=2),
            _neuron("n", "c2", d, decay),
        ),
    }
    twin = () if reader != "a sum of spikes" else (_twin(move),)
    nodes = (*before, *twin, *readers[reader])
    return Graph("moves", Family.FLOAT, (*nodes, Output(name="o", inputs=("n",))), steps)


def _weights(out: int, inner: int) -> np.ndarray:
    return np.random.default_rng([out, inner]).normal(0.1, 0.5, (out, inner)).astype(np.float32)


def _twin(move: Node) -> Node:
    return replace(move, name="m2", inputs=("early",) * len(move.inputs))


def _exact(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Counts that integers, spikes and the engine agree on; every float pass keeps the float rule."""
    low = SIM.lower(Model(graph), x, Options(verify_each=True))
    whole, spikes = run(low.integer_graph, x), run(low.spike_graph, x)
    done = execute(low.mapped, low.tensors, x.reshape(*x.shape[:2], *low.mapped.inputs[0].shape))
    for name, counts in whole.values.items():
        assert np.array_equal(spikes.values[name], counts), name
        if name in done.counts:
            assert np.array_equal(done.counts[name].reshape(counts.shape), counts), name
    return whole.values


def _inputs(graph: Graph, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (6, graph.steps, *graph.input.shape)
    return rng.integers(0, graph.input.levels + 1, shape) * (rng.random(shape) < 0.6)


@pytest.mark.parametrize("reader", ["neurons", "weights", "a linear layer", "a sum of spikes"])
@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_exact_in_front_of_every_reader(move: str, reader: str) -> None:
    graph = _graph(MOVES[move], reader, d=2)
    counts = _exact(graph, _inputs(graph))
    assert counts["n"].any()


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_exact_over_timesteps_and_counts(move: str, d: int) -> None:
    graph = _graph(MOVES[move], "weights", d=d, steps=3 if d == 1 else 1)
    _exact(graph, _inputs(graph))


@pytest.mark.parametrize("move", MOVES)
def test_the_pass_alone_gives_the_very_values(move: str) -> None:
    for reader in ("neurons", "a sum of spikes"):
        graph = _graph(MOVES[move], reader, d=1)
        x = _inputs(graph).astype(np.float32)
        lowered = LowerMoves().run(graph)
        assert np.array_equal(run(lowered, x, ("n",)).values["n"], run(graph, x, ("n",)).values["n"])
        assert lowered.types["n"] == graph.types["n"]


def test_zeros_around_a_map_are_a_convolutions_padding() -> None:
    graph = LowerMoves().run(_graph(MOVES["even zeros"], "weights"))
    conv = graph.by_name["c2"]
    assert isinstance(conv, Conv2d)
    assert (conv.padding, conv.inputs) == ((2, 3), ("s",))
    assert "m" not in graph.by_name


def test_what_an_address_function_takes_in_stays() -> None:
    for move in ("a rest", "sum over tokens"):
        graph = LowerMoves().run(_graph(MOVES[move], "weights"))
        pool = graph.by_name["m"]
        assert isinstance(pool, SumPool2d | AvgPool2d)
        assert pool.kernel == pool.stride


@pytest.mark.parametrize("fault", ["order", "stride"])
def test_the_site_of_a_neighbour_is_found(fault: str) -> None:
    """Planted faults: the outputs' taps in the order of the outputs; steps one short of the axis."""
    graph = LowerMoves().run(_graph(MOVES["uneven means"], "neurons"))
    conv = graph.by_name["m"]
    assert isinstance(conv, Conv2d)
    assert (conv.stride, conv.padding) == ((6, 7), (12, 21))
    taps = conv.weight.array.reshape(3, 1, 3, 6, 28)
    moved = replace(conv, weight=Const(taps[:, :, ::-1].reshape(conv.weight.shape).copy()))
    broken = moved if fault == "order" else replace(conv, stride=(5, 7), padding=(10, 21))
    wrong = graph.rewrite(lambda n: broken if n.name == "m" else None)
    x = _inputs(graph).astype(np.float32)
    assert not np.array_equal(run(wrong, x, ("n",)).values["n"], run(graph, x, ("n",)).values["n"])


def test_windows_that_differ_on_a_large_map_are_refused() -> None:
    rows = Const(np.eye(200, dtype=np.int32)[np.minimum(np.arange(201), 199)])
    nodes = (
        Input(name="x", shape=(2, 200, 200), levels=1),
        Resample(name="m", inputs=("x",), source="net.pool", rows=rows, columns=rows),
        Neuron(name="n", inputs=("m",)),
        Output(name="o", inputs=("n",)),
    )
    with pytest.raises(ModelError) as error:
        LowerMoves().run(Graph("g", Family.FLOAT, nodes))
    assert str(error.value) == (
        "[SNNC-M012] %m (net.pool): a pooling whose windows differ takes weights of its own for every site, "
        "got 3,232,080,000 weights, limit 16,777,216. Try windows that are alike: sizes that divide evenly, "
        "ceil_mode=False, count_include_pad=True."
    )


def test_a_moved_tap_is_found() -> None:
    """The planted fault: rows are put one row further down."""
    graph = LowerMoves().run(_graph(MOVES["uneven zeros"], "neurons"))
    conv = graph.by_name["m"]
    assert isinstance(conv, Conv2d)
    weight = Const(np.roll(conv.weight.array, 1, axis=2))
    broken = graph.rewrite(lambda n: replace(conv, weight=weight) if n.name == "m" else None)
    x = _inputs(graph).astype(np.float32)
    assert not np.array_equal(run(broken, x, ("n",)).values["n"], run(graph, x, ("n",)).values["n"])


@st.composite
def chained(draw: st.DrawFn) -> Graph:
    """Logic, maxima and moves in a row, of single spikes or counts, over one to three timesteps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 1, 3]))
    d = draw(st.sampled_from([1, 2, 4])) if steps == 1 else 1
    decay = 0.0 if steps == 1 else 0.5
    nodes: list[Node] = [Input(name="x", shape=(2, 6, 5), levels=d)]

    def kind_of() -> ValueType:
        end = Output(name="o", inputs=(nodes[-1].name,))
        return Graph("g", Family.FLOAT, (*nodes, end), steps).types[nodes[-1].name]

    def shape_of() -> tuple[int, ...]:
        return kind_of().shape

    def layer(name: str) -> None:
        c = shape_of()[0]
        weight = Const((rng.normal(0.15, 0.8, (3, c, 3, 3)) / np.sqrt(c)).astype(np.float32))
        nodes.append(Conv2d(name=f"{name}.c", inputs=(nodes[-1].name,), weight=weight, padding=(1, 1)))
        if draw(st.booleans()) and min(shape_of()[1:]) > 2:
            pool = MaxPool2d(
                name=f"{name}.cml", inputs=(f"{name}.c",), kernel=(3, 3), stride=(2, 1), padding=(1, 1)
            )
            nodes.append(pool)
        rounding = Rounding.HALF_EVEN if steps == 1 else Rounding.FLOOR
        nodes.append(
            Neuron(name=name, inputs=(nodes[-1].name,), max_spikes=d, decay=decay, rounding=rounding)
        )

    layer("n0")
    for i in range(draw(st.integers(1, 3))):
        shape, last = shape_of(), nodes[-1].name
        h, w = shape[1:]
        what = draw(
            st.sampled_from(["and", "max", "pad", "cut", "up", "join", "sum", "mean", "pool", "site"])
        )
        if what == "and" and is_binary(kind_of()):
            skip = last
            layer(f"a{i}")
            if shape_of() == shape:
                flip = draw(st.booleans())
                nodes.append(And(name=f"m{i}", inputs=(nodes[-1].name, skip), invert_first=flip))
        elif what == "max":
            kernel = (min(2, h), min(3, w))
            nodes.append(MaxPool2d(name=f"m{i}", inputs=(last,), kernel=kernel, stride=(1, min(2, w))))
        elif what == "pad":
            sides = [draw(st.integers(0, 2)) for _ in range(4)]
            before, after = (0, *sides[:2]), (0, *sides[2:])
            nodes.append(Pad(name=f"m{i}", inputs=(last,), before=before, after=after))
        elif what == "cut":
            axis = draw(st.integers(0, 2))
            start = draw(st.integers(0, shape[axis] - 1))
            step = draw(st.integers(1, 2))
            nodes.append(
                Slice(name=f"m{i}", inputs=(last,), axis=axis, start=start, stop=shape[axis], step=step)
            )
        elif what == "up" and h * w < 60:
            nodes.append(Upsample(name=f"m{i}", inputs=(last,), factor=(draw(st.integers(1, 2)), 2)))
        elif what == "join" and h * w < 60:
            nodes.append(Concat(name=f"m{i}", inputs=(last, last), axis=draw(st.integers(0, 2))))
        elif what in ("sum", "mean"):
            kind: Any = Sum if what == "sum" else Mean
            nodes.append(kind(name=f"m{i}", inputs=(last,), axes=(draw(st.integers(0, 2)),), keepdim=True))
        elif what == "site" and h * w < 60:
            sides = [Const(rng.integers(0, 3, (draw(st.integers(1, 3)), n)).astype(np.int32)) for n in (h, w)]
            nodes.append(Resample(name=f"m{i}", inputs=(last,), rows=sides[0], columns=sides[1], divisor=3))
        elif what == "pool":
            kernel = (min(3, h), min(2, w))
            nodes.append(SumPool2d(name=f"m{i}", inputs=(last,), kernel=kernel, stride=(1, 1)))
        if nodes[-1].name != last and draw(st.booleans()):
            layer(f"n{i + 1}")
    if not isinstance(nodes[-1], Neuron):
        layer("last")
    return Graph("chained", Family.FLOAT, (*nodes, Output(name="o", inputs=(nodes[-1].name,))), steps)


@settings(max_examples=25, deadline=None)
@given(graph=chained(), seed=st.integers(0, 1000))
def test_random_chains_of_logic_maxima_and_moves_are_exact(graph: Graph, seed: int) -> None:
    _exact(graph, _inputs(graph, seed))
