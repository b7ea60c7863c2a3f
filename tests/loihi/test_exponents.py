"""Weights before powers of two: linear layers keep them, convolutions become so many equal ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loihi_nets import chip, raised, without_cores
from simulator.simnets import Net, Way
from snncc import api
from snncc.artifact import Artifact
from snncc.equivalence.segmented import run_program
from snncc.ir.batches import in_chunks
from snncc.mapping.check import violations
from snncc.model import Model
from snncc_loihi import exponents
from snncc_loihi.check import CHECKER, micro_step_sums
from snncc_loihi.emit import chip_files, program
from snncc_loihi.exponents import without_exponents
from snncc_loihi.reference import run_reference
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR
from stream_nets import inputs, stream


def network() -> Net:
    """A convolution, a linear layer and a readout of 2×4×5 maps, integers up to 3."""
    net = Net((2, 4, 5), levels=3, period=3, seed=4)
    net.layer("a", 3, Way(padding=(1, 0), stride=(1, 2)), threshold=40, max_spikes=3, phase=3, gain=2)
    net.layer("b", 6, Way("a", kernel=None), threshold=70, max_spikes=3, phase=6, gain=2)
    net.layer("r", 4, Way("b", kernel=None), threshold=1, max_spikes=0, phase=9, gain=2)
    return net


def test_convolutions_are_copied_and_linear_layers_are_not() -> None:
    net = network()
    before = raised(net.mapped(), a=2, b=3)
    after = without_exponents(before)
    found = {p.name: [(c.weight, c.exponent) for c in p.connections] for p in after.pieces}
    conv, linear = (p.connections[0].weight for p in before.pieces[:2])
    assert found["a"] == [(conv, 0)] * 4
    assert found["b"] == [(linear, 3)]
    x = net.data(6)
    want, got = (SIMULATOR.execute(m, net.tensors, x).counts for m in (before, after))
    plain = SIMULATOR.execute(net.mapped(), net.tensors, x).counts
    for name in ("a", "b", "r"):
        assert want[name].any()
        np.testing.assert_array_equal(want[name], got[name])
        assert (want[name] != plain[name]).any(), "the exponents change nothing"


def test_the_host_keeps_its_exponents() -> None:
    mapped = raised(network().mapped(), a=2)
    pieces = tuple(p.model_copy(update={"on_host": p.name == "a"}) for p in mapped.pieces)
    hosted = mapped.model_copy(update={"pieces": pieces})
    assert without_exponents(hosted) == hosted


def test_sums_of_a_micro_step_count_exponents() -> None:
    net = network()
    plain, by_eight = (
        micro_step_sums(m, m.pieces[1], net.tensors) for m in (net.mapped(), raised(net.mapped(), b=3))
    )
    assert by_eight == tuple(8 * v for v in plain) != (0, 0)


@pytest.mark.parametrize(("gain", "factor", "shift"), [(2, 2, 3), (1, 2, 2)])
def test_a_linear_layer_is_emitted_with_its_exponent(gain: int, factor: int, shift: int) -> None:
    """Of odd weights of both signs twice as much is stored, where the gain does not double them, and shifted back."""
    net = network()
    mapped = raised(net.mapped(), b=3)
    cell = mapped.pieces[1].cell.__class__(threshold=70, max_spikes=3, gain=gain)
    pieces = tuple(p.model_copy(update={"cell": cell}) if p.name == "b" else p for p in mapped.pieces)
    document, arrays = program(mapped.model_copy(update={"pieces": pieces}), net.tensors, LOIHI2.chip)
    entry = next(c for c in document["connections"] if c["target"] == "b")
    assert entry["weight_exp"] == shift
    np.testing.assert_array_equal(
        arrays[entry["weight"]], net.tensors[mapped.pieces[1].connections[0].weight].astype(np.int16) * factor
    )


def test_the_emitted_program_computes_what_the_simulator_does(tmp_path: Path) -> None:
    net = network()
    mapped = without_exponents(raised(net.mapped(), a=2, b=3))
    for name, data in chip_files(mapped, net.tensors, LOIHI2.chip).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    x = net.data(5)
    want = SIMULATOR.execute(mapped, net.tensors, x).counts
    got = run_reference(tmp_path, x)
    for name in ("a", "b", "r"):
        np.testing.assert_array_equal(got[name], want[name])


def test_the_checker_refuses_the_exponent_of_a_convolution() -> None:
    net = network()
    spec = without_cores(chip("loihi2"))
    pieces = [p.model_copy(update={"state_bits": 24}) for p in raised(net.mapped(), a=2, b=8).pieces]
    mapped = net.mapped().model_copy(update={"pieces": tuple(pieces)})
    found = [str(p) for p in violations(mapped, net.tensors, spec, CHECKER)]
    assert [p for p in found if "power" in p or "exponent" in p] == [
        "mapping of b: an exponent of weights leaves its range, got 8, limit 7.",
        "mapping of a: weights of a convolution stand before a power of two, which this chip's have not, got 2.",
    ]


# ---- from a float network ---------------------------------------------------------------------------


def compiled(folder: Path) -> tuple[Artifact, np.ndarray]:
    """A stream whose branches differ a hundredfold: the larger one's weights get an exponent."""
    graph = stream(np.random.default_rng(2), 4, sizes=(2, 0.02))
    x = inputs(graph, 12)
    return api.compile(Model(graph, calibration=x), chip=LOIHI2.chip, out=folder / "out", graded=False), x


def differing(made: Artifact, x: np.ndarray) -> int:
    """Values of the emitted program that are not the integer graph's."""
    counts = run_program(made, run_reference, made.spike_inputs(x, made.host_spikes(x)))
    whole = in_chunks(made.integer_graph, x).values
    return sum(
        int((counts[p.name] != whole[p.name].reshape(counts[p.name].shape)).sum()) for p in made.mapped.pieces
    )


def test_a_branch_of_a_stream_keeps_its_bits(tmp_path: Path) -> None:
    made, x = compiled(tmp_path)
    readers = {p.name: [c.weight for c in p.connections] for p in made.mapped.pieces}
    copies = max(len(w) - len(set(w)) for w in readers.values())
    assert copies > 0, "no branch was raised"
    document = json.loads((made.path / "target/network.json").read_text())
    assert len(document["connections"]) == sum(map(len, readers.values()))
    assert differing(made, x) == 0
    assert api.verify(made, api.as_dataset(x, None, made.float_graph, "inputs")).equivalent


def test_planted_a_lost_copy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = exponents._copied
    monkeypatch.setattr(exponents, "_copied", lambda all_: list(dict.fromkeys(right(all_))))
    made, x = compiled(tmp_path)
    assert differing(made, x) > 0
    assert not api.verify(made, api.as_dataset(x, None, made.float_graph, "inputs")).equivalent
