"""What networks ask of a chip: every ability is asked for, what denies it is refused, nothing else is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from random_graphs import random_inputs
from relay_nets import blocks, lowered_by
from snncc import api
from snncc.analysis.ranges import largest_counts
from snncc.compilation import Options
from snncc.errors import CapacityError, UsageError
from snncc.hw.demands import LACKING, Demand, demands, unmet
from snncc.hw.spec import Abilities, ChipSpec
from snncc.ir import (
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    MatMul,
    MaxPool2d,
    Neuron,
    Output,
    OverTime,
    Reset,
    SiteGate,
    Upsample,
)
from snncc.ir.node import describe
from snncc.ir.schedule import EXACT, Schedule
from snncc.model import Model
from snncc_loihi.target import GRADED, LOIHI1, LOIHI2, WINDOWS, loihi_target
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM, sim_target
from snncc_speck import SPECK2F

ALL = tuple(name for name in Abilities.model_fields if name != "source")


def able(base: ChipSpec, **changes: bool) -> ChipSpec:
    return base.model_copy(update={"abilities": base.abilities.model_copy(update=changes)})


FULL = able(SIM.chip, **dict.fromkeys(ALL, True))


def network(steps: int = 2, levels: int = 1, readout: bool = False, **fields: Any) -> Graph:
    """x → weights → ``n``, spiking or a readout."""
    weight = Const(np.array([[0.5, -0.25], [0.25, 0.75], [-0.5, 1.0]], np.float32))
    nodes = (
        Input(name="x", shape=(2,), levels=levels),
        Linear(name="l", inputs=("x",), weight=weight),
        Neuron(name="n", inputs=("l",), source="net.n", **({"decay": 1.0} | fields)),
        Output(
            name="o",
            inputs=("n",),
            decode=Decode.MEMBRANE if readout else Decode.COUNT,
            over_time=OverTime.SUM if steps > 1 else OverTime.NONE,
        ),
    )
    return Graph("net", Family.FLOAT, nodes, steps)


def masked(closed: int) -> Graph:
    """A convolution under a mask, in which ``closed`` rows and columns of three are left out, or none."""
    sites = np.ones((3, 3), np.uint8)
    sites[:closed, :closed] = 0
    nodes = (
        Input(name="x", shape=(1, 3, 3), levels=1),
        Conv2d(name="c", inputs=("x",), weight=Const(np.ones((1, 1, 3, 3), np.float32)), padding=(1, 1)),
        SiteGate(name="g", inputs=("c",), source="net.c", sites=Const(sites)),
        Neuron(name="n", inputs=("g",), source="net.n"),
        Output(name="o", inputs=("n",), decode=Decode.COUNT),
    )
    return Graph("net", Family.FLOAT, nodes)


def pooled(levels: int) -> Graph:
    """The larger of two inputs, weighted."""
    nodes = (
        Input(name="x", shape=(1, 1, 2), levels=levels),
        MaxPool2d(name="max", inputs=("x",), kernel=(1, 2), stride=(1, 2)),
        Conv2d(name="c", inputs=("max",), weight=Const(np.ones((1, 1, 1, 1), np.float32))),
        Neuron(name="n", inputs=("c",)),
        Output(name="o", inputs=("n",), decode=Decode.COUNT),
    )
    return Graph("net", Family.FLOAT, nodes)


def raised(factor: int) -> Graph:
    """A map raised by a factor in front of its weights."""
    size = 3 * factor
    nodes = (
        Input(name="x", shape=(1, 3, 3), levels=1),
        Upsample(name="u", inputs=("x",), source="net.u", factor=(factor, factor)),
        Conv2d(name="c", inputs=("u",), weight=Const(np.ones((1, 1, size, size), np.float32))),
        Neuron(name="n", inputs=("c",), source="net.n"),
        Output(name="o", inputs=("n",), decode=Decode.COUNT),
    )
    return Graph("net", Family.FLOAT, nodes)


LEAKS = Const(np.array([0.25, 0.5, 0.75], np.float32))
HARD: dict[str, Any] = {"reset": Reset.VALUE}
SFA: dict[str, Any] = {"levels": 4, "max_spikes": 4, "decay": 0.0}
N = "%n (net.n) on sim"


@dataclass(frozen=True)
class Case:
    """A network that asks for an ability, what a chip without it says, and a network that does not ask."""

    needs: Graph
    message: str
    modest: Graph
    schedule: str = "exact"
    other: str = "exact"  # schedule of the modest one


CASES = {
    "clocked": Case(
        network(1, **SFA),
        "[SNNC-C015] network on sim: the chip has no clock for micro-steps, got schedule exact. "
        "Try a schedule without micro-steps.",
        network(1, **SFA),
        other="free",
    ),
    "windows": Case(
        network(1, **SFA),
        f"[SNNC-C015] {N}: the chip's neurons cannot gather a timestep's input before they fire, "
        "got counts up to 4, limit 1. Try single spikes a timestep, or a target whose neurons have windows.",
        network(1, **SFA),
        other="free",
    ),
    "second_accumulator": Case(
        network(2, levels=4, max_spikes=4),
        "[SNNC-C015] network on sim: timesteps need a second accumulator while a window fires, "
        "got 2 timesteps, limit 1. Try a network of one timestep (SFA), or --target sim.",
        network(2),
    ),
    "leak_between_timesteps": Case(
        network(2, decay=0.75),
        f"[SNNC-C010] {N}: the chip's membranes do not leak between timesteps, got a leak to 3072/4096. "
        "Try neurons without leak (IF), or one timestep.",
        network(2),
    ),
    "hard_reset": Case(
        network(2, **HARD),
        f"[SNNC-C010] {N}: the chip's neurons do not reset to a value, got hard reset. "
        "Try soft reset, by subtraction of the threshold.",
        network(2),
    ),
    "soft_reset": Case(
        network(2),
        f"[SNNC-C010] {N}: the chip's neurons do not reset by subtraction, got soft reset. "
        "Try hard reset to 0.",
        network(2, **HARD),
    ),
    "lower_clamp": Case(
        network(2, v_min=-0.5),
        f"[SNNC-C010] {N}: the chip's membranes have no lower clamp, got a bound v_min. Try no lower bound.",
        network(2),
    ),
    "start_values": Case(
        network(2, v_init=0.25),
        f"[SNNC-C010] {N}: the chip's membranes start a sample at zero, got v_init other than 0. "
        "Try v_init = 0.",
        network(2),
    ),
    "synaptic_current": Case(
        network(2, synapse_decay=0.5),
        f"[SNNC-C010] {N}: the chip's neurons have no synaptic current, got a synaptic current. "
        "Try neurons without synaptic current.",
        network(2),
    ),
    "custom_neurons": Case(
        network(2, reset_to=0.25, **HARD),
        f"[SNNC-C010] {N}: the chip's neurons are no programs, got a reset to another value than 0. "
        "Try a reset to 0.",
        network(2, **HARD),
    ),
    "gates_sites": Case(
        masked(2),
        "[SNNC-C012] %g (net.c) on sim: the chip's layers work at every site of their maps, got a site_gate "
        "that closes 4 of 9 sites. Try a network without mask, whose gates close nothing and go, or --target sim.",
        masked(0),
    ),
    "pools_counts": Case(
        pooled(2),
        "[SNNC-C010] %max.max on sim: the chip's neurons add up what they get and take no maximum of it, "
        "got a maximum of counts. Try max pooling of single spikes, behind a neuron of one spike a timestep.",
        pooled(1),
    ),
    "upsamples": Case(
        raised(2),
        "[SNNC-C012] %u (net.u) on sim: the chip's addresses raise no map to a larger one, got a map of 2×2 times "
        "the size. Try a detector or segmenter whose maps the host upsamples, or --target sim.",
        masked(0),
    ),
    "channel_numbers": Case(
        network(2, decay=LEAKS, reset_to=Const(np.array([0.0, 0.25, 0.5], np.float32)), **HARD),
        f"[SNNC-C010] {N}: the chip's layers hold one threshold, leak and reset for all channels, got decay "
        "1024..3072, reset_to 0..64 in 3 channels. Try one number for the layer, or --target sim.",
        # Of one timestep nothing is kept that leaks, or resets.
        network(1, decay=LEAKS, **HARD),
    ),
    "reads_membranes": Case(
        network(2, readout=True, max_spikes=0),
        "[SNNC-C017] %o on sim: the chip's membranes cannot be read, got a result that is a membrane "
        "potential. Try neurons that fire as the last layer: their spikes are counted.",
        network(2),
    ),
}


def lower(chip: ChipSpec, graph: Graph, schedule: str) -> Any:
    x = random_inputs(graph, 4, 1)
    lowered = sim_target(chip).lower(Model(graph), x, Options(schedule))
    counts = x.reshape(len(x), graph.steps, *lowered.mapped.inputs[0].shape)
    return SIMULATOR.execute(lowered.mapped, lowered.tensors, counts).result


@pytest.mark.parametrize("ability", CASES)
def test_a_chip_that_denies_an_ability_refuses_what_needs_it_and_nothing_else(ability: str) -> None:
    case, denied = CASES[ability], able(FULL, **{ability: False})
    with pytest.raises(CapacityError) as caught:
        lower(denied, case.needs, case.schedule)
    assert str(caught.value) == case.message
    assert np.array_equal(lower(denied, case.modest, case.other), lower(FULL, case.modest, case.other))
    lower(FULL, case.needs, case.schedule)


def asked(graph: Graph, schedule: Schedule) -> tuple[Demand, ...]:
    return demands(graph, schedule, largest_counts(graph))


def of(graph: Graph, schedule: Schedule) -> set[str]:
    """Abilities that the integer graph of a float graph asks for."""
    x = random_inputs(graph, 4, 1)
    made = sim_target(FULL).lower(Model(graph), x, Options())
    return {d.ability for d in asked(made.integer_graph, schedule)}


def relayed() -> Graph:
    """An integer graph whose membrane shortcut a relay carries."""
    graph = blocks(np.random.default_rng(4), count=1)
    return lowered_by(graph, random_inputs(graph, 3, 4), relay=True, graded=False)[0]


def clipped() -> Graph:
    """Counts stop at 2 where 3 can come."""
    return integer(1, levels=3, max_spikes=2)


def integer(steps: int, levels: int = 1, **fields: Any) -> Graph:
    nodes = (
        Input(name="x", shape=(1,), levels=levels),
        Linear(name="l", inputs=("x",), weight=Const(np.array([[5]], np.int8))),
        integer_neuron("n", "l", "net.n", **({"threshold": 5} | fields)),
        Output(name="o", inputs=("n",)),
    )
    return Graph("g", Family.INTEGER, nodes, steps)


def test_every_ability_is_asked_for_by_some_network() -> None:
    assert set(LACKING) == set(ALL)
    found = set().union(*(of(case.needs, EXACT) for case in CASES.values()))
    found |= {
        d.ability
        for g, s in ((relayed(), GRADED), (clipped(), EXACT), (multiplied(), EXACT))
        for d in asked(g, s)
    }
    assert found == set(ALL)
    assert {ability for ability, case in CASES.items() if ability not in of(case.needs, EXACT)} == set()


def multiplied() -> Graph:
    x = Input(name="x", shape=(2, 2), levels=1)
    product = MatMul(name="p", inputs=("x", "x"), source="net.p", integer=True)
    neuron = integer_neuron("n", "p", threshold=2)
    return Graph("g", Family.INTEGER, (x, product, neuron, Output(name="o", inputs=("n",))))


def told(graph: Graph, chip: ChipSpec, schedule: Schedule = EXACT) -> list[str]:
    return [f"[{p.code}] {p}" for p in unmet(asked(graph, schedule), chip)]


def test_counts_that_are_clipped() -> None:
    """A pass lowers them for chips that cannot; what is left after it is refused."""
    denied = able(FULL, clips_counts=False)
    assert told(clipped(), denied) == [
        f"[SNNC-C015] {N}: the chip holds no neuron back after its largest count, got at most 2 of 3 possible. "
        "Try neurons without a largest count."
    ]
    assert told(clipped(), FULL) == told(integer(1, levels=3, max_spikes=3), denied) == []
    graph = network(1, levels=9, max_spikes=2, decay=0.0)
    x = random_inputs(graph, 4, 1)
    made = sim_target(denied).lower(Model(graph), x, Options())
    assert "drop-clip" in [p.spec.split("{")[0] for p in made.certificate.passes]


@pytest.mark.parametrize("ability", ["graded_events", "signed_events"])
def test_relays(ability: str) -> None:
    chip = able(LOIHI2.chip, **{ability: False})
    lacks = {"graded_events": "carry no counts", "signed_events": "carry no sign"}[ability]
    graph = relayed()
    relays = [n for n in graph.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]
    assert told(graph, chip) == [
        f"[SNNC-C016] {describe(n)} on loihi2: the chip's events {lacks}, got a relay of sums up to "
        f"±{n.cell.max_spikes:,}. Try spike shortcuts in place of currents."
        for n in relays
    ]
    assert relays
    assert told(graph, LOIHI2.chip) == []
    graph = blocks(np.random.default_rng(4), count=1)  # such a chip gets copies of the weights
    made = loihi_target(chip).lower(Model(graph), random_inputs(graph, 3, 4), Options())
    assert not any(p.cell.signed for p in made.mapped.pieces)


def test_graded_schedules() -> None:
    chip = able(LOIHI2.chip, graded_events=False)
    assert told(integer(1, levels=3, max_spikes=3), chip, GRADED) == [
        "[SNNC-C016] network on loihi2: the chip's events carry no counts, got schedule graded. "
        "Try --schedule exact."
    ]
    with pytest.raises(UsageError, match="offers no such schedule, got graded"):
        loihi_target(chip).schedule("graded")


PROGRAMS = {
    "a reset by another amount than the threshold": ({"decay": 1, "reset_by": 4}, "a reset by the threshold"),
    "a synaptic current that never fades": (
        {"decay": 1, "synapse_decay": 4096, "synapse_bits": 12},
        "a leak of the synapse",
    ),
}


@pytest.mark.parametrize("got", PROGRAMS)
def test_what_only_a_program_computes(got: str) -> None:
    fields, hint = PROGRAMS[got]
    denied = able(FULL, custom_neurons=False)
    text = f"[SNNC-C010] {N}: the chip's neurons are no programs, got {got}. Try {hint}."
    assert told(integer(2, **fields), denied) == [text]
    assert told(integer(2, decay=1), denied) == []


def test_without_windows_every_spike_subtracts() -> None:
    denied = able(FULL, soft_reset=False)
    with pytest.raises(CapacityError) as caught:
        lower(denied, network(1, **SFA), "free")
    assert str(caught.value) == (
        f"[SNNC-C010] {N}: the chip's neurons do not reset by subtraction, got soft reset. Try hard reset to 0."
    )
    lower(denied, network(1, decay=0.0), "free")  # one spike, behind which nothing is read


def test_one_timestep_asks_for_no_memory() -> None:
    """Leak, resets, clamp and start value of a single timestep are bias: a chip without any of them is enough."""
    poor = able(
        FULL,
        **dict.fromkeys(
            ("second_accumulator", "leak_between_timesteps", "hard_reset", "lower_clamp", "start_values",
             "synaptic_current", "custom_neurons", "soft_reset"), False,
        ),
    )  # fmt: skip
    for fields in (SFA, HARD, {"decay": 0.5, "v_min": -1.0, "v_init": 0.5}, {"synapse_decay": 0.5}):
        graph = network(1, **fields)
        assert np.array_equal(lower(poor, graph, "exact"), lower(FULL, graph, "exact"))


@pytest.mark.parametrize("reset", [Reset.SUBTRACT, Reset.VALUE])
def test_what_forgets_asks_for_no_reset(reset: Reset) -> None:
    """Over timesteps a neuron without memory asks to forget, not for what a spike would leave."""
    poor = able(FULL, soft_reset=False, hard_reset=False)
    assert told(integer(3, reset=reset), poor) == []
    assert len(told(integer(3, reset=reset, decay=1), poor)) == 1


def test_everything_that_a_chip_lacks_is_said_at_once() -> None:
    poor = able(FULL, clocked=False, leak_between_timesteps=False, hard_reset=False, second_accumulator=False)
    with pytest.raises(CapacityError) as caught:
        lower(poor, network(4, decay=0.75, levels=2, max_spikes=2, **HARD), "exact")
    assert [p.what for p in caught.value.problems] == [
        "the chip has no clock for micro-steps",
        "timesteps need a second accumulator while a window fires",
        "the chip's neurons do not reset to a value",
        "the chip's membranes do not leak between timesteps",
    ]


def test_check_says_it_of_a_shipped_chip() -> None:
    graph = network(2, decay=0.75)
    found = api.check(Model(graph, calibration=random_inputs(graph, 4, 1)), target="speck2f")
    assert [f"[{p.code}] {p}" for p in found.problems] == [
        "[SNNC-C015] network on speck2f: timesteps need a second accumulator while a window fires, "
        "got 2 timesteps, limit 1. Try a network of one timestep (SFA), or --target sim.",
        "[SNNC-C010] %n (net.n) on speck2f: the chip's membranes do not leak between timesteps, "
        "got a leak to 3072/4096. Try neurons without leak (IF), or one timestep.",
    ]


def test_windows_are_asked_for_by_what_counts() -> None:
    """Neurons that count say the same as counted inputs; without either it is a spare micro-step, if there is one."""
    denied, spared = able(FULL, windows=False), replace(EXACT, spare=True)

    def names(graph: Graph, schedule: Schedule = EXACT) -> list[str]:
        return [d.where for d in asked(graph, schedule) if d.ability == "windows"]

    assert names(integer(1, levels=3, max_spikes=2)) == ["%n (net.n)"]
    assert names(integer(1, levels=3)) == ["%x"]
    assert names(integer(1)) == []
    assert names(integer(1), spared) == [""]
    assert told(integer(1), denied, spared) == [
        "[SNNC-C015] network on sim: the chip's neurons cannot gather a timestep's input before they fire, "
        "got schedule exact. Try a schedule without windows."
    ]
    assert told(integer(1), LOIHI1.chip, WINDOWS) == []  # it updates once a timestep
    assert (
        told(integer(1, levels=3, max_spikes=3), able(LOIHI2.chip, windows=False), GRADED) == []
    )  # so does this
    assert told(integer(3, decay=1, reset=Reset.VALUE), LOIHI1.chip, WINDOWS) == []


def test_shipped_chips_say_what_they_can() -> None:
    able_to = {
        t.name: {a for a in ALL if getattr(t.chip.abilities, a)} for t in (SIM, SPECK2F, LOIHI1, LOIHI2)
    }
    assert able_to["loihi2"] == set(ALL) - {
        "gates_sites", "multiplies_counts", "pools_counts", "upsamples", "channel_numbers",
    }  # fmt: skip
    assert able_to["sim"] == set(ALL) - {"synaptic_current"}
    assert able_to["loihi1"] == {
        "clocked", "clips_counts", "leak_between_timesteps", "hard_reset", "reads_membranes", "synaptic_current",
    }  # fmt: skip
    assert able_to["speck2f"] == {"windows", "hard_reset", "soft_reset", "start_values", "reads_membranes"}
