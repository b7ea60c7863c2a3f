"""What one micro-step adds up: the certificate's bound and the checker's, which count apart, are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loihi_nets import Way, chain
from random_graphs import (
    Builder,
    chain_graphs,
    random_inputs,
    sfa_graphs,
    small_map_graphs,
    stateful_graphs,
)
from relay_nets import shortcut_graphs
from snncc.compilation import Lowered, Options, Target
from snncc.errors import CapacityError
from snncc.ir import Add, Const, Conv2d, Graph, Linear, Neuron, Reset, Reshape
from snncc.ir.interp import run
from snncc.mapping.check import violations
from snncc.model import Model
from snncc_loihi.check import micro_step_sums
from snncc_loihi.target import LOIHI1, LOIHI2
from snncc_sim import SIMULATOR

RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def certified(lowered: Lowered) -> dict[str, tuple[int, int]]:
    """Bounds of one micro-step's sums over all inputs, by layer."""
    found = lowered.certificate.ranges
    return {r.layer: r.all_inputs for r in found if r.quantity == "input of one micro-step"}


def counted(lowered: Lowered) -> dict[str, tuple[int, int]]:
    mapped = lowered.mapped
    return {p.name: micro_step_sums(mapped, p, lowered.tensors) for p in mapped.pieces}


@RELAXED
@given(
    st.one_of(
        small_map_graphs(),
        sfa_graphs(),
        stateful_graphs(),
        chain_graphs(rests=False),
        shortcut_graphs(),
    ),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_the_checker_counts_what_the_certificate_says(graph: Graph, seed: int, graded: bool) -> None:
    lowered = LOIHI2.lower(
        Model(graph), random_inputs(graph, 3, seed), Options("graded" if graded else "exact")
    )
    assert counted(lowered) == certified(lowered)


@pytest.mark.parametrize("geometry", [
    {"kernel": (3, 3), "padding": (1, 1)},
    {"kernel": (5, 3), "padding": (2, 1)},
    {"kernel": (3, 3), "padding": (2, 2), "dilation": (2, 2)},
    {"kernel": (3, 3), "padding": (1, 1), "stride": (2, 2)},
    {"kernel": (2, 4), "padding": (1, 3), "stride": (1, 3)},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (3, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_taps_outside_a_small_map_bring_nothing(
    shape: tuple[int, int], geometry: dict[str, Any], groups: int
) -> None:
    """Against dense weights: rows of the matrix [targets, sources]."""
    mapped = chain((4, *shape), (6, Way(groups=groups, **geometry)))
    piece = mapped.pieces[0]
    connection = piece.connections[0]
    rng = np.random.default_rng(0)
    weight = rng.integers(-9, 10, (6, 4 // groups, *geometry["kernel"])).astype(np.int8)
    dense = connection.address.expand(weight).astype(np.int64)
    want = np.minimum(dense, 0).sum(axis=1).min(), np.maximum(dense, 0).sum(axis=1).max()
    assert micro_step_sums(mapped, piece, {connection.weight: weight}) == want


def agrees(target: Target, lowered: Lowered, x: np.ndarray) -> None:
    """The program keeps every rule and computes the integers."""
    assert list(violations(lowered.mapped, lowered.tensors, target.chip, target.checker)) == []
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    assert np.array_equal(activity.result, run(lowered.integer_graph, x).result)


def constant(*shape: int, value: float = 1) -> Const:
    return Const(np.full(shape, value, np.float32))


def fan_in(shape: tuple[int, int, int], kernel: tuple[int, int], padding: tuple[int, int]) -> Graph:
    """Every input excites every neuron of the first layer alike."""
    b = Builder(np.random.default_rng(0), shape, levels=1)
    weight = constant(8, shape[0], *kernel)
    b.add(Conv2d(name="c", inputs=("x",), weight=weight, padding=padding))
    b.add(Neuron(name="n", inputs=("c",), reset=Reset.VALUE))
    b.add(Reshape(name="flat", inputs=("n",), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=("flat",), weight=constant(3, b.shape[0])))
    return b.graph()


@pytest.mark.parametrize("target", [LOIHI1, LOIHI2], ids=lambda t: t.name)
@pytest.mark.parametrize(("kernel", "padding", "shape", "taps"), [
    ((3, 3), (1, 1), (512, 2, 2), 4),
    ((3, 3), (1, 1), (512, 1, 5), 3),
    ((5, 5), (2, 2), (512, 2, 2), 4),
    ((5, 1), (2, 0), (700, 2, 3), 2),
])  # fmt: skip
def test_many_channels_on_a_small_map_fit_by_the_taps_that_reach_it(
    target: Target, kernel: tuple[int, int], padding: tuple[int, int], shape: tuple[int, int, int], taps: int
) -> None:
    """The last stage of a deep network, which padding would push out of the accumulator."""
    x = np.ones((2, 1, *shape), np.int64)
    lowered = target.lower(Model(fan_in(shape, kernel, padding)), x, Options())
    weight = int(lowered.tensors[lowered.mapped.pieces[0].connections[0].weight].max())
    assert certified(lowered)["n"] == (0, shape[0] * taps * weight)
    assert 2 * shape[0] * kernel[0] * kernel[1] * weight > 32767
    assert lowered.certificate.proven
    agrees(target, lowered, x)


def branches(levels: int) -> Graph:
    """A neuron that reads two layers; each excites another half of its channels, and much."""
    b = Builder(np.random.default_rng(0), (300, 1, 1), levels)
    first, second = constant(2, 300, 1, 1).array.copy(), constant(2, 300, 1, 1).array.copy()
    first[1], second[0] = 0, 0
    wide = Const(np.eye(300, dtype=np.float32).reshape(300, 300, 1, 1))
    b.add(Conv2d(name="in", inputs=("x",), weight=wide))
    b.sfa("s", levels, normalized=False)
    b.add(Conv2d(name="a", inputs=("x",), weight=Const(first)))
    b.add(Conv2d(name="b", inputs=("s",), weight=Const(second)))
    b.add(Add(name="sum", inputs=("a", "b")))
    b.sfa("n", levels, normalized=False)
    b.add(Reshape(name="flat", inputs=("n",), shape=(2,)))
    b.add(Linear(name="fc", inputs=("flat",), weight=constant(3, 2)))
    return b.graph()


@pytest.mark.parametrize("levels", [1, 4])
def test_graded_branches_add_up_in_the_neurons_they_share(levels: int) -> None:
    """The worst sums of two branches meet in no neuron: together they would leave the accumulator."""
    x = np.full((2, 1, 300, 1, 1), levels, np.int64)
    lowered = LOIHI2.lower(Model(branches(levels)), x, Options("graded"))
    piece = lowered.mapped.pieces[1]
    assert {c.source for c in piece.connections} == {"input", "s"}
    weight = max(int(lowered.tensors[c.weight].max()) for c in piece.connections)
    assert certified(lowered)["n"] == (0, 300 * weight * levels)
    assert 2 * 2 * 300 * weight * levels > 32767
    agrees(LOIHI2, lowered, x)


def test_a_sum_outside_its_word_is_refused_with_what_helps() -> None:
    """Scales follow the inputs, so that only where a membrane starts can push it out of its word."""

    def network(start: float) -> Graph:
        b = Builder(np.random.default_rng(0), (2, 3, 1), levels=1, steps=2)
        b.conv("c", "x", 2, (1, 1))
        b.add(Neuron(name="n", inputs=("c",), source="net.n", decay=1.0, v_init=start))
        b.add(Reshape(name="flat", inputs=("n",), shape=(6,)))
        b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(3, 6)))
        b.add(Neuron(name="last", inputs=("fc",), decay=1.0))
        return b.graph()

    x = np.ones((2, 2, 2, 3, 1), np.int64)
    with pytest.raises(CapacityError) as error:
        LOIHI2.lower(Model(network(-1e5)), x, Options())
    assert str(error.value) == (
        "[SNNC-C009] %n: membrane leaves its 24 bits on the calibration inputs, got (-104, 592), limit "
        "(26611393, 8388159). Try initial, reset and lowest potentials nearer to the threshold."
    )
    lowered = LOIHI2.lower(Model(network(-1)), x, Options())
    agrees(LOIHI2, lowered, x.reshape(2, 2, *lowered.mapped.inputs[0].shape))
