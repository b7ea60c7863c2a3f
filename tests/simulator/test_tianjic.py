"""Tianjic: compiles as the ideal chip does, and costs what little was published of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snncc.compilation import Lowered, Options, Target
from snncc.ir import Const, Family, Graph, Linear, Neuron, Output
from snncc.ir.nodes import Input
from snncc.model import Model
from snncc.reporting.chip import chip_constant_table
from snncc.reporting.cost import latency_table
from snncc_sim import SIMULATOR, cost
from snncc_sim.target import SIM, TIANJIC


def lowered(target: Target) -> tuple[Lowered, Any]:
    rng = np.random.default_rng(4)
    weights = [Const(rng.normal(size=shape).astype(np.float32)) for shape in ((9, 6), (4, 9))]
    nodes = (
        Input(name="x", shape=(6,), levels=3),
        Linear(name="f", inputs=("x",), weight=weights[0]),
        Neuron(name="s", inputs=("f",), max_spikes=3),
        Linear(name="g", inputs=("s",), weight=weights[1]),
        Output(name="out", inputs=("g",)),
    )
    x = rng.integers(0, 4, (5, 1, 6))
    return target.lower(Model(Graph("net", Family.FLOAT, nodes)), x, Options()), x.reshape(5, 1, 6, 1, 1)


def test_program_is_that_of_the_ideal_chip() -> None:
    (ideal, _), (made, _) = lowered(SIM), lowered(TIANJIC)
    assert made.mapped == ideal.mapped.model_copy(update={"target": "tianjic"})
    assert TIANJIC.chip.name == "tianjic"
    assert TIANJIC.emit(made) == {}


def test_cost_by_hand() -> None:
    made, x = lowered(TIANJIC)
    activity = SIMULATOR.execute(made.mapped, made.tensors, x)
    result = cost.estimate(made.mapped, activity, TIANJIC.chip, 0)
    rounds = max(p.phase for p in made.mapped.pieces) + made.mapped.micro_steps
    latency = result.latency
    assert latency.micro_steps == rounds > 4
    assert latency.mean_ns is not None
    assert latency.cycles is not None
    assert latency.mean_ns.value == pytest.approx(rounds * 5050 / 0.3)
    assert latency.cycles.value == pytest.approx(rounds * 5050, rel=1e-5)
    energies = {e.model: e for e in result.energy}
    assert list(energies) == ["lemaire", "tianjic", "tianjic-power"]
    operations = result.operations.synaptic_operations
    assert operations > 0
    assert energies["tianjic"].total_nj.value == pytest.approx(operations / 5 * 1.54e-3)
    # Power of the whole chip is never added to energies by operation, and no static power is known.
    assert energies["tianjic-power"].total_nj.value == pytest.approx(400 * latency.mean_ns.value / 1000)
    assert [m.partition(":")[0] for m in energies["tianjic"].missing] == ["static", "host_io"]
    text = "\n".join(result.not_modelled)
    assert "whether the network fits" in text
    assert "neither filled nor routed" in text
    assert ("clock cycles", f"{rounds * 5050:,}") in latency_table(result).rows


def test_every_constant_is_shown_with_its_source() -> None:
    rows = {row[0]: row for row in chip_constant_table(TIANJIC.chip).rows}
    assert rows["clock"][1:3] == ("300 MHz", "vendor")
    assert rows["active power"][1:3] == ("400 mW", "measured")
    assert rows["static power"][1] == "unknown"
    # What no mesh has is not listed as unknown of it.
    assert "hop x time" not in rows
