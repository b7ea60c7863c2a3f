"""The clocked engine is the reference interpreter, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way, conv_chain, each
from snncc.ir import interp
from snncc.ir.nodes import Reset
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import INPUT
from snncc.simulation import Activity
from snncc_sim import SIMULATOR


def assert_equal_to_interp(net: Net, x: Any) -> Activity:
    reference = interp.run(net.graph(), x)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, x)
    for name, counts in activity.counts.items():
        expected = reference.values[name]
        np.testing.assert_array_equal(counts.reshape(expected.shape), expected, err_msg=name)
    expected = reference.result
    np.testing.assert_array_equal(activity.result.reshape(expected.shape), expected)
    assert activity.result.dtype == reference.result.dtype
    assert sum(layer.saturations for layer in activity.layers) == 0
    return activity


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_chain_equals_interpreter(steps: int) -> None:
    net = conv_chain(Engine.CLOCKED, steps=steps)
    activity = assert_equal_to_interp(net, net.data(4))
    assert all(layer.spikes > 0 for layer in activity.layers[:-1])


@st.composite
def random_nets(draw: st.DrawFn) -> Net:
    """Merges, delayed skips, both resets, decay, groups, pools and asymmetric geometry."""
    window = draw(st.sampled_from([1, 2, 4]))
    period = window + draw(st.integers(0, 2))
    levels = draw(st.integers(1, period + 1))
    net = Net((4, 6, 5), levels, draw(st.integers(1, 3)), period, seed=draw(st.integers(0, 10**6)))

    def neuron(depth: int) -> dict[str, Any]:
        bits = draw(st.sampled_from([0, 3]))
        reset = draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE]))
        return {
            "threshold": each(draw, 1, 40, 8),
            "max_spikes": window,
            "phase": depth * (window + draw(st.integers(0, 1))),
            "precharge": each(draw, -1, 20, 8),
            "gain": each(draw, 1, 3, 8),
            "synapse_decay": each(draw, 0, 4, 8),
            "synapse_bits": 2,
            "bias": np.arange(-4, 4, dtype=np.int32) * draw(st.integers(0, 3)),
            "v_init": draw(st.integers(-5, 9)),
            "decay": draw(st.sampled_from([0, 1])) if bits == 0 else each(draw, 0, 8, 8),
            "decay_bits": bits,
            "reset": reset,
            "reset_by": draw(st.sampled_from([None, each(draw, 0, 50, 8)])),
            "reset_to": each(draw, -3, 3, 8),
            "v_min": draw(st.sampled_from([None, each(draw, -7, 0, 8)])),
        }

    geometry = draw(
        st.sampled_from(
            [
                Way(kernel=(3, 2), stride=(2, 1), padding=(1, 1), groups=2),
                Way(kernel=(2, 3), dilation=(2, 1), padding=(0, 2)),
                Way(kernel=(1, 3), stride=(1, 2), pool=(2, 1), groups=4),
                Way(kernel=(3, 3), padding=(2, 1), pool=(1, 2)),
            ]
        )
    )
    net.layer("a", 8, geometry, **neuron(1))
    first = Way("a", kernel=(3, 3), padding=(1, 1), groups=draw(st.sampled_from([1, 2, 4])))
    net.layer("b", 8, first, Way("a", kernel=(1, 1), delay=draw(st.integers(0, 2 * period))), **neuron(2))
    skip = Way("a", kernel=(1, 1), delay=draw(st.integers(1, 9)))
    net.layer("c", 8, Way("b", kernel=(3, 1), padding=(1, 0)), skip, **neuron(3))
    net.layer("r", 3, Way("c", kernel=None), max_spikes=0, phase=4 * period, decay=1, bias=2, threshold=1)
    return net


@settings(deadline=None, max_examples=60)
@given(random_nets())
def test_random_nets_equal_interpreter(net: Net) -> None:
    assert_equal_to_interp(net, net.data(2))


def test_skip_from_input_and_late_reader() -> None:
    net = Net((1, 1, 3), levels=2, steps=2, period=3)
    net.layer("a", 3, Way(kernel=None), threshold=5, max_spikes=2, phase=3, decay=1)
    net.layer("b", 2, Way("a", kernel=None), threshold=4, max_spikes=2, phase=6, decay=1)
    net.layer(
        "c", 3, Way("b", kernel=None), Way(INPUT, kernel=None, delay=7), threshold=6, max_spikes=2, phase=9
    )
    assert_equal_to_interp(net, net.data(5, 1.0))


def test_narrow_word_saturates_and_is_counted() -> None:
    net = Net((1, 1, 1), levels=3, period=4)
    weight = np.full((1, 1, 1, 1), 100)
    net.layer("a", 1, Way(kernel=(1, 1), weight=weight), threshold=50, max_spikes=3, phase=4, state_bits=8)
    x = np.array([0, 1, 2, 3]).reshape(4, 1, 1, 1, 1)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, x)
    layer = activity.layers[0]
    assert (layer.saturations, layer.out_of_range) == (2, (2, 3))
    assert activity.counts["a"].ravel().tolist() == [0, 2, 2, 2]  # 127 holds two thresholds


def test_wide_accumulator_where_32_bits_may_not_do() -> None:
    net = Net((512, 4, 4), levels=1, period=1030, steps=1)
    net.layer(
        "a",
        1,
        Way(kernel=(4, 4), weight=np.full((1, 512, 4, 4), -127)),
        threshold=3,
        max_spikes=1,
        phase=1030,
    )
    x = np.ones((1, 1, 512, 4, 4), np.int64)
    from snncc_sim import program

    assert not program.build(net.mapped(), net.tensors).wide
    wide = net.mapped().model_copy(update={"micro_steps": 2100})
    assert program.build(wide, net.tensors).wide
    counts = SIMULATOR.execute(wide, net.tensors, x).counts["a"]
    assert counts.item() == 0
