"""Train a small Spikingformer of integer neurons (I-LIF, T = 2, D = 4) on digits and write model.pt.

The committed checkpoint was made by

python examples/spikingformer_ilif/train.py --out examples/spikingformer_ilif/model.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "digits"))

from training import Recipe, command

from snncc_torch import zoo

POOLS = (True, True, True, False)  # which stages of the stem halve the size


def network() -> nn.Module:
    """Two blocks of 64 channels on 4×4 tokens; neurons leak by half and subtract what they fired."""
    return zoo.spikingformer(
        "2-64", pools=POOLS, num_classes=10, img_size=32, in_channels=1, T=2, D=4, heads=4, mlp_ratio=2
    )


RECIPE = Recipe(network, timesteps=2, epochs=20)


if __name__ == "__main__":
    command(RECIPE)()
