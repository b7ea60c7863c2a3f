"""Parts of the hierarchical transformers: Meta-SpikeFormer and E-SpikeFormer.

Both go through two convolutional stages at 1/2, 1/4 and 1/8 of the size and transformer stages at
1/16 (E-SpikeFormer paper, figure 4). They differ in neuron, time axis and token mixers, so the parts
take a :class:`Style`. Membrane currents run along the shortcuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snncc_torch.nn import PerStep, Residual
from snncc_torch.zoo.blocks import conv_bn


@dataclass(frozen=True)
class Style:
    """How a model spikes; used while it is built, not kept.

    Attributes:
        neuron: makes one neuron.
        steps: whether values have a time axis, [T, B, ...], or none, [B, ...].
    """

    neuron: Callable[[], nn.Module]
    steps: bool

    def layers(self, *modules: nn.Module) -> nn.Sequential:
        """Stateless layers, on every timestep where there are any."""
        return PerStep(*modules) if self.steps else nn.Sequential(*modules)


class OnTokens(nn.Module):
    """Layers on tokens [..., C, H·W] inside a model of maps [..., C, H, W]."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, H, W] → [..., C', H, W]."""
        y: Tensor = self.body(x.flatten(-2))
        return torch.unflatten(y, -1, x.shape[-2:])


class LayerScale(nn.Module):
    """``body(x)`` times a trained factor per channel, [..., C, H, W]."""

    def __init__(self, body: nn.Module, dim: int, initial: float) -> None:
        super().__init__()
        self.body = body
        self.factor = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``, [..., C, H, W]."""
        y: Tensor = self.body(x) * self.factor.unsqueeze(-1).unsqueeze(-1)
        return y


def downsample(
    style: Style, inputs: int, outputs: int, kernel: int = 3, stride: int = 2, first: bool = False
) -> nn.Sequential:
    """Neuron (none before the image), convolution with bias, BatchNorm."""
    layers = style.layers(*conv_bn(inputs, outputs, kernel, stride, bias=True))
    return nn.Sequential(*([] if first else [style.neuron()]), layers)


def separable(style: Style, dim: int, kernel: int, spiking: bool) -> nn.Sequential:
    """Inverted separable convolution: 1×1 to 2·dim, depthwise, 1×1 back.

    Args:
        style: of the model.
        dim: channels in and out.
        kernel: of the depthwise convolution.
        spiking: SpikeSepConv (E-SpikeFormer paper, equation 9): BatchNorm and neuron between depthwise
            and the second 1×1; otherwise the two follow each other (Meta-SpikeFormer).
    """
    wide = 2 * dim
    first = [style.neuron(), style.layers(*conv_bn(dim, wide)), style.neuron()]
    depthwise = conv_bn(wide, wide, kernel, groups=wide)
    last = conv_bn(wide, dim)
    if spiking:
        return nn.Sequential(*first, style.layers(*depthwise), style.neuron(), style.layers(*last))
    return nn.Sequential(*first, style.layers(depthwise[0], *last))


def conv_mixer(style: Style, dim: int, ratio: int, bias: bool = False) -> nn.Sequential:
    """Channel mixer of the convolutional stages: two 3×3 convolutions through ratio·dim channels."""
    return nn.Sequential(
        style.neuron(),
        style.layers(*conv_bn(dim, ratio * dim, 3, bias=bias)),
        style.neuron(),
        style.layers(*conv_bn(ratio * dim, dim, 3, bias=bias)),
    )


def token_mlp(style: Style, dim: int, ratio: int) -> OnTokens:
    """Channel mixer of the transformer stages: two 1×1 convolutions on tokens, with bias."""
    wide = ratio * dim
    return OnTokens(
        nn.Sequential(
            style.neuron(),
            style.layers(nn.Conv1d(dim, wide, 1), nn.BatchNorm1d(wide)),
            style.neuron(),
            style.layers(nn.Conv1d(wide, dim, 1), nn.BatchNorm1d(dim)),
        )
    )


def map_mlp(style: Style, dim: int, ratio: int) -> nn.Sequential:
    """The same on maps [..., C, H, W], where a gate can stand behind each convolution."""
    wide = ratio * dim
    return nn.Sequential(
        style.neuron(),
        style.layers(*conv_bn(dim, wide, bias=True)),
        style.neuron(),
        style.layers(*conv_bn(wide, dim, bias=True)),
    )


def conv_stem(
    style: Style,
    in_channels: int,
    dims: Sequence[int],
    block: Callable[[int], nn.Module],
) -> nn.Sequential:
    """The convolutional stages, down to 1/16 of the size.

    Args:
        style: of the model.
        in_channels: of the image.
        dims: channels at 1/4, 1/8 and 1/16; half of the first at 1/2.
        block: makes the block for a number of channels; one at 1/2 and 1/4, two at 1/8.
    """
    half = dims[0] // 2
    return nn.Sequential(
        downsample(style, in_channels, half, 7, first=True),
        block(half),
        downsample(style, half, dims[0]),
        block(dims[0]),
        downsample(style, dims[0], dims[1]),
        block(dims[1]),
        block(dims[1]),
        downsample(style, dims[1], dims[2]),
    )


def conv_block(style: Style, dim: int, ratio: int, spiking: bool) -> nn.Sequential:
    """Separable 7×7 token mixer and 3×3 channel mixer, each with a shortcut."""
    return nn.Sequential(Residual(separable(style, dim, 7, spiking)), Residual(conv_mixer(style, dim, ratio)))
