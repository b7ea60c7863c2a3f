"""Every ability in a chip's file is asked for by what needs it, and by nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc import api
from snncc.compilation import Options
from snncc.errors import CapacityError
from snncc.hw.demands import Demand, demands, unmet
from snncc.hw.spec import Abilities, ChipSpec
from snncc.ir import Const, Decode, Family, Graph, Input, Linear, Neuron, Output, OverTime
from snncc.ir.nodes import Reset
from snncc.ir.schedule import EXACT
from snncc.model import Model
from snncc.passes.expand_sfa import ExpandSFA
from snncc_loihi.neurons import programs_asked
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM, sim_target

NAMES = sorted(set(Abilities.model_fields) - {"source"})


def abilities(**without: bool) -> Abilities:
    return Abilities(source="", **(dict.fromkeys(NAMES, True) | without))


def integers(steps: int = 1, decode: Decode = Decode.COUNT, **numbers: Any) -> Graph:
    neuron = integer_neuron("n", "l", "net.n", **({"threshold": 3, "max_spikes": 2} | numbers))
    nodes = (
        Input(name="x", shape=(2,), levels=1),
        Linear(name="l", inputs=("x",), weight=Const(np.array([[2, -1], [1, 3]], np.int8))),
        neuron,
        Output(name="o", inputs=("n",), decode=decode),
    )
    return Graph("net", Family.INTEGER, nodes, steps)


def asked(graph: Graph, schedule: Any = EXACT) -> tuple[Demand, ...]:
    return demands(ExpandSFA(schedule, capped=True).run(graph), schedule)


READOUT: dict[str, Any] = {"max_spikes": 0, "threshold": 1, "decode": Decode.MEMBRANE}
CASES: dict[str, tuple[tuple[Demand, ...], str]] = {
    "clocked": (
        asked(integers()),
        "[SNNC-C015] net: the chip has no micro-steps, in which this schedule runs, got --schedule exact. "
        "Try a target with a clock.",
    ),
    "second_accumulator": (
        asked(integers(steps=3, decay=1)),
        "[SNNC-C015] net: timesteps need a second accumulator while a window fires, got 3 timesteps. "
        "Try a network of one timestep, or --target sim.",
    ),
    "leak_between_timesteps": (
        asked(integers(steps=2, decay=3, decay_bits=2)),
        "[SNNC-C010] %n (net.n): the chip's membranes do not leak between timesteps, "
        "got a leak of all but 3/4. Try a network of one timestep, or --target sim.",
    ),
    "hard_reset": (
        asked(integers(steps=2, decay=1, reset=Reset.VALUE, reset_to=-1)),
        "[SNNC-C010] %n (net.n): the chip's neurons do not reset to a value, got reset to -1. "
        "Try reset by subtraction.",
    ),
    "synaptic_current": (
        asked(integers(steps=2, decay=1, synapse_decay=1, synapse_bits=1)),
        "[SNNC-C010] %n (net.n): the chip's neurons have no synaptic current. "
        "Try a neuron without one, or --target loihi2.",
    ),
    "clips_counts": (
        asked(integers()),
        "[SNNC-C010] %n (net.n): the chip cannot hold a neuron back after its largest count, got 2 spikes. "
        "Try counts without a clip.",
    ),
    "graded_events": (
        asked(integers(), LOIHI2.schedules["graded"]),
        "[SNNC-C015] %x.spikes: the chip's events carry no counts, got up to 1. Try --target loihi2.",
    ),
    "reads_membranes": (
        asked(integers(**READOUT)),
        "[SNNC-C015] %o: the chip's membranes cannot be read back. Try a neuron as the last layer.",
    ),
    "custom_neurons": (
        tuple(programs_asked(integers(decay=1).layers["n"].neuron)),  # type: ignore[arg-type]
        "[SNNC-C010] %n (net.n): the chip's neurons send one spike a timestep at most, got 2 levels. "
        "Try --target loihi2, or binary neurons.",
    ),
}


def test_every_ability_is_asked_for_by_some_demand() -> None:
    assert sorted(CASES) == NAMES


@pytest.mark.parametrize("ability", NAMES)
def test_a_chip_without_it_is_refused_and_any_other_is_not(ability: str) -> None:
    found, message = CASES[ability]
    first = next(unmet(found, abilities(**{ability: False})))
    assert f"[{first.code}] {first}" == message
    assert list(unmet(found, abilities())) == []
    others = {name: False for name in NAMES if name not in {d.ability for d in found}}
    assert list(unmet(found, abilities(**others))) == []


def test_what_is_not_asked_for_need_not_be_there() -> None:
    """One timestep of stateless neurons, counted: a clock and a clip are all it takes."""
    assert {d.ability for d in asked(integers())} == {"clocked", "clips_counts"}
    native = integers(steps=4, decay=1, max_spikes=1)
    assert "second_accumulator" not in {d.ability for d in asked(native, LOIHI2.schedules["exact"])}


# ---- the whole way ------------------------------------------------------------------------------------


def edited(**without: bool) -> ChipSpec:
    changed = SIM.chip.abilities.model_copy(update=without)
    return SIM.chip.model_copy(update={"abilities": changed})


def lif(steps: int = 4) -> Model:
    neuron = Neuron(name="n", inputs=("l",), source="net.n", decay=0.5, reset=Reset.VALUE)
    nodes = (
        Input(name="x", shape=(2,), levels=1),
        Linear(name="l", inputs=("x",), weight=Const(np.array([[1.0, -0.5], [0.5, 1.5]], np.float32))),
        neuron,
        Output(name="o", inputs=("n",), decode=Decode.COUNT, over_time=OverTime.SUM),
    )
    x = np.random.default_rng(0).integers(0, 2, (6, steps, 2))
    return Model(Graph("net", Family.FLOAT, nodes, steps), calibration=x)


def test_a_chip_that_denies_everything_compiles_nothing_that_needs_it() -> None:
    """A leaky neuron with hard reset over four timesteps: each thing that the file denies is named once."""
    model = lif()
    assert model.calibration is not None
    denied = edited(
        clocked=False, leak_between_timesteps=False, hard_reset=False, second_accumulator=False
    )
    with pytest.raises(CapacityError) as caught:
        sim_target(denied).lower(model, model.calibration, Options())
    assert [(p.code, p.where) for p in caught.value.problems] == [
        ("SNNC-C015", "net"),
        ("SNNC-C015", "net"),
        ("SNNC-C010", "%n (net.n)"),
        ("SNNC-C010", "%n (net.n)"),
    ]
    SIM.lower(model, model.calibration, Options())
    one = lif(steps=1)
    assert one.calibration is not None
    patient = edited(leak_between_timesteps=False, hard_reset=False, second_accumulator=False)
    sim_target(patient).lower(one, one.calibration, Options())


def test_check_says_it_with_everything_else() -> None:
    found = api.check(lif(), target="speck2f")
    assert [p.code for p in found.problems].count("SNNC-C015") == 1
    assert any(p.what == "timesteps need a second accumulator while a window fires" for p in found.problems)
