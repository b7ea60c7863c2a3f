"""Spike sparse convolution: addresses against masked dense convolutions, exhaustively on small shapes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch

from snncc.errors import ModelError
from snncc.ir import CentreGate, Const, Conv2d, SiteGate
from snncc.ir.evaluation import evaluate
from snncc.ir.node import Pair
from snncc.ir.sites import Bitmap, carried, masked_patches, offset_of, open_sites, sites_const
from snncc.ir.synapses import window_count
from snncc.mapping.address import SSC, VSC, packed, unpacked

RNG = np.random.default_rng(3)
SIZE = (5, 6)


def geometries() -> Iterator[tuple[Pair, Pair, Pair, Pair, int]]:
    """Kernel, stride, padding, dilation and groups: each combination that a map of SIZE holds.

    Rows and columns differ, so that no test passes with the two exchanged.
    """
    for k, s, p, d in product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
        kernel, stride = (k, k % 5 + 1), (s, s % 3 + 1)
        padding, dilation = (p, (p + 1) % 3), (d, 3 - d)
        if min(sizes(kernel, stride, padding, dilation)) >= 1:
            yield from ((kernel, stride, padding, dilation, groups) for groups in (1, 2, 4))


def sizes(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    rows, columns = (
        window_count(*axis) for axis in zip(SIZE, kernel, stride, padding, dilation, strict=True)
    )
    return rows, columns


def affine(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> VSC:
    return VSC(
        source_shape=(4, *SIZE),
        target_shape=(4, *sizes(kernel, stride, padding, dilation)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def spelled_out(a: VSC, mask: Bitmap, fired: Bitmap) -> Bitmap:
    """Open sites by the definition, one after the other."""
    found = np.zeros(a.target_shape[1:], bool)
    for oy, ox in np.ndindex(*found.shape):
        y = oy * a.stride[0] - a.padding[0] + a.kernel[0] // 2 * a.dilation[0]
        x = ox * a.stride[1] - a.padding[1] + a.kernel[1] // 2 * a.dilation[1]
        inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
        found[oy, ox] = inside and mask[y, x] and fired[y, x]
    return found


ALL = list(geometries())


def test_the_shapes_are_many_and_some_close_sites_at_the_border() -> None:
    assert len(ALL) == 216
    whole = np.ones(SIZE, bool)
    closing = [g for g in ALL if not open_sites(whole, *g[:4]).all()]
    assert 0 < len(closing) < len(ALL)


@pytest.mark.parametrize("by_centre", [False, True])
def test_gated_addresses_are_the_masked_dense_convolution(by_centre: bool) -> None:
    for geometry in ALL:
        a = affine(*geometry)
        weight = RNG.integers(-9, 10, (4, 4 // a.groups, *a.kernel)).astype(np.int8)
        mask = RNG.random(SIZE) < 0.6
        ssc = SSC.under(a, mask, by_centre)
        spikes = RNG.integers(0, 3, (4, *SIZE)) * (RNG.random(SIZE) < 0.5)
        kept = spelled_out(a, mask, spikes.any(axis=0) if by_centre else np.ones(SIZE, bool))
        dense = torch.nn.functional.conv2d(
            torch.from_numpy(spikes[None]).double(), torch.from_numpy(weight).double(), None,
            a.stride, a.padding, a.dilation, a.groups,
        )  # fmt: skip
        want = dense.numpy()[0].astype(np.int64) * kept
        got = ssc.expand(weight.astype(np.int64), spikes) @ spikes.ravel()
        assert np.array_equal(got.reshape(want.shape), want), geometry
        assert not got.reshape(want.shape)[:, ~kept].any()


def test_a_mask_shifted_by_one_is_found() -> None:
    """The comparison above sees it: the planted fault changes sums for most shapes."""
    differ = 0
    for geometry in ALL:
        a = affine(*geometry)
        mask = RNG.random(SIZE) < 0.6
        right, shifted = SSC.under(a, mask), SSC.under(a, np.roll(mask, 1, axis=1))
        differ += not np.array_equal(right.sites, shifted.sites)
        assert np.array_equal(right.sites, spelled_out(a, mask, np.ones(SIZE, bool)))
    assert differ > 0.9 * len(ALL)


@pytest.mark.parametrize("by_centre", [False, True])
def test_a_gate_node_is_the_masked_dense_convolution(by_centre: bool) -> None:
    for geometry in ALL:
        a = affine(*geometry)
        conv = Conv2d(
            name="c", inputs=("x",), weight=Const(RNG.integers(-9, 10, (4, 4 // a.groups, *a.kernel)).astype(np.int8)),
            bias=Const(np.array([70, -90, 80, 1], np.int32)), stride=a.stride, padding=a.padding, dilation=a.dilation,
            groups=a.groups,
        )  # fmt: skip
        mask = RNG.random(SIZE) < 0.6
        sites = sites_const(open_sites(mask, a.kernel, a.stride, a.padding, a.dilation))
        spikes = RNG.integers(0, 3, (3, 4, *SIZE)) * (RNG.random((3, 1, *SIZE)) < 0.5)
        sums = evaluate(conv, [spikes])
        gate = SiteGate(name="g", inputs=("c",), sites=sites)
        if by_centre:
            gate = CentreGate(
                name="g", inputs=("c", "x"), sites=sites, stride=a.stride,
                offset=offset_of(a.kernel, a.padding, a.dilation),
            )  # fmt: skip
        got = evaluate(gate, [sums, spikes][: len(gate.inputs)])
        for n in range(3):
            fired = spikes[n].any(axis=0) if by_centre else np.ones(SIZE, bool)
            assert np.array_equal(got[n], sums[n] * spelled_out(a, mask, fired)), geometry


def test_work_of_a_gated_address_counts_open_sites_alone() -> None:
    for geometry in ALL:
        a = affine(*geometry)
        mask = RNG.random(SIZE) < 0.6
        ssc = SSC.under(a, mask)
        ones = np.ones((4, 4 // a.groups, *a.kernel), np.int64)
        reached = (ssc.expand(ones, np.ones((4, *SIZE))) != 0).sum(axis=0).reshape(4, *SIZE)
        assert np.array_equal(ssc.fan_out(), reached[0]), geometry


def test_pooled_spikes_open_the_centre_of_their_window() -> None:
    a = VSC(source_shape=(1, 5, 6), target_shape=(1, 2, 3), kernel=(3, 3), padding=(1, 1), pool=(2, 2))
    ssc = SSC.under(a, np.ones((2, 3), bool), by_centre=True)
    spikes = np.zeros((1, 5, 6), np.int64)
    spikes[0, 3, 2] = spikes[0, 4, 5] = 1  # the second stands behind the last whole window
    assert ssc.opened(spikes).tolist() == [[False] * 3, [False, True, False]]


def test_the_gate_takes_one_bit_a_site_and_the_affine_part_stays_as_it_is() -> None:
    small, large = (
        SSC.under(
            VSC(source_shape=(8, n, n), target_shape=(8, n, n), kernel=(3, 3), padding=(1, 1)),
            np.ones((n, n), bool),
        )
        for n in (16, 224)
    )
    assert small.bitmap.nbytes == 16 * 16 // 8
    assert large.bitmap.nbytes == 224 * 224 // 8
    assert len(large.affine.model_dump_json()) - len(small.affine.model_dump_json()) == 4  # digits of 224


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (7, 9)])
def test_bitmaps_are_packed_and_unpacked(size: Pair) -> None:
    sites = RNG.random(size) < 0.5
    assert np.array_equal(unpacked(packed(sites), (3, *size)), sites)


# ---- masks --------------------------------------------------------------------------------------------


def test_an_odd_kernel_padded_by_half_takes_every_strideth_site() -> None:
    for k, s in product((1, 3, 5, 7), (1, 2, 3)):
        for mask in (RNG.random((12, 18)) < 0.5, np.ones((12, 18), bool)):
            assert np.array_equal(open_sites(mask, (k, k), (s, s), (k // 2, k // 2)), mask[::s, ::s])


def test_an_even_kernel_closes_sites_without_a_mask() -> None:
    found = open_sites(np.ones((9, 9), bool), (2, 2), (1, 1), (1, 1))
    assert (found.size, int((~found).sum())) == (100, 19)


@pytest.mark.parametrize("patch", [16, 32])
def test_patches_stay_whole_down_to_a_sixteenth(patch: int) -> None:
    mask = masked_patches((64, 96), patch, 0.6, seed=4)
    at = mask
    for _ in range(4):
        at = open_sites(at, (3, 3), (2, 2), (1, 1))
    assert np.array_equal(at, carried(mask, 16))
    assert np.array_equal(at.repeat(16, 0).repeat(16, 1), mask)


def test_covered_patches_are_as_many_as_asked_for_and_the_seed_chooses_them() -> None:
    masks = [masked_patches((64, 64), 16, 0.75, seed) for seed in (0, 0, 1)]
    assert [int(m[::16, ::16].sum()) for m in masks] == [4, 4, 4]
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize(("size", "patch", "ratio", "message"), [
    ((64, 60), 16, 0.5, "[SNNC-M025] mask: the image is no whole number of patches, got [64, 60], limit 16."),
    ((64, 64), 0, 0.5, "[SNNC-M025] mask: the image is no whole number of patches, got [64, 64], limit 0."),
    ((32, 32), 16, 0.9, "[SNNC-M025] mask: at least one patch must be left, got 4 of 4 patches covered, limit 0 to 3."),
])  # fmt: skip
def test_masks_that_cannot_be(size: Pair, patch: int, ratio: float, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        masked_patches(size, patch, ratio, 0)
    assert str(caught.value) == message


def test_small_patches_do_not_reach_a_sixteenth() -> None:
    mask = masked_patches((32, 32), 8, 0.5, seed=1)
    assert carried(mask, 8).shape == (4, 4)
    with pytest.raises(ModelError) as caught:
        carried(mask, 16)
    assert str(caught.value) == (
        "[SNNC-M025] mask: sites at 1/16 of the image are covered in part, got 4 of 4, limit 0. "
        "Try patches of a multiple of 16 pixels."
    )
    with pytest.raises(ModelError) as caught:
        carried(mask, 5)
    assert str(caught.value) == ("[SNNC-M025] mask: is no whole number of strides, got [32, 32], limit 5.")


def test_a_mask_of_another_size() -> None:
    a = affine((3, 3), (1, 1), (1, 1), (1, 1), 1)
    with pytest.raises(ModelError) as caught:
        SSC.under(a, np.ones((6, 5), bool))
    assert str(caught.value) == (
        "[SNNC-M025] mask: has another size than the map that the convolution reads, got [6, 5], limit [5, 6]."
    )
