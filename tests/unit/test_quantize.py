"""Scales, rounding and refusals of quantization, on layers whose integers are worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snncc.errors import ModelError, SnnccError
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    Neuron,
    Node,
    Output,
    Permute,
    Reset,
    Reshape,
    Rounding,
    SynapseOrder,
)
from snncc.ir.interp import run
from snncc.passes.quantize import Quantize


def real(*rows: Any) -> Const:
    return Const(np.array(rows, np.float32))


def graph(*nodes: Node, shape: tuple[int, ...], levels: int = 1, steps: int = 1) -> Graph:
    last = nodes[-1]
    decode = Decode.MEMBRANE if isinstance(last, Neuron) and last.is_readout else Decode.COUNT
    end = Output(name="y", inputs=(last.name,), decode=decode)
    return Graph("g", Family.FLOAT, (Input(name="x", shape=shape, levels=levels), *nodes, end), steps)


def layer(*weights: float, levels: int = 1, steps: int = 1, bias: Any = None, **neuron: Any) -> Graph:
    """One neuron that reads every input through one row of weights."""
    linear = Linear(name="c", inputs=("x",), source="net.c", weight=real(weights), bias=bias)
    fires = Neuron(name="n", inputs=("c",), source="net.n", **neuron)
    return graph(linear, fires, shape=(len(weights),), levels=levels, steps=steps)


def quantized(before: Graph, x: Any = None, **options: Any) -> Graph:
    found = np.ones((1, before.steps, *before.input.shape)) if x is None else np.asarray(x)
    return Quantize(calibration=found, **options).run(before)


def weights_of(after: Graph, name: str = "c") -> Any:
    node = after.by_name[name]
    assert isinstance(node, Linear | Conv2d)
    return node.weight.array.ravel().tolist()


def cell_of(after: Graph, name: str = "n") -> Any:
    node = after.by_name[name]
    assert isinstance(node, IntegerNeuron)
    return node.cell


@pytest.mark.parametrize(("weights", "threshold", "bits", "want", "theta"), [
    ((1, -0.5, 0.25), 1, 8, [127, -64, 32], 127),  # 63½ goes to the even 64
    ((1, -0.5, 0.25), 0.5, 8, [126, -63, 32], 63),  # 63½ is no threshold: s = 126
    ((1, -0.5, 0.25), 0.3, 8, [127, -63, 32], 38),  # s = 38 / 0.3
    ((0.1, -0.2), 0.7, 8, [63, -127], 444),  # s = 634.3, not 635: 444 = 0.7·s
    ((-2, 1), 1, 4, [-6, 3], 3),  # 3½ is no threshold
    ((-2, 1), 2, 4, [-7, 4], 7),
    ((3, 2), 100, 2, [1, 1], 33),  # ⅔ rounds up
    ((3, 2), 100, 16, [32767, 21845], 1092233),  # s = 10922.33
])  # fmt: skip
def test_the_largest_weight_and_a_whole_threshold_choose_the_scale(
    weights: tuple[float, ...], threshold: float, bits: int, want: list[int], theta: int
) -> None:
    after = quantized(layer(*weights, threshold=threshold, max_spikes=3), bits=bits)
    assert (weights_of(after), cell_of(after).threshold) == (want, theta)


@pytest.mark.parametrize(("x", "steps", "options", "scale"), [
    # 127·300·1¼ leaves 2^15 - 2^7: s = 86.17, of which θ = 1 leaves 86.
    (300, 1, {"state_bits": 16}, 86),
    (300, 1, {"state_bits": 17}, 127),
    (300, 1, {"state_bits": 16, "margin": 1.0}, 107),
    (300, 1, {"state_bits": 32}, 127),
    (300, 1, {"state_bits": 32, "sum_bits": 15}, 42),
    (300, 1, {"state_bits": 16, "sum_bits": 32}, 86),
    (100, 3, {"state_bits": 16}, 86),  # a membrane holds three timesteps, an accumulator one
    (100, 3, {"state_bits": 32, "sum_bits": 15}, 127),
    (300, 3, {"state_bits": 32, "sum_bits": 15}, 42),
])  # fmt: skip
def test_what_inputs_add_up_to_bounds_the_scale(
    x: int, steps: int, options: dict[str, Any], scale: int
) -> None:
    before = layer(1, levels=300, steps=steps, decay=1.0)
    after = quantized(before, np.full((1, steps, 1), x), **options)
    assert (weights_of(after), cell_of(after).threshold) == ([scale], scale)


def test_the_range_is_that_of_every_order_and_not_the_sum() -> None:
    """Inputs that cancel may still arrive one after the other: both signs count in full."""
    x = np.full((1, 1, 2), 150)
    cancels = quantized(layer(1, -1, levels=150), x, state_bits=16)
    adds = quantized(layer(1, 1, levels=150), x, state_bits=16)
    assert cell_of(cancels).threshold == cell_of(adds).threshold == 86


def test_biases_count_on_both_sides_and_keep_full_width() -> None:
    """2·|bias|·s joins the range: 127·(200·1¼ + 2·4) / 32640 = 1.004, so that s falls to 125."""
    x = np.full((1, 1, 1), 200)
    assert cell_of(quantized(layer(1, levels=200), x, state_bits=16)).threshold == 127
    after = quantized(layer(1, levels=200, bias=real(4.0)), x, state_bits=16)
    assert cell_of(after).threshold == 125
    linear = after.by_name["c"]
    assert isinstance(linear, Linear)
    assert linear.bias is not None
    assert linear.bias.array.tolist() == [500]


def test_a_layer_without_weights_keeps_its_threshold() -> None:
    after = quantized(layer(0.0, threshold=2.0, bias=real(-3.0)))
    assert (weights_of(after), cell_of(after).threshold) == ([0], 127)
    assert after.by_name["c"].bias.array.tolist() == [-190]  # type: ignore[union-attr]  # 190½ goes to even


def test_neurons_that_add_up_the_same_sums_share_a_scale() -> None:
    """The largest weight of all branches decides, and the neuron with the first threshold."""
    nodes = (
        Linear(name="a", inputs=("x",), weight=real([1.0, 0.5])),
        Linear(name="b", inputs=("x",), weight=real([-4.0, 0.25])),
        Add(name="s", inputs=("a", "b")),
        Neuron(name="n", inputs=("a",), threshold=1.0),
        Neuron(name="m", inputs=("s",), threshold=2.0),
        Linear(name="d", inputs=("n",), weight=real([8.0])),
        Neuron(name="k", inputs=("d",)),
        Linear(name="e", inputs=("m",), weight=real([1.0])),
        Add(name="t", inputs=("d", "e")),
        Neuron(name="o", inputs=("t",)),
    )
    after = quantized(graph(*nodes, shape=(2,)))
    # s = 31 in the first component (θ·127/4 = 31.75), 15 in the second (127/8 = 15.875).
    assert (weights_of(after, "a"), weights_of(after, "b")) == ([31, 16], [-124, 8])
    assert (cell_of(after, "n").threshold, cell_of(after, "m").threshold) == (31, 62)
    assert (weights_of(after, "d"), weights_of(after, "e")) == ([120], [15])
    assert (cell_of(after, "k").threshold, cell_of(after, "o").threshold) == (15, 15)


def test_a_readout_takes_the_whole_word_and_gives_the_scale_back() -> None:
    after = quantized(layer(0.5, -0.25, max_spikes=0, decay=1.0))
    assert weights_of(after) == [127, -64]  # 63½ to even
    assert (cell_of(after).threshold, cell_of(after).precharge, cell_of(after).max_spikes) == (1, 0, 0)
    assert after.output.scale == pytest.approx(1 / 254)
    x = np.array([[[2, 1]]])
    assert run(after, x).result.item() == pytest.approx((2 * 127 - 64) / 254)


@pytest.mark.parametrize(("rounding", "strict", "precharge"), [
    (Rounding.FLOOR, False, 0),
    (Rounding.FLOOR, True, -1),
    (Rounding.HALF_UP, False, 63),
    (Rounding.HALF_EVEN, False, 63),
])  # fmt: skip
def test_rounding_becomes_a_precharge(rounding: Rounding, strict: bool, precharge: int) -> None:
    after = quantized(layer(1, rounding=rounding, strict=strict, max_spikes=3))
    assert cell_of(after).precharge == precharge


@pytest.mark.parametrize(("leak", "fixed"), [
    (0, (0, 0)), (1.0, (1, 0)), (0.5, (2048, 12)), (0.9, (3686, 12)), (real(0.9, 0.9), (3686, 12)),
    (0.00001, (0, 12)), (0.99999, (4096, 12)),
], ids=str)  # fmt: skip
def test_leaks_have_twelve_places(leak: Any, fixed: tuple[int, int]) -> None:
    linear = Linear(name="c", inputs=("x",), weight=real([1.0], [2.0]))
    cell = cell_of(quantized(graph(linear, Neuron(name="n", inputs=("c",), decay=leak), shape=(1,), steps=2)))
    assert (cell.decay, cell.decay_bits) == fixed


def test_leaks_of_synapses_have_them_too() -> None:
    cell = cell_of(quantized(layer(1, steps=2, decay=1.0, synapse_decay=0.9)))
    assert (cell.synapse_decay, cell.synapse_bits, cell.decay, cell.decay_bits) == (3686, 12, 1, 0)


def test_every_potential_is_scaled() -> None:
    cell = cell_of(
        quantized(
            layer(
                1, steps=2, decay=1.0, bias=None, threshold=2.0, v_min=-0.5, v_init=0.25, reset=Reset.VALUE,
                reset_to=-1.5, max_spikes=2,
            )
        )
    )  # fmt: skip
    # s = 127
    assert (cell.threshold, cell.v_min, cell.v_init, cell.reset_to) == (254, -64, 32, -190)
    assert (cell.reset, cell.max_spikes, cell.gain, cell.synapse_decay) == (Reset.VALUE, 2, 1, 0)


@pytest.mark.parametrize("order", list(SynapseOrder))
def test_the_order_of_a_synapse_is_kept_by_its_potentials(order: SynapseOrder) -> None:
    """Weights of one and dyadic leaks: the integers fire with the trained network, in every order."""
    before = layer(
        1, 1, levels=3, steps=6, decay=0.5, synapse_decay=0.5, synapse_order=order, threshold=2.0, max_spikes=2,
        v_init=1.0, v_min=-1.0,
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 4, (40, 6, 2))
    after = quantized(before, x)
    cell = cell_of(after)
    # Sinabs' order reads half of what the others read: against twice the potentials.
    twice = 2 if order is SynapseOrder.ADD_DECAY_READ else 1
    assert weights_of(after) == [127, 127]
    assert (cell.threshold, cell.v_init, cell.v_min) == (254 * twice, 127 * twice, -127 * twice)
    want, got = run(before, x).values["n"], run(after, x).values["n"]
    # A leak of odd integers rounds toward zero, which 1/250 of the threshold seldom shows.
    assert (want != got).mean() < 0.05
    assert 0.2 < want.mean() < 1.8


def test_potentials_of_channels_follow_the_order_of_a_synapse() -> None:
    """Sinabs' order reads half of its current: a channel's start value doubles like the threshold."""
    linear = Linear(name="c", inputs=("x",), weight=real([1.0], [-0.5]))
    neuron = Neuron(
        name="n", inputs=("c",), decay=1.0, v_init=real(1.0, -0.25), bias=real(0.5, 0.0), synapse_decay=0.5,
        synapse_order=SynapseOrder.ADD_DECAY_READ,
    )  # fmt: skip
    cell = cell_of(quantized(graph(linear, neuron, shape=(1,), steps=2)))
    assert cell.threshold == 254
    assert (cell.v_init.array.tolist(), cell.bias.array.tolist()) == ([254, -64], [127, 0])  # 63½ to even


def test_a_readout_behind_views_gives_its_scale_back() -> None:
    nodes = (
        Linear(name="c", inputs=("x",), weight=real([0.5], [-0.25])),
        Neuron(name="n", inputs=("c",), max_spikes=0, decay=1.0),
        Reshape(name="f", inputs=("n",), shape=(2, 1, 1)),
        Permute(name="p", inputs=("f",), axes=(1, 2, 0)),
    )
    before = graph(*nodes, shape=(1,))
    membrane = replace(before.output, decode=Decode.MEMBRANE)
    after = quantized(before.rewrite(lambda n: membrane if n.name == "y" else None))
    assert after.output.scale == pytest.approx(1 / 254)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"threshold": real(1.0, 2.0)}, "[SNNC-M020] %n (net.n): one threshold per channel, whose weights serve other neurons or other channels too, got 2 from 1 to 2. Try one threshold for the layer."),
    ({"synapse_decay": real(0.5, 0.25), "synapse_order": SynapseOrder.ADD_DECAY_READ}, "[SNNC-M020] %n (net.n): one synaptic leak per channel, in a synapse that decays first. Try one leak for the layer."),
    ({"synapse_decay": real(0.5, 0.0)}, "[SNNC-M021] %n (net.n): a synaptic leak of 0 leaves no current to hold. Try a neuron without synaptic current."),
    ({"synapse_decay": 0.0}, "[SNNC-M021] %n (net.n): a synaptic leak of 0 leaves no current to hold. Try a neuron without synaptic current."),
    ({"synapse_decay": 0.5, "synapse_order": SynapseOrder.ADD_DECAY_READ, "max_spikes": 0}, "[SNNC-M021] %n (net.n): a readout behind a synapse that decays first. Try a readout without one."),
    ({"decay": 0.5, "reset_next": True}, "[SNNC-M021] %n (net.n): a reset in the following step has no integer form yet. Try a neuron that resets in the step in which it fires."),
    ({"decay": 0.5, "reset": Reset.NONE}, "[SNNC-M021] %n (net.n): a neuron with memory that never resets has no spike form. Try reset by subtraction."),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "text"), REFUSED, ids=[text[25:60] for _, text in REFUSED])
def test_what_integers_cannot_hold_is_refused(fields: dict[str, Any], text: str) -> None:
    linear = Linear(name="c", inputs=("x",), weight=real([1.0], [2.0]))
    neuron = Neuron(name="n", inputs=("c",), source="net.n", **fields)
    with pytest.raises(SnnccError) as error:
        quantized(graph(linear, neuron, shape=(1,), steps=2))
    assert str(error.value) == text


def test_a_bias_before_a_synapse_with_memory_is_refused() -> None:
    before = layer(1, steps=2, bias=real(0.5), synapse_decay=0.5)
    with pytest.raises(ModelError) as error:
        quantized(before)
    assert str(error.value) == (
        "[SNNC-M021] %n (net.n): a bias that passes a synapse with memory has no integer form. "
        "Try bias=False in front of it."
    )


def test_a_threshold_that_vanishes_is_refused_with_its_size() -> None:
    """300 inputs of weight one in 10 bits: s = 0.99·384/375, and θ = ¼ of it."""
    x = np.full((1, 1, 1), 300)
    with pytest.raises(ModelError) as error:
        quantized(layer(1, levels=300, threshold=0.25), x, state_bits=10)
    assert str(error.value) == (
        "[SNNC-M014] %n (net.n): threshold rounds below one, got 0.253, limit 1. "
        "Try fewer inputs a neuron, or a target with a wider accumulator."
    )
    assert cell_of(quantized(layer(1, levels=300, threshold=1.0), x, state_bits=10)).threshold == 1


# ---- numbers of each channel ------------------------------------------------------------------------------


def rows(
    *weights: tuple[float, ...], bias: Any = None, steps: int = 1, levels: int = 1, **neuron: Any
) -> Graph:
    """One channel a row of weights."""
    linear = Linear(name="c", inputs=("x",), source="net.c", weight=real(*weights), bias=bias)
    fires = Neuron(name="n", inputs=("c",), source="net.n", **neuron)
    return graph(linear, fires, shape=(len(weights[0]),), steps=steps, levels=levels)


def numbers(value: Any) -> Any:
    return value.array.tolist() if isinstance(value, Const) else value


def test_leaks_resets_and_bounds_of_each_channel_are_rounded_as_those_of_a_layer() -> None:
    fields: dict[str, tuple[float, float]] = {
        "decay": (0.5, 1.0),
        "reset_to": (0.0, 0.25),
        "v_min": (-1.0, -0.3),
    }
    before = rows((1.0,), (2.0,), steps=2, reset=Reset.VALUE, **{k: real(*v) for k, v in fields.items()})
    cell = cell_of(quantized(before))
    assert cell.threshold == 63
    assert [numbers(getattr(cell, name)) for name in fields] == [[2048, 4096], [0, 16], [-63, -19]]
    assert cell.decay_bits == 12
    subtracted = cell_of(quantized(rows((1.0,), (2.0,), steps=2, reset_by=real(0.5, 2.0), decay=1.0)))
    assert numbers(subtracted.reset_by) == [32, 126]  # 31½ to even
    fading = cell_of(quantized(rows((1.0,), (2.0,), steps=2, synapse_decay=real(0.25, 0.75))))
    assert (numbers(fading.synapse_decay), fading.synapse_bits) == ([1024, 3072], 12)


def test_numbers_that_are_the_same_in_every_channel_are_one() -> None:
    fields = {"decay": real(0.5, 0.5), "v_min": real(-1.0, -1.0), "threshold": real(2.0, 2.0)}
    cell = cell_of(quantized(rows((1.0,), (2.0,), steps=2, **fields)))
    assert (cell.decay, cell.v_min, cell.threshold) == (2048, -64, 127)  # s = 63½


@pytest.mark.parametrize(("weights", "threshold", "want", "theta"), [
    # Each row fills its word; its threshold is a whole number of its own.
    (((1.0, -0.5), (0.25, 0.125)), 1.0, [[127, -64], [127, 64]], [127, 508]),
    (((1.0, -0.5), (0.5, 1.0)), 0.3, [[127, -63], [63, 127]], 38),  # s = 38 / 0.3 twice: one number
    (((0.0, 0.0), (0.5, 1.0)), 1.0, [[0, 0], [64, 127]], 127),  # weights of zero leave a scale: s·θ = 127
    (((2.0, 1.0), (100.0, 1.0)), 64.0, [[127, 64], [127, 1]], [4064, 81]),  # s = 63½, and 81 / 64 for 1.27
])  # fmt: skip
def test_per_channel_each_row_fills_its_word(weights: Any, threshold: float, want: Any, theta: Any) -> None:
    after = quantized(rows(*weights, threshold=threshold, max_spikes=3), per_channel=True)
    node = after.by_name["c"]
    assert isinstance(node, Linear)
    assert (node.weight.array.tolist(), numbers(cell_of(after).threshold)) == (want, theta)


def test_per_channel_potentials_and_ties_follow_the_scale_of_the_channel() -> None:
    """s = 127 and 254: biases, bounds and pre-charges are so many times the real ones."""
    fields: dict[str, Any] = {
        "reset": Reset.VALUE,
        "reset_to": 0.25,
        "v_min": -0.5,
        "v_init": 0.75,
        "decay": 1.0,
    }
    before = rows((1.0,), (0.5,), bias=real(0.5, 0.25), rounding=Rounding.HALF_UP, steps=2, **fields)
    after = quantized(before, per_channel=True)
    cell, node = cell_of(after), after.by_name["c"]
    assert isinstance(node, Linear)
    assert node.bias is not None
    assert node.bias.array.tolist() == [64, 64]  # 63½ to even, twice
    assert numbers(cell.threshold) == [127, 254]
    assert numbers(cell.precharge) == [63, 127]
    assert (numbers(cell.reset_to), numbers(cell.v_min)) == ([32, 64], [-64, -127])
    assert numbers(cell.v_init) == [95, 190]
    assert cell.rounds_half_up


def test_per_channel_the_accumulator_lowers_the_scale_of_its_channel_alone() -> None:
    """127·300·1¼ leaves 2^15 - 2^7, as in a layer of one: s falls to 0.99 / 1.459 of what it was."""
    before = rows((1.0, 0.0), (0.5, 0.0), (0.1, 0.1), levels=300, threshold=1.0)
    x = np.array([[[300, 0]]])
    found = [
        numbers(cell_of(quantized(before, x, state_bits=16, per_channel=each)).threshold)
        for each in (False, True)
    ]
    assert found == [86, [86, 172, 861]]


def test_a_potential_that_a_channels_weights_dwarf_bounds_its_scale() -> None:
    """Weights of 1e-9 would fill their word at s = 1.27e11, which no 32-bit bias holds."""
    after = quantized(
        rows((1e-9,), (1.0,), bias=real(0.5, 0.5), v_min=-3.0, steps=2, decay=1.0), per_channel=True
    )
    cell = cell_of(after)
    assert cell.threshold.array.tolist()[1] == 127
    room = 2**31 - 2**7
    assert 0 < -cell.v_min.array.tolist()[0] <= room
    assert cell.v_min.array.tolist()[0] == pytest.approx(-3 * cell.threshold.array.tolist()[0], abs=2)


TIED: dict[str, tuple[Graph, str]] = {
    "branches": (
        graph(
            Linear(name="c", inputs=("x",), weight=real([1.0], [0.25])),
            Linear(name="d", inputs=("x",), weight=real([0.5], [0.125])),
            Add(name="a", inputs=("c", "d")),
            Neuron(name="n", inputs=("a",), source="net.n"),
            shape=(1,),
        ),
        "one scale for all channels of %n (net.n): several branches or neurons share a sum",
    ),
    "neurons": (
        graph(
            Linear(name="c", inputs=("x",), weight=real([1.0], [0.25])),
            Neuron(name="m", inputs=("c",), source="net.m"),
            Neuron(name="n", inputs=("c",), source="net.n", threshold=2.0),
            shape=(1,),
        ),
        "one scale for all channels of %m (net.m), %n (net.n): several branches or neurons share a sum",
    ),
    "readout": (
        rows((1.0,), (0.25,), max_spikes=0),
        "one scale for all channels of %n (net.n): the membranes of a readout have one unit",
    ),
    "signed": (
        rows((1.0,), (0.25,), max_spikes=9, signed=True),
        "one scale for all channels of %n (net.n): what a relay sends has one unit",
    ),
    "moved": (
        graph(
            Linear(name="c", inputs=("x",), weight=real([1.0], [0.25])),
            Reshape(name="v", inputs=("c",), shape=(1, 1, 2)),
            Neuron(name="n", inputs=("v",), source="net.n"),
            shape=(1,),
        ),
        "one scale for all channels of %n (net.n): its sums change channels before the neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIED)
def test_what_ties_channels_keeps_one_scale_and_says_why(name: str) -> None:
    before, line = TIED[name]
    quantize = Quantize(calibration=np.ones((1, 1, 1)), per_channel=True)
    after = quantize.run(before)
    assert quantize.told == [line]
    assert after == quantized(before)
    assert Quantize(calibration=np.ones((1, 1, 1))).told == []
