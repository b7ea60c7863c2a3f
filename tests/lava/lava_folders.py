"""Hand-made mapped networks as Lava folders, and what they must compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simulator.simnets import Net
from snncc.hw.spec import load_chip
from snncc.mapping.mapped import Mapped, Piece
from snncc_loihi.emit import chip_files
from snncc_loihi.runner import LavaRun, run_lava
from snncc_sim import SIMULATOR

CHIP = load_chip(Path(__file__).resolve().parents[2] / "backends" / "snncc_loihi" / "loihi2.toml")


def write_folder(mapped: Mapped, tensors: dict[str, Any], out: Path) -> Path:
    """The ``lava/`` folder of a network, below ``out``."""
    for name, data in chip_files(mapped, tensors, CHIP).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return out / "lava"


def expected_train(piece: Piece, mapped: Mapped, counts: Any, micro_steps: int) -> Any:
    """[N, k, C, H, W] sent: a window's spikes are a prefix of it; a graded count or a membrane stands first."""
    train = np.zeros((len(counts), micro_steps, *piece.shape), np.int64)
    for t in range(mapped.steps):
        for d in range(mapped.micro_steps):
            k = piece.phase + t * mapped.micro_steps + d
            if piece.graded or piece.is_readout:
                train[:, k] = counts[:, t] * (d == 0)
            else:
                train[:, k] = counts[:, t] > d
    return train


def assert_lava_agrees(net: Net | Mapped, x: Any, out: Path, tensors: Any = None) -> LavaRun:
    """Lava computes counts and trains of all pieces as the simulator's engine does."""
    mapped, tensors = (net.mapped(), net.tensors) if isinstance(net, Net) else (net, tensors)
    expected = SIMULATOR.execute(mapped, tensors, x)
    assert all(layer.saturations == 0 for layer in expected.layers)
    found = run_lava(write_folder(mapped, tensors, out), x, trains=True)
    for piece in mapped.pieces:
        counts = expected.counts[piece.name]
        assert counts.any(), f"{piece.name} is silent: nothing was compared"
        np.testing.assert_array_equal(found.counts[piece.name], counts, err_msg=piece.name)
        if not piece.streams:
            trains = found.trains[piece.name]
            train = expected_train(piece, mapped, counts, trains.shape[1])
            np.testing.assert_array_equal(trains, train, err_msg=piece.name)
    return found
