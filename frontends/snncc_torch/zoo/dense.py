"""Detection and segmentation on E-SpikeFormer: maps of several sizes, upsampled, joined, read out.

Sources: E-SpikeFormer paper, section 5.1 and tables II and III, which give the tasks and the sizes of
whole models but not the heads (a fine-tuned two-stage detector and a semantic pyramid); these heads
are ours and small. All weights but the image's read spikes, also where maps join: spikes are
upsampled (each shown to several places) and concatenated, membranes never.

A captured graph has one result, read from one layer, so the predictions leave the module on one map
and flattened: what the coarse map says stands at every place that it was raised to, in channels behind
those of the fine map. What follows is arithmetic on a few numbers and belongs to the host:
:func:`boxes` and :func:`classes_of_pixels` read the joined predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from snncc_torch.nn import SFA
from snncc_torch.zoo.blocks import conv_bn
from snncc_torch.zoo.efficient import DIMS, Sizes, check_image, trunk
from snncc_torch.zoo.pyramid import Style

STRIDES = (8, 16)  # pixels a cell of a detector's two maps
# Numbers of one cell of a detector before its classes: centre x, y, log width, log height, objectness.
BOX = 5


def _raised(x: Tensor, factor: int) -> Tensor:
    """[B, C, H, W] → [B, C, factor·H, factor·W], each value repeated."""
    return F.interpolate(x, scale_factor=factor, mode="nearest") if factor > 1 else x


class Segmenter(nn.Module):
    """Spikes of all stages at 1/4 of the size, concatenated, mixed and classified.

    Args:
        stages: chain of trunk parts that end at 1/4, 1/8 and 1/16.
        laterals: one a stage, from its map to spikes [B, width, h, w].
        fuse: [B, 3·width, H/4, W/4] → spikes [B, width, H/4, W/4].
        classify: → [B, num_classes, H/4, W/4].
    """

    def __init__(
        self, stages: Sequence[nn.Module], laterals: Sequence[nn.Module], fuse: nn.Module, classify: nn.Module
    ) -> None:
        super().__init__()
        self.stages, self.laterals = nn.ModuleList(stages), nn.ModuleList(laterals)
        self.fuse = fuse
        self.classify = classify

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, num_classes·(H/4)·(W/4)] of images [B, in_channels, H, W]; see the module."""
        spikes = []
        for index, (stage, lateral) in enumerate(zip(self.stages, self.laterals, strict=True)):
            x = stage(x)
            spikes.append(_raised(lateral(x), 2**index))
        y: Tensor = self.classify(self.fuse(torch.cat(spikes, 1)))
        return y.flatten(1)


class Detector(nn.Module):
    """Anchor-free: one box a cell of the maps at 1/8 and 1/16; the finer also sees the coarser's spikes.

    Args:
        stages: chain of trunk parts that end at 1/8 and 1/16.
        laterals: one a stage, from its map to spikes [B, width, h, w].
        merge: from the finer spikes and the raised coarser ones [B, 2·width, h, w] to spikes.
        mixed: one a stage, from spikes to spikes of the same shape.
        predict: convolution in two groups, from the spikes of both maps on the finer, [B, 2·width, h, w],
            to [B, 2·(5 + num_classes), h, w].
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        laterals: Sequence[nn.Module],
        merge: nn.Module,
        mixed: Sequence[nn.Module],
        predict: nn.Module,
    ) -> None:
        super().__init__()
        self.stages, self.laterals = nn.ModuleList(stages), nn.ModuleList(laterals)
        self.merge = merge
        self.mixed = nn.ModuleList(mixed)
        self.predict = predict

    def forward(self, x: Tensor) -> Tensor:
        """Predictions [B, 2·(5 + num_classes)·(H/8)·(W/8)] of images [B, in_channels, H, W]."""
        spikes = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            spikes.append(lateral(x))
        fine, coarse = spikes
        fine = self.merge(torch.cat((fine, _raised(coarse, 2)), 1))
        fine, coarse = (part(s) for part, s in zip(self.mixed, (fine, coarse), strict=True))
        y: Tensor = self.predict(torch.cat((fine, _raised(coarse, 2)), 1))
        return y.flatten(1)


def _lateral(style: Style, dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(style.neuron(), style.layers(*conv_bn(dim, width)), style.neuron())


def _mixed(style: Style, inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(style.layers(*conv_bn(inputs, width, 3)), style.neuron())


@dataclass(frozen=True)
class _Base:
    """An E-SpikeFormer in the parts that end at 1/4, 1/8 and 1/16; used while a model is built.

    Attributes:
        style: of its neurons.
        dims: channels at the end of each part.
        parts: the chain.
    """

    style: Style
    dims: tuple[int, int, int]
    parts: tuple[nn.Module, nn.Module, nn.Module]


def _base(name: str, D: int, sizes: Sizes) -> _Base:
    style = Style(neuron=partial(SFA, D, True), steps=False)
    stem, blocks = trunk(name, style, sizes)
    dims = DIMS[name] if sizes.dims is None else sizes.dims
    chain = [*stem, *blocks]
    parts = nn.Sequential(*chain[:4]), nn.Sequential(*chain[4:7]), nn.Sequential(*chain[7:])
    return _Base(style, (dims[0], dims[1], dims[-1]), parts)


def e_spikeformer_segmenter(
    name: str = "m",
    *,
    num_classes: int = 150,
    img_size: int = 512,
    in_channels: int = 3,
    D: int = 4,
    width: int = 128,
    dims: Sequence[int] | None = None,
    depths: tuple[int, int] | None = None,
    heads: int = 8,
    mlp_ratio: int = 4,
    expansion: int = 4,
) -> Segmenter:
    """Semantic segmentation: images [B, in_channels, H, W] → scores of :func:`classes_of_pixels`.

    Args:
        name: of the E-SpikeFormer below.
        num_classes: of a pixel.
        img_size: only checked to be a multiple of 16.
        in_channels: of the image.
        D: largest integer of the neurons.
        width: channels of the head.
        dims: channels at 1/4, 1/8 and in the transformer stages, in place of the name's own.
        depths: blocks in the transformer stages, in place of the name's own.
        heads: of the attention.
        mlp_ratio: hidden over outer channels of all channel mixers.
        expansion: λ, channels of the values over those of the keys.
    """
    check_image("e_spikeformer_segmenter", img_size)
    base = _base(name, D, Sizes(in_channels, dims, depths, heads, mlp_ratio, expansion))
    laterals = [_lateral(base.style, dim, width) for dim in base.dims]
    fuse = _mixed(base.style, 3 * width, width)
    return Segmenter(base.parts, laterals, fuse, nn.Conv2d(width, num_classes, 1))


def e_spikeformer_detector(
    name: str = "m",
    *,
    num_classes: int = 80,
    img_size: int = 640,
    in_channels: int = 3,
    D: int = 4,
    width: int = 128,
    dims: Sequence[int] | None = None,
    depths: tuple[int, int] | None = None,
    heads: int = 8,
    mlp_ratio: int = 4,
    expansion: int = 4,
) -> Detector:
    """Object detection: images [B, in_channels, H, W] → predictions of :func:`boxes`.

    Args:
        name: of the E-SpikeFormer below.
        num_classes: of an object.
        img_size: only checked to be a multiple of 16.
        in_channels: of the image.
        D: largest integer of the neurons.
        width: channels of the head.
        dims: channels at 1/4, 1/8 and in the transformer stages, in place of the name's own.
        depths: blocks in the transformer stages, in place of the name's own.
        heads: of the attention.
        mlp_ratio: hidden over outer channels of all channel mixers.
        expansion: λ, channels of the values over those of the keys.
    """
    check_image("e_spikeformer_detector", img_size)
    base = _base(name, D, Sizes(in_channels, dims, depths, heads, mlp_ratio, expansion))
    style, (quarter, eighth, sixteenth) = base.style, base.parts
    laterals = [_lateral(style, dim, width) for dim in base.dims[1:]]
    mixed = [_mixed(style, width, width) for _ in STRIDES]
    predict = nn.Conv2d(2 * width, 2 * (BOX + num_classes), 1, groups=2)
    stages = [nn.Sequential(quarter, eighth), sixteenth]
    return Detector(stages, laterals, _mixed(style, 2 * width, width), mixed, predict)


# ---- on the host --------------------------------------------------------------------------------


def classes_of_pixels(scores: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Class of every pixel, int64 [B, H, W].

    Args:
        scores: of a :class:`Segmenter`, [B, num_classes·(H/4)·(W/4)].
        num_classes: of the model.
        size: (H, W) of the images.

    Raises:
        ValueError: the scores are not of such a model and image.
    """
    cells = (size[0] // 4, size[1] // 4)
    wanted = num_classes * cells[0] * cells[1]
    if scores.shape[1:] != (wanted,):
        raise ValueError(f"classes_of_pixels: scores must be [B, {wanted}], got {list(scores.shape)}")
    return _raised(scores.view(-1, num_classes, *cells).argmax(1, keepdim=True).float(), 4)[:, 0].long()


@dataclass(frozen=True)
class Boxes:
    """Objects found in one image, the surest first.

    Attributes:
        corners: left, top, right, bottom in pixels, float32 [K, 4].
        scores: 0..1, float32 [K].
        classes: int64 [K].
    """

    corners: Tensor
    scores: Tensor
    classes: Tensor


def boxes(
    predictions: Tensor,
    num_classes: int,
    size: tuple[int, int],
    threshold: float = 0.5,
    overlap: float = 0.5,
) -> list[Boxes]:
    """Objects of every image: cells decoded, unsure ones dropped, overlapping ones of a class suppressed.

    A cell at column c, row r of the map with stride s says x, y, w, h, o and one number a class: the
    centre is ((c + σ(x))·s, (r + σ(y))·s), the sides are s·exp(w), s·exp(h), and the score of the
    largest class k is σ(o)·σ(k).

    Args:
        predictions: of a :class:`Detector`, [B, 2·(5 + num_classes)·(H/8)·(W/8)].
        num_classes: of the model.
        size: (H, W) of the images.
        threshold: least score.
        overlap: intersection over union beyond which the less sure box of a class is dropped.

    Raises:
        ValueError: the predictions are not of such a model and image.
    """
    shape = (len(STRIDES), BOX + num_classes, size[0] // STRIDES[0], size[1] // STRIDES[0])
    if predictions.shape[1:] != (math.prod(shape),):
        raise ValueError(f"boxes: predictions must be [B, {math.prod(shape)}], got {list(predictions.shape)}")
    maps = predictions.view(-1, *shape)
    steps = [s // STRIDES[0] for s in STRIDES]
    decoded = [_cells(maps[:, i, :, ::n, ::n], STRIDES[i]) for i, n in enumerate(steps)]
    corners, scores = (torch.cat(parts, 1) for parts in zip(*decoded, strict=True))
    return [_of_image(c, s, threshold, overlap) for c, s in zip(corners, scores, strict=True)]


def _cells(found: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Corners [B, h·w, 4] and scores [B, h·w, num_classes] of one map [B, 5 + num_classes, h, w]."""
    rows, columns = torch.meshgrid(torch.arange(found.shape[2]), torch.arange(found.shape[3]), indexing="ij")
    centre = (torch.stack((columns, rows)) + found[:, :2].sigmoid()) * stride
    half = found[:, 2:4].exp() * (stride / 2)
    corners = torch.cat((centre - half, centre + half), 1)
    scores = found[:, 4:BOX].sigmoid() * found[:, BOX:].sigmoid()
    return corners.flatten(2).transpose(1, 2), scores.flatten(2).transpose(1, 2)


def _of_image(corners: Tensor, scores: Tensor, threshold: float, overlap: float) -> Boxes:
    best, classes = scores.max(1)
    order = best.argsort(descending=True, stable=True)
    kept: list[int] = []
    for index in order[best[order] >= threshold].tolist():
        rivals = [k for k in kept if classes[k] == classes[index]]
        if not rivals or bool((_overlaps(corners[index], corners[rivals]) <= overlap).all()):
            kept.append(index)
    return Boxes(corners[kept], best[kept], classes[kept])


def _overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of ``box`` [4] with each of ``others`` [K, 4]."""
    sides = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])
    shared = sides.clamp_min(0).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared)
