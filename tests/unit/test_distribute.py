"""distribute: membrane shortcuts x ← x + conv(s) as synapses of every neuron that reads the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from random_graphs import random_inputs
from snncc.compilation import Options, Target
from snncc.errors import SnnccError
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Reset,
    Reshape,
    Rounding,
    to_text,
)
from snncc.ir.batches import in_chunks
from snncc.ir.interp import run
from snncc.model import Model
from snncc.passes.distribute import Distribute
from snncc_loihi.target import LOIHI1, LOIHI2, loihi_target
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM
from snncc_speck import SPECK2F

SFA = Neuron(name="", max_spikes=4, rounding=Rounding.HALF_EVEN)
LIF = Neuron(name="", decay=0.75, reset=Reset.VALUE)


def quarter(*shape: int) -> Const:
    """Weights -1, -3/4, ..., 1 in turn, no two layers the same: every sum is exact in binary."""
    n = int(np.prod(shape))
    return Const((((np.arange(n) * 5 + n + shape[0]) % 9 - 4) / 4).reshape(shape).astype(np.float32))


def ms_resnet(blocks: int, neuron: Neuron = SFA, steps: int = 1) -> Graph:
    """MS-ResNet behind spikes: x ← x + conv(n(conv(n(x)))), a neuron that reads the last x, a readout."""
    nodes: list[Node] = [
        Input(name="x", shape=(2, 4, 6), levels=neuron.max_spikes),
        Conv2d(name="stem", inputs=("x",), weight=quarter(4, 2, 2, 2)),
    ]
    for i in range(blocks):
        stream = nodes[-1].name
        bias = Const(np.array([0.25, -0.5, 0.75, 0], np.float32))
        nodes += [
            replace(neuron, name=f"n{i}", inputs=(stream,)),
            Conv2d(name=f"a{i}", inputs=(f"n{i}",), weight=quarter(3 + i, 4, 3, 3), padding=(1, 1)),
            replace(neuron, name=f"m{i}", inputs=(f"a{i}",)),
            Conv2d(name=f"b{i}", inputs=(f"m{i}",), weight=quarter(4, 3 + i, 1, 3), bias=bias, padding=(0, 1)),
            Add(name=f"x{i}", inputs=(stream, f"b{i}")),
        ]  # fmt: skip
    nodes += [
        replace(neuron, name="last", inputs=(nodes[-1].name,)),
        Reshape(name="flat", inputs=("last",), shape=(60,)),
        Linear(name="fc", inputs=("flat",), weight=quarter(5, 60)),
    ]
    end = Output(name="out", inputs=("fc",), over_time=OverTime.SUM if steps > 1 else OverTime.NONE)
    return Graph("shortcuts", Family.FLOAT, (*nodes, end), steps)


def without_relays() -> Target:
    """Loihi 2 without graded events, which would carry the sums themselves where that is cheaper."""
    abilities = LOIHI2.chip.abilities.model_copy(update={"graded_events": False})
    return loihi_target(LOIHI2.chip.model_copy(update={"abilities": abilities}))


def test_a_block_prints_what_it_printed(golden: Callable[[str, str], None]) -> None:
    golden("distribute.snn", to_text(Distribute().run(ms_resnet(2))))


@pytest.mark.parametrize(("neuron", "steps"), [(SFA, 1), (LIF, 4)])
@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_values_are_those_of_before(blocks: int, neuron: Neuron, steps: int) -> None:
    graph = ms_resnet(blocks, neuron, steps)
    x = random_inputs(graph, 6, blocks)
    before, after = run(graph, x), run(Distribute().run(graph), x)
    assert before.values.keys() == after.values.keys()
    for name, values in before.values.items():
        assert values.any(), name
        assert np.array_equal(values, after.values[name]), name
    assert np.array_equal(before.result, after.result)


@pytest.mark.parametrize("blocks", [1, 3, 6])
def test_every_neuron_has_its_own_copies_of_the_same_weights(blocks: int) -> None:
    graph = ms_resnet(blocks)
    new = Distribute().run(graph)
    driving = [part.name for layer in new.layers.values() for part in layer.path]
    assert len(driving) == len(set(driving))
    # What no neuron shared is there as before, and every neuron reads the weights that it read.
    assert [n for n in new.nodes if isinstance(n, Neuron)] == [
        replace(n, inputs=new.by_name[n.name].inputs) for n in graph.nodes if isinstance(n, Neuron)
    ]
    for neuron in graph.neurons:
        was, now = (g.layers[neuron.name] for g in (graph, new))
        assert [(w.weight.digest, w.inputs) for w in was.weighted] == [
            (w.weight.digest, w.inputs) for w in now.weighted
        ]
    # Reader i of the sum has i + 1 branches; beside them stand the inner convolutions.
    weights = [n for n in new.nodes if isinstance(n, Conv2d)]
    assert len(weights) == (blocks + 1) * (blocks + 2) // 2 + blocks
    assert {w.weight.digest for w in weights} == {
        n.weight.digest for n in graph.nodes if isinstance(n, Conv2d)
    }


def test_without_shared_sums_nothing_changes() -> None:
    graph = ms_resnet(1)
    parts = {"x0": None, "last": replace(SFA, name="last", inputs=("b0",))}
    chain = replace(graph, nodes=tuple(parts.get(n.name, n) for n in graph.nodes if parts.get(n.name, n)))  # type: ignore[misc]
    assert Distribute().run(chain) is chain


@pytest.mark.parametrize(
    ("target", "neuron", "steps"),
    [(SIM, SFA, 1), (SIM, LIF, 3), (LOIHI2, SFA, 1), (without_relays(), SFA, 1), (LOIHI1, LIF, 5)],
    ids=["sim", "sim-lif", "loihi2", "loihi2-distribute", "loihi1-lif"],
)
def test_spikes_equal_integers(target: Target, neuron: Neuron, steps: int) -> None:
    graph = ms_resnet(3, neuron, steps)
    x = random_inputs(graph, 6, 8)
    lowered = target.lower(Model(graph), x, Options(verify_each=True))
    if target not in (LOIHI2, SIM):  # which may relay the sums
        assert [len(p.connections) for p in lowered.mapped.pieces] == [1, 1, 2, 1, 3, 1, 4, 1]
        delays = [c.delay // lowered.mapped.micro_steps for c in lowered.mapped.pieces[-2].connections]
        assert sorted(delays) == [0, 2, 4, 6]
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    integers, spikes = (in_chunks(g, x) for g in (lowered.integer_graph, lowered.spike_graph))
    for piece in lowered.mapped.pieces:
        got = activity.counts[piece.name][:, -1 if piece.is_readout else 0 :]
        for wanted in (integers, spikes):
            want = wanted.values[piece.name].reshape(len(x), steps, *piece.shape)
            assert np.array_equal(got, want[:, -got.shape[1] :]), piece.name
    assert np.array_equal(activity.result, integers.result)


def test_speck_refuses_with_the_depths() -> None:
    graph = ms_resnet(3)
    with pytest.raises(SnnccError) as caught:
        SPECK2F.lower(Model(graph), random_inputs(graph, 4, 1), Options())
    assert str(caught.value) == (
        "[SNNC-M023] %stem: its sums reach neurons of different depth, and currents cannot wait, "
        "got depths 1 and 3. Try a neuron in front of the shortcut."
    )
