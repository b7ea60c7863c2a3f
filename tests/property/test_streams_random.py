"""Random streams: analog stems and spikes, downsampling, pools, one and two heads, pushed and relayed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from snncc.compilation import Target
from snncc.ir import (
    Add,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Reset,
    Reshape,
    Rounding,
    SumPool2d,
)
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM
from stream_nets import agrees, f32, inputs, lowered

NEURONS: tuple[tuple[dict[str, Any], int], ...] = (
    ({"max_spikes": 4, "rounding": Rounding.HALF_EVEN}, 1),
    ({"max_spikes": 2, "rounding": Rounding.HALF_EVEN, "decay": 0.5}, 2),
    ({"decay": 0.5, "threshold": 0.5, "reset": Reset.VALUE}, 3),
    ({"decay": 1.0, "threshold": 0.75}, 2),
)


def of_numbers(**numbers: object) -> Target:
    """The ideal chip with other limits and abilities."""
    limits = SIM.chip.limits.model_copy(update={k: v for k, v in numbers.items() if k == "exponent_max"})
    able = SIM.chip.abilities.model_copy(update={k: v for k, v in numbers.items() if k != "exponent_max"})
    return replace(SIM, chip=SIM.chip.model_copy(update={"limits": limits, "abilities": able}))


# Relays and exponents; relays of streams alone; copies alone, for networks whose input is spikes.
CHIPS = (
    SIM,
    of_numbers(exponent_max=0),
    of_numbers(exponent_max=0, graded_events=False, signed_events=False),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Graph, bool]:
    """A stream of blocks in one or two stages, and whether an analog stem starts it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    number, steps = draw(st.sampled_from(NEURONS))
    analog, levels = draw(st.booleans()), number.get("max_spikes", 1)
    sizes = st.sampled_from([0.03, 0.4, 1.0])
    nodes: list[Node] = [Input(name="x", shape=(2, 6, 6), levels=0 if analog else levels)]

    def conv(name: str, reads: str, out: int, read: int, k: int, **more: Any) -> str:
        weight = f32(rng.normal(size=(out, read, k, k)) * draw(sizes) / np.sqrt(k * read))
        bias = f32(rng.normal(size=out) * 0.1) if draw(st.booleans()) else None
        nodes.append(Conv2d(name=name, inputs=(reads,), weight=weight, bias=bias, **more))
        return name

    def add(node: Node) -> str:
        nodes.append(node)
        return node.name

    value, channels = conv("stem", "x", 3, 2, 3, padding=(1, 1)), 3
    for i in range(draw(st.integers(1, 3))):
        down = draw(st.booleans()) and channels == 3
        out, stride = (4, 2) if down else (channels, 1)
        spikes = add(Neuron(name=f"n{i}", inputs=(value,), **number))
        branch = conv(f"c{i}", spikes, out, channels, 3, padding=(1, 1), stride=(stride, stride))
        if down and draw(st.booleans()):
            value = add(SumPool2d(name=f"p{i}", inputs=(value,), kernel=(2, 2), stride=(2, 2)))
            value = conv(f"d{i}", value, out, channels, 1)
        elif down:
            value = conv(f"d{i}", value, out, channels, 1, stride=(2, 2))
        value, channels = add(Add(name=f"a{i}", inputs=(branch, value))), out
    side = 3 if channels == 4 else 6
    value = add(SumPool2d(name="mean", inputs=(value,), kernel=(side, side), stride=(side, side)))
    flat = add(Reshape(name="flat", inputs=(value,), shape=(channels,)))
    result = add(Linear(name="f", inputs=(flat,), weight=f32(rng.normal(size=(3, channels)) / side**2)))
    if draw(st.booleans()):
        spikes = add(Neuron(name="hn", inputs=(flat,), **{**number, "threshold": 3.0}))
        other = add(Linear(name="g", inputs=(spikes,), weight=f32(rng.normal(size=(3, channels)))))
        result = add(Add(name="both", inputs=(result, other)))
    over = OverTime.MEAN if steps > 1 else OverTime.NONE
    return Graph(
        "net", Family.FLOAT, (*nodes, Output(name="o", inputs=(result,), over_time=over)), steps
    ), analog


@settings(deadline=None, max_examples=15)
@given(streams(), st.sampled_from(CHIPS), st.sampled_from([4, 8, 12]), st.integers(0, 1000))
def test_integers_are_spikes_are_events(made: tuple[Graph, bool], chip: Target, bits: int, seed: int) -> None:
    graph, analog = made
    if analog and not chip.chip.abilities.signed_events:
        chip = SIM
    x = inputs(graph, 4, seed)
    if not analog:
        x = np.random.default_rng(seed).integers(0, graph.input.levels + 1, x.shape)
    agrees(lowered(graph, x, chip.of_weights(bits)), x)


@settings(deadline=None, max_examples=5)
@given(streams(), st.integers(0, 1000))
def test_loihis_words_too(made: tuple[Graph, bool], seed: int) -> None:
    graph, analog = made
    x = inputs(graph, 3, seed)
    if not analog:
        x = np.random.default_rng(seed).integers(0, graph.input.levels + 1, x.shape)
    agrees(lowered(graph, x, LOIHI2), x)
