"""The executor ``reference``: the emitted files in numpy, against the simulator on the mapped network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import snncc
from random_graphs import Builder, lif_graphs, random_inputs, sfa_graphs, stateful_graphs
from relay_nets import shortcut_graphs
from snncc.compilation import Lowered, Options
from snncc.data import Dataset
from snncc.errors import CapacityError, ToolError
from snncc.ir import Graph, Linear, Reshape
from snncc.model import Model
from snncc_loihi.reference import run_reference
from snncc_loihi.target import LOIHI1, LOIHI2
from snncc_sim import SIMULATOR

RELAXED = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def written(lowered: Lowered, target: Any, folder: Path) -> Path:
    for name, data in target.emit(lowered).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def agree(lowered: Lowered, target: Any, x: Any, folder: Path) -> None:
    """Every count of every piece, and every membrane that is read, on inputs within the ranges."""
    maps = x.reshape(len(x), -1, *lowered.mapped.inputs[0].shape)
    simulated = SIMULATOR.execute(lowered.mapped, lowered.tensors, maps)
    found = run_reference(written(lowered, target, folder), maps)
    assert set(found) == {p.name for p in lowered.mapped.pieces}
    for piece in lowered.mapped.pieces:
        got, want = found[piece.name], simulated.counts[piece.name]
        assert got.shape == want.shape
        part = slice(-1, None) if piece.is_readout else slice(None)
        assert np.array_equal(got[:, part], want[:, part]), piece.name


@RELAXED
@given(st.one_of(sfa_graphs(), stateful_graphs()), st.integers(0, 2**16), st.booleans())
def test_windows_and_graded_events(tmp_path: Path, graph: Graph, seed: int, graded: bool) -> None:
    x = random_inputs(graph, 3, seed)
    agree(LOIHI2.lower(Model(graph), x, Options("graded" if graded else "exact")), LOIHI2, x, tmp_path)


@RELAXED
@given(lif_graphs(), st.integers(0, 2**16), st.sampled_from([LOIHI1, LOIHI2]))
def test_the_chips_own_neurons(tmp_path: Path, graph: Graph, seed: int, target: Any) -> None:
    x = random_inputs(graph, 3, seed)
    agree(target.lower(Model(graph), x, Options()), target, x, tmp_path)


@RELAXED
@given(shortcut_graphs(), st.integers(0, 2**16))
def test_relays_and_delayed_skips(tmp_path: Path, graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 3, seed)
    agree(LOIHI2.lower(Model(graph), x, Options()), LOIHI2, x, tmp_path)


@RELAXED
@given(sfa_graphs(), st.integers(0, 2**16))
def test_streams(tmp_path: Path, graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 3, seed)
    agree(LOIHI2.lower(Model(graph), x, Options("free")), LOIHI2, x, tmp_path)


def artifact(folder: Path) -> tuple[Path, Dataset]:
    b = Builder(np.random.default_rng(3), (2, 5, 4), 3)
    b.conv("c", b.last, 4, (3, 3), padding=(1, 0))
    b.sfa("n1", 3, normalized=True)
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(4 * 5 * 2,)))
    b.add(Linear(name="fc", inputs=("flat",), weight=b.weights(3, 40)))
    graph = b.graph()
    x = random_inputs(graph, 6, 1)
    snncc.compile(Model(graph, calibration=x), target="loihi2", out=folder)
    return folder, Dataset(x)


def test_verify_runs_it_without_a_lava_environment(tmp_path: Path) -> None:
    folder, data = artifact(tmp_path / "out")
    found = snncc.verify(folder, data, executor="reference")
    assert found.equivalent
    assert found.pair[1].startswith("reference")
    assert [layer.mismatches for layer in found.layers] == [0, 0]
    assert all(layer.compared > 0 for layer in found.layers)


def test_a_changed_file_computes_something_else(tmp_path: Path) -> None:
    """It executes the emitted files, not the mapped network beside them."""
    folder, data = artifact(tmp_path / "out")
    before = run_reference(folder / "target", data.x)
    path = folder / "target" / "network.json"
    network = json.loads(path.read_text())
    network["populations"][0]["neuron"]["threshold"] *= 2
    path.write_text(json.dumps(network))
    assert run_reference(folder / "target", data.x)["n1"].sum() < before["n1"].sum()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "x"}, "json: is another program, got ('x', 3), limit ('snncc-loihi-network', 3)."),
        (
            {"version": 1},
            "json: is another program, got ('snncc-loihi-network', 1), limit ('snncc-loihi-network', 3).",
        ),
        ({"connections": [{"source": "x"}]}, "contradicts itself, got KeyError('delay_by')."),
    ],
)
def test_files_that_are_no_network_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    folder, data = artifact(tmp_path / "out")
    path = folder / "target" / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ToolError) as caught:
        run_reference(folder / "target", data.x)
    assert str(caught.value).endswith(told)
    assert caught.value.code == "SNNC-T006"


def test_numbers_beyond_the_chips_fields_are_refused(tmp_path: Path) -> None:
    folder, data = artifact(tmp_path / "out")
    path = folder / "target" / "network.json"
    network = json.loads(path.read_text())
    network["connections"][1]["weight_exp"] = 9
    path.write_text(json.dumps(network))
    with pytest.raises(CapacityError) as caught:
        run_reference(folder / "target", data.x)
    last = network["connections"][1]["target"]
    assert str(caught.value) == f"[SNNC-C009] {last}: weight exponent out of range, got 9, limit -8..7."
