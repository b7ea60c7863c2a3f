"""Bounds of free-running counts where the conditions of their derivation do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from cells import integer_neuron
from snncc.analysis.free_bounds import free_bounds
from snncc.ir import (
    Cell,
    Const,
    Decode,
    Encode,
    Family,
    Graph,
    Input,
    Linear,
    Node,
    Output,
    Release,
    WindowNeuron,
)
from snncc.ir.interp import run

INPUT = Input(name="x", shape=(46,), levels=4)
END = Output(name="o", inputs=("n",), decode=Decode.COUNT)


def linear(reads: str, weights: list[int]) -> Linear:
    return Linear(name="l", inputs=(reads,), weight=Const(np.array([weights], np.int8)))


def integers(weights: list[int], **cell: int) -> Graph:
    return Graph("g", Family.INTEGER, (INPUT, linear("x", weights), integer_neuron("n", "l", **cell), END))


def streaming(weights: list[int], **cell: int) -> Graph:
    neuron = WindowNeuron(name="n", inputs=("l",), cell=Cell(**cell), phase=1, release=Release.STREAM)
    nodes: tuple[Node, ...] = (INPUT, Encode(name="s", inputs=("x",)), linear("s", weights), neuron, END)
    return Graph("g", Family.SPIKE, nodes, micro_steps=5)


def test_a_clocked_neuron_may_end_above_its_threshold() -> None:
    """Inhibition for two micro-steps, then more than θ a micro-step: one spike in each of the two left."""
    weights, cell = [10] * 40 + [-100] * 6, {"threshold": 10, "max_spikes": 4}
    x = np.array([[[4] * 40 + [2] * 6]])
    assert run(streaming(weights, **cell), x).values["n"].item() == 2
    low, high = free_bounds(integers(weights, **cell), x, capped=True, clocked=True)["n"]
    assert (low.item(), high.item()) == (0, 4)
    low, high = free_bounds(integers(weights, **cell), x, capped=True)["n"]
    assert (low.item(), high.item()) == (4, 4)


@pytest.mark.parametrize(("gain", "least"), [(1, 2), (2, 0)])
def test_a_weight_is_held_against_the_threshold_in_units_of_the_membrane(gain: int, least: int) -> None:
    """An event of θ leaves the membrane below θ, hence a bound from below; one of 2θ does not."""
    graph = integers([10] + [0] * 45, threshold=10, max_spikes=4, gain=gain)
    x = np.array([[[2] + [0] * 45]])
    low, _ = free_bounds(graph, x, capped=True)["n"]
    assert low.item() == least
