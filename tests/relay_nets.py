"""Networks with membrane shortcuts, x ← x + conv(s), and both ways to lower them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from random_graphs import Builder
from snncc.ir import Add, Graph, Linear, Neuron, Reset, Reshape
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import Mapped
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.pipelines import Words, to_integers
from snncc_loihi.neurons import LoihiNeurons
from snncc_loihi.pooling import without_pooling
from snncc_loihi.target import LOIHI2


def blocks(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (2, 5, 4),
    *,
    levels: int = 4,
    count: int = 2,
    steps: int = 1,
    kernel: tuple[int, int] = (3, 3),
    neuron: dict[str, Any] | None = None,
    vectors: int = 0,
) -> Graph:
    """A stem, ``count`` blocks over a running sum of 3 channels, ``vectors`` blocks over features, a readout."""
    b = Builder(rng, shape, levels, steps=steps)
    padding = (kernel[0] // 2, kernel[1] // 2)

    def spikes(name: str) -> str:
        if neuron is None:
            return b.sfa(name, levels, normalized=True)
        return b.add(Neuron(name=name, inputs=(b.last,), source=name, **neuron))

    total = b.conv("stem", b.last, 3, kernel, padding=padding)
    for i in range(count):
        spikes(f"s{i}")
        b.conv(f"c{i}", b.last, 3, kernel, padding=padding)
        total = b.add(Add(name=f"x{i}", inputs=(total, b.last)))
    if vectors:
        spikes("pooled")
        b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
        total = b.add(Linear(name="in", inputs=("flat",), weight=b.weights(7, b.shape[0])))
    for i in range(vectors):
        spikes(f"t{i}")
        linear = Linear(name=f"l{i}", inputs=(b.last,), weight=b.weights(7, 7), bias=b.vector(7, -0.5, 0.5))
        b.add(linear)
        total = b.add(Add(name=f"y{i}", inputs=(total, b.last)))
    spikes("end")
    if len(b.shape) > 1:
        b.add(Reshape(name="rows", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), source="fc", weight=b.weights(4, b.shape[0])))
    if steps > 1:
        b.add(Neuron(name="last", inputs=("fc",), decay=1.0))
    return b.graph()


@st.composite
def shortcut_graphs(draw: st.DrawFn) -> Graph:
    """Two to four blocks of SFA neurons over one timestep, or of IF and LIF neurons over several."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(2, 5, 4), (1, 4, 6), (4, 3, 5)]))
    steps = draw(st.sampled_from([1, 1, 2, 3]))
    neuron = None
    if steps > 1:
        neuron = {
            "decay": draw(st.sampled_from([0, 0.5, 1.0])),
            "reset": draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
            "max_spikes": draw(st.sampled_from([1, 1, 3])),
        }
    return blocks(
        rng,
        shape,
        levels=draw(st.sampled_from([1, 2, 4])) if steps == 1 else 1,
        count=draw(st.integers(2, 4)),
        steps=steps,
        kernel=draw(st.sampled_from([(3, 3), (1, 3), (3, 1)])),
        neuron=neuron,
        vectors=draw(st.sampled_from([0, 0, 2])),
    )


def lowered_by(
    graph: Graph, x: np.ndarray, *, relay: bool, graded: bool
) -> tuple[Graph, Graph, Mapped, dict[str, Any]]:
    """Integers, spikes and program of a graph on Loihi 2, by one of the two lowerings."""
    chip = LOIHI2.chip
    assert chip.limits.threshold_max is not None
    own = (LoihiNeurons(True, chip.limits.threshold_max, not graded),)
    integer = graph
    for one in to_integers(x, chip, own, words=Words(15, 17), relay=relay):
        integer = one.run(integer)
    schedule = LOIHI2.schedules["graded" if graded else "exact"]
    spikes = ExpandSFA(schedule).run(integer)
    logical, tensors = map_graph(
        spikes,
        target="loihi2",
        schedule=schedule,
        state_bits=chip.limits.state_bits,
    )
    mapped, tensors = without_pooling(logical, tensors)
    return integer, spikes, mapped, tensors
