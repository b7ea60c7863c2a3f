"""Relays of shared sums: the pass, what it costs, signed events in every executor, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron, renumbered
from loihi_nets import without_cores
from random_graphs import Builder, random_inputs
from relay_nets import blocks, lowered_by
from simulator.simnets import Net, Way
from snncc.analysis.ranges import extremes, type_extremes
from snncc.compilation import Options
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Encode,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    Node,
    Output,
    Reset,
    WindowNeuron,
    to_text,
)
from snncc.ir.cell import Cell
from snncc.ir.evaluation import evaluate
from snncc.ir.interp import run
from snncc.ir.schedule import Engine
from snncc.mapping.check import Checker, violations
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc.passes.base import Pipeline
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.pipelines import to_integers
from snncc.passes.relay import Relay, ShortcutCost, Shortcuts, compare_shortcuts, shared_sums
from snncc_loihi.neurons import LoihiNeurons
from snncc_loihi.place import place_network
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR
from snncc_sim.program import build
from snncc_sim.target import SIM, TIANJIC
from snncc_sim.traffic import build_routes, sample_events


def integer_blocks() -> Graph:
    """x0 = stem; x1 = x0 + conv(s0); a readout of s1. Weights 1, -2, 3 in turn; maps 2x4x3."""

    def weight(*shape: int) -> Const:
        n = int(np.prod(shape))
        return Const(np.resize([1, -2, 3], n).reshape(shape).astype(np.int8))

    spike: dict[str, Any] = {"threshold": 4, "max_spikes": 3}
    bias = Const(np.array([-2, 5], np.int32))
    return Graph(
        "blocks",
        Family.INTEGER,
        (
            Input(name="x", shape=(1, 4, 3), levels=3),
            Conv2d(name="stem", inputs=("x",), source="stem", weight=weight(2, 1, 1, 1), bias=bias),
            integer_neuron("s0", "stem", "s0", **spike),
            Conv2d(name="c0", inputs=("s0",), source="c0", weight=weight(2, 2, 1, 3), padding=(0, 1)),
            Add(name="x1", inputs=("stem", "c0")),
            integer_neuron("s1", "x1", "s1", **spike),
            Conv2d(name="c1", inputs=("s1",), source="c1", weight=weight(2, 2, 1, 1)),
            Add(name="x2", inputs=("x1", "c1")),
            integer_neuron("end", "x2", "end", max_spikes=0),
            Output(name="out", inputs=("end",)),
        ),
    )


INPUTS = np.array([[[[[3, 0, 1], [0, 2, 0], [1, 1, 3], [0, 0, 0]]]]])


# ---- the pass ---------------------------------------------------------------------------------------


def test_the_pass_prints_what_it_printed(golden: Callable[[str, str], None]) -> None:
    relayed = BoundCounts().run(Relay().run(integer_blocks()))
    golden("relay.snn", to_text(relayed))
    golden("relay-spikes.snn", to_text(ExpandSFA().run(relayed)))


def test_it_relays_the_sums_that_several_read() -> None:
    graph = integer_blocks()
    assert shared_sums(graph) == ("stem", "x1")
    relayed = Relay().run(graph)
    want, got = run(graph, INPUTS), run(relayed, INPUTS)
    assert all(np.array_equal(want.values[n], got.values[n]) for n in want.values)
    keep = run(graph, INPUTS, ("stem", "x1")).values
    for name in ("stem", "x1"):
        assert np.array_equal(got.values[f"{name}.relay"], keep[name])
        assert (keep[name] < 0).any()


def test_a_graph_without_shared_sums_stays() -> None:
    graph = integer_blocks()
    alone = Graph("a", Family.INTEGER, (*graph.nodes[:3], Output(name="o", inputs=("s0",))))
    assert Relay().run(alone) == alone
    assert compare_shortcuts(alone, INPUTS, ExpandSFA()) is None


def test_ranges_of_signed_values() -> None:
    bounded = BoundCounts().run(Relay().run(integer_blocks()))
    relays = {
        n.name: n.cell.max_spikes for n in bounded.nodes if isinstance(n, IntegerNeuron) and n.cell.signed
    }
    # Counts up to 3 with weight 1 on a bias of -2, and with weight -2 on a bias of 5.
    assert relays["stem.relay"] == max(2, 3 - 2, 5, 6 - 5)
    # s0 sends 5 // 4 = 1 spike at most; c0 adds twice 1 - 2 + 3 for either output.
    assert relays["x1.relay"] == 5 + 2 * (1 + 3)
    end = type_extremes(bounded, bounded.layers["end"].neuron)
    # s1: 13 // 4 = 3 spikes, weights 1, -2 into the first channel and 3, 1 into the second.
    assert (int(end.high.max()), int(end.low.min())) == (13 + 3 * (3 + 1), -13 - 3 * 2)


def test_ranges_of_signed_values_behind_weights_of_both_signs() -> None:
    nodes = (
        Input(name="x", shape=(2,), levels=9),
        Linear(name="l", inputs=("x",), weight=Const(np.array([[1, 0], [0, 1]], np.int8))),
        integer_neuron("s", "l", max_spikes=4, signed=True),
        Linear(name="m", inputs=("s",), weight=Const(np.array([[3, -2], [0, 5]], np.int8))),
        integer_neuron("n", "m", max_spikes=0),
    )
    graph = Graph("g", Family.INTEGER, (*nodes, Output(name="o", inputs=("n",))))
    neuron = graph.layers["n"].neuron
    possible = type_extremes(graph, neuron)
    assert (possible.low.tolist(), possible.high.tolist()) == ([[-20, -20]], [[20, 20]])
    seen = extremes(graph, neuron, {"s": np.array([[2, -3], [-1, 4]])})
    assert seen.low.tolist() == [[0, -15], [-3 - 8, 0]]
    assert seen.high.tolist() == [[6 + 6, 0], [0, 20]]


# ---- cost -------------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    graph = integer_blocks()
    counts = run(graph, INPUTS, ("stem", "s0", "x1")).values
    found = compare_shortcuts(graph, INPUTS, ExpandSFA(), longest=62)
    assert found is not None
    # stem is copied for s1 and for the end, c0 for the end; a spike at an end of its row has 2 x 2 targets.
    s0 = counts["s0"].sum(axis=(0, 1, 2, 3))
    copies = 2 * 2 * int(INPUTS.sum()) + int((s0 * [4, 6, 4]).sum())
    # Windows of 3 micro-steps; the end is neuron depth 3, or 5 with two relays in front of it.
    assert found.distribute == ShortcutCost(copies, 0, 4 * 3, 2 * 3)
    passed = 2 * int((counts["stem"] != 0).sum()) + 2 * int((counts["x1"] != 0).sum())
    assert found.relay == ShortcutCost(passed, 2 * 24, 6 * 3, 3)
    assert compare_shortcuts(graph, INPUTS, ExpandSFA(LOIHI2.schedules["graded"])) != found


def cost(operations: int, neurons: int, wait: int = 5) -> ShortcutCost:
    return ShortcutCost(operations, neurons, 20, wait)


@pytest.mark.parametrize(
    ("distribute", "relay", "steps", "relayed", "why"),
    [
        (cost(300, 0), cost(100, 60), 3, True, "fewer synaptic operations and neuron updates together"),
        (cost(300, 0), cost(100, 60), 4, False, "fewer synaptic operations and neuron updates together"),
        (cost(160, 0), cost(100, 60), 1, False, "both cost the same"),
        (cost(9, 0, 70), cost(100, 60), 1, True, "the other waits longer than the chip can, 62 micro-steps"),
        (
            cost(9, 0, 70),
            cost(100, 60, 63),
            1,
            False,
            "fewer synaptic operations and neuron updates together",
        ),
    ],
)
def test_the_cheaper_that_the_chip_can_hold_is_chosen(
    distribute: ShortcutCost, relay: ShortcutCost, steps: int, relayed: bool, why: str
) -> None:
    both = Shortcuts(distribute, relay, steps, 62)
    assert both.relayed == relayed
    assert str(both).endswith(f"; chosen: {'relay' if relayed else 'distribute'} ({why})")


def test_loihi2_prints_both_costs_and_takes_the_cheaper() -> None:
    graph = blocks(np.random.default_rng(4), count=3)
    x = random_inputs(graph, 6, 4)
    lowered = LOIHI2.lower(Model(graph), x, Options(verify_each=True))
    (note,) = (n for n in lowered.certificate.notes if "shortcuts" in n)
    assert note == (
        "membrane shortcuts: distribute adds 4,912 synaptic operations a sample and 0 neurons (24 micro-steps, "
        "longest wait 12), relay 360 synaptic operations a sample and 180 neurons (36 micro-steps, longest wait "
        "4); chosen: relay (fewer synaptic operations and neuron updates together)"
    )
    assert [p.name for p in lowered.mapped.pieces if p.cell.signed] == ["stem.relay", "x0.relay", "x1.relay"]
    assert "relay" in [p.spec for p in lowered.certificate.passes]
    free = LOIHI2.lower(Model(graph), x, Options("free"))
    plain = TIANJIC.lower(Model(graph), x, Options())
    assert not any(p.cell.signed for low in (free, plain) for p in low.mapped.pieces)


# ---- executors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("relay", [True, False])
@pytest.mark.parametrize(
    ("graded", "micro_steps", "fields"),
    [
        (False, 4, {}),
        (True, 1, {}),
        (False, 1, {"levels": 1, "steps": 3, "neuron": {"decay": 1.0, "reset": Reset.VALUE}}),
        (False, 3, {"levels": 1, "steps": 2, "neuron": {"decay": 0.5, "max_spikes": 3}}),
    ],
)
def test_integers_are_spikes_are_the_program(
    relay: bool, graded: bool, micro_steps: int, fields: dict[str, Any]
) -> None:
    graph = blocks(np.random.default_rng(11), count=3, vectors=2, **fields)
    x = random_inputs(graph, 5, 2)
    integer, spikes, mapped, tensors = lowered_by(graph, x, relay=relay, graded=graded)
    assert mapped.micro_steps == micro_steps
    activity = SIMULATOR.execute(mapped, tensors, x.reshape(len(x), -1, *mapped.inputs[0].shape))
    for executed in (run(integer, x), run(spikes, x)):
        for piece in mapped.pieces:
            got = activity.counts[piece.name]
            last = slice(-1, None) if piece.is_readout else slice(None)
            assert np.array_equal(got[:, last], executed.values[piece.name].reshape(got.shape)[:, last])
    relays = [p.name for p in mapped.pieces if p.cell.signed]
    assert len(relays) == 5 * relay
    for name in relays:
        assert activity.counts[name].min() < 0 < activity.counts[name].max()


def clipped() -> Net:
    """Signed neurons whose clip binds on both sides, one with memory; strided and dense readers."""
    net = Net((2, 6, 5), levels=3, steps=3, period=3, seed=9)
    signed = {"graded": True, "signed": True}
    net.layer("a", 3, Way(padding=(1, 1)), threshold=7, max_spikes=4, phase=3, decay=1, **signed)
    net.layer("b", 4, Way("a", stride=(1, 2)), threshold=5, max_spikes=9, phase=6, bias=-3, **signed)
    net.layer("c", 2, Way("b", kernel=None), threshold=40, max_spikes=3, phase=9, precharge=20)
    net.layer("r", 3, Way("c", kernel=None), threshold=1, max_spikes=0, phase=12)
    return net


def test_kernels_clip_both_sides_as_the_interpreter_does() -> None:
    net = clipped()
    x = net.data(6)
    want = run(net.graph(), x).values
    got = SIMULATOR.execute(net.mapped(), net.tensors, x)
    for name in "abcr":
        assert np.array_equal(got.counts[name], want[name].reshape(got.counts[name].shape)), name
    assert (got.counts["a"].min(), got.counts["a"].max()) == (-4, 4)
    assert (got.counts["b"].min(), got.counts["b"].max()) == (-9, 9)


def test_a_relayed_number_is_one_event_and_one_addition() -> None:
    net = clipped()
    got = SIMULATOR.execute(net.mapped(), net.tensors, net.data(6))
    by_name = {layer.name: layer for layer in got.layers}
    for source, reader in (("a", "b"), ("b", "c")):
        events = int(np.count_nonzero(got.counts[source]))
        assert by_name[source].spikes == events
        assert got.connection_events[reader] == (events,)
        assert by_name[reader].unit_operations == by_name[reader].synaptic_operations


def test_traffic_has_every_number_that_was_sent() -> None:
    graph = blocks(np.random.default_rng(4), count=2)
    x = random_inputs(graph, 3, 4)
    lowered = LOIHI2.lower(Model(graph), x, Options())
    counts = x.reshape(3, 1, *lowered.mapped.inputs[0].shape)
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, counts)
    events = sample_events(build_routes(lowered.mapped), activity.counts, counts, 1)
    for i, piece in enumerate(lowered.mapped.pieces, 1):
        if piece.cell.signed:
            sent = activity.counts[piece.name][1]
            (micro_step,) = np.flatnonzero(np.diff(events.offsets[i]))
            assert micro_step == piece.phase
            first, end = events.offsets[i, micro_step], events.offsets[i, micro_step + 1]
            assert np.array_equal(events.addresses[first:end], np.flatnonzero(sent))
            assert (sent < 0).any()


def test_a_sum_that_meets_itself_again_counts_twice() -> None:
    b = Builder(np.random.default_rng(1), (2, 5, 4), 4)
    b.conv("c", "x", 3, (3, 3), padding=(1, 1))
    b.shape = (2, 5, 4)
    b.conv("d", "x", 3, (1, 1))
    b.add(Add(name="once", inputs=("c", "d")))
    b.add(Add(name="twice", inputs=("once", "c")))
    b.sfa("n", 4, normalized=True)
    graph = b.graph()
    x = random_inputs(graph, 4, 1)
    for target in (SIM, LOIHI2):
        lowered = target.lower(Model(graph), x, Options())
        got = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
        assert np.array_equal(got.counts["n"], run(lowered.integer_graph, x).values["n"])


def test_sums_of_large_numbers_take_wide_accumulators() -> None:
    net = clipped()
    assert not build(net.mapped(), net.tensors).wide
    pieces = [renumbered(p, **({"max_spikes": 2**24} if p.name == "b" else {})) for p in net.mapped().pieces]
    assert build(net.mapped().model_copy(update={"pieces": tuple(pieces)}), net.tensors).wide


def test_a_relay_is_never_the_chips_own_neuron() -> None:
    bounded = BoundCounts().run(Relay().run(integer_blocks()))
    small = bounded.rewrite(
        lambda n: (
            replace(n, cell=replace(n.cell, max_spikes=1))
            if isinstance(n, IntegerNeuron) and not n.is_readout
            else None
        )
    )
    small = small.rewrite(lambda n: replace(n, levels=1) if isinstance(n, Input) else None)
    gains = {n.name: n.cell.gain for n in LoihiNeurons(True, 2**22).run(small).neurons}
    assert gains == {"stem.relay": 2, "s0": 128, "x1.relay": 2, "s1": 128, "end": 128}


def test_the_placement_expects_an_event_of_a_relay_whatever_it_carries(monkeypatch: Any) -> None:
    graph = blocks(np.random.default_rng(4), count=1)
    x = random_inputs(graph, 6, 4)
    expected: dict[str, float] = {}

    def place(mapped: Mapped, tensors: Any, chip: Any, traffic: Any) -> Any:
        expected.update(traffic)
        return place_network(mapped, tensors, chip, traffic)

    monkeypatch.setattr("snncc_loihi.target.place_network", place)
    lowered = LOIHI2.lower(Model(graph), x, Options())
    sent = run(lowered.integer_graph, x).values["stem.relay"]
    assert expected["stem.relay"] == (sent != 0).mean()


# ---- what is refused --------------------------------------------------------------------------------


def spike_graph(*nodes: Node) -> Graph:
    first = (Input(name="x", shape=(3,), levels=2), Encode(name="e", inputs=("x",)))
    weights = Linear(name="l", inputs=("e",), weight=Const(np.ones((3, 3), np.int8)))
    return Graph("g", Family.SPIKE, (*first, weights, *nodes, Output(name="o", inputs=("n",))), 1, 3)


def test_only_graded_windows_are_signed() -> None:
    neuron = WindowNeuron(name="n", inputs=("l",), cell=Cell(max_spikes=2, signed=True))
    with pytest.raises(ModelError) as caught:
        spike_graph(neuron)
    assert str(caught.value) == "[SNNC-M010] %n: window_neuron: signed goes with graded windows."


def test_signed_neurons_reset_by_subtraction() -> None:
    first = Input(name="x", shape=(3,), levels=2)
    for wrong in ({"reset": Reset.VALUE}, {"max_spikes": 0}):
        hard = integer_neuron("n", "x", signed=True, **wrong)
        with pytest.raises(ModelError) as caught:
            Graph("g", Family.INTEGER, (first, hard, Output(name="o", inputs=("n",))))
        assert str(caught.value) == (
            "[SNNC-M010] %n: integer_neuron: signed goes with spikes and reset=subtract."
        )


def test_the_free_schedule_has_no_relays() -> None:
    with pytest.raises(ModelError) as caught:
        ExpandSFA(SIM.schedules["free"]).run(Relay().run(integer_blocks()))
    assert str(caught.value) == (
        "[SNNC-M024] %stem.relay (stem): a relay waits for its window, which `free` has not. Try --schedule exact."
    )


def test_the_checker_refuses_relays_that_the_chip_has_not() -> None:
    graph = blocks(np.random.default_rng(4), count=1)
    _, _, mapped, tensors = lowered_by(graph, random_inputs(graph, 3, 4), relay=True, graded=False)
    at = [p.cell.signed for p in mapped.pieces].index(True)
    bare = without_cores(LOIHI2.chip)
    assert list(violations(mapped, tensors, bare, LOIHI2.checker)) == []

    def broken(chip: Any = bare, engine: Engine = Engine.CLOCKED, **update: Any) -> list[str]:
        pieces = list(mapped.pieces)
        pieces[at] = renumbered(pieces[at], **update)
        changed = mapped.model_copy(
            update={"pieces": tuple(pieces), "schedule": replace(mapped.schedule, engine=engine)}
        )
        return [str(p) for p in violations(changed, tensors, chip, Checker())]

    where = "mapping of stem.relay"
    unclocked = f"{where}: is signed, but no graded window of a clocked chip."
    assert broken(graded=False) == [unclocked]
    assert broken(engine=Engine.EVENT) == [unclocked]
    assert broken(max_spikes=2**31 - 1) == []
    assert broken(max_spikes=2**31) == [f"{where}: a graded event leaves its word, got 33, limit 32."]
    assert broken(chip=TIANJIC.chip.model_copy(update={"limits": LOIHI2.chip.limits})) == [
        f"{where}: sends graded events, which the chip has not."
    ]


def test_the_checker_sees_both_ends_of_a_relays_sums() -> None:
    graph = blocks(np.random.default_rng(4), count=1)
    mapped = LOIHI2.lower(Model(graph), random_inputs(graph, 3, 4), Options())
    pieces = tuple(
        renumbered(p, **({"max_spikes": 2**14} if p.cell.signed else {"admitted": None}))
        for p in mapped.mapped.pieces
    )
    changed = mapped.mapped.model_copy(update={"pieces": pieces})
    found = [str(p) for p in LOIHI2.checker.rules(changed, mapped.tensors, LOIHI2.chip)]
    assert found[0] == (
        "mapping of s0: sums of one micro-step leave the accumulator, got (-32768, 32768), limit 32767."
    )


def test_each_block_of_a_stream_is_computed_once_when_its_scale_is_sought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every neuron reads the sum of all blocks before it; what quantize evaluates grows with the blocks."""
    calls: list[str] = []

    def counted(node: Node, args: list[Any]) -> Any:
        calls.append(node.name)
        return evaluate(node, args)

    monkeypatch.setattr("snncc.analysis.ranges.evaluate", counted)
    found = []
    for count in (3, 6, 12):
        calls.clear()
        graph = blocks(np.random.default_rng(0), count=count)
        lowered = to_integers(random_inputs(graph, 2, 1), SIM.chip, relay=True, copies=False, sums=True)
        first = next(i for i, one in enumerate(lowered) if one.name == "quantize")
        trunk = Pipeline(lowered).run(graph, last=first)
        calls.clear()
        Pipeline(lowered).run(trunk, first, first + 1)
        found.append(len(calls))
    assert found[2] - found[1] == 2 * (found[1] - found[0])
