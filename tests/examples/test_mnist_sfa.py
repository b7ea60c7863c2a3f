"""The committed example holds what the README says, on all 1,000 held-back digits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snncc
from snncc.artifact import Artifact
from snncc.data import Dataset

HERE = Path(__file__).parents[2] / "examples" / "mnist_sfa"
sys.path.insert(0, str(HERE))

from data import digits  # noqa: E402


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    _, (x, y) = digits()
    assert x.shape == (1000, 1, 28, 28)
    return Dataset(x[:, None].astype(np.int64), y, "test")


def compiled(folder: Path, schedule: str) -> Artifact:
    """No further option: the checkpoint carries shape, timesteps and calibration inputs."""
    return snncc.compile(HERE / "model.pt", target="speck2f", schedule=schedule, out=folder / schedule)


def test_the_split_is_fixed_and_disjoint() -> None:
    (train, _), (test, _) = digits()
    again, _ = digits()
    assert (again[0] == train).all()
    seen = {image.tobytes() for image in train}
    assert len(train) == 4000
    # A few digits of the set are printed twice; none of them may leak beyond that.
    assert sum(image.tobytes() in seen for image in test) <= 2


def test_the_checkpoint_is_as_accurate_as_claimed(test_set: Dataset) -> None:
    assert (HERE / "model.pt").stat().st_size < 1_000_000
    net = torch.load(HERE / "model.pt", weights_only=False).eval()
    assert test_set.y is not None
    with torch.no_grad():
        decided = net(torch.from_numpy(test_set.x[:, 0]).float()).argmax(1).numpy()
    assert (decided == test_set.y).mean() >= 0.975


def test_exact_computes_the_integers_on_every_digit(tmp_path: Path, test_set: Dataset) -> None:
    found = snncc.verify(compiled(tmp_path, "exact"), test_set)
    assert found.equivalent
    assert found.samples == 1000
    assert [layer.compared for layer in found.layers] == [
        1000 * n for n in (16 * 28 * 28, 32 * 12 * 12, 64, 10)
    ]
    assert sum(layer.mismatches for layer in found.layers) == 0
    accuracy = found.accuracy
    assert accuracy.float is not None
    assert accuracy.integer is not None
    assert accuracy.float >= 0.975
    assert accuracy.integer >= accuracy.float - 0.01
    assert accuracy.spikes == accuracy.integer


def test_free_is_refused_with_figures(tmp_path: Path, test_set: Dataset) -> None:
    found = snncc.verify(compiled(tmp_path, "free"), test_set.first(100))
    assert not found.equivalent
    assert all(layer.mismatches > 0 for layer in found.layers)
    assert found.accuracy.spikes is not None
    assert found.accuracy.integer is not None
    assert found.accuracy.spikes < found.accuracy.integer - 0.3
    assert all(bound.outside == 0 for bound in found.bounds)
