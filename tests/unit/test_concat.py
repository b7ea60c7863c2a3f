"""Spikes joined along their channels: each source has its own part of the weights behind the joint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from random_graphs import Builder, random_inputs
from snncc import api
from snncc.compilation import Options
from snncc.ir import AvgPool2d, Concat, Graph, Linear, Neuron, Node, Output, OverTime, Reshape, Slice
from snncc.ir.interp import run
from snncc.model import Model
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM


def dense_block(groups: int = 1, steps: int = 1, seed: int = 0) -> Graph:
    """x, n1 = conv(x), n2 = conv(x, n1): all three joined, pooled and read by one linear layer."""
    b = Builder(np.random.default_rng(seed), (2, 6, 4), 2, steps=steps)
    b.conv("c1", "x", 4, (3, 3), padding=(1, 1))
    b.add(spiking("n1", "c1"))
    b.add(Concat(name="join", inputs=("n1", "x"), axis=0))
    b.conv("c2", "join", 6, (3, 1), padding=(1, 0), groups=groups)
    b.add(spiking("n2", "c2"))
    b.add(Concat(name="all", inputs=("x", "n2", "join"), axis=0))
    b.add(AvgPool2d(name="pool", inputs=("all",), kernel=(3, 2), stride=(3, 2)))
    b.add(Reshape(name="flat", inputs=("pool",), shape=(14 * 2 * 2,)))
    b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(5, 56)))
    graph = b.graph()
    return graph.rewrite(lambda n: replace(n, over_time=OverTime.SUM) if isinstance(n, Output) else None)


def spiking(name: str, reads: str) -> Neuron:
    return Neuron(name=name, inputs=(reads,), source=name, max_spikes=2, decay=1.0)


@pytest.mark.parametrize("target", [SIM, LOIHI2])
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize(("groups", "steps"), [(1, 1), (1, 3), (2, 2), (3, 2)])
def test_every_source_keeps_its_weights_and_its_delay(
    target: Any, graded: bool, groups: int, steps: int
) -> None:
    if graded and target is SIM:
        return
    graph = dense_block(groups, steps, seed=groups + steps)
    x = random_inputs(graph, 4, 5)
    lowered = target.lower(Model(graph), x, Options("graded" if graded else "exact"))
    maps = x.reshape(len(x), -1, *lowered.mapped.inputs[0].shape)
    got = SIMULATOR.execute(lowered.mapped, lowered.tensors, maps)
    want, spikes = (run(g, x) for g in (lowered.integer_graph, lowered.spike_graph))
    for piece in lowered.mapped.pieces:
        part = slice(-1, None) if piece.is_readout else slice(None)
        counts = got.counts[piece.name]
        for values in (want.values, spikes.values):
            expected = values[piece.name].reshape(counts.shape)
            assert np.array_equal(counts[:, part], expected[:, part]), piece.name
        assert counts.any()
    assert np.array_equal(got.result, want.result)
    by_name = {p.name: p for p in lowered.mapped.pieces}
    assert [c.source for c in by_name["n2"].connections] == ["n1", "input"]
    assert len(by_name["fc.readout"].connections) == 4
    assert len({c.delay for c in by_name["fc.readout"].connections}) == 3


def test_free_events_find_their_part_too() -> None:
    graph = dense_block()
    x = random_inputs(graph, 2, 3)
    lowered = SIM.lower(Model(graph), x, Options("free"))
    got = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    want = run(lowered.spike_graph, x).values
    for name in ("n1", "n2"):
        assert np.array_equal(got.counts[name], want[name].reshape(got.counts[name].shape))


def joined(*nodes: Node) -> tuple[str, ...]:
    """Problems of a network that reads a map [2, 6, 4] through ``nodes``, the last of them ``join``."""
    b = Builder(np.random.default_rng(0), (2, 6, 4), 2)
    for node in nodes:
        b.add(node)
    b.add(Reshape(name="flat", inputs=("join",), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(3, *b.shape)))
    graph = b.graph()
    found = api.check(Model(graph, calibration=random_inputs(graph, 2, 1)), target="sim")
    return tuple(f"[{p.code}] {p}" for p in found.problems)


def test_other_axes_and_slices_fit_as_well() -> None:
    for axis in (0, 1, 2):
        assert joined(Concat(name="join", inputs=("x", "x"), axis=axis)) == ()
    assert joined(Slice(name="join", inputs=("x",), axis=0, start=0, stop=1)) == ()


def test_units_must_agree() -> None:
    graph = dense_block()
    halved = graph.rewrite(lambda n: replace(n, output_scale=0.5) if n.name == "n1" else None)  # type: ignore[call-arg]
    found = api.check(Model(halved, calibration=random_inputs(graph, 2, 1)), target="sim")
    assert [str(p) for p in found.problems] == [
        "%join: joins values whose units differ, got %n1: 0.5, %x: 1. "
        "Try the same D, normalisation and pooling on both branches."
    ]
