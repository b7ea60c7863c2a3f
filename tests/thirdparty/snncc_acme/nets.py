"""Acme's networks: a file format of their own, and objects that live in a user's program."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snncc.errors import fail
from snncc.graphfile import write_graph_file
from snncc.ir import Const, Family, Graph, Input, Linear, MaxPool2d, Neuron, Node, Output, Reshape
from snncc.model import Model
from snncc.plugins import LoadOptions


@dataclass(frozen=True)
class Net:
    """A pooling, and layers of neurons behind it.

    Attributes:
        shape: (C, H, W) of the input.
        levels: largest count of the input.
        pool: size of the pooling.
        layers: weights [out][in] of each layer; neurons fire at one, the last layer's results are sums.
    """

    shape: tuple[int, int, int]
    levels: int
    pool: int
    layers: tuple[tuple[tuple[float, ...], ...], ...]

    def graph(self) -> Graph:
        """The float graph."""
        c, h, w = self.shape
        size = c * (h // self.pool) * (w // self.pool)
        nodes: list[Node] = [
            Input(name="x", shape=(c, h, w), levels=self.levels),
            MaxPool2d(name="pool", inputs=("x",), kernel=(self.pool,) * 2, stride=(self.pool,) * 2),
            Reshape(name="flat", inputs=("pool",), shape=(size,)),
        ]
        for i, weights in enumerate(self.layers):
            weight = Const(np.asarray(weights, np.float32))
            nodes.append(Linear(name=f"w{i}", inputs=(nodes[-1].name,), weight=weight))
            if i < len(self.layers) - 1:
                nodes.append(Neuron(name=f"n{i}", inputs=(f"w{i}",), max_spikes=3))
        return Graph("acme", Family.FLOAT, (*nodes, Output(name="o", inputs=(nodes[-1].name,))))


class AcmeFrontend:
    """Reads ``.acme`` files: JSON with the fields of :class:`Net`."""

    suffixes: tuple[str, ...] = (".acme",)

    def load(self, path: Path, options: LoadOptions) -> Model:
        """Model of a file.

        Raises:
            ModelError: SNNC-M001 if it is none.
        """
        try:
            net = Net(**json.loads(path.read_bytes()))
            return Model(net.graph(), origin=path.name)
        except (ValueError, TypeError) as error:
            raise fail("SNNC-M001", str(path), "is no Acme network", got=error) from error


def export(
    module: Net,
    example_input: Any,
    path: str | Path,
    *,
    timesteps: int | None,
    input_levels: int | None,
    calibration: Any,
    labels: Any,
) -> Path:
    """Write a graph file of a network; its input's levels may be given anew."""
    levels = module.levels if input_levels is None else input_levels
    graph = replace(module, levels=levels).graph()
    write_graph_file(Path(path), Model(graph, calibration=calibration, labels=labels))
    return Path(path)


FRONTEND = AcmeFrontend()
