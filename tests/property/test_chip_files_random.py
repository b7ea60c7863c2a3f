"""The files a board would get, played back by an independent reader, compute the integers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chip_replay import Chip
from random_graphs import random_inputs, speck_graphs
from snncc.compilation import Options
from snncc.ir import Graph, Input
from snncc.ir.batches import in_chunks
from snncc.model import Model
from snncc_speck import SPECK2F
from speck_nets import conv, lower, spiking


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(speck_graphs(), st.integers(0, 2**16))
def test_the_chip_files_compute_the_integers(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 2, seed)
    lowered = SPECK2F.lower(Model(graph), x, Options())
    files = SPECK2F.emit(lowered)
    integer = in_chunks(lowered.integer_graph, x)
    for n, sample in enumerate(x[:, 0]):
        got = Chip(files).play(sample.reshape(lowered.mapped.inputs[0].shape))
        for piece in lowered.mapped.pieces:
            assert np.array_equal(got[piece.name], integer.values[piece.name][n, -1].reshape(piece.shape)), (
                piece.name
            )


@pytest.mark.parametrize(
    "what", ["weights", "rounds", "control", "threshold_low", "destination", "stride", "state"]
)
def test_the_replay_notices_a_wrong_file(what: str) -> None:
    nodes = (
        Input(name="x", shape=(2, 6, 4), levels=4),
        conv("c1", "x", 3, 2, padding=(1, 1)),
        spiking("n1", "c1"),
        conv("c2", "n1", 4, 3, stride=(2, 2), padding=(1, 1)),
        spiking("n2", "c2"),
    )
    lowered = lower(*nodes)
    files = dict(SPECK2F.emit(lowered))
    config, schedule = json.loads(files["speck2f.json"]), json.loads(files["schedule.json"])
    first, second = (config["cnn_layers"][str(t.core)] for t in lowered.mapped.tiles)
    if what == "weights":
        second["weights"] = np.array(second["weights"])[:, :, ::-1, ::-1].tolist()
    elif what == "rounds":
        schedule["steps"][-2]["rounds"] -= 1
    elif what == "control":
        weights = np.array(second["weights"])
        weights[:, -1] = 0
        second["weights"] = weights.tolist()
    elif what == "threshold_low":
        second["threshold_low"] = -1
    elif what == "destination":
        first["destinations"] = []
    elif what == "stride":
        second["dimensions"]["stride"] = {"x": 1, "y": 1}
    elif what == "state":
        second["neurons_initial_value"] = (np.array(second["neurons_initial_value"]) + 30).tolist()
    bad = {"speck2f.json": json.dumps(config).encode(), "schedule.json": json.dumps(schedule).encode()}
    x = np.random.default_rng(1).integers(0, 5, (2, 1, 2, 6, 4))
    want = in_chunks(lowered.integer_graph, x).values["n2"]
    assert all(np.array_equal(Chip(files).play(x[n, 0])["n2"], want[n, 0]) for n in range(2))
    assert any(not np.array_equal(Chip(bad).play(x[n, 0])["n2"], want[n, 0]) for n in range(2))
