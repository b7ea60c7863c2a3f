"""Segments of a Loihi network: one program each, the host's islands in between, and the result the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from divided_nets import NEEDS, mixed_graphs, network
from random_graphs import random_inputs
from snncc import api
from snncc.artifact import Artifact
from snncc.equivalence import segmented
from snncc.equivalence.segmented import run_program
from snncc.errors import CapacityError
from snncc.hw.spec import ChipSpec
from snncc.ir import Graph
from snncc.ir.batches import in_chunks
from snncc.mapping.mapped import InputPort, Mapped, Part
from snncc.mapping.segments import played, port_sources, segment
from snncc.model import Model
from snncc_loihi.reference import run_reference
from snncc_loihi.target import LOIHI2

RELAXED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def poorer(*denied: str) -> ChipSpec:
    """Loihi 2 without some of its abilities."""
    abilities = LOIHI2.chip.abilities.model_copy(update=dict.fromkeys(denied, False))
    return LOIHI2.chip.model_copy(update={"abilities": abilities})


def compiled(folder: Path, graph: Graph, *denied: str, graded: bool = False) -> tuple[Artifact, np.ndarray]:
    x = random_inputs(graph, 5, 3)
    made = api.compile(
        Model(graph, calibration=x), chip=poorer(*denied), out=folder / "out", force=True, graded=graded
    )
    return made, x


def run(made: Artifact, x: np.ndarray) -> dict[str, int]:
    """Values of each layer that the emitted program and the integer graph have differently."""
    inputs = made.spike_inputs(x, made.host_spikes(x))
    counts = run_program(made, run_reference, inputs)
    integer = in_chunks(made.integer_graph, x)
    found = {}
    for piece in made.mapped.pieces:
        want = integer.values[piece.name].reshape(counts[piece.name].shape)
        last = slice(-1, None) if piece.is_readout else slice(None)
        found[piece.name] = int((counts[piece.name][:, last] != want[:, last]).sum())
    return found


def test_every_segment_is_a_program_of_its_own(tmp_path: Path) -> None:
    graph = network(("soft", "leaks", "soft", "soft"), skip=0)
    made, x = compiled(tmp_path, graph, "leak_between_timesteps")
    folders = sorted(p.name for p in (made.path / "target").iterdir())
    assert folders == ["chip.0", "chip.1"]
    second = json.loads((made.path / "target/chip.1/network.json").read_text())
    phases = {p.name: p.phase for p in made.mapped.pieces}
    assert [(p["name"], p["phase"]) for p in second["inputs"]] == [("n1", phases["n1"]), ("n0", phases["n0"])]
    assert [p["name"] for p in second["populations"]] == ["n2", "n3", "last"]
    assert {t["piece"] for t in second["tiles"]} == {"n2", "n3", "last"}
    assert set(run(made, x).values()) == {0}


def test_what_the_host_sends_late_does_not_wait_on_the_chip(tmp_path: Path) -> None:
    graph = network(("leaks", "soft", "soft"), skip=0)
    made, x = compiled(tmp_path, graph, "leak_between_timesteps")
    part = made.mapped.parts[1]
    island = made.mapped.pieces[0]
    late = next(c.delay for c in made.mapped.pieces[2].connections if c.source == "n0")
    assert late > 0
    alone = segment(made.mapped, part)
    assert {p.name: p.phase for p in alone.inputs} == {"n0": island.phase, f"n0+{late}": island.phase + late}
    assert all(c.delay == 0 for p in alone.pieces for c in p.connections)
    assert port_sources(made.mapped, part) == {"n0": "n0", f"n0+{late}": "n0"}
    assert set(run(made, x).values()) == {0}
    limited = made.chip.limits.model_copy(update={"delay_max": 0})
    short = made.chip.model_copy(update={"limits": limited})
    assert api.check(Model(graph, calibration=x), chip=short).problems == ()


@RELAXED
@given(mixed_graphs(), st.sets(st.sampled_from(sorted(NEEDS.values()))))
def test_segments_and_islands_count_the_integers(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Graph, tuple[str, ...]], denied: set[str]
) -> None:
    try:
        made, x = compiled(tmp_path_factory.mktemp("divided"), drawn[0], *denied)
    except CapacityError:
        return  # everything on the host, or a sum that leaves the chip's word
    assert set(run(made, x).values()) == {0}


def test_graded_segments(tmp_path: Path) -> None:
    made, x = compiled(tmp_path, network(("soft", "hard", "soft")), "hard_reset", graded=True)
    assert all(port.graded for port in segment(made.mapped, made.mapped.parts[2]).inputs)
    assert set(run(made, x).values()) == {0}


def test_verify_runs_segments_and_islands(tmp_path: Path) -> None:
    made, x = compiled(tmp_path, network(("soft", "leaks", "soft")), "leak_between_timesteps")
    for executor in ("sim", "reference"):
        found = api.verify(made, api.as_dataset(x, None, made.float_graph, "inputs"), executor=executor)
        assert found.equivalent, executor
        assert [layer.name for layer in found.layers] == ["n0", "n1", "n2", "last"]


def test_the_free_schedule_has_no_islands(tmp_path: Path) -> None:
    """A host keeps to windows; where neurons fire as soon as they can, layers are refused by name."""
    graph = network(("floor", "soft"), steps=1)
    x = random_inputs(graph, 5, 3)
    found = api.check(Model(graph, calibration=x), chip=poorer("lower_clamp"), schedule="free")
    assert [p.code for p in found.problems] in ([], ["SNNC-C010"])
    if found.problems:
        assert "--partition" not in str(found.problems[0])


# ---- planted faults ---------------------------------------------------------------------------------


def test_planted_a_port_that_forgets_its_phase_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = network(("soft", "leaks", "soft"), skip=0)

    def hasty(self: InputPort, name: str, own: object = object.__getattribute__) -> object:
        return 0 if name == "phase" else own(self, name)  # type: ignore[operator]

    with monkeypatch.context() as planted:
        planted.setattr(InputPort, "__getattribute__", hasty)
        made, x = compiled(tmp_path, graph, "leak_between_timesteps")
    assert sum(run(made, x).values()) > 0


def test_planted_an_island_that_is_left_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = compiled(tmp_path, network(("soft", "leaks", "soft")), "leak_between_timesteps")
    right = segmented._island
    silent = lambda a, part, counts: {n: 0 * v for n, v in right(a, part, counts).items()}  # noqa: E731
    monkeypatch.setattr(segmented, "_island", silent)
    assert run(made, x)["n1"] > 0


def test_planted_a_border_map_that_is_shifted_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, x = compiled(tmp_path, network(("soft", "leaks", "soft"), skip=0), "leak_between_timesteps")

    def shifted(mapped: Mapped, part: Part, counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.roll(value, 1, axis=-1) for name, value in played(mapped, part, counts).items()}

    monkeypatch.setattr(segmented, "played", shifted)
    assert run(made, x)["n2"] > 0
