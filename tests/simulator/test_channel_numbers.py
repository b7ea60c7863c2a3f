"""Cells with numbers of their own for every channel, in every engine: each channel is as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import each
from snncc.ir import (
    Cell,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    Output,
    OverTime,
    Reset,
    Reshape,
    parse,
    to_text,
)
from snncc.ir.interp import run
from snncc.ir.schedule import EXACT, Engine, Schedule
from snncc.mapping.build import map_graph
from snncc.passes.expand_sfa import ExpandSFA
from snncc_loihi.target import GRADED, STREAM
from snncc_sim import SIMULATOR, cells, program
from snncc_sim.target import FREE

CHANNELS, LEVELS = 5, 3
SHAPE = (2, 6, 4)  # C, H and W differ, as do those of the map behind the convolution, (5, 3, 4)


def conv(channels: int, seed: int, reads: str = "x", name: str = "a") -> Conv2d:
    """5×5 outputs of stride (2, 1): an event reaches several sites, none of them at its own address."""
    inner = SHAPE[0] if reads == "x" else CHANNELS
    weight = np.random.default_rng(seed).integers(-7, 10, (channels, inner, 3, 3)).astype(np.int8)
    stride = (2, 1) if reads == "x" else (1, 1)
    return Conv2d(
        name=f"{name}.w", inputs=(reads,), weight=Const(weight), bias=None, stride=stride, padding=(1, 1)
    )


def one_layer(cell: Cell, steps: int, seed: int) -> Graph:
    nodes = (
        Input(name="x", shape=SHAPE, levels=LEVELS),
        conv(CHANNELS, seed),
        IntegerNeuron(name="a", inputs=("a.w",), cell=cell),
        Output(name="o", inputs=("a",), decode=Decode.MEMBRANE if cell.is_readout else Decode.COUNT),
    )
    return Graph("g", Family.INTEGER, nodes, steps)


def counts(graph: Graph, schedule: Schedule, x: Any) -> dict[str, Any]:
    """Counts of every neuron in the engine, which are checked against the reference interpreter's."""
    spikes = ExpandSFA(schedule=schedule).run(graph)
    assert parse(to_text(spikes), spikes.constants()) == spikes
    mapped, tensors = map_graph(spikes, target="sim", schedule=schedule, state_bits=32)
    mapped = type(mapped).model_validate_json(mapped.model_dump_json(), context=tensors)
    given = x.reshape(*x.shape[:2], *mapped.inputs[0].shape)
    found = SIMULATOR.execute(mapped, tensors, given).counts
    expected = run(spikes, x).values
    shaped = {n: found[n].reshape(expected[n].shape) for n in found}
    for name, value in shaped.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    return shaped


@st.composite
def cell_numbers(draw: st.DrawFn, schedule: Schedule, most: int) -> Cell:
    """A cell that the schedule can run, most of whose numbers are one a channel."""

    def number(low: int, high: int) -> Any:
        value = each(draw, low, high, CHANNELS)
        return Const(value) if isinstance(value, np.ndarray) else value

    cell = Cell(
        threshold=number(1, 30),
        max_spikes=most,
        precharge=number(-1, 15) if most else 0,
        bias=number(-9, 9),
        v_init=number(-9, 9),
    )
    if schedule.engine is not Engine.CLOCKED:
        return replace(cell, v_min=draw(st.sampled_from([None, number(-20, 0)])))
    cell = replace(cell, gain=number(1, 3))
    if not schedule.has_windows:
        return cell
    signed = schedule.graded and most > 0 and draw(st.booleans())
    return replace(
        cell,
        signed=signed,
        synapse_decay=number(0, 4),
        synapse_bits=2,
        decay=number(0, 8),
        decay_bits=3,
        reset=Reset.SUBTRACT if signed else draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
        reset_by=draw(st.sampled_from([None, number(0, 40)])),
        reset_to=number(-5, 5),
        v_min=draw(st.sampled_from([None, number(-9, 3)])),
    )


def of_channel(cell: Cell, channel: int) -> Cell:
    """The cell that has one channel's numbers for all."""
    own = {n: int(getattr(cell, n).array[channel]) for n in cell.per_channel()}
    return replace(cell, **own)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Cell, Schedule, int, int]:
    schedule = draw(st.sampled_from([EXACT, GRADED, STREAM, FREE]))
    steps = draw(st.integers(1, 3)) if schedule.has_windows else 1
    cell = draw(cell_numbers(schedule, draw(st.integers(0, 4))))
    return cell, schedule, steps, draw(st.integers(0, 10**6))


@settings(deadline=None, max_examples=80)
@given(cases())
def test_every_channel_counts_as_a_layer_of_its_numbers_does(case: tuple[Cell, Schedule, int, int]) -> None:
    """The engine on scalar numbers is the reference: channel c of all is channel c of a layer made of it."""
    cell, schedule, steps, seed = case
    x = np.random.default_rng(seed).integers(0, LEVELS + 1, (3, steps, *SHAPE))
    found = counts(one_layer(cell, steps, seed), schedule, x)["a"]
    for channel in range(CHANNELS):
        alone = counts(one_layer(of_channel(cell, channel), steps, seed), schedule, x)["a"]
        np.testing.assert_array_equal(found[:, :, channel], alone[:, :, channel])


# ---- a whole network against loops in numpy ---------------------------------------------------------------


def convolved(node: Conv2d, x: Any) -> Any:
    """[C, H, W] of [C, H, W], tap by tap."""
    w, (sy, sx) = node.weight.array.astype(np.int64), node.stride
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    height, width = (padded.shape[1] - 3) // sy + 1, (padded.shape[2] - 3) // sx + 1
    out = np.zeros((len(w), height, width), np.int64)
    for y in range(height):
        for z in range(width):
            out[:, y, z] = (w * padded[:, sy * y : sy * y + 3, sx * z : sx * z + 3]).sum(axis=(1, 2, 3))
    return out


def leaked(value: Any, numerator: Any, bits: int) -> Any:
    return np.sign(value) * (np.abs(value) * numerator // 2**bits)


def updated(cell: Cell, drives: list[Any]) -> list[Any]:
    """Counts (membranes of a readout) of maps [C, H, W] by the equations of docs/semantics.md."""
    channels = len(drives[0])

    def num(value: Any) -> Any:
        each = value.array.tolist() if isinstance(value, Const) else [value] * channels
        return np.array(each, np.int64)[:, None, None]

    v, i, found = num(cell.v_init) + 0 * drives[0], 0 * drives[0], []
    for x in drives:
        i = leaked(i, num(cell.synapse_decay), cell.synapse_bits) + num(cell.gain) * x
        v = leaked(v, num(cell.decay), cell.decay_bits) + i + num(cell.bias)
        if cell.max_spikes == 0:
            found.append(v)
            continue
        least = -cell.max_spikes if cell.signed else 0
        n = np.clip((v + num(cell.precharge)) // num(cell.threshold), least, cell.max_spikes)
        v = v - n * num(cell.threshold if cell.reset_by is None else cell.reset_by)
        if cell.reset is Reset.VALUE:
            v = np.where(n > 0, num(cell.reset_to), v)
        v = v if cell.v_min is None else np.maximum(v, num(cell.v_min))
        found.append(n)
    return found


@st.composite
def networks(draw: st.DrawFn) -> tuple[Graph, Schedule]:
    schedule = draw(st.sampled_from([EXACT, GRADED]))
    seed, most = draw(st.integers(0, 10**6)), draw(st.integers(1, 4))
    cells = [draw(cell_numbers(schedule, m)) for m in (most, draw(st.integers(1, 3)), 0)]
    weight = np.random.default_rng(seed).integers(-7, 10, (CHANNELS, CHANNELS * 3 * 4)).astype(np.int8)
    nodes = (
        Input(name="x", shape=SHAPE, levels=LEVELS),
        conv(CHANNELS, seed),
        IntegerNeuron(name="a", inputs=("a.w",), cell=cells[0]),
        conv(CHANNELS, seed + 1, "a", "b"),
        IntegerNeuron(name="b", inputs=("b.w",), cell=cells[1]),
        Reshape(name="flat", inputs=("b",), shape=(CHANNELS * 3 * 4,)),
        Linear(name="r.w", inputs=("flat",), weight=Const(weight)),
        IntegerNeuron(name="r", inputs=("r.w",), cell=cells[2]),
        Output(name="o", inputs=("r",), decode=Decode.MEMBRANE, over_time=OverTime.NONE),
    )
    return Graph("g", Family.INTEGER, nodes, draw(st.integers(1, 3))), schedule


@settings(deadline=None, max_examples=60)
@given(networks(), st.integers(0, 10**6))
def test_integers_spikes_and_loops_agree(case: tuple[Graph, Schedule], seed: int) -> None:
    """Two layers of spikes and a readout, all with numbers of each channel, over up to three timesteps."""
    graph, schedule = case
    x = np.random.default_rng(seed).integers(0, LEVELS + 1, (2, graph.steps, *SHAPE))
    found, integers = counts(graph, schedule, x), run(graph, x).values
    for sample in range(len(x)):
        a = updated(graph.by_name["a"].cell, [convolved(graph.by_name["a.w"], t) for t in x[sample]])  # type: ignore[attr-defined, arg-type]
        b = updated(graph.by_name["b"].cell, [convolved(graph.by_name["b.w"], t) for t in a])  # type: ignore[attr-defined, arg-type]
        weight = graph.by_name["r.w"].weight.array.astype(np.int64)  # type: ignore[attr-defined]
        r = updated(graph.by_name["r"].cell, [(weight @ t.ravel())[:, None, None] for t in b])  # type: ignore[attr-defined]
        for name, loops in (("a", a), ("b", b), ("r", r)):
            expected = np.array(loops).reshape(found[name][sample].shape)
            np.testing.assert_array_equal(found[name][sample], expected, err_msg=name)
            np.testing.assert_array_equal(integers[name][sample], expected, err_msg=name)


# ---- planted faults ---------------------------------------------------------------------------------------


def _next_channel(found: Any) -> None:
    """Every neuron has the numbers of the channel beside its own."""
    rolled = np.roll(found, 1)
    rolled["first"] = found["first"]
    found[:] = rolled


def _first_threshold(found: Any) -> None:
    """One threshold a layer, that of its first channel."""
    found["threshold"] = found["fire_at"] = found["threshold"][0]


@pytest.mark.parametrize("plant", [_next_channel, _first_threshold])
@pytest.mark.parametrize("schedule", [EXACT, GRADED, STREAM, FREE], ids=str)
def test_a_wrong_row_of_the_table_of_cells_is_seen(
    plant: Any, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cells.cells_of

    def planted(piece: Any, event_driven: bool) -> Any:
        found = whole(piece, event_driven)
        plant(found)
        return found

    thresholds = Const(np.array([9, 2, 30, 5, 14], np.int32))
    steps = 2 if schedule.has_windows else 1
    graph = one_layer(Cell(threshold=thresholds, max_spikes=3, decay=1), steps, 1)
    x = np.random.default_rng(1).integers(0, LEVELS + 1, (3, steps, *SHAPE))
    counts(graph, schedule, x)
    monkeypatch.setattr(program, "cells_of", planted)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        counts(graph, schedule, x)
