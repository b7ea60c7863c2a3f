"""A small trained-looking network and its artifacts, for the tests of the command line and the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snncc.ir import (
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Output,
    Reshape,
    Rounding,
    SumPool2d,
)
from snncc.model import Model

SHAPE, LEVELS, CLASSES = (1, 8, 6), 4, 5
EVIL = "</script><img src=x onerror=alert(1)>\x1b[31m"


def weights(rng: np.random.Generator, *shape: int) -> Const:
    fan_in = max(int(np.prod(shape[1:])), 1)
    return Const((rng.normal(size=shape) * 1.5 / np.sqrt(fan_in)).astype(np.float32))


def graph(name: str = "net", module: str = "conv1", channels: int = 4) -> Graph:
    """Conv, SFA, pooling, linear, SFA: counts are the class scores."""
    rng = np.random.default_rng(7)
    flat = channels * 4 * 3
    nodes = (
        Input(name="x", shape=SHAPE, levels=LEVELS),
        Conv2d(
            name="c", inputs=("x",), source=module, weight=weights(rng, channels, 1, 3, 3), padding=(1, 1)
        ),
        Neuron(name="s1", inputs=("c",), source=module, max_spikes=LEVELS, rounding=Rounding.HALF_EVEN),
        SumPool2d(name="p", inputs=("s1",), kernel=(2, 2), stride=(2, 2)),
        Reshape(name="f", inputs=("p",), shape=(flat,)),
        Linear(name="l", inputs=("f",), source="fc", weight=weights(rng, CLASSES, flat)),
        Neuron(name="s2", inputs=("l",), source="fc", max_spikes=LEVELS, rounding=Rounding.HALF_EVEN),
        Output(name="out", inputs=("s2",), decode=Decode.COUNT),
    )
    return Graph(name, Family.FLOAT, nodes)


def inputs(samples: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Spike counts and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, LEVELS + 1, (samples, *SHAPE)), rng.integers(0, CLASSES, samples)


def model(**changes: object) -> Model:
    """The network with calibration inputs."""
    x, y = inputs(16)
    return Model(graph(**changes), x[:, None], y, origin="clinets")  # type: ignore[arg-type]


def write_data(path: Path, samples: int = 6, seed: int = 2) -> Path:
    """A data file."""
    x, y = inputs(samples, seed)
    np.savez(path, x=x, y=y)
    return path
