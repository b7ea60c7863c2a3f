"""What a certificate counts and bounds, against counts and bounds made another way."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc.analysis.claims import LayerSums, layer_range, layer_sums
from snncc.analysis.ranges import held, start_range
from snncc.ir import Cell, Const, Conv2d, Family, Graph, Input, Linear, Node, Output, Reset


def weights(*rows: Any) -> Const:
    return Const(np.array(rows, np.int8))


def integers(*nodes: Node, levels: int, shape: tuple[int, ...] = (1,), steps: int = 1) -> Graph:
    end = Output(name="y", inputs=(nodes[-1].name,))
    return Graph("g", Family.INTEGER, (Input(name="x", shape=shape, levels=levels), *nodes, end), steps)


def single(levels: int, weight: int, theta: int, most: int, **neuron: Any) -> Graph:
    node = integer_neuron("n", "c", threshold=theta, max_spikes=most, **{"half_up": True, **neuron})
    return integers(Linear(name="c", inputs=("x",), weight=weights([weight])), node, levels=levels)


def every_count(graph: Graph) -> np.ndarray:
    return np.arange(graph.input.levels + 1).reshape(-1, 1, 1)


def sums(graph: Graph, x: np.ndarray) -> LayerSums:
    (found,) = layer_sums(graph, x)
    return found


@pytest.mark.parametrize(("levels", "weight", "theta", "most", "neuron", "ties"), [
    # u = 0..16 at θ = 4: ½, 1½, 2½ and 3½ round up to 1, 2, 3, 4 and to even to 0, 2, 2, 4.
    (16, 1, 4, 4, {}, 2),
    (16, 1, 4, 8, {}, 2),
    (16, 1, 4, 3, {}, 2),
    (16, 1, 4, 2, {}, 1),  # 2½ is clipped to 2 either way
    (16, 1, 4, 1, {}, 1),
    (16, 1, 5, 4, {}, 0),  # an odd threshold has no half
    (16, 2, 4, 8, {}, 4),  # 2, 6, ..., 30 are half-way; every second goes to an odd count
    (16, -1, 4, 8, {}, 0),  # -½ goes up to 0, which is even
    (16, -1, 4, 8, {"bias": 16}, 2),
    (16, 1, 4, 8, {"bias": 1}, 2),  # u = 1..17
    (16, 2, 4, 8, {"bias": 1}, 0),
    (16, 1, 8, 8, {"gain": 2}, 2),
    (16, 1, 4, 8, {"half_up": False}, 0),
    (16, 1, 4, 8, {"half_up": False, "strict": True}, 0),
    (16, 1, 4, 8, {"decay": 1}, 0),  # with memory they are not counted
])  # fmt: skip
def test_ties_of_a_neuron(
    levels: int, weight: int, theta: int, most: int, neuron: dict[str, Any], ties: int
) -> None:
    graph = single(levels, weight, theta, most, **neuron)
    assert sums(graph, every_count(graph)).ties == ties


def test_ties_are_counted_over_samples_neurons_and_timesteps() -> None:
    """Counts that round to even would lower, one by one in exact fractions, on a map and two timesteps."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-3, 4, (2, 1, 2, 2)).astype(np.int8)
    graph = integers(
        Conv2d(name="c", inputs=("x",), weight=Const(kernel), bias=Const(np.array([1, -2], np.int32))),
        integer_neuron("n", "c", threshold=6, max_spikes=3, bias=4, half_up=True),
        levels=5,
        shape=(1, 3, 4),
        steps=2,
    )
    x = rng.integers(0, 6, (60, 2, 1, 3, 4))
    expected = 0
    for image in x.reshape(-1, 3, 4).tolist():
        for channel, row, column in product(range(2), range(2), range(3)):
            taps = kernel[channel, 0].tolist()
            u = sum(taps[i][j] * image[row + i][column + j] for i, j in product(range(2), repeat=2))
            ratio = Fraction(u + [1, -2][channel] + 4, 6)
            up, even = (ratio + Fraction(1, 2)).__floor__(), round(ratio)
            expected += min(max(up, 0), 3) > min(max(even, 0), 3)
    assert expected > 50
    assert sums(graph, x).ties == expected


def test_bounds_of_a_layers_inputs() -> None:
    """Positive and negative inputs apart: x = (2, 3, 1) of 0..4 through one row of both signs and one of one."""
    graph = integers(
        Linear(name="c", inputs=("x",), weight=weights([5, -1, 2], [1, 1, 3])),
        integer_neuron("n", "c", threshold=4, max_spikes=9, bias=-2),
        levels=4,
        shape=(3,),
    )
    found = sums(graph, np.array([[[2, 3, 1]]]))
    assert (found.start_low, found.start_high) == (-2, -2)
    assert found.observed == (-3, 12)
    assert found.all_inputs == (-4, 28)
    within = layer_range(found, 8, (-4, 28))
    assert (within.layer, within.bits, within.word_low, within.word_high) == ("n", 8, -128, 127)
    assert (within.observed, within.all_inputs, within.allowed) == ((-3, 12), (-4, 28), (-4, 28))
    assert within.proven
    assert not layer_range(found, 8, (-3, 28)).proven
    assert not layer_range(found, 8, (-4, 27)).proven


def test_bounds_of_inputs_that_a_leak_keeps() -> None:
    """Half of each timestep stays: over three, 1 + ½ + ¼ of the input, rounded up to two."""
    graph = integers(
        Linear(name="c", inputs=("x",), weight=weights([3], [-5])),
        integer_neuron("n", "c", threshold=4, max_spikes=9, decay=2048, decay_bits=12),
        levels=2,
        steps=3,
    )
    found = sums(graph, np.array([[[0], [1], [1]]]))
    assert found.observed == (-10, 6)
    assert found.all_inputs == (-20, 12)


@pytest.mark.parametrize(("neuron", "steps", "timesteps"), [
    ({"decay": 0}, 5, 1),
    ({"decay": 1}, 5, 5),
    ({"decay": 2048, "decay_bits": 12}, 2, 2),
    ({"decay": 2048, "decay_bits": 12}, 40, 2),
    ({"decay": 3072, "decay_bits": 12}, 40, 4),
    ({"decay": 0, "synapse_decay": 2048, "synapse_bits": 12}, 40, 2),
    ({"decay": 1, "synapse_decay": 1, "synapse_bits": 0}, 4, 10),  # 1 + 2 + 3 + 4
    ({"decay": 1, "synapse_decay": 2048, "synapse_bits": 12}, 3, 5),  # 1 + 1½ + 1¾ = 4¼
])  # fmt: skip
def test_timesteps_worth_of_input_that_a_membrane_holds(
    neuron: dict[str, Any], steps: int, timesteps: int
) -> None:
    assert held(integer_neuron("n", "c", **neuron), steps) == timesteps


def trajectory(cell: Cell, rest: int, drives: list[int]) -> list[int]:
    """The membrane at the start of each window, when ``rest`` and a drive arrive each timestep."""
    found, v = [], cell.v_init
    takes = cell.threshold if cell.reset_by is None else cell.reset_by
    for drive in drives:
        kept = abs(v) * cell.decay >> cell.decay_bits
        u = (kept if v > 0 else -kept) + rest + drive + cell.bias
        found.append(u + cell.precharge)
        n = min(max((u + cell.precharge) // cell.threshold, 0), cell.max_spikes)
        v = u - n * takes if cell.reset is Reset.SUBTRACT else (cell.reset_to if n else u)
        v = v if cell.v_min is None else max(v, cell.v_min)
    return found


@pytest.mark.parametrize("v_min", [None, -7, 0, 6])
@pytest.mark.parametrize("reset", [Reset.SUBTRACT, Reset.VALUE])
@pytest.mark.parametrize("precharge", [0, -1, 2])
def test_silent_membranes_stay_between_their_bounds(v_min: int | None, reset: Reset, precharge: int) -> None:
    """Stepped by hand for small numbers of every sign; a lowest potential above zero lifts the range, too."""
    values = product((1, 3), (-9, 0, 8), (-2, 0, 3), (-4, 5), ((0, 0), (1, 0), (1, 1)), (-1, 0, 2))
    for steps, v_init, bias, reset_to, (decay, bits), rest in values:
        node = integer_neuron(
            "n", "c", threshold=4, max_spikes=2, decay=decay, decay_bits=bits, bias=bias,
            reset=reset, reset_to=reset_to, v_min=v_min, v_init=v_init, precharge=precharge,
        )  # fmt: skip
        low, high = start_range(node.cell, np.full((1, 1), rest, np.int64), held(node, steps))
        path = trajectory(node.cell, rest, [0] * steps)
        assert low.item() <= min(path), node
        assert max(path) <= high.item(), node


@pytest.mark.parametrize("reset_by", [None, 2, 4, 6])
@pytest.mark.parametrize("precharge", [0, -1, 2])
@pytest.mark.parametrize(("decay", "bits"), [(0, 0), (1, 0), (1, 1), (3, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_driven_membranes_stay_between_their_bounds_and_what_they_hold(
    reset_by: int | None, precharge: int, decay: int, bits: int, sign: int
) -> None:
    """Drives of one sign up to 9: the other end is what resets and biases alone make of it."""
    rng = np.random.default_rng(0)
    numbers = {"threshold": 4, "max_spikes": 2, "decay": decay, "decay_bits": bits, "reset_by": reset_by}
    for bias, v_init in product((-3, 0, 2), (-5, 0, 6)):
        node = integer_neuron("n", "c", bias=bias, v_init=v_init, precharge=precharge, **numbers)
        steps = 5
        most = held(node, steps) * 9
        low, high = start_range(node.cell, np.zeros((1, 1), np.int64), held(node, steps))
        for _ in range(60):
            path = trajectory(node.cell, 0, (sign * rng.integers(0, 10, steps)).tolist())
            assert low.item() - (sign < 0) * most <= min(path), node
            assert max(path) <= high.item() + (sign > 0) * most, node


def test_gains_and_biases_of_channels_count_channel_by_channel() -> None:
    """A gain per channel acts on both ends of a channel's own sums."""
    graph = integers(
        Linear(name="c", inputs=("x",), weight=weights([3], [-2]), bias=Const(np.array([1, -4], np.int32))),
        integer_neuron("n", "c", threshold=4, max_spikes=9, gain=Const(np.array([2, 5], np.int32))),
        levels=3,
    )
    found = sums(graph, np.array([[[2]]]))
    assert (found.start_low, found.start_high) == (-20, 2)
    assert (found.observed, found.all_inputs) == ((-20, 12), (-30, 18))
