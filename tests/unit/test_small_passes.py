"""Passes on single neurons and layers, by hand: what random networks reach too seldom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snncc
from cells import integer_neuron
from snncc.analysis.operations import host_macs
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Const,
    Conv2d,
    Family,
    Graph,
    HostRegion,
    Input,
    IntegerNeuron,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Reset,
    Reshape,
    Scale,
    SumPool2d,
)
from snncc.ir.interp import run
from snncc.model import Model
from snncc.passes.base import Pipeline
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.quantize import Quantize
from snncc.passes.single_step import SingleStep
from snncc.passes.split_host import SplitHost


def graph(
    *nodes: Node, shape: tuple[int, ...], levels: int = 0, steps: int = 1, over_time: OverTime = OverTime.NONE
) -> Graph:
    end = Output(name="o", inputs=(nodes[-1].name,), over_time=over_time)
    return Graph("g", Family.FLOAT, (Input(name="x", shape=shape, levels=levels), *nodes, end), steps)


POTENTIALS = {
    "threshold": 0.75,
    "bias": -0.125,
    "reset_by": 0.5,
    "reset_to": -0.25,
    "v_min": -0.5,
    "v_init": 0.375,
}


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("field", list(POTENTIALS))
def test_every_potential_scales_with_the_gain(reset: Reset, field: str) -> None:
    """Dyadic figures: the folded neuron must fire bit for bit as before; leaving one potential alone is seen."""
    neuron = Neuron(name="n", inputs=("s",), decay=0.5, gain=0.5, reset=reset, max_spikes=3, **POTENTIALS)  # type: ignore[arg-type]
    g = graph(Scale(name="s", inputs=("x",), factor=0.5), neuron, shape=(64,), steps=6)
    x = (np.random.default_rng(0).integers(-40, 60, (20, 6, 64)) / 4).astype(np.float32)
    folded = FoldScale().run(g)
    assert np.array_equal(run(g, x).values["n"], run(folded, x).values["n"])
    observable = not (field == "reset_by" and reset is not Reset.SUBTRACT) and not (
        field == "reset_to" and reset is not Reset.VALUE
    )
    broken = folded.rewrite(
        lambda n: replace(n, **{field: POTENTIALS[field]}) if isinstance(n, Neuron) else None
    )  # type: ignore[arg-type]
    assert np.array_equal(run(g, x).values["n"], run(broken, x).values["n"]) is not observable


def test_batchnorm_without_a_convolution_before_it_becomes_depthwise() -> None:
    rng = np.random.default_rng(3)
    parts = {k: Const(rng.uniform(0.5, 2, 3).astype(np.float32)) for k in ("gamma", "beta", "mean", "var")}
    for shape in ((3, 4, 5), (3,)):
        g = graph(BatchNorm(name="b", inputs=("x",), eps=1e-3, **parts), shape=shape)
        folded = FoldConvBN().run(g)
        assert not any(isinstance(n, BatchNorm) for n in folded.nodes)
        x = rng.normal(size=(2, 1, *shape)).astype(np.float32)
        assert np.allclose(run(g, x).result, run(folded, x).result, atol=1e-5)


def test_batchnorm_is_not_folded_into_weights_that_others_read() -> None:
    one = Const(np.full(2, 2.0, np.float32))
    conv = Conv2d(name="c", inputs=("x",), weight=Const(np.ones((2, 1, 1, 1), np.float32)))
    bn = BatchNorm(name="b", inputs=("c",), gamma=one, beta=one, mean=one, var=one, eps=0.0)
    g = graph(conv, bn, Add(name="a", inputs=("c", "b")), shape=(1, 2, 3))
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 2, 3)
    assert np.allclose(run(g, x).result, run(FoldConvBN().run(g), x).result)


def test_average_pooling_becomes_sum_pooling_and_weights() -> None:
    nodes = (
        Neuron(name="n", inputs=("x",), max_spikes=4, output_scale=0.25),
        AvgPool2d(name="p", inputs=("n",), kernel=(2, 3), stride=(2, 3)),
        Conv2d(name="c", inputs=("p",), weight=Const(np.ones((1, 1, 1, 1), np.float32))),
        Neuron(name="m", inputs=("c",)),
    )
    folded = FoldScale().run(graph(*nodes, shape=(1, 4, 6)))
    assert isinstance(folded.by_name["p"], SumPool2d)
    conv = folded.by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.weight.array.ravel().tolist() == [pytest.approx(1 / 24)]
    assert all(getattr(t, "unit", 1.0) == 1.0 for t in folded.types.values())


def test_the_mean_over_time_becomes_the_readouts_scale() -> None:
    nodes = (
        Neuron(name="n", inputs=("x",), decay=1.0),
        Linear(name="l", inputs=("n",), weight=Const(np.array([[1.0, -2.0]], np.float32))),
    )
    g = graph(*nodes, shape=(2,), levels=1, steps=4, over_time=OverTime.MEAN)
    x = np.random.default_rng(0).integers(0, 2, (5, 4, 2))
    lowered = LowerReadout().run(g)
    assert np.allclose(run(g, x).result, run(lowered, x).result)
    with pytest.raises(ModelError, match="SNNC-M019"):
        LowerReadout().run(replace(g, nodes=(*g.nodes[:-1], replace(g.output, over_time=OverTime.NONE))))


def test_the_analog_stem_moves_to_the_host_and_counts_as_macs() -> None:
    stem = Conv2d(name="c", inputs=("x",), weight=Const(np.ones((4, 2, 3, 3), np.float32)), padding=(1, 1))
    nodes = (
        stem,
        Neuron(name="n", inputs=("c",), max_spikes=2),
        Conv2d(name="d", inputs=("n",), weight=Const(np.ones((1, 4, 1, 1), np.float32))),
        Neuron(name="m", inputs=("d",)),
    )
    g = SplitHost().run(graph(*nodes, shape=(2, 5, 6)))
    assert [type(n).__name__ for n in g.nodes] == ["Input", "HostRegion", "Conv2d", "Neuron", "Output"]
    assert isinstance(g.by_name["n"], HostRegion)
    assert host_macs(g) == 4 * 5 * 6 * 2 * 3 * 3


SPIKES = "Try a neuron in front of the first weights, or input_levels where the inputs are spikes already."


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Linear(name="l", inputs=("x",), weight=Const(np.ones((2, 3), np.float32))),), f"[SNNC-M018] %o: the whole network is analog: no neuron stands between input and output. {SPIKES}"),
        (
            (Neuron(name="n", inputs=("x",)), Neuron(name="m", inputs=("x",)), Add(name="a", inputs=("n", "m")), Linear(name="l", inputs=("a",), weight=Const(np.ones((2, 3), np.float32)))),
            f"[SNNC-M018] %n: the host computes the whole network: its only neurons make spikes of real values. {SPIKES}",
        ),
        (
            (Linear(name="l", inputs=("x",), weight=Const(np.ones((2, 3), np.float32))), Neuron(name="r", inputs=("l",), source="net.r", max_spikes=0)),
            f"[SNNC-M018] %r (net.r): the whole network is analog: no neuron stands between input and output. {SPIKES}",
        ),
        (
            (Neuron(name="n", inputs=("x",)), Linear(name="l", inputs=("n",), weight=Const(np.eye(3, dtype=np.float32))), Add(name="a", inputs=("x", "l")), Neuron(name="m", inputs=("a",))),
            "[SNNC-M018] %x: the network's input is added to sums of spikes. Try weights or a neuron in between.",
        ),
        (
            (Linear(name="s", inputs=("x",), weight=Const(np.eye(3, dtype=np.float32))), Neuron(name="n", inputs=("s",)), Linear(name="l", inputs=("n",), weight=Const(np.eye(3, dtype=np.float32))), Concat(name="a", inputs=("s", "l"), axis=0), Neuron(name="m", inputs=("a",))),
            "[SNNC-M018] %a: mixes the analog stem with spikes, got %s, %l. Try a neuron behind the stem, or a sum.",
        ),
    ],
)  # fmt: skip
def test_stems_that_cannot_be_split(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ModelError) as error:
        SplitHost().run(graph(*nodes, shape=(3,)))
    assert str(error.value) == message


def test_a_network_without_neurons_is_refused_at_the_readout_that_lowering_gives_it() -> None:
    layers = (
        Linear(name="a", inputs=("x",), weight=Const(np.ones((4, 3), np.float32))),
        Linear(name="b", inputs=("a",), source="net.b", weight=Const(np.ones((2, 4), np.float32))),
    )
    with pytest.raises(ModelError) as error:
        Pipeline((FoldConvBN(), LowerReadout(), FoldScale(), SplitHost())).run(graph(*layers, shape=(3,)))
    assert str(error.value) == (
        "[SNNC-M018] %b.readout (net.b): the whole network is analog: no neuron stands between input and output. "
        f"{SPIKES}"
    )


def test_spikes_at_the_input_leave_nothing_to_the_host() -> None:
    layer = Linear(name="l", inputs=("x",), weight=Const(np.eye(3, dtype=np.float32)))
    g = graph(layer, Neuron(name="n", inputs=("l",)), shape=(3,), levels=1)
    assert SplitHost().run(g) is g


def last_neuron(reads: str, **fields: object) -> tuple[Node, ...]:
    """One layer with the network's last neuron behind it, and a view."""
    weight = Const(np.eye(12, dtype=np.float32)[:5])
    return (
        Reshape(name="flat", inputs=(reads,), shape=(12,)),
        Linear(name="l", inputs=("flat",), weight=weight),
        Neuron(name="n", inputs=("l",), source="net.n", max_spikes=4, **fields),  # type: ignore[arg-type]
        Reshape(name="view", inputs=("n",), shape=(5, 1, 1)),
    )


WINDOWS = {"steps": 3, "over_time": OverTime.MEAN}


@pytest.mark.parametrize("more", [{}, WINDOWS], ids=["one step", "three"])
@pytest.mark.parametrize("layers", [0, 3, 4])
def test_a_network_whose_only_neuron_stands_behind_real_values_leaves_nothing_for_a_chip(
    layers: int, more: dict[str, Any]
) -> None:
    """Directly behind the input as well as behind weights and views."""
    nodes = last_neuron("x")[:layers] or (Neuron(name="n", inputs=("x",), source="net.n"),)
    with pytest.raises(ModelError) as error:
        SplitHost().run(graph(*nodes, shape=(1, 3, 4), **more))
    assert str(error.value) == (
        "[SNNC-M018] %n (net.n): the host computes the whole network: its only neurons make spikes of real "
        f"values. {SPIKES}"
    )


@pytest.mark.parametrize("target", ["sim", "loihi2", "speck2f"])
def test_the_ways_out_of_that_work(target: str) -> None:
    encoder = Neuron(name="e", inputs=("x",), max_spikes=2)
    refused, coded, spikes = (
        graph(*nodes, shape=(1, 3, 4), levels=levels)
        for nodes, levels in ((last_neuron("x"), 0), ((encoder, *last_neuron("e")), 0), (last_neuron("x"), 2))
    )
    inputs = np.ones((2, 1, 1, 3, 4))
    found = [
        snncc.check(
            Model(g, calibration=inputs.astype(np.int64 if g is spikes else np.float32)), target=target
        )
        for g in (refused, coded, spikes)
    ]
    assert [[p.code for p in result.problems] for result in found] == [["SNNC-M018"], [], []]


def test_quantization_names_everything_it_cannot_hold_and_the_pass_it_happened_in() -> None:
    eye = Const(np.eye(3, dtype=np.float32))
    nodes = (
        Linear(name="a", inputs=("x",), weight=eye),
        Linear(name="b", inputs=("a",), source="net.b", weight=eye),
        Neuron(name="n", inputs=("b",), source="net.n", reset_next=True, decay=0.5),
        Linear(name="c", inputs=("n",), weight=eye),
        Neuron(name="m", inputs=("c",), synapse_decay=0.0),
    )
    g = graph(*nodes, shape=(3,), levels=1)
    quantize = Quantize(calibration=np.ones((1, 1, 3)))
    with pytest.raises(ModelError) as error:
        Pipeline((FoldConvBN(), LowerReadout(), FoldScale(), SplitHost(), quantize)).run(g)
    assert [str(p) for p in error.value.problems] == [
        "%a: weights whose sums no neuron integrates. Try a neuron between two layers of weights.",
        "%n (net.n): a reset in the following step has no integer form yet. Try a neuron that resets in the step in which it fires.",
        "%m: a synaptic leak of 0 leaves no current to hold. Try a neuron without synaptic current.",
    ]
    assert error.value.__notes__ == [
        "in pass quantize after fold-conv-bn, lower-readout, fold-scale, split-host"
    ]


@pytest.mark.parametrize(
    ("decay", "bits", "counts"), [(1, 0, [0, 1, 2]), (1, 1, [0, 0, 2]), (0, 0, [0, 0, 1])]
)
def test_single_step_keeps_what_the_initial_potential_adds(decay: int, bits: int, counts: list[int]) -> None:
    weight = Const(np.array([[1]], np.int8))
    neuron = integer_neuron(
        "n",
        "l",
        threshold=4,
        max_spikes=3,
        decay=decay,
        decay_bits=bits,
        v_init=3,
        v_min=0,
        reset=Reset.VALUE,
    )
    nodes = (
        Input(name="x", shape=(1,), levels=9),
        Linear(name="l", inputs=("x",), weight=weight),
        neuron,
        Output(name="o", inputs=("n",)),
    )
    g = Graph("g", Family.INTEGER, nodes)
    x = np.array([0, 1, 7]).reshape(3, 1, 1)
    assert run(g, x).values["n"].ravel().tolist() == counts
    assert run(SingleStep().run(g), x).values["n"].ravel().tolist() == counts


def test_thresholds_stay_exact_and_weights_within_their_bits() -> None:
    rng = np.random.default_rng(5)
    weight = Const(rng.normal(size=(6, 9)).astype(np.float32))
    nodes = (
        Linear(name="l", inputs=("x",), weight=weight),
        Neuron(name="n", inputs=("l",), threshold=0.7, max_spikes=4),
    )
    g = graph(*nodes, shape=(9,), levels=4)
    x = rng.integers(0, 5, (8, 1, 9))
    for bits in (4, 8):
        q = Quantize(calibration=x, bits=bits, state_bits=16).run(g)
        layer, neuron = q.by_name["l"], q.by_name["n"]
        assert isinstance(layer, Linear)
        assert isinstance(neuron, IntegerNeuron)
        top = 2 ** (bits - 1) - 1
        assert np.abs(layer.weight.array).max() <= top
        scale = neuron.cell.theta / 0.7
        assert np.array_equal(layer.weight.array, np.clip(np.rint(weight.array * scale), -top, top))
