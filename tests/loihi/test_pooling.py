"""Sum pooling absorbed into weights: the same synapses, spike by spike, or a refusal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way
from snncc.errors import ModelError
from snncc_loihi.pooling import without_pooling


def network(shape: tuple[int, int, int], way: Way) -> Net:
    net = Net(shape)
    net.layer("a", 4, way, threshold=20, max_spikes=3)
    return net


def assert_same_synapses(net: Net) -> None:
    """Dense matrices [targets, sources], before with pooling and after without."""
    before = net.mapped()
    after, tensors = without_pooling(before, net.tensors)
    for old, new in zip(before.pieces, after.pieces, strict=True):
        for a, b in zip(old.connections, new.connections, strict=True):
            assert b.address.pool == (1, 1)
            assert (a.source, a.delay) == (b.source, b.delay)
            want = a.address.expand(net.tensors[a.weight].astype(np.int64))
            np.testing.assert_array_equal(b.address.expand(tensors[b.weight].astype(np.int64)), want)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_absorbed_weights_reach_what_pooled_spikes_reached(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    pool, size = pair(1, 3), pair(1, 4)
    way = Way(
        kernel=pair(1, 3),
        stride=pair(1, 2),
        padding=pair(0, 2),
        dilation=pair(1, 2),
        groups=data.draw(st.sampled_from([1, 2])),
        pool=pool,
    )
    net = Net((2, size[0] * pool[0], size[1] * pool[1]))
    if min(net.output_size(way)) < 1:
        return
    net.layer("a", 4, way, threshold=20, max_spikes=3)
    assert_same_synapses(net)


@pytest.mark.parametrize("shape", [(3, 7, 6), (3, 6, 7), (3, 7, 7), (3, 6, 6)])
def test_a_linear_layer_does_not_hear_the_rest_of_a_map(shape: tuple[int, int, int]) -> None:
    """Rows and columns that no pooling window covers keep their places, and weigh nothing."""
    net = network(shape, Way(kernel=None, pool=(3, 2)))
    assert_same_synapses(net)
    after, tensors = without_pooling(net.mapped(), net.tensors)
    connection = after.pieces[0].connections[0]
    assert connection.address.kernel == shape[1:]
    weight = tensors[connection.weight]
    assert not weight[:, :, 6:].any()
    assert not weight[:, :, :, 6:].any()


def test_a_convolution_that_stops_before_the_rest_is_absorbed() -> None:
    assert_same_synapses(network((2, 7, 9), Way(kernel=(2, 2), pool=(2, 4))))


@pytest.mark.parametrize(
    ("shape", "padding"), [((2, 7, 8), (1, 0)), ((2, 8, 7), (0, 1)), ((2, 5, 5), (1, 1))]
)
def test_padding_beside_the_rest_of_a_map_is_refused(
    shape: tuple[int, int, int], padding: tuple[int, int]
) -> None:
    """What a pooled map pads with zeros are rows of events in the map itself."""
    net = network(shape, Way(kernel=(3, 3), padding=padding, pool=(2, 2)))
    with pytest.raises(ModelError) as error:
        without_pooling(net.mapped(), net.tensors)
    assert str(error.value) == (
        "[SNNC-M022] %a: pooling leaves a rest of the map where the convolution pads, got map "
        f"{shape[1:]}. Try maps that (2, 2) divides."
    )


def test_padding_at_the_side_without_a_rest_is_none_of_its_business() -> None:
    assert_same_synapses(network((2, 7, 8), Way(kernel=(2, 3), padding=(0, 1), pool=(2, 2))))


def test_a_dilated_kernel_keeps_its_gaps() -> None:
    """Kernel 2 with dilation 2 over maps pooled by 2: two weights, two gaps of two, two weights."""
    net = network((1, 8, 2), Way(kernel=(2, 1), dilation=(2, 1), pool=(2, 2)))
    after, tensors = without_pooling(net.mapped(), net.tensors)
    connection = after.pieces[0].connections[0]
    assert (connection.address.kernel, connection.address.dilation) == ((6, 2), (1, 1))
    column = (tensors[connection.weight][0, 0, :, 0] != 0).tolist()
    assert column == [True, True, False, False, True, True]


def test_weights_that_nobody_reads_any_more_are_dropped_and_others_stay() -> None:
    net = Net((2, 4, 4))
    net.layer("a", 2, Way(kernel=(1, 1)), threshold=20, max_spikes=3)
    net.layer("b", 2, Way("a", kernel=(2, 2), pool=(2, 2)), threshold=20, max_spikes=3, bias=np.arange(2))
    plain, pooled = (p.connections[0].weight for p in net.pieces)
    extra = {**net.tensors, "order": np.arange(3)}
    after, tensors = without_pooling(net.mapped(), extra)
    absorbed = after.pieces[1].connections[0].weight
    assert set(tensors) == (set(extra) - {pooled}) | {absorbed}
    assert after.pieces[0] == net.mapped().pieces[0]
    for channel, (y, x) in product(range(2), product(range(4), repeat=2)):
        expected = extra[pooled][:, channel, y // 2, x // 2]
        np.testing.assert_array_equal(tensors[absorbed][:, channel, y, x], expected)
    assert plain in tensors
