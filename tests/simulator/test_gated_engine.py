"""The gated engine computes clip-free integers, and reports every excursion from its schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way, conv_chain, gate_pieces, recolour
from snncc.errors import CapacityError, InternalError
from snncc.ir.const import each_channel
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import INPUT, Mapped
from snncc_sim import SIMULATOR

BOUND = 6000


def integers(mapped: Mapped, tensors: dict[str, Any], x: Any) -> dict[str, Any]:
    """Counts [N, C, H, W] of every piece as the integer network computes them, unrolled."""
    values = {INPUT: x[:, 0].reshape(len(x), -1)}
    for piece in mapped.pieces:
        total = np.zeros((len(x), int(np.prod(piece.shape))), np.int64)
        for c in piece.connections:
            total += values[c.source] @ c.address.expand(tensors[c.weight].astype(np.int64)).T
        total = total.reshape(len(x), *piece.shape)
        for start in (piece.cell.bias, piece.cell.v_init, piece.cell.precharge):
            total = total + each_channel(start, piece.shape[0]).reshape(-1, 1, 1)
        theta = each_channel(piece.cell.threshold, piece.shape[0]).reshape(-1, 1, 1)
        count = total if piece.is_readout else np.maximum(total, 0) // theta
        values[piece.name] = count.reshape(len(x), -1)
    return {p.name: values[p.name].reshape(len(x), *p.shape) for p in mapped.pieces}


def gated_chain(seed: int = 0, bound: int = BOUND) -> tuple[Net, Mapped]:
    net = Net((2, 7, 6), seed=seed, engine=Engine.EVENT)
    bias = np.array([3, -9, 40, 0], np.int32)
    net.layer("a", 4, Way(padding=(1, 0)), threshold=23, max_spikes=3, precharge=11, bias=bias, capped=False)
    net.layer(
        "b", 5, Way("a", kernel=(2, 3), pool=(2, 1)), threshold=17, max_spikes=3, v_init=7, capped=False
    )
    net.layer(
        "c",
        6,
        Way("b", kernel=(3, 3), stride=(1, 2), padding=(1, 1)),
        threshold=19,
        max_spikes=3,
        capped=False,
    )
    net.layer("r", 3, Way("c", kernel=None), threshold=1, max_spikes=0)
    return net, gate_pieces(net.mapped(), -bound, bound)


def test_chain_equals_integers_in_any_order() -> None:
    net, mapped = gated_chain()
    x = net.data(8)
    expected = integers(mapped, net.tensors, x)
    for shuffle in (None, 1, 2):
        activity = SIMULATOR.execute(mapped, net.tensors, x, shuffle=shuffle)
        for name, counts in activity.counts.items():
            np.testing.assert_array_equal(counts[:, 0], expected[name], err_msg=name)
        for layer in activity.layers:
            assert (layer.early, layer.saturations, layer.out_of_range) == (0, 0, ())
    assert all(layer.spikes > 0 for layer in activity.layers[:-1])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(-40, 40), st.sampled_from([1, 2, 4]))
def test_random_merges_equal_integers(seed: int, threshold: int, v_init: int, groups: int) -> None:
    net = Net((2, 5, 4), seed=seed, engine=Engine.EVENT, weight_range=(-128, 128))
    kind = {"v_init": v_init, "max_spikes": 1, "capped": False}
    of_channels = np.array([400, 127, 900, 400], np.int32) + threshold
    net.layer("a", 4, Way(padding=(1, 1)), **kind, threshold=of_channels)
    skip = Way("a", kernel=(3, 3), padding=(1, 1))
    net.layer("b", 4, Way("a", padding=(1, 1), groups=groups), skip, **kind, threshold=700)
    net.layer("r", 2, Way("b", kernel=None), Way("a", kernel=None), max_spikes=0)
    mapped = gate_pieces(net.mapped(), -60000, 60000)
    x = net.data(2)
    expected = integers(mapped, net.tensors, x)
    activity = SIMULATOR.execute(mapped, net.tensors, x)
    for name, counts in activity.counts.items():
        np.testing.assert_array_equal(counts[:, 0], expected[name], err_msg=name)
    assert all(not layer.out_of_range for layer in activity.layers)


def single(
    low: int, high: int, weights: list[int], state_bits: int = 16, threshold: int = 50, **piece: Any
) -> tuple[Net, Mapped]:
    """One neuron that reads a row of inputs, one weight each; its gate is made for low..high."""
    net = Net((1, 1, len(weights)), levels=9, engine=Engine.EVENT)
    weight = np.array(weights).reshape(1, 1, 1, -1)
    net.layer(
        "a",
        1,
        Way(kernel=(1, len(weights)), weight=weight),
        threshold=threshold,
        max_spikes=3,
        capped=False,
        state_bits=state_bits,
        **piece,
    )
    return net, gate_pieces(net.mapped(), low, high)


def play(net: Net, mapped: Mapped, *rows: list[int]) -> Any:
    x = np.array(rows).reshape(len(rows), 1, 1, 1, -1)
    return SIMULATOR.execute(mapped, net.tensors, x)


def test_planted_excursions_are_found() -> None:
    net, mapped = single(-200, 199, [100, -100])  # lift 200: fires early from a sum of 250
    rows = [[2, 0], [1, 0], [0, 2], [2, 2], [3, 0], [3, 3], [0, 3]]
    layer = play(net, mapped, *rows).layers[0]
    # [2,0] reaches 200 > 199; [3,3] is played +-+-+- and fires nowhere, but another order would.
    assert layer.out_of_range == (0, 3, 4, 5, 6)
    assert layer.early == 1
    inside = play(net, mapped, [1, 0], [0, 2], [1, 2])
    assert inside.layers[0].out_of_range == ()
    assert inside.counts["a"].ravel().tolist() == [2, 0, 0]


def test_exact_bounds_are_inside() -> None:
    net, mapped = single(-100, 100, [100, -100])
    assert play(net, mapped, [1, 1]).layers[0].out_of_range == ()
    net, mapped = single(-99, 100, [100, -100])
    assert play(net, mapped, [1, 1]).layers[0].out_of_range == (0,)
    net, mapped = single(-100, 99, [100, -100])
    assert play(net, mapped, [1, 1]).layers[0].out_of_range == (0,)


def test_saturation_and_floor_are_excursions() -> None:
    net, mapped = single(-10_000, 10_000, [-128], state_bits=12)
    with pytest.raises(CapacityError, match="SNNC-C009"):
        play(net, mapped, [1])
    net, mapped = single(-10_000, 1000, [-128], state_bits=12)
    layer = play(net, mapped, [9], [7]).layers[0]  # starts at -1050, the word ends at -2048
    assert (layer.saturations, layer.out_of_range) == (2, (0,))
    net, mapped = single(-1000, 99, [-100], v_min=-250)  # starts at -100, of which the lift is 100
    layer = play(net, mapped, [1], [2]).layers[0]
    assert (layer.saturations, layer.out_of_range) == (1, (1,))


def test_zero_taps_fire_a_neuron_left_at_threshold() -> None:
    """After an excursion the zeros that a control event looks up are updates too."""
    net = Net((1, 1, 2), levels=3, engine=Engine.EVENT)
    weight = np.array([0, 120, 0]).reshape(1, 1, 1, 3)
    net.layer(
        "a", 1, Way(kernel=(1, 3), padding=(0, 1), weight=weight), threshold=10, max_spikes=1, capped=False
    )
    mapped = gate_pieces(net.mapped(), 0, 0)  # lift 10 in one round
    piece = mapped.pieces[0]
    assert piece.gate is not None
    mapped = mapped.model_copy(
        update={"pieces": (recolour(piece, gate=piece.gate.model_copy(update={"tap": (0, 1)})),)}
    )
    # Neuron 0: -10 + 120 fires (100 left); control (0,0): 110 fires, 100; zero of (0,1) fires, 90.
    # Neuron 1: -10; zero of control (0,0); control (0,1): 0.
    activity = SIMULATOR.execute(mapped, net.tensors, np.array([1, 0]).reshape(1, 1, 1, 1, 2))
    assert activity.counts["a"].ravel().tolist() == [3, 0]
    assert activity.layers[0].early == 1
    assert (activity.layers[0].control_events, activity.layers[0].control_operations) == (2, 4)


def test_control_operations_are_the_fan_out_of_their_sites() -> None:
    net, mapped = gated_chain()
    activity = SIMULATOR.execute(mapped, net.tensors, net.data(2))
    for piece, layer in zip(mapped.pieces, activity.layers, strict=True):
        if piece.gate is None:
            assert (layer.control_events, layer.control_operations) == (0, 0)
            continue
        a, (c, h, w) = piece.connections[0].address, piece.shape
        fan_out = a.model_copy(update={"source_shape": a.pooled_shape, "pool": (1, 1)}).fan_out()
        sites = [
            fan_out[
                oy * a.stride[0] + piece.gate.tap[0] * a.dilation[0] - a.padding[0],
                ox * a.stride[1] + piece.gate.tap[1] * a.dilation[1] - a.padding[1],
            ]
            for oy in range(h)
            for ox in range(w)
        ]
        assert layer.control_events == 2 * piece.gate.rounds * h * w
        assert layer.control_operations == 2 * piece.gate.rounds * int(sum(sites))
        assert c == a.outputs_per_tap


def test_gate_is_required_and_must_reach() -> None:
    net, mapped = gated_chain()
    bare = mapped.model_copy(update={"pieces": tuple(recolour(p, gate=None) for p in mapped.pieces)})
    with pytest.raises(InternalError, match="SNNC-X001"):
        SIMULATOR.execute(bare, net.tensors, net.data(1))
    piece = mapped.pieces[0]
    assert piece.gate is not None
    gate = piece.gate.model_copy(update={"tap": (0, 0)})  # padding 1: row -1 of the input
    wrong = mapped.model_copy(update={"pieces": (recolour(piece, gate=gate), *mapped.pieces[1:])})
    with pytest.raises(CapacityError, match="SNNC-C011"):
        SIMULATOR.execute(wrong, net.tensors, net.data(1))


def test_chain_helper_runs_under_gates_too() -> None:
    net = conv_chain(Engine.EVENT)
    mapped = gate_pieces(net.mapped(), -BOUND, BOUND)
    pieces = tuple(recolour(p, capped=False) for p in mapped.pieces)
    mapped = mapped.model_copy(update={"pieces": pieces})
    x = net.data(3)
    counts = SIMULATOR.execute(mapped, net.tensors, x).counts
    expected = integers(mapped, net.tensors, x)
    np.testing.assert_array_equal(counts["r"][:, 0], expected["r"])
