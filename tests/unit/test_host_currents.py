"""What an analog stem adds to a stream: host regions that share a stem, signed counts, exponents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import snncc
from snncc.analysis.operations import host_macs
from snncc.artifact import Artifact
from snncc.compilation import Lowered
from snncc.data import Dataset
from snncc.errors import SnnccError
from snncc.ir import Const, Conv2d, Family, Graph, HostRegion, Input, Linear, Neuron, Output, Spikes
from snncc.ir.interp import host_values, run
from snncc.ir.text import parse, to_text
from snncc.mapping.words import words
from snncc.model import Model
from snncc.passes.split_host import SplitHost
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM, TIANJIC
from stream_nets import agrees, f32, given, inputs, lowered, stream


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (1, 3), (4, 1), (4, 2)])
def test_a_stream_that_an_analog_stem_starts(count: int, steps: int) -> None:
    graph = stream(np.random.default_rng(count), count, steps)
    x = inputs(graph, 12)
    made = lowered(graph, x)
    agrees(made, x)
    ports = made.mapped.ports
    assert list(ports) == ["s.counts", "n0"]
    assert (ports["s.counts"].signed, ports["s.counts"].graded) == (True, True)
    counts = given(made, x)["s.counts"]
    assert counts.min() < 0 < counts.max() < ports["s.counts"].levels
    # What the stem computes is counted once, though two regions read it.
    assert host_macs(made.integer_graph) == steps * 3 * 4 * 5 * 2 * 9


def test_nearly_float_weights_give_the_float_counts() -> None:
    graph = stream(np.random.default_rng(5), 4)
    x = inputs(graph, 40)
    made = lowered(graph, x, SIM.of_weights(20))
    agrees(made, x)
    want, got = run(graph, x), run(made.integer_graph, x)
    for name in ("n1", "last"):
        np.testing.assert_array_equal(want.values[name], got.values[name])


def test_a_current_is_quantized_at_the_scale_of_its_stream() -> None:
    graph = stream(np.random.default_rng(7), 4)
    x = inputs(graph, 20)
    made = lowered(graph, x)
    region = made.integer_graph.by_name["s.counts"]
    assert isinstance(region, HostRegion)
    counter = region.body.by_name["s.counts"]
    assert isinstance(counter, Neuron)
    real = run(graph, x, ("s",)).values["s"]
    assert isinstance(counter.threshold, float)
    want = np.rint(real.astype(np.float64) / counter.threshold)
    near = np.abs(real / counter.threshold - want) < 0.499  # float32 rounds the rest either way
    np.testing.assert_array_equal(want[near], host_values(made.integer_graph, x)["s.counts"][near])
    theta = made.integer_graph.by_name["last"].cell.threshold  # type: ignore[attr-defined]
    np.testing.assert_allclose(counter.threshold * theta, 1, rtol=1e-12)


def test_the_split_changes_nothing_and_prints_and_parses() -> None:
    graph = stream(np.random.default_rng(3), 4, 2)
    split = SplitHost().run(graph)
    x = inputs(graph, 5)
    want, got = run(graph, x), run(split, x)
    for name in ("n1", "last"):
        np.testing.assert_array_equal(want.values[name], got.values[name])
    assert [n.name for n in split.nodes if isinstance(n, HostRegion)] == ["s", "n0"]
    text = to_text(split)
    assert to_text(parse(text, split.constants())) == text


# ---- exponents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
def test_branches_of_a_stream_have_exponents_of_their_own(bits: int) -> None:
    """The smaller branch is a hundredth: under one scale of four bits its weights would round to nothing."""
    graph = stream(np.random.default_rng(2), 4, sizes=(2, 0.02))
    x = inputs(graph, 30)
    made = lowered(graph, x, SIM.of_weights(bits))
    agrees(made, x)
    top = 2 ** (bits - 1) - 1
    small, large = (
        c
        for name in ("c1", "c0")
        for p in made.mapped.pieces
        for c in p.connections
        if c.weight in _digests(made, name, bits)
    )
    assert large.exponent > small.exponent + 2
    assert top / 2 < np.abs(made.tensors[large.weight]).max() <= top
    assert 2 ** (min(5, bits - 1) - 1) <= np.abs(made.tensors[small.weight]).max() <= top


def _digests(made: Lowered, name: str, bits: int) -> set[str]:
    node = made.integer_graph.by_name[name]
    assert isinstance(node, Conv2d)
    return {Const(words(node.weight.array, bits)[0]).digest}


def test_a_lost_exponent_is_found() -> None:
    graph = stream(np.random.default_rng(2), 4, sizes=(2, 0.02))
    x = inputs(graph, 10)
    made = lowered(graph, x)
    pieces = tuple(
        p.model_copy(
            update={"connections": tuple(c.model_copy(update={"exponent": 0}) for c in p.connections)}
        )
        for p in made.mapped.pieces
    )
    assert pieces != made.mapped.pieces
    broken = replace(made, mapped=made.mapped.model_copy(update={"pieces": pieces}))
    with pytest.raises(AssertionError):
        agrees(broken, x)


def test_weights_of_more_than_a_byte_are_for_chips_that_allow_them() -> None:
    with pytest.raises(SnnccError) as error:
        LOIHI2.of_weights(9)
    assert (
        str(error.value)
        == "[SNNC-U005] --weight-bits: loihi2 has no weights of that width, got 9, limit 2..8."
    )
    with pytest.raises(SnnccError) as error:
        SIM.of_weights(25)
    assert (
        str(error.value)
        == "[SNNC-U005] --weight-bits: sim has no weights of that width, got 25, limit 2..24."
    )


# ---- chips that cannot ------------------------------------------------------------------------------


def test_a_chip_without_signed_events_refuses_the_current() -> None:
    graph = stream(np.random.default_rng(0), 1)
    with pytest.raises(SnnccError) as error:
        lowered(graph, inputs(graph, 4), TIANJIC)
    codes = [p.code for p in error.value.problems]
    assert codes == ["SNNC-C016", "SNNC-C016"]
    kind = SplitHost().run(graph).types["n0"]
    assert isinstance(kind, Spikes)
    assert "a current of the host up to ±" in str(error.value)


# ---- ranges -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    graph = stream(np.random.default_rng(4), 4)
    out = tmp_path_factory.mktemp("stream") / "out"
    return snncc.compile(
        Model(graph, calibration=inputs(graph, 10)), target="loihi2", out=out, verify_each=True
    )


def test_the_range_of_a_current_is_conditional(folder: Artifact) -> None:
    (found,) = (r for r in folder.certificate.ranges if r.quantity == "current of the host")
    levels = folder.mapped.ports["s.counts"].levels
    assert (found.layer, found.allowed, found.proven) == ("s.counts", (1 - levels, levels - 1), False)
    assert found.allowed[0] < found.observed[0] < found.observed[1] < found.allowed[1]
    assert not folder.certificate.proven


def test_a_sample_beyond_that_range_is_an_excursion(folder: Artifact) -> None:
    good = inputs(folder.float_graph, 5, 8)
    assert snncc.verify(folder, Dataset(good)).equivalent
    wild = np.concatenate([good, 100 * good[:1]])
    found = snncc.verify(folder, Dataset(wild))
    assert not found.equivalent
    assert all(layer.mismatches == 0 for layer in found.layers)
    assert [(e.layer, e.samples, e.first_sample) for e in found.excursions if e.layer == "s.counts"] == [
        ("s.counts", 1, 5)
    ]
    elsewhere = snncc.verify(folder, Dataset(good), executor="reference")
    assert elsewhere.equivalent


def test_layers_that_calibration_never_reaches_are_told() -> None:
    eye = f32(np.eye(3))
    nodes = (
        Input(name="x", shape=(3,), levels=2),
        Linear(name="a", inputs=("x",), weight=eye),
        Neuron(name="n", inputs=("a",), threshold=50.0),
        Linear(name="b", inputs=("n",), weight=eye),
        Neuron(name="m", inputs=("b",), source="net.m"),
        Linear(name="c", inputs=("m",), weight=f32(np.zeros((3, 3)))),
        Neuron(name="o", inputs=("c",)),
        Output(name="out", inputs=("o",)),
    )
    made = lowered(Graph("net", Family.FLOAT, nodes), np.ones((2, 1, 3), np.int64))
    rest = "on the calibration inputs, so that its scale and range are not measured"
    assert made.certificate.notes == (
        f"%m (net.m): no spike reaches it {rest}",
        f"%o: its weights are all zero {rest}",
    )
