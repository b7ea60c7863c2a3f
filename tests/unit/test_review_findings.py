"""Errors that a reader of the first version found; each stays found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snncc
from cells import integer_neuron
from forging import forge
from snncc.analysis.claims import layer_sums
from snncc.api import open_artifact
from snncc.compilation import Options
from snncc.data import Dataset, as_dataset
from snncc.errors import SnnccError
from snncc.ir import (
    Add,
    BatchNorm,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Output,
    Permute,
    Reset,
    Reshape,
    Rounding,
)
from snncc.ir.cell import Cell
from snncc.ir.interp import run
from snncc.model import Model
from snncc.passes import fold_conv_bn
from snncc.store import write_artifact
from snncc_sim.target import SIM
from snncc_speck import SPECK2F
from speck_nets import conv, network, spiking


def made(graph: Graph, out: Path, x: Any, schedule: str = "exact", target: Any = SPECK2F) -> Any:
    model = Model(graph, calibration=x)
    lowered = target.lower(model, x, Options(schedule))
    return write_artifact(out, model, lowered, target.emit(lowered), target.checker, force=False)


def small() -> Graph:
    return network(
        Input(name="x", shape=(2, 6, 4), levels=4), conv("c", "x", 3, 2, padding=(1, 1)), spiking("n", "c")
    )


def counts(samples: int, *shape: int, seed: int = 1, top: int = 4) -> Any:
    return np.random.default_rng(seed).integers(0, top + 1, (samples, 1, *shape))


@pytest.mark.parametrize("manifest", ['{"name": "my web extension"}', "none", "ours"])
def test_force_never_deletes_what_snncc_did_not_write(tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "out"
    x = counts(4, 2, 6, 4)
    if manifest == "ours":
        made(small(), out, x)
    else:
        out.mkdir()
        (out / "manifest.json").write_text(manifest)
    (out / "precious.txt").write_text("mine")
    model = Model(small(), calibration=x)
    lowered = SPECK2F.lower(model, x, Options())
    with pytest.raises(SnnccError) as error:
        write_artifact(out, model, lowered, {}, SPECK2F.checker, force=True)
    assert str(error.value) == f"[SNNC-U002] {out}: exists already. Try another path."
    assert (out / "precious.txt").read_text() == "mine"


def test_a_result_that_is_a_map_keeps_its_order_and_decides_over_all_of_it(tmp_path: Path) -> None:
    """Scores [5, 2, 3] permuted and flattened: class indices are those of the trained network."""
    nodes = (
        Input(name="x", shape=(2, 2, 3), levels=4),
        conv("c", "x", 5, 2, (1, 1)),
        spiking("n", "c"),
        conv("d", "n", 5, 5, (1, 1), seed=4),
        Permute(name="p", inputs=("d",), axes=(1, 2, 0)),
        Reshape(name="f", inputs=("p",), shape=(30,)),
    )
    graph = network(*nodes)
    x = counts(60, 2, 2, 3)
    labels = run(graph, x).result.argmax(axis=1)
    assert len(set(labels.tolist())) > 5
    for target in (SPECK2F, SIM):
        artifact = made(graph, tmp_path / target.name, x, target=target)
        found = snncc.verify(artifact, Dataset(x, labels))
        assert found.accuracy.float == 1.0
        assert found.accuracy.integer is not None
        assert found.accuracy.integer > 0.6  # chance is 0.03
        assert found.accuracy.spikes == found.accuracy.integer
        assert found.agreement == 1.0


def test_a_value_added_to_itself_is_a_scale(tmp_path: Path) -> None:
    nodes = (
        Input(name="x", shape=(2, 6, 4), levels=4),
        conv("c", "x", 3, 2, padding=(1, 1)),
        spiking("n", "c"),
        Add(name="twice", inputs=("n", "n")),
        conv("d", "twice", 4, 3, seed=5),
        spiking("m", "d"),
    )
    artifact = made(network(*nodes), tmp_path / "out", counts(8, 2, 6, 4))
    assert [len(p.connections) for p in artifact.mapped.pieces] == [1, 1]
    assert snncc.verify(artifact, Dataset(counts(8, 2, 6, 4))).equivalent


@pytest.mark.parametrize("samples", [1, 127, 128, 129, 257])
def test_the_hosts_part_is_computed_once_for_both_sides(tmp_path: Path, samples: int) -> None:
    """A wide float stem whose sums a matrix library rounds by batch size must not look like a mismatch."""
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="x", shape=(300,)),
        Linear(name="stem", inputs=("x",), weight=Const(rng.normal(size=(64, 300)).astype(np.float32))),
        Neuron(name="encoder", inputs=("stem",), max_spikes=4, rounding=Rounding.HALF_EVEN),
        Linear(name="fc", inputs=("encoder",), weight=Const(rng.normal(size=(5, 64)).astype(np.float32))),
        Neuron(name="n", inputs=("fc",), threshold=8.0, max_spikes=4, rounding=Rounding.HALF_EVEN),
    )
    x = rng.normal(size=(samples, 1, 300)).astype(np.float32)
    artifact = made(network(*nodes), tmp_path / "out", x, target=SIM)
    found = snncc.verify(artifact, Dataset(x))
    assert found.equivalent
    assert found.not_compared == ("encoder",)
    assert snncc.simulate(artifact, Dataset(x)).cost.operations.macs == samples * 64 * 300


def membranes(graph: Graph, neuron: Cell, x: Any) -> Any:
    """Charged membranes of an integer neuron with its pre-charge, timestep by timestep, by its equations."""
    layer = graph.by_name["l"]
    assert isinstance(layer, Linear)
    v = np.full((len(x), layer.weight.shape[0]), neuron.v_init)
    seen = []
    for t in range(graph.steps):
        drive = x[:, t] @ layer.weight.array.T.astype(np.int64) + layer.bias.array  # type: ignore[union-attr]
        u = np.sign(v) * ((np.abs(v) * neuron.decay) >> neuron.decay_bits) + drive + neuron.bias
        half, threshold = neuron.precharge, neuron.theta
        n = np.clip((u + half) // threshold, 0, neuron.max_spikes)
        taken = threshold if neuron.reset_by is None else neuron.reset_by
        seen += [u + half, u - n * threshold]
        v = np.where(n > 0, neuron.reset_to, u) if neuron.reset is Reset.VALUE else u - n * taken
        v = v if neuron.v_min is None else np.maximum(v, neuron.v_min)
    return np.stack(seen)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
def test_ranges_over_timesteps_hold_for_the_largest_inputs(seed: int, data: st.DataObject) -> None:
    """What the certificate calls possible covers biases that add up, resets and what subtraction leaves."""
    rng = np.random.default_rng(seed)
    layer = Linear(
        name="l",
        inputs=("x",),
        weight=Const(rng.integers(-9, 10, (3, 4)).astype(np.int8)),
        bias=Const(rng.integers(-30, 31, 3).astype(np.int32)),
    )
    decay = data.draw(st.sampled_from([1, 3]))
    neuron = integer_neuron(
        "n",
        "l",
        threshold=data.draw(st.integers(3, 20)),
        max_spikes=data.draw(st.sampled_from([1, 3])),
        half_up=data.draw(st.booleans()),
        decay=decay,
        decay_bits=2 if decay == 3 else 0,
        reset=data.draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
        reset_by=data.draw(st.sampled_from([None, 2, 40])),
        reset_to=data.draw(st.integers(-8, 8)),
        v_init=data.draw(st.integers(-8, 8)),
        v_min=data.draw(st.sampled_from([None, -2])),
    )
    nodes = (Input(name="x", shape=(4,), levels=2), layer, neuron, Output(name="o", inputs=("n",)))
    graph = Graph("g", Family.INTEGER, nodes, steps=5)
    corners = rng.integers(0, 2, (64, 5, 4)) * 2
    corners[0], corners[1] = 0, 2
    (sums,) = layer_sums(graph, corners)
    seen = membranes(graph, neuron.cell, corners)
    assert seen.min() >= sums.start_low + sums.all_inputs[0]
    assert seen.max() <= sums.start_high + sums.all_inputs[1]


def test_a_readout_that_leaves_its_range_is_reported(tmp_path: Path) -> None:
    """Positive and negative sums of 65,000 cancel in the order played, not in every order."""
    weight = np.concatenate([np.full(400, 1.0), np.full(400, -1.0)]).astype(np.float32)
    graph = network(
        Input(name="x", shape=(800,), levels=4), Linear(name="l", inputs=("x",), weight=Const(weight[None]))
    )
    quiet = np.zeros((2, 1, 800), np.int64)
    quiet[:, :, ::100] = 1
    artifact = made(graph, tmp_path / "out", quiet)
    assert snncc.verify(artifact, Dataset(quiet)).equivalent
    loud = snncc.verify(artifact, Dataset(np.full((2, 1, 800), 4)))
    assert not loud.equivalent
    assert loud.excursions[0].layer == "l.readout"


def test_scales_are_chosen_for_counts_without_a_clip() -> None:
    """Behind a layer whose counts go far beyond D the sums are larger than training saw."""
    rng = np.random.default_rng(2)
    eye = Conv2d(
        name="c", inputs=("x",), weight=Const((np.eye(8) * 9).reshape(8, 8, 1, 1).astype(np.float32))
    )
    wide = Conv2d(
        name="d",
        inputs=("n",),
        weight=Const(rng.normal(size=(4, 8, 3, 3)).astype(np.float32)),
        padding=(1, 1),
    )
    graph = network(
        Input(name="x", shape=(8, 6, 4), levels=4), eye, spiking("n", "c"), wide, spiking("m", "d")
    )
    x = counts(6, 8, 6, 4)
    lowered = SPECK2F.lower(Model(graph), x, Options())
    assert [a.step for a in lowered.certificate.approximations] == ["drop-clip", "quantize"]
    assert run(lowered.integer_graph, x).values["n"].max() == 36


def test_check_lists_every_rectangular_kernel_beside_the_limits() -> None:
    nodes = (
        Input(name="x", shape=(2, 30, 28), levels=4),
        conv("a", "x", 3, 2, (2, 3)),
        spiking("n", "a"),
        conv("b", "n", 3, 3, (3, 2)),
        spiking("m", "b"),
        conv("c", "m", 3, 3, (17, 17)),
        spiking("k", "c"),
    )
    result = snncc.check(Model(network(*nodes), calibration=counts(2, 2, 30, 28)), target="speck2f")
    assert [(p.code, p.got) for p in result.problems] == [
        ("SNNC-C005", "2x3"),
        ("SNNC-C005", "3x2"),
        ("SNNC-C005", "17x17"),
    ]


def edit_mapped(data: bytes, what: str) -> bytes:
    mapped = json.loads(data)
    piece = mapped["pieces"][0]
    if what == "stride":
        piece["connections"][0]["address"]["stride"] = [0, 1]
    elif what == "source":
        piece["connections"][0]["source"] = "nobody"
    elif what == "threshold":
        piece["threshold"] = -3
    elif what == "output":
        mapped["output"]["piece"] = "z"
    elif what == "weight":
        piece["connections"][0]["weight"] = "0" * 16
    elif what == "lift":
        piece["gate"]["rounds"] = 1
    return json.dumps(mapped).encode()


@pytest.mark.parametrize("what", ["stride", "source", "threshold", "output", "weight", "lift"])
def test_a_forged_mapping_is_refused_not_run(tmp_path: Path, what: str) -> None:
    made(small(), tmp_path / "out", counts(4, 2, 6, 4))
    forge(tmp_path / "out", "mapped.json", lambda data: edit_mapped(data, what))
    with pytest.raises(SnnccError) as error:
        open_artifact(tmp_path / "out")
    assert error.value.code == "SNNC-U006"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tensors.safetensors", b'"I8"', b'"I9"'),
        ("calibration.safetensors", b"{", b"["),
        ("integer.snn", b"conv2d %x", b"conv2d %y"),
        ("spike.snn", b"snn spike", b"\xff\xff\xff spike"),
        ("certificate.json", b'"proven"', b'"proved"'),
    ],
)
def test_forged_files_are_refused(tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    made(small(), tmp_path / "out", counts(4, 2, 6, 4))

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    forge(tmp_path / "out", name, change)
    with pytest.raises(SnnccError) as error:
        open_artifact(tmp_path / "out")
    assert error.value.code == "SNNC-U006"


def test_labels_must_be_classes_of_the_network() -> None:
    graph = small()
    with pytest.raises(SnnccError) as error:
        as_dataset(counts(2, 2, 6, 4)[:, 0], np.array([0, 72]), graph, "d")
    assert (
        str(error.value)
        == "[SNNC-D009] d: y: names classes that the network does not have, got 0..72, limit 0..71."
    )


def test_a_free_certificate_speaks_of_no_gate() -> None:
    lowered = SPECK2F.lower(Model(small()), counts(4, 2, 6, 4), Options("free"))
    assert all(p.gate is None and p.admitted is None for p in lowered.mapped.pieces)
    (layer,) = lowered.certificate.ranges
    assert layer.allowed[1] - layer.allowed[0] >= 2**16 - 1 - 4 * 127


def test_verify_each_notices_a_float_pass_that_breaks_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch normalisation folded without its eps: the float rule is asked of every float pass."""
    one = Const(np.ones(3, np.float32))
    small_variance = Const(np.full(3, 1e-4, np.float32))
    nodes = (
        Input(name="x", shape=(2, 6, 4), levels=4),
        conv("c", "x", 3, 2, padding=(1, 1)),
        BatchNorm(name="b", inputs=("c",), gamma=one, beta=one, mean=one, var=small_variance, eps=1e-5),
        spiking("n", "b"),
    )
    model, x = Model(network(*nodes)), counts(4, 2, 6, 4)
    passes = SIM.lower(model, x, Options(verify_each=True)).certificate.passes
    assert passes[0].note.startswith("float rule kept")

    def without_eps(node: BatchNorm, channels: int) -> Any:
        scale = node.gamma.array / np.sqrt(node.var.array)
        return scale, node.beta.array - node.mean.array * scale

    monkeypatch.setattr(fold_conv_bn, "_affine_of", without_eps)
    with pytest.raises(SnnccError) as error:
        SIM.lower(model, x, Options(verify_each=True))
    assert error.value.code == "SNNC-X001"
    assert "breaks the float rule" in str(error.value)
