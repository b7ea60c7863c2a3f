"""The integer neuron: its update against the equations in plain Python, and everything made from it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import integer_neuron
from snncc.compilation import Options
from snncc.errors import ModelError
from snncc.ir import (
    Const,
    Decode,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    Neuron,
    Output,
    OverTime,
    WindowNeuron,
    parse,
    to_text,
)
from snncc.ir.cell import Cell
from snncc.ir.interp import run
from snncc.ir.nodes import Reset
from snncc.ir.schedule import EXACT
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc.passes.expand_sfa import ExpandSFA
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR
from snncc_sim.cells import CELL, NUMBERS, OF_PIECE
from snncc_sim.program import PIECE
from snncc_sim.target import SIM

CHANNELS = 3


def truncated(value: int, numerator: int, bits: int) -> int:
    """value·numerator / 2^bits toward zero, by Python's own division."""
    whole = abs(value) * numerator // 2**bits
    return whole if value >= 0 else -whole


def by_hand(cell: dict[str, Any], drive: list[int]) -> list[int]:
    """Counts (membranes of a readout) of one neuron with plain integers, update by update."""
    v, i, found = cell["v_init"], 0, []
    for x in drive:
        i = truncated(i, cell["synapse_decay"], cell["synapse_bits"]) + cell["gain"] * x
        v = truncated(v, cell["decay"], cell["decay_bits"]) + i + cell["bias"]
        if cell["max_spikes"] == 0:
            found.append(v)
            continue
        least = -cell["max_spikes"] if cell["signed"] else 0
        n = min(max((v + cell["precharge"]) // cell["threshold"], least), cell["max_spikes"])
        taken = cell["threshold"] if cell["reset_by"] is None else cell["reset_by"]
        v = cell["reset_to"] if cell["reset"] is Reset.VALUE and n > 0 else v - n * taken
        v = v if cell["v_min"] is None else max(v, cell["v_min"])
        found.append(n)
    return found


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    """One to three channels' numbers: each one for all channels, or a list of one a channel."""

    def each(low: int, high: int) -> Any:
        if draw(st.booleans()):
            return draw(st.integers(low, high))
        return draw(st.lists(st.integers(low, high), min_size=CHANNELS, max_size=CHANNELS))

    signed = draw(st.booleans())
    most = draw(st.integers(1 if signed else 0, 5))
    bits, fade_bits = draw(st.sampled_from([0, 3])), draw(st.sampled_from([0, 2]))
    return {
        "threshold": each(1, 12),
        "max_spikes": most,
        "signed": signed,
        "precharge": each(-1, 6) if most else 0,
        "gain": each(1, 3),
        "bias": each(-9, 9),
        "synapse_decay": each(0, 2**fade_bits),
        "synapse_bits": fade_bits,
        "decay": each(0, 2**bits),
        "decay_bits": bits,
        "reset": Reset.SUBTRACT if signed else draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
        "reset_by": draw(st.none()) if draw(st.booleans()) else each(0, 20),
        "reset_to": each(-5, 5),
        "v_min": draw(st.one_of(st.none(), st.integers(-8, 8))),
        "v_init": each(-9, 9),
    }


def cell_of(values: dict[str, Any]) -> Cell:
    return Cell(**{k: Const(np.array(v, np.int32)) if isinstance(v, list) else v for k, v in values.items()})


def graph_of(neuron: IntegerNeuron, steps: int, levels: int = 9) -> Graph:
    weights = Const(np.array([[2, -1], [-3, 4], [1, 1]], np.int8))
    nodes = (
        Input(name="x", shape=(2,), levels=levels),
        Linear(name="l", inputs=("x",), weight=weights),
        neuron,
        Output(name="o", inputs=("n",)),
    )
    return Graph("g", Family.INTEGER, nodes, steps)


@settings(max_examples=200, deadline=None)
@given(numbers(), st.lists(st.integers(-20, 20), min_size=CHANNELS * 4, max_size=CHANNELS * 4))
def test_an_update_is_its_equations_channel_by_channel(values: dict[str, Any], drive: list[int]) -> None:
    assert set(values) == {f.name for f in fields(Cell)}
    x = np.array(drive).reshape(4, 1, CHANNELS)
    cell = cell_of(values)
    state, found = cell.start(x.shape[1:]), []
    for each in x:
        count, state = cell.step(each, state)
        found.append(count[0].tolist())
    for channel in range(CHANNELS):
        own = {k: v[channel] if isinstance(v, list) else v for k, v in values.items()}
        assert [row[channel] for row in found] == by_hand(own, x[:, 0, channel].tolist())


@settings(max_examples=100, deadline=None)
@given(numbers(), st.integers(0, 2**16))
def test_windows_count_what_the_update_counts(values: dict[str, Any], seed: int) -> None:
    """An integer graph and its exact spike graph agree for every cell, per-channel numbers included."""
    neuron = IntegerNeuron(name="n", inputs=("l",), cell=cell_of(values))
    graph = graph_of(neuron, steps=3)
    x = np.random.default_rng(seed).integers(0, 10, (5, 3, 2))
    spikes = ExpandSFA().run(graph)
    assert parse(to_text(spikes), spikes.constants()) == spikes
    assert np.array_equal(run(graph, x).values["n"], run(spikes, x).values["n"])


def mapped_of(graph: Graph) -> tuple[Mapped, dict[str, Any]]:
    return map_graph(graph, target="sim", schedule=EXACT, state_bits=32)


def test_a_mapped_cell_comes_back_from_json_with_its_arrays() -> None:
    thresholds = Const(np.array([3, 5, 7], np.int32))
    neuron = integer_neuron("n", "l", threshold=thresholds, bias=Const(np.array([1, 0, -1], np.int32)))
    spikes = ExpandSFA().run(graph_of(neuron, steps=2))
    mapped, tensors = mapped_of(spikes)
    text = mapped.model_dump_json()
    assert Mapped.model_validate_json(text, context=tensors) == mapped
    assert mapped.pieces[0].cell == spikes.layers["n"].neuron.cell  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=f"no array with digest '{thresholds.digest}'"):
        Mapped.model_validate_json(text, context={})


def test_the_kernels_records_have_every_number() -> None:
    assert {*NUMBERS, *OF_PIECE, "bias", "v_init"} == {f.name for f in fields(Cell)}
    assert set(NUMBERS) <= set(CELL.names or ())
    assert set(OF_PIECE) <= set(PIECE.names or ())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "threshold": ({"threshold": 0}, "threshold must be at least 1, got 0."),
    "threshold of a channel": (
        {"threshold": Const(np.array([4, 0, 2], np.int32))},
        "threshold must be at least 1, got 0.",
    ),
    "gain": ({"gain": 0}, "gain must be a positive integer here, got 0."),
    "counts": ({"max_spikes": -1}, "max_spikes must not be negative, got -1."),
    "readout": ({"max_spikes": 0, "precharge": 2}, "a readout has no pre-charge, got 2, limit 0."),
    "signed": ({"signed": True, "reset": Reset.VALUE}, "signed goes with spikes and reset=subtract."),
    "reset": ({"reset": Reset.NONE}, "an integer neuron resets, got none, limit subtract, value."),
    "channels": (
        {"bias": Const(np.array([1, 2], np.int32))},
        "bias must be one number or [C], got (2,), limit (3,).",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_ill_formed_cells_are_refused_in_both_families(name: str) -> None:
    values, message = BAD[name]
    with pytest.raises(ModelError) as caught:
        graph_of(integer_neuron("n", "l", **values), steps=1)
    assert str(caught.value) == f"[SNNC-M010] %n: integer_neuron: {message}"
    spikes = ExpandSFA().run(graph_of(integer_neuron("n", "l"), steps=1))
    broken = WindowNeuron(name="n", inputs=("l",), cell=Cell(**values))
    with pytest.raises(ModelError) as caught:
        spikes.rewrite(lambda n: broken if n.name == "n" else None)
    assert str(caught.value) == f"[SNNC-M010] %n: window_neuron: {message}"


@pytest.mark.parametrize("target", [SIM, LOIHI2])
@pytest.mark.parametrize("amount", [0.6, 1.25])
def test_a_reset_by_another_amount_than_the_threshold_is_lowered(target: Any, amount: float) -> None:
    """As snntorch resets, by θ/β; less than θ leaves more behind, more than θ takes it below zero."""
    rng = np.random.default_rng(2)
    nodes = (
        Input(name="x", shape=(6,), levels=1),
        Linear(name="l", inputs=("x",), weight=Const(rng.normal(0.4, 1, (5, 6)).astype(np.float32))),
        Neuron(name="n", inputs=("l",), decay=0.9, max_spikes=2, reset_by=amount),
        Output(name="o", inputs=("n",), decode=Decode.COUNT, over_time=OverTime.SUM),
    )
    graph = Graph("g", Family.FLOAT, nodes, steps=6)
    x = rng.integers(0, 2, (20, 6, 6))
    lowered = target.lower(Model(graph), x, Options())
    got = SIMULATOR.execute(lowered.mapped, lowered.tensors, x.reshape(20, 6, 6, 1, 1)).counts["n"]
    assert np.array_equal(got.reshape(20, 6, 5), run(lowered.integer_graph, x).values["n"])
    plain = graph.rewrite(lambda n: replace(n, reset_by=None) if isinstance(n, Neuron) else None)
    real, other = (run(g, x.astype(np.float32)).values["n"] for g in (graph, plain))
    assert (real != other).any()
    assert (got.reshape(real.shape) == real).mean() > 0.97
