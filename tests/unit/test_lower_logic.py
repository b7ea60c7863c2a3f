"""lower-logic: AND, IAND and OR of single spikes as neurons, and why only of single spikes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from snncc.errors import ModelError
from snncc.ir import (
    Add,
    And,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Mul,
    Neuron,
    Node,
    Output,
    Reshape,
    Slice,
    Spikes,
)
from snncc.ir.interp import run
from snncc.passes.base import Pipeline
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.lower_logic import LowerLogic, is_binary
from snncc.passes.pipelines import to_integers
from snncc_sim.target import SIM


def _graph(*nodes: Node, shape: tuple[int, ...] = (4, 3, 5), levels: int = 1, steps: int = 1) -> Graph:
    """``nodes`` behind an input ``x``; the last one is the result."""
    x = Input(name="x", shape=shape, levels=levels)
    return Graph("g", Family.FLOAT, (x, *nodes, Output(name="o", inputs=(nodes[-1].name,))), steps)


def _halves(channels: int) -> tuple[Node, Node]:
    """The two halves ``a`` and ``b`` of the input's channels."""
    half = channels // 2
    first = Slice(name="a", inputs=("x",), axis=0, start=0, stop=half)
    return first, Slice(name="b", inputs=("x",), axis=0, start=half, stop=channels)


def _values(graph: Graph, x: np.ndarray, name: str) -> np.ndarray:
    return run(graph, x, (name,)).values[name]


def _all_pairs() -> np.ndarray:
    """Inputs [4, 1, 2] of two addresses: every pair of single spikes."""
    return np.array(list(itertools.product((0, 1), repeat=2)))[:, None]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (And(name="n", inputs=("a", "b")), [0, 0, 0, 1]),
        (And(name="n", inputs=("a", "b"), invert_first=True), [0, 1, 0, 0]),
        (Mul(name="n", inputs=("a", "b")), [0, 0, 0, 1]),
    ],
    ids=["and", "iand", "mul"],
)
def test_a_truth_table_is_that_of_a_neuron(node: Node, expected: list[int]) -> None:
    graph = _graph(*_halves(2), node, shape=(2,))
    lowered = LowerLogic().run(graph)
    assert not any(isinstance(n, And | Mul) for n in lowered.nodes)
    for g in (graph, lowered):
        assert _values(g, _all_pairs(), "n").ravel().tolist() == expected


SHAPES = [
    ((2, 3, 5), (2, 3, 5)),
    ((2, 3, 5), (2, 1, 1)),
    ((2, 1, 5), (2, 3, 1)),
    ((1, 3, 5), (4, 3, 5)),
    ((4, 1, 1), (1, 3, 5)),
    ((6,), (1,)),
    ((1,), (6,)),
    ((2, 7), (2, 7)),
    ((2, 1), (1, 7)),
    ((2, 3, 2, 5), (2, 3, 2, 5)),
    ((2, 3, 1, 1), (2, 1, 2, 5)),
]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("one", "other"), SHAPES)
def test_operands_are_broadcast_as_in_the_float_graph(
    one: tuple[int, ...], other: tuple[int, ...], inverted: bool
) -> None:
    nodes = [_of("a", 0, one), _of("b", int(np.prod(one)), other)]
    nodes = [m for pair in nodes for m in pair]
    graph = _graph(
        *nodes,
        And(name="n", inputs=("a", "b"), invert_first=inverted),
        shape=(int(np.prod(one) + np.prod(other)),),
    )
    lowered = LowerLogic().run(graph)
    x = np.random.default_rng(0).integers(0, 2, (7, 1, *graph.input.shape))
    expected = _values(graph, x, "n")
    assert 0 < expected.mean() < 1
    assert np.array_equal(_values(lowered, x, "n"), expected)
    assert lowered.types["n"] == graph.types["n"]
    assert not any(isinstance(n, And) for n in lowered.nodes)


def _of(name: str, start: int, shape: tuple[int, ...]) -> tuple[Node, Node]:
    part = Slice(name=f"{name}.part", inputs=("x",), axis=0, start=start, stop=start + int(np.prod(shape)))
    return part, Reshape(name=name, inputs=(part.name,), shape=shape)


POOLS = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    {"kernel": (3, 2), "stride": (1, 3), "padding": (1, 0)},
    {"kernel": (2, 3), "stride": (2, 1), "dilation": (2, 2)},
    {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1)},  # rows and columns left over
]


@pytest.mark.parametrize("unit", [1.0, 1 / 3])
@pytest.mark.parametrize("geometry", POOLS)
def test_a_maximum_of_single_spikes_is_one_of_them(geometry: dict[str, tuple[int, int]], unit: float) -> None:
    fired = (
        Conv2d(name="c", inputs=("x",), weight=Const(np.ones((4, 1, 1, 1), np.float32)), groups=4),
        Neuron(name="s", inputs=("c",), output_scale=unit),
    )
    graph = _graph(*fired, MaxPool2d(name="n", inputs=("s",), **geometry), shape=(4, 5, 8))  # type: ignore[arg-type]
    lowered = LowerLogic().run(graph)
    x = np.random.default_rng(0).random((6, 1, 4, 5, 8)) < 0.15
    expected = _values(graph, x, "n")
    assert 0 < expected.mean() < unit
    assert np.array_equal(_values(lowered, x, "n"), expected)
    assert lowered.types["n"] == graph.types["n"]


@pytest.mark.parametrize("units", [(1 / 3, 1 / 3), (0.1, 0.7), (1.0, 1 / 3)])
def test_a_product_of_spikes_that_are_worth_less_is_exact(units: tuple[float, float]) -> None:
    """1/3 and 1/10 are no binary numbers: thresholds on the sum itself would be a matter of rounding."""
    eye = Const(np.eye(3, dtype=np.float32))
    nodes: list[Node] = [*_halves(6)]
    for name, unit in zip("ab", units, strict=True):
        nodes.append(Linear(name=f"w{name}", inputs=(name,), weight=eye))
        nodes.append(Neuron(name=f"s{name}", inputs=(f"w{name}",), output_scale=unit))
    graph = _graph(*nodes, Mul(name="n", inputs=("sa", "sb")), shape=(6,))
    x = np.array(list(itertools.product((0, 1), repeat=6)))[:, None]
    found = _values(LowerLogic().run(graph), x, "n")
    assert np.allclose(found, _values(graph, x, "n"), rtol=1e-6, atol=0)
    assert ((found > 0) == (_values(graph, x, "n") > 0)).all()


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("shape", [(2,), (2, 3, 5)])
def test_an_iand_of_counts_is_a_product_with_what_they_lack(shape: tuple[int, ...], d: int) -> None:
    """(1 - a)·b of a = n/D is (D - n)·m/D²; without the bias of one nothing is left of it."""
    nodes = [_of("a.counts", 0, shape), _of("b", int(np.prod(shape)), shape)]
    one = Neuron(name="a", inputs=("a.counts",), max_spikes=d, output_scale=1 / d)
    iand = And(name="n", inputs=("a", "b"), invert_first=True)
    graph = _graph(*nodes[0], one, *nodes[1], iand, shape=(2 * int(np.prod(shape)),), levels=d)
    lowered = LowerLogic().run(graph)
    x = np.random.default_rng(d).integers(0, d + 1, (9, 1, *graph.input.shape)).astype(np.float32)
    n, m = np.split(x.reshape(9, -1), 2, axis=1)
    assert np.array_equal(_values(graph, x, "n").reshape(9, -1), ((1 - n / d) * m).astype(np.float32))
    assert np.array_equal(_values(lowered, x, "n"), _values(graph, x, "n"))
    assert lowered.types["n"] == graph.types["n"]
    if d > 1:
        less = lowered.by_name["n.less"]
        assert isinstance(less, Conv2d | Linear)
        broken = lowered.rewrite(lambda node: replace(less, bias=None) if node.name == "n.less" else None)
        assert not _values(broken, x, "n").any()


def _window(counts: np.ndarray, weights: list[int], threshold: int) -> np.ndarray:
    """Counts of a memoryless neuron that sums ``counts`` [..., k] and fires at most D = 4 times."""
    return np.clip((counts * weights).sum(axis=-1) // threshold, 0, 4)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_windows_compute_logic_of_single_spikes_alone(d: int) -> None:
    """The counterexamples: of counts up to D a threshold on the window's sum is neither of the three."""
    pairs = np.array(list(itertools.product(range(d + 1), repeat=2)))
    a, b = pairs.T
    wrong = {
        "or": (np.minimum(_window(pairs, [1, 1], 1), d) != np.maximum(a, b)).sum(),
        "and": (np.minimum(_window(pairs, [1, 1], 2), d) != a * b).sum(),
        "iand": (np.minimum(_window(pairs, [-1, 1], 1), d) != np.maximum(1 - a, 0) * b).sum(),
    }
    assert wrong == {"or": 0, "and": 0, "iand": 0} if d == 1 else all(wrong.values())


@pytest.mark.parametrize("d", [2, 4])
def test_products_of_counts_are_left_as_they_are(d: int) -> None:
    graph = _graph(*_halves(4), Mul(name="n", inputs=("a", "b")), levels=d)
    assert LowerLogic().run(graph) == graph


def test_spikes_of_either_sign_are_no_logic() -> None:
    """A relay's events: their maximum is no OR."""
    assert [is_binary(Spikes((3,), *kind)) for kind in ((1,), (2,), (1, True))] == [True, False, False]


def _residual(node: type[And] | type[Mul], steps: int) -> Graph:
    """SEW's block: what comes in and what two layers make of it, under a logic node; a readout behind it."""
    rng = np.random.default_rng(3)

    def conv(name: str, reads: str, out: int, inner: int) -> Conv2d:
        weight = Const(rng.normal(0.1, 0.6, (out, inner, 3, 3)).astype(np.float32))
        return Conv2d(name=name, inputs=(reads,), weight=weight, padding=(1, 1))

    return _graph(
        conv("c0", "x", 3, 2),
        Neuron(name="s0", inputs=("c0",), decay=0.5),
        conv("c1", "s0", 3, 3),
        Neuron(name="s1", inputs=("c1",), decay=0.5),
        conv("c2", "s1", 3, 3),
        Neuron(name="s2", inputs=("c2",), decay=0.5),
        node(name="n", inputs=("s2", "s0"), **({"invert_first": True} if node is And else {})),
        MaxPool2d(name="m", inputs=("n",), kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        Add(name="sum", inputs=("n", "s0")),
        conv("c3", "sum", 2, 3),
        Neuron(name="last", inputs=("c3",), decay=1.0),
        shape=(2, 4, 6),
        steps=steps,
    )


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", [And, Mul])
def test_operands_of_different_depth_wait_for_each_other(kind: type[And] | type[Mul], steps: int) -> None:
    graph = _residual(kind, steps)
    x = np.random.default_rng(1).integers(0, 2, (12, steps, *graph.input.shape))
    integer = Pipeline(to_integers(x, SIM.chip)).run(graph)
    spikes = ExpandSFA().run(integer)
    counts = run(integer, x).values
    a, b = counts["s2"], counts["s0"]
    assert np.array_equal(counts["n"], (1 - a) * b if kind is And else a * b)
    assert 0 < counts["n"].mean() < 1
    for name, expected in run(spikes, x).values.items():
        assert np.array_equal(expected, counts[name]), name


def test_an_and_whose_operands_do_not_wait_is_found() -> None:
    """The planted fault: the delay in front of the AND is dropped."""
    graph = _residual(Mul, 3)
    x = np.random.default_rng(1).integers(0, 2, (12, 3, *graph.input.shape))
    spikes = ExpandSFA().run(Pipeline(to_integers(x, SIM.chip)).run(graph))
    (delay,) = [n for n in spikes.nodes if n.kind == "delay" and spikes.readers[n.name][0].name == "n.second"]
    broken = spikes.without({delay.name: delay.inputs[0]})
    assert not np.array_equal(run(broken, x).values["n"], run(spikes, x).values["n"])


def test_a_window_of_padding_alone_is_refused() -> None:
    """Its maximum would be no value at all: torch gives minus infinity."""
    far = MaxPool2d(name="n", inputs=("x",), kernel=(2, 2), stride=(1, 1), padding=(1, 0), dilation=(4, 1))
    with pytest.raises(ModelError) as error:
        _graph(far)
    assert str(error.value) == (
        "[SNNC-M010] %n: max_pool2d: a window of rows covers padding alone, got the one of output 0."
    )
