"""The free-running engine plays exactly the order that snncc.ir.free defines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way, conv_chain, each
from snncc.errors import CapacityError
from snncc.ir import interp
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import INPUT
from snncc.simulation import Activity
from snncc_sim import SIMULATOR, engine


def assert_equal_to_free(net: Net, x: Any) -> Activity:
    reference = interp.run(net.graph(), x)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, x)
    for name, counts in activity.counts.items():
        expected = reference.values[name]
        np.testing.assert_array_equal(counts.reshape(expected.shape), expected, err_msg=name)
    expected = reference.result
    np.testing.assert_array_equal(activity.result.reshape(expected.shape), expected)
    return activity


def test_chain_equals_reference() -> None:
    net = conv_chain(Engine.EVENT)
    activity = assert_equal_to_free(net, net.data(3))
    assert all(layer.spikes > 0 for layer in activity.layers[:-1])


@st.composite
def random_nets(draw: st.DrawFn) -> Net:
    """Merges of pieces and input, weights over the threshold, floors, caps, pools, groups."""
    net = Net((2, 4, 3), levels=2, engine=Engine.EVENT, seed=draw(st.integers(0, 10**6)))

    def neuron() -> dict[str, Any]:
        return {
            "threshold": each(draw, 1, 25, 4),
            "max_spikes": draw(st.integers(1, 3)),
            "capped": draw(st.booleans()),
            "precharge": each(draw, -1, 12, 4),
            "bias": np.arange(-2, 2, dtype=np.int32) * draw(st.integers(0, 3)),
            "v_init": each(draw, -9, 30, 4),
            "v_min": draw(st.sampled_from([None, each(draw, -12, 0, 4)])),
        }

    first = draw(
        st.sampled_from(
            [
                Way(kernel=(3, 2), padding=(1, 1), stride=(2, 1)),
                Way(kernel=(1, 3), padding=(0, 1), pool=(2, 1), groups=2),
                Way(kernel=(2, 1), dilation=(2, 1), padding=(1, 0), stride=(1, 2)),
            ]
        )
    )
    net.layer("a", 4, first, **neuron())
    second = Way("a", kernel=(3, 3), padding=(1, 1), groups=draw(st.sampled_from([1, 2, 4])))
    net.layer("b", 4, second, Way("a", kernel=(1, 1)), **neuron())
    net.layer("c", 4, Way("b", kernel=(1, 1)), Way("a", kernel=(3, 3), padding=(1, 1)), **neuron())
    net.layer("d", 4, Way("c", kernel=None), Way(INPUT, kernel=None), Way("b", kernel=None), **neuron())
    net.layer("r", 3, Way("d", kernel=None), Way("a", kernel=None), max_spikes=0, threshold=1)
    return net


@settings(deadline=None, max_examples=60)
@given(random_nets())
def test_random_nets_equal_reference(net: Net) -> None:
    x = net.data(1, 0.6)
    if SIMULATOR.execute(net.mapped(), net.tensors, x).layers[3].events < 4000:  # the reference is slow
        assert_equal_to_free(net, x)


def test_pooled_source_drops_the_rest() -> None:
    net = Net((1, 3, 5), levels=1, engine=Engine.EVENT)
    net.layer("a", 2, Way(kernel=(1, 1), pool=(2, 2)), threshold=3, max_spikes=9, capped=False)
    x = np.ones((1, 1, 1, 3, 5), np.int64)
    activity = assert_equal_to_free(net, x)
    assert activity.layers[0].events == 2 * 4


def test_one_spike_per_update_even_over_two_thresholds() -> None:
    net = Net((1, 1, 1), levels=3, engine=Engine.EVENT)
    net.layer("a", 1, Way(kernel=(1, 1), weight=[[[[100]]]]), threshold=10, max_spikes=1, capped=False)
    activity = assert_equal_to_free(net, np.full((1, 1, 1, 1, 1), 2))
    assert activity.layers[0].spikes == 2


def test_word_of_16_bits_clamps_and_is_counted() -> None:
    net = Net((1, 1, 1), levels=3, engine=Engine.EVENT)
    net.layer("a", 1, Way(kernel=(1, 1), weight=[[[[-100]]]]), max_spikes=0, v_init=-32600, state_bits=16)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, np.full((1, 1, 1, 1, 1), 3))
    assert activity.counts["a"].item() == -32768
    assert (activity.layers[0].saturations, activity.layers[0].out_of_range) == (2, (0,))


def test_shuffle_is_a_function_of_seed_and_sample() -> None:
    net = conv_chain(Engine.EVENT, levels=3)
    x, mapped, tensors = net.data(9), net.mapped(), net.tensors
    plain = engine.execute(mapped, tensors, x)
    one = engine.execute(mapped, tensors, x, shuffle=5, chunk=9)
    for other in (
        engine.execute(mapped, tensors, x, shuffle=5, chunk=2, workers=3),
        engine.execute(mapped, tensors, x, shuffle=5, chunk=1),
    ):
        assert other.layers == one.layers
        np.testing.assert_array_equal(other.counts["c"], one.counts["c"])
    again = engine.execute(mapped, tensors, x, shuffle=6)
    assert not np.array_equal(again.counts["a"], one.counts["a"])
    assert not np.array_equal(plain.counts["a"], one.counts["a"])
    # The first layer integrates the same input, in whatever order.
    assert plain.layers[0].synaptic_operations == one.layers[0].synaptic_operations


def test_more_than_one_timestep_is_refused() -> None:
    net = conv_chain(Engine.EVENT, steps=2)
    with pytest.raises(CapacityError, match="SNNC-C010"):
        SIMULATOR.execute(net.mapped(), net.tensors, net.data(1))
