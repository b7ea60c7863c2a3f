"""What becomes of the zoo's small models on every target: a section of docs/support.md.

python tests/zoo_on_chips.py NAME [TARGET ...]      prints what stands against a model, or its cell
"""

from __future__ import annotations

import sys

import torch

import support_page
from captured_zoo import captured
from snncc.data import Dataset
from snncc_torch.zoo import REDUCED
from support_page import CALIBRATION, MEANING, SAMPLES, TARGETS, ZOO, Outcome

INTRODUCTION = f"""{ZOO}

Written by `pytest -m campaign tests/frontend/test_zoo_on_chips.py --update-golden`; do not edit. The reduced
networks of `snncc_torch.zoo` (`REDUCED`) with calibrated norms, captured from PyTorch.
{MEANING}
"""


def inputs(name: str, count: int, seed: int) -> Dataset:
    """Random inputs [N, T, ...] of a model: images shown at every timestep, or binary frames."""
    small, graph = REDUCED[name], captured(name)[2].graph
    generator = torch.Generator().manual_seed(seed)
    frames = len(small.shape) == 5
    shape = (count, graph.steps, *graph.input.shape) if frames else (count, 1, *graph.input.shape)
    drawn = torch.rand(shape, generator=generator)
    x = (drawn < 0.3).float() if frames else drawn.expand(count, graph.steps, *graph.input.shape)
    return Dataset(x.numpy())


def outcome(name: str, target: str) -> Outcome:
    """One model on one target."""
    model = captured(name)[2]
    return support_page.outcome(model, target, inputs(name, CALIBRATION, 1), inputs(name, SAMPLES, 2))


def section() -> str:
    """The whole part of the page."""
    outcomes = {name: {target: outcome(name, target) for target in TARGETS} for name in REDUCED}
    return INTRODUCTION + support_page.table(outcomes, "network")


if __name__ == "__main__":
    for asked in sys.argv[2:] or TARGETS:
        found = outcome(sys.argv[1], asked)
        print(f"{sys.argv[1]} on {asked}: {found.cell}", *found.problems, sep="\n", flush=True)
