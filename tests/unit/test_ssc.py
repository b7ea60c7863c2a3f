"""Masked networks through every executor: float, integers, spikes, addresses, engine, artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snncc import api
from snncc.compilation import Options
from snncc.ir import (
    Add,
    CentreGate,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Neuron,
    Node,
    Output,
    OverTime,
    Rounding,
    SiteGate,
    parse,
    to_text,
)
from snncc.ir.interp import run
from snncc.ir.node import Pair
from snncc.ir.sites import Bitmap, offset_of, open_sites, sites_const
from snncc.model import Model
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM


def weights(rng: np.random.Generator, *shape: int) -> Const:
    return Const((rng.normal(size=shape) * 1.6 / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


class Net:
    """Grows a masked network: convolutions with gates, neurons, shortcuts."""

    def __init__(self, seed: int, size: Pair = (7, 8), levels: int = 3, steps: int = 1, **neuron: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.mask: Bitmap = self.rng.random(size) < 0.6
        self.steps, self.neuron = steps, neuron
        self.nodes: list[Node] = [Input(name="x", shape=(2, *size), levels=levels)]

    def conv(self, reads: str, out: int, kernel: int = 3, stride: int = 1, mode: str = "mask", **more: Any) -> str:
        name = f"c{len(self.nodes)}"
        inner = self.shape(reads)[0] // more.get("groups", 1)
        dilation = more.get("dilation", (1, 1))
        padding = more.get("padding", (kernel // 2 * dilation[0], kernel // 2 * dilation[1]))
        sites = open_sites(self.mask_at(reads), (kernel, kernel), (stride, stride), padding, dilation)
        self.nodes.append(
            Conv2d(
                name=name, inputs=(reads,), weight=weights(self.rng, out, inner, kernel, kernel),
                bias=Const(self.rng.uniform(-0.5, 0.9, out).astype(np.float32)), stride=(stride, stride),
                **{"padding": padding, **more},
            )
        )  # fmt: skip
        gate: SiteGate = SiteGate(name=f"{name}.gate", inputs=(name,), sites=sites_const(sites))
        if mode == "centre":
            offset = offset_of((kernel, kernel), padding, dilation)
            gate = CentreGate(
                name=gate.name, inputs=(name, reads), sites=gate.sites, stride=(stride, stride), offset=offset
            )
        if mode != "none":
            self.nodes.append(gate)
        return self.nodes[-1].name

    def mask_at(self, reads: str) -> Bitmap:
        height, width = self.shape(reads)[1:]
        step = -(-self.mask.shape[0] // height)
        return self.mask[::step, ::step][:height, :width]

    def fire(self, reads: str, **fields: Any) -> str:
        name = f"n{len(self.nodes)}"
        sfa = {"max_spikes": 3, "rounding": Rounding.HALF_EVEN}
        self.nodes.append(Neuron(name=name, inputs=(reads,), **{**sfa, **self.neuron, **fields}))
        return name

    def add(self, *reads: str) -> str:
        self.nodes.append(Add(name=f"a{len(self.nodes)}", inputs=reads))
        return self.nodes[-1].name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph(name).types[name].shape

    def graph(self, last: str) -> Graph:
        over = OverTime.NONE if self.steps == 1 else OverTime.SUM
        end = Output(name="o", inputs=(last,), over_time=over)
        return Graph("masked", Family.FLOAT, (*self.nodes, end), self.steps)

    def inputs(self, samples: int = 12) -> np.ndarray[Any, Any]:
        """Counts at unmasked sites, of which about half are silent in every channel."""
        first = self.nodes[0]
        assert isinstance(first, Input)
        shape = (samples, self.steps, *first.shape)
        counts = self.rng.integers(0, first.levels + 1, shape)
        return np.asarray(counts * (self.rng.random((*shape[:2], 1, *shape[3:])) < 0.5) * self.mask)


def blocks(seed: int, modes: tuple[str, str, str, str] = ("mask",) * 4, **options: Any) -> tuple[Graph, Any]:
    """Two stages with a shortcut of spikes; groups, a stride, a dilation and an even kernel among them."""
    net = Net(seed, **options)
    first = net.fire(net.conv("x", 4, mode=modes[0]))
    second = net.fire(net.conv(first, 4, groups=4, mode=modes[1], dilation=(2, 1)))
    third = net.fire(net.conv(net.add(first, second), 4, stride=2, mode=modes[2]))
    last = net.fire(net.conv(third, 3, kernel=2, padding=(1, 1), mode=modes[3]))
    return net.graph(last), net.inputs()


MODES = [("mask",) * 4, ("centre",) * 4, ("mask", "centre", "mask", "none"), ("centre", "none", "centre", "mask")]
NEURONS: list[dict[str, Any]] = [
    {},
    {"steps": 3, "decay": 1.0},
    {"steps": 3, "decay": 0.75, "max_spikes": 1, "rounding": Rounding.FLOOR},
    {"steps": 2, "decay": 0.5, "v_min": -0.25},
]


@pytest.mark.parametrize("modes", MODES, ids="-".join)
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_spikes_and_engine_are_the_integers(modes: Any, neuron: dict[str, Any]) -> None:
    graph, x = blocks(5, modes, **neuron)
    lowered = SIM.lower(Model(graph), x, Options())
    integers = run(lowered.integer_graph, x).values
    spikes = run(lowered.spike_graph, x).values
    done = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    for piece in lowered.mapped.pieces:
        assert integers[piece.name].any(), f"{piece.name} is silent"
        assert np.array_equal(spikes[piece.name], integers[piece.name]), piece.name
        assert np.array_equal(done.counts[piece.name], integers[piece.name]), piece.name


@pytest.mark.parametrize("modes", [MODES[0], MODES[3]], ids="-".join)
def test_an_artifact_holds_the_gates_and_verifies(modes: Any, tmp_path: Path) -> None:
    graph, x = blocks(6, modes)
    api.compile(Model(graph, calibration=x), target="sim", out=tmp_path / "out")
    np.savez(tmp_path / "x.npz", x=x)
    result = api.verify(tmp_path / "out", tmp_path / "x.npz")
    assert result.equivalent


def test_the_text_form_keeps_gates() -> None:
    graph, x = blocks(7, MODES[3])
    lowered = SIM.lower(Model(graph), x, Options())
    for one in (graph, lowered.integer_graph, lowered.spike_graph):
        assert parse(to_text(one), one.constants()) == one
