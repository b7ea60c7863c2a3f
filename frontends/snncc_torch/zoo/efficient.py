"""E-SpikeFormer (Yao et al., TPAMI 2025): SFA neurons, no time axis, [B, C, H, W] throughout.

Sources: E-SpikeFormer paper, section 3.2 (SFA), 3.3 and figure 4 (SpikeSepConv, E-SDSA), table I. One
training step; the chip unrolls each integer 0..D into D micro-steps. SFA delivers n/D, as published.
For events (section 4.1, table IV) there are T steps of D micro-steps and the neurons have a membrane:
I-LIF in place of SFA, and a time axis in front.

The paper's text describes one architecture, its published code has two: the sizes up to 19 M follow
the text; 83 M and 173 M, made for masked pre-training, have neither SpikeSepConv nor the expanded
values but pairs of 1×1 convolutions as projections, layer scale and a second head. Table I counts the
latter at 83 M (the text's architecture would have 83.2 M), so that is what is built here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from snncc_torch.nn import ILIF, SFA, Residual
from snncc_torch.zoo.blocks import Block, Head, SelfAttention, StepClassifier, check_heads, conv_bn
from snncc_torch.zoo.pyramid import (
    LayerScale,
    OnTokens,
    Style,
    conv_block,
    conv_mixer,
    conv_stem,
    downsample,
    map_mlp,
    separable,
    token_mlp,
)

# Channels at 1/4, 1/8 and in the transformer stages at 1/16.
DIMS = {
    "t": (24, 48, 96, 128),
    "s": (32, 64, 128, 192),
    "m": (48, 96, 192, 240),
    "l": (64, 128, 256, 360),
    "83M": (128, 256, 512),
    "173M": (196, 384, 768),
}
PRETRAINED = ("83M", "173M")


class ESpikeFormer(nn.Module):
    """Stem, blocks, head, without a time axis.

    Args:
        stem: [B, in_channels, H, W] → [B, C, H/16, W/16].
        blocks: → [B, C', H/16, W/16].
        head: → [B, num_classes].
    """

    def __init__(self, stem: nn.Module, blocks: nn.Module, head: Head) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = blocks
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Output of the last block, [B, C, H/16, W/16]."""
        y: Tensor = self.blocks(self.stem(x))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W]."""
        y: Tensor = self.head(self.features(x))
        return y


def _block(style: Style, dim: int, heads: int, ratio: int, expansion: int, on_maps: bool) -> nn.Sequential:
    """SpikeSepConv 3×3, E-SDSA with values of expansion·dim channels, MLP; each with a shortcut."""
    check_heads(dim, heads)
    values = expansion * dim
    attention = SelfAttention(
        heads,
        2 * (dim // heads) ** -0.5,
        keys_first=False,
        pre=style.neuron(),
        qkv=[
            nn.Sequential(style.layers(*conv_bn(dim, outputs)), style.neuron())
            for outputs in (dim, dim, values)
        ],
        spike=style.neuron(),
        proj=style.layers(*conv_bn(values, dim)),
        maps=True,
    )
    return nn.Sequential(
        Residual(separable(style, dim, 3, spiking=True)),
        Block(attention, (map_mlp if on_maps else token_mlp)(style, dim, ratio)),
    )


def _pair(style: Style, dim: int, hidden: int) -> list[nn.Module]:
    """Two 1×1 convolutions on tokens that merge into one after training, each with its norm."""
    return [
        nn.Conv1d(dim, hidden, 1, bias=False),
        nn.BatchNorm1d(hidden),
        nn.Conv1d(hidden, dim, 1, bias=False),
        nn.BatchNorm1d(dim),
    ]


def _pretrained_block(
    style: Style, dim: int, heads: int, ratio: int, mixer: bool, scale: float, layer_scale: float
) -> nn.Sequential:
    """SDSA with paired projections and MLP, both with layer scale; a paired mixer before (83 M)."""
    check_heads(dim, heads)

    def projection() -> nn.Sequential:
        return style.layers(*_pair(style, dim, dim * 3 // 2), nn.BatchNorm1d(dim))

    attention = SelfAttention(
        heads,
        scale,
        keys_first=True,
        pre=style.neuron(),
        qkv=[nn.Sequential(projection(), style.neuron()) for _ in range(3)],
        spike=style.neuron(),
        proj=projection(),
        maps=False,
    )
    mlp = token_mlp(style, dim, ratio)
    block = Block(LayerScale(attention, dim, layer_scale), LayerScale(mlp, dim, layer_scale))
    if not mixer:
        return nn.Sequential(block)
    first = OnTokens(nn.Sequential(style.neuron(), style.layers(*_pair(style, dim, dim))))
    return nn.Sequential(Residual(first), block)


@dataclass(frozen=True)
class Sizes:
    """Free dimensions of a model; used while it is built. Fields are arguments of :func:`e_spikeformer`.

    ``on_maps`` (up to ``"l"``): the channel mixers of the transformer stages take maps, not tokens.
    """

    in_channels: int
    dims: Sequence[int] | None
    depths: tuple[int, int] | None
    heads: int
    mlp_ratio: int
    expansion: int
    scale: float = 0.125
    layer_scale: float = 1e-6
    on_maps: bool = False


def trunk(name: str, style: Style, sizes: Sizes) -> tuple[nn.Sequential, nn.Sequential]:
    """Stem (its stages as :func:`conv_stem` orders them) and blocks of a named model, without its head."""
    if name not in DIMS:
        raise ValueError(f"e_spikeformer: name must be one of {', '.join(DIMS)}, got {name!r}")
    dims = DIMS[name] if sizes.dims is None else sizes.dims
    ratio, wanted = sizes.mlp_ratio, len(DIMS[name])
    if len(dims) != wanted:
        raise ValueError(f"e_spikeformer: dims of {name!r} are {wanted} channel counts, got {len(dims)}")
    if name in PRETRAINED:
        stem = conv_stem(
            style, sizes.in_channels, dims, lambda dim: Residual(conv_mixer(style, dim, ratio, bias=True))
        )
        return stem, nn.Sequential(*_pretrained_blocks(name, style, dims[2], sizes))
    stem = conv_stem(style, sizes.in_channels, dims, lambda dim: conv_block(style, dim, ratio, spiking=True))
    first, second = (6, 2) if sizes.depths is None else sizes.depths
    rest = (sizes.heads, ratio, sizes.expansion, sizes.on_maps)
    blocks: list[nn.Module] = [_block(style, dims[2], *rest) for _ in range(first)]
    blocks.append(downsample(style, dims[2], dims[3], stride=1))
    blocks += [_block(style, dims[3], *rest) for _ in range(second)]
    return stem, nn.Sequential(*blocks)


def _pretrained_blocks(name: str, style: Style, dim: int, sizes: Sizes) -> list[nn.Module]:
    count = sum((12, 0) if sizes.depths is None else sizes.depths)
    return [
        _pretrained_block(
            style, dim, sizes.heads, sizes.mlp_ratio, name == "83M", sizes.scale, sizes.layer_scale
        )
        for _ in range(count)
    ]


def check_image(what: str, img_size: int) -> None:
    """Refuse a side that the four halvings leave a rest of."""
    if img_size % 16:
        raise ValueError(f"{what}: the image must be a multiple of 16 pixels, got {img_size}")


def e_spikeformer(
    name: str = "s",
    *,
    num_classes: int = 1000,
    img_size: int = 224,
    in_channels: int = 3,
    D: int = 4,
    T: int | None = None,
    dims: Sequence[int] | None = None,
    depths: tuple[int, int] | None = None,
    heads: int = 8,
    mlp_ratio: int = 4,
    expansion: int = 4,
    normalize: bool = True,
    distill: bool | None = None,
    scale: float = 0.125,
    layer_scale: float = 1e-6,
    decay: float = 0.25,
    v_reset: float | None = None,
) -> ESpikeFormer | StepClassifier:
    """E-SpikeFormer ``"t"``, ``"s"`` (5.1 M), ``"m"`` (10.0 M), ``"l"`` (19.0 M), ``"83M"``, ``"173M"``.

    Images [B, in_channels, H, W] → logits [B, num_classes]; with ``T`` also frames [T, B, ...]. The
    published event-camera model is ``e_spikeformer("l", T=..., in_channels=2, num_classes=300)``.

    Args:
        name: chooses channels and kind of block.
        num_classes: outputs.
        img_size: only checked to be a multiple of 16.
        in_channels: of the image.
        D: largest integer of the neurons.
        T: timesteps, each of D micro-steps on the chip; None: one, and neurons without a membrane.
        dims: channels at 1/4, 1/8 and in the one or two transformer stages, in place of the name's own.
        depths: blocks in the two transformer stages; (6, 2), or (12, 0) from 83 M on.
        heads: of the attention.
        mlp_ratio: hidden over outer channels of all channel mixers.
        expansion: λ, channels of the values over those of the keys (up to ``"l"``).
        normalize: whether SFA delivers n/D, all but the head's.
        distill: the second head; from 83 M on it is there by default and counted by the paper.
        scale: factor of the attention from 83 M on; below it is 2/√d.
        layer_scale: what the trained factors start with, from 83 M on.
        decay: of the membranes, with ``T``; their β is not published, SpikeYOLO's I-LIF has 0.25.
        v_reset: of the membranes, with ``T``; None subtracts what fired.
    """
    check_image("e_spikeformer", img_size)
    style = Style(neuron=_neuron(D, T, decay, v_reset, normalize), steps=T is not None)
    sizes = Sizes(in_channels, dims, depths, heads, mlp_ratio, expansion, scale, layer_scale)
    stem, blocks = trunk(name, style, sizes)
    pretrained = name in PRETRAINED
    distill = pretrained if distill is None else distill
    # The published large models classify from real means and give spikes to the second head alone.
    neuron = _neuron(D, T, decay, v_reset, False)() if distill or not pretrained else None
    width = (DIMS[name] if dims is None else dims)[-1]
    head = Head(width, num_classes, neuron=neuron, distill=distill, steps=T is not None)
    return ESpikeFormer(stem, blocks, head) if T is None else StepClassifier(T, stem, blocks, head)


def _neuron(
    D: int, T: int | None, decay: float, v_reset: float | None, normalize: bool
) -> Callable[[], nn.Module]:
    """SFA, or with a time axis I-LIF."""
    return partial(SFA, D, normalize) if T is None else partial(ILIF, D, decay, v_reset, normalize)
