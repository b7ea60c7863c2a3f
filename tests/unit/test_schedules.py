"""When a neuron acts and how long spikes wait, on networks whose windows are counted by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc.ir import (
    Add,
    Const,
    Family,
    Graph,
    Input,
    Linear,
    Node,
    Output,
    OverTime,
    Reset,
    Spikes,
    WindowNeuron,
    to_text,
)
from snncc.ir.interp import run
from snncc.ir.schedule import EXACT, Schedule
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import Mapped
from snncc.passes.expand_sfa import ExpandSFA
from snncc_loihi.emit import chip_files
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR


def linear(name: str, source: str, rows: list[list[int]]) -> Linear:
    return Linear(name=name, inputs=(source,), weight=Const(np.array(rows, np.int8)))


def skips_in_a_row(count: int, *, steps: int, levels: int = 2, inputs: int = 1) -> Graph:
    """x → n0, then a = s + n(s) again and again, then z; integers of two features."""
    neuron: dict[str, Any] = {"threshold": 2, "max_spikes": levels, "decay": 1, "reset": Reset.SUBTRACT}
    nodes: list[Node] = [
        Input(name="x", shape=(2,), levels=inputs),
        linear("c0", "x", [[3, -1], [1, 2]]),
        integer_neuron("n0", "c0", **neuron),
    ]
    last = "n0"
    for i in range(1, count + 1):
        nodes.append(linear(f"c{i}", last, [[1, 1], [-1, 2]]))
        nodes.append(integer_neuron(f"n{i}", f"c{i}", **neuron))
        nodes.append(Add(name=f"a{i}", inputs=(last, f"n{i}")))
        last = f"a{i}"
    nodes += [
        linear("cz", last, [[2, -1], [1, 1], [-1, 1]]),
        integer_neuron("z", "cz", **neuron),
        Output(name="y", inputs=("z",), over_time=OverTime.SUM if steps > 1 else OverTime.NONE),
    ]
    return Graph("skips", Family.INTEGER, tuple(nodes), steps)


def mapped(spikes: Graph, schedule: Schedule = EXACT) -> tuple[Mapped, dict[str, np.ndarray]]:
    return map_graph(spikes, target="loihi2", schedule=schedule, state_bits=24)


def every_input(graph: Graph) -> np.ndarray:
    """All inputs that there are, [N, T, 2]."""
    kind = graph.types["x"]
    assert isinstance(kind, Spikes)
    size = (kind.levels + 1,) * (2 * graph.steps)
    return np.indices(size).reshape(len(size), -1).T.reshape(-1, graph.steps, 2)


def test_two_shortcuts_in_a_row_print_their_waiting_spikes() -> None:
    """D = 2 = P: n0 fires from 2, n1 from 4, n2 from 6, z from 8, and a1 waits as one train."""
    assert (
        to_text(ExpandSFA().run(skips_in_a_row(2, steps=3)))
        == """\
snn spike @skips {steps=3, micro_steps=2} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %x.spikes = encode %x : spikes<2, 1>
  %c0 = linear %x.spikes {weight=#1964304def94da68} : current<2, i32>
  %n0 = window_neuron %c0 {threshold=2, max_spikes=2, decay=1, phase=2} : spikes<2, 1>
  %c1 = linear %n0 {weight=#0a54c5b6bbc760a5} : current<2, i32>
  %n1 = window_neuron %c1 {threshold=2, max_spikes=2, decay=1, phase=4} : spikes<2, 1>
  %n0.delay2 = delay %n0 {steps=2, shape=[2]} : spikes<2, 1>
  %a1 = add %n0.delay2 %n1 : spikes<2, 2>
  %c2 = linear %a1 {weight=#0a54c5b6bbc760a5} : current<2, i32>
  %n2 = window_neuron %c2 {threshold=2, max_spikes=2, decay=1, phase=6} : spikes<2, 1>
  %a1.delay2 = delay %a1 {steps=2, shape=[2], levels=2} : spikes<2, 2>
  %a2 = add %a1.delay2 %n2 : spikes<2, 3>
  %cz = linear %a2 {weight=#076d3daf9c149f19} : current<3, i32>
  %z = window_neuron %cz {threshold=2, max_spikes=2, decay=1, phase=8} : spikes<3, 1>
  %y = output %z {over_time=sum} : spikes<3, 1>
}
"""
    )


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_skipping_spikes_wait_for_every_window_they_skip(count: int, steps: int, graded: bool) -> None:
    integer = skips_in_a_row(count, steps=steps)
    schedule = LOIHI2.schedules["graded"] if graded else EXACT
    spikes = ExpandSFA(schedule).run(integer)
    period = 1 if graded else 2
    phases = {n.name: n.phase for n in spikes.nodes if isinstance(n, WindowNeuron)}
    assert phases == {f"n{i}": (i + 1) * period for i in range(count + 1)} | {"z": (count + 2) * period}
    program, tensors = mapped(spikes, schedule)
    waits = {p.name: {c.source: c.delay for c in p.connections} for p in program.pieces}
    for i in range(1, count + 1):
        assert waits[f"n{i}"] == {f"n{j}": (i - 1 - j) * period for j in range(i)}
    assert waits["z"] == {f"n{j}": (count - j) * period for j in range(count + 1)}
    x = every_input(integer)
    want, got = run(integer, x), run(spikes, x)
    activity = SIMULATOR.execute(program, tensors, x.reshape(len(x), steps, 2, 1, 1))
    for name in phases:
        assert want.values[name].any(), name
        assert np.array_equal(got.values[name], want.values[name]), name
        assert np.array_equal(activity.counts[name].reshape(want.values[name].shape), want.values[name]), name
    assert np.array_equal(activity.result, want.result)


@dataclass(frozen=True, kw_only=True)
class OtherPeriod(Schedule):
    """Windows longer or shorter than those of a schedule."""

    more: int = 0

    def micro_steps(self, most: int) -> int:
        return super().micro_steps(most) + self.more


def differing(count: int, steps: int, levels: int, more: int) -> int:
    """Counts that differ from the integers', of all inputs, where windows are longer by ``more``."""
    integer = skips_in_a_row(count, steps=steps, levels=levels, inputs=levels)
    schedule = OtherPeriod(**asdict(EXACT), more=more)
    spikes = ExpandSFA(schedule).run(integer)
    x = every_input(integer)
    want, got = run(integer, x).values, run(spikes, x).values
    program, tensors = mapped(spikes)
    there = SIMULATOR.execute(program, tensors, x.reshape(len(x), steps, 2, 1, 1)).counts
    names = [n.name for n in spikes.nodes if isinstance(n, WindowNeuron)]
    apart = [sum(int((v[n].reshape(want[n].shape) != want[n]).sum()) for n in names) for v in (got, there)]
    assert apart[0] == apart[1], "interpreter and engine shorten windows alike"
    return apart[0]


@pytest.mark.parametrize(("steps", "levels"), [(1, 2), (1, 4), (2, 4), (3, 2)])
def test_a_period_of_the_largest_count_is_the_shortest_that_is_exact(steps: int, levels: int) -> None:
    assert differing(2, steps, levels, more=0) == 0
    assert differing(2, steps, levels, more=1) == 0
    assert differing(2, steps, levels, more=-1) > 0


def inverters(count: int) -> Graph:
    """x → n1 = x → n2 = 1 - n1 → n3 = 1 - n2 ...: a bias of θ, which a spike takes away in time."""
    nodes: list[Node] = [Input(name="x", shape=(1,), levels=1), linear("c1", "x", [[4]])]
    nodes.append(integer_neuron("n1", "c1", threshold=4))
    for i in range(2, count + 1):
        nodes.append(linear(f"c{i}", f"n{i - 1}", [[-4]]))
        nodes.append(integer_neuron(f"n{i}", f"c{i}", threshold=4, bias=4))
    nodes.append(Output(name="y", inputs=(f"n{count}",)))
    return Graph("inverters", Family.INTEGER, tuple(nodes))


def test_a_streaming_neuron_starts_when_the_first_spikes_can_arrive() -> None:
    """One micro-step a layer. Earlier, its bias alone would make it fire before what holds it back."""
    spikes = ExpandSFA(LOIHI2.schedules["free"]).run(inverters(4))
    program, tensors = mapped(spikes, LOIHI2.schedules["free"])
    assert [(p.name, p.phase, p.streams) for p in program.pieces] == [
        ("n1", 1, True),
        ("n2", 2, True),
        ("n3", 3, True),
        ("n4", 4, True),
    ]
    assert {c.delay for p in program.pieces for c in p.connections} == {0}
    document = json.loads(chip_files(program, tensors, LOIHI2.chip)["network.json"])
    neurons = [p["neuron"] for p in document["populations"]]
    assert [(n["first"], n["begin"]) for n in neurons] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert (document["micro_steps"], document["end"], document["sample_steps"]) == (2, 6, 7)
    x = np.array([0, 1]).reshape(2, 1, 1)
    counted = run(spikes, x).values
    activity = SIMULATOR.execute(program, tensors, x.reshape(2, 1, 1, 1, 1))
    for name, counts in {"n1": [0, 1], "n2": [1, 0], "n3": [0, 1], "n4": [1, 0]}.items():
        assert counted[name].ravel().tolist() == counts
        assert activity.counts[name].ravel().tolist() == counts
    assert activity.result.ravel().tolist() == [1, 0]
