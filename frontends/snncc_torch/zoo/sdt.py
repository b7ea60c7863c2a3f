"""Spike-driven Transformer, version 1 (Yao et al., NeurIPS 2023): attention by mask and sum.

Sources: E-SpikeFormer paper, section 2 (SDSA uses addition and mask alone) and table I; dimensions
from the published model. Its attention layers hold a convolution that nothing calls; we have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from snncc_torch.nn import PerStep, Residual
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
    max_pool,
    merge_heads,
    stem_pools,
    stem_widths,
)


class MaskAttention(SelfAttention):
    """SDSA of version 1: ``Q ⊙ spike(Σ over tokens of K ⊙ V)``; no matrix product, no scale."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Spikes [T, B, C, N] from heads [T, B, heads, N, d]; the mask is [T, B, heads, 1, d]."""
        mask: Tensor = self.spike(k.mul(v).sum(dim=-2, keepdim=True))
        return merge_heads(q.mul(mask))


def _block(dim: int, heads: int, hidden: int, tau: float) -> Block:
    attention = MaskAttention(
        heads,
        1.0,
        keys_first=True,
        pre=lif(tau),
        qkv=[nn.Sequential(PerStep(*conv_bn(dim, dim)), lif(tau)) for _ in range(3)],
        spike=lif(tau, 0.5),
        proj=PerStep(*conv_bn(dim, dim, bias=True)),
        maps=True,
    )
    mlp = nn.Sequential(
        lif(tau),
        PerStep(*conv_bn(dim, hidden, bias=True)),
        lif(tau),
        PerStep(*conv_bn(hidden, dim, bias=True)),
    )
    return Block(attention, mlp)


def spike_driven_transformer(
    name: str = "8-768",
    *,
    num_classes: int | None = None,
    img_size: int = 224,
    in_channels: int = 3,
    T: int = 4,
    heads: int = 8,
    mlp_ratio: float = 4,
    pools: Sequence[bool] | None = None,
    tau: float = 2.0,
) -> StepClassifier:
    """Spike-driven Transformer-L-D: ``"8-384"``, ``"8-512"``, ``"8-768"``; ``"2-512"`` at 32 pixels.

    Images [B, in_channels, img_size, img_size] or frames [T, B, ...] → logits [B, num_classes].

    Args:
        name: blocks and channels, ``"L-D"``.
        num_classes: outputs; 1000, or 10 for images of at most 32 pixels.
        img_size: chooses the defaults of ``pools`` and ``num_classes``.
        in_channels: 3 of images, 2 of event frames.
        T: timesteps an image is shown.
        heads: of the attention.
        mlp_ratio: hidden over outer channels of the MLP.
        pools: which of the four stem stages halve the size; the last pools currents.
        tau: of all LIF neurons.
    """
    depth, dim = depth_and_dim(name)
    check_heads(dim, heads)
    widths, pooled = stem_widths(in_channels, dim), stem_pools(img_size, pools)
    last = PerStep(*conv_bn(widths[3], dim, 3), *([max_pool()] if pooled[3] else []))
    position = Residual(nn.Sequential(lif(tau), PerStep(*conv_bn(dim, dim, 3))))
    stem = nn.Sequential(*conv_stages(widths[:4], pooled[:3], False, partial(lif, tau)), last, position)
    blocks = nn.Sequential(*[_block(dim, heads, int(dim * mlp_ratio), tau) for _ in range(depth)])
    classes = (10 if img_size <= 32 else 1000) if num_classes is None else num_classes
    return StepClassifier(T, stem, blocks, Head(dim, classes, neuron=lif(tau)))
