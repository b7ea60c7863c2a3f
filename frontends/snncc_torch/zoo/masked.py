"""The masked encoder of E-SpikeFormer's pre-training (SFA paper, §3.4 and §6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from snncc_torch.masked import Mask2d, patch_mask, sparse
from snncc_torch.nn import SFA
from snncc_torch.zoo.efficient import PRETRAINED, Sizes, check_image, trunk
from snncc_torch.zoo.pyramid import Style


class MaskedEncoder(nn.Module):
    """Covers patches of an image and encodes the others.

    What it delivers goes to the decoder of pre-training, an ANN on the host, which is no part of it.

    Args:
        cover: sets the covered pixels to 0.
        encoder: [B, in_channels, H, W] → [B, C, H/16, W/16], all its convolutions sparse.
        neuron: makes the latent spikes.
    """

    def __init__(self, cover: Mask2d, encoder: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.cover = cover
        self.encoder = encoder
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        """Latent spikes [B, C·H/16·W/16], channel by channel, none where the image is covered."""
        y: Tensor = self.neuron(self.encoder(self.cover(x))).flatten(1)
        return y


def e_spikeformer_masked(
    name: str = "s",
    *,
    img_size: int = 224,
    in_channels: int = 3,
    D: int = 4,
    dims: Sequence[int] | None = None,
    depths: tuple[int, int] | None = None,
    heads: int = 8,
    mlp_ratio: int = 4,
    expansion: int = 4,
    normalize: bool = True,
    patch: int = 16,
    ratio: float = 0.5,
    seed: int = 0,
    mode: str = "mask",
) -> MaskedEncoder:
    """The encoder of E-SpikeFormer ``"t"`` to ``"l"`` with spike sparse convolutions, under a random mask.

    Images [B, in_channels, H, W] → latent spikes [B, C·H/16·W/16]. :func:`snncc_torch.nn.remask` gives it
    another mask, :func:`snncc_torch.nn.vanilla` the plain convolutions of the same weights.

    Args:
        name: chooses channels; the sizes from 83 M on have other blocks, whose weights work on tokens.
        img_size: side of the image, a multiple of 16.
        in_channels: of the image.
        D: largest integer of the neurons.
        dims: channels at 1/4, 1/8 and in the two transformer stages, in place of the name's own.
        depths: blocks in the two transformer stages; (6, 2).
        heads: of the attention.
        mlp_ratio: hidden over outer channels of all channel mixers.
        expansion: λ, channels of the values over those of the keys.
        normalize: whether SFA delivers n/D, all but the last.
        patch: side of the patches, a multiple of 16: smaller ones do not reach the last stage.
        ratio: share of the patches that are covered.
        seed: of the mask.
        mode: ``mask``, or ``centre``: sites of all but the first convolution open only to spikes.
    """
    if name in PRETRAINED:
        raise ValueError(f"e_spikeformer_masked: name must be a size up to 'l', got {name!r}")
    check_image("e_spikeformer_masked", img_size)
    style = Style(neuron=partial(SFA, D, normalize), steps=False)
    sizes = Sizes(in_channels, dims, depths, heads, mlp_ratio, expansion, on_maps=True)
    mask = patch_mask(img_size, img_size, patch, ratio, seed)
    plain = nn.Sequential(*trunk(name, style, sizes))
    example = torch.zeros(1, in_channels, img_size, img_size)
    return MaskedEncoder(Mask2d(mask), sparse(plain, example, mask, mode), SFA(D))
