"""Small artifacts of every target with as many kinds of fields as they can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from random_graphs import random_inputs
from snncc.artifact import Artifact
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reset,
    Reshape,
    Rounding,
    SumPool2d,
)
from snncc.model import Model
from snncc.plugins import find_target
from snncc.store import write_artifact

# Targets, and the schedule where it is not `exact`.
WAYS = ("sim", "sim-free", "speck2f", "loihi2", "loihi2-free", "loihi2-graded", "loihi1")


def _conv(rng: np.random.Generator, name: str, source: str, out: int, into: int, kernel: int) -> Conv2d:
    weight = Const(rng.normal(size=(out, into, kernel, kernel)).astype(np.float32))
    return Conv2d(name=name, inputs=(source,), weight=weight, padding=(kernel // 2, kernel // 2))


def counting(steps: int = 1) -> Graph:
    """SFA neurons with biases, a shortcut, pooling, and a permuted map of scores."""
    rng = np.random.default_rng(3)
    over_time = OverTime.MEAN if steps > 1 else OverTime.NONE
    sfa = {"max_spikes": 3, "rounding": Rounding.HALF_EVEN, "threshold": 2.0}
    bias = Const(rng.normal(size=3).astype(np.float32))
    nodes: tuple[Node, ...] = (
        Input(name="x", shape=(2, 4, 6), levels=3),
        _conv(rng, "c1", "x", 3, 2, 3),
        Neuron(name="n1", inputs=("c1",), bias=bias, **sfa),  # type: ignore[arg-type]
        _conv(rng, "c2", "n1", 3, 3, 1),
        Neuron(name="n2", inputs=("c2",), **sfa),  # type: ignore[arg-type]
        Add(name="a", inputs=("n1", "n2")),
        SumPool2d(name="p", inputs=("a",), kernel=(2, 2), stride=(2, 2)),
        _conv(rng, "c3", "p", 2, 3, 1),
        Permute(name="turned", inputs=("c3",), axes=(1, 2, 0)),
        Reshape(name="f", inputs=("turned",), shape=(12,)),
        Output(name="out", inputs=("f",), decode=Decode.VALUE, over_time=over_time),
    )
    return Graph("counting", Family.FLOAT, nodes, steps)


def leaking() -> Graph:
    """Binary neurons with leak, current and hard reset over three timesteps."""
    rng = np.random.default_rng(4)
    lif = {"max_spikes": 1, "decay": 0.75, "reset": Reset.VALUE}
    fc = Const(rng.normal(size=(5, 3 * 4 * 5)).astype(np.float32))
    nodes: tuple[Node, ...] = (
        Input(name="x", shape=(2, 4, 5), levels=1),
        _conv(rng, "c1", "x", 3, 2, 3),
        Neuron(name="n1", inputs=("c1",), synapse_decay=0.5, **lif),  # type: ignore[arg-type]
        Reshape(name="f", inputs=("n1",), shape=(60,)),
        Linear(name="l", inputs=("f",), weight=fc),
        Neuron(name="n2", inputs=("l",), **lif),  # type: ignore[arg-type]
        Output(name="out", inputs=("n2",), decode=Decode.COUNT, over_time=OverTime.SUM),
    )
    return Graph("leaking", Family.FLOAT, nodes, 3)


def write(folder: Path, way: str) -> tuple[Artifact, Dataset]:
    """The artifact of a way, and inputs on which it is equivalent if its schedule promises it."""
    name, _, schedule = way.partition("-")
    target = find_target(name)
    steps = 2 if way in ("loihi2", "sim") else 1
    graph = leaking() if way == "loihi1" else counting(steps)
    x = random_inputs(graph, 6, 1)
    model = Model(graph, calibration=x)
    lowered = target.lower(model, x, Options(schedule or "exact"))
    return write_artifact(folder, model, lowered, target.emit(lowered), target.checker, force=False), Dataset(
        x
    )
