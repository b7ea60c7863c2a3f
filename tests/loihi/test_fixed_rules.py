"""Each fixed-point rule against values worked out by hand."""

import numpy as np
import pytest

from cells import split
from snncc.errors import CapacityError
from snncc.ir.cell import leaked
from snncc.ir.nodes import Reset
from snncc_loihi.fixed import (
    LIF,
    Conv,
    Dense,
    GradedVec,
    Population,
    SignMode,
    Sparse,
    Streaming,
    message,
    neuron_step,
    next_current,
    next_membrane,
    shifted,
    start,
    stored_weights,
    synaptic_sums,
    wrap,
)
from snncc_loihi.fixed_network import FixedNetwork, Link, beyond_the_chip


def ints(*values):
    return np.array(values, np.int64)


def population(shape, **values):
    cell, rest = split({"decay": 1, **values})
    return Population(shape, cell, **rest)


def streaming(shape, **values):
    cell, rest = split(values)
    return Streaming(shape, cell, **rest)


def sent_by(p, *inputs):
    """What a population of one neuron sends and its membranes after, for inputs of micro-steps 0, 1, ..."""
    state, sent, v = start(p), [], []
    for k, a in enumerate(inputs):
        sent.append(int(neuron_step(p, state, ints(a), k)[0]))
        v.append(int(state.v[0]))
    return sent, v


# ---- arithmetic -------------------------------------------------------------------------------------


def test_wrap_is_twos_complement():
    assert wrap(ints(127, 128, 255, 256, -128, -129), 8).tolist() == [127, -128, -1, 0, -128, 127]


def test_shift_rounds_down():
    assert shifted(ints(3, -3, -1), -1).tolist() == [1, -2, -1]
    assert shifted(ints(3, -3), 2).tolist() == [12, -12]
    assert shifted(ints(5, -5, -5), ints(0, 1, -2)).tolist() == [5, -10, -2]


def test_leak_rounds_toward_zero():
    # 5/2 and -5/2; a floor would give -3.
    assert leaked(ints(5, -5, 1, -1), 2048, 12).tolist() == [2, -2, 0, 0]


@pytest.mark.parametrize(
    ("u", "du", "left"),
    [(4096, 0, 4095), (4096, 4094, 1), (4096, 4095, 0), (-4097, 2047, -2048), (4095, 4094, 0)],
)
def test_current_decays_by_du_plus_one(u, du, left):
    assert next_current(ints(u), ints(0), du).tolist() == [left]


@pytest.mark.parametrize(
    ("a", "u"),
    [
        (131071, 8388544),
        (131072, 8388608),  # +2^23 stays
        (131073, 8388672 - 16777216),
        (-131071, -8388544),
        (-131072, 8388608),  # -2^23 wraps
        (393216, 8388608),
        (393217, 8388672),  # one wrap, no second
        (1 << 25, 16777216 - (1 << 31)),  # Lava's int32 has wrapped before
    ],
)
def test_current_wraps_once(a, u):
    assert next_current(ints(0), ints(a), 4095).tolist() == [u]


def test_current_wraps_the_sum_with_what_was_left():
    assert next_current(ints(8388608), ints(2), 0).tolist() == [8388608 - 2048 + 128]
    assert next_current(ints(8388608), ints(33), 0).tolist() == [8388608 - 2048 + 2112 - 16777216]


@pytest.mark.parametrize(
    ("v", "u", "bias", "dv", "after"),
    [
        (8388607, 64, 0, 0, 8388607),
        (-8388607, -64, 0, 0, -8388607),
        (-8388607, -1, 2, 0, -8388606),
        (-5, 0, 0, 2048, -2),
        (4095, 0, 7, 4095, 7),
        (4096, 0, 7, 4095, 8),
        (123456, 3, 0, 4096, 3),
        (100, 3, 0, 0, 103),
    ],
)
def test_membrane_leaks_by_dv_and_saturates(v, u, bias, dv, after):
    assert next_membrane(ints(v), ints(u), ints(bias), dv).tolist() == [after]


# ---- weights ----------------------------------------------------------------------------------------


def test_mixed_weights_lose_their_lowest_bit_downward():
    weights = ints(-3, -1, 5, 255, 256, -256, -257)
    assert stored_weights(weights).tolist() == [-4, -2, 4, 254, 254, -256, -256]


def test_weights_of_one_sign_keep_every_bit():
    assert stored_weights(ints(0, 3, 255, 256)).tolist() == [0, 3, 255, 255]
    assert stored_weights(ints(0, -3, -255, -256)).tolist() == [0, -3, -255, -255]


def test_dropped_bits():
    assert stored_weights(ints(15, 16, 31), num_weight_bits=4).tolist() == [0, 16, 16]
    assert stored_weights(ints(-15, -16, -31), num_weight_bits=4).tolist() == [0, -16, -16]
    assert stored_weights(ints(-1, 31, 32, -33), num_weight_bits=4).tolist() == [-32, 0, 32, -64]


def test_a_given_sign_mode_clips_the_other_sign():
    assert stored_weights(ints(-7, 7), SignMode.EXCITATORY).tolist() == [0, 7]
    assert stored_weights(ints(-7, 7), SignMode.INHIBITORY).tolist() == [-7, 0]
    assert stored_weights(ints(3, 7), SignMode.MIXED).tolist() == [2, 6]


def test_message_bits():
    assert message(ints(-3, 0, 7), 0).tolist() == [1, 0, 1]
    assert message(ints(-3, 0, 7), 1).tolist() == [-3, 0, 7]


# ---- sums -------------------------------------------------------------------------------------------


def test_exponent_shifts_the_sum():
    ones = np.array([[1, 1], [1, 0]])
    assert synaptic_sums(Dense(ones, weight_exp=-1), ints(1, 1)).tolist() == [[1, 0]]
    assert synaptic_sums(Dense(-ones, weight_exp=-1), ints(1, 1)).tolist() == [[-1, -1]]
    assert synaptic_sums(Dense(3 * ones, weight_exp=2), ints(0, 1)).tolist() == [[12, 0]]


def test_exponent_shifts_the_sum_of_each_delay():
    p = Dense(np.array([[1, 1, 1]]), delays=np.array([[0, 2, 2]]), weight_exp=-1)
    assert synaptic_sums(p, ints(1, 1, 1)).tolist() == [[0], [0], [1]]


def test_payload_multiplies():
    weights = np.array([[4, -6]])
    assert synaptic_sums(Dense(weights, num_message_bits=8), ints(5, 2)).tolist() == [[8]]
    assert synaptic_sums(Dense(weights), ints(5, 2)).tolist() == [[-2]]


def test_sparse_is_dense():
    weights = np.array([[0, -3, 5], [7, 0, 0]])
    post, pre = np.nonzero(weights)
    options = {"weight_exp": -1, "num_message_bits": 8}
    sparse = Sparse((2, 3), post, pre, weights[post, pre], **options)
    x = ints(3, 1, 2)
    assert (
        synaptic_sums(sparse, x).tolist() == synaptic_sums(Dense(weights, **options), x).tolist() == [[2, 9]]
    )


def test_dense_reads_maps_in_order_of_channel_y_x():
    assert synaptic_sums(Dense(np.arange(6)[None]), np.eye(3, 2, dtype=int)[None]).tolist() == [[0 + 3]]


def test_conv_correlates_and_keeps_odd_weights():
    x = np.array([[[1, 0, 0], [0, 0, 2]]])
    w = np.array([[[[-3, 5]]]])
    binary, payload = Conv(w, padding=(0, 1)), Conv(w, padding=(0, 1), num_message_bits=8)
    assert synaptic_sums(binary, x).tolist() == [[[[5, -3, 0, 0], [0, 0, 5, -3]]]]
    assert synaptic_sums(payload, x).tolist() == [[[[5, -3, 0, 0], [0, 0, 10, -6]]]]


def test_conv_groups_and_stride():
    x = np.arange(1, 13).reshape(2, 2, 3)
    w = np.array([3, -7]).reshape(2, 1, 1, 1)
    p = Conv(w, stride=(1, 2), groups=2, num_message_bits=8)
    assert synaptic_sums(p, x).tolist() == [[[[3, 9], [12, 18]], [[-49, -63], [-70, -84]]]]


def test_conv_wraps_at_24_bits():
    w = np.full((1, 2, 1, 1), 1 << 22)
    x = np.ones((2, 1, 1), int)
    assert synaptic_sums(Conv(w), x).item() == -(1 << 23)
    assert synaptic_sums(Conv(w, sum_bits=32), x).item() == 1 << 23


def test_sums_beyond_lavas_word_are_refused():
    with pytest.raises(CapacityError) as caught:
        synaptic_sums(Dense(np.array([[2]]), num_message_bits=8), ints(1 << 30))
    assert str(caught.value) == (
        "[SNNC-C009] synapses: a sum leaves the word of Lava's models, got 2147483648, limit 2147483647."
    )


# ---- neurons ----------------------------------------------------------------------------------------


def test_lif_fires_over_its_threshold_only():
    assert sent_by(LIF((1,), vth=10), 10, 0, 1, 11) == ([0, 0, 1, 1], [640, 640, 0, 0])


def test_lif_bias_exponents():
    p = LIF((3,), vth=100, bias_mant=ints(3, -3, 3), bias_exp=ints(6, -1, -1))
    state = start(p)
    neuron_step(p, state, ints(0, 0, 0), 0)
    assert state.v.tolist() == [192, -2, 1]


def test_lif_keeps_its_current_through_a_spike():
    assert sent_by(LIF((1,), vth=1, du=2047), 4, 0, 0) == ([1, 1, 0], [0, 0, 64])


def test_lif_reset_counts_time_steps_from_one():
    p = LIF((1,), vth=1000, bias_mant=1, bias_exp=6, v_init=500, reset_interval=3, reset_offset=5)
    assert sent_by(p, 0, 0, 0, 0, 0)[1] == [564, 64, 128, 192, 64]


def test_lif_reset_clears_the_current_before_the_input():
    p = LIF((1,), vth=1000, du=0, dv=4096, reset_interval=2)
    assert sent_by(p, 64, 64)[1] == [4096, 4096]


def test_lif_outside_its_micro_steps():
    p = LIF((1,), vth=1000, bias_mant=1, bias_exp=6, v_init=7, begin=1, end=3)
    assert sent_by(p, 9, 1, 0, 9)[1] == [7, 135, 199, 199]


def test_graded_vectors():
    a = ints(-5, -4, 4, 5)
    for relu, sent in ((False, [-5, 0, 0, 5]), (True, [0, 0, 0, 5])):
        p = GradedVec((4,), vth=4, relu=relu)
        assert neuron_step(p, start(p), a, 0).tolist() == sent


def test_soft_reset_keeps_the_rest():
    assert sent_by(population((1,), threshold=10, steps=5), 25, 0, 0, 5, 9) == (
        [1, 1, 0, 1, 0],
        [15, 5, 5, 0, 9],
    )


def test_soft_reset_leaks_toward_zero_and_fires_at_its_threshold():
    p = population((1,), threshold=10, steps=4, decay=2048, decay_bits=12, v_init=-5)
    assert sent_by(p, 12, 0, 10, 10) == ([1, 0, 1, 1], [0, 0, 0, 0])


def test_window_collects_then_fires():
    # 26 + 5 = 31 at its start: three spikes and no more; what arrives meanwhile counts in the next.
    p = population((1,), threshold=10, max_spikes=3, micro_steps=4, steps=2, first=2, precharge=5)
    sent, v = sent_by(p, 20, 5, 1, 7, 7, 0, 0, 0, 0, 0)
    assert sent == [0, 0, 1, 1, 1, 0, 1, 0, 0, 0]
    assert v == [0, 0, 21, 11, 1, -4, 5, 5, 5, 0]


def test_graded_window_sends_its_count_at_once():
    p = population((1,), threshold=10, max_spikes=3, micro_steps=2, steps=3, graded=True)
    assert sent_by(p, 29, 0, -40, 0, 99, 0) == ([2, 0, 0, 0, 3, 0], [9, 9, -31, -31, 38, 38])


def test_hard_reset_and_lower_clamp_at_the_windows_end():
    p = population(
        (1,), threshold=10, max_spikes=2, micro_steps=3, steps=2, reset=Reset.VALUE, reset_to=4, v_min=-6
    )
    assert sent_by(p, 15, 0, 0, -30, 0, 0) == ([1, 0, 0, 0, 0, 0], [5, 5, 4, -26, -26, -6])


def test_population_before_its_first_window():
    p = population((1,), threshold=10, steps=1, first=3, begin=1, bias=4, precharge=-1, v_init=20)
    assert sent_by(p, 0, 0, 0, 0, 0) == ([0, 0, 0, 1, 0], [20, 24, 28, 22, 22])


def test_synaptic_current_of_a_population():
    p = population((1,), threshold=1000, steps=3, gain=2, synapse_decay=2048, synapse_bits=12)
    assert sent_by(p, -5, 0, 0)[1] == [-10, -15, -17]


def test_readout_sends_its_membrane_once_a_timestep():
    p = population((1,), threshold=1, max_spikes=0, micro_steps=2, steps=2, bias=1)
    assert sent_by(p, 3, 4, 5, 6) == ([4, 0, 14, 0], [4, 4, 14, 14])


def test_population_saturates_at_its_word():
    p = population((1,), threshold=500, steps=3, state_bits=8)
    assert sent_by(p, 200, -500, 1)[1] == [127, -128, -127]


def test_streaming_fires_while_it_integrates():
    p = streaming((1,), threshold=10, max_spikes=2, end=5, first=1, bias=3, precharge=5)
    assert sent_by(p, 4, 0, 20, 30, 0, 90) == ([0, 1, 1, 0, 0, 0], [0, 2, 12, 42, 42, 42])


def test_streaming_without_a_cap():
    p = streaming((1,), threshold=10, max_spikes=2, end=5, capped=False)
    assert sent_by(p, 40, 0, 0, 0, 0)[0] == [1, 1, 1, 1, 0]


# ---- networks ---------------------------------------------------------------------------------------


def arrival(*links):
    """Membranes of an integrator behind ``links``, for one event at micro-step 1."""
    net = FixedNetwork({"in": (1,)}, {"n": LIF((1,), vth=99)}, links)
    return (net.run({"in": ints(0, 1, 0, 0, 0, 0)[:, None]})["n"].v[:, 0] // 64).tolist()


ONE = Dense(np.array([[1]]))


def test_synapses_deliver_one_step_later():
    assert arrival(Link("in", "n", ONE)) == [0, 0, 1, 1, 1, 1]
    assert arrival(Link("in", "n", None)) == [0, 1, 1, 1, 1, 1]


def test_delays_come_on_top():
    assert arrival(Link("in", "n", Dense(np.array([[1]]), delays=np.array([[2]])))) == [0, 0, 0, 0, 1, 1]
    assert arrival(Link("in", "n", ONE, wait=1)) == [0, 0, 0, 1, 1, 1]


def test_links_to_a_population_add_up():
    assert arrival(Link("in", "n", ONE), Link("in", "n", None), Link("in", "n", ONE, wait=2)) == [
        0,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_loop_closes_over_the_buffer():
    net = FixedNetwork({"in": (1,)}, {"n": LIF((1,), vth=0)}, (Link("in", "n", None), Link("n", "n", ONE)))
    assert net.run({"in": ints(0, 1, 0, 0)[:, None]})["n"].spikes[:, 0].tolist() == [0, 1, 1, 1]


# ---- widths -----------------------------------------------------------------------------------------


def test_what_fits_the_chip():
    lif = LIF((2,), vth=131071, du=4095, dv=4096, bias_mant=ints(-4096, 4095), bias_exp=7)
    assert beyond_the_chip(lif, "n") == []
    assert beyond_the_chip(Dense(np.array([[-256, 255]]), np.array([[0, 63]])), "n") == []


def test_what_does_not():
    lif = LIF((2,), vth=131072, du=4096, dv=-1, bias_mant=ints(-4097, 0), bias_exp=-1)
    assert [str(p) for p in beyond_the_chip(lif, "%fc")] == [
        "%fc: threshold mantissa out of range, got 131072, limit 0..131071.",
        "%fc: current decay du out of range, got 4096, limit 0..4095.",
        "%fc: membrane decay dv out of range, got -1, limit 0..4096.",
        "%fc: bias mantissa out of range, got -4097..0, limit -4096..4095.",
        "%fc: bias exponent out of range, got -1, limit 0..7.",
    ]
    dense = Dense(np.array([[-257, 3]]), np.array([[0, 64]]), weight_exp=8, num_weight_bits=9)
    assert [str(p) for p in beyond_the_chip(dense, "%fc")] == [
        "%fc: weight out of range, got -257..3, limit -256..255.",
        "%fc: weight exponent out of range, got 8, limit -8..7.",
        "%fc: weight bits out of range, got 9, limit 1..8.",
        "%fc: delay out of range, got 0..64, limit 0..63.",
    ]
