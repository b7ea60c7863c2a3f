"""Random networks with membrane shortcuts on Loihi 2: relays and copies compute the same integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loihi_nets import without_cores
from random_graphs import random_inputs
from relay_nets import lowered_by, shortcut_graphs
from snncc.analysis.ranges import type_extremes
from snncc.ir import Graph, IntegerNeuron, parse, to_text
from snncc.ir.batches import in_chunks
from snncc.ir.interp import run
from snncc.mapping.check import check_mapped
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.distribute import Distribute
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.quantize import Quantize
from snncc.passes.relay import Relay
from snncc_loihi.exponents import without_exponents
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR

RELAXED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shared_integers(graph: Graph, x: np.ndarray) -> Graph:
    """The integer graph whose sums are still shared."""
    for one in (FoldConvBN(), LowerReadout(), FoldScale(), Quantize(calibration=x, state_bits=15)):
        graph = one.run(graph)
    return graph


def agree(graph: Graph, x: np.ndarray, relay: bool, graded: bool) -> None:
    integer, spikes, mapped, tensors = lowered_by(graph, x, relay=relay, graded=graded)
    mapped = without_exponents(mapped)  # as the backend has it before it places anything
    check_mapped(mapped, tensors, without_cores(LOIHI2.chip), LOIHI2.checker)
    assert any(p.cell.signed for p in mapped.pieces) == relay
    activity = SIMULATOR.execute(mapped, tensors, x.reshape(len(x), -1, *mapped.inputs[0].shape))
    for executed in (run(integer, x), run(spikes, x)):
        for piece in mapped.pieces:
            got = activity.counts[piece.name]
            part = slice(-1, None) if piece.is_readout else slice(None)
            want = executed.values[piece.name].reshape(got.shape)
            assert np.array_equal(got[:, part], want[:, part]), piece.name
        assert np.array_equal(activity.result, executed.result)


@RELAXED
@given(shortcut_graphs(), st.integers(0, 2**16), st.booleans(), st.booleans())
def test_integers_are_spikes_are_the_program(graph: Graph, seed: int, relay: bool, graded: bool) -> None:
    agree(graph, random_inputs(graph, 4, seed), relay, graded)


@RELAXED
@given(shortcut_graphs(), st.integers(0, 2**16))
def test_both_lowerings_change_no_count(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 4, seed)
    shared = shared_integers(graph, x)
    names = tuple(n.name for n in shared.neurons)
    want = in_chunks(shared, x)
    for one in (Distribute(), Relay()):
        got = run(one.run(shared), x, (*names, shared.output.name))
        assert all(np.array_equal(want.values[n], got.values[n]) for n in names)
        assert np.array_equal(want.result, got.result)


@RELAXED
@given(shortcut_graphs(), st.integers(0, 2**16))
def test_a_relays_bound_never_clips(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 4, seed)
    loose = Relay().run(shared_integers(graph, x))
    bounded = BoundCounts().run(loose)
    assert parse(to_text(bounded), bounded.constants()) == bounded
    relays = [n for n in bounded.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]
    for inputs in (x, np.full_like(x, graph.input.levels)):
        a, b = run(loose, inputs), run(bounded, inputs)
        assert all(np.array_equal(a.values[k], b.values[k]) for k in a.values)
        for relay in relays:
            found = type_extremes(bounded, relay)
            assert np.abs(b.values[relay.name]).max() <= relay.cell.max_spikes
            assert (b.values[relay.name] <= found.high + found.rest).all()
            assert (b.values[relay.name] >= found.low + found.rest).all()


@pytest.mark.campaign
@settings(RELAXED, max_examples=1000)
@given(shortcut_graphs(), st.integers(0, 2**16), st.booleans(), st.booleans())
def test_campaign(graph: Graph, seed: int, relay: bool, graded: bool) -> None:
    agree(graph, random_inputs(graph, 4, seed), relay, graded)
