"""Speck2e: the family's cores and limits, none of its constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from random_graphs import Builder, random_inputs
from snncc import api
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.errors import CapacityError
from snncc.ir import Graph
from snncc.model import Model
from snncc_speck import SPECK2E, SPECK2F


def network(shape: tuple[int, int, int] = (2, 6, 5), kernel: tuple[int, int] = (3, 3)) -> Graph:
    b = Builder(np.random.default_rng(3), shape, 3)
    b.conv("a", b.last, 4, kernel, padding=(1, 1))
    b.sfa("na", 3, normalized=True)
    b.conv("b", b.last, 3, (3, 3), stride=(2, 2))
    b.sfa("nb", 3, normalized=True)
    return b.graph()


GRAPH = network()
X = random_inputs(GRAPH, 5, 1)


def test_it_has_the_familys_limits_and_no_constants() -> None:
    mine, other = SPECK2E.chip, SPECK2F.chip
    assert mine.limits.model_copy(update={"source": other.limits.source}) == other.limits
    assert mine.abilities.model_copy(update={"source": other.abilities.source}) == other.abilities
    held = [
        {i: {r: b.limit for r, b in c.resources.items()} for i, c in chip.cores.items()}
        for chip in (mine, other)
    ]
    assert held[0] == held[1]
    assert [i for i, c in mine.cores.items() if c.errata] == [0, 1]
    assert all(value is None for _, value in mine.costs)
    assert all(core.synop_time_ns is None for core in mine.core_kinds)


def test_a_network_is_compiled_as_for_speck2f() -> None:
    made, other = (t.lower(Model(GRAPH), X, Options()) for t in (SPECK2E, SPECK2F))
    assert made.mapped == other.mapped.model_copy(update={"target": "speck2e"})
    assert SPECK2E.emit(made).keys() == {"speck2e.json", "schedule.json"}


def test_it_verifies_and_its_costs_are_unknown(tmp_path: Path) -> None:
    artifact = api.compile(Model(GRAPH), target="speck2e", out=tmp_path / "out", calib=Dataset(X))
    assert api.verify(artifact, Dataset(X)).equivalent
    cost = api.simulate(artifact, Dataset(X)).cost
    assert "speck2e" not in [e.model for e in cost.energy]
    assert cost.latency.mean_ns is None
    assert "time in ns: the chip's description has no time constants for this engine" in cost.not_modelled


def test_what_it_cannot_hold_is_named() -> None:
    wide = network((2, 70, 140), (17, 17))
    with pytest.raises(CapacityError) as caught:
        SPECK2E.lower(Model(wide), random_inputs(wide, 2, 1), Options())
    found = [str(p) for p in caught.value.problems]
    assert found[:3] == [
        "%na (na) on speck2e: kernel is too large, got 17x17, limit 16x16. Try pooling or stride before this layer.",
        "%na (na) on speck2e: input map is too large, got 70x140, limit 128x128.",
        "%na (na) on speck2e: output map is too large, got 56x126, limit 64x64.",
    ]
