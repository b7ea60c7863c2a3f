"""Networks whose layers need different abilities, and chips that deny some of them to a host's gain."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from random_graphs import Builder
from snncc.hw.spec import Abilities, ChipSpec, Exchange
from snncc.ir import Add, Graph, Linear, Neuron, Reset, Reshape
from snncc_sim.target import SIM

HOST = Exchange(source="a test", grade="assumed")
ABLE = tuple(name for name in Abilities.model_fields if name != "source")
KINDS: dict[str, dict[str, Any]] = {
    "soft": {},
    "leaks": {"decay": 0.5},
    "hard": {"reset": Reset.VALUE},
    "floor": {"v_min": -0.5},
    "start": {"v_init": 0.5},
    "current": {"synapse_decay": 0.5},
}
NEEDS = {
    "leaks": "leak_between_timesteps",
    "hard": "hard_reset",
    "floor": "lower_clamp",
    "start": "start_values",
    "current": "synaptic_current",
    "readout": "reads_membranes",
}


def without(*denied: str, base: ChipSpec = SIM.chip, exchange: Exchange | None = HOST) -> ChipSpec:
    """A chip that can do everything but what is denied."""
    abilities = base.abilities.model_copy(update=dict.fromkeys(ABLE, True) | dict.fromkeys(denied, False))
    return base.model_copy(update={"abilities": abilities, "exchange": exchange})


def network(kinds: tuple[str, ...], *, seed: int = 1, skip: int | None = None, steps: int = 3) -> Graph:
    """Maps through one 3×3 layer a kind, ``n0``, ``n1`` …, and a readout ``last``.

    ``skip``: the last layer of maps also reads this one.
    """
    b = Builder(np.random.default_rng(seed), (2, 5, 3), 1, steps=steps)
    for i, kind in enumerate(kinds):
        if skip is not None and i == len(kinds) - 1 > skip + 1:
            b.add(Add(name="sum", inputs=(f"n{skip}", b.last)))
        conv = b.conv(f"c{i}", b.last, 3, (3, 3), padding=(1, 1))
        if kind == "current":  # a bias in front of a synapse with memory has no integer form
            b.nodes[-1] = b.nodes[-1].__class__(**{**vars(b.nodes[-1]), "bias": None})
        b.add(Neuron(name=f"n{i}", inputs=(conv,), source=f"net.{kind}{i}", **({"decay": 1.0} | KINDS[kind])))
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), weight=b.weights(4, b.shape[0])))
    b.add(Neuron(name="last", inputs=("fc",), decay=1.0, max_spikes=0, source="net.last"))
    return b.graph()


@st.composite
def mixed_graphs(draw: st.DrawFn) -> tuple[Graph, tuple[str, ...]]:
    """A network of two to five layers of any kinds, and these kinds."""
    kinds = tuple(draw(st.lists(st.sampled_from(list(KINDS)), min_size=2, max_size=5)))
    skip = draw(st.none() | st.integers(0, len(kinds) - 1))
    graph = network(kinds, seed=draw(st.integers(0, 2**16)), skip=skip, steps=draw(st.integers(2, 3)))
    return graph, kinds
