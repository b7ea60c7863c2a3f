"""Random networks through every pass: exact passes are exact, integers equal spikes bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from random_graphs import chain_graphs, random_inputs, sfa_graphs, stateful_graphs
from snncc.analysis.layerwise import compare_layers
from snncc.ir import Delay, Graph, IntegerNeuron, Node, parse, to_text
from snncc.ir.interp import run
from snncc.passes.base import Pass
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.distribute import Distribute
from snncc.passes.drop_clip import UNBOUNDED, DropClip
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.quantize import Quantize
from snncc.passes.single_step import SingleStep
from snncc.passes.split_host import SplitHost

RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FLOAT_PASSES: tuple[Pass, ...] = (FoldConvBN(), LowerReadout(), FoldScale(), SplitHost(), Distribute())
ANY = st.one_of(sfa_graphs(), stateful_graphs(), chain_graphs())


def integers(graph: Graph, calibration: np.ndarray, state_bits: int = 32, clip: bool = True) -> Graph:
    dropped = () if clip else (DropClip(),)
    for one in (*FLOAT_PASSES, *dropped, Quantize(calibration=calibration, state_bits=state_bits)):
        graph = one.run(graph)
    return graph


@RELAXED
@given(ANY, st.integers(0, 2**16))
def test_text_form_round_trips_in_every_family(graph: Graph, seed: int) -> None:
    integer = integers(graph, random_inputs(graph, 4, seed))
    for g in (graph, integer, ExpandSFA().run(integer)):
        assert parse(to_text(g), g.constants()) == g
        assert to_text(parse(to_text(g), g.constants())) == to_text(g)


@RELAXED
@given(ANY, st.integers(0, 2**16))
def test_what_cannot_wait_comes_early_only_where_one_window_sums_it(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 4, seed)
    integer = SingleStep().run(integers(graph, x))
    spikes = ExpandSFA(longest=0).run(integer)
    waits = [n for n in spikes.nodes if isinstance(n, Delay)]
    assert graph.steps == 1 or spikes == ExpandSFA().run(integer)
    assert graph.steps > 1 or spikes.micro_steps == 1 or not waits
    want, got = run(integer, x), run(spikes, x)
    for name, counts in want.values.items():
        assert np.array_equal(got.values[name], counts), name


@RELAXED
@given(ANY, st.integers(0, 2**16))
def test_float_passes_keep_every_layer_within_the_float_rule(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 6, seed)
    for one in FLOAT_PASSES:
        after = one.run(graph)
        report = compare_layers(graph, after, x)
        assert report.worst <= 1, f"{one.name}: {report}"
        graph = after


@RELAXED
@given(
    st.one_of(
        st.tuples(st.one_of(sfa_graphs(), stateful_graphs()), st.booleans()),
        # Without a clip counts multiply from layer to layer, and windows with them.
        st.tuples(chain_graphs(), st.just(True)),
    ),
    st.integers(0, 2**16),
)
def test_windows_of_spikes_count_the_integers(drawn: tuple[Graph, bool], seed: int) -> None:
    graph, clip = drawn
    x = random_inputs(graph, 5, seed)
    integer = BoundCounts().run(integers(graph, x, clip=clip or graph.steps > 1))
    expected, got = run(integer, x), run(ExpandSFA().run(integer), x)
    assert expected.values.keys() == got.values.keys()
    for name, want in expected.values.items():
        assert np.array_equal(want, got.values[name]), name


@RELAXED
@given(stateful_graphs(), st.integers(0, 2**16))
def test_bounds_of_neurons_with_memory_never_bind(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 5, seed)
    unbounded = integers(graph, x, clip=False)
    a, b = run(unbounded, x), run(BoundCounts().run(unbounded), x)
    assert all(np.array_equal(a.values[k], b.values[k]) for k in a.values)


@RELAXED
@given(ANY, st.integers(0, 2**16))
def test_single_step_changes_no_count(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 5, seed)
    integer = integers(graph, x)
    a, b = run(integer, x), run(SingleStep().run(integer), x)
    assert all(np.array_equal(a.values[k], b.values[k]) for k in a.values)


@RELAXED
@given(sfa_graphs(), st.integers(0, 2**16))
def test_bound_counts_never_binds(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 5, seed)
    unbounded = integers(graph, x, clip=False)
    unclipped = BoundCounts().run(unbounded)
    assert max(n.cell.max_spikes for n in unclipped.neurons if isinstance(n, IntegerNeuron)) < UNBOUNDED

    def widened(node: Node) -> Node | None:
        if not isinstance(node, IntegerNeuron) or node.is_readout:
            return None
        return replace(node, cell=replace(node.cell, max_spikes=node.cell.max_spikes + 1000))

    wider = unclipped.rewrite(widened)
    full = np.full_like(x, graph.input.levels)
    for inputs in (x, full):
        a, b = run(unclipped, inputs), run(wider, inputs)
        assert all(np.array_equal(a.values[k], b.values[k]) for k in a.values)


@pytest.mark.parametrize("state_bits", [16, 32])
@RELAXED
@given(graph=sfa_graphs(), seed=st.integers(0, 2**16))
def test_quantized_counts_stay_close(graph: Graph, seed: int, state_bits: int) -> None:
    """Quantization is approximate: most counts of the first layer equal the float network's."""
    x = random_inputs(graph, 8, seed)
    integer = integers(graph, x, state_bits)
    levels = max(1, next(n for n in graph.neurons).max_spikes)  # type: ignore[union-attr]
    a, b = run(graph, x).values["n1"], run(integer, x).values["n1"]
    unit = graph.types["n1"].unit  # type: ignore[union-attr]
    assert np.abs(np.rint(a / unit) - b).max(initial=0) <= max(1, levels // 4)
