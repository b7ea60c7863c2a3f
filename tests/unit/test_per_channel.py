"""Scales and numbers of each channel on chips: who holds them, who refuses, and what the ways out do."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import snncc
from cells import renumbered
from cli import clinets
from snncc.analysis.free_bounds import free_bounds
from snncc.analysis.ties import changed_by_ties
from snncc.cli.main import cli
from snncc.compilation import Options, Target
from snncc.data import Dataset
from snncc.errors import SnnccError
from snncc.graphfile import write_graph_file
from snncc.ir import Cell, Const, Decode, Graph, IntegerNeuron, Neuron, Node
from snncc.ir.interp import run
from snncc.mapping.check import violations
from snncc.mapping.mapped import Mapped
from snncc.mapping.partition import Partition
from snncc.model import Model
from snncc.passes.rounding import half_down, half_up
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM, TIANJIC
from snncc_speck import SPECK2F
from unit.test_free_bounds import counts_of_every_order, network

THETAS = Const(np.array([0.25, 0.5, 0.125, 1.25], np.float32))
LEAKS = Const(np.array([0.5, 0.75, 0.875, 0.25], np.float32))


def over_time(graph: Graph, steps: int = 3, **numbers: Any) -> Graph:
    """The network of the command line's tests as one of IF neurons and single spikes, over time."""

    def changed(node: Node) -> Node | None:
        if isinstance(node, Neuron):
            own = numbers if node.name == "s1" else {}
            return replace(node, **({"max_spikes": 1, "decay": 1.0} | own))
        return replace(node, levels=1) if node.name == "x" else None  # type: ignore[call-arg]

    return replace(graph.rewrite(changed), steps=steps)


def invoke(*args: object) -> Result:
    return CliRunner(env={"SNNCC_DEBUG": None}).invoke(cli, [str(a) for a in args])


def spikes(steps: int, samples: int = 6) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2, (samples, steps, *clinets.SHAPE))


# ---- --per-channel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "name"), [(SPECK2F, "speck2f"), (LOIHI2, "loihi2"), (TIANJIC, "tianjic")])
def test_a_chip_with_one_threshold_a_layer_refuses_and_both_ways_out_work(
    target: Target, name: str, tmp_path: Path
) -> None:
    model = clinets.model()
    message = (
        f"[SNNC-C010] --per-channel on {name}: the chip's layers hold one threshold, leak and reset for all "
        "channels, got 5 channels, each with a threshold, in %s2 (fc), limit 1. "
        "Try --target sim, or no --per-channel."
    )
    with pytest.raises(SnnccError) as error:
        snncc.compile(model, target=name, out=tmp_path / "refused", per_channel=True)
    assert str(error.value) == message
    assert not (tmp_path / "refused").exists()
    found = snncc.check(model, target=name, per_channel=True)
    assert [f"[{p.code}] {p}" for p in found.problems] == [message]
    assert snncc.check(model, target=name).problems == ()
    assert snncc.check(model, target="sim", per_channel=True).problems == ()


def test_the_artifact_of_scales_of_channels_is_verified_and_read_back(tmp_path: Path) -> None:
    made = snncc.compile(clinets.model(), target="sim", out=tmp_path / "a", weight_bits=4, per_channel=True)
    x, y = clinets.inputs(20)
    found = snncc.verify(snncc.open_artifact(tmp_path / "a"), Dataset(x[:, None], y, "x"))
    assert found.equivalent
    assert sum(layer.mismatches for layer in found.layers) == 0
    cells = {p.name: p.cell for p in made.mapped.pieces}
    assert [c.per_channel() for c in cells.values()] == [
        ("threshold", "precharge"),
        ("threshold", "precharge"),
    ]
    for c in (c for p in made.mapped.pieces for c in p.connections):
        rows = np.abs(made.tensors[c.weight].astype(int)).reshape(c.address.target_shape[0], -1).max(axis=1)
        assert set(rows) <= {6, 7}  # every channel fills its four bits, or all but a threshold's rounding
    plain = snncc.compile(clinets.model(), target="sim", out=tmp_path / "b", weight_bits=4)
    assert all(p.cell.per_channel() == () for p in plain.mapped.pieces)


def test_the_command_line_names_the_layers_that_keep_one_scale(tmp_path: Path) -> None:
    graph = clinets.graph()
    readout = graph.rewrite(lambda n: replace(n, max_spikes=0) if n.name == "s2" else None)  # type: ignore[call-arg]
    membrane = readout.rewrite(lambda n: replace(n, decode=Decode.MEMBRANE) if n.name == "out" else None)  # type: ignore[call-arg]
    x, _ = clinets.inputs(8)
    path = tmp_path / "net.snnc"
    write_graph_file(path, Model(membrane, calibration=x[:, None]))
    line = "one scale for all channels of %s2 (fc): the membranes of a readout have one unit"
    checked = invoke("check", path, "--target", "sim", "--per-channel")
    assert checked.exit_code == 0, checked.stderr
    assert f"note: {line}\n" in checked.stderr
    assert line not in invoke("check", path, "--target", "sim").stderr
    made = invoke("compile", path, "--target", "sim", "--per-channel", "-o", tmp_path / "out")
    assert f"  - {line}\n" in made.stdout
    assert "per_channel=True" in made.stdout.replace("\n", "")
    refused = invoke("check", path, "--target", "speck2f", "--per-channel")
    assert refused.exit_code == 3
    assert "Try --target sim, or no --per-channel." in " ".join(refused.stderr.split())


# ---- thresholds, leaks, resets and bounds of each channel ------------------------------------------------


@pytest.mark.parametrize("target", [SIM, LOIHI2, SPECK2F, TIANJIC])
def test_thresholds_of_each_channel_move_into_the_weights_on_every_chip(target: Target) -> None:
    model = clinets.model()
    own = model.graph.rewrite(lambda n: replace(n, threshold=THETAS) if n.name == "s1" else None)  # type: ignore[call-arg]
    x, _ = clinets.inputs(30)
    made = target.lower(Model(own), x[:, None], Options())
    cells = [n.cell for n in made.integer_graph.neurons if isinstance(n, IntegerNeuron)]
    assert [c.per_channel() for c in cells] == [(), ()]
    real, whole = run(own, x[:, None]).values["s1"], run(made.integer_graph, x[:, None]).values["s1"]
    other = run(model.graph, x[:, None]).values["s1"]
    assert (np.minimum(real, 4) == np.minimum(whole, 4)).mean() > 0.98
    assert (np.minimum(other, 4) == np.minimum(whole, 4)).mean() < 0.95


def test_leaks_of_each_channel_are_computed_by_the_host_or_refused(tmp_path: Path) -> None:
    x = spikes(3)
    model = Model(over_time(clinets.graph(), decay=LEAKS), calibration=x)
    message = (
        "[SNNC-C010] %s1 (conv1) on loihi2: the chip's layers hold one threshold, leak and reset for all "
        "channels, got decay 1024..3584 in 4 channels. Try one number for the layer, or --target sim"
    )
    with pytest.raises(SnnccError) as error:
        LOIHI2.lower(model, x, Options(partition=Partition.NONE))
    assert str(error.value).startswith(message)
    made = snncc.compile(model, target="loihi2", out=tmp_path / "divided")
    assert [p.name for p in made.mapped.on_host] == ["s1"]
    assert [p.name for p in made.mapped.on_chip] == ["s2"]
    assert snncc.verify(made, Dataset(x, None, "x")).equivalent
    whole = snncc.compile(model, target="sim", out=tmp_path / "sim")
    assert whole.mapped.on_host == ()
    assert snncc.verify(whole, Dataset(x, None, "x")).equivalent
    # Of one timestep nothing is kept that could leak.
    once = Model(over_time(clinets.graph(), steps=1, decay=LEAKS), calibration=spikes(1))
    assert snncc.compile(once, target="speck2f", out=tmp_path / "speck").mapped.on_host == ()


def test_the_checker_finds_numbers_of_channels_where_the_chip_has_none() -> None:
    made = LOIHI2.lower(Model(clinets.graph()), clinets.inputs(8)[0][:, None], Options())
    (first, *rest) = made.mapped.pieces
    theta = int(first.cell.theta)
    cell = {"threshold": Const(np.array([theta, theta + 2, theta, 1], np.int32))}
    forged = made.mapped.model_copy(update={"pieces": (renumbered(first, **cell), *rest)})
    assert found_by_checker(made.mapped, made.tensors) == []
    assert found_by_checker(forged, made.tensors) == [
        "mapping of s1: has numbers of each channel, which the chip has not, got threshold."
    ]


def found_by_checker(mapped: Mapped, tensors: Any) -> list[str]:
    return [str(p) for p in violations(mapped, tensors, LOIHI2.chip, LOIHI2.checker)]


# ---- analyses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_events_leaves_the_bounds_of_a_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, thetas = rng.integers(-4, 6, (3, 3)).tolist(), rng.integers(1, 7, 3)
    graph = network(rows, 1, 1)
    cell = Cell(threshold=Const(thetas.astype(np.int32)), max_spikes=99)
    graph = graph.rewrite(lambda n: replace(n, cell=cell) if n.name == "n" else None)  # type: ignore[call-arg]
    low, high = free_bounds(graph, np.ones((1, 1, 3)), capped=False)["n"]
    for channel, weights in enumerate(rows):
        seen = counts_of_every_order(weights, int(thetas[channel]), 0, None)
        assert low[0, channel] <= min(seen)
        assert max(seen) <= high[0, channel]
    assert len(list(permutations(rows[0]))) == 6


def test_ties_of_each_channel_are_told_by_its_threshold() -> None:
    """Thresholds 4, 6 and 5: u = 2 and 3 are ties of the first two, the third has none."""
    theta = Const(np.array([4, 6, 5], np.int32))
    up, down = (Cell(threshold=theta, max_spikes=3, precharge=p(theta)) for p in (half_up, half_down))
    assert (up.rounds_half_up, up.rounds_half_down) == (True, False)
    assert (down.rounds_half_up, down.rounds_half_down) == (False, True)
    u = np.array([[2, 3, 2], [6, 9, 3], [3, 2, 5]])
    assert changed_by_ties(up, u) == changed_by_ties(down, u) == (2, 2)
    floors = Cell(threshold=theta, max_spikes=3, precharge=Const(np.array([0, 3, 2], np.int32)))
    assert (floors.rounds_half_up, floors.rounds_half_down) == (False, False)
