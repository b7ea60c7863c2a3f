"""The schedule as a value: lengths and phases, its text, and how a target is asked for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from random_graphs import Builder, random_inputs
from simulator.simnets import conv_chain
from snncc import api
from snncc.data import Dataset
from snncc.errors import UsageError
from snncc.ir.schedule import EXACT, Engine, Release
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc.passes.base import Semantics, spec
from snncc.passes.expand_sfa import ExpandSFA
from snncc_loihi.target import LOIHI1, LOIHI2
from snncc_sim.target import SIM, TIANJIC
from snncc_speck import SPECK2F


def small() -> Model:
    b = Builder(np.random.default_rng(3), (2, 6, 5), 3)
    b.conv("a", b.last, 4, (3, 3), padding=(1, 1))
    b.sfa("na", 3, normalized=True)
    b.conv("b", b.last, 3, (3, 3), stride=(2, 2))
    b.sfa("nb", 3, normalized=True)
    return Model(b.graph())


@pytest.mark.parametrize(
    ("graded", "spare", "lengths"),
    [(False, False, [1, 2, 8]), (False, True, [2, 3, 9]), (True, False, [1, 1, 1]), (True, True, [2, 2, 2])],
)
def test_micro_steps_of_a_timestep(graded: bool, spare: bool, lengths: list[int]) -> None:
    schedule = replace(EXACT, graded=graded, spare=spare)
    assert [schedule.micro_steps(most) for most in (1, 2, 8)] == lengths


@pytest.mark.parametrize(
    ("release", "phases"),
    [(Release.WINDOW, [0, 5, 15]), (Release.STREAM, [0, 1, 3]), (Release.FREE, [0, 0, 0])],
)
def test_first_micro_step_of_a_depth(release: Release, phases: list[int]) -> None:
    schedule = replace(EXACT, release=release)
    assert [schedule.phase(depth, 5) for depth in (0, 1, 3)] == phases
    assert schedule.has_windows is (release is Release.WINDOW)


def test_the_pass_shows_it_and_preserves_what_it_promises() -> None:
    assert spec(ExpandSFA()) == "expand-sfa{schedule=exact (clocked, window), capped=True}"
    assert ExpandSFA().preserves is Semantics.EXACT
    counts = replace(EXACT, name="counts", promises=False, graded=True, spare=True)
    assert str(counts) == "counts (clocked, window, graded, spare)"
    assert ExpandSFA(counts).preserves is Semantics.APPROXIMATE


def test_what_the_targets_offer() -> None:
    offered = {t.name: {n: (s.promises, str(s)) for n, s in t.schedules.items()} for t in (SPECK2F, SIM)}
    assert offered == {
        "speck2f": {
            "exact": (True, "exact (gated, window)"),
            "free": (False, "free (event, free)"),
        },
        "sim": {
            "exact": (True, "exact (clocked, window)"),
            "free": (False, "free (event, free)"),
        },
    }
    assert TIANJIC.schedules == SIM.schedules
    assert list(LOIHI1.schedules) == ["exact"]  # soft reset, which streams need, is not on the chip
    assert str(LOIHI1.schedules["exact"]) == "exact (clocked, window)"
    assert str(LOIHI2.schedules["free"]) == "free (clocked, stream, spare)"
    for target in (SPECK2F, SIM, TIANJIC, LOIHI1, LOIHI2):
        assert all(name == s.name for name, s in target.schedules.items())
        assert all(s.claim.startswith("none: ") is not s.promises for s in target.schedules.values())


@pytest.mark.parametrize(
    ("target", "name", "known"), [("speck2f", "tuned", "exact, free"), ("loihi1", "free", "exact")]
)
def test_an_unknown_schedule_lists_those_of_the_target(
    target: str, name: str, known: str, tmp_path: Path
) -> None:
    model = small()
    x = Dataset(random_inputs(model.graph, 3, 1))
    with pytest.raises(UsageError) as caught:
        api.compile(model, target=target, schedule=name, out=tmp_path / "a", calib=x)
    assert str(caught.value) == (
        f"[SNNC-U005] --schedule: {target} offers no such schedule, got {name}, limit {known}."
    )
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError):
        api.check(tmp_path / "no.pt", target=target, schedule=name)


def test_it_is_stored_whole_and_read_back_strictly() -> None:
    mapped = conv_chain(Engine.GATED).mapped()
    text = mapped.model_dump_json()
    assert json.loads(text)["schedule"] == {
        "name": "exact",
        "promises": True,
        "claim": "",
        "engine": "gated",
        "release": "window",
        "graded": False,
        "spare": False,
    }
    assert Mapped.model_validate_json(text) == mapped
    assert mapped.engine is Engine.GATED
    for broken in ({"promises": 1}, {"engine": "steam"}, {"tempo": "allegro"}):
        data = json.loads(text)
        data["schedule"] |= broken
        with pytest.raises(ValidationError):
            Mapped.model_validate_json(json.dumps(data))


def test_an_artifact_and_its_verdict_name_the_schedule_and_its_promise(tmp_path: Path) -> None:
    model = small()
    x = Dataset(random_inputs(model.graph, 4, 1))
    for name, promises in (("exact", True), ("free", False)):
        artifact = api.compile(model, target="loihi2", schedule=name, out=tmp_path / name, calib=x)
        assert (artifact.manifest.schedule, artifact.certificate.schedule) == (name, name)
        assert artifact.mapped.schedule == LOIHI2.schedules[name]
        assert artifact.certificate.claim == LOIHI2.schedules[name].claim
        result = api.verify(artifact, x)
        assert (result.schedule, result.promises, result.equivalent) == (name, promises, promises)
