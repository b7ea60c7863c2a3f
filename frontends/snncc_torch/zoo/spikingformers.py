"""Spikingformer (Zhou et al. 2023) and its CML form: every weight meets binary spikes.

Sources: Spikingformer paper, section 4 and figure 2 (equations 9–14), appendix B (heads); CML paper,
section 3.2 (the stem with pooled currents).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from snncc_torch.nn import ILIF, PerStep
from snncc_torch.zoo.blocks import (
    Block,
    Head,
    SelfAttention,
    StepClassifier,
    check_heads,
    conv_bn,
    conv_stages,
    depth_and_dim,
    lif,
    stem_pools,
    stem_widths,
)


@dataclass(frozen=True)
class _Neurons:
    """Makers of neurons: ``attend`` of the one on the attention's product, ``fire`` of all others."""

    fire: Callable[[], nn.Module]
    attend: Callable[[], nn.Module]


def _neurons(tau: float, D: int | None) -> _Neurons:
    """LIF as published, or I-LIF with the same leak."""
    if D is None:
        return _Neurons(partial(lif, tau), partial(lif, tau, 0.5))
    integer = partial(ILIF, D, 1 - 1 / tau)
    return _Neurons(integer, integer)


def _block(dim: int, heads: int, hidden: int, scale: float, keys_first: bool, neurons: _Neurons) -> Block:
    def tokens(bias: bool) -> PerStep:
        return PerStep(nn.Conv1d(dim, dim, 1, bias=bias), nn.BatchNorm1d(dim))

    attention = SelfAttention(
        heads,
        scale,
        keys_first,
        pre=neurons.fire(),
        qkv=[nn.Sequential(tokens(False), neurons.fire()) for _ in range(3)],
        spike=neurons.attend(),
        proj=tokens(True),
        maps=False,
    )
    mlp = nn.Sequential(
        neurons.fire(),
        PerStep(*conv_bn(dim, hidden, bias=True)),
        neurons.fire(),
        PerStep(*conv_bn(hidden, dim, bias=True)),
    )
    return Block(attention, mlp)


def spikingformer(
    name: str = "8-512",
    cml: bool = False,
    *,
    num_classes: int | None = None,
    img_size: int = 224,
    in_channels: int = 3,
    T: int = 4,
    heads: int | None = None,
    mlp_ratio: float = 4,
    pools: Sequence[bool] | None = None,
    keys_first: bool | None = None,
    scale: float = 0.125,
    tau: float = 2.0,
    D: int | None = None,
) -> StepClassifier:
    """Spikingformer-L-D: ``"8-384"``, ``"8-512"``, ``"8-768"``; at 32 pixels ``"4-384"`` and the like.

    Images [B, in_channels, img_size, img_size] or frames [T, B, ...] → logits [B, num_classes].
    The published event-camera model is ``spikingformer("2-256", img_size=128, in_channels=2,
    num_classes=10, heads=16, tau=1.5, keys_first=False)``.

    Args:
        name: blocks and channels, ``"L-D"``.
        cml: ConvBN–MaxPool–LIF stem (CML paper, figure 1b).
        num_classes: outputs; 1000, or 10 for images of at most 32 pixels.
        img_size: chooses the defaults of ``pools``, ``keys_first``, ``heads`` and ``num_classes``.
        in_channels: 3 of images, 2 of event frames.
        T: timesteps an image is shown.
        heads: 8, or D/32 for CIFAR.
        mlp_ratio: hidden over outer channels of the MLP.
        pools: which of the four stem stages halve the size.
        keys_first: Q(KᵀV), as at 224 pixels, or (QKᵀ)V, as for CIFAR.
        scale: factor s of the attention.
        tau: of all neurons.
        D: largest integer of I-LIF neurons (SFA over T × D, soft reset) in place of LIF; None: LIF.
    """
    depth, dim = depth_and_dim(name)
    small = img_size <= 32
    keys_first = not small if keys_first is None else keys_first
    heads = (max(1, dim // 32) if small else 8) if heads is None else heads
    check_heads(dim, heads)
    neurons = _neurons(tau, D)
    stages = conv_stages(stem_widths(in_channels, dim), stem_pools(img_size, pools), cml, neurons.fire)
    stem = nn.Sequential(*stages, PerStep(*conv_bn(dim, dim, 3)))
    hidden = int(dim * mlp_ratio)
    blocks = nn.Sequential(*[_block(dim, heads, hidden, scale, keys_first, neurons) for _ in range(depth)])
    classes = (10 if small else 1000) if num_classes is None else num_classes
    return StepClassifier(T, stem, blocks, Head(dim, classes, mean_first=True))
