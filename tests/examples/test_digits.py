"""The four trained networks of the papers' kinds: what they decide, and that spikes compute their integers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snncc
from snncc.data import Dataset
from snncc.ir.batches import decisions, in_chunks

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES / "digits"))

from images import digits  # noqa: E402

# Timesteps, D, and the least share of 1,000 held-back digits that PyTorch gets right.
NETWORKS = {
    "e_spikeformer": (1, 4, 0.965),
    "spikingformer_cml": (4, 1, 0.97),
    "spikingformer_ilif": (2, 4, 0.985),
    "sew_resnet": (4, 1, 0.965),
}
FEW = 4


@pytest.fixture(scope="module")
def held_back() -> Dataset:
    _, (x, y) = digits()
    assert x.shape == (1000, 1, 32, 32)
    assert x.dtype == np.float32
    return Dataset(x, y, "test")


def shown(data: Dataset, name: str) -> Dataset:
    """The images at every timestep."""
    steps = NETWORKS[name][0]
    return Dataset(np.broadcast_to(data.x[:, None], (len(data), steps, 1, 32, 32)), data.y, data.origin)


def decided(name: str, x: np.ndarray) -> np.ndarray:
    net = torch.load(EXAMPLES / name / "model.pt", weights_only=False).eval()
    with torch.no_grad():
        return torch.cat([net(part).argmax(1) for part in torch.from_numpy(x).split(100)]).numpy()


def test_the_split_is_that_of_the_first_example() -> None:
    (train, _), (test, classes) = digits()
    assert train.shape == (4000, 1, 32, 32)
    assert not train[:, :, [0, 1, -1, -2]].any()
    assert (train.min(), train.max()) == (0, 1)
    assert np.bincount(classes).tolist() == [116, 99, 99, 96, 87, 103, 100, 112, 104, 84]
    seen = {image.tobytes() for image in train}
    assert sum(image.tobytes() in seen for image in test) <= 2


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_is_small_and_says_what_it_takes(name: str) -> None:
    path = EXAMPLES / name / "model.pt"
    assert path.stat().st_size < 1_000_000
    model = snncc.load_model(path)
    steps, levels, _ = NETWORKS[name]
    assert (model.graph.steps, model.graph.input.shape, model.graph.input.levels) == (steps, (1, 32, 32), 0)
    assert {n.max_spikes for n in model.graph.neurons if not n.is_readout} == {levels}
    assert model.calibration is not None


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_are_the_integers_on_a_few_digits(name: str, tmp_path: Path, held_back: Dataset) -> None:
    made = snncc.compile(EXAMPLES / name / "model.pt", target="sim", out=tmp_path / "sim")
    found = snncc.verify(made, shown(held_back.first(FEW), name))
    assert found.equivalent
    assert found.samples == FEW
    assert sum(layer.mismatches for layer in found.layers) == 0
    assert sum(layer.compared for layer in found.layers) > 1000 * FEW


def test_at_four_bits_scales_of_channels_decide_more_often_as_trained(
    tmp_path: Path, held_back: Dataset
) -> None:
    """docs/transformers.md has the figures of 1,000 digits; here 100, and spikes are the integers on a few."""
    name, data = "spikingformer_ilif", shown(held_back.first(100), "spikingformer_ilif")
    trained, agree = decided(name, held_back.x[:100]), []
    for each in (False, True):
        made = snncc.compile(
            EXAMPLES / name / "model.pt",
            target="sim",
            out=tmp_path / str(each),
            weight_bits=4,
            per_channel=each,
        )
        result = in_chunks(made.integer_graph, data.x, keep=()).result
        agree.append(int((decisions(made.integer_graph, result) == trained).sum()))
        found = snncc.verify(made, shown(held_back.first(FEW), name))
        assert found.equivalent
        assert sum(layer.mismatches for layer in found.layers) == 0
    assert agree[1] >= 98
    assert agree[1] > agree[0]
    notes = [n for n in made.certificate.notes if n.startswith("one scale for all channels")]
    assert [n.rsplit(": ", 1)[1] for n in notes] == [
        "several branches or neurons share a sum",
        "the membranes of a readout have one unit",
    ]


@pytest.mark.campaign
@pytest.mark.parametrize("name", NETWORKS)
def test_integers_decide_as_pytorch_and_spikes_as_integers_on_every_digit(
    name: str, tmp_path: Path, held_back: Dataset
) -> None:
    accurate = float((decided(name, held_back.x) == held_back.y).mean())
    assert accurate >= NETWORKS[name][2]
    made = snncc.compile(EXAMPLES / name / "model.pt", target="sim", out=tmp_path / "sim")
    found = snncc.verify(made, shown(held_back, name))
    assert found.equivalent
    assert sum(layer.mismatches for layer in found.layers) == 0
    accuracy = found.accuracy
    assert accuracy.float == pytest.approx(accurate, abs=0.002)
    assert accuracy.integer is not None
    assert accuracy.integer >= accurate - 0.01
    assert accuracy.spikes == accuracy.integer
