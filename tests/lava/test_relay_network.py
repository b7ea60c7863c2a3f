"""Relays of signed sums in Lava: the whole network equals the simulator, spike train by spike train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava_folders import assert_lava_agrees
from test_lava_networks import entries

from random_graphs import random_inputs
from relay_nets import blocks, lowered_by
from simulator.simnets import Net, Way
from snncc.ir import Reset


@pytest.mark.parametrize(
    ("graded", "fields"),
    [
        (False, {}),
        (True, {}),
        (False, {"levels": 1, "steps": 3, "neuron": {"decay": 0.5, "reset": Reset.VALUE}}),
    ],
)
def test_membrane_shortcuts(graded: bool, fields: dict[str, Any], tmp_path: Path) -> None:
    graph = blocks(np.random.default_rng(11), count=2, vectors=2, **fields)
    x = random_inputs(graph, 4, 2)
    _, _, mapped, tensors = lowered_by(graph, x, relay=True, graded=graded)
    counts = x.reshape(len(x), -1, *mapped.inputs[0].shape)
    found = assert_lava_agrees(mapped, counts, tmp_path, tensors)
    relays = [p.name for p in mapped.pieces if p.cell.signed]
    assert relays == ["stem.relay", "x0.relay", "in.relay", "y0.relay"]
    assert all(found.counts[name].min() < 0 < found.counts[name].max() for name in relays)
    assert entries(tmp_path, "populations", "kind").count("relay") == 4
    bits = dict(
        zip(*(entries(tmp_path, "connections", key) for key in ("source", "message_bits")), strict=True)
    )
    assert all(bits[p.name] == p.cell.max_spikes.bit_length() + 1 for p in mapped.pieces if p.cell.signed)
    # Both ways that Lava has spikes wait, with numbers: the line, and the delays of a dense matrix.
    assert {"line", "DelayDense"} <= set(entries(tmp_path, "connections", "delay_by"))


def test_clips_on_both_sides(tmp_path: Path) -> None:
    net = Net((2, 6, 5), levels=3, steps=2, period=3, seed=9)
    signed = {"graded": True, "signed": True}
    net.layer("a", 3, Way(padding=(1, 1)), threshold=7, max_spikes=4, phase=3, decay=1, gain=2, **signed)
    net.layer("b", 4, Way("a", stride=(1, 2)), threshold=5, max_spikes=9, phase=6, bias=-3, **signed)
    net.layer("r", 3, Way("b", kernel=None), threshold=1, max_spikes=0, phase=9)
    found = assert_lava_agrees(net, net.data(5), tmp_path)
    assert (found.counts["a"].min(), found.counts["a"].max()) == (-4, 4)
    assert (found.counts["b"].min(), found.counts["b"].max()) == (-9, 9)
