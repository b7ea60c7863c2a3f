"""What several architectures share: LIF as the papers set it, patch stems, attention, MLP, head.

Values are [T, B, C, H, W] unless a docstring says otherwise; convolutions run on the flattened
[T·B, C, H, W] (:class:`snncc_torch.nn.PerStep`) and only neurons look along time. Where a class also
serves models without a time axis, its shapes begin with ``...``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from snncc_torch.nn import LIF, PerStep, Residual


def depth_and_dim(name: str) -> tuple[int, int]:
    """``"8-512"``: 8 blocks of 512 channels, as the papers name their models."""
    match = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", name)
    if match is None:
        raise ValueError(f"zoo: a variant is named 'BLOCKS-CHANNELS', such as '8-512', got {name!r}")
    return int(match[1]), int(match[2])


def lif(tau: float = 2.0, v_threshold: float = 1.0) -> LIF:
    """LIF of the spiking transformers: hard reset to 0, input divided by τ."""
    return LIF(tau=tau, v_threshold=v_threshold, v_reset=0.0)


def over_steps(x: Tensor, T: int) -> Tensor:
    """[B, C, H, W] shown T times; frames that are [T, B, C, H, W] already stay as they are."""
    return x if x.dim() == 5 else x.unsqueeze(0).repeat(T, 1, 1, 1, 1)


def conv_bn(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> list[nn.Module]:
    """Convolution that keeps the size (but for its stride), then BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return [conv, nn.BatchNorm2d(outputs)]


def max_pool() -> nn.MaxPool2d:
    """The overlapping pooling of all papers here: 3×3, stride 2."""
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


def conv_stages(
    widths: Sequence[int], pools: Sequence[bool], cml: bool, neuron: Callable[[], nn.Module]
) -> list[nn.Module]:
    """Stages ConvBN–LIF–MaxPool, or ConvBN–MaxPool–LIF with ``cml`` (CML paper, figure 1).

    Args:
        widths: channels of the input and after every stage.
        pools: for every stage, whether it halves the size.
        cml: pool the currents in place of the spikes.
        neuron: makes one neuron.
    """
    layers: list[nn.Module] = []
    for inputs, outputs, pool in zip(widths[:-1], widths[1:], pools, strict=True):
        early, late = pool and cml, pool and not cml
        layers.append(PerStep(*conv_bn(inputs, outputs, 3), *([max_pool()] if early else [])))
        layers.append(neuron())
        if late:
            layers.append(PerStep(max_pool()))
    return layers


def stem_widths(in_channels: int, dim: int) -> list[int]:
    """Channels through the four stages of the patch stems: D/8, D/4, D/2, D."""
    if dim % 8:
        raise ValueError(f"zoo: the embedding dimension must be a multiple of 8, got {dim}")
    return [in_channels, dim // 8, dim // 4, dim // 2, dim]


def stem_pools(img_size: int, pools: Sequence[bool] | None) -> Sequence[bool]:
    """Which stem stages pool: all four, or only the last two for images of at most 32 pixels (CIFAR)."""
    if pools is None:
        pools = (False, False, True, True) if img_size <= 32 else (True, True, True, True)
    if len(pools) != 4:
        raise ValueError(f"zoo: pools names the four stages of the stem, got {len(pools)} values")
    return pools


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., C, N] → [..., heads, N, C/heads]."""
    return torch.unflatten(x, -2, (heads, -1)).transpose(-1, -2)


def merge_heads(x: Tensor) -> Tensor:
    """[..., heads, N, d] → [..., heads·d, N]."""
    return x.transpose(-1, -2).flatten(-3, -2)


def product(q: Tensor, k: Tensor, v: Tensor, keys_first: bool) -> Tensor:
    """Attention without softmax, [..., N, d] each: Q(KᵀV), or (QKᵀ)V."""
    return q @ (k.transpose(-1, -2) @ v) if keys_first else (q @ k.transpose(-1, -2)) @ v


class SelfAttention(nn.Module):
    """Spiking self-attention (SSA): ``proj(spike(Q Kᵀ V · scale))`` on [..., C, H, W].

    Spikformer's and Spikingformer's SSA, the SDSA of Meta-SpikeFormer and of E-SpikeFormer. They
    differ in the layers they are given and in the order of the two products.

    Args:
        heads: number of heads.
        scale: factor of the product; the papers call it s.
        keys_first: KᵀV first (cost N·d²) in place of QKᵀ first (cost N²·d).
        pre: neuron before the projections; None where the input is spikes already.
        qkv: the three projections, each ending in its neuron.
        spike: neuron on the product.
        proj: output projection.
        maps: whether the projections take [..., C, H, W]; otherwise tokens [..., C, H·W].
    """

    def __init__(
        self,
        heads: int,
        scale: float,
        keys_first: bool,
        *,
        pre: nn.Module | None,
        qkv: Sequence[nn.Module],
        spike: nn.Module,
        proj: nn.Module,
        maps: bool,
    ) -> None:
        super().__init__()
        self.heads, self.scale, self.keys_first, self.maps = heads, scale, keys_first, maps
        self.pre = nn.Identity() if pre is None else pre
        self.q, self.k, self.v = qkv
        self.spike = spike
        self.proj = proj

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Spikes [..., C, N] from heads [..., heads, N, d]."""
        y: Tensor = self.spike(merge_heads(product(q, k, v, self.keys_first) * self.scale))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``, [..., C, H, W]."""
        size = x.shape[-2:]
        x = self.pre(x)
        if self.maps:
            q, k, v = (split_heads(f(x).flatten(-2), self.heads) for f in (self.q, self.k, self.v))
            y: Tensor = self.proj(torch.unflatten(self.mix(q, k, v), -1, size))
            return y
        x = x.flatten(-2)
        q, k, v = (split_heads(f(x), self.heads) for f in (self.q, self.k, self.v))
        return torch.unflatten(self.proj(self.mix(q, k, v)), -1, size)


def check_heads(dim: int, heads: int) -> None:
    """Refuse a number of heads that does not divide the channels."""
    if heads < 1 or dim % heads:
        raise ValueError(f"zoo: {dim} channels cannot be split into {heads} heads")


class Head(nn.Module):
    """Classifier behind the last block: mean over space, perhaps a neuron, linear, mean over time.

    Args:
        dim: channels.
        num_classes: outputs.
        space: the axes of space, from the end: (-2, -1) of maps, (-1,) or (-2,) of tokens.
        neuron: between the mean over space and the linear layer (with ``distill``: only the second's).
        distill: a second linear layer, which training by distillation gives its own loss; the result
            is the mean of the two. :meth:`both` delivers them apart.
        steps: whether there is a time axis.
        mean_first: take the mean over time before the linear layer, not after it.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        space: tuple[int, ...] = (-2, -1),
        neuron: nn.Module | None = None,
        distill: bool = False,
        steps: bool = True,
        mean_first: bool = False,
    ) -> None:
        super().__init__()
        if distill and neuron is None:
            raise ValueError("Head: the second classifier of distill reads a neuron, got none")
        self.space, self.steps, self.mean_first = space, steps, mean_first
        self.neuron = neuron
        self.fc = nn.Linear(dim, num_classes)
        self.fc_distill = nn.Linear(dim, num_classes) if distill else None
        for layer in (self.fc, self.fc_distill):
            if layer is not None:
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def _over_time(self, x: Tensor) -> Tensor:
        return x.mean(0) if self.steps else x

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the class head and of the distillation head, [B, num_classes] each."""
        if self.fc_distill is None or self.neuron is None:
            raise ValueError("Head.both: this model was built with distill=False")
        x = x.mean(self.space)
        return self._over_time(self.fc(x)), self._over_time(self.fc_distill(self.neuron(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] from [T, B, C, H, W], or from tokens, or without T."""
        if self.fc_distill is not None:
            first, second = self.both(x)
            return (first + second) / 2
        x = x.mean(self.space)
        if self.neuron is not None:
            x = self.neuron(x)
        y: Tensor = self.fc(self._over_time(x)) if self.mean_first else self._over_time(self.fc(x))
        return y


class StepClassifier(nn.Module):
    """Stem, blocks, head over T timesteps.

    Args:
        T: timesteps for which an image is shown.
        stem: [T, B, in_channels, H, W] → [T, B, C, H', W'] (or tokens).
        blocks: of equal shape in and out, or a chain that downsamples.
        head: → [B, num_classes].
    """

    def __init__(self, T: int, stem: nn.Module, blocks: nn.Module, head: Head) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"zoo: T must be at least 1, got {T}")
        self.T = T
        self.stem = stem
        self.blocks = blocks
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Output of the last block, [T, B, C, H, W] (or tokens), of what ``forward`` takes."""
        y: Tensor = self.blocks(self.stem(over_steps(x, self.T)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W] or of frames [T, B, C, H, W]."""
        y: Tensor = self.head(self.features(x))
        return y


class Block(nn.Module):
    """One transformer block: ``x + attention(x)``, then ``x + mlp(x)``."""

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention = Residual(attention)
        self.mlp = Residual(mlp)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``, [T, B, ...]."""
        y: Tensor = self.mlp(self.attention(x))
        return y
