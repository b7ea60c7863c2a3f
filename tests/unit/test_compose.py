"""Two linear maps in a row as one: whole numbers, so that every sum is exact and equality is of bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snncc.ir import BatchNorm, Const, Conv2d, Linear, Node, Pad, Scale
from snncc.ir.evaluation import evaluate
from snncc.ir.types import Current
from snncc.passes.compose import Refused, as_node, compose, kernel_of, merged, padded


def const(rng: np.random.Generator, *shape: int) -> Const:
    return Const(rng.integers(-3, 4, shape).astype(np.float32))


@st.composite
def convs(draw: st.DrawFn, name: str, reads: str, channels: int, largest: int = 3) -> Conv2d:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 6) if channels % g == 0]))
    out = groups * draw(st.integers(1, 2))
    kernel = draw(st.sampled_from([(1, 1), pair(1, largest)]))
    bias = const(rng, out) if draw(st.booleans()) else None
    return Conv2d(
        name=name,
        inputs=(reads,),
        weight=const(rng, out, channels // groups, *kernel),
        bias=bias,
        stride=pair(1, 2),
        padding=draw(st.sampled_from([(0, 0), pair(0, 2)])),
        dilation=pair(1, 2),
        groups=groups,
    )


def applied(node: Node, x: np.ndarray) -> np.ndarray:
    return evaluate(node, [x])


def fits(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return node.infer((Current(shape),)).shape
    except Exception:
        assume(False)
        raise


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from([2, 3, 4, 6]), st.integers(3, 9), st.integers(3, 9))
def test_two_convolutions_are_one_or_say_why_not(data: st.DataObject, c: int, h: int, w: int) -> None:
    first = data.draw(convs("a", "x", c))
    middle = fits(first, (c, h, w))
    second = data.draw(convs("b", "a", middle[0]))
    fits(second, middle)
    x = np.random.default_rng(c * h * w).integers(-4, 5, (2, c, h, w)).astype(np.float32)
    expected = applied(second, applied(first, x))
    one = merged(first, second, (c, h, w))
    if isinstance(one, Refused):
        assert any(second.padding)
        assert (
            first.bias is not None
            or one.reason == "the second pads zeros where the first would still see its map"
        )
        return
    assert np.array_equal(applied(one, x), expected)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([2, 3, 4]), st.integers(3, 7))
def test_refusals_are_needed(data: st.DataObject, c: int, h: int) -> None:
    """Where the second pads, merging regardless gives other values in all but degenerate cases."""
    first = replace(data.draw(convs("a", "x", c)), dilation=(1, 1), stride=(1, 1), padding=(0, 0))
    middle = fits(first, (c, h, h))
    second = replace(data.draw(convs("b", "a", middle[0])), dilation=(1, 1), stride=(1, 1), padding=(1, 1))
    ones = lambda node: replace(node, weight=Const(np.ones_like(node.weight.array)), bias=None)  # noqa: E731
    first, second = ones(first), ones(second)
    fits(second, middle)
    x = np.ones((1, c, h, h), np.float32)
    if isinstance(merged(first, second, (c, h, h)), Refused):
        bare = compose(
            kernel_of(first, (c, h, h)), replace(kernel_of(second, middle), padding=(0, 0)), (h, h)
        )
        assert not isinstance(bare, Refused)
        forced = as_node(replace(bare, padding=(1, 1)), second, ("x",))
        assert not np.array_equal(applied(forced, x), applied(second, applied(first, x)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_linear_layers_and_normalisations_of_vectors(seed: int, i: int, m: int, o: int, before: bool) -> None:
    rng = np.random.default_rng(seed)
    inner = Linear(name="a", inputs=("x",), weight=const(rng, m, i), bias=const(rng, m))
    norm = Scale(name="s", inputs=("x",), factor=const(rng, i))
    outer = Linear(name="b", inputs=("a",), weight=const(rng, o, i if before else m), bias=const(rng, o))
    first: Node = norm if before else inner
    x = rng.integers(-4, 5, (3, i)).astype(np.float32)
    one = merged(first, outer, (i,))
    assert isinstance(one, Linear)
    assert (one.name, one.inputs) == ("b", ("x",))
    assert np.array_equal(applied(one, x), applied(outer, applied(first, x)))


def normalisation(rng: np.random.Generator, c: int) -> BatchNorm:
    """Of whole multipliers: ε and σ² make 1 together."""
    parts = {k: const(rng, c) for k in ("gamma", "beta", "mean")}
    return BatchNorm(name="n", inputs=("a",), var=Const(np.full(c, 0.75, np.float32)), eps=0.25, **parts)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([2, 3, 4]), st.integers(3, 8), st.integers(0, 2), st.integers(1, 3))
def test_padding_by_what_normalisation_makes_of_zero(
    data: st.DataObject, c: int, h: int, pad: int, k: int
) -> None:
    """RepConv: 1×1, normalisation, padding by its zero, depthwise, 1×1; borders included."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    assume(h + 2 * pad >= k)
    mid = c + 1
    pointwise = Conv2d(name="a", inputs=("x",), weight=const(rng, mid, c, 1, 1))
    norm = normalisation(rng, mid)
    zero = applied(norm, np.zeros((1, mid, 1, 1), np.float32))[0, :, 0, 0]
    border = Pad(name="p", inputs=("n",), before=(0, pad, pad), after=(0, pad, pad), value=Const(zero))
    depthwise = Conv2d(name="d", inputs=("p",), weight=const(rng, mid, 1, k, k), groups=mid)
    last = Conv2d(name="l", inputs=("d",), weight=const(rng, 2, mid, 1, 1), bias=const(rng, 2))
    x = rng.integers(-4, 5, (2, c, h, h)).astype(np.float32)
    expected = x
    for node in (pointwise, norm, border, depthwise, last):
        expected = applied(node, expected)
    kernel = compose(kernel_of(pointwise, (c, h, h)), kernel_of(norm, (mid, h, h)), (h, h))
    assert not isinstance(kernel, Refused)
    kernel = padded(kernel, border, (h, h))
    assert not isinstance(kernel, Refused)
    for node in (depthwise, last):
        kernel = compose(kernel, kernel_of(node, (mid, h, h)), (h, h))
        assert not isinstance(kernel, Refused)
    assert np.array_equal(applied(as_node(kernel, last, ("x",)), x), expected)


BASE = Conv2d(name="a", inputs=("x",), weight=Const(np.ones((2, 2, 1, 1), np.float32)), bias=Const(np.array([1, 2], np.float32)))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        (
            {"value": Const(np.array([1, 2.001], np.float32))},
            "the padding is not the bias of what stands before it",
        ),
        ({"value": 0}, "the padding is not the bias of what stands before it"),
        ({"after": (0, 1, 2)}, "it does not pad rows and columns alike on both sides"),
    ],
)
def test_other_paddings_stay(change: dict[str, object], reason: str | None) -> None:
    pad = Pad(
        name="p", inputs=("a",), before=(0, 1, 1), after=(0, 1, 1), value=Const(np.array([1, 2], np.float32))
    )
    got = padded(kernel_of(BASE, (2, 4, 4)), replace(pad, **change), (4, 4))  # type: ignore[arg-type]
    assert (got.reason if isinstance(got, Refused) else None) == reason


def test_a_kernel_that_sees_its_map_from_outside_is_not_padded() -> None:
    wide = replace(BASE, weight=Const(np.ones((2, 2, 3, 3), np.float32)), padding=(1, 1))
    pad = Pad(name="p", inputs=("a",), before=(0, 1, 1), after=(0, 1, 1), value=BASE.bias or 0)
    got = padded(kernel_of(wide, (2, 4, 4)), pad, (4, 4))
    assert got == Refused("the first would still see its map where the padding stands")


def test_other_nodes_and_layouts_are_refused() -> None:
    pad = Pad(name="p", inputs=("x",), before=(0, 1, 1), after=(0, 1, 1))
    assert merged(pad, BASE, (2, 4, 4)) == Refused("pad is no linear map of channels")
    rows = Linear(name="l", inputs=("x",), weight=Const(np.ones((2, 2), np.float32)))
    assert merged(rows, rows, (4, 2)) == Refused(
        "a linear layer over rows of a map is in no canonical layout"
    )


def test_macs_count_every_tap_of_every_result() -> None:
    strided = replace(
        BASE, weight=Const(np.ones((2, 1, 3, 3), np.float32)), stride=(2, 1), padding=(1, 1), groups=2
    )
    assert kernel_of(strided, (2, 5, 4)).macs((5, 4)) == 2 * 9 * 3 * 4
