"""Upsampled spikes: an event stands at several places of the map that the weights see."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from random_graphs import Builder, random_inputs
from snncc import api
from snncc.compilation import Options
from snncc.equivalence import parts
from snncc.ir import Add, Concat, Graph, Linear, Neuron, Output, OverTime, Reshape, SumPool2d, Upsample
from snncc.ir.interp import run
from snncc.mapping.address import VSC
from snncc.model import Model
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM


def check(a: VSC, rng: np.random.Generator) -> None:
    """The expanded matrix is that of the convolution of the repeated map, and so is the fan-out."""
    plain = a.model_copy(update={"source_shape": a.seen_shape, "pool": (1, 1), "spread": (1, 1)})
    weight = rng.integers(-9, 10, (a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel))
    x = rng.integers(0, 4, a.source_shape)
    (c, h, w), (down, right) = a.pooled_shape, a.pool
    pooled = x[:, : h * down, : w * right].reshape(c, h, down, w, right).sum(axis=(2, 4))
    seen = pooled.repeat(a.spread[0], axis=1).repeat(a.spread[1], axis=2)
    want = plain.expand(weight) @ seen.ravel()
    assert np.array_equal(a.expand(weight) @ x.ravel(), want)
    synapses = plain.fan_out().reshape(h, a.spread[0], w, a.spread[1]).sum(axis=(1, 3))
    found = a.fan_out()[: h * down : down, : w * right : right]
    assert np.array_equal(found, synapses)


def test_every_geometry_of_one_axis() -> None:
    rng = np.random.default_rng(0)
    ranges = (range(1, 5), range(1, 4), range(1, 4), range(3), range(1, 3), range(1, 3), range(2, 4))
    checked = 0
    for n, k, s, p, d, m, f in itertools.product(*ranges):
        size = (n // m * f + 2 * p - d * (k - 1) - 1) // s + 1
        if size < 1 or n < m:
            continue
        for turn in (1, -1):  # along the rows, along the columns
            geometry: Any = {"kernel": (k, 2)[::turn], "stride": (s, 1)[::turn], "padding": (p, 0)[::turn]}
            geometry |= {"dilation": (d, 1)[::turn], "pool": (m, 1)[::turn], "spread": (f, 2)[::turn]}
            shape, out = (n, 2)[::turn], (size, 3)[::turn]
            check(VSC(source_shape=(2, *shape), target_shape=(4, *out), groups=2, **geometry), rng)
            checked += 1
    assert checked > 700


def pyramid(steps: int = 1, levels: int = 2, seed: int = 0) -> Graph:
    """A coarse map raised twice and joined with a finer one; then both read by a linear layer."""
    b = Builder(np.random.default_rng(seed), (2, 8, 4), levels, steps=steps)
    b.conv("c1", "x", 4, (3, 3), padding=(1, 1))
    b.add(spiking("fine", "c1", levels))
    b.conv("c2", "fine", 3, (2, 2), stride=(2, 2))
    b.add(spiking("coarse", "c2", levels))
    b.add(SumPool2d(name="pool", inputs=("coarse",), kernel=(2, 1), stride=(2, 1)))
    b.add(Upsample(name="high", inputs=("pool",), factor=(2, 1)))
    b.add(Upsample(name="up", inputs=("high",), factor=(2, 2)))
    b.add(Concat(name="join", inputs=("up", "fine"), axis=0))
    b.conv("c3", "join", 4, (3, 3), padding=(1, 1))
    b.add(spiking("mixed", "c3", levels))
    b.add(Concat(name="all", inputs=("mixed", "up"), axis=0))
    b.add(Reshape(name="flat", inputs=("all",), shape=(7 * 8 * 4,)))
    b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(5, 7 * 8 * 4)))
    graph = b.graph()
    return graph.rewrite(lambda n: replace(n, over_time=OverTime.SUM) if isinstance(n, Output) else None)


def spiking(name: str, reads: str, levels: int) -> Neuron:
    return Neuron(name=name, inputs=(reads,), source=name, max_spikes=levels, decay=1.0, threshold=0.5)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_spikes_are_the_integers(steps: int, levels: int) -> None:
    graph = pyramid(steps, levels, seed=steps + levels)
    x = random_inputs(graph, 4, 5)
    lowered = SIM.lower(Model(graph), x, Options())
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
    raised = {p.name: sorted(c.address.spread for c in p.connections) for p in lowered.mapped.pieces}
    assert raised["mixed"] == [(1, 1), (4, 2)]


def test_the_parts_of_an_artifact_see_a_lost_or_wrong_factor() -> None:
    graph = pyramid()
    lowered = SIM.lower(Model(graph), random_inputs(graph, 2, 5), Options())
    piece = next(p for p in lowered.mapped.pieces if p.name == "mixed")
    connection = next(c for c in piece.connections if c.address.spread != (1, 1))
    spikes = np.arange(np.prod(connection.address.source_shape)) % 3
    weight = lowered.tensors[connection.weight].astype(np.int64)
    want = connection.address.expand(weight) @ spikes
    assert np.array_equal(parts._through(connection, weight, spikes).ravel(), want)
    # The same size by another way: rows and columns of the factor changed.
    turned = connection.model_copy(
        update={"address": connection.address.model_copy(update={"spread": (2, 4)})}
    )
    assert not np.array_equal(turned.address.expand(weight) @ spikes, want)


def told(graph: Graph, **options: Any) -> list[str]:
    found = api.check(Model(graph, calibration=random_inputs(graph, 2, 1)), **options)
    return [f"[{p.code}] {p}" for p in found.problems]


def test_chips_that_cannot_say_so_with_a_way_out() -> None:
    found = told(pyramid(), target="loihi2", partition="none")
    assert [text.partition(" Try ")[0] for text in found] == [
        f"[SNNC-C012] %{name} on loihi2: the chip's addresses raise no map to a larger one, got a map of "
        f"{factor} times the size."
        for name, factor in (("up", "2×2"), ("high", "2×1"), ("up", "2×2"), ("high", "2×1"))
    ]
    assert any("the chip's addresses raise no map" in text for text in told(pyramid(), target="speck2f"))


def test_what_has_no_address_function() -> None:
    b = Builder(np.random.default_rng(0), (2, 4, 4), 1)
    b.conv("c", "x", 3, (1, 1))
    b.add(Upsample(name="up", inputs=("c",), factor=(2, 2)))
    b.add(spiking("n", "up", 1))
    # The map is raised behind the neuron, where nothing but the result reads it.
    assert told(b.graph(), target="sim") == [
        "[SNNC-M019] %n (n): the result is spikes that several addresses share. "
        "Try ending the model with a neuron or a linear layer."
    ]


def test_sums_raised_beside_others_have_no_address_function() -> None:
    b = Builder(np.random.default_rng(0), (2, 4, 4), 1)
    b.conv("c", "x", 3, (1, 1))
    b.add(Upsample(name="up", inputs=("c",), factor=(2, 2)))
    b.add(Upsample(name="wide", inputs=("x",), factor=(2, 2)))
    b.conv("d", "wide", 3, (1, 1))
    b.add(Add(name="sum", inputs=("up", "d")))
    b.add(spiking("n", "sum", 1))
    assert told(b.graph(), target="sim") == [
        "[SNNC-M022] %up: upsample between weights and neurons has no address function. "
        "Try pooling behind the neuron."
    ]
