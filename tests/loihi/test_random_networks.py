"""Random networks on Loihi: integers = spike graph = simulated program, in every schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from random_graphs import chain_graphs, lif_graphs, random_inputs, sfa_graphs, stateful_graphs
from snncc.compilation import Lowered, Options, Target
from snncc.ir import Graph
from snncc.ir.batches import in_chunks
from snncc.mapping.check import check_mapped
from snncc.model import Model
from snncc.simulation import Activity
from snncc_loihi.target import LOIHI1, LOIHI2
from snncc_sim import SIMULATOR

RELAXED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def simulated(lowered: Lowered, x: np.ndarray) -> Activity:
    return SIMULATOR.execute(
        lowered.mapped, lowered.tensors, x.reshape(len(x), -1, *lowered.mapped.inputs[0].shape)
    )


def agree(lowered: Lowered, x: np.ndarray, *, integers: bool = True) -> Activity:
    """Simulated program = spike graph = (in exact schedules) integers, on inputs no range excludes."""
    activity = simulated(lowered, x)
    integer, spikes = (in_chunks(g, x) for g in (lowered.integer_graph, lowered.spike_graph))
    for piece in lowered.mapped.pieces:
        got = activity.counts[piece.name]
        runs = (spikes, integer) if integers else (spikes,)
        for run in runs:
            want = run.values[piece.name].reshape(got.shape)
            part = slice(-1, None) if piece.is_readout else slice(None)
            assert np.array_equal(got[:, part], want[:, part]), piece.name
    assert not integers or np.array_equal(activity.result, integer.result)
    assert not any(a.out_of_range for a in activity.layers)
    return activity


def lowered_for(target: Target, graph: Graph, x: np.ndarray, **options: object) -> Lowered:
    lowered = target.lower(Model(graph), x, Options(**options))  # type: ignore[arg-type]
    check_mapped(lowered.mapped, lowered.tensors, target.chip, target.checker)
    return lowered


@RELAXED
@given(chain_graphs(rests=False), st.integers(0, 2**16), st.booleans())
def test_features_in_a_row_in_windows(graph: Graph, seed: int, graded: bool) -> None:
    """Spikes that skip several layers wait for all of them."""
    x = random_inputs(graph, 4, seed)
    agree(lowered_for(LOIHI2, graph, x, schedule="graded" if graded else "exact"), x)


@RELAXED
@given(st.one_of(sfa_graphs(), stateful_graphs()), st.integers(0, 2**16), st.booleans())
def test_integers_in_windows(graph: Graph, seed: int, graded: bool) -> None:
    x = random_inputs(graph, 5, seed)
    lowered = lowered_for(LOIHI2, graph, x, schedule="graded" if graded else "exact")
    agree(lowered, x)
    assert not graded or lowered.mapped.micro_steps == 1


@RELAXED
@given(lif_graphs(), st.integers(0, 2**16), st.sampled_from([LOIHI1, LOIHI2]))
def test_leaky_neurons_step_by_step(graph: Graph, seed: int, target: Target) -> None:
    x = random_inputs(graph, 5, seed)
    lowered = lowered_for(target, graph, x)
    assert lowered.mapped.micro_steps == 1
    assert {p.cell.gain for p in lowered.mapped.pieces} == {128}
    agree(lowered, x)


@RELAXED
@given(lif_graphs(), st.integers(0, 2**16))
def test_leaky_neurons_whose_counts_travel_are_programs(graph: Graph, seed: int) -> None:
    """The chip's own neuron sends spikes; under `graded` every event carries a count, be it one."""
    x = random_inputs(graph, 5, seed)
    lowered = lowered_for(LOIHI2, graph, x, schedule="graded")
    assert lowered.mapped.micro_steps == 1
    assert {p.cell.gain for p in lowered.mapped.pieces} == {2}
    agree(lowered, x)


@RELAXED
@given(sfa_graphs(), st.integers(0, 2**16))
def test_free_is_the_streaming_spike_graph(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 4, seed)
    lowered = lowered_for(LOIHI2, graph, x, schedule="free")
    agree(lowered, x, integers=False)


@pytest.mark.campaign
@settings(RELAXED, max_examples=1500)
@given(
    st.one_of(sfa_graphs(), stateful_graphs(), lif_graphs(), chain_graphs(rests=False)),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_campaign(graph: Graph, seed: int, graded: bool) -> None:
    x = random_inputs(graph, 4, seed)
    agree(lowered_for(LOIHI2, graph, x, schedule="graded" if graded else "exact"), x)
