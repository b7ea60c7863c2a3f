"""Integer neurons in Loihi's units: what is refused, the edges of every field, what stays exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from loihi.test_random_networks import agree
from random_graphs import Builder, random_inputs
from simulator.simnets import Net, Way
from snncc.analysis.claims import layer_sums
from snncc.analysis.ranges import held, largest_counts
from snncc.compilation import Lowered, Options
from snncc.errors import CapacityError, raise_all
from snncc.hw.demands import demands, unmet
from snncc.ir import (
    Add,
    Const,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Output,
    OverTime,
    Reset,
    Reshape,
)
from snncc.ir.cell import Cell
from snncc.ir.interp import run
from snncc.ir.neurons import IntegerNeuron
from snncc.model import Model
from snncc.passes.bound_counts import BoundCounts
from snncc_loihi.emit import program
from snncc_loihi.fixed import next_current
from snncc_loihi.neurons import LoihiNeurons
from snncc_loihi.target import LOIHI1, LOIHI2, WINDOWS, loihi_target
from snncc_sim import SIMULATOR

THRESHOLD_MAX = 8388544  # 131071 << 6
ONE, TWO = (LoihiNeurons(custom, THRESHOLD_MAX) for custom in (False, True))
HARD: dict[str, Any] = {"reset": Reset.VALUE, "decay": 1}


def integer(steps: int = 4, levels: int = 1, weights_bias: int = 0, weight: int = 1, **fields: Any) -> Graph:
    """x → weight·x, plus weights_bias in the second of two → neurons ``n``."""
    layer = Linear(
        name="l",
        inputs=("x",),
        weight=Const(np.array([[weight], [weight]], np.int8)),
        bias=Const(np.array([0, weights_bias], np.int32)),
    )
    nodes = (
        Input(name="x", shape=(1,), levels=levels),
        layer,
        integer_neuron("n", "l", "net.n", **({"threshold": 5} | fields)),
        Output(name="o", inputs=("n",), over_time=OverTime.SUM),
    )
    return Graph("g", Family.INTEGER, nodes, steps)


def neuron(graph: Graph, name: str = "n") -> Cell:
    found = graph.by_name[name]
    assert isinstance(found, IntegerNeuron)
    return found.cell


def all_trains(steps: int, levels: int = 1) -> Any:
    """Every input of one address, [N, T, 1]."""
    axes = np.meshgrid(*[np.arange(levels + 1)] * steps, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, steps, 1)


# ---- unmet -----------------------------------------------------------------------------------------

NO = "[SNNC-C010] %n (net.n) on loihi1: the chip's "
WINDOWS_OVER_TIME = (
    "[SNNC-C015] network on loihi1: timesteps need a second accumulator while a window fires, got 4 timesteps, "
    "limit 1. Try a network of one timestep (SFA), or --target sim."
)
REFUSALS = {
    "levels": (
        HARD | {"max_spikes": 4},
        "[SNNC-C015] %n (net.n) on loihi1: the chip's neurons cannot gather a timestep's input before they fire, "
        "got counts up to 4, limit 1. Try single spikes a timestep, or a target whose neurons have windows.\n"
        f"{WINDOWS_OVER_TIME}",
    ),
    "soft": (
        {"decay": 1},
        f"{NO}neurons do not reset by subtraction, got soft reset. Try hard reset to 0.",
    ),
    "reset_to": (
        HARD | {"reset_to": -2},
        f"{NO}neurons are no programs, got a reset to another value than 0. Try a reset to 0.",
    ),
    "v_min": (
        HARD | {"v_min": -7},
        f"{NO}membranes have no lower clamp, got a bound v_min. Try no lower bound.",
    ),
    "v_init": (
        HARD | {"v_init": 3},
        f"{NO}membranes start a sample at zero, got v_init other than 0. Try v_init = 0.",
    ),
    "current": (
        HARD | {"synapse_decay": 4096, "synapse_bits": 12},
        f"{NO}neurons are no programs, got a synaptic current that never fades. Try a leak of the synapse.",
    ),
    "low bias": (
        HARD | {"bias": -4097, "weights_bias": 4097},
        "[SNNC-C009] %n (net.n): bias leaves its 13-bit mantissa, got -4097..0, limit -4096..4095. Try smaller biases against the weights, or --target loihi2.",
    ),
    "threshold": (
        HARD | {"threshold": 65537},
        "[SNNC-C009] %n (net.n): threshold leaves its field, got 65537, limit 65536.",
    ),
    "threshold, leaky": (
        HARD | {"threshold": 65536, "decay": 4000, "decay_bits": 12},
        "[SNNC-C009] %n (net.n): threshold leaves its field, got 65536, limit 65535.",
    ),
    "threshold, strict": (
        HARD | {"threshold": 65536, "strict": True},
        "[SNNC-C009] %n (net.n): threshold leaves its field, got 65536, limit 65535.",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_loihi1_refuses(name: str) -> None:
    fields, message = REFUSALS[name]
    with pytest.raises(CapacityError) as caught:
        on_loihi1(integer(**fields))
    assert str(caught.value) == message


def on_loihi1(graph: Graph) -> Graph:
    """The graph in the chip's units, if the chip has its neurons and room for their numbers."""
    made = ONE.run(graph)
    raise_all(unmet(demands(made, WINDOWS, largest_counts(made)), LOIHI1.chip))
    return made


def test_everything_that_a_neuron_asks_for_is_said_at_once_and_before_its_numbers() -> None:
    with pytest.raises(CapacityError) as caught:
        on_loihi1(integer(decay=1, v_min=-7, v_init=3, bias=5000, threshold=70000))
    assert [p.what for p in caught.value.problems] == [
        "the chip's neurons do not reset by subtraction",
        "the chip's membranes have no lower clamp",
        "the chip's membranes start a sample at zero",
    ]
    with pytest.raises(CapacityError) as caught:
        on_loihi1(integer(bias=5000, threshold=70000, **HARD))
    assert [p.what for p in caught.value.problems] == ["bias leaves its 13-bit mantissa"]


def test_loihi1_refuses_inputs_that_count() -> None:
    with pytest.raises(CapacityError) as caught:
        on_loihi1(integer(levels=3, **HARD))
    assert str(caught.value) == (
        "[SNNC-C015] %x on loihi1: the chip's neurons cannot gather a timestep's input before they fire, got "
        "counts up to 3, limit 1. Try single spikes a timestep, or a target whose neurons have windows.\n"
        f"{WINDOWS_OVER_TIME}"
    )


def test_a_chip_that_promises_more_than_its_own_neuron_has() -> None:
    """A description may say what it likes: without programs, no other neuron gets onto the chip."""
    chip = LOIHI1.chip.model_copy(
        update={"abilities": LOIHI1.chip.abilities.model_copy(update={"soft_reset": True})}
    )
    b = Builder(np.random.default_rng(2), (5,), 1, steps=3)
    b.add(Linear(name="l", inputs=(b.last,), weight=b.weights(4, 5)))
    b.add(Neuron(name="n", inputs=("l",), decay=1.0))
    graph = b.graph()
    with pytest.raises(CapacityError) as caught:
        loihi_target(chip).lower(Model(graph), random_inputs(graph, 4, 4), Options())
    assert str(caught.value) == (
        "[SNNC-C010] %n: is no neuron of the chip's own, and it runs no programs, got gain 2. Try --target loihi2."
    )


def test_loihi2_takes_inputs_that_count() -> None:
    assert neuron(TWO.run(integer(levels=3, **HARD))).gain == 2


def test_the_bias_of_the_weights_counts() -> None:
    """It, not the neuron's own, is where a convolution's bias stands."""
    with pytest.raises(CapacityError) as caught:
        ONE.run(integer(weights_bias=4090, bias=6, **HARD))
    assert str(caught.value) == (
        "[SNNC-C009] %n (net.n): bias leaves its 13-bit mantissa, got 6..4096, limit -4096..4095. Try smaller biases against the weights, or --target loihi2."
    )


def skip_over_eight_layers(steps: int) -> Graph:
    b = Builder(np.random.default_rng(2), (5,), 8, steps=steps)
    b.add(Linear(name="l0", inputs=(b.last,), weight=b.weights(4, 5), bias=b.vector(4, 0, 0.75)))
    skip = b.sfa("n0", 8, normalized=True)
    for i in range(1, 9):
        b.add(Linear(name=f"l{i}", inputs=(b.last,), weight=b.weights(4, 4), bias=b.vector(4, 0, 0.75)))
        b.sfa(f"n{i}", 8, normalized=True)
    b.add(Add(name="sum", inputs=(skip, b.last)))
    b.add(Linear(name="fc", inputs=("sum",), weight=b.weights(3, 4)))
    b.sfa("end", 8, normalized=True)
    return b.graph()


def test_a_skip_beyond_the_delay_bits_is_refused_where_timesteps_would_mix() -> None:
    graph = skip_over_eight_layers(steps=2)
    x = random_inputs(graph, 4, 4)
    with pytest.raises(CapacityError) as caught:
        LOIHI2.lower(Model(graph), x, Options())
    assert str(caught.value) == (
        "[SNNC-C012] %end: spikes that skip layers would wait too long, got 64, limit 62. Try fewer levels, "
        "or shorter skips, or --schedule graded where the chip offers it (one micro-step a layer)."
    )
    graded = LOIHI2.lower(Model(graph), x, Options("graded"))
    assert [c.delay for c in graded.mapped.pieces[-1].connections] == [8, 0]


def test_a_skip_beyond_the_delay_bits_comes_early_into_the_only_window() -> None:
    graph = skip_over_eight_layers(steps=1)
    x = random_inputs(graph, 4, 4)
    lowered = LOIHI2.lower(Model(graph), x, Options())
    assert [c.delay for c in lowered.mapped.pieces[-1].connections] == [0, 0]
    agree(lowered, x)


# ---- edges of the fields ------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", [ONE, TWO])
@pytest.mark.parametrize(
    ("threshold", "fields", "units"),
    [
        (65536, {}, THRESHOLD_MAX),
        (65535, {"decay": 4000, "decay_bits": 12}, THRESHOLD_MAX - 64),
        (65535, {"strict": True}, THRESHOLD_MAX - 64),
        (1, {}, 64),
    ],
)
def test_largest_and_least_thresholds(
    chip: LoihiNeurons, threshold: int, fields: dict[str, Any], units: int
) -> None:
    made = neuron(chip.run(integer(threshold=threshold, **HARD | fields)))
    assert (made.threshold, made.gain, made.precharge) == (units, 128, -1)


def test_the_largest_threshold_of_a_program() -> None:
    assert neuron(TWO.run(integer(threshold=4194272, decay=1))).threshold == THRESHOLD_MAX
    with pytest.raises(CapacityError) as caught:
        TWO.run(integer(threshold=4194273, decay=1))
    assert str(caught.value) == (
        "[SNNC-C009] %n (net.n): threshold leaves its field, got 4194273, limit 4194272."
    )


@pytest.mark.parametrize(("bias", "stock"), [(-4097, False), (-4096, True), (4095, True), (4096, False)])
def test_a_bias_beyond_the_mantissa_makes_a_program_where_there_are_any(bias: int, stock: bool) -> None:
    made = neuron(TWO.run(integer(weights_bias=bias, **HARD)))
    assert (made.gain, made.precharge) == ((128, -1) if stock else (2, 0))


@pytest.mark.parametrize(("decay", "bits"), [(4095, 12), (0, 12)])
def test_currents_that_the_decay_field_holds(decay: int, bits: int) -> None:
    assert neuron(ONE.run(integer(synapse_decay=decay, synapse_bits=bits, **HARD))).gain == 128


@pytest.mark.parametrize(("decay", "bits"), [(1, 0), (4096, 12)])
def test_currents_that_never_fade_make_a_program(decay: int, bits: int) -> None:
    assert neuron(TWO.run(integer(synapse_decay=decay, synapse_bits=bits, **HARD))).gain == 2


def test_programs_where_neurons_do_not_update_step_by_step() -> None:
    assert neuron(replace(TWO, native=False).run(integer(**HARD))).gain == 2
    assert neuron(TWO.run(integer(max_spikes=2, **HARD))).gain == 2


def test_a_stateless_neuron_forgets_as_well_as_twelve_bits_can() -> None:
    made = neuron(ONE.run(integer(decay=0)))
    assert (made.decay, made.decay_bits, made.reset, made.reset_to) == (1, 12, Reset.VALUE, 0)


@pytest.mark.parametrize("stock", [True, False])
def test_the_gain_of_products_stays_before_the_units(stock: bool) -> None:
    """Such a neuron is the host's; a readout's unit is that of the chip's alone."""
    graph = integer(5, gain=3, threshold=5, **HARD if stock else {"decay": 1, "v_min": -3})
    made = TWO.run(graph)
    assert (neuron(made).gain, neuron(made).threshold) == (6, 10)
    x = all_trains(5)
    counts = run(graph, x).values["n"]
    assert counts.any()
    assert np.array_equal(counts, run(made, x).values["n"])
    last = integer(1, gain=3, max_spikes=0, threshold=1)
    last = last.rewrite(
        lambda n: replace(n, decode=Decode.MEMBRANE, over_time=OverTime.NONE) if n.name == "o" else None
    )  # type: ignore[call-arg]
    assert np.array_equal(run(last, all_trains(1)).result, run(TWO.run(last), all_trains(1)).result)


# ---- what stays exact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("threshold", [1, 5, 6])
@pytest.mark.parametrize("bias", [0, -1, 3])
def test_the_strict_comparison_is_exact_without_a_leak(strict: bool, threshold: int, bias: int) -> None:
    graph = integer(6, weights_bias=bias, weight=3, threshold=threshold, strict=strict, **HARD)
    x = all_trains(6)
    before, after = (run(g, x).values["n"] for g in (graph, ONE.run(graph)))
    assert before.any()
    assert np.array_equal(before, after)


@pytest.mark.parametrize("weight", [3, -3, 127, -127])
@pytest.mark.parametrize("threshold", [1, 3, 127, 2048])
@pytest.mark.parametrize("bias", [0, 6, 130, 1920, 1921, 2048])
def test_a_stateless_neuron_of_small_sums_is_exact(weight: int, threshold: int, bias: int) -> None:
    """A sum that meets the threshold fires, one below it leaves less than half a unit: AND, OR and IAND are exact."""
    graph = integer(6, weights_bias=bias, weight=weight, threshold=threshold, decay=0)
    x = all_trains(6)
    assert np.array_equal(run(graph, x).values["n"], run(ONE.run(graph), x).values["n"])


@pytest.mark.parametrize("half_up", [False, True])
@pytest.mark.parametrize("threshold", [1, 4, 5])
def test_one_timestep_is_exact_whatever_the_neuron_was(half_up: bool, threshold: int) -> None:
    graph = integer(1, threshold=threshold, half_up=half_up)
    for weight in range(-8, 9):
        layer = replace(graph.by_name["l"], weight=Const(np.array([[weight], [weight]], np.int8)))  # type: ignore[call-arg]
        one = graph.rewrite(lambda n, new=layer: new if n.name == "l" else None)  # type: ignore[misc]
        x = all_trains(1)
        assert np.array_equal(run(one, x).values["n"], run(ONE.run(one), x).values["n"])


def test_with_a_leak_only_the_threshold_itself_is_decided_otherwise() -> None:
    leaky = HARD | {"decay": 2048, "decay_bits": 12}
    # Sums 6, 9, 10.5 (integers: 10), ...: a threshold of 9 is met in the second step, 8 is passed.
    x = np.ones((1, 3, 1), np.int64)
    for threshold, before, after in ((9, [0, 1, 0], [0, 0, 1]), (8, [0, 1, 0], [0, 1, 0])):
        graph = integer(3, weight=6, threshold=threshold, **leaky)
        assert run(graph, x).values["n"][0, :, 0].tolist() == before
        assert run(ONE.run(graph), x).values["n"][0, :, 0].tolist() == after


@pytest.mark.parametrize("strict", [False, True])
def test_programs_are_doubled_and_exact(strict: bool) -> None:
    fields = {"strict": strict, "decay": 1, "v_min": -3, "v_init": 2, "max_spikes": 3}
    graph = integer(5, levels=2, weight=-2, weights_bias=4, threshold=3, **fields)
    x = all_trains(5, 2)
    assert np.array_equal(run(graph, x).values["n"], run(TWO.run(graph), x).values["n"])


# ---- ranges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "steps", "expected"),
    [
        ({"decay": 0}, 7, 1),
        ({"decay": 1}, 7, 7),
        ({"decay": 1.0}, 1, 1),
        ({"decay": 0.5}, 9, 2),
        ({"decay": 0.9}, 300, 10),
        ({"decay": 0, "synapse_decay": 1.0}, 5, 5),
        ({"decay": 1, "synapse_decay": 1.0}, 5, 15),
        ({"decay": Const(np.array([0.25, 0.75], np.float32))}, 50, 4),
    ],
)
def test_timesteps_that_a_membrane_holds(fields: dict[str, Any], steps: int, expected: int) -> None:
    assert held(Neuron(name="n", inputs=("x",), **fields), steps) == expected


@pytest.mark.parametrize(
    ("fields", "steps", "expected"),
    [
        ({"decay": 2048, "decay_bits": 12}, 2, 2),
        ({"decay": 1, "synapse_decay": 1}, 5, 15),
        ({"decay": 1, "synapse_decay": 2048, "synapse_bits": 12}, 3, 5),  # 1 + 1.5 + 1.75
        ({"decay": Const(np.array([1, 3], np.int8)), "decay_bits": 2}, 50, 4),
    ],
)
def test_timesteps_that_an_integer_membrane_holds(fields: dict[str, Any], steps: int, expected: int) -> None:
    assert held(integer_neuron("n", "x", **fields), steps) == expected


def test_counts_that_a_synaptic_current_reaches_are_not_clipped() -> None:
    """0.6 θ a step: currents 0.6, 1.2, 1.8 θ; the sum of the inputs alone would allow one spike."""
    graph = integer(3, weight=6, threshold=10, max_spikes=9, decay=1, synapse_decay=1)
    x = np.ones((1, 3, 1), np.int64)
    bounded = BoundCounts().run(graph)
    assert run(graph, x).values["n"][0, :, 0].tolist() == [0, 1, 2]
    assert np.array_equal(run(graph, x).values["n"], run(bounded, x).values["n"])
    sums = next(iter(layer_sums(graph, x)))
    assert sums.observed == sums.all_inputs == (0, 36)


def lowered_lif(steps: int, x: Any, target: Any = LOIHI1, **fields: Any) -> Lowered:
    """16 addresses of inhibition only, whose membrane nothing resets."""
    layer = Linear(name="l", inputs=("x",), weight=Const(-np.ones((3, 16), np.float32)))
    nodes = (
        Input(name="x", shape=(16,), levels=1),
        layer,
        Neuron(name="n", inputs=("l",), **(HARD | {"decay": 1.0} | fields)),
        Output(name="o", inputs=("n",), over_time=OverTime.SUM),
    )
    return target.lower(Model(Graph("g", Family.FLOAT, nodes, steps)), x, Options())  # type: ignore[no-any-return]


def test_a_proven_membrane_holds_what_a_synaptic_current_collects() -> None:
    steps = 12
    x = np.ones((1, steps, 16), np.int64)
    lowered = lowered_lif(steps, x, synapse_decay=0.999)
    assert all(r.proven for r in lowered.certificate.ranges)
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, x.reshape(1, steps, 16, 1, 1))
    assert [a.saturations for a in activity.layers] == [0]


def test_leaks_leave_the_weights_their_bits() -> None:
    """A membrane that forgets holds a few timesteps' input, however many there are."""
    x = np.ones((1, 500, 16), np.int64)
    weights = lowered_lif(500, x, decay=0.75).integer_graph.by_name["l"]
    assert isinstance(weights, Linear)
    assert np.abs(weights.weight.array).min() >= 100


def test_spikes_added_up_in_one_micro_step_count_together() -> None:
    """A sum of two binary layers brings two spikes an address: more than one source's largest weight sum."""
    b = Builder(np.random.default_rng(1), (2, 4, 3), 1, steps=4)
    for i in range(2):
        b.conv(f"c{i}", b.last, 2, (3, 3), padding=(1, 1))
        b.add(Neuron(name=f"n{i}", inputs=(b.last,), **HARD))
    b.add(Add(name="sum", inputs=("n0", "n1")))
    b.add(Reshape(name="flat", inputs=("sum",), shape=(24,)))
    b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(3, 24)))
    b.add(Neuron(name="last", inputs=("fc",), **HARD))
    graph = b.graph().rewrite(lambda n: replace(n, over_time=OverTime.SUM) if isinstance(n, Output) else None)
    x = random_inputs(graph, 6, 2)
    lowered = LOIHI1.lower(Model(graph), x, Options())
    layer = lowered.integer_graph.by_name["fc"]
    assert isinstance(layer, Linear)
    w = layer.weight.array.astype(int)
    found = next(r for r in lowered.certificate.ranges if r.layer == "last" and r.quantity != "membrane")
    assert found.all_inputs == (2 * np.minimum(w, 0).sum(1).min(), 2 * np.maximum(w, 0).sum(1).max())
    # And the chip's own neuron does it: two connections, one update a timestep.
    entries = program(lowered.mapped, lowered.tensors, LOIHI1.chip)[0]["populations"]
    assert {e["process"] for e in entries} == {"lif"}
    assert lowered.mapped.micro_steps == 1


def test_a_current_at_the_lowest_word_is_an_excursion() -> None:
    """Lava's current wraps there, while the membrane, which started above zero, is still within its word."""
    net = Net((1024, 1, 1), levels=1, steps=1, period=1)
    way = Way(kernel=(1, 1), weight=np.full((1, 1024, 1, 1), -128))
    fields = {"reset": Reset.VALUE, "precharge": -1, "gain": 64, "decay": 1, "v_init": 999, "state_bits": 24}
    net.layer("a", 1, way, threshold=64, max_spikes=1, phase=1, synapse_decay=2048, synapse_bits=12, **fields)
    x = np.ones((2, 1, 1024, 1, 1), np.int32)
    x[1, 0, 0] = 0
    activity = SIMULATOR.execute(net.mapped(), net.tensors, x)
    assert activity.layers[0].out_of_range == (0,)
    currents = next_current(np.zeros(2, np.int64), np.array([-131072, -131072 + 128]), 2047)
    assert currents.tolist() == [2**23, -(2**23) + 64 * 128]
