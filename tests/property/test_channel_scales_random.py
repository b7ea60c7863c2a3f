"""Scales, thresholds and leaks of each channel: random networks from real numbers to simulated spikes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from property.test_end_to_end_random import executed, simulated_equals_integers
from random_graphs import Builder, chain_graphs, random_inputs, sfa_graphs, stateful_graphs
from snncc.analysis.layerwise import compare_layers
from snncc.compilation import Options, Target
from snncc.ir import Cell, Const, Graph, Neuron, Node, Reset
from snncc.ir.batches import in_chunks
from snncc.ir.const import values_of
from snncc.model import Model
from snncc.passes import rounding
from snncc.passes.fold_threshold import FoldThreshold
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM, TIANJIC, sim_target

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY = st.one_of(sfa_graphs(), stateful_graphs(), chain_graphs())


def of_channels(graph: Graph, seed: int) -> Graph:
    """The graph with thresholds, leaks, resets and bounds of each channel in about two neurons of three."""
    rng = np.random.default_rng(seed)

    def spread(value: Any, low: float, high: float, channels: int) -> Const:
        return Const((values_of(value) * rng.uniform(low, high, channels)).astype(np.float32))

    def changed(node: Node) -> Node | None:
        if not isinstance(node, Neuron) or node.is_readout or rng.random() < 0.33:
            return None
        channels = graph.types[node.name].shape[0]
        own: dict[str, Any] = {}
        if not node.signed:
            own["threshold"] = spread(node.threshold, 0.5, 2.0, channels)
        if not node.is_stateless:
            own["decay"] = spread(node.decay, 0.5, 1.0, channels)
            own["v_init"] = Const(rng.uniform(-0.5, 0.5, channels).astype(np.float32))
            own["v_min"] = None if node.v_min is None else spread(node.v_min, 0.5, 3.0, channels)
            if node.synapse_decay is not None:
                own["synapse_decay"] = spread(node.synapse_decay, 0.5, 1.0, channels)
            own["reset_to"] = Const(rng.uniform(-0.3, 0.3, channels).astype(np.float32))
        return replace(node, **own)

    return graph.rewrite(changed)


@RELAXED
@given(ANY, st.booleans(), st.booleans(), st.integers(0, 2**16))
def test_integers_are_spikes(graph: Graph, per_channel: bool, of_neurons: bool, seed: int) -> None:
    """With scales of each channel, with numbers of each channel, and with both, in the engine, bit for bit."""
    graph = of_channels(graph, seed) if of_neurons else graph
    x = random_inputs(graph, 5, seed)
    made = SIM.of_weights(4 + seed % 5).lower(Model(graph), x, Options(per_channel=per_channel))
    simulated_equals_integers(made, x)


@RELAXED
@given(ANY, st.integers(0, 2**16))
def test_thresholds_moved_into_weights_keep_the_float_rule(graph: Graph, seed: int) -> None:
    before = of_channels(graph, seed)
    after = FoldThreshold().run(before)
    report = compare_layers(before, after, random_inputs(before, 6, seed))
    assert report.worst <= 1, str(report)


# ---- against real numbers ---------------------------------------------------------------------------------


def able(target: Target, **abilities: bool) -> Target:
    """The target whose chip can more."""
    chip = target.chip
    return sim_target(chip.model_copy(update={"abilities": chip.abilities.model_copy(update=abilities)}))


ANYTHING = able(SIM, synaptic_current=True)


def three(seed: int, steps: int, neuron: dict[str, Any]) -> Graph:
    """Three channels in and out, so that scales along the wrong axis of the weights would go unnoticed."""
    b = Builder(np.random.default_rng(seed), (3, 6, 4), 2, steps=steps)
    for i in range(2):
        b.conv(f"c{i}", b.last, 3, (3, 3), padding=(1, 1))
        b.add(Neuron(name=f"n{i}", inputs=(b.last,), source=f"n{i}", **neuron))
    return b.graph()


NEURONS: dict[str, dict[str, Any]] = {
    "hard": {"decay": 0.875, "reset": Reset.VALUE, "reset_to": 0.2, "v_min": -0.4, "v_init": 0.3},
    "soft": {"decay": 0.9, "max_spikes": 3, "reset_by": 1.1},
    "current": {"decay": 0.8, "synapse_decay": 0.5, "bias": 0.1},
    "memoryless": {"max_spikes": 4},
}


def agreement(graph: Graph, x: Any) -> float:
    """The least share of counts that are the float graph's, layer by layer, at 20 bits and scales of channels."""
    made = ANYTHING.of_weights(20).lower(Model(graph), x, Options(per_channel=True))
    simulated_equals_integers(made, x)
    # Two layers: where a spike of the first differs, those behind it may, too.
    real, whole = in_chunks(graph, x).values, in_chunks(made.integer_graph, x).values
    cells = [n.cell for n in made.integer_graph.neurons]  # type: ignore[union-attr]
    assert all("threshold" in cell.per_channel() for cell in cells)
    assert all(2 < (real[n] > 0).mean() * 100 < 98 for n in ("n0", "n1"))
    return min(float((np.rint(real[n]) == whole[n]).mean()) for n in ("n0", "n1"))


def spiky(name: str) -> tuple[Graph, Any]:
    steps = 1 if name == "memoryless" else 4
    graph = three(3, steps, NEURONS[name])
    if name == "current":  # a bias that passes the synapse has no integer form
        graph = graph.rewrite(lambda n: replace(n, bias=None) if n.name in ("c0", "c1") else None)  # type: ignore[type-var]
    return graph, random_inputs(graph, 40, 8)


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("of_neurons", [False, True], ids=["plain", "numbers of channels"])
def test_nearly_real_weights_count_what_the_real_ones_do(name: str, of_neurons: bool) -> None:
    graph, x = spiky(name)
    assert agreement(of_channels(graph, 1) if of_neurons else graph, x) > 0.995


FAULTS: dict[str, Any] = {
    "weights along their inputs": ("along", lambda s, rank: s if np.ndim(s) == 0 else s.reshape(1, -1, 1, 1)),
    "one scale for all weights": ("along", lambda s, rank: np.min(s)),
    "one scale for all potentials": ("_number", None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_scale_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = spiky("hard")
    name, planted = FAULTS[fault]
    if planted is None:
        whole = rounding._number
        planted = lambda value, scale: whole(value, np.min(scale))  # noqa: E731
    monkeypatch.setattr(rounding, name, planted)
    with pytest.raises(AssertionError):
        assert agreement(graph, x) > 0.995


def test_a_scale_of_the_channel_beside_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = spiky("hard")
    turned = rounding.along
    monkeypatch.setattr(
        rounding, "along", lambda s, rank: turned(s if np.ndim(s) == 0 else np.roll(s, 1), rank)
    )
    with pytest.raises(AssertionError):
        assert agreement(graph, x) > 0.995


# ---- time ----------------------------------------------------------------------------------


def test_what_counts_cost_does_not_depend_on_the_numbers_that_made_them() -> None:
    """Tianjic as it would be if its cores held a threshold a channel; meshes have theirs in simulator/."""
    graph, x = spiky("hard")
    target = able(TIANJIC, channel_numbers=True)
    made = target.lower(Model(graph), x, Options(per_channel=True))
    simulated_equals_integers(made, x)
    activity = executed(made, x)
    assert activity.counts["n1"].any()
    plain = tuple(
        p.model_copy(update={"cell": Cell(max_spikes=p.cell.max_spikes)}) for p in made.mapped.pieces
    )
    cost, same = (
        SIMULATOR.estimate(m, activity, target.chip, 0, made.tensors)
        for m in (made.mapped, made.mapped.model_copy(update={"pieces": plain}))
    )
    assert (cost.latency, cost.energy) == (same.latency, same.energy)
