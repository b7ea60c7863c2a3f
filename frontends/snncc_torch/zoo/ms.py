"""MS-ResNet (Hu et al. 2021): shortcuts carry membrane currents, weights meet binary spikes.

Sources: E-SpikeFormer paper, section 2 and table I; dimensions from the published model. Its neuron
is ``u = 0.25·v·(1 - s) + x`` with threshold 0.5: a LIF with τ = 4/3, hard reset, undivided input. The
published one fires above the threshold, ours also at it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from snncc_torch.nn import LIF, PerStep, Residual
from snncc_torch.zoo.blocks import conv_bn, over_steps

THRESHOLD = 0.5
LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 104: (3, 8, 32, 8)}


def membrane() -> LIF:
    """The paper's neuron."""
    return LIF(tau=4 / 3, v_threshold=THRESHOLD, v_reset=0.0, decay_input=False)


def block(inputs: int, outputs: int, stride: int, average: bool) -> Residual:
    """Two LIF–Conv3×3–BN plus shortcut; a striding shortcut averages first (104) or strides its 1×1."""
    body = nn.Sequential(
        membrane(),
        PerStep(*conv_bn(inputs, outputs, 3, stride)),
        membrane(),
        PerStep(*conv_bn(outputs, outputs, 3)),
    )
    if stride == 1 and inputs == outputs:
        return Residual(body)
    if average:
        return Residual(body, PerStep(nn.AvgPool2d(stride), *conv_bn(inputs, outputs)))
    return Residual(body, PerStep(*conv_bn(inputs, outputs, 1, stride)))


class MSResNet(nn.Module):
    """Stem, four stages that each halve the size, neuron, mean over space and time, linear.

    Args:
        layers: blocks in each stage.
        deep: the stem of three 3×3 convolutions, averaging shortcuts and dropout of the 104-layer net.
        num_classes: outputs.
        in_channels: of the input.
        T: timesteps an image is shown.
        width: channels of the first stage; each further one doubles them.
    """

    def __init__(
        self, layers: Sequence[int], deep: bool, num_classes: int, in_channels: int, T: int, width: int
    ) -> None:
        super().__init__()
        self.T = T
        if deep:
            self.stem = PerStep(
                nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
            )
        else:
            self.stem = PerStep(*conv_bn(in_channels, width, 7, 2))
        blocks: list[Residual] = []
        channels = width
        for stage, count in enumerate(layers):
            for index in range(count):
                blocks.append(block(channels, width << stage, 2 if index == 0 else 1, deep))
                channels = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.spike = membrane()
        self.average = PerStep(nn.AdaptiveAvgPool2d((1, 1)))
        self.dropout = nn.Dropout(0.2 if deep else 0.0)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, THRESHOLD)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W] or of frames [T, B, C, H, W]."""
        spikes = self.spike(self.blocks(self.stem(over_steps(x, self.T))))
        y: Tensor = self.fc(self.dropout(self.average(spikes).flatten(2).mean(0)))
        return y


def ms_resnet(
    depth: int = 104,
    *,
    num_classes: int = 1000,
    img_size: int = 224,
    in_channels: int = 3,
    T: int = 6,
    width: int = 64,
    layers: Sequence[int] | None = None,
) -> MSResNet:
    """MS-ResNet-18, 34 or 104.

    Images [B, in_channels, H, W] or frames [T, B, ...] → logits [B, num_classes].

    Args:
        depth: chooses blocks, stem and shortcuts.
        num_classes: outputs.
        img_size: only checked to survive the five halvings.
        in_channels: of the input.
        T: timesteps an image is shown.
        width: channels of the first stage.
        layers: blocks in each of the four stages, in place of the depth's own.
    """
    if depth not in LAYERS:
        raise ValueError(f"ms_resnet: depth must be one of {', '.join(map(str, LAYERS))}, got {depth}")
    if T < 1:
        raise ValueError(f"ms_resnet: T must be at least 1, got {T}")
    if layers is not None and len(layers) != 4:
        raise ValueError(f"ms_resnet: layers are the blocks of four stages, got {len(layers)} values")
    if depth == 104 and img_size % 32:
        raise ValueError(f"ms_resnet: averaging shortcuts need sides divisible by 32, got {img_size}")
    return MSResNet(layers or LAYERS[depth], depth == 104, num_classes, in_channels, T, width)
