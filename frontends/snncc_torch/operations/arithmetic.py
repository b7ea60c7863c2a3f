"""Handlers of arithmetic: constants, sums and products of two values, sums and means over axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snncc.ir import (
    Add,
    AddConst,
    And,
    Const,
    Linear,
    MatMul,
    Mean,
    Mul,
    OverTime,
    Permute,
    Scale,
    SiteGate,
    Spikes,
    Sum,
)
from snncc.ir.sites import sites_const
from snncc.ir.types import at_most_one, is_unsigned
from snncc_torch.operations.aten import Call, Handler, float_const, settled
from snncc_torch.operations.layers import affine, linear_in_time, reshaped
from snncc_torch.operations.layout import Unsupported, Value, labels, relabelled

# ---- a value and a constant ---------------------------------------------------------------------


def feature_constant(call: Call, constant: Tensor, x: Value) -> Tensor:
    """A constant that broadcasts against the traced ``x``, as [*features] with sizes 1 or the feature's.

    Raises:
        Unsupported: if it differs between timesteps, or is not a number.
    """
    if bool(torch.isnan(constant).any()):
        raise Unsupported("a constant is NaN", got=f"{int(torch.isnan(constant).sum())} of its values")
    depth, rank = len(x.lead), len(x.lead) + len(x.shape)
    if constant.dim() > rank:
        raise Unsupported("a constant has more axes than the value", got=list(constant.shape))
    full = constant.detach().reshape((1,) * (rank - constant.dim()) + tuple(constant.shape))
    for axis in range(depth):
        if full.shape[axis] != 1 and bool((full != full.narrow(axis, 0, 1)).any()):
            raise Unsupported("a constant differs between timesteps", got=list(constant.shape))
        full = full.narrow(axis, 0, 1)
    return full.reshape(full.shape[depth:])


def plain(call: Call, key: str) -> Any:
    """An argument that is a number of the module's, not one that depends on the input."""
    found = call.args[key]
    if isinstance(found, Value):
        raise Unsupported(f"{key} depends on the data", hint="a constant, or one of torch.nn's layers")
    return found


def scaled(call: Call, x: Value, constant: object) -> Value:
    """``x`` times a constant: one number, one per element of one feature axis, or a mask of its sites."""
    factor = feature_constant(call, torch.as_tensor(constant), x)
    if factor.numel() == 1:
        return x if float(factor) == 1.0 else call.put(Scale, x, factor=float(factor))
    of_sites = len(x.shape) == 3 and factor.shape == (1, *x.shape[1:])
    if of_sites and bool(((factor == 0) | (factor == 1)).all()):
        return call.put(SiteGate, x, sites=sites_const(factor[0].numpy() != 0))
    axes = [a for a, n in enumerate(factor.shape) if n != 1]
    if len(axes) != 1 or factor.numel() != x.shape[axes[0]]:
        raise Unsupported("constant must be one number or one per channel", got=list(factor.shape))
    channels = float_const(factor.reshape(-1))
    if axes == [0]:
        return call.put(Scale, x, factor=channels)
    # The IR has factors for the first axis, so the axis of this one goes there and back.
    order = (axes[0], *(a for a in range(len(x.shape)) if a != axes[0]))
    there = call.put(Permute, x, beside="permute", axes=order)
    back = tuple(order.index(a) for a in range(len(order)))
    return call.put(Permute, call.put(Scale, there, factor=channels), beside="permute", axes=back)


def shifted(call: Call, x: Value, constant: object) -> Value:
    """``x`` plus a constant."""
    value = feature_constant(call, torch.as_tensor(constant), x)
    if not bool(value.any()):
        return x
    affine(x, True)
    number: float | Const = float(value) if value.numel() == 1 else float_const(value)
    return call.put(AddConst, x, value=number)


# ---- two values ---------------------------------------------------------------------------------


def joined(call: Call, a: Value, b: Value) -> tuple[Value, Value]:
    """Two operands with the same number of leading axes; the first carries the result's labels."""
    if a.reduced is not b.reduced:
        raise Unsupported("one operand stands behind a reduction over time, the other does not")
    rank_a, rank_b = (len(v.lead) + len(v.shape) for v in (a, b))
    if len(a.lead) != len(b.lead) and rank_a == rank_b:
        deeper, other = (a, b) if len(a.lead) > len(b.lead) else (b, a)
        moved = relabelled(other, len(deeper.lead), call.imp.steps)
        if moved is None:
            raise Unsupported(
                "operands differ in their leading axes",
                got=f"{[*a.lead, *a.shape]} and {[*b.lead, *b.shape]}",
            )
        other = replace(reshaped(call, other, moved.shape), lead=moved.lead)
        a, b = (a, other) if deeper is a else (other, b)
    lead = a.lead if {"T", "TB"} & set(a.lead) else b.lead
    if len(a.lead) != len(b.lead):
        lead = max(a.lead, b.lead, key=len)
    return replace(a, lead=lead), replace(b, lead=lead)


def _added(call: Call, a: Value, b: Value, factor: float) -> Value:
    a, b = joined(call, a, scaled(call, b, factor))
    if a.shape != b.shape:
        raise Unsupported("operands differ in shape", got=f"{list(a.shape)} and {list(b.shape)}")
    return call.put(Add, a, b)


def _add_scaled(call: Call, sign: float) -> Value:
    a, b = call.args["self"], call.args["other"]
    factor = sign * float(plain(call, "alpha") if "alpha" in call.args else 1)
    if isinstance(a, Value) and isinstance(b, Value):
        return _added(call, settled(a), settled(b), factor)
    if isinstance(a, Value):
        return shifted(call, settled(a), torch.as_tensor(b) * factor)
    return _from_constant(call, a, settled(b), factor)


def _from_constant(call: Call, constant: object, x: Value, factor: float) -> Value:
    """``constant + factor·x``; 1 - x of binary spikes is remembered, for what multiplies by it."""
    result = shifted(call, scaled(call, x, factor), constant)
    ones = factor == -1 and bool((torch.as_tensor(constant) == 1).all())
    return replace(result, complement=x) if ones and at_most_one(call.kind_of(x)) else result


def _add(call: Call) -> Value:
    return _add_scaled(call, 1.0)


def _sub(call: Call) -> Value:
    return _add_scaled(call, -1.0)


def _rsub(call: Call) -> Value:
    a, b = call.args["self"], call.args["other"]
    return _add_scaled(replace(call, args={**call.args, "self": b, "other": a}), -1.0)


def _neg(call: Call) -> Value:
    return scaled(call, call.value("self"), -1.0)


def _is_binary(call: Call, x: Value) -> bool:
    kind = call.kind_of(x)
    return isinstance(kind, Spikes) and (kind.levels, kind.unit, kind.signed) == (1, 1.0, False)


def _mul(call: Call) -> Value:
    a, b = call.args["self"], call.args["other"]
    if not (isinstance(a, Value) and isinstance(b, Value)):
        x, other = (a, b) if isinstance(a, Value) else (b, a)
        return scaled(call, settled(x), other)
    a, b = joined(call, settled(a), settled(b))
    linear_in_time(a)
    if len(a.shape) != len(b.shape):
        raise Unsupported("operands differ in rank", got=f"{list(a.shape)} and {list(b.shape)}")
    for inverted, other in ((a, b), (b, a)):
        if inverted.complement is not None and is_unsigned(call.kind_of(other)):
            plain = replace(inverted.complement, lead=a.lead)
            return call.put(And, plain, other, invert_first=True)
    both = _is_binary(call, a) and _is_binary(call, b)
    return call.put(And if both else Mul, a, b)


def _div(call: Call) -> Value:
    if call.args.get("rounding_mode") is not None:
        raise Unsupported("rounds", got=call.args["rounding_mode"])
    x, other = call.value("self"), call.args["other"]
    if isinstance(other, Value):
        raise Unsupported("divides by a value that depends on the input")
    return scaled(call, x, 1.0 / torch.as_tensor(other, dtype=torch.float64))


def _matmul(call: Call) -> Value:
    a, b = call.args["self"], call.args.get("other", call.args.get("mat2"))
    if isinstance(a, Value) and isinstance(b, Value):
        a, b = joined(call, settled(a), settled(b))
        linear_in_time(a)
        return call.put(MatMul, a, b)
    constant = b if isinstance(a, Value) else a
    if constant.dim() != 2:
        raise Unsupported("multiplies by a constant that is no matrix", got=list(constant.shape))
    if isinstance(a, Value):
        return call.put(Linear, settled(a), weight=float_const(constant.t()))
    x = settled(b)
    if len(x.shape) < 2:
        raise Unsupported("multiplies a matrix and leading axes", got=[*x.lead, *x.shape])
    swap = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
    turned = call.put(Permute, x, beside="permute", axes=swap)
    return call.put(
        Permute, call.put(Linear, turned, weight=float_const(constant)), beside="permute", axes=swap
    )


def _einsum(call: Call) -> Value:
    """A matrix product over axes in another order; every other sum of products is refused."""
    equation, operands = str(call.args["equation"]).replace(" ", ""), call.args["tensors"]
    terms, _, out = equation.partition("->")
    a, _, b = terms.partition(",")
    rows, cols, inner = ([c for c in x if c not in y] for x, y in ((a, b), (b, a), (a, out)))
    batch = [c for c in out if c in a and c in b]
    shared = [*batch, *inner]
    if (
        not all(isinstance(v, Value) for v in operands)
        or not (len(rows) == len(cols) == len(inner) == 1 and equation.isascii() and "." not in equation)
        or not (sorted(a) == sorted(rows + shared) and sorted(b) == sorted(cols + shared))
        or sorted(out) != sorted(batch + rows + cols)
    ):
        raise Unsupported("is no product of two matrices", got=equation, limit="such as bhnd,bhmd->bhnm")
    x, y = joined(call, *(settled(v) for v in operands))
    linear_in_time(x)
    depth = len(x.lead)
    if not a[:depth] == b[:depth] == out[:depth] == "".join(batch[:depth]):
        raise Unsupported("moves batch or time", got=equation, hint="batch and time first in every operand")
    left = _ordered(call, x, a[depth:], [*batch[depth:], *rows, *inner])
    right = _ordered(call, y, b[depth:], [*batch[depth:], *inner, *cols])
    return _ordered(call, call.put(MatMul, left, right), "".join([*batch, *rows, *cols])[depth:], out[depth:])


def _ordered(call: Call, x: Value, axes: str, wanted: Sequence[str]) -> Value:
    """``x``, whose feature axes have these letters, with them in another order."""
    order = tuple(axes.index(c) for c in wanted)
    return x if order == tuple(range(len(order))) else call.put(Permute, x, beside="permute", axes=order)


# ---- sums and means over axes ---------------------------------------------------------------------


def _axes(call: Call, x: Value) -> tuple[int, ...]:
    rank = len(labels(x))
    given = call.args.get("dim")
    if given is None or given == []:
        return tuple(range(rank))
    return tuple(sorted(a % rank for a in ([given] if isinstance(given, int) else given)))


def _reduced(call: Call, how: OverTime) -> Value:
    """Over features by a node, over time by a label."""
    x = call.value("self")
    axes, keep = _axes(call, x), bool(call.args.get("keepdim"))
    leading = [a for a in axes if a < len(x.lead)]
    times = [a for a in leading if x.lead[a] == "T"]
    if leading != times:
        what = "batch" if any("B" in x.lead[a] for a in leading) else "a leading axis"
        raise Unsupported(f"reduces {what}", got=call.args.get("dim"), hint="dim= with feature axes or time")
    features = tuple(a - len(x.lead) for a in axes if a not in leading)
    if features:
        x = _over_features(call, x, features, keep, how)
    return _over_time(x, times[0], how, keep) if times else x


def _over_features(call: Call, x: Value, axes: tuple[int, ...], keep: bool, how: OverTime) -> Value:
    if how is OverTime.SUM:
        return call.put(Sum, x, axes=axes, keepdim=keep)
    if len(x.shape) == 2 and axes == (1,) and not keep:
        # As a map of width 1: passes know means over both spatial axes.
        x, axes = reshaped(call, x, (*x.shape, 1)), (1, 2)
    return call.put(Mean, x, axes=axes, keepdim=keep)


def _over_time(x: Value, axis: int, how: OverTime, keep: bool) -> Value:
    if x.reduced is not OverTime.NONE:
        raise Unsupported("second reduction over time")
    kept = ("1",) if keep else ()
    return Value(x.name, (*x.lead[:axis], *kept, *x.lead[axis + 1 :]), x.shape, how)


def _mean(call: Call) -> Value:
    return _reduced(call, OverTime.MEAN)


def _sum(call: Call) -> Value:
    return _reduced(call, OverTime.SUM)


# ---- constants of a value's shape -----------------------------------------------------------------


def _filled(number: float | None) -> Handler:
    def handle(call: Call) -> Tensor:
        return torch.full(call.out, float(plain(call, "fill_value") if number is None else number))

    return handle


ARITHMETIC: dict[str, Handler] = {
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "matmul": _matmul,
    "bmm": _matmul,
    "mm": _matmul,
    "einsum": _einsum,
    "mean": _mean,
    "sum": _sum,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "full_like": _filled(None),
    "new_zeros": _filled(0.0),
    "new_ones": _filled(1.0),
    "new_full": _filled(None),
}
