"""Streams of currents that an analog stem starts, and whether all that computes them agrees."""

from __future__ import annotations

from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.compilation import Lowered, Options, Target
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Encode,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Reshape,
    Rounding,
)
from snncc.ir.interp import host_values, run
from snncc.mapping.build import port_names
from snncc.model import Model
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM


def f32(values: Any) -> Const:
    return Const(np.asarray(values, np.float32))


def stream(
    rng: np.random.Generator, count: int = 1, steps: int = 1, sizes: tuple[float, ...] = (1, 1)
) -> Graph:
    """MS-ResNet's form: an analog stem whose current is the first value of a stream of blocks."""
    number: dict[str, Any] = {"decay": 0.5, "threshold": 0.5}
    if count > 1:
        number = {"max_spikes": count, "rounding": Rounding.HALF_EVEN}
    stem = Conv2d(name="s", inputs=("x",), weight=f32(rng.normal(size=(3, 2, 3, 3)) * 0.4), padding=(1, 1))
    nodes: list[Node] = [Input(name="x", shape=(2, 4, 5)), stem]
    value = "s"
    for i, size in enumerate(sizes):
        weight = f32(rng.normal(size=(3, 3, 3, 3)) * 0.4 * size)
        nodes += [
            Neuron(name=f"n{i}", inputs=(value,), source=f"n{i}", **number),
            Conv2d(name=f"c{i}", inputs=(f"n{i}",), weight=weight, padding=(1, 1)),
            Add(name=f"a{i}", inputs=(f"c{i}", value)),
        ]
        value = f"a{i}"
    nodes += [
        Neuron(name="last", inputs=(value,), **number),
        Reshape(name="flat", inputs=("last",), shape=(60,)),
        Linear(name="fc", inputs=("flat",), weight=f32(rng.normal(size=(5, 60)))),
        Output(name="o", inputs=("fc",), over_time=OverTime.MEAN if steps > 1 else OverTime.NONE),
    ]
    return Graph("net", Family.FLOAT, tuple(nodes), steps)


def inputs(graph: Graph, samples: int, seed: int = 1) -> Array:
    shape = (samples, graph.steps, *graph.input.shape)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def lowered(graph: Graph, x: Array, target: Target = SIM) -> Lowered:
    return target.lower(Model(graph), x, Options())


def given(made: Lowered, x: Array) -> dict[str, Array]:
    """Counts of every port."""
    values, names = host_values(made.integer_graph, x), port_names(made.spike_graph)
    return {
        names[n.name]: values[n.inputs[0]].reshape(*x.shape[:2], *made.mapped.ports[names[n.name]].shape)
        for n in made.spike_graph.nodes
        if isinstance(n, Encode)
    }


def agrees(made: Lowered, x: Array) -> None:
    """Integers, spikes and the simulator, bit for bit."""
    integer, spikes = run(made.integer_graph, x), run(made.spike_graph, x)
    simulated = SIMULATOR.execute(made.mapped, made.tensors, given(made, x))
    for name in (n.name for n in made.integer_graph.neurons if not n.is_readout):
        np.testing.assert_array_equal(integer.values[name], spikes.values[name])
        np.testing.assert_array_equal(
            integer.values[name], simulated.counts[name].reshape(integer.values[name].shape)
        )
    np.testing.assert_array_equal(integer.result, spikes.result)
    np.testing.assert_array_equal(integer.result, simulated.result)
