"""Weights that read a stream: pushed into its branches, exactly, or behind a relay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from divided_nets import without
from snncc.compilation import Options, Target
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Reshape,
    Rounding,
    SumPool2d,
)
from snncc.ir.interp import run
from snncc.mapping.partition import Partition
from snncc.model import Model
from snncc.passes.streams import StreamReaders, stream_readers
from snncc_sim.target import SIM
from stream_nets import agrees, f32, inputs, lowered, stream

SFA: dict[str, Any] = {"max_spikes": 4, "rounding": Rounding.HALF_EVEN}
LIF: dict[str, Any] = {"decay": 0.5, "threshold": 0.5}


def without_exponents() -> Target:
    """The ideal chip, but for exponents: sums are no events for weights then."""
    limits = SIM.chip.limits.model_copy(update={"exponent_max": 0})
    return replace(SIM, chip=SIM.chip.model_copy(update={"limits": limits}))


def conv(
    rng: np.random.Generator, name: str, reads: str, out: int, read: int, size: int, **more: Any
) -> Node:
    weight = f32(rng.normal(size=(out, read, size, size)) * (0.8 / size / np.sqrt(read)))
    bias = f32(rng.normal(size=out) * 0.1)
    return Conv2d(name=name, inputs=(reads,), source=f"net.{name}", weight=weight, bias=bias, **more)


def downsampled(seed: int, number: dict[str, Any], steps: int = 1, pool: bool = False) -> Graph:
    """Two stages of a stream that an analog stem starts; the second stage's shortcut is a convolution."""
    rng = np.random.default_rng(seed)
    step = {"stride": (2, 2)}
    nodes = [
        Input(name="x", shape=(2, 6, 6)),
        conv(rng, "s", "x", 3, 2, 3, padding=(1, 1)),
        Neuron(name="n0", inputs=("s",), **number),
        conv(rng, "c0", "n0", 3, 3, 3, padding=(1, 1)),
        Add(name="a0", inputs=("c0", "s")),
        Neuron(name="n1", inputs=("a0",), **number),
        conv(rng, "c1", "n1", 4, 3, 3, padding=(1, 1), **step),
        *((SumPool2d(name="p", inputs=("a0",), kernel=(2, 2), stride=(2, 2)),) if pool else ()),
        conv(rng, "d", "p" if pool else "a0", 4, 3, 1, **({} if pool else step)),
        Add(name="a1", inputs=("c1", "d")),
        Neuron(name="n2", inputs=("a1",), **number),
        conv(rng, "c2", "n2", 4, 4, 3, padding=(1, 1)),
        Add(name="a2", inputs=("c2", "a1")),
        *head(rng, steps),
    ]
    return Graph("net", Family.FLOAT, tuple(nodes), steps)


def head(rng: np.random.Generator, steps: int) -> tuple[Node, ...]:
    """The mean of the stream, and a linear layer on it."""
    return (
        SumPool2d(name="m", inputs=("a2",), kernel=(3, 3), stride=(3, 3)),
        Reshape(name="flat", inputs=("m",), shape=(4,)),
        Linear(
            name="fc", inputs=("flat",), weight=f32(rng.normal(size=(5, 4)) / 9), bias=f32(rng.normal(size=5))
        ),
        Output(name="o", inputs=("fc",), over_time=OverTime.MEAN if steps > 1 else OverTime.NONE),
    )


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(("number", "steps"), [(SFA, 1), (LIF, 3)], ids=["sfa", "lif"])
def test_readers_are_pushed_or_relayed_and_spikes_are_the_integers(
    number: dict[str, Any], steps: int, pool: bool
) -> None:
    graph = downsampled(1, number, steps, pool)
    x = inputs(graph, 8)
    for target in (SIM, without_exponents()):
        agrees(lowered(graph, x, target), x)


@pytest.mark.parametrize("pool", [False, True])
def test_pushing_changes_nothing_but_the_order_of_sums(pool: bool) -> None:
    graph = downsampled(3, SFA, pool=pool)
    x = inputs(graph, 30)
    options = StreamReaders(x)
    pushed = options.run(graph)
    assert [n.name for n in stream_readers(graph)] == (["p"] if pool else []) + ["d", "m", "fc"]
    assert list(stream_readers(pushed)) == []
    assert [line.split(" reads")[0] for line in options.told] == ["%d (net.d)", "%fc"]
    want, got = run(graph, x), run(pushed, x)
    np.testing.assert_allclose(got.result, want.result, rtol=1e-4, atol=1e-5)
    for name in ("n1", "n2"):
        assert (want.values[name] != got.values[name]).mean() < 1e-3


def test_nearly_float_weights_give_the_float_counts_where_readers_are_pushed() -> None:
    graph = downsampled(4, SFA)
    x = inputs(graph, 40)
    made = lowered(graph, x, without_exponents().of_weights(20))
    want, got = run(graph, x), run(made.integer_graph, x)
    for name in ("n1", "n2"):
        assert (want.values[name] != got.values[name]).sum() <= 1, name
    np.testing.assert_allclose(got.result, want.result, rtol=1e-3, atol=1e-3)


def test_a_relay_sends_the_sum_in_levels_which_its_readers_take() -> None:
    graph = downsampled(5, SFA)
    x = inputs(graph, 30)
    options = StreamReaders(x, relays=True)
    relayed = options.run(graph)
    relays = [n for n in relayed.nodes if isinstance(n, Neuron) and n.signed]
    assert [n.name for n in relays] == ["a0.levels", "a2.levels"]
    largest = np.abs(run(graph, x, ("a0",)).values["a0"]).max()
    assert isinstance(relays[0].threshold, float)
    np.testing.assert_allclose(relays[0].threshold * (2**15 - 1), largest, rtol=1e-6)
    np.testing.assert_allclose(run(relayed, x).result, run(graph, x).result, atol=1e-2)
    assert options.told[-1].endswith("chosen: relay (approximate)")


def test_both_costs_are_told() -> None:
    graph = downsampled(6, SFA)
    x = inputs(graph, 10)
    (record,) = (p for p in lowered(graph, x).certificate.passes if p.spec.startswith("stream-readers"))
    assert record.preserves == "approximate"
    first, *_ = record.note.split("; chosen")
    assert first.startswith("%d (net.d) reads a sum of currents: push takes ")
    assert " synaptic operations a sample, relay " in first


def test_two_heads_keep_both_their_parts() -> None:
    """A head on the real mean beside one on spikes: with one scale its weights would round to nothing."""
    rng = np.random.default_rng(9)
    graph = downsampled(9, SFA)
    kept = tuple(n for n in graph.nodes if n.name not in ("fc", "o"))
    heads = (
        *kept,
        Linear(name="f1", inputs=("flat",), weight=f32(rng.normal(size=(5, 4)) / 9)),
        Neuron(name="hn", inputs=("flat",), threshold=4.0, **SFA),
        Linear(name="f2", inputs=("hn",), weight=f32(rng.normal(size=(5, 4)))),
        Add(name="both", inputs=("f1", "f2")),
        Output(name="o", inputs=("both",)),
    )
    graph = replace(graph, nodes=heads)
    x = inputs(graph, 30)
    for target in (SIM, without_exponents()):
        made = lowered(graph, x, target)
        agrees(made, x)
        want, got = run(graph, x).result, run(made.integer_graph, x).result
        assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.98


def padded() -> Graph:
    """A reader that no branch can take: the convolution pads zeros where the branch would give its bias."""
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="x", shape=(2, 4, 4), levels=3),
        conv(rng, "a", "x", 2, 2, 1),
        conv(rng, "b", "x", 2, 2, 1),
        Add(name="sum", inputs=("a", "b")),
        Neuron(name="n", inputs=("sum",), **SFA),
        conv(rng, "c", "n", 2, 2, 1),
        conv(rng, "d", "sum", 2, 2, 3, padding=(1, 1)),
        Add(name="more", inputs=("c", "d")),
        Neuron(name="m", inputs=("more",), **SFA),
        Output(name="o", inputs=("m",)),
    )
    return Graph("net", Family.FLOAT, nodes)


def test_a_reader_that_no_branch_can_take_is_refused() -> None:
    graph, x = padded(), np.ones((2, 1, 2, 4, 4), np.int64)
    with pytest.raises(ModelError) as error:
        StreamReaders(x).run(graph)
    assert str(error.value) == (
        "[SNNC-M018] %d (net.d): its sums cannot be taken into the branches, got %sum. "
        "Try --target sim, whose events carry sums."
    )
    relayed = StreamReaders(x, relays=True).run(graph)
    assert "sum.levels" in relayed.by_name


def test_a_host_relays_what_no_branch_can_take_and_nothing_else() -> None:
    chip = without("signed_events", "graded_events")
    target = replace(SIM, chip=chip.model_copy(update={"limits": without_exponents().chip.limits}))
    graph = padded()
    x = np.random.default_rng(1).integers(0, 4, (6, 1, 2, 4, 4))
    made = lowered(graph, x, target)
    agrees(made, x)
    assert [p.name for p in made.mapped.on_host] == ["sum.levels", "m"]
    assert [p.name for p in made.mapped.on_chip] == ["n"]
    with pytest.raises(ModelError) as error:
        target.lower(Model(graph), x, Options(partition=Partition.NONE))
    assert [p.code for p in error.value.problems] == ["SNNC-M018"]
    graph = downsampled(3, SFA)
    options = StreamReaders(inputs(graph, 4), hosted=True)
    assert list(stream_readers(options.run(graph))) == []
    assert all(line.endswith("relay is not possible; chosen: push") for line in options.told)


def test_a_network_without_such_readers_stays_as_it_is() -> None:
    graph = downsampled(2, SFA)
    plain = StreamReaders(inputs(graph, 2)).run(graph)
    assert StreamReaders(inputs(graph, 2)).run(plain) is plain


def test_constants_of_pushed_readers_are_float32() -> None:
    graph = downsampled(2, SFA)
    pushed = StreamReaders(inputs(graph, 2)).run(graph)
    for node in pushed.nodes:
        weight = getattr(node, "weight", None)
        assert weight is None or (isinstance(weight, Const) and weight.array.dtype == np.float32)


def test_what_a_relay_sends_is_one_event_whatever_its_sign() -> None:
    """The stream's branch reads a relay whose counts are negative: its events cost what others do."""
    graph = downsampled(7, SFA)
    relay = Neuron(name="r", inputs=("c1",), threshold=0.01, max_spikes=1000, signed=True)
    ones = Conv2d(name="from.r", inputs=("r",), weight=f32(np.full((4, 1, 1, 1), 0.01)), groups=4)
    nodes = list(graph.nodes)
    at = [n.name for n in nodes].index("c1") + 1
    graph = replace(graph, nodes=(*nodes[:at], relay, ones, *nodes[at:]))
    graph = graph.rewrite(lambda n: replace(n, inputs=("from.r", "d")) if n.name == "a1" else None)
    options = StreamReaders(inputs(graph, 10), relays=True)
    options.run(graph)
    assert options.told
    assert not any("-" in line.replace("stream-", "") for line in options.told)


def test_four_bits_hold_a_stream_where_branches_have_exponents() -> None:
    """Blocks a tenth of one another in size: one scale for all rounds most of the smaller ones away."""
    graph = stream(np.random.default_rng(11), 4, sizes=(2.0, 0.2, 0.2))
    x = inputs(graph, 40)
    want = run(graph, x).values["last"]
    share = {
        name: (run(lowered(graph, x, target.of_weights(4)).integer_graph, x).values["last"] == want).mean()
        for name, target in (("exponents", SIM), ("one scale", without_exponents()))
    }
    assert share["exponents"] > share["one scale"] + 0.05
