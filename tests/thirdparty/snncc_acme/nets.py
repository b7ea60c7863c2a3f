"""Acme's networks: a file format of their own, and objects that live in a user's program."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snncc.errors import fail
from snncc.graphfile import write_graph_file
from snncc.ir import Const, ConvTranspose2d, Family, Graph, Input, Linear, Neuron, Node, Output, Reshape
from snncc.model import Model
from snncc.plugins import LoadOptions


@dataclass(frozen=True)
class Net:
    """Neurons behind a kernel that spreads each spike, and layers of neurons behind them.

    Attributes:
        shape: (C, H, W) of the input.
        levels: largest count of the input.
        kernel: size of the kernel, of ones, for each channel; what it spreads beyond the map is lost.
        stride: how far apart it spreads spikes.
        layers: weights [out][in] of each layer; neurons fire at one, the last layer's results are sums.
    """

    shape: tuple[int, int, int]
    levels: int
    kernel: int
    stride: int
    layers: tuple[tuple[tuple[float, ...], ...], ...]

    def graph(self) -> Graph:
        """The float graph."""
        c, h, w = self.shape
        ones = Const(np.ones((c, 1, self.kernel, self.kernel), np.float32))
        high, wide = (self.stride * (n - 1) + 2 - self.kernel for n in (h, w))
        nodes: list[Node] = [
            Input(name="x", shape=(c, h, w), levels=self.levels),
            ConvTranspose2d(
                name="spread",
                inputs=("x",),
                weight=ones,
                stride=(self.stride, self.stride),
                padding=(self.kernel - 1, self.kernel - 1),
                groups=c,
            ),
            Neuron(name="s", inputs=("spread",), threshold=2.0),
            Reshape(name="flat", inputs=("s",), shape=(c * high * wide,)),
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
