"""VSC against a dense convolution that is written independently, by enumeration of small shapes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way
from snncc.ir.schedule import Engine
from snncc.mapping.address import VSC
from snncc_sim import SIMULATOR


def dense_convolution(x: Any, weight: Any, a: VSC) -> Any:
    """Sum pooling, then grouped cross-correlation, straight from the definition."""
    ph, pw = a.pool
    c, h, w = a.pooled_shape
    pooled = np.zeros((c, h, w), np.int64)
    for y, x_ in itertools.product(range(h * ph), range(w * pw)):
        pooled[:, y // ph, x_ // pw] += x[:, y, x_]
    out = np.zeros(a.target_shape, np.int64)
    o_all, inner, kh, kw = weight.shape
    for o, oy, ox in itertools.product(*map(range, a.target_shape)):
        group = o // (o_all // a.groups)
        for i, ky, kx in itertools.product(range(inner), range(kh), range(kw)):
            y = oy * a.stride[0] - a.padding[0] + ky * a.dilation[0]
            x_ = ox * a.stride[1] - a.padding[1] + kx * a.dilation[1]
            if 0 <= y < h and 0 <= x_ < w:
                out[o, oy, ox] += weight[o, i, ky, kx] * pooled[group * inner + i, y, x_]
    return out


def check(a: VSC, rng: np.random.Generator) -> None:
    weight = rng.integers(-9, 10, (a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel))
    x = rng.integers(0, 4, a.source_shape)
    dense = a.expand(weight)
    expected = dense_convolution(x, weight, a)
    np.testing.assert_array_equal(dense @ x.ravel(), expected.ravel())
    reached = a.expand(np.ones_like(weight)) != 0
    np.testing.assert_array_equal(
        reached.sum(axis=0).reshape(a.source_shape), np.broadcast_to(a.fan_out(), a.source_shape)
    )


def sizes(shape: tuple[int, int], pool: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    return tuple(
        (n // m + 2 * p - d * (k - 1) - 1) // s + 1
        for n, m, k, s, p, d in zip(shape, pool, kernel, stride, padding, dilation, strict=True)
    )


def test_every_geometry_of_one_axis() -> None:
    """All kernels, strides, paddings, dilations and pools along one axis of a narrow map."""
    rng = np.random.default_rng(0)
    ranges = (range(1, 7), range(1, 4), range(1, 4), range(3), range(1, 3), range(1, 4))
    checked = 0
    for n, k, s, p, d, m in itertools.product(*ranges):
        for axis in (0, 1):
            shape = (n, 1) if axis == 0 else (1, n)

            def pair(value: int, other: int, axis: int = axis) -> tuple[int, int]:
                return (value, other) if axis == 0 else (other, value)

            geometry = {"pool": pair(m, 1), "kernel": pair(k, 1), "stride": pair(s, 1)}
            geometry |= {"padding": pair(p, 0), "dilation": pair(d, 1)}
            out = sizes(shape, **geometry)
            if min(out) < 1 or n < m:
                continue
            check(VSC(source_shape=(1, *shape), target_shape=(1, *out), **geometry), rng)
            checked += 1
    assert checked > 700


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_random_geometry_of_two_axes(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    shape, pool = pair(3, 7), pair(1, 2)
    geometry: dict[str, Any] = {"pool": pool, "kernel": pair(1, 3), "stride": pair(1, 3)}
    geometry |= {"padding": pair(0, 2), "dilation": pair(1, 2)}
    out = sizes(shape, **geometry)
    groups = data.draw(st.sampled_from([1, 2, 4]))
    if min(out) < 1:
        return
    address = VSC(source_shape=(4, *shape), target_shape=(8, *out), groups=groups, **geometry)
    check(address, np.random.default_rng(0))


@pytest.mark.parametrize("engine", [Engine.CLOCKED, Engine.EVENT])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_wider_than_their_stride(engine: Engine, stride: int, groups: int) -> None:
    """Several outputs along a row: contiguous weights at stride 1 without groups, and only there."""
    net = Net((2, 6, 9), engine=engine)
    way = Way(kernel=(4, 5), stride=(stride, stride), padding=(1, 2), groups=groups)
    net.layer("r", 4, way, max_spikes=0, phase=4)
    x = net.data(1)
    c = net.pieces[0].connections[0]
    got = SIMULATOR.execute(net.mapped(), net.tensors, x).counts["r"][0, 0]
    np.testing.assert_array_equal(got, dense_convolution(x[0, 0], net.tensors[c.weight], c.address))


@pytest.mark.parametrize("engine", [Engine.CLOCKED, Engine.EVENT])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_kernels_deliver_the_dense_convolution(engine: Engine, data: st.DataObject) -> None:
    """A readout's membrane is the convolution of its input counts."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    net = Net((4, *pair(3, 7)), engine=engine, seed=data.draw(st.integers(0, 99)), weight_range=(-128, 128))
    way = Way(
        kernel=pair(1, 3),
        stride=pair(1, 3),
        padding=pair(0, 2),
        dilation=pair(1, 2),
        pool=pair(1, 2),
        groups=data.draw(st.sampled_from([1, 2, 4])),
    )
    if min(net.output_size(way)) < 1:
        return
    net.layer("r", data.draw(st.sampled_from([4, 8, 12])), way, max_spikes=0, phase=4)
    x = net.data(2)
    activity = SIMULATOR.execute(net.mapped(), net.tensors, x)
    c = net.pieces[0].connections[0]
    for got, row in zip(activity.counts["r"][:, 0], x[:, 0], strict=True):
        np.testing.assert_array_equal(got, dense_convolution(row, net.tensors[c.weight], c.address))
