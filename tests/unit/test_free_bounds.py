"""Bounds of free-running counts against every order in which a handful of events can arrive."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc.analysis.free_bounds import free_bounds
from snncc.ir import Add, Const, Family, Graph, Input, Linear, Node, Output


def fired(order: tuple[int, ...], theta: int, start: int, most: int | None) -> int:
    """Count of one event-driven neuron: an update for each event, a spike where it ends at or over θ."""
    v, n = start, 0
    for weight in order:
        v += weight
        if v >= theta and (most is None or n < most):
            v, n = v - theta, n + 1
    return n


def counts_of_every_order(weights: list[int], theta: int, start: int, most: int | None) -> set[int]:
    return {fired(order, theta, start, most) for order in set(permutations(weights))}


def network(rows: list[list[int]], theta: int, levels: int, **numbers: Any) -> Graph:
    """Inputs → one layer of neurons, a row of weights each."""
    return Graph(
        "g",
        Family.INTEGER,
        (
            Input(name="x", shape=(len(rows[0]),), levels=levels),
            Linear(name="c", inputs=("x",), weight=Const(np.array(rows, np.int8))),
            integer_neuron("n", "c", threshold=theta, **{"max_spikes": 99, **numbers}),
            Output(name="y", inputs=("n",)),
        ),
    )


def bounds(graph: Graph, x: list[int], name: str = "n", capped: bool = False) -> list[tuple[int, int]]:
    low, high = free_bounds(graph, np.array(x).reshape(1, 1, -1), capped)[name]
    return list(zip(low.ravel().tolist(), np.broadcast_to(high, low.shape).ravel().tolist(), strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_no_order_leaves_the_bounds_of_a_neuron(seed: int) -> None:
    """Weights of both signs up to and beyond the threshold, every start below and above it."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-5, 6, 3).tolist()
    theta, bias = int(rng.integers(1, 6)), int(rng.integers(-4, 5))
    precharge, most = int(rng.choice([0, -1, theta // 2])), int(rng.integers(1, 4))
    graph = network([weights], theta, 2, bias=bias, precharge=precharge, max_spikes=most)
    for x in product(range(3), repeat=3):
        events = [w for w, n in zip(weights, x, strict=True) for _ in range(n)]
        for capped in (False, True):
            ((low, high),) = bounds(graph, list(x), capped=capped)
            seen = counts_of_every_order(events, theta, bias + precharge, most if capped else None)
            assert low <= min(seen), (x, capped)
            assert max(seen) <= high, (x, capped)


@pytest.mark.parametrize(("weights", "x", "theta", "numbers", "want"), [
    # Sum 3, positive part 6: nothing arrives in between, or everything does.
    ([2, -1], [3, 3], 2, {}, (1, 3)),
    ([2, -1], [3, 0], 2, {}, (3, 3)),
    ([2, -1], [0, 3], 2, {}, (0, 0)),
    ([1, 1], [2, 3], 2, {}, (2, 2)),
    # One weight is larger than the threshold: a single update fires once, whatever it brings.
    ([5, -1], [2, 0], 4, {}, (0, 2)),
    ([4, -1], [2, 0], 4, {}, (2, 2)),
    # It starts at the threshold: what it has is not a multiple of its updates.
    ([1, -1], [1, 0], 3, {"bias": 3}, (0, 1)),
    ([1, -1], [1, 0], 3, {"bias": 2}, (1, 1)),
    ([1, -1], [1, 1], 4, {"precharge": 2, "bias": 1}, (0, 1)),
    ([1, -1], [0, 3], 4, {"bias": -2}, (0, 0)),
])  # fmt: skip
def test_bounds_by_hand(
    weights: list[int], x: list[int], theta: int, numbers: dict[str, int], want: tuple[int, int]
) -> None:
    graph = network([weights], theta, 3, **numbers)
    assert bounds(graph, x) == [want]
    events = [w for w, n in zip(weights, x, strict=True) for _ in range(n)]
    seen = counts_of_every_order(events, theta, numbers.get("bias", 0) + numbers.get("precharge", 0), None)
    assert (want[0] <= min(seen), max(seen)) == (True, want[1])


def test_a_chip_that_holds_neurons_back_caps_both_ends() -> None:
    graph = network([[1, -1], [1, 0]], 1, 9, max_spikes=4)
    assert bounds(graph, [9, 2]) == [(7, 9), (9, 9)]
    assert bounds(graph, [9, 2], capped=True) == [(4, 4), (4, 4)]
    assert bounds(graph, [5, 3], capped=True) == [(2, 4), (4, 4)]


def two_layers() -> Graph:
    """A hidden neuron of both signs; one behind it that also hears an input by a shortcut."""
    return Graph(
        "g",
        Family.INTEGER,
        (
            Input(name="x", shape=(2,), levels=3),
            Linear(name="a", inputs=("x",), weight=Const(np.array([[2, -1], [1, 1]], np.int8))),
            integer_neuron("h", "a", threshold=2, max_spikes=99),
            Add(name="s", inputs=("x", "h")),
            Linear(name="b", inputs=("s",), weight=Const(np.array([[2, -2]], np.int8))),
            integer_neuron("n", "b", threshold=3, max_spikes=99),
            Output(name="y", inputs=("n",)),
        ),
    )


def test_intervals_travel_from_layer_to_layer_and_through_sums() -> None:
    """h = (1..3, 3) for x = (3, 3): its own bounds bound what the next layer may hear."""
    graph = two_layers()
    assert bounds(graph, [3, 3], "h") == [(1, 3), (3, 3)]
    # n hears +2 from 3 + (1..3) spikes and -2 from 3 + 3 of them.
    assert bounds(graph, [3, 3]) == [(0, 4)]
    assert bounds(graph, [3, 0], "h") == [(3, 3), (1, 1)]
    assert bounds(graph, [3, 0]) == [(3, 4)]


@pytest.mark.parametrize("x", list(product(range(3), repeat=2)))
def test_no_order_of_two_layers_leaves_their_bounds(x: tuple[int, int]) -> None:
    """Every order of the inputs, every interleaving of what the hidden neurons send with the rest."""
    graph = two_layers()
    hidden = bounds(graph, list(x), "h")
    ((low, high),) = bounds(graph, list(x))
    rows = ([2, -1], [1, 1])
    for i, row in enumerate(rows):
        events = [w for w, n in zip(row, x, strict=True) for _ in range(n)]
        assert all(hidden[i][0] <= n <= hidden[i][1] for n in counts_of_every_order(events, 2, 0, None))
    for first, second in product(*(range(a, b + 1) for a, b in hidden)):
        plus, minus = x[0] + first, x[1] + second
        for order in set(permutations([2] * plus + [-2] * minus)):
            assert low <= fired(order, 3, 0, None) <= high


def test_bounds_that_are_points_are_the_integers() -> None:
    """Without negative weights nothing depends on the order; every ratio lies off the threshold."""
    graph = network([[1, 2], [3, 1]], 5, 3)
    for x in product(range(4), repeat=2):
        want = [(x[0] + 2 * x[1]) // 5, (3 * x[0] + x[1]) // 5]
        assert bounds(graph, list(x)) == [(n, n) for n in want]


def test_every_sample_has_its_own_bounds() -> None:
    graph = network([[2, -1]], 2, 3)
    x = np.array([[3, 3], [3, 0], [0, 3]]).reshape(3, 1, 2)
    low, high = free_bounds(graph, x, False)["n"]
    assert (low.ravel().tolist(), high.ravel().tolist()) == ([1, 3, 0], [3, 3, 0])


def test_readouts_have_no_bounds() -> None:
    nodes: list[Node] = list(network([[1, 1]], 1, 1).nodes[:-1])
    nodes += [
        Linear(name="d", inputs=("n",), weight=Const(np.array([[1]], np.int8))),
        integer_neuron("r", "d", max_spikes=0),
        Output(name="y", inputs=("r",)),
    ]
    assert set(free_bounds(Graph("g", Family.INTEGER, tuple(nodes)), np.zeros((1, 1, 2), int), False)) == {
        "n"
    }
