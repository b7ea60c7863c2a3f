"""Meta-SpikeFormer, the Spike-driven Transformer version 2 (Yao et al., ICLR 2024).

Sources: E-SpikeFormer paper, sections 2 and 3.3 (what it changes) and table I. Projections are RepConv:
chains of convolutions without a neuron between them, which merge into one 3×3 after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from snncc_torch.nn import PerStep
from snncc_torch.zoo.blocks import Block, Head, SelfAttention, StepClassifier, check_heads, lif
from snncc_torch.zoo.pyramid import Style, conv_block, conv_stem, downsample, token_mlp

# Channels at 1/4, 1/8 and in the two transformer stages at 1/16. The paper does not give those of its
# smallest model (15.1 M); with E-SpikeFormer-l's the count agrees, inferred
# (docs/semantics.md#published-models).
DIMS = {
    "8-256": (64, 128, 256, 360),
    "8-384": (96, 192, 384, 480),
    "8-512": (128, 256, 512, 640),
}


class BNAndPad(nn.Module):
    """BatchNorm, then a border of what the norm makes of zero.

    A 3×3 convolution that follows then sees the same as if the whole chain had been merged into one
    with zero padding, which a zero border here would not give. No gradient flows into the border.
    """

    def __init__(self, channels: int, pixels: int = 1) -> None:
        super().__init__()
        if pixels < 1:
            raise ValueError(f"BNAndPad: pixels must be at least 1, got {pixels}")
        self.pixels = pixels
        self.bn = nn.BatchNorm2d(channels)

    def border(self) -> Tensor:
        """β - μ·γ/√(σ² + ε), shape [C]."""
        mean, var = self.bn.running_mean, self.bn.running_var
        if mean is None or var is None:
            raise ValueError("BNAndPad: its BatchNorm must track running statistics")
        return self.bn.bias.detach() - mean * self.bn.weight.detach() / torch.sqrt(var + self.bn.eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H + 2·pixels, W + 2·pixels]."""
        p = self.pixels
        y = F.pad(self.bn(x), (p, p, p, p))
        border = self.border().view(1, -1, 1, 1)
        y[:, :, :p, :] = border
        y[:, :, -p:, :] = border
        y[:, :, :, :p] = border
        y[:, :, :, -p:] = border
        return y


def rep_conv(inputs: int, outputs: int) -> list[nn.Module]:
    """1×1, norm and border, depthwise 3×3, 1×1, norm; and the norm that the model puts behind it."""
    return [
        nn.Conv2d(inputs, inputs, 1, bias=False),
        BNAndPad(inputs),
        nn.Conv2d(inputs, inputs, 3, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.BatchNorm2d(outputs),
    ]


def _block(style: Style, dim: int, heads: int, ratio: int, scale: float) -> Block:
    check_heads(dim, heads)
    attention = SelfAttention(
        heads,
        scale,
        keys_first=True,
        pre=style.neuron(),
        qkv=[nn.Sequential(PerStep(*rep_conv(dim, dim)), style.neuron()) for _ in range(3)],
        spike=lif(v_threshold=0.5),
        proj=PerStep(*rep_conv(dim, dim)),
        maps=True,
    )
    return Block(attention, token_mlp(style, dim, ratio))


def meta_spikeformer(
    name: str = "8-512",
    *,
    num_classes: int = 1000,
    img_size: int = 224,
    in_channels: int = 3,
    T: int = 4,
    dims: Sequence[int] | None = None,
    depths: tuple[int, int] = (6, 2),
    heads: int = 8,
    mlp_ratio: int = 4,
    distill: bool = False,
    scale: float = 0.125,
) -> StepClassifier:
    """Meta-SpikeFormer ``"8-256"`` (15.1 M), ``"8-384"`` (31.3 M) or ``"8-512"`` (55.4 M).

    Images [B, in_channels, H, W] or frames [T, B, ...] → logits [B, num_classes].

    Args:
        name: chooses the channels.
        num_classes: outputs.
        img_size: only checked to be a multiple of 16.
        in_channels: of the image.
        T: timesteps an image is shown.
        dims: channels at 1/4, 1/8 and in the two transformer stages, in place of the name's own.
        depths: blocks in the two transformer stages.
        heads: of the attention.
        mlp_ratio: hidden over outer channels of all channel mixers.
        distill: the second head (on spikes) of training by distillation; the first reads real means.
        scale: factor of the attention.
    """
    if name not in DIMS:
        raise ValueError(f"meta_spikeformer: name must be one of {', '.join(DIMS)}, got {name!r}")
    if img_size % 16:
        raise ValueError(f"meta_spikeformer: the image must be a multiple of 16 pixels, got {img_size}")
    dims = DIMS[name] if dims is None else dims
    if len(dims) != 4:
        raise ValueError(f"meta_spikeformer: dims are 4 channel counts, got {len(dims)}")
    style = Style(neuron=lif, steps=True)
    stem = conv_stem(style, in_channels, dims, lambda dim: conv_block(style, dim, mlp_ratio, spiking=False))
    blocks = nn.Sequential(
        *[_block(style, dims[2], heads, mlp_ratio, scale) for _ in range(depths[0])],
        downsample(style, dims[2], dims[3], stride=1),
        *[_block(style, dims[3], heads, mlp_ratio, scale) for _ in range(depths[1])],
    )
    head = Head(dims[3], num_classes, neuron=lif() if distill else None, distill=distill)
    return StepClassifier(T, stem, blocks, head)
