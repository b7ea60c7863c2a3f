"""Every node kind beyond the first set: type, semantics against torch, integers, text form, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cells import integer_neuron
from snncc import api
from snncc.analysis.magnitude import magnitude
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    AddConst,
    And,
    Concat,
    Const,
    ConvTranspose2d,
    Current,
    Family,
    Function,
    Graph,
    Input,
    LayerNorm,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Neuron,
    Node,
    Op,
    Output,
    Pad,
    Resample,
    Reshape,
    Slice,
    Spikes,
    Sum,
    Upsample,
    parse,
    to_text,
)
from snncc.ir.evaluation import evaluate
from snncc.ir.interp import run
from snncc.ir.nodes import KINDS
from snncc.model import Model
from snncc.passes.base import not_taken
from snncc.passes.quantize import Quantize

F = torch.nn.functional
rng = np.random.default_rng(5)
WEIGHT = rng.integers(-7, 8, (4, 3, 3, 2))
BIAS = rng.integers(-9, 10, 6)
PADDING = np.array([3, 0, 2])
ROWS = Const(np.array([[0, 2, 0, 1], [3, 1, 2, 0]], np.int32))
COLUMNS = Const(np.array([[0, 0, 2, 1, 1], [1, 1, 2, 1, 1], [0, 0, 0, 0, 1]], np.int32))
EMBEDDING = rng.integers(-3, 4, (3, 1, 5))
GAMMA, BETA = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)


def real(array: Any) -> Const:
    return Const(np.asarray(array).astype(np.float32))


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).double()


def transposed(**fields: Any) -> tuple[Node, Callable[..., torch.Tensor]]:
    node = ConvTranspose2d(name="n", inputs=("a",), weight=real(WEIGHT), bias=real(BIAS), groups=2, **fields)
    names = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1)} | fields
    return node, lambda a: F.conv_transpose2d(a, t(WEIGHT), t(BIAS), groups=2, **names)


def one(cls: type[Node], **fields: Any) -> Node:
    return cls(name="n", inputs=("a",), **fields)


def two(cls: type[Node], **fields: Any) -> Node:
    return cls(name="n", inputs=("a", "b"), **fields)


# node, shapes of its inputs, the same in torch; run on small whole numbers and on real ones
CASES: list[tuple[Node, tuple[tuple[int, ...], ...], Callable[..., Any]]] = [
    (two(MatMul), ((4, 3), (3, 5)), lambda a, b: a @ b),
    (two(MatMul), ((2, 6, 4, 3), (2, 6, 3, 5)), lambda a, b: a @ b),
    (two(Mul), ((3, 4, 5), (3, 4, 5)), lambda a, b: a * b),
    (two(Mul), ((3, 4, 5), (3, 1, 5)), lambda a, b: a * b),
    (two(Mul), ((3, 1), (1, 4)), lambda a, b: a * b),
    (one(AddConst, value=real(EMBEDDING)), ((3, 4, 5),), lambda a: a + t(EMBEDDING)),
    (one(AddConst, value=-2.0), ((3, 4),), lambda a: a - 2),
    (
        one(Pad, before=(0, 1, 2), after=(0, 3, 0), value=2.0),
        ((3, 4, 5),),
        lambda a: F.pad(a, (2, 0, 1, 3), value=2),
    ),
    (
        one(Pad, before=(0, 1, 0), after=(0, 1, 2), value=real(PADDING)),
        ((3, 4, 5),),
        lambda a: F.pad(a - t(PADDING)[:, None, None], (0, 2, 1, 1)) + t(PADDING)[:, None, None],
    ),
    (two(Concat, axis=1), ((3, 4, 5), (3, 2, 5)), lambda a, b: torch.cat([a, b], 2)),
    (one(Slice, axis=1, start=1, stop=6, step=2), ((3, 7, 2),), lambda a: a[:, :, 1:6:2]),
    (one(Slice, axis=0, start=2, stop=3), ((3, 4),), lambda a: a[:, 2:3]),
    (
        one(MaxPool2d, kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
        ((3, 7, 5),),
        lambda a: F.max_pool2d(a, (3, 2), (2, 1), (1, 1)),
    ),
    (
        one(MaxPool2d, kernel=(2, 3), stride=(1, 2), dilation=(3, 2)),
        ((2, 7, 9),),
        lambda a: F.max_pool2d(a, (2, 3), (1, 2), dilation=(3, 2)),
    ),
    (one(Sum, axes=(0, 2)), ((3, 4, 5),), lambda a: a.sum((1, 3))),
    (one(Sum, axes=(1,), keepdim=True), ((3, 4, 5),), lambda a: a.sum(2, keepdim=True)),
    (one(Upsample, factor=(2, 3)), ((3, 4, 5),), lambda a: F.interpolate(a, scale_factor=(2, 3))),
    *(
        (node, ((4, 5, 3),), function)
        for node, function in (
            transposed(),
            transposed(stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
            transposed(stride=(1, 2), padding=(2, 1), dilation=(3, 1), output_padding=(2, 0)),
        )
    ),
]  # fmt: skip
REAL_ONLY: list[tuple[Node, tuple[tuple[int, ...], ...], Callable[..., Any]]] = [
    (one(Mean, axes=(0, 2)), ((3, 4, 5),), lambda a: a.mean((1, 3))),
    (one(Mean, axes=(1,), keepdim=True), ((3, 4, 5),), lambda a: a.mean(2, keepdim=True)),
    (
        one(Resample, rows=ROWS, columns=COLUMNS, divisor=4),
        ((3, 4, 5),),
        lambda a: t(ROWS.array) @ a @ t(COLUMNS.array).T / 4,
    ),
    (one(Function, op=Op.RELU), ((3, 4),), F.relu),
    (one(Function, op=Op.SIGMOID), ((3, 4),), torch.sigmoid),
    (one(Function, op=Op.TANH), ((3, 4),), torch.tanh),
    (one(Function, op=Op.SILU), ((3, 4),), F.silu),
    (one(Function, op=Op.GELU), ((3, 4),), F.gelu),
    (one(Function, op=Op.SOFTMAX, axis=0), ((3, 4),), lambda a: a.softmax(1)),
    (one(Function, op=Op.SOFTMAX), ((3, 4),), lambda a: a.softmax(-1)),
    (
        one(LayerNorm, gamma=Const(GAMMA), beta=Const(BETA), eps=1e-3),
        ((3, 4, 5),),
        lambda a: F.layer_norm(a, (4, 5), t(GAMMA), t(BETA), 1e-3),
    ),
]
IDS = [f"{n.kind}{i}" for i, (n, _, _) in enumerate(CASES + REAL_ONLY)]


def numbers(shapes: tuple[tuple[int, ...], ...], whole: bool) -> list[Any]:
    drawn = np.random.default_rng(1)
    if whole:
        return [drawn.integers(0, 5, (2, *s)) for s in shapes]
    return [drawn.normal(0, 4, (2, *s)).astype(np.float32) for s in shapes]


@pytest.mark.parametrize(("node", "shapes", "function"), CASES + REAL_ONLY, ids=IDS)
def test_float_semantics_are_torchs(node: Node, shapes: Any, function: Any) -> None:
    xs = numbers(shapes, whole=False)
    got, want = evaluate(node, xs), function(*map(t, xs)).numpy()
    assert got.dtype == np.float32
    assert got.shape[1:] == node.infer(tuple(map(Current, shapes))).shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    # ... and within the float rule, whose magnitude must dominate the value itself.
    size = magnitude(node, xs, [np.abs(x) for x in xs], got)
    assert (np.abs(got - want) <= 1e-5 * size).all()
    assert (size >= np.abs(got) * (1 - 1e-6)).all()


def integer(node: Node) -> Node:
    """The node as an integer graph has it."""
    changes: dict[str, Any] = {"integer": True} if isinstance(node, MatMul) else {}
    for name in ("weight", "bias", "value"):
        value = getattr(node, name, None)
        if isinstance(value, Const):
            changes[name] = Const(value.array.astype(np.int32))
        elif isinstance(value, float):
            changes[name] = int(value)
    return replace(node, **changes)


@pytest.mark.parametrize(("node", "shapes", "function"), CASES, ids=IDS[: len(CASES)])
def test_integer_semantics_are_exact_and_within_the_type(node: Node, shapes: Any, function: Any) -> None:
    xs = numbers(shapes, whole=True)
    got = evaluate(integer(node), xs)
    assert got.dtype == np.int64
    assert np.array_equal(got, function(*map(t, xs)).long().numpy())
    kind = integer(node).infer(tuple(Spikes(s, 4) for s in shapes))
    if isinstance(kind, Spikes):
        assert 0 <= got.min() <= got.max() <= kind.levels
    else:
        assert kind.dtype == "i32"


@pytest.mark.parametrize("largest", [2**8, 2**25, 2**30])
def test_integer_matrix_products_are_exact_at_every_size(largest: int) -> None:
    """Sums past 2^24 and 2^53 leave float32 and float64; one unit must still be seen."""
    a, b = np.array([[[largest, 1, largest]]]), np.array([[[largest], [1], [-largest]]])
    assert evaluate(two(MatMul, integer=True), [a, b]).tolist() == [[[1]]]


def test_the_sum_and_not_the_largest_product_decides_on_the_type() -> None:
    """Each product fits 24 bits, their sum 3·2^23 + 1 does not."""
    a, b = np.array([[[4096, 4096, 4096, 1]]]), np.array([[[2048], [2048], [2048], [1]]])
    assert evaluate(two(MatMul, integer=True), [a, b]).tolist() == [[[3 * 2**23 + 1]]]


def test_magnitudes_of_products_do_not_cancel() -> None:
    """Both factors bring their error along: twice the sum of absolute products."""
    a, b = np.array([[[3.0, -3.0]]], np.float32), np.array([[[2.0], [2.0]]], np.float32)
    result = evaluate(two(MatMul), [a, b])
    assert result.item() == 0
    assert magnitude(two(MatMul), [a, b], [np.abs(a), np.abs(b)], result).item() == 24


def test_the_largest_spike_product_reaches_its_bound() -> None:
    kind = two(Mul).infer((Spikes((2,), 3), Spikes((2,), 4)))
    assert str(kind) == "spikes<2, 12>"
    assert evaluate(two(Mul), [np.array([[3, 1]]), np.array([[4, 4]])]).max() == 12


@pytest.mark.parametrize("invert", [False, True])
def test_and_of_binary_spikes(invert: bool) -> None:
    node = two(And, invert_first=invert)
    a, b = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 0, 1]])
    want = [[0, 1, 0, 0]] if invert else [[0, 0, 0, 1]]
    assert evaluate(node, [a, b]).tolist() == want
    assert evaluate(node, [a.astype(np.float32), b.astype(np.float32)]).tolist() == want
    assert node.infer((Spikes((4,), 1), Spikes((4,), 1))) == Spikes((4,), 1)


B = Spikes((3, 4, 5), 2, unit=0.5)
S = Spikes((3, 4, 5), 2, signed=True, unit=0.5)


@pytest.mark.parametrize(
    ("node", "args", "text"),
    [
        (two(MatMul), (Spikes((4, 3), 2), Spikes((3, 5), 2)), "current<4x5, f32>"),
        (two(MatMul), (Current((4, 3)), Spikes((3, 5), 2)), "current<4x5, f32>"),
        (two(MatMul, integer=True), (Current((4, 3), "i32"), Spikes((3, 5), 2)), "current<4x5, i32>"),
        (two(Mul), (B, S), "spikes<3x4x5, 4, signed, unit=0.25>"),
        (two(Mul), (B, Current((3, 1, 5))), "current<3x4x5, f32>"),
        (two(Mul), (Spikes((3,), 2), Current((3,), "i32")), "current<3, i32>"),
        (one(Pad, before=(0, 1, 0), after=(0, 0, 0)), (S,), "spikes<3x5x5, 2, signed, unit=0.5>"),
        (one(Pad, before=(0, 1, 0), after=(0, 0, 0), value=2.0), (B,), "spikes<3x5x5, 4, unit=0.5>"),
        (one(Pad, before=(0, 1, 0), after=(0, 0, 0), value=0.3), (B,), "current<3x5x5, f32>"),
        (one(Pad, before=(0, 1, 0), after=(0, 0, 0), value=-1.0), (B,), "current<3x5x5, f32>"),
        (one(Pad, before=(0, 1, 0), after=(0, 0, 0), value=-2.0), (S,), "spikes<3x5x5, 4, signed, unit=0.5>"),
        (two(And, invert_first=True), (B, Spikes((3, 1, 5), 3)), "spikes<3x4x5, 6, unit=0.5>"),
        (two(Concat, axis=0), (B, Spikes((1, 4, 5), 7, unit=0.5)), "spikes<4x4x5, 7, unit=0.5>"),
        (two(Concat, axis=0), (B, Spikes((1, 4, 5), 2)), "current<4x4x5, f32>"),
        (two(Concat, axis=0), (B, Current((1, 4, 5), "i32")), "current<4x4x5, i32>"),
        (one(Slice, axis=1, start=0, stop=4, step=3), (S,), "spikes<3x2x5, 2, signed, unit=0.5>"),
        (one(MaxPool2d, kernel=(2, 2), stride=(2, 2)), (S,), "spikes<3x2x2, 2, signed, unit=0.5>"),
        (one(Sum, axes=(1, 2)), (S,), "spikes<3, 40, signed, unit=0.5>"),
        (one(Mean, axes=(0,)), (Spikes((4, 2), 2, unit=0.5),), "spikes<2, 8, unit=0.125>"),
        (one(Upsample, factor=(1, 3)), (S,), "spikes<3x4x15, 2, signed, unit=0.5>"),
        (one(Resample, rows=ROWS, columns=COLUMNS, divisor=4), (S,), "spikes<3x2x3, 72, signed, unit=0.125>"),
        (one(Resample, rows=ROWS, columns=COLUMNS), (Current((3, 4, 5)),), "current<3x2x3, f32>"),
        (one(AddConst, value=1.0), (B,), "current<3x4x5, f32>"),
        (one(AddConst, value=1), (Spikes((3,), 2),), "current<3, i32>"),
        (one(Function, op=Op.RELU), (B,), "current<3x4x5, f32>"),
    ],
)  # fmt: skip
def test_types(node: Node, args: Any, text: str) -> None:
    assert str(node.infer(args)) == text


def sized(size: int) -> Const:
    return real(np.zeros((size, 3, 2, 2)))


@pytest.mark.parametrize(
    ("node", "args", "text"),
    [
        (two(MatMul), (B, B), "matmul: inputs do not fit, got (3, 4, 5), limit (3, 4, 5)"),
        (two(MatMul), (Spikes((2, 4, 3), 1), Spikes((1, 3, 5), 1)), "matmul: inputs do not fit"),
        (two(MatMul), (Spikes((3,), 1), Spikes((3,), 1)), "matmul: inputs do not fit"),
        (two(MatMul, integer=True), (Current((4, 3), "i32"),) * 2, "matmul: inputs do not fit"),
        (two(MatMul, integer=True), (Current((3, 3), "i32"),) * 2, "matmul: one of two factors must be spikes"),
        (two(MatMul), (Current((3, 3), "i32"), Spikes((3, 3), 1)), "matmul: currents must be f32, got ['i32']"),
        (one(MatMul), (B,), "matmul: takes two inputs, got 1"),
        (two(Mul), (B, Spikes((3, 4, 4), 1)), "mul: inputs do not broadcast"),
        (two(Mul), (Current((3,), "i32"), Current((3,))), "mul: currents of two types, got ['f32', 'i32']"),
        (two(Mul), (Current((3,), "i32"),) * 2, "mul: one of two factors must be spikes"),
        (two(And), (Spikes((3,), 1), Spikes((3,), 2)), "and: takes binary spikes, got spikes<3, 2>"),
        (two(And), (Spikes((3,), 1, unit=0.5), Spikes((3,), 1)), "and: takes binary spikes"),
        (two(And, invert_first=True), (Spikes((3,), 4), Spikes((3,), 1)), "and: inverts spikes that are at most one, got spikes<3, 4>"),
        (two(And, invert_first=True), (Spikes((3,), 1), Spikes((3,), 4, signed=True)), "and: takes spikes without a sign"),
        (two(And), (Spikes((3,), 1, signed=True), Spikes((3,), 1)), "and: takes binary spikes"),
        (one(AddConst, value=real(np.zeros((3, 4)))), (B,), "add_const: value must broadcast over the features"),
        (one(AddConst, value=real(np.zeros((3, 2, 5)))), (B,), "add_const: value must broadcast"),
        (one(Pad, before=(0, 1), after=(0, 0)), (B,), "pad: needs one amount per feature axis and side"),
        (one(Pad, before=(0, -1, 0), after=(0, 0, 0)), (B,), "pad: amounts must not be negative"),
        (one(Pad, before=(1, 0, 0), after=(0, 0, 0), value=real(PADDING)), (B,), "pad: value must be one number, or [C]"),
        (two(Concat, axis=3), (B, B), "concat: no such axis, got 3, limit 3"),
        (two(Concat, axis=0), (B, Spikes((3, 4, 4), 2)), "concat: inputs differ in another axis"),
        (one(Slice, axis=1, start=2, stop=2), (B,), "slice: takes no element of the axis, got (2, 2, 1), limit 4"),
        (one(Slice, axis=1, start=0, stop=5), (B,), "slice: takes no element of the axis"),
        (one(Slice, axis=1, start=0, stop=4, step=0), (B,), "slice: takes no element of the axis"),
        (one(MaxPool2d, kernel=(2, 2), stride=(1, 1), padding=(2, 0)), (B,), "max_pool2d: padding must not exceed half the kernel"),
        (one(MaxPool2d, kernel=(3, 3), stride=(1, 1), dilation=(2, 1)), (B,), "max_pool2d: window is larger than the input"),
        (one(MaxPool2d, kernel=(2, 2), stride=(0, 1)), (B,), "max_pool2d: kernel, stride and dilation must be positive"),
        (one(Sum, axes=()), (B,), "sum: axes must be different feature axes"),
        (one(Sum, axes=(1, 1)), (B,), "sum: axes must be different feature axes"),
        (one(Mean, axes=(3,)), (B,), "mean: axes must be different feature axes, got (3,), limit 0..2"),
        (one(Upsample, factor=(0, 2)), (B,), "upsample: factor must be positive"),
        (one(Resample, rows=real(ROWS.array), columns=COLUMNS), (B,), "resample: rows and columns must be matrices of i32"),
        (one(Resample, rows=COLUMNS, columns=ROWS), (B,), "resample: input must be [C, H, W], got (3, 4, 5), limit (5, 4)"),
        (one(Resample, rows=ROWS, columns=COLUMNS, divisor=0), (B,), "resample: weights must not be negative, the divisor positive"),
        (one(Resample, rows=Const(-ROWS.array), columns=COLUMNS), (B,), "resample: weights must not be negative"),
        (one(Function, op=Op.SOFTMAX, axis=3), (B,), "function: no such axis"),
        (one(LayerNorm, gamma=real([1, 1]), beta=real([1, 1]), eps=0.1), (B,), "layernorm: gamma and beta must have"),
        (one(ConvTranspose2d, weight=sized(2)), (B,), "conv_transpose2d: input channels do not fit the weight, got 3, limit 2"),
        (one(ConvTranspose2d, weight=sized(3), groups=2), (B,), "conv_transpose2d: groups must divide"),
        (one(ConvTranspose2d, weight=sized(3), bias=real([1])), (B,), "conv_transpose2d: bias must be [out]"),
        (one(ConvTranspose2d, weight=sized(3), output_padding=(1, 0)), (B,), "conv_transpose2d: output_padding must be smaller"),
        (one(ConvTranspose2d, weight=sized(3), padding=(9, 0)), (B,), "conv_transpose2d: padding removes the whole result"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(node: Node, args: Any, text: str) -> None:
    with pytest.raises(ModelError) as error:
        node.infer(args)
    assert str(error.value).startswith(f"[SNNC-M010] %n: {text}")


# ---- whole graphs -------------------------------------------------------------------------------


def attention(family: Family = Family.FLOAT) -> Graph:
    """Spikes x become q, k and v; q (kᵀ v), thresholded."""
    dtype = np.float32 if family is Family.FLOAT else np.int8
    weights = np.random.default_rng(2).integers(-2, 3, (3, 5, 4))

    def neuron(name: str, reads: str, **numbers: int) -> Node:
        if family is Family.INTEGER:
            return integer_neuron(name, reads, **numbers)
        return Neuron(name=name, inputs=(reads,), **numbers)  # type: ignore[arg-type]

    nodes: list[Node] = [Input(name="x", shape=(3, 4), levels=2)]
    for name, weight in zip("qkv", weights, strict=True):
        nodes.append(Linear(name=f"{name}w", inputs=("x",), weight=Const(weight.astype(dtype))))
        nodes.append(neuron(name, f"{name}w", threshold=2, decay=1, max_spikes=3))
    whole = family is not Family.FLOAT
    nodes += [
        KINDS["permute"](name="kt", inputs=("k",), axes=(1, 0)),  # type: ignore[call-arg]
        MatMul(name="kv", inputs=("kt", "v"), integer=whole),
        MatMul(name="qkv", inputs=("q", "kv"), integer=whole),
        neuron("s", "qkv", threshold=8, decay=1),
        Output(name="o", inputs=("s",)),
    ]
    return Graph("attention", family, tuple(nodes), steps=4)


def test_attention_computes_the_same_in_both_families_and_orders() -> None:
    x = np.random.default_rng(3).integers(0, 3, (6, 4, 3, 4))
    a, b = run(attention(), x.astype(np.float32)), run(attention(Family.INTEGER), x)
    assert np.array_equal(a.values["s"], b.values["s"])
    assert 0.1 < a.values["s"].mean() < 0.9
    q, k, v = (torch.from_numpy(b.values[n]) for n in "qkv")
    drive = (q @ k.transpose(-1, -2)) @ v
    kept = run(attention(Family.INTEGER), x, ("qkv",)).values["qkv"]
    assert np.array_equal(drive.numpy(), kept)


def every_kind() -> Graph:
    """A graph in which each new kind stands, with attributes off their defaults."""
    w, eight = real(WEIGHT[:3]), real(np.arange(8))
    return Graph(
        "all",
        Family.FLOAT,
        (
            Input(name="x", shape=(3, 4, 5), levels=1),
            And(name="and", inputs=("x", "x"), invert_first=True),
            Mul(name="mul", inputs=("and", "x")),
            Pad(name="pad", inputs=("mul",), before=(0, 1, 0), after=(0, 0, 2), value=real(PADDING)),
            MaxPool2d(name="max", inputs=("pad",), kernel=(2, 3), stride=(1, 2), padding=(1, 1)),
            Upsample(name="up", inputs=("max",), factor=(1, 2)),
            Concat(name="cat", inputs=("up", "up"), axis=2),
            Slice(name="cut", inputs=("cat",), axis=2, start=1, stop=9, step=2),
            Mean(name="mean", inputs=("cut",), axes=(0, 2), keepdim=True),
            Sum(name="sum", inputs=("cut",), axes=(1,), keepdim=True),
            ConvTranspose2d(name="tconv", inputs=("sum",), weight=w, stride=(2, 2), output_padding=(1, 0)),
            Slice(name="square", inputs=("tconv",), axis=1, start=0, stop=4),
            Slice(name="even", inputs=("square",), axis=2, start=0, stop=8, step=1),
            AddConst(name="shift", inputs=("even",), value=0.5),
            Function(name="soft", inputs=("shift",), op=Op.SOFTMAX, axis=1),
            LayerNorm(name="ln", inputs=("soft",), gamma=eight, beta=eight, eps=0.1),
            Slice(name="half", inputs=("ln",), axis=2, start=0, stop=4),
            MatMul(name="mm", inputs=("half", "ln")),
            Sum(name="total", inputs=("mean",), axes=(1, 2)),
            Sum(name="all", inputs=("mm",), axes=(0, 1, 2), keepdim=True),
            Sum(name="one", inputs=("all",), axes=(1, 2)),
            Add(name="add", inputs=("total", "one")),
            Output(name="o", inputs=("add",)),
        ),
    )


def test_text_form_gives_back_the_very_graph() -> None:
    graphs = [attention(), attention(Family.INTEGER), every_kind()]
    for graph in graphs:
        again = parse(to_text(graph), graph.constants())
        assert again == graph
        assert to_text(again) == to_text(graph)


def test_axes_in_the_text_form_must_be_integers() -> None:
    graph = every_kind()
    text = to_text(graph).replace("axes=[0, 2]", "axes=[0, 2.0]")
    with pytest.raises(ModelError, match="axes cannot be"):
        parse(text, graph.constants())


def test_float_only_kinds_are_refused_elsewhere() -> None:
    with pytest.raises(ModelError, match="an integer graph has no such node, got function"):
        Graph(
            "g",
            Family.INTEGER,
            (
                Input(name="x", shape=(3,), levels=1),
                Function(name="f", inputs=("x",), op=Op.RELU),
                Output(name="o", inputs=("f",)),
            ),
        )


# ---- what passes make of them -------------------------------------------------------------------


def checked(graph: Graph) -> tuple[str, ...]:
    """Problems that ``snncc check`` finds on target sim; without any, spikes count what integers do."""
    x = np.ones((2, graph.steps, *graph.input.shape), np.int64 if graph.input.levels else np.float32)
    found = api.check(Model(graph, calibration=x), target="sim")
    assert (found.lowered is None) == bool(found.problems)
    if found.lowered is not None:
        whole, spikes = (run(g, x).values for g in (found.lowered.integer_graph, found.lowered.spike_graph))
        assert all(np.array_equal(spikes[name], counts) for name, counts in whole.items())
    return tuple(str(p) for p in found.problems)


LOWERED = {
    "input", "linear", "conv2d", "batchnorm", "scale", "add", "avg_pool2d", "sum_pool2d", "reshape", "permute",
    "neuron", "integer_neuron", "encode", "window_neuron", "hold", "delay", "host", "output",
    "mean", "concat", "pad", "slice", "resample", "upsample",
    "and", "mul", "max_pool2d",  # of single spikes
    "matmul", "sum",  # of spikes, and of products of spikes
    "site_gate", "centre_gate",  # behind the weights of a neuron
}  # fmt: skip


def test_every_kind_that_no_pass_lowers_is_named_by_check() -> None:
    graph = every_kind()
    named = [p for p in checked(graph)]
    assert [p.split(":")[0] for p in named] == [f"%{n.name}" for n in graph.nodes if n.kind not in LOWERED]
    assert {n.kind for n in graph.nodes} | LOWERED == set(KINDS)
    assert named[0] == "%tconv: no pass lowers conv_transpose2d to spikes yet."
    assert (
        "%soft: softmax is real-valued: no spikes compute it. Try a neuron in its place, or keep it outside the exported module."
        in named
    )


@pytest.mark.parametrize(("node", "shapes"), [(n, s) for n, s, _ in CASES + REAL_ONLY], ids=IDS)
@pytest.mark.parametrize("levels", [0, 1])
def test_each_kind_alone_is_exact_or_refused_with_a_typed_error(node: Node, shapes: Any, levels: int) -> None:
    """In the analog stem and behind spikes, between neurons; never an assertion or a traceback."""
    shape = (sum(int(np.prod(s)) for s in shapes),)
    parts, start = [], 0
    for name, s in zip("ab", shapes, strict=False):
        size = int(np.prod(s))
        chosen = real(np.eye(*shape)[start : start + size])
        parts += [
            Linear(name=f"{name}.part", inputs=("s",), weight=chosen),
            Neuron(name=f"{name}.spikes", inputs=(f"{name}.part",)),
            Reshape(name=name, inputs=(f"{name}.spikes",), shape=s),
        ]
        start += size
    nodes = (
        Input(name="x", shape=shape, levels=levels),
        Neuron(name="s", inputs=("x",)),
        *parts,
        replace(node, source="block.op"),
        Neuron(name="e", inputs=("n",)),
        Output(name="o", inputs=("e",)),
    )
    found = checked(Graph("g", Family.FLOAT, nodes))
    assert not found or (found[0].startswith("%n") and "(block.op): " in found[0])


@pytest.mark.parametrize("axes", [(0, 2), (1,), (0,), (0, 1, 2)])
def test_means_over_any_axes_of_a_map_become_spikes(axes: tuple[int, ...]) -> None:
    nodes = (
        Input(name="x", shape=(3, 4, 5), levels=1),
        Mean(name="m", inputs=("x",), axes=axes, keepdim=True, source="pool"),
        Neuron(name="e", inputs=("m",), threshold=0.25),
        Output(name="o", inputs=("e",)),
    )
    assert checked(Graph("g", Family.FLOAT, nodes)) == ()


def test_real_valued_operations_have_a_code_of_their_own() -> None:
    graph = every_kind()
    found = tuple(not_taken(graph, (Quantize(calibration=np.ones((1, 1, 3, 4, 5))),)))
    real_valued = {f"%{n.name}" for n in graph.nodes if isinstance(n, Function | LayerNorm)}
    codes = {p.where: p.code for p in found}
    assert {where for where, code in codes.items() if code == "SNNC-M017"} == real_valued
    assert {code for where, code in codes.items() if where not in real_valued} == {"SNNC-M012"}


def test_quantize_alone_names_the_node() -> None:
    sums = Sum(name="all", inputs=("s",), axes=(0,), keepdim=True)
    graph = attention()
    end = replace(graph.nodes[-1], inputs=("all",))
    with pytest.raises(ModelError, match="%all: no pass lowers sum to spikes yet"):
        Quantize(calibration=np.ones((1, 4, 3, 4))).run(replace(graph, nodes=(*graph.nodes[:-1], sums, end)))
