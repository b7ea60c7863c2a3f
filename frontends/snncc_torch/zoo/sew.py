"""SEW-ResNet (Fang et al., NeurIPS 2021): residual blocks that join spikes element by element.

Sources: Spikingformer paper, section 4.1, figure 1a and table 1; E-SpikeFormer paper, section 2. The
stem convolution runs once on a static image and its current is repeated, as published.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from snncc_torch.nn import IF, PerStep
from snncc_torch.zoo.blocks import conv_bn, max_pool

# Blocks in each of the four stages, and whether they are bottlenecks.
LAYERS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
CONNECT = ("ADD", "AND", "IAND")


def spiking(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, IF with threshold 1 and reset to 0."""
    return nn.Sequential(PerStep(*conv_bn(inputs, outputs, kernel, stride)), IF(v_reset=0.0))


class SEWBlock(nn.Module):
    """``g(body(x), shortcut(x))`` on spikes, where g is ADD, AND (a·b) or IAND ((1 - a)·b).

    Args:
        inputs: channels in.
        width: channels of the 3×3 convolutions.
        stride: of the block.
        bottleneck: 1×1, 3×3, 1×1 to 4·width in place of two 3×3.
        connect: g.
    """

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool, connect: str) -> None:
        super().__init__()
        self.connect = connect
        self.outputs = 4 * width if bottleneck else width
        if bottleneck:
            convs = [
                spiking(inputs, width, 1),
                spiking(width, width, 3, stride),
                spiking(width, self.outputs, 1),
            ]
        else:
            convs = [spiking(inputs, width, 3, stride), spiking(width, width, 3)]
        self.body = nn.Sequential(*convs)
        same = stride == 1 and inputs == self.outputs
        self.shortcut = nn.Identity() if same else spiking(inputs, self.outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, inputs, H, W] → [T, B, outputs, H/stride, W/stride]; integers above 1 with ADD."""
        spikes: Tensor = self.body(x)
        identity: Tensor = self.shortcut(x)
        if self.connect == "ADD":
            return spikes + identity
        if self.connect == "AND":
            return spikes * identity
        return identity * (1.0 - spikes)


class SEWResNet(nn.Module):
    """Stem, four stages, mean over space and time, linear.

    Args:
        layers: blocks in each stage.
        bottleneck: kind of block.
        connect: ADD, AND or IAND.
        num_classes: outputs.
        in_channels: of the input.
        T: timesteps for which the stem's current is repeated.
        width: channels of the first stage; each further one doubles them.
    """

    def __init__(
        self,
        layers: Sequence[int],
        bottleneck: bool,
        connect: str,
        num_classes: int,
        in_channels: int,
        T: int,
        width: int,
    ) -> None:
        super().__init__()
        self.T = T
        self.stem = PerStep(*conv_bn(in_channels, width, 7, 2))
        self.spike = IF(v_reset=0.0)
        self.pool = PerStep(max_pool())
        blocks: list[SEWBlock] = []
        channels = width
        for stage, count in enumerate(layers):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(SEWBlock(channels, width << stage, stride, bottleneck, connect))
                channels = blocks[-1].outputs
        self.blocks = nn.Sequential(*blocks)
        self.average = PerStep(nn.AdaptiveAvgPool2d((1, 1)))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W] or of frames [T, B, C, H, W]."""
        static = x.dim() == 4
        current = self.stem(x.unsqueeze(0) if static else x)
        if static:
            current = current.repeat(self.T, 1, 1, 1, 1)
        spikes = self.blocks(self.pool(self.spike(current)))
        y: Tensor = self.fc(self.average(spikes).flatten(2).mean(0))
        return y


def sew_resnet(
    depth: int = 34,
    connect: str = "ADD",
    *,
    num_classes: int = 1000,
    img_size: int = 224,
    in_channels: int = 3,
    T: int = 4,
    width: int = 64,
    layers: Sequence[int] | None = None,
) -> SEWResNet:
    """SEW-ResNet-18, 34, 50, 101 or 152.

    Images [B, in_channels, H, W] or frames [T, B, ...] → logits [B, num_classes].

    Args:
        depth: chooses the blocks: basic up to 34, bottlenecks above.
        connect: how spikes meet the shortcut's: ``"ADD"``, ``"AND"``, ``"IAND"``.
        num_classes: outputs.
        img_size: only checked to survive the five halvings.
        in_channels: of the input.
        T: timesteps.
        width: channels of the first stage.
        layers: blocks in each of the four stages, in place of the depth's own.
    """
    if depth not in LAYERS:
        raise ValueError(f"sew_resnet: depth must be one of {', '.join(map(str, LAYERS))}, got {depth}")
    if T < 1:
        raise ValueError(f"sew_resnet: T must be at least 1, got {T}")
    if layers is not None and len(layers) != 4:
        raise ValueError(f"sew_resnet: layers are the blocks of four stages, got {len(layers)} values")
    if connect not in CONNECT:
        raise ValueError(f"sew_resnet: connect must be one of {', '.join(CONNECT)}, got {connect!r}")
    if img_size < 17:
        raise ValueError(f"sew_resnet: images must have at least 17 pixels a side, got {img_size}")
    own, bottleneck = LAYERS[depth]
    return SEWResNet(layers or own, bottleneck, connect, num_classes, in_channels, T, width)
