"""Lava's fixed-point processes compute what the simulator's clocked engine computes, bit for bit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava_folders import assert_lava_agrees, write_folder

from loihi_nets import raised
from simulator.simnets import Net, Way
from snncc.ir.nodes import Reset
from snncc.mapping.mapped import INPUT, Mapped
from snncc_loihi.exponents import without_exponents
from snncc_loihi.runner import lava_python, run_lava

LIF = {"reset": Reset.VALUE, "reset_to": 0, "precharge": -1, "max_spikes": 1, "gain": 64}


def entries(folder: Path, kind: str, key: str) -> list[Any]:
    document = json.loads((folder / "network.json").read_text())
    return [e[key] for e in document[kind]]


def geometry(window: int, steps: int) -> Net:
    """conv (groups, padding) -> conv (strides, dilation) -> dense -> dense readout; maps not square."""
    period = window
    net = Net((4, 8, 6), levels=window, steps=steps, period=period, seed=3)
    first = Way(kernel=(3, 2), padding=(1, 2), groups=2)
    net.layer("a", 6, first, threshold=23, max_spikes=window, phase=period, precharge=11, decay=1)
    second = Way("a", kernel=(2, 3), stride=(2, 3), dilation=(3, 1))
    bias = np.arange(-3, 2)
    net.layer(
        "b", 5, second, threshold=31, max_spikes=window, phase=2 * period, precharge=15, bias=bias, decay=1
    )
    net.layer(
        "c", 7, Way("b", kernel=None), threshold=19, max_spikes=window, phase=3 * period, v_min=-5, decay=1
    )
    net.layer("r", 3, Way("c", kernel=None), threshold=1, max_spikes=0, phase=4 * period, bias=2, decay=1)
    return net


@pytest.mark.parametrize("window", [1, 4])
def test_geometry(window: int, tmp_path: Path) -> None:
    net = geometry(window, steps=2)
    assert_lava_agrees(net, net.data(5), tmp_path)
    assert entries(tmp_path, "connections", "kind") == ["conv", "conv", "dense", "dense"]


@pytest.mark.parametrize("window", [4, 8])
def test_windows_with_skips_that_wait(window: int, tmp_path: Path) -> None:
    period = window
    net = Net((2, 6, 5), levels=window, steps=2, period=period, seed=window)
    shared = {"max_spikes": window, "precharge": 9}
    net.layer("a", 4, Way(padding=(1, 1)), threshold=18, phase=period, **shared)
    net.layer(
        "b", 4, Way("a", padding=(1, 1)), threshold=29, phase=2 * period, decay=3, decay_bits=2, **shared
    )
    skip = Way("a", kernel=(1, 1), delay=period)
    hard = {"reset": Reset.VALUE, "reset_to": -2, "decay": 1}
    net.layer("c", 4, Way("b", padding=(1, 1)), skip, threshold=33, phase=3 * period, **hard, **shared)
    late = Way("a", kernel=None, delay=2 * period)
    net.layer("r", 3, Way("c", kernel=None), late, threshold=1, max_spikes=0, phase=4 * period)
    assert_lava_agrees(net, net.data(6, 0.7), tmp_path)
    assert entries(tmp_path, "connections", "delay_by") == [
        "none",
        "none",
        "none",
        "line",
        "none",
        "DelayDense",
    ]


def lif_net(gain: int, **fields: Any) -> Net:
    """Three layers of Lava's LIF, one micro-step a timestep, with a skip that waits."""
    net = Net((2, 5, 4), levels=1, steps=9, period=1, seed=7)
    lif = LIF | {"gain": gain} | fields
    net.layer("a", 3, Way(padding=(1, 1)), threshold=64 * 9, phase=1, **lif)
    net.layer("b", 4, Way("a"), threshold=64 * 14, phase=2, **lif)
    net.layer(
        "c", 5, Way("b", kernel=None), Way("a", kernel=None, delay=1), threshold=64 * 12, phase=3, **lif
    )
    return net


@pytest.mark.parametrize(
    ("gain", "fields"),
    [
        (64, {"decay": 1}),
        (128, {"decay": 4096 - 321, "decay_bits": 12}),
        (64, {"decay": 3001, "decay_bits": 12, "synapse_decay": 2047, "synapse_bits": 12}),
        (64, {"decay": 4096 - 150, "decay_bits": 12, "bias": 64 * 3, "v_init": 200}),
    ],
)
def test_native_lif(gain: int, fields: dict[str, Any], tmp_path: Path) -> None:
    net = lif_net(gain, **fields)
    assert_lava_agrees(net, net.data(6, 0.8), tmp_path)
    assert set(entries(tmp_path, "populations", "process")) == {"lif"}
    assert {n["begin"] for n in entries(tmp_path, "populations", "neuron")} == {0}
    # Dense layers of both signs keep 7 bits and the sign: doubled here or, with the gain, everywhere.
    assert entries(tmp_path, "connections", "weight_exp") == ([0, 0, -1, -1] if gain == 64 else [0] * 4)


def test_lif_with_large_biases(tmp_path: Path) -> None:
    net = Net((2, 5, 4), levels=1, steps=9, period=1, seed=7, weight_range=(60, 127))
    bias = 128 * np.array([2100, -2500, 4095])
    net.layer("a", 3, Way(), threshold=64 * 10000, phase=1, bias=bias, decay=1, **(LIF | {"gain": 128}))
    assert_lava_agrees(net, net.data(5, 0.8), tmp_path)
    assert [e["bias_exp"] for e in entries(tmp_path, "populations", "lif")] == [7]


def test_lif_that_cannot_start_silently_is_held(tmp_path: Path) -> None:
    net = lif_net(64, decay=1, bias=-64 * 8, v_init=64 * 8)
    assert_lava_agrees(net, net.data(6, 1.0), tmp_path)
    # The first would pass through 2 x 512 only before its one early update, which leaves 512.
    assert [n["begin"] for n in entries(tmp_path, "populations", "neuron")] == [0, 2, 3]


def test_native_soft_reset(tmp_path: Path) -> None:
    net = Net((2, 5, 4), levels=1, steps=8, period=1, seed=2)
    soft = {"max_spikes": 1, "gain": 2, "v_min": -50}
    bias = np.array([-3, 0, 5])
    net.layer("a", 3, Way(padding=(1, 1)), threshold=21, phase=1, decay=13, decay_bits=4, bias=bias, **soft)
    net.layer("b", 4, Way("a"), threshold=17, phase=2, precharge=8, decay=1, v_init=3, **soft)
    net.layer("r", 3, Way("b", kernel=None), threshold=1, max_spikes=0, phase=3, decay=1, gain=2)
    assert_lava_agrees(net, net.data(6, 0.8), tmp_path)
    assert [n["begin"] for n in entries(tmp_path, "populations", "neuron")] == [0, 0, 3]


def test_graded_counts(tmp_path: Path) -> None:
    net = Net((2, 6, 5), levels=7, steps=3, period=1, seed=5)
    net.layer("a", 4, Way(stride=(1, 2)), threshold=31, phase=1, precharge=15, gain=2, max_spikes=5)
    net.layer("b", 3, Way("a", kernel=None), threshold=40, phase=2, precharge=20, decay=1, max_spikes=6)
    net.layer(
        "r", 2, Way("b", kernel=None), Way("a", kernel=None, delay=1), threshold=1, max_spikes=0, phase=3
    )
    mapped = net.mapped()
    port = mapped.inputs[0].model_copy(update={"graded": True})
    pieces = tuple(p.model_copy(update={"graded": not p.is_readout}) for p in mapped.pieces)
    mapped = mapped.model_copy(update={"inputs": (port,), "pieces": pieces})
    found = assert_lava_agrees(mapped, net.data(5), tmp_path, net.tensors)
    assert found.trains["a"].max() > 1
    assert entries(tmp_path, "connections", "message_bits") == [3, 3, 3, 3]


def test_streams(tmp_path: Path) -> None:
    net = Net((2, 6, 5), levels=4, steps=1, period=5, seed=6)
    net.layer("a", 4, Way(), threshold=23, max_spikes=4, phase=1, precharge=11)
    net.layer("b", 3, Way("a", kernel=None), threshold=40, max_spikes=4, phase=2, precharge=20, bias=3)
    net.layer("r", 2, Way("b", kernel=None), threshold=1, max_spikes=0, phase=3)
    mapped = net.mapped()
    capped = {"a": True, "b": False, "r": False}
    pieces = [p.model_copy(update={"streams": True, "capped": capped[p.name]}) for p in mapped.pieces]
    mapped = mapped.model_copy(update={"pieces": tuple(pieces)})
    found = assert_lava_agrees(mapped, net.data(6, 0.9), tmp_path, net.tensors)
    for name in "ab":
        np.testing.assert_array_equal(found.trains[name].sum(axis=1), found.counts[name][:, 0])


def test_what_lavas_own_processes_cannot_hold(tmp_path: Path) -> None:
    """More than 127 groups, a delay beyond 62, a delayed dense layer of a million words a step."""
    net = Net((130, 5, 4), levels=2, steps=1, period=3, seed=8)
    net.layer(
        "a",
        260,
        Way(kernel=(3, 2), stride=(2, 1), padding=(0, 1), groups=130),
        threshold=7,
        max_spikes=2,
        phase=3,
    )
    net.layer("b", 40, Way("a", kernel=None, delay=12), threshold=30, max_spikes=2, phase=18)
    net.layer(
        "r", 3, Way("b", kernel=None), Way(INPUT, kernel=None, delay=70), max_spikes=0, threshold=1, phase=75
    )
    assert_lava_agrees(net, net.data(5), tmp_path)
    assert entries(tmp_path, "connections", "kind") == ["tapconv", "dense", "dense", "dense"]
    assert entries(tmp_path, "connections", "delay_by") == ["none", "line", "none", "line"]


def test_one_population_reads_a_convolution_and_a_dense_layer(tmp_path: Path) -> None:
    net = Net((2, 3, 4), levels=2, steps=2, period=3, seed=9)
    net.layer("a", 3, Way(kernel=(2, 2)), threshold=12, max_spikes=2, phase=3)
    # The same size of output, once through a padded kernel.
    padded = Way("a", kernel=(4, 5), padding=(1, 1))
    net.layer("b", 4, padded, Way(INPUT, kernel=(3, 4), delay=3), threshold=9, max_spikes=2, phase=6)
    assert_lava_agrees(net, net.data(5), tmp_path)
    assert entries(tmp_path, "connections", "kind") == ["conv", "conv", "dense"]
    assert entries(tmp_path, "connections", "delay_by") == ["none", "none", "DelayDense"]


def test_samples_do_not_reach_each_other(tmp_path: Path) -> None:
    net = lif_net(64, decay=1, bias=64, synapse_decay=4000, synapse_bits=12)
    folder, x = write_folder(net.mapped(), net.tensors, tmp_path), net.data(4, 1.0)
    together = run_lava(folder, x)
    again = run_lava(folder, x[::-1])
    for name, counts in together.counts.items():
        np.testing.assert_array_equal(again.counts[name][::-1], counts)


def test_spikes_that_arrive_too_late_do_not_reach_the_next_sample(tmp_path: Path) -> None:
    net = Net((2, 3, 4), levels=3, steps=2, period=3, seed=9)
    net.layer("a", 3, Way(kernel=(2, 2)), threshold=12, max_spikes=2, phase=3)
    late = Way(INPUT, kernel=(2, 2), delay=14)
    net.layer("b", 4, Way("a", kernel=(1, 1)), late, threshold=9, max_spikes=2, phase=6)
    net.layer(
        "c", 2, Way("b", kernel=None), Way(INPUT, kernel=None, delay=14), threshold=9, max_spikes=2, phase=9
    )
    assert_lava_agrees(net, net.data(5), tmp_path)


def test_no_samples(tmp_path: Path) -> None:
    net = geometry(2, steps=2)
    found = run_lava(write_folder(net.mapped(), net.tensors, tmp_path), net.data(0), trains=True)
    assert found.counts["b"].shape == (0, 2, 5, 3, 3)
    assert found.trains["b"].shape[0] == 0


def test_the_folder_runs_without_snncc(tmp_path: Path) -> None:
    net = geometry(2, steps=1)
    mapped: Mapped = net.mapped()
    folder, x = write_folder(mapped, net.tensors, tmp_path / "there"), net.data(2)
    np.savez(tmp_path / "in.npz", **{"x.0": x})
    command = [lava_python(), folder / "run.py", "--inputs", "in.npz", "--results", "out.npz"]
    subprocess.run(
        command, cwd=tmp_path, check=True, timeout=60, stdin=subprocess.DEVNULL, capture_output=True
    )
    with np.load(tmp_path / "out.npz") as file:
        found = dict(file)
    expected = run_lava(folder, x).counts
    assert sorted(found) == [f"counts.{i}" for i in range(4)]
    for i, piece in enumerate(mapped.pieces):
        np.testing.assert_array_equal(found[f"counts.{i}"], expected[piece.name])


@pytest.mark.parametrize("graded", [False, True])
def test_weights_before_powers_of_two(graded: bool, tmp_path: Path) -> None:
    """A linear layer's exponent is Lava's own; a convolution's, which Lava ignores, are copies."""
    period = 1 if graded else 3
    net = Net((2, 4, 5), levels=3, steps=2, period=period, seed=4)
    way = {"max_spikes": 3, "gain": 2, "graded": graded}
    net.layer("a", 3, Way(padding=(1, 0), stride=(1, 2)), threshold=40, phase=period, **way)
    net.layer("b", 6, Way("a", kernel=None), threshold=400, phase=2 * period, **way)
    net.layer("r", 4, Way("b", kernel=None), threshold=1, max_spikes=0, phase=3 * period)
    mapped = without_exponents(raised(net.mapped(), a=1, b=3))
    assert_lava_agrees(mapped, net.data(5), tmp_path, net.tensors)
    assert entries(tmp_path, "connections", "weight_exp") == [0, 0, 3, -1]
    assert entries(tmp_path, "connections", "kind") == ["conv", "conv", "dense", "dense"]
