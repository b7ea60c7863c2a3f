"""Totals against a brute-force count, and independence of workers and chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.simnets import Net, Way, conv_chain, gate_pieces, recolour
from snncc.errors import DataError, InternalError
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import INPUT, Mapped
from snncc.simulation import Activity
from snncc_sim import SIMULATOR, engine


def merged_net(kind: Engine, steps: int = 1) -> Net:
    """Pools that leave a rest, groups, strides that skip sources, a merge and a shared weight."""
    net = Net((2, 7, 9), levels=3, steps=steps, engine=kind, seed=3)
    neuron = {"threshold": 15, "max_spikes": 3, "precharge": 5}
    net.layer("a", 4, Way(kernel=(2, 3), pool=(2, 2), padding=(0, 1)), phase=4, **neuron)
    net.layer("b", 4, Way("a", kernel=(1, 1), groups=2), phase=8, **neuron)
    weight = net.rng.integers(-3, 9, (6, 4, 1, 1))
    skip = Way("a", kernel=(1, 1), stride=(2, 3), delay=4 if kind is Engine.CLOCKED else 0, weight=weight)
    net.layer("c", 6, Way("b", kernel=(1, 1), stride=(2, 3), weight=weight), skip, phase=12, **neuron)
    net.layer("r", 3, Way("c", kernel=None), max_spikes=0, phase=16)
    return net


def with_gates(net: Net) -> Mapped:
    mapped = gate_pieces(net.mapped(), -3000, 3000)
    return mapped.model_copy(update={"pieces": tuple(recolour(p, capped=False) for p in mapped.pieces)})


def network(kind: Engine, steps: int = 1) -> tuple[Mapped, dict[str, Any], Any]:
    net = merged_net(Engine.EVENT if kind is Engine.GATED else kind, steps)
    return (with_gates(net) if kind is Engine.GATED else net.mapped()), net.tensors, net.data(7)


def brute_force(mapped: Mapped, activity: Activity, x: Any) -> dict[str, tuple[int, int, list[int]]]:
    """Events, synaptic operations and those of each sample, from the integer counts alone."""
    counts = {INPUT: x} | activity.counts
    found = {}
    for piece in mapped.pieces:
        events, each = 0, np.zeros(len(x), np.int64)
        for c in piece.connections:
            a, spikes = c.address, counts[c.source].sum(axis=1, dtype=np.int64)
            weight = np.ones((a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel), np.int64)
            fan_out = (a.expand(weight) != 0).sum(axis=0)
            each += spikes.reshape(len(x), -1) @ fan_out
            _, h, w = a.pooled_shape
            events += int(spikes[:, :, : h * a.pool[0], : w * a.pool[1]].sum())
        found[piece.name] = (events, int(each.sum()), each.tolist())
    return found


@pytest.mark.parametrize(
    ("kind", "steps"), [(Engine.CLOCKED, 1), (Engine.CLOCKED, 3), (Engine.EVENT, 1), (Engine.GATED, 1)]
)
def test_totals_equal_brute_force(kind: Engine, steps: int) -> None:
    mapped, tensors, x = network(kind, steps)
    activity = SIMULATOR.execute(mapped, tensors, x)
    for layer, (events, operations, each) in zip(
        activity.layers, brute_force(mapped, activity, x).values(), strict=True
    ):
        assert (layer.events, layer.synaptic_operations) == (events, operations), layer.name
        assert activity.per_sample[layer.name][:, 0].tolist() == each
        assert activity.per_sample[layer.name][:, 1].sum() == layer.control_operations
        assert sum(activity.connection_events[layer.name]) == layer.events
        fires = layer.name != "r"
        assert layer.spikes == (int(activity.counts[layer.name].sum()) if fires else 0)
        assert layer.events > 0
    updates = [layer.neuron_updates for layer in activity.layers]
    sizes = [int(np.prod(p.shape)) for p in mapped.pieces]
    clocked = [7 * steps * n * k for n, k in zip(sizes, (4, 4, 4, 1), strict=True)]
    assert updates == (clocked if kind is Engine.CLOCKED else [0] * 4)


@pytest.mark.parametrize("kind", list(Engine))
def test_workers_and_chunks_do_not_matter(kind: Engine) -> None:
    mapped, tensors, x = network(kind)
    reference = engine.execute(mapped, tensors, x, chunk=7)
    for workers, chunk in ((1, 1), (2, 2), (4, 3), (3, None)):
        done: list[int] = []
        other = engine.execute(mapped, tensors, x, workers=workers, chunk=chunk, progress=done.append)
        assert other.layers == reference.layers
        assert sum(done) == 7
        np.testing.assert_array_equal(other.result, reference.result)
        for name, counts in reference.counts.items():
            np.testing.assert_array_equal(other.counts[name], counts)
            np.testing.assert_array_equal(other.per_sample[name], reference.per_sample[name])


def test_input_is_checked() -> None:
    mapped, tensors, x = network(Engine.CLOCKED)
    for wrong, code in (
        (x[:, :, :1], "SNNC-D004"),
        (x[:, 0], "SNNC-D004"),
        (x.astype(np.complex64), "SNNC-D003"),
        (x + 4, "SNNC-D006"),
        (x - 1, "SNNC-D006"),
        (x * 0.5, "SNNC-D006"),
        (x * np.nan, "SNNC-D006"),
    ):
        with pytest.raises(DataError, match=code):
            SIMULATOR.execute(mapped, tensors, wrong)
    floats = SIMULATOR.execute(mapped, tensors, x.astype(np.float32))
    np.testing.assert_array_equal(floats.result, SIMULATOR.execute(mapped, tensors, x).result)


def test_no_samples() -> None:
    for kind in Engine:
        mapped, tensors, x = network(kind)
        activity = SIMULATOR.execute(mapped, tensors, x[:0])
        assert activity.result.shape == (0, 3)
        assert activity.samples == activity.layers[0].events == 0


def test_contradictions_are_named() -> None:
    net = conv_chain(Engine.CLOCKED)
    mapped, x = net.mapped(), net.data(1)
    with pytest.raises(InternalError, match="names an array that is not there"):
        SIMULATOR.execute(mapped, {}, x)
    real = {k: v.astype(np.float32) for k, v in net.tensors.items()}
    with pytest.raises(InternalError, match="float32"):
        SIMULATOR.execute(mapped, real, x)
    backwards = mapped.model_copy(update={"pieces": mapped.pieces[::-1]})
    with pytest.raises(InternalError, match="does not stand before it"):
        SIMULATOR.execute(backwards, net.tensors, x)


def test_weights_are_stored_once() -> None:
    from snncc_sim import program

    mapped, tensors, _ = network(Engine.CLOCKED)
    digests = {c.weight for p in mapped.pieces for c in p.connections}
    assert program.build(mapped, tensors).weights.size == sum(tensors[d].size for d in digests)
