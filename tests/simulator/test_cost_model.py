"""Energy and latency: sums, units, bands, and the published rule by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from simulator.simnets import conv_chain, gate_pieces, recolour
from snncc.hw.spec import Abilities, ChipSpec, CoreKind, Costs, Limits, Quantity
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import Mapped, Tile
from snncc.simulation import Activity
from snncc_sim import SIMULATOR, cost


def quantity(value: float, low: float, high: float) -> Quantity:
    return Quantity(value=value, low=low, high=high, source="made up for this test", grade="assumed")


def chip(**costs: Quantity) -> ChipSpec:
    cores = [
        CoreKind(ids=(i,), resources={}, synop_time_ns=quantity(t, t / 2, t * 2))
        for i, t in enumerate((10.0, 30.0, 30.0, 20.0))
    ]
    abilities = dict.fromkeys((k for k in Abilities.model_fields if k != "source"), True)
    return ChipSpec(
        schema_version=1,
        name="toy",
        backend="sim",
        description="",
        limits=Limits(source="", weight_bits=8, state_bits=32),
        abilities=Abilities(source="", **abilities),
        costs=Costs(**costs),
        core_kinds=tuple(cores),
        not_modelled=("the weather",),
    )


FULL = {
    "static_power_mw": quantity(0.4, 0.3, 0.5),
    "io_power_mw": quantity(0.1, 0.0, 0.2),
    "synop_energy_pj": quantity(20.0, 15.0, 61.0),
    "hop_latency_ns": quantity(200.0, 100.0, 300.0),
    "io_latency_ns": quantity(1000.0, 900.0, 1100.0),
}


def ran(kind: Engine) -> tuple[Mapped, Activity, Any]:
    net = conv_chain(Engine.CLOCKED if kind is Engine.CLOCKED else Engine.EVENT)
    mapped = gate_pieces(net.mapped(), -3000, 3000) if kind is Engine.GATED else net.mapped()
    pieces = tuple(recolour(p, capped=False) for p in mapped.pieces)
    tiles = tuple(
        Tile(piece=p.name, core=i, low=(0, 0, 0), high=p.shape) for i, p in enumerate(mapped.pieces)
    )
    mapped = mapped.model_copy(update={"pieces": pieces, "tiles": tiles})
    x = net.data(5)
    return mapped, SIMULATOR.execute(mapped, net.tensors, x), x


@pytest.mark.parametrize("kind", list(Engine))
def test_totals_are_sums(kind: Engine) -> None:
    mapped, activity, _ = ran(kind)
    result = cost.estimate(mapped, activity, chip(**FULL), 1234)
    data = result.as_dict()
    json.dumps(data, allow_nan=False)
    keys = ("events", "synaptic_operations", "acs", "macs", "control_events", "control_operations", "spikes")
    for key in keys:
        assert data["total"][key] == sum(layer[key] for layer in data["layers"]), key
        assert type(data["total"][key]) is int
    assert data["total"]["macs"] == 1234 * 5
    assert data["total"]["acs"] == sum(layer.synaptic_operations for layer in activity.layers)
    for name, model in data["energy"].items():
        for part in ("value", "low", "high"):
            total = sum(c[part] for c in model["components"].values())
            assert model["total_nj"][part] == pytest.approx(total, rel=1e-12)
            own = model["components"].keys() - {"static", "host_io"}  # of the chip, not of a layer
            layers = sum(
                layer["energy"].get(name, {"total_nj": {part: 0}})["total_nj"][part]
                for layer in data["layers"]
            )
            assert sum(model["components"][c][part] for c in own) == pytest.approx(layers, rel=1e-12)
        assert all(c["source"] and c["grade"] for c in model["constants"])
    assert "the weather" in data["not_modelled"]


def test_chip_profile_by_hand() -> None:
    mapped, activity, _ = ran(Engine.GATED)
    result = cost.estimate(mapped, activity, chip(**FULL), 0)
    data, control = (
        np.array([activity.per_sample[p.name][:, i] for p in mapped.pieces]).T * [10, 30, 30, 20]
        for i in (0, 1)
    )
    phases = [data[:, 0]] + [np.maximum(control[:, i], data[:, i + 1]) + 200 for i in range(3)]
    times = 1000 + sum(phases)
    latency = result.latency
    assert latency.mean_ns is not None
    assert latency.max_ns is not None
    assert latency.mean_ns.value == pytest.approx(times.mean())
    assert latency.max_ns.value == pytest.approx(times.max())
    assert latency.mean_ns.low < latency.mean_ns.value < latency.mean_ns.high
    parts = {c.name: c.energy_nj.value for c in result.energy[1].components}
    total = result.operations
    assert parts["synapses"] == pytest.approx(total.synaptic_operations / 5 * 0.020)
    assert parts["control_synapses"] == pytest.approx(total.control_operations / 5 * 0.020)
    assert parts["static"] == pytest.approx(0.4 * times.mean() / 1000)
    assert parts["host_io"] == pytest.approx(0.1 * times.mean() / 1000)


def test_free_latency_by_hand() -> None:
    mapped, activity, _ = ran(Engine.EVENT)
    result = cost.estimate(mapped, activity, chip(**FULL), 0)
    busy = np.array([activity.per_sample[p.name].sum(axis=1) for p in mapped.pieces]).T * [10, 30, 30, 20]
    assert result.latency.mean_ns is not None
    assert result.latency.mean_ns.value == pytest.approx((busy.max(axis=1) + 4 * 200 + 1000).mean())
    busiest = [layer.busy_ns.value for layer in result.layers if layer.busy_ns is not None]
    assert busiest == pytest.approx(busy.mean(axis=0).tolist())


def test_unknown_constants_are_listed_not_zero() -> None:
    mapped, activity, _ = ran(Engine.CLOCKED)
    result = cost.estimate(mapped, activity, chip(), 0)
    assert [e.model for e in result.energy] == ["lemaire"]
    assert result.latency.mean_ns is None
    assert result.latency.micro_steps == 16 + 4
    text = " ".join(result.not_modelled)
    assert "synapses" in text
    assert "static" in text
    assert "time in ns" in text
    spiking = [p for p in mapped.pieces if not p.is_readout]
    for piece, layer in zip(mapped.pieces, result.layers, strict=True):
        spikes = int(activity.counts[piece.name].sum())
        rate = None if piece not in spiking else spikes / (math.prod(piece.shape) * 5)
        assert layer.firing_rate == (rate if rate is None else pytest.approx(rate))
    # What the papers count is of the trained network, which nobody ran here.
    assert (result.firing_rate, result.acs_paper) == (None, None)


def test_stored_weights() -> None:
    net = conv_chain(Engine.CLOCKED)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, net.data(1))
    result = cost.estimate(net.mapped(), activity, chip(), 0, net.tensors)
    assert [layer.stored_weights for layer in result.layers] == [4 * 2 * 9, 5 * 4 * 6, 6 * 5 * 4, 3 * 6]
