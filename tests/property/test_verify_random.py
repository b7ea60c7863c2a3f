"""Artifacts of random networks: no part disagrees with another, on every target and under every schedule."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import snncc
from random_graphs import lif_graphs, random_inputs, sfa_graphs, speck_graphs, stateful_graphs
from relay_nets import shortcut_graphs
from snncc.artifact import Artifact
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.errors import CapacityError, ModelError
from snncc.ir import Graph
from snncc.model import Model
from snncc.plugins import find_target
from snncc.store import write_artifact

WAYS = (
    "sim exact", "sim free", "speck2f exact", "speck2f free", "loihi1 exact",
    "loihi2 exact", "loihi2 free", "loihi2 graded",
)  # fmt: skip
ANY = st.one_of(sfa_graphs(), speck_graphs(), stateful_graphs(), lif_graphs(), shortcut_graphs())


def made(folder: Path, graph: Graph, x: np.ndarray, way: str) -> Artifact | None:
    name, schedule = way.split()
    target, model = find_target(name), Model(graph, calibration=x)
    if graph.steps > 1 and (schedule == "free" or name == "speck2f"):
        return None
    try:
        lowered = target.lower(model, x, Options(schedule))
    except (CapacityError, ModelError):
        return None
    return write_artifact(folder, model, lowered, target.emit(lowered), target.checker, force=False)


def agrees(graph: Graph, seed: int, way: str) -> None:
    x = random_inputs(graph, 4, seed)
    with tempfile.TemporaryDirectory() as folder:
        artifact = made(Path(folder) / "out", graph, x, way)
        if artifact is None:
            return
        found = snncc.verify(artifact, Dataset(x), workers=1)
        assert found.disagreements == ()
        assert found.equivalent == ("free" not in way)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY, st.integers(0, 2**16), st.sampled_from(sorted(WAYS)))
def test_no_part_disagrees(graph: Graph, seed: int, way: str) -> None:
    agrees(graph, seed, way)


@pytest.mark.campaign
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY, st.integers(0, 2**16), st.sampled_from(sorted(WAYS)))
def test_campaign(graph: Graph, seed: int, way: str) -> None:
    agrees(graph, seed, way)
