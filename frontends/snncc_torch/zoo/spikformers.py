"""Spikformer (Zhou et al., ICLR 2023) and its CML form.

Sources: CML paper, sections 2 and 3, figure 1 (stem, CML) and tables 2 and 3; Spikingformer paper,
section 4.1 and figure 1a (spikes are added to spikes, so weights meet integers above 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
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
    product,
    stem_pools,
    stem_widths,
)


class TokenLinear(nn.Module):
    """Linear and BatchNorm over [T, B, N, C]; the norm is over the channels, which come last."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, N, inputs] → [T, B, N, outputs]."""
        y = self.norm(self.linear(x.flatten(0, 1)).transpose(-1, -2)).transpose(-1, -2)
        return torch.unflatten(y, 0, x.shape[:2])


class TokenAttention(nn.Module):
    """SSA of the CIFAR models: linear projections on tokens [T, B, N, C], (QKᵀ)V."""

    def __init__(self, dim: int, heads: int, scale: float, tau: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.q, self.k, self.v = (nn.Sequential(TokenLinear(dim, dim), lif(tau)) for _ in range(3))
        self.spike = lif(tau, 0.5)
        self.proj = nn.Sequential(TokenLinear(dim, dim), lif(tau))

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the same shape as ``x``, [T, B, N, C]."""
        q, k, v = (
            torch.unflatten(f(x), -1, (self.heads, -1)).transpose(-2, -3) for f in (self.q, self.k, self.v)
        )
        y = (product(q, k, v, keys_first=False) * self.scale).transpose(-2, -3).flatten(-2)
        out: Tensor = self.proj(self.spike(y))
        return out


class ToTokens(nn.Module):
    """[T, B, C, H, W] → [T, B, H·W, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, H, W] → [..., H·W, C]: tokens, channels last."""
        return x.flatten(-2).transpose(-1, -2)


def _map_block(dim: int, heads: int, hidden: int, scale: float, tau: float) -> Block:
    def tokens(outputs: int, bias: bool) -> nn.Module:
        return nn.Sequential(
            PerStep(nn.Conv1d(dim, outputs, 1, bias=bias), nn.BatchNorm1d(outputs)), lif(tau)
        )

    attention = SelfAttention(
        heads,
        scale,
        keys_first=True,
        pre=None,
        qkv=[tokens(dim, False) for _ in range(3)],
        spike=lif(tau, 0.5),
        proj=tokens(dim, True),
        maps=False,
    )
    mlp = nn.Sequential(
        PerStep(*conv_bn(dim, hidden, bias=True)),
        lif(tau),
        PerStep(*conv_bn(hidden, dim, bias=True)),
        lif(tau),
    )
    return Block(attention, mlp)


def _token_block(dim: int, heads: int, hidden: int, scale: float, tau: float) -> Block:
    mlp = nn.Sequential(TokenLinear(dim, hidden), lif(tau), TokenLinear(hidden, dim), lif(tau))
    return Block(TokenAttention(dim, heads, scale, tau), mlp)


def spikformer(
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
    linear: bool | None = None,
    scale: float = 0.125,
    tau: float = 2.0,
) -> StepClassifier:
    """Spikformer-L-D: ``"8-384"``, ``"6-512"``, ``"8-512"``, ``"8-768"``; at 32 pixels ``"4-384"``, ...

    Images [B, in_channels, img_size, img_size] or frames [T, B, ...] → logits [B, num_classes].

    Args:
        name: blocks and channels, ``"L-D"``.
        cml: ConvBN–MaxPool–LIF stem (CML paper, figure 1b).
        num_classes: outputs; 1000, or 10 for images of at most 32 pixels.
        img_size: chooses the defaults of ``pools``, ``linear``, ``heads`` and ``num_classes``.
        in_channels: 3 of images, 2 of event frames.
        T: timesteps an image is shown.
        heads: 8, or D/32 for CIFAR.
        mlp_ratio: hidden over outer channels of the MLP.
        pools: which of the four stem stages halve the size.
        linear: linear layers on [T, B, N, C] with (QKᵀ)V, as the CIFAR models have them, in place of
            1×1 convolutions on [T, B, C, N] with Q(KᵀV).
        scale: factor s of the attention.
        tau: of all LIF neurons.
    """
    depth, dim = depth_and_dim(name)
    small = img_size <= 32
    linear = small if linear is None else linear
    heads = (max(1, dim // 32) if small else 8) if heads is None else heads
    check_heads(dim, heads)
    widths, pooled = stem_widths(in_channels, dim), stem_pools(img_size, pools)
    position = Residual(nn.Sequential(PerStep(*conv_bn(dim, dim, 3)), lif(tau)))
    stem = nn.Sequential(*conv_stages(widths, pooled, cml, partial(lif, tau)), position)
    if linear:
        stem.append(ToTokens())
    block = _token_block if linear else _map_block
    hidden = int(dim * mlp_ratio)
    blocks = nn.Sequential(*[block(dim, heads, hidden, scale, tau) for _ in range(depth)])
    classes = (10 if small else 1000) if num_classes is None else num_classes
    head = Head(dim, classes, space=(-2,) if linear else (-2, -1), mean_first=True)
    return StepClassifier(T, stem, blocks, head)
