"""The committed network of leaky neurons compiles for both Loihis and computes its integers there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snncc
from snncc.artifact import Artifact
from snncc.data import Dataset

HERE = Path(__file__).parents[2] / "examples" / "loihi_lif"
sys.path.insert(0, str(HERE))

from events import SIDE, T, digits, events  # noqa: E402

SAMPLES = 50


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    _, (images, classes) = digits()
    return Dataset(events(images).astype(np.int64), classes, "test")


@pytest.fixture(scope="module")
def loihi1(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """No further option: the checkpoint carries shape, timesteps and calibration inputs."""
    return snncc.compile(HERE / "model.pt", target="loihi1", out=tmp_path_factory.mktemp("lif") / "loihi1")


def test_a_moving_bar_sends_the_events_of_its_edges() -> None:
    """A bar on columns 8..11; the camera moves by (+1, +1), the picture by (-1, -1)."""
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[..., 8:12] = 4
    seen = events(image)
    assert seen.shape == (1, T, 2, SIDE, SIDE)
    # With a border of 6 and the camera's corner at (2, 2) it covers pixels 6 and 7 of rows 2..15; one
    # step later half of 5 and 7, half of rows 1 and 15; two steps later 5 and 6 of rows 1..14. Half
    # a pixel is bright, a quarter (at the bar's corners) is not.
    steps = [[np.argwhere(seen[0, t, c]).tolist() for c in (0, 1)] for t in (0, 1)]
    assert steps[0] == [[[1, 6]] + [[row, 5] for row in range(2, 15)], [[15, 7]]]
    assert steps[1] == [[[1, 5]], [[row, 7] for row in range(2, 15)] + [[15, 6]]]
    # The path is closed: what turned bright turned dark again, pixel by pixel.
    assert (seen[0, :, 0].sum(axis=0) == seen[0, :, 1].sum(axis=0)).all()


def test_events_differ_in_every_timestep_and_are_never_both(test_set: Dataset) -> None:
    assert set(np.unique(test_set.x)) == {0, 1}
    assert not (test_set.x[:, :, 0] & test_set.x[:, :, 1]).any()
    changed = (test_set.x[:, 1:] != test_set.x[:, :-1]).any(axis=(2, 3, 4))
    assert changed.all()


def test_the_checkpoint_is_as_accurate_as_claimed(test_set: Dataset) -> None:
    assert (HERE / "model.pt").stat().st_size < 300_000
    net = torch.load(HERE / "model.pt", weights_only=False).eval()
    assert test_set.y is not None
    with torch.no_grad():
        votes = net(torch.from_numpy(test_set.x).float().transpose(0, 1))
    assert (votes.argmax(1).numpy() == test_set.y).mean() >= 0.945


def test_loihi1_computes_the_integers(loihi1: Artifact, test_set: Dataset) -> None:
    found = snncc.verify(loihi1, test_set.first(SAMPLES))
    assert found.equivalent
    assert [layer.compared for layer in found.layers] == [
        SAMPLES * T * n for n in (16 * 16 * 16, 32 * 8 * 8, 32 * 4 * 4, 10)
    ]
    assert sum(layer.mismatches for layer in found.layers) == 0
    # Neurons do fire: nothing above would notice a silent network.
    assert found.accuracy.spikes is not None
    assert found.accuracy.spikes >= 0.8


def test_every_neuron_is_the_chips_own_and_netx_can_hold_the_network(loihi1: Artifact) -> None:
    network = json.loads((loihi1.path / "target" / "network.json").read_text())
    assert [p["process"] for p in network["populations"]] == ["lif"] * 4
    assert [p["lif"]["dv"] for p in network["populations"]] == [1024] * 4  # τ = 4
    assert network["netx"] == {"written": True, "why": None}
    assert (loihi1.path / "target" / "network.net").is_file()
    assert {t["piece"] for t in network["tiles"]} == {"lif1", "lif2", "lif3", "lif4"}


def test_loihi2_runs_the_same_program(tmp_path: Path, loihi1: Artifact, test_set: Dataset) -> None:
    other = snncc.compile(HERE / "model.pt", target="loihi2", out=tmp_path / "loihi2")
    few = test_set.first(10)
    assert snncc.verify(other, few).equivalent
    ones, twos = (snncc.simulate(artifact, few).activity for artifact in (loihi1, other))
    assert (ones.result == twos.result).all()
    assert all((ones.counts[name] == twos.counts[name]).all() for name in ones.counts)
