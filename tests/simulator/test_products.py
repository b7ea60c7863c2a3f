"""Products of spikes on random networks: integers, spikes and the engine agree; planted faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import integer_neuron
from snncc.arrays import Array
from snncc.ir import (
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Hold,
    Input,
    IntegerNeuron,
    MatMul,
    Mul,
    Node,
    Output,
    Permute,
    Reshape,
    Sum,
)
from snncc.ir.interp import run
from snncc.ir.nodes import Delay
from snncc.ir.schedule import EXACT, Schedule
from snncc.mapping.build import map_graph
from snncc.mapping.check import violations
from snncc.mapping.mapped import Mapped
from snncc.mapping.product import Strided
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.lower_products import LowerProducts
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM

GRADED = replace(EXACT, name="graded", graded=True)


class Builder:
    """An integer network over maps [C, H, W]."""

    def __init__(self, seed: int, shape: tuple[int, int, int], levels: int, steps: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.levels, self.steps = shape, levels, steps
        self.nodes: list[Node] = [Input(name="x", shape=shape, levels=levels)]

    def layer(self, name: str, reads: str, inner: int, out: int, **numbers: Any) -> str:
        weight = Const(self.rng.integers(-3, 6, (out, inner, 1, 1)).astype(np.int8))
        conv = Conv2d(name=f"{name}.w", inputs=(reads,), weight=weight)
        return self.neuron(name, self.add(conv), **({"threshold": 4, "precharge": 2} | numbers))

    def neuron(self, name: str, reads: str, **numbers: Any) -> str:
        memory = {"decay": 1} if self.steps > 1 else {}
        return self.add(integer_neuron(name, reads, **({"max_spikes": self.levels} | memory | numbers)))

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def graph(self) -> Graph:
        last = self.layer("end", self.nodes[-1].name, self.shape[0], 2, threshold=3, precharge=1)
        out = Output(name="o", inputs=(last,), decode=Decode.COUNT)
        return Graph("products", Family.INTEGER, (*self.nodes, out), self.steps)

    def inputs(self, samples: int = 3) -> Array:
        return self.rng.integers(0, self.levels + 1, (samples, self.steps, *self.nodes[0].shape))  # type: ignore[attr-defined]


def heads(b: Builder, name: str, heads: int, size: int) -> str:
    """[C, H, W] as [heads, tokens, size]."""
    tokens = b.shape[1] * b.shape[2]
    split = b.add(Reshape(name=f"{name}.heads", inputs=(name,), shape=(heads, size, tokens)))
    return b.add(Permute(name=f"{name}.rows", inputs=(split,), axes=(0, 2, 1)))


def attention(b: Builder, of_heads: int, size: int, left: bool, theta: int) -> None:
    """q(kᵀv), or (qkᵀ)v, of heads; later queries than keys by a layer."""
    channels = of_heads * size
    early = b.layer("early", "x", b.shape[0], channels)
    for name, reads in (("q", early), ("k", "x"), ("v", "x")):
        b.layer(name, reads, channels if reads == early else b.shape[0], channels)
    q, k, v = (heads(b, name, of_heads, size) for name in "qkv")
    kt = b.add(Permute(name="kt", inputs=(k,), axes=(0, 2, 1)))
    if left:
        scores = b.add(MatMul(name="inner", inputs=(q, kt), integer=True))
        product = b.add(MatMul(name="outer", inputs=(scores, v), integer=True))
    else:
        context = b.add(MatMul(name="inner", inputs=(kt, v), integer=True))
        product = b.add(MatMul(name="outer", inputs=(q, context), integer=True))
    back = b.add(Permute(name="back", inputs=(product,), axes=(0, 2, 1)))
    b.shape = (channels, *b.shape[1:])
    b.neuron("a", b.add(Reshape(name="map", inputs=(back,), shape=b.shape)), threshold=theta)


def gating(b: Builder, channels: int, theta: int) -> None:
    """SDT: the sum over tokens of k·v fires, and gates q; QKFormer: a token's sum of q gates k."""
    for name in "qkv":
        b.layer(name, "x", b.shape[0], channels)
    b.shape = (channels, *b.shape[1:])
    kv = b.add(Mul(name="kv", inputs=("k", "v")))
    total = b.add(Sum(name="total", inputs=(kv,), axes=(1, 2), keepdim=True))
    b.neuron("gate", total, threshold=theta)
    b.add(Mul(name="gated", inputs=("q", "gate")))
    b.layer("token", "q", channels, 1, threshold=5)
    b.layer("mixed", "gated", channels, channels, threshold=6)
    b.add(Mul(name="masked", inputs=("token", "mixed")))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Graph, Array]:
    levels, steps = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 1, 2, 3]))
    shape = draw(st.sampled_from([(2, 2, 3), (3, 1, 4), (1, 3, 1), (2, 4, 2)]))
    b = Builder(draw(st.integers(0, 2**32 - 1)), shape, levels, steps)
    theta = draw(st.integers(1, 12))
    if draw(st.booleans()):
        attention(b, draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 4)), draw(st.booleans()), theta)
    else:
        gating(b, draw(st.integers(1, 4)), theta)
    return b.graph(), b.inputs()


def lowered(graph: Graph, schedule: Schedule = EXACT) -> tuple[Graph, Graph, Mapped, dict[str, Array]]:
    whole = BoundCounts().run(LowerProducts(schedule.graded).run(graph))
    spikes = ExpandSFA(schedule).run(whole)
    mapped, tensors = map_graph(spikes, target="sim", schedule=schedule, state_bits=32)
    return whole, spikes, mapped, tensors


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from([EXACT, GRADED]))
def test_integers_spikes_and_the_engine_agree(made: tuple[Graph, Array], schedule: Schedule) -> None:
    graph, x = made
    whole, spikes, mapped, tensors = lowered(graph, schedule)
    assert list(violations(mapped, tensors, SIM.chip, SIM.checker)) == []
    before, integers, clocked = (run(g, x).values for g in (graph, whole, spikes))
    activity = SIMULATOR.execute(mapped, tensors, x.reshape(*x.shape[:2], *mapped.inputs[0].shape))
    for name in (n.name for n in graph.neurons):
        np.testing.assert_array_equal(before[name], integers[name])
    for piece in mapped.pieces:
        np.testing.assert_array_equal(integers[piece.name], clocked[piece.name])
        np.testing.assert_array_equal(
            clocked[piece.name], activity.counts[piece.name].reshape(clocked[piece.name].shape)
        )


def fixed(levels: int = 4) -> tuple[Graph, Array]:
    b = Builder(3, (2, 2, 3), levels, 2)
    attention(b, 2, 3, False, 6)
    return b.graph(), b.inputs(6)


def test_only_trains_of_several_spikes_are_latched() -> None:
    def relays(levels: int, schedule: Schedule = EXACT) -> list[str]:
        whole = lowered(fixed(levels)[0], schedule)[0]
        return [n.name for n in whole.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]

    assert relays(1) == ["inner.whole"]
    assert relays(4, GRADED) == ["inner.whole"]
    assert relays(4) == ["v.latch", "inner.whole"]


def test_the_cheaper_order_is_taken() -> None:
    b = Builder(3, (2, 2, 3), 1, 1)
    attention(b, 2, 3, True, 6)
    whole = lowered(b.graph())[0]
    inner = whole.by_name["inner"]
    assert inner.inputs == ("kt", "v.rows")
    assert whole.by_name["outer"].inputs == ("q.rows", "inner.whole")


# ---- faults -----------------------------------------------------------------------------------------


def differs(spikes: Graph, integers: Graph, x: Array) -> bool:
    a, b = run(spikes, x).values, run(integers, x).values
    return any((a[n.name] != b[n.name]).any() for n in spikes.neurons)


def without_hold(node: Node) -> Node | None:
    """A product of what arrives, in place of what is held."""
    return replace(node, inputs=tuple(i.removesuffix(".hold") for i in node.inputs))


def later(node: Node) -> Node | None:
    """One operand a micro-step late."""
    return replace(node, steps=node.steps + 1) if isinstance(node, Delay) and "q" in node.name else None


def test_an_unlatched_product_is_found() -> None:
    graph, x = fixed()
    whole, spikes, _, _ = lowered(graph)
    assert not differs(spikes, whole, x)
    assert differs(spikes.rewrite(lambda n: without_hold(n) if isinstance(n, MatMul) else None), whole, x)
    bare = BoundCounts().run(_unlatched(whole))
    with pytest.raises(Exception, match="neither factor is complete when its window begins"):
        ExpandSFA().run(bare)


def _unlatched(whole: Graph) -> Graph:
    return whole.without({"v.latch": "v", "v.latch.ones": "v"})


def test_an_operand_off_by_one_delay_is_found() -> None:
    graph, x = fixed()
    whole, spikes, mapped, tensors = lowered(graph)
    assert differs(spikes.rewrite(later), whole, x)
    at = next(i for i, p in enumerate(mapped.pieces) if p.name == "a")
    (product,) = mapped.pieces[at].products
    off = product.model_copy(update={"stream_delay": product.stream_delay + 1})
    assert told(mapped, tensors, at, off) == [
        "mapping of a: a product's stream operand comes in another window, "
        f"got {mapped.pieces[at].phase - 4 + 1}, limit {mapped.pieces[at].phase - 4}."
    ]


def told(mapped: Mapped, tensors: dict[str, Array], at: int, product: Any) -> list[str]:
    pieces = list(mapped.pieces)
    pieces[at] = pieces[at].model_copy(update={"products": (product,)})
    changed = mapped.model_copy(update={"pieces": tuple(pieces)})
    return [str(p) for p in violations(changed, tensors, SIM.chip, SIM.checker)]


FAULTS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "a train is held": (
        lambda p: {"held": "v", "held_delay": 4},
        "mapping of inner.whole: a product holds a train of several spikes, got 4, limit 1.",
    ),
    "another window is held": (
        lambda p: {"held_delay": p.held_delay + 4},
        "mapping of inner.whole: a product's held operand comes in another window, got 12, limit 8.",
    ),
    "no such source": (
        lambda p: {"stream": "nobody"},
        "mapping of inner.whole: multiplies a source that does not stand before it, got nobody.",
    ),
    "an event at several places": (
        lambda p: {"address": p.address.model_copy(update={"stream": Strided(strides=(18, 1, 1, 0))})},
        "mapping of inner.whole: an event stands at several places of a product's loops, "
        "got (18, 1, 1, 0), limit (2, 3, 6, 3).",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_names_a_fault(fault: str) -> None:
    graph, _ = fixed()
    _, _, mapped, tensors = lowered(graph)
    at = next(i for i, p in enumerate(mapped.pieces) if p.name == "inner.whole")
    (product,) = mapped.pieces[at].products
    change, message = FAULTS[fault]
    assert message in told(mapped, tensors, at, product.model_copy(update=change(product)))


def test_the_chip_must_multiply() -> None:
    graph, _ = fixed()
    _, _, mapped, tensors = lowered(graph)
    chip = SIM.chip
    able = chip.abilities.model_copy(update={"multiplies_counts": False})
    found = [
        str(p) for p in violations(mapped, tensors, chip.model_copy(update={"abilities": able}), SIM.checker)
    ]
    assert found == [
        f"mapping of {n}: multiplies spikes, which the chip cannot." for n in ("inner.whole", "a")
    ]


# ---- counted ----------------------------------------------------------------------------------------


def test_operations_are_the_accumulates_of_streaming_events() -> None:
    graph, x = fixed()
    whole, _, mapped, tensors = lowered(graph)
    activity = SIMULATOR.execute(mapped, tensors, x)
    counts = run(whole, x).values
    done = {a.name: a for a in activity.layers}
    streamed, held = int(counts["k"].sum()), int((counts["v.latch"] != 0).sum())
    assert activity.product_events["inner.whole"] == (streamed,)
    assert done["inner.whole"].synaptic_operations == streamed * 3  # a value of each of v's columns
    assert done["inner.whole"].events == streamed + held
    assert done["a"].synaptic_operations == int(counts["q"].sum()) * 3
    assert any(isinstance(n, Hold) for n in lowered(graph)[1].nodes)
