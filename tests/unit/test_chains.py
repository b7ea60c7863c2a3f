"""Chains without a neuron: merged exactly or cut by relays, whichever costs less; never across a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snncc.analysis.layerwise import compare_layers
from snncc.compilation import Options
from snncc.errors import ModelError
from snncc.ir import (
    BatchNorm,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    IntegerNeuron,
    Linear,
    Neuron,
    Node,
    Output,
    Pad,
    Reshape,
    Scale,
    SiteGate,
    Sum,
)
from snncc.ir.evaluation import evaluate
from snncc.ir.interp import run
from snncc.model import Model
from snncc.passes.base import Pipeline
from snncc.passes.chains import MergeChains, RelayChains
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.pipelines import to_integers
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM
from snncc_speck import SPECK2F
from spelled import spelled


def real(*shape: int, seed: int = 0) -> Const:
    return Const((np.random.default_rng(seed).integers(-3, 6, shape) / 4).astype(np.float32))


def graph(*nodes: Node, shape: tuple[int, ...] = (2, 4, 3), levels: int = 3) -> Graph:
    head = Input(name="x", shape=shape, levels=levels)
    return Graph("g", Family.FLOAT, (head, *nodes, Output(name="o", inputs=(nodes[-1].name,))))


def inputs(g: Graph, n: int = 6) -> Any:
    levels = g.input.levels
    return np.random.default_rng(1).integers(0, levels + 1, (n, 1, *g.input.shape)).astype(np.float32)


def conv(name: str, reads: str, out: int, inner: int, k: int = 1, **geometry: Any) -> Conv2d:
    return Conv2d(
        name=name, inputs=(reads,), source=name, weight=real(out, inner, k, k, seed=len(name)), **geometry
    )


def rep_conv(channels: int = 2, wide: int = 3) -> tuple[Node, ...]:
    """1×1, normalisation, padding by what it makes of zero, depthwise, 1×1, normalisation."""
    norm = BatchNorm(
        name="bn",
        inputs=("in",),
        gamma=real(wide, seed=7),
        beta=real(wide, seed=8),
        mean=real(wide, seed=9),
        var=Const(np.full(wide, 0.75, np.float32)),
        eps=0.25,
    )
    border = Const(evaluate(norm, [np.zeros((1, wide, 1, 1), np.float32)])[0, :, 0, 0])
    return (
        conv("in", "s", wide, channels),
        norm,
        Pad(name="pad", inputs=("bn",), before=(0, 1, 1), after=(0, 1, 1), value=border),
        conv("depth", "pad", wide, 1, 3, groups=wide),
        conv("out", "depth", channels, wide),
        replace(norm, name="bn2", inputs=("out",), **{f: real(channels, seed=i) for i, f in enumerate(("gamma", "beta", "mean"))}, var=Const(np.full(channels, 0.75, np.float32))),
    )  # fmt: skip


STEM = (conv("stem", "x", 2, 2, 3, padding=(1, 1)), Neuron(name="s", inputs=("stem",), max_spikes=2))


def network(*chain: Node) -> Graph:
    last = Neuron(name="n", inputs=(chain[-1].name,), threshold=0.75, max_spikes=3)
    return graph(*STEM, *chain, last)


def merged(g: Graph, relays: bool = False) -> Graph:
    return Pipeline((FoldConvBN(), MergeChains(inputs(g), relays))).run(g)


def test_rep_conv_becomes_one_convolution_borders_included() -> None:
    """Dyadic numbers: counts are equal bit for bit."""
    g = network(*rep_conv())
    after = merged(g)
    assert [n.kind for n in after.nodes] == ["input", "conv2d", "neuron", "conv2d", "neuron", "output"]
    x = inputs(g, 50)
    assert np.array_equal(run(g, x).values["n"], run(after, x).values["n"])
    assert compare_layers(g, after, x).worst <= 1


@pytest.mark.parametrize("fault", [{"value": 0.0}, {"value": Const(np.array([0.5, 0, 0], np.float32))}])
def test_another_border_is_another_network(fault: dict[str, Any]) -> None:
    """Padding by anything but what normalisation makes of zero stays where it is, and is not lowered."""
    g = network(*rep_conv())
    wrong = g.rewrite(lambda n: replace(n, **fault) if isinstance(n, Pad) else None)
    x = inputs(g, 50)
    assert not np.array_equal(run(g, x).values["n"], run(wrong, x).values["n"])
    if fault["value"] != 0.0:
        assert any(isinstance(n, Pad) for n in merged(wrong).nodes)
        return
    with pytest.raises(ModelError) as caught:
        merged(wrong)
    assert str(caught.value) == (
        "[SNNC-M018] %out (out): reads the sums of %in with no neuron between, and the two are not one layer, "
        "got the second pads zeros where the first would give its bias. Try a neuron between them, or a chip "
        "with signed graded events, which carry sums."
    )


def test_a_pair_of_pointwise_convolutions_and_a_factor() -> None:
    """The whole text, worked out by hand."""
    one, two = (Const(np.array(w, np.float32)[:, :, None, None]) for w in ([[1, 2], [0, 1]], [[1, -1]]))
    g = graph(
        Neuron(name="s", inputs=("x",)),
        Conv2d(name="a", inputs=("s",), weight=one, bias=Const(np.array([1, 0], np.float32))),
        Scale(name="half", inputs=("a",), factor=0.5),
        Conv2d(name="b", inputs=("half",), weight=two),
        Neuron(name="n", inputs=("b",)),
        shape=(2, 1, 1),
    )
    assert (
        spelled(MergeChains(inputs(g)).run(g))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2, 1, 1], levels=3} : spikes<2x1x1, 3>
  %s = neuron %x : spikes<2x1x1, 1>
  %b = conv2d %s {weight=[[[[0.5]],[[0.5]]]], bias=[0.5]} : current<1x1x1, f32>
  %n = neuron %b : spikes<1x1x1, 1>
  %o = output %n : spikes<1x1x1, 1>
}
"""
    )


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """One to four convolutions without neurons, of any geometry, biased or not."""
    nodes: list[Node] = []
    reads, channels, shape = "s", 2, (4, 5)
    for i in range(draw(st.integers(2, 4))):
        k = draw(st.sampled_from([1, 1, 3, 2]))
        groups = channels if draw(st.booleans()) else 1
        out = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 3))
        padding = draw(st.sampled_from([(0, 0), (0, 0), (1, 1)])) if k > 1 else (0, 0)
        if k > min(shape) + 2 * padding[0]:
            continue
        bias = real(out, seed=i) if draw(st.booleans()) else None
        weight = real(out, channels // groups, k, k, seed=draw(st.integers(0, 999)))
        node = Conv2d(name=f"c{i}", inputs=(reads,), weight=weight, bias=bias, groups=groups, padding=padding)
        nodes.append(node)
        reads, channels = node.name, out
        shape = (shape[0] + 2 * padding[0] - k + 1, shape[1] + 2 * padding[1] - k + 1)
        if min(shape) < 1:
            break
    nodes = nodes or [conv("c", "s", 2, 2)]
    stem = (conv("stem", "x", 2, 2, 3, padding=(1, 1)), STEM[1])
    return graph(*stem, *nodes, Neuron(name="n", inputs=(nodes[-1].name,), max_spikes=9), shape=(2, 4, 5))


@settings(max_examples=150, deadline=None)
@given(chains())
def test_merged_chains_are_equal_and_relays_follow(g: Graph) -> None:
    """Merging keeps every count; relays at fine weights too. What is not one layer is refused with a reason."""
    x = inputs(g, 5)
    expected = run(g, x).values["n"]
    if all(c.merged is not None for c in MergeChains(x).weigh(g).chains):
        after = MergeChains(x).run(g)
        assert np.array_equal(run(after, x).values["n"], expected)
        assert sum(isinstance(n, Conv2d) for n in after.nodes) == 2
    else:
        with pytest.raises(ModelError, match="no neuron between, and the two are not one layer"):
            MergeChains(x).run(g)
    cut = MergeChains(x, relays=True).run(g)
    assert np.array_equal(run(cut, x).values["n"], expected)
    relayed = RelayChains(bits=12, event_bits=32).run(cut)
    for node in relayed.nodes:
        reads_sum = isinstance(node, Conv2d) and isinstance(relayed.by_name[node.inputs[0]], Conv2d)
        assert not reads_sum


def test_relays_are_chosen_where_merging_multiplies_operations() -> None:
    """Depthwise between two wide layers: as one layer nine times the weights of both together."""
    g = network(*rep_conv(channels=2, wide=3))
    wide = graph(
        Neuron(name="s", inputs=("x",)),
        conv("a", "s", 16, 16),
        conv("b", "a", 16, 1, 3, groups=16, padding=(1, 1)),
        conv("c", "b", 16, 16),
        Neuron(name="n", inputs=("c",)),
        shape=(16, 6, 6),
    )
    x = np.ones((2, 1, 16, 6, 6), np.float32)
    found = MergeChains(x, relays=True).weigh(wide)
    assert str(found) == (
        "1 chains without a neuron: merged 82,944 synaptic operations a sample, relays behind every layer "
        "23,616; chosen: 0 merged, 1 with relays (23,616 synaptic operations and 1,152 relays)"
    )
    assert MergeChains(inputs(g), relays=True).weigh(FoldConvBN().run(g)).chains[0].cuts == ()


def gated() -> Graph:
    sites = Const(np.array([[1, 0, 1]] * 4, np.uint8))
    gate = SiteGate(name="gate", inputs=("a",), sites=sites)
    return network(conv("a", "s", 2, 2), gate, conv("b", "gate", 2, 2))


def test_nothing_is_merged_across_a_mask() -> None:
    """Merged regardless, closed sites would count; refused without relays, relayed with them."""
    g = gated()
    with pytest.raises(ModelError) as caught:
        MergeChains(inputs(g)).run(g)
    assert str(caught.value) == (
        "[SNNC-M018] %b (b): reads masked sums with no neuron between: the two layers are one only without the "
        "mask, got %gate. Try a neuron between them, or a chip with signed graded events, which carry sums."
    )
    assert MergeChains(inputs(g), relays=True).run(g) is g
    relayed = RelayChains(bits=16).run(g)
    assert [n.name for n in relayed.nodes] == ["x", "stem", "s", "a", "gate", "gate.passed", "b", "n", "o"]
    x = inputs(g, 50)
    bare = MergeChains(x).run(g.without({"gate": "a"}))
    assert not np.array_equal(run(bare, x).values["n"], run(g, x).values["n"])
    sent = run(relayed, x, ("gate.passed", "gate")).values
    assert (np.abs(sent["gate.passed"] - sent["gate"]) <= relayed.by_name["gate.passed"].output_scale).all()  # type: ignore[attr-defined]
    assert not sent["gate.passed"][..., 1].any()


def test_sums_that_others_read_too_are_no_chain() -> None:
    g = network(conv("a", "s", 2, 2), conv("b", "a", 2, 2), conv("c", "a", 2, 2))
    g = replace(g, nodes=(*g.nodes[:-2], Sum(name="t", inputs=("b",), axes=(0,)), *g.nodes[-2:]))
    assert MergeChains(inputs(g)).weigh(g).chains == ()


def test_the_hosts_stem_is_left_as_it_is() -> None:
    g = graph(conv("a", "x", 2, 2), conv("b", "a", 2, 2), Neuron(name="n", inputs=("b",)), levels=0)
    assert MergeChains(inputs(g)).run(g) is g
    assert RelayChains().run(g) is g


def test_linear_layers_in_a_row_are_one() -> None:
    g = graph(
        Linear(name="a", inputs=("x",), weight=real(2, 4), bias=real(2)),
        Neuron(name="s", inputs=("a",)),
        Linear(name="b", inputs=("s",), weight=real(3, 2), bias=real(3)),
        Linear(name="c", inputs=("b",), weight=real(2, 3, seed=2), bias=real(2)),
        Neuron(name="n", inputs=("c",)),
        shape=(4,),
    )
    after = MergeChains(inputs(g)).run(g)
    assert [n.name for n in after.nodes] == ["x", "a", "s", "c", "n", "o"]
    x = inputs(g, 50)
    assert np.array_equal(run(after, x).values["n"], run(g, x).values["n"])


def end(g: Graph) -> Graph:
    size = int(np.prod(g.types["n"].shape))
    flat = Reshape(name="flat", inputs=("n",), shape=(size,))
    head = Linear(name="fc", inputs=("flat",), weight=real(3, size))
    return replace(g, nodes=(*g.nodes[:-1], flat, head, Output(name="o", inputs=("fc",))))


WIDENING = (
    conv("a", "s", 16, 2),
    conv("b", "a", 16, 1, 3, groups=16, padding=(1, 1)),
    conv("c", "b", 16, 16),
)


def test_relays_carry_the_integer_sum() -> None:
    """Threshold one: what arrives at the second weights is what the first integers add up, spikes as integers."""
    g = end(network(*WIDENING))
    x = inputs(g, 8)
    integer = Pipeline(to_integers(x, SIM.chip, sums=True)).run(g)
    relays = [n for n in integer.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]
    assert [n.name for n in relays] == ["a.passed", "b.passed"]
    assert [n.cell.threshold for n in relays] == [1, 1]
    values = run(integer, x, ("a", "a.passed", "b", "b.passed", "n")).values
    for name in ("a", "b"):
        assert np.array_equal(values[name], values[f"{name}.passed"])
    spikes = Pipeline((ExpandSFA(),)).run(integer)
    assert np.array_equal(run(spikes, x).values["n"].sum(axis=1), values["n"].sum(axis=1))
    assert values["n"].any()


def test_a_narrow_accumulator_has_no_room_for_relays() -> None:
    """Loihi adds up 16 bits: nine taps of eight bits leave too few for a sum, so that the chain is merged."""
    g = end(network(*WIDENING))
    legal = LOIHI2.lower(Model(g), inputs(g, 8), Options())
    assert not any(isinstance(n, IntegerNeuron) and n.cell.signed for n in legal.integer_graph.nodes)
    note = next(p.note for p in legal.certificate.passes if p.spec.startswith("merge-chains"))
    assert note == (
        "1 chains without a neuron: merged 6,696 synaptic operations a sample, relays behind every layer 5,544; "
        "chosen: 1 merged, 0 with relays (6,696 synaptic operations and 0 relays)"
    )


def test_speck_merges_for_it_has_no_relays() -> None:
    g = end(network(*rep_conv()))
    lowered = SPECK2F.lower(Model(g), inputs(g, 8), Options())
    assert len(lowered.mapped.pieces) >= 2
