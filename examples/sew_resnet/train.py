"""Train a small SEW-ResNet (ADD, IF, T = 4) on digits and write model.pt.

The committed checkpoint was made by

python examples/sew_resnet/train.py --out examples/sew_resnet/model.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "digits"))

from training import Recipe, command

from snncc_torch import zoo


def network() -> nn.Module:
    """Basic blocks, one a stage, of 12 to 96 channels."""
    return zoo.sew_resnet(
        18, "ADD", num_classes=10, img_size=32, in_channels=1, T=4, width=12, layers=(1, 1, 1, 1)
    )


RECIPE = Recipe(network, timesteps=4, epochs=24, calibration=12)


if __name__ == "__main__":
    command(RECIPE)()
