"""Verification notices every planted error, names the first difference, and never praises `free`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snncc
from cells import renumbered
from snncc.artifact import Artifact
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.equivalence.result import Verification
from snncc.equivalence.verify import verify_artifact
from snncc.errors import InternalError, SnnccError
from snncc.ir import Delay, Family, Graph, Input, Linear, Neuron, Output
from snncc.ir.const import Const
from snncc.model import Model
from snncc.reporting.words import verdict, verification_problems
from snncc.store import write_artifact
from snncc_sim import SIMULATOR
from snncc_speck import SPECK2F
from speck_nets import conv, network, spiking

SHAPE = (2, 6, 4)


def inputs(seed: int, samples: int, top: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, top + 1, (samples, 1, *SHAPE))


def artifact(
    folder: Path, schedule: str = "exact", calibration: np.ndarray[Any, Any] | None = None
) -> Artifact:
    graph = network(
        Input(name="x", shape=SHAPE, levels=4),
        conv("c1", "x", 3, 2, padding=(1, 1)),
        spiking("n1", "c1"),
        conv("c2", "n1", 5, 3, padding=(1, 1), seed=3),
        spiking("n2", "c2"),
    )
    x = inputs(1, 16) if calibration is None else calibration
    model = Model(graph, calibration=x)
    lowered = SPECK2F.lower(model, x, Options(schedule))
    return write_artifact(
        folder / schedule, model, lowered, SPECK2F.emit(lowered), SPECK2F.checker, force=False
    )


def tampered(good: Artifact, what: str) -> Artifact:
    """A mapped network with one error that an exporter could make."""
    pieces = list(good.mapped.pieces)
    tensors = dict(good.tensors)
    connection = pieces[1].connections[0]
    if what == "flipped kernel":
        flipped = Const(tensors[connection.weight][:, :, ::-1, ::-1])
        tensors[flipped.digest] = flipped.array
        pieces[1] = pieces[1].model_copy(
            update={"connections": (connection.model_copy(update={"weight": flipped.digest}),)}
        )
    elif what == "lost padding row":
        address = connection.address.model_copy(update={"padding": (0, 1)})
        gate = pieces[1].gate
        assert gate is not None
        changes = {
            "connections": (connection.model_copy(update={"address": address}),),
            "gate": gate.model_copy(update={"tap": (0, 1)}),
        }
        pieces[1] = pieces[1].model_copy(update=changes)
    elif what == "> for ≥":
        pieces[1] = renumbered(pieces[1], precharge=pieces[1].cell.precharge - 1)
    elif what == "transposed kernel":
        turned = Const(np.swapaxes(tensors[connection.weight], 2, 3))
        tensors[turned.digest] = turned.array
        pieces[1] = pieces[1].model_copy(
            update={"connections": (connection.model_copy(update={"weight": turned.digest}),)}
        )
    mapped = good.mapped.model_copy(update={"pieces": tuple(pieces)})
    return replace(good, mapped=mapped, tensors=tensors)


def test_a_good_artifact_is_equivalent(tmp_path: Path) -> None:
    found = snncc.verify(artifact(tmp_path), Dataset(inputs(1, 16)))
    assert found.equivalent
    assert [(m.name, m.neurons, m.compared, m.mismatches) for m in found.layers] == [
        ("n1", 72, 1152, 0),
        ("n2", 120, 1920, 0),
    ]
    assert found.first_divergence is None


@pytest.mark.parametrize("what", ["flipped kernel", "lost padding row", "> for ≥", "transposed kernel"])
def test_a_planted_error_is_found_where_it_is(tmp_path: Path, what: str) -> None:
    bad = tampered(artifact(tmp_path), what)
    # All counts, so that some membranes lie on the threshold.
    found = snncc.verify(bad, Dataset(inputs(1, 400)))
    assert not found.equivalent
    assert found.layers[0].mismatches == 0
    assert found.layers[1].mismatches > 0
    first = found.first_divergence
    assert first is not None
    assert first.layer == "n2"
    assert len(first.neuron) == 3
    assert first.integer != first.spikes


def test_results_are_compared_beside_the_counts(tmp_path: Path) -> None:
    """What decodes the counts of the last layer can be wrong where every count is right."""
    good, data = artifact(tmp_path), Dataset(inputs(1, 16))
    counts = SIMULATOR.execute(good.mapped, good.tensors, data.x.reshape(16, 1, *SHAPE))
    for result, wrong in ((counts.result, 0), (-counts.result, int((counts.result != 0).sum()))):
        found = verify_artifact(good, data, {}, "sim", replace(counts, result=result), None)
        assert (found.equivalent, found.results.compared, found.results.mismatches) == (
            not wrong,
            1920,
            wrong,
        )
        assert sum(layer.mismatches for layer in found.layers) == 0
    assert verdict(found, "x").headline == (
        f"Not equivalent: {wrong:,} of 1,920 values of the result differ on 16 samples, "
        "though no spike count does."
    )
    assert [str(p) for p in verification_problems(found, "out")] == [
        f"out: not equivalent under the schedule `exact`, got {wrong:,} of 1,920 values different. "
        "Try `snncc verify --json` for the first divergence, and report it."
    ]
    flat = replace(counts, result=counts.result.reshape(16, -1))
    assert verify_artifact(good, data, {}, "sim", flat, None).results.mismatches == 1920


def test_a_sample_outside_the_calibrated_range_is_no_success(tmp_path: Path) -> None:
    """Calibrated on quiet inputs, loud ones may still count right, but nothing vouches for it."""
    quiet = inputs(1, 4, top=1)
    made = artifact(tmp_path, calibration=quiet)
    assert not made.certificate.proven
    assert snncc.verify(made, Dataset(quiet)).equivalent
    loud = snncc.verify(made, Dataset(np.full((3, 1, *SHAPE), 4)))
    assert not loud.equivalent
    assert loud.excursions
    assert loud.excursions[0].first_sample == 0


def proven(made: Artifact, *layers: str) -> Artifact:
    """The artifact with a certificate that calls the ranges of some layers proven."""
    ranges = tuple(
        r.model_copy(update={"proven": True}) if r.layer in layers else r for r in made.certificate.ranges
    )
    return replace(made, certificate=made.certificate.model_copy(update={"ranges": ranges}))


def compared(made: Artifact, data: Dataset) -> Verification:
    """Values alone: a certificate that says what no graph does would be a disagreement before it is a bug."""
    spikes = SIMULATOR.execute(made.mapped, made.tensors, data.x)
    return verify_artifact(made, data, {}, "sim", spikes, None)


def test_a_sample_that_leaves_a_proven_range_is_our_bug(tmp_path: Path) -> None:
    """Only where every range of the layer is called proven; a conditional one is the sample's fault."""
    made = artifact(tmp_path, calibration=inputs(1, 4, top=1))
    assert [(r.layer, r.proven) for r in made.certificate.ranges] == [("n1", False), ("n2", False)]
    loud = Dataset(np.concatenate([np.zeros((2, 1, *SHAPE), np.int64), np.full((3, 1, *SHAPE), 4)]))
    left = {e.layer: e.first_sample for e in snncc.verify(made, loud).excursions}
    assert left == {"n1": 2, "n2": 2}
    for layer in ("n1", "n2"):
        with pytest.raises(InternalError) as error:
            compared(proven(made, layer), loud)
        text = f"[SNNC-X001] %{layer}: a sample left a range that was called proven, got 2."
        assert str(error.value) == text
    both = proven(made, "n1")
    second = both.certificate.ranges[0].model_copy(update={"quantity": "input", "proven": False})
    certificate = both.certificate.model_copy(update={"ranges": (*both.certificate.ranges, second)})
    assert not compared(replace(both, certificate=certificate), loud).equivalent
    assert compared(proven(made, "n1", "n2"), Dataset(inputs(1, 4, top=1))).equivalent


def test_free_is_never_equivalent_and_carries_another_order(tmp_path: Path) -> None:
    found = snncc.verify(artifact(tmp_path, "free"), Dataset(inputs(2, 20)))
    assert not found.equivalent
    assert found.shuffled is not None
    assert [m.name for m in found.shuffled.layers] == ["n1", "n2"]
    assert [(b.name, b.outside) for b in found.bounds] == [("n1", 0), ("n2", 0)]
    assert found.bounds[0].mean_low <= found.bounds[0].mean_high
    silent = snncc.verify(artifact(tmp_path / "again", "free"), Dataset(np.zeros((2, 1, *SHAPE), np.int64)))
    assert not silent.equivalent


def test_a_delay_must_declare_what_it_reads() -> None:
    nodes = (
        Input(name="x", shape=(3,)),
        Neuron(name="n", inputs=("x",), max_spikes=2),
        Delay(name="d", inputs=("n",), steps=1, shape=(3,), levels=1),
        Linear(name="l", inputs=("d",), weight=Const(np.ones((2, 3), np.float32))),
        Output(name="o", inputs=("l",)),
    )
    with pytest.raises(SnnccError) as error:
        Graph("g", Family.FLOAT, nodes)
    assert (
        str(error.value)
        == "[SNNC-M010] %d: delay: declared type differs, got spikes<3, 2>, limit spikes<3, 1>."
    )
