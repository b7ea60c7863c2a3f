"""What becomes of the zoo's small models on every target: the table of docs/support.md.

python tests/zoo_on_chips.py NAME [TARGET ...]      prints what stands against a model, or its verdict
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import snncc
from captured_zoo import captured
from snncc.artifact import Artifact
from snncc.data import Dataset
from snncc.errors import Problem, SnnccError
from snncc_torch.zoo import REDUCED

TARGETS = ("sim", "loihi2", "loihi1", "tianjic", "speck2f", "speck2e")
CALIBRATION, SAMPLES = 8, 2

TITLE = "## The papers' networks on the chips"
INTRODUCTION = f"""{TITLE}

Written by `pytest -m campaign tests/frontend/test_zoo_on_chips.py --update-golden`; do not edit. The reduced networks of
`snncc_torch.zoo` (`REDUCED`) with calibrated norms, compiled under `exact` with `--partition auto`.
"yes": compiled, and spikes = integers on every neuron and timestep of {SAMPLES} inputs that calibration had not seen;
"host": so many layers are computed by the host, exactly and verified like the rest. Otherwise the number of
problems and the first.

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


def outcome(name: str, target: str) -> Artifact | Sequence[Problem]:
    """The verified artifact (its folder is gone), or what stands against it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = snncc.compile(
                captured(name)[2], target=target, out=Path(folder) / "out", calib=inputs(name, CALIBRATION, 1)
            )
        except SnnccError as error:
            return error.problems
        found = snncc.verify(made, inputs(name, SAMPLES, 2))
    assert found.equivalent, f"{name} on {target}: compiled and not equivalent"
    assert all(layer.mismatches == 0 and layer.compared > 0 for layer in found.layers)
    return made


def verdict(name: str, target: str) -> str:
    """One cell of the table."""
    found = outcome(name, target)
    if isinstance(found, Artifact):
        hosted = len(found.mapped.on_host)
        return f"yes, {hosted} layers on the host" if hosted else "yes"
    first = found[0]
    got = f", got {first.got}" if first.got is not None else ""
    limit = f", limit {first.limit}" if first.limit is not None else ""
    more = f"{len(found)} problems: " if len(found) > 1 else ""
    return f"no: {more}{first.code} {first.where}: {first.what}{got}{limit}".replace("|", "/")


def row(name: str) -> str:
    """One line of the table."""
    return f"| {name} | {' | '.join(verdict(name, target) for target in TARGETS)} |"


def section() -> str:
    """The whole part of the page."""
    head = f"| network | {' | '.join(TARGETS)} |\n|{'---|' * (len(TARGETS) + 1)}\n"
    return INTRODUCTION + head + "".join(f"{row(name)}\n" for name in REDUCED)


if __name__ == "__main__":
    for asked in sys.argv[2:] or TARGETS:
        print(f"{sys.argv[1]} on {asked}: {verdict(sys.argv[1], asked)}", flush=True)
