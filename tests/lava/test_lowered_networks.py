"""Networks that the Loihi targets lower, in Lava: spike for spike the spike graph, count for count the integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lava_folders import expected_train, write_folder

from loihi_nets import chip
from random_graphs import Builder, lif_graphs, random_inputs, sfa_graphs, stateful_graphs
from snncc.compilation import Lowered, Options, Target
from snncc.ir import (
    Add,
    AvgPool2d,
    Graph,
    Linear,
    Neuron,
    Output,
    OverTime,
    Reset,
    Reshape,
    Rounding,
    SumPool2d,
)
from snncc.ir.batches import in_chunks
from snncc.ir.interp import host_values
from snncc.ir.windows import Windows
from snncc.model import Model
from snncc_loihi.emit import program
from snncc_loihi.runner import run_lava
from snncc_loihi.target import LOIHI1, LOIHI2, loihi_target
from snncc_sim import SIMULATOR

# ---- what is expected ---------------------------------------------------------------------------------


def spike_trains(graph: Graph, x: Any) -> dict[str, Any]:
    """What every neuron of a spike graph sends in each micro-step, [N, k, *shape], by the interpreter's steps.

    A readout delivers its membrane in all micro-steps of a timestep.
    """
    machine = Windows(graph, host_values(graph, x))
    sent: dict[str, list[Any]] = {name: [] for name in machine.counts}
    for _ in range(machine.micro_steps):
        env = machine.step()
        for name, parts in sent.items():
            parts.append(env[name])
    return {name: np.stack(parts, axis=1) for name, parts in sent.items()}


def assert_all_agree(lowered: Lowered, x: Any, out: Path) -> None:
    """Lava = simulator = spike graph (= integers, where the schedule is exact), counts and trains."""
    mapped = lowered.mapped
    maps = x.reshape(len(x), -1, *mapped.inputs[0].shape)
    simulated = SIMULATOR.execute(mapped, lowered.tensors, maps)
    assert not any(a.out_of_range for a in simulated.layers)
    trains, integers = spike_trains(lowered.spike_graph, x), in_chunks(lowered.integer_graph, x).values
    found = run_lava(write_folder(mapped, lowered.tensors, out), maps, trains=True)
    for piece in mapped.pieces:
        counts, sent = found.counts[piece.name], found.trains[piece.name]
        assert counts.any(), f"{piece.name} is silent: nothing was compared"
        np.testing.assert_array_equal(counts, simulated.counts[piece.name], err_msg=piece.name)
        want = trains[piece.name].reshape(len(x), -1, *piece.shape)
        assert not sent[:, want.shape[1] :].any(), f"{piece.name} sends after its last window"
        if not piece.streams:
            last = slice(-1, None) if piece.is_readout else slice(None)
            whole = integers[piece.name].reshape(counts.shape)
            np.testing.assert_array_equal(counts[:, last], whole[:, last], err_msg=piece.name)
            prefix = expected_train(piece, mapped, simulated.counts[piece.name], sent.shape[1])
            np.testing.assert_array_equal(sent, prefix, err_msg=piece.name)
        if piece.is_readout and not piece.streams:
            first = (np.arange(want.shape[1]) - piece.phase) % mapped.micro_steps == 0
            want = want * first.reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(sent[:, : want.shape[1]], want, err_msg=piece.name)


def lowered_for(target: Target, graph: Graph, x: Any, **options: Any) -> Lowered:
    return target.lower(Model(graph), x, Options(**options))


def without_relays() -> Target:
    """Loihi 2 without graded events, which would carry the sums themselves where that is cheaper."""
    spec = chip("loihi2")
    abilities = spec.abilities.model_copy(update={"graded_events": False})
    return loihi_target(spec.model_copy(update={"abilities": abilities}))


# ---- networks of our own ------------------------------------------------------------------------------


def builder(shape: tuple[int, ...], levels: int, steps: int = 1, number: int = 1) -> Builder:
    return Builder(np.random.default_rng(number), shape, levels, steps)


def head(b: Builder, outputs: int = 3) -> None:
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(
        Linear(
            name="fc",
            inputs=("flat",),
            weight=b.weights(outputs, b.shape[0]),
            bias=b.vector(outputs, -0.5, 0.5),
        )
    )


def summed(graph: Graph) -> Graph:
    """The same with the sum over all timesteps as result."""
    return graph.rewrite(lambda n: replace(n, over_time=OverTime.SUM) if isinstance(n, Output) else None)


def sfa_with_skip(d: int) -> Graph:
    """Three layers of integers 0..d and a spike shortcut around the second, on 2x5x7 maps."""
    b = builder((2, 5, 7), d, number=d)
    b.conv("c1", b.last, 4, (3, 2), padding=(1, 0))
    skip = b.sfa("n1", d, normalized=True)
    b.conv("c2", skip, 4, (3, 3), padding=(1, 1))
    b.sfa("n2", d, normalized=True)
    b.add(Add(name="sum", inputs=(skip, b.last)))
    b.conv("c3", b.last, 3, (2, 3), stride=(2, 1))
    b.sfa("n3", d, normalized=True)
    head(b)
    return b.graph()


def pooled(d: int) -> Graph:
    """Poolings that are not square and leave a rest, in front of a convolution and of a linear layer."""
    b = builder((2, 9, 7), d, number=11)
    b.conv("c1", b.last, 3, (2, 2))
    b.sfa("n1", d, normalized=False)
    b.add(AvgPool2d(name="p1", inputs=(b.last,), kernel=(1, 2), stride=(1, 2)))
    b.conv("c2", b.last, 4, (3, 2), stride=(1, 1))
    b.sfa("n2", d, normalized=False)
    b.add(AvgPool2d(name="p2", inputs=(b.last,), kernel=(2, 1), stride=(2, 1)))
    b.conv("c3", b.last, 5, (2, 1), dilation=(2, 1))
    b.sfa("n3", d, normalized=False)
    head(b)
    return b.graph()


def membrane_shortcuts(neuron: dict[str, Any], levels: int, steps: int) -> Graph:
    """Three blocks x ← x + conv(s) behind spikes, and a readout that every branch reaches."""
    b = builder((2, 4, 5), levels, steps, number=5)
    stream = b.conv("stem", b.last, 3, (3, 3), padding=(1, 1))
    for i in range(3):
        b.add(Neuron(name=f"n{i}", inputs=(stream,), source=f"n{i}", **neuron))
        b.conv(f"c{i}", b.last, 3, (3, 3), padding=(1, 1))
        stream = b.add(Add(name=f"x{i}", inputs=(stream, f"c{i}")))
    b.add(Neuron(name="last", inputs=(stream,), source="last", **neuron))
    head(b)
    return summed(b.graph()) if steps > 1 else b.graph()


def long_skip(d: int) -> Graph:
    """Nine small layers, and spikes of the first that wait for the last."""
    b = builder((5,), d, number=2)
    b.add(Linear(name="l0", inputs=(b.last,), weight=b.weights(4, 5), bias=b.vector(4, 0, 0.75)))
    skip = b.sfa("n0", d, normalized=True)
    for i in range(1, 9):
        b.add(Linear(name=f"l{i}", inputs=(b.last,), weight=b.weights(4, 4), bias=b.vector(4, 0, 0.75)))
        b.sfa(f"n{i}", d, normalized=True)
    b.add(Add(name="sum", inputs=(skip, b.last)))
    b.add(Linear(name="fc", inputs=("sum",), weight=b.weights(3, 4)))
    b.sfa("end", d, normalized=True)
    return b.graph()


def dense_skip(steps: int) -> Graph:
    """Binary neurons step by step, and spikes of the first that wait one micro-step in a dense matrix."""
    b = builder((6,), 1, steps, number=6)
    lif = {"decay": 0.875, "reset": Reset.VALUE}
    for i, size in enumerate((5, 5, 4)):
        b.add(Linear(name=f"l{i}", inputs=(b.last,), weight=b.weights(size, b.shape[0])))
        b.add(Neuron(name=f"n{i}", inputs=(b.last,), **lif))
        if i == 1:
            b.add(Add(name="sum", inputs=("n0", "n1")))
    return summed(b.graph())


def chain(steps: int, *neurons: dict[str, Any], bias: bool = True) -> Graph:
    """Convolutions with these neurons behind them, on 2x4x6 maps, and a spiking linear layer."""
    b = builder((2, 4, 6), 1, steps, number=9)
    for i, fields in enumerate(neurons):
        b.conv(f"c{i}", b.last, 3, (3, 2), padding=(1, 0))
        if not bias:
            b.nodes[-1] = replace(b.nodes[-1], bias=None)  # type: ignore[call-arg]
        b.add(Neuron(name=f"n{i}", inputs=(b.last,), source=f"n{i}", **fields))
    head(b)
    b.add(Neuron(name="last", inputs=("fc",), source="last", decay=1.0, reset=Reset.VALUE))
    return summed(b.graph())


HARD = {"reset": Reset.VALUE}
SFA = {"max_spikes": 4, "rounding": Rounding.HALF_EVEN}


@dataclass(frozen=True)
class Case:
    """A network and how it is lowered."""

    graph: Callable[[], Graph]
    target: Target = LOIHI2
    options: dict[str, Any] = field(default_factory=dict)


GRADED, FREE = {"schedule": "graded"}, {"schedule": "free"}
OWN = {
    "sfa-4": Case(lambda: sfa_with_skip(4)),
    "sfa-8": Case(lambda: sfa_with_skip(8)),
    "sfa-8-graded": Case(lambda: sfa_with_skip(8), options=GRADED),
    "sfa-4-free": Case(lambda: sfa_with_skip(4), options=FREE),
    "lif-leak-and-current": Case(
        lambda: chain(7, HARD | {"decay": 0.875, "synapse_decay": 0.5}, HARD | {"decay": 0.75, "synapse_decay": 0.25}, bias=False), LOIHI1
    ),
    "lif-dense-skip": Case(lambda: dense_skip(9), LOIHI1),
    "lif-strict-and-not": Case(lambda: chain(6, HARD | {"decay": 1.0, "strict": True}, HARD | {"decay": 1.0}), LOIHI1),
    "soft-reset-with-v-init": Case(
        lambda: chain(6, {"decay": 0.875, "v_init": 0.5}, {"decay": 1.0, "v_min": -0.5}, HARD | {"decay": 1.0, "v_init": 0.25})
    ),
    "timesteps-of-windows": Case(
        lambda: chain(3, {"max_spikes": 4, "decay": 0.5}, HARD | {"max_spikes": 2, "decay": 1.0, "v_init": 0.5})
    ),
}  # fmt: skip


def drawn(strategy: st.SearchStrategy[Graph], number: int) -> Graph:
    """One random network, the same for the same number."""
    found: list[Graph] = []

    @seed(number)
    @settings(
        max_examples=4,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(graph: Graph) -> None:
        found.append(graph)

    keep()
    return found[-1]  # the first of a series is the simplest


# Numbers whose networks spike in every layer; 6 and 10 of the first kind are binary with a spike shortcut.
RANDOM = {
    **{f"sfa-{i}": Case(lambda i=i: drawn(sfa_graphs(), i), t, o) for i, t, o in ((5, LOIHI2, {}), (11, LOIHI2, GRADED), (7, LOIHI2, FREE), (6, LOIHI2, GRADED), (10, LOIHI1, {}))},
    **{f"stateful-{i}": Case(lambda i=i: drawn(stateful_graphs(), i), options=o) for i, o in ((3, {}), (9, {}), (4, GRADED))},
    **{f"lif-{i}": Case(lambda i=i: drawn(lif_graphs(), i), t) for i, t in ((1, LOIHI1), (8, LOIHI1), (10, LOIHI2))},
}  # fmt: skip


@pytest.mark.parametrize("name", [*OWN, *(f"random-{n}" for n in RANDOM)])
def test_lowered_networks(name: str, tmp_path: Path) -> None:
    case = OWN[name] if name in OWN else RANDOM[name.removeprefix("random-")]
    graph = case.graph()
    x = random_inputs(graph, 4, 7)
    assert_all_agree(lowered_for(case.target, graph, x, **case.options), x, tmp_path)


def test_biases_before_the_phase_of_a_layer_are_undone(tmp_path: Path) -> None:
    """The chip updates from micro-step 0 on: the membrane starts where leak and bias lead to the graph's start."""
    graph = chain(6, HARD | {"decay": 1.0, "bias": -0.125}, HARD | {"decay": 1.0, "bias": 0.0625}, bias=False)
    x = random_inputs(graph, 4, 3)
    lowered = lowered_for(LOIHI1, graph, x)
    entries = program(lowered.mapped, lowered.tensors, LOIHI1.chip)[0]["populations"]
    for e in entries[:2]:
        assert e["process"] == "lif"
        assert e["neuron"]["begin"] == 0
        assert e["start"] == -e["neuron"]["first"] * e["bias"] != 0
    assert_all_agree(lowered, x, tmp_path)


def test_pooling_is_absorbed_into_weights(tmp_path: Path) -> None:
    graph = pooled(4)
    x = random_inputs(graph, 4, 1)
    lowered = lowered_for(LOIHI2, graph, x)
    assert sum(isinstance(n, SumPool2d) for n in lowered.integer_graph.nodes) == 2
    assert {c.address.pool for p in lowered.mapped.pieces for c in p.connections} == {(1, 1)}
    assert_all_agree(lowered, x, tmp_path)


@pytest.mark.parametrize(
    ("target", "neuron", "levels", "steps"),
    [(without_relays(), SFA, 4, 1), (LOIHI1, HARD | {"decay": 0.875}, 1, 5)],
    ids=["sfa", "lif"],
)
def test_membrane_shortcuts_become_spikes(
    target: Target, neuron: dict[str, Any], levels: int, steps: int, tmp_path: Path
) -> None:
    graph = membrane_shortcuts(neuron, levels, steps)
    x = random_inputs(graph, 4, 5)
    lowered = lowered_for(target, graph, x)
    assert [len(p.connections) for p in lowered.mapped.pieces] == [1, 2, 3, 4, 1]
    assert_all_agree(lowered, x, tmp_path)


def test_a_skip_waits_longer_than_a_synapse_can(tmp_path: Path) -> None:
    """No chip has such delays, but Lava's delay line does: a Loihi 2 with more delay bits."""
    target = loihi_target(chip("loihi2", delay_max=99))
    graph = long_skip(8)
    x = random_inputs(graph, 4, 4)
    lowered = lowered_for(target, graph, x)
    delays = [
        (c["delay"], c["delay_by"])
        for c in program(lowered.mapped, lowered.tensors, LOIHI2.chip)[0]["connections"]
    ]
    assert delays[-2:] == [(64, "line"), (0, "none")]
    assert_all_agree(lowered, x, tmp_path)
