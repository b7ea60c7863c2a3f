"""Train a small E-SpikeFormer (SFA, D = 4, one timestep) on digits and write model.pt.

The committed checkpoint was made by

python examples/e_spikeformer/train.py --out examples/e_spikeformer/model.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "digits"))

from training import Recipe, command

from snncc_torch import zoo


def network() -> nn.Module:
    """Dimensions of a tenth; the last downsampling of the stem keeps the size, for 4×4 tokens."""
    net = zoo.e_spikeformer(
        "s",
        num_classes=10,
        img_size=32,
        in_channels=1,
        dims=(16, 24, 32, 48),
        depths=(1, 1),
        heads=4,
        mlp_ratio=2,
        expansion=2,
    )
    convolution = net.stem[-1][-1][0]
    convolution.stride = (1, 1)
    return net


RECIPE = Recipe(network, timesteps=1, epochs=18, calibration=64)


if __name__ == "__main__":
    command(RECIPE)()
