"""Detector and segmenter of the zoo: what they join, and what the host makes of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from snncc_torch import zoo
from snncc_torch.zoo.blocks import StepClassifier


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def predictions(cells: dict[tuple[int, int, int], list[float]], classes: int = 2) -> torch.Tensor:
    """[1, N] of a 32 × 32 image: the given cells (map, row, column) say something, all others -20."""
    maps = [torch.full((5 + classes, n, n), -20.0) for n in (4, 2)]
    for (level, row, column), values in cells.items():
        maps[level][:, row, column] = torch.tensor(values)
    raised = maps[1].repeat_interleave(2, 1).repeat_interleave(2, 2)
    return torch.cat([maps[0].flatten(), raised.flatten()])[None]


def test_a_cell_becomes_a_box():
    sure = predictions({(1, 1, 0): [0.0, logit(0.25), 0.0, math.log(0.5), logit(0.8), -20.0, 20.0]})
    (found,) = zoo.boxes(sure, 2, (32, 32))
    # Centre ((0 + 1/2)·16, (1 + 1/4)·16), sides 16 and 8.
    torch.testing.assert_close(found.corners, torch.tensor([[0.0, 16.0, 16.0, 24.0]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.8]))
    assert found.classes.tolist() == [1]
    assert zoo.boxes(sure, 2, (32, 32), threshold=0.81)[0].classes.tolist() == []


def test_overlapping_boxes_of_a_class_are_suppressed_and_others_are_not():
    big = math.log(4)

    def cell(x: float, score: float, first: bool) -> list[float]:
        return [logit(x), 0.0, big, big, logit(score), *((20.0, -20.0) if first else (-20.0, 20.0))]

    # Three 32-pixel boxes of map 0 around the same place, one of them of another class; one far to the right.
    cells = {
        (0, 1, 1): cell(0.9, 0.7, True),
        (0, 1, 2): cell(0.1, 0.9, True),
        (0, 2, 1): cell(0.9, 0.8, False),
    }
    cells[0, 1, 3] = cell(0.9, 0.6, True)
    (found,) = zoo.boxes(predictions(cells), 2, (32, 32))
    assert [round(s, 4) for s in found.scores.tolist()] == [0.9, 0.8, 0.6]
    assert found.classes.tolist() == [0, 1, 0]
    assert zoo.boxes(predictions(cells), 2, (32, 32), overlap=0.99)[0].scores.shape == (4,)


def test_images_of_a_batch_are_decoded_apart():
    one = predictions({(0, 0, 0): [0, 0, 0, 0, 9.0, 9.0, 0.0]})
    found = zoo.boxes(torch.cat([one, predictions({})]), 2, (32, 32))
    assert [len(f.scores) for f in found] == [1, 0]


def test_pixels_take_the_class_of_their_cell():
    scores = torch.zeros(1, 3, 2, 3)
    scores[0, 2, 1, 0] = scores[0, 1, 0, 2] = 1.0
    found = zoo.classes_of_pixels(scores.flatten(1), 3, (8, 12))
    expected = torch.zeros(1, 8, 12, dtype=torch.int64)
    expected[0, 4:, :4] = 2
    expected[0, :4, 8:] = 1
    assert torch.equal(found, expected)


def test_what_is_not_of_the_model_is_refused():
    with pytest.raises(ValueError, match=r"^boxes: predictions must be \[B, 224\], got \[1, 139\]$"):
        zoo.boxes(torch.zeros(1, 139), 2, (32, 32))
    text = r"^classes_of_pixels: scores must be \[B, 192\], got \[1, 3, 8, 8\]$"
    with pytest.raises(ValueError, match=text):
        zoo.classes_of_pixels(torch.zeros(1, 3, 8, 8), 3, (32, 32))
    for build in (zoo.e_spikeformer_segmenter, zoo.e_spikeformer_detector):
        text = f"^{build.__name__}: the image must be a multiple of 16 pixels, got 40$"
        with torch.device("meta"), pytest.raises(ValueError, match=text):
            build(img_size=40)


@pytest.mark.parametrize("name", ["e-spikeformer-segmenter", "e-spikeformer-detector"])
def test_what_the_host_reads_stands_where_the_module_puts_it(name):
    """A bias that favours class 1 in the last layers is what every cell says."""
    module, x = zoo.reduced(name)
    layer = module.classify if name.endswith("segmenter") else module.predict
    nn.init.zeros_(layer.weight)
    # Of the 5 classes of a pixel the second; of the 3 of a cell, behind its 5 numbers, the second, on both maps.
    chosen = 1 if name.endswith("segmenter") else 6
    layer.bias.data.copy_(torch.arange(len(layer.bias)) % 8 == chosen)
    with torch.no_grad():
        y = module(x)
    if name.endswith("segmenter"):
        assert zoo.classes_of_pixels(y, 5, (32, 32)).unique().tolist() == [1]
    else:
        (found,) = zoo.boxes(y, 3, (32, 32), threshold=0.3, overlap=1.0)
        assert (len(found.scores), found.classes.unique().tolist()) == (20, [1])


@pytest.mark.parametrize("name", ["e-spikeformer-segmenter", "e-spikeformer-detector"])
def test_every_weight_but_the_images_reads_counts_of_spikes(name):
    module, x = zoo.reduced(name)
    seen = {}
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            part.register_forward_hook(lambda _, args, __, path=path: seen.__setitem__(path, args[0]))
    with torch.no_grad():
        module(x)
    first = next(iter(seen))
    assert [path for path, v in seen.items() if not torch.equal(4 * v, (4 * v).round())] == [first]
    joined = seen["fuse.0.0" if name.endswith("segmenter") else "merge.0.0"]
    assert joined.shape[1] == (24 if name.endswith("segmenter") else 16)
    assert torch.equal(joined[:, -8:, ::2, ::2], joined[:, -8:, 1::2, 1::2])  # what was raised


def test_events_take_frames_or_an_image_for_every_frame():
    module, x = zoo.reduced("e-spikeformer-events")
    assert isinstance(module, StepClassifier)
    with torch.no_grad():
        torch.testing.assert_close(module(x[:1].repeat(3, 1, 1, 1, 1)), module(x[0]))
        assert not torch.equal(module(x), module(x.flip(0)))  # its neurons remember
