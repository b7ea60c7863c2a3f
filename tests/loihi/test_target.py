"""The Loihi targets as users meet them: graded and plain events, notes, tables, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loihi_nets import chip
from random_graphs import Builder, random_inputs
from snncc import api
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.errors import CapacityError, UsageError
from snncc.ir import Graph
from snncc.mapping.utilisation import utilisation_of
from snncc.model import Model
from snncc.session import utilisation
from snncc_loihi.partition import core_limits, partition
from snncc_loihi.resources import MODELS, readers_of
from snncc_loihi.target import LOIHI1, LOIHI2
from snncc_sim import SIMULATOR


def network(levels: int = 4) -> Graph:
    """Two layers of integers 0..levels and a readout, on maps with C, H and W all different."""
    b = Builder(np.random.default_rng(3), (2, 6, 5), levels)
    b.conv("a", b.last, 4, (3, 3), padding=(1, 1))
    b.sfa("na", levels, normalized=True)
    b.conv("b", b.last, 3, (3, 3), stride=(2, 2))
    b.sfa("nb", levels, normalized=True)
    return b.graph()


CHIP = chip("loihi2")
GRAPH = network()
X = random_inputs(GRAPH, 6, 1)


def test_a_graded_event_counts_once_and_accumulates_as_often_as_it_says() -> None:
    plain, graded = (LOIHI2.lower(Model(GRAPH), X, Options(name)) for name in ("exact", "graded"))
    assert str(graded.mapped.schedule) == "graded (clocked, window, graded)"
    assert (plain.mapped.micro_steps, graded.mapped.micro_steps) == (4, 1)
    assert graded.certificate.claim == plain.certificate.claim
    counts = X.reshape(len(X), 1, 2, 6, 5)
    a, b = (SIMULATOR.execute(n.mapped, n.tensors, counts) for n in (plain, graded))
    for piece, one, other in zip(plain.mapped.pieces, a.layers, b.layers, strict=True):
        assert np.array_equal(a.counts[piece.name], b.counts[piece.name])
        assert one.unit_operations == one.synaptic_operations == other.unit_operations
        assert other.synaptic_operations < one.synaptic_operations
        assert a.connection_events[piece.name] == b.connection_events[piece.name]
    # Events into the first layer: one for every address that is not silent.
    assert b.layers[0].events == int((X > 0).sum())
    assert a.layers[0].events == int(X.sum())


def test_the_table_counted_from_tiles_is_the_one_that_cut_them() -> None:
    mapped = LOIHI2.lower(Model(GRAPH), X, Options()).mapped
    table = utilisation_of(mapped, CHIP, LOIHI2.checker.use(mapped, CHIP))
    model, grids, readers = MODELS["loihi2"], partition(mapped, CHIP), readers_of(mapped)
    for row in table.rows:
        blocks = [
            model.use(row.piece, b, grids, readers, mapped.leaving) for b in grids[row.piece.name].blocks()
        ]
        assert {r: use.used for r, use in row.most.items()} == {
            r: max(b[r] for b in blocks) for r in blocks[0]
        }
        assert {r: use.limit for r, use in row.most.items()} == core_limits(CHIP)
        assert len(row.cores) == len(blocks)


def test_loihi1_refuses_counts_by_layer() -> None:
    with pytest.raises(CapacityError) as caught:
        LOIHI1.lower(Model(GRAPH), X, Options())
    assert [str(p) for p in caught.value.problems] == [
        f"%{n} ({n}) on loihi1: the chip's neurons cannot gather a timestep's input before they fire, "
        "got counts up to 4, limit 1. Try single spikes a timestep, or a target whose neurons have windows."
        for n in ("na", "nb")
    ]


def test_graded_is_short_for_a_schedule_that_the_chip_must_offer(tmp_path: Path) -> None:
    made = api.compile(Model(GRAPH), target="loihi2", out=tmp_path / "made", graded=True, calib=Dataset(X))
    assert (made.manifest.schedule, made.mapped.schedule) == ("graded", LOIHI2.schedules["graded"])
    with pytest.raises(UsageError) as caught:
        api.compile(Model(GRAPH), target="speck2f", out=tmp_path / "a", graded=True, calib=Dataset(X))
    assert str(caught.value) == (
        "[SNNC-U005] --graded: the chip's events carry no counts, got speck2f. Try loihi2."
    )
    with pytest.raises(UsageError) as caught:
        api.check(Model(GRAPH), target="loihi2", schedule="free", graded=True, calib=Dataset(X))
    assert str(caught.value) == (
        "[SNNC-U005] --graded: stands for --schedule graded and goes with no other, got --schedule free."
    )
    assert not (tmp_path / "a").exists()


def test_an_artifact_verifies_simulates_and_reports(tmp_path: Path) -> None:
    artifact = api.compile(Model(GRAPH), target="loihi2", out=tmp_path / "a", calib=Dataset(X))
    result = api.verify(artifact, Dataset(X))
    assert result.equivalent
    assert result.pair[1] == "sim (clocked) on mapped.json"
    simulation = api.simulate(artifact, Dataset(X))
    assert simulation.cost.latency.mean_ns is not None
    page = api.report(artifact, tmp_path / "r.html", data=Dataset(X)).read_text()
    assert "axons in" in page
    assert "limits of a core: axons in 16,000; neuron groups 8; neurons 4,095; " in page
    program = json.loads((tmp_path / "a" / "target" / "network.json").read_text())
    assert [p["name"] for p in program["populations"]] == [p.name for p in artifact.mapped.pieces]
    with pytest.raises(UsageError) as caught:
        api.verify(artifact, Dataset(X), executor="brian")
    assert (
        str(caught.value)
        == "[SNNC-U005] --executor: loihi2 has no such, got brian, limit sim, lava, reference."
    )


def test_the_page_names_each_layers_cores_and_what_each_range_is_of(tmp_path: Path) -> None:
    from snncc.reporting.svg import network_svg
    from snncc.reporting.tables import range_table

    artifact = api.compile(Model(GRAPH), target="loihi2", out=tmp_path / "a", calib=Dataset(X))
    figure = network_svg(artifact.mapped, utilisation(artifact))
    assert "no core" not in figure
    assert "kernel words" not in figure  # a memory of cores that this chip does not have
    assert "neuron groups" in figure
    for piece in artifact.mapped.pieces:
        cores = sorted(t.core for t in artifact.mapped.tiles if t.piece == piece.name)
        assert f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}" in figure
    table = range_table(artifact.certificate)
    assert [row[:2] for row in table.rows[:2]] == [
        (table.rows[0][0], "membrane"),
        (table.rows[0][0], "input of one micro-step"),
    ]


def test_without_a_lava_environment_only_lava_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snncc.errors import SnnccError
    from snncc_loihi.doctor import lava

    monkeypatch.delenv("SNNCC_LAVA_PYTHON", raising=False)
    monkeypatch.chdir(tmp_path)
    assert lava().status == "elsewhere"
    monkeypatch.setenv("SNNCC_LAVA_PYTHON", "/nowhere/python")
    assert lava().status == "unusable"
    assert lava().note == "SNNCC_LAVA_PYTHON=/nowhere/python: the interpreter does not exist"
    monkeypatch.delenv("SNNCC_LAVA_PYTHON")
    artifact = api.compile(Model(GRAPH), target="loihi2", out=tmp_path / "a", calib=Dataset(X))
    with pytest.raises(SnnccError) as caught:
        api.verify(artifact, Dataset(X), executor="lava")
    assert caught.value.code == "SNNC-T001"
    assert api.verify(artifact, Dataset(X)).equivalent


def test_an_interpreter_of_lava_without_lava_is_refused(tmp_path: Path) -> None:
    artifact = api.compile(Model(GRAPH), target="loihi2", out=tmp_path / "a", calib=Dataset(X))
    with pytest.raises(UsageError) as caught:
        api.verify(artifact, Dataset(X), python="python3.10")
    assert (
        str(caught.value)
        == "[SNNC-U005] --python: goes with an executor that runs elsewhere, got --executor sim."
    )
