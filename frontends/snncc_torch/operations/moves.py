"""Handlers of operations that move values: views, slices, joins, padding, repetition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snncc.ir import AddConst, Concat, Const, Number, Pad, Permute, Reshape, Slice
from snncc_torch.operations import layout
from snncc_torch.operations.arithmetic import feature_constant, plain
from snncc_torch.operations.aten import Call, Handler, settled
from snncc_torch.operations.layout import Frame, Unsupported, Value, feature_axis, labels, lead_of

LOOP_HINT = "multi-step neurons that take [T, B, ...] in place of a Python loop over time"
LAST_HINT = "a mean or a sum over time in place of its last step"


def _dim(call: Call, x: Value, key: str = "dim") -> int:
    return int(call.args[key]) % len(labels(x))


# ---- views --------------------------------------------------------------------------------------


def _viewed(call: Call, x: Value, lead: tuple[str, ...], shape: tuple[int, ...]) -> Value:
    """``x`` with other labels, and with a reshape node only where the features change."""
    if shape == x.shape:
        return replace(x, lead=lead, frame=None)
    return replace(call.put(Reshape, x, shape=shape), lead=lead)


def _identity(call: Call) -> Value:
    return call.moved("self")


def _cast(call: Call) -> Value:
    """A cast to float32 changes nothing; any other would round."""
    dtype = call.args.get("dtype")
    if dtype not in (None, torch.float32):
        raise Unsupported("casts to another type", got=dtype, limit="float32")
    return call.moved("self")


def _dropout(call: Call) -> Value:
    if call.args["train"]:
        raise Unsupported("is active", hint="module.eval()")
    return call.value("input")


def _view(call: Call) -> Value:
    x = call.value("self")
    return _viewed(call, x, *layout.reshape(x, call.out, call.imp.steps))


def _flatten(call: Call) -> Value:
    x = call.value("self")
    rank = len(x.lead) + len(x.shape)
    start, end = call.args["start_dim"] % rank, call.args["end_dim"] % rank
    crossing = start < len(x.lead) <= end
    if crossing and call.out and end < rank - 1:
        return _view(call)  # an axis of size 1 that is not the batch
    return _viewed(call, x, *layout.flatten(x, start, end, call.imp.steps))


def _unflatten(call: Call) -> Value:
    x = call.value("self")
    depth = len(x.lead)
    if _dim(call, x) >= depth:
        return _viewed(call, x, x.lead, call.out[depth:])
    return _viewed(call, x, *layout.reshape(x, call.out, call.imp.steps))


def _permute(call: Call) -> Value:
    x = call.moved("self")
    rank = len(labels(x))
    return _permuted(call, x, tuple(a % rank for a in call.args["dims"]))


def _transpose(call: Call) -> Value:
    x = call.moved("self")
    rank = len(labels(x))
    order = list(range(rank))
    keys = [k for k in ("dim0", "dim1", "axis0", "axis1") if k in call.args]
    a, b = (call.args[k] % rank for k in keys)
    order[a], order[b] = order[b], order[a]
    return _permuted(call, x, tuple(order))


def _movedim(call: Call) -> Value:
    x = call.moved("self")
    rank = len(labels(x))
    source, target = (
        [n % rank for n in ([call.args[key]] if isinstance(call.args[key], int) else call.args[key])]
        for key in ("source", "destination")
    )
    rest = iter(a for a in range(rank) if a not in source)
    there = dict(zip(target, source, strict=True))
    return _permuted(call, x, tuple(there[i] if i in there else next(rest) for i in range(rank)))


def _permuted(call: Call, x: Value, order: tuple[int, ...]) -> Value:
    lead, axes = layout.permute(x, order)
    if axes == tuple(range(len(axes))):
        return replace(x, lead=lead, frame=None)
    return replace(call.put(Permute, x, axes=axes), lead=lead)


def _unsqueeze(call: Call) -> Value:
    x = call.value("self")
    axis = call.args["dim"] % (len(x.lead) + len(x.shape) + 1)
    return _viewed(call, x, *layout.insert(x, axis, call.imp.steps))


def _squeeze(call: Call) -> Value:
    x = call.value("self")
    given = call.args.get("dim", range(len(labels(x))))
    axes = tuple(a % len(labels(x)) for a in ([given] if isinstance(given, int) else given))
    return _viewed(call, x, *layout.remove(x, axes, call.imp.steps))


# ---- repetition ---------------------------------------------------------------------------------


def _repeat(call: Call) -> Value:
    x = call.value("self")
    return replace(x, lead=layout.repeat(x, tuple(call.args["repeats"]), call.imp.steps))


def _repeat_interleave(call: Call) -> Value:
    """At batch 1 the same as a repetition; only time may come of it."""
    x = call.value("self")
    if call.args.get("dim") is None:
        raise Unsupported("needs an axis")
    times = [1] * len(labels(x))
    times[_dim(call, x)] = int(call.args["repeats"])
    return replace(x, lead=layout.repeat(x, tuple(times), call.imp.steps))


def _expand(call: Call) -> Value:
    x = call.value("self")
    old = (1,) * (len(call.out) - len(labels(x))) + layout.full_shape(x, call.imp.steps)
    times = tuple(n // m for n, m in zip(call.out, old, strict=True))
    return replace(x, lead=layout.repeat(x, times, call.imp.steps))


# ---- parts --------------------------------------------------------------------------------------


def _getitem(call: Call) -> Value:
    """One of several results; of a decomposed layer only the first is no by-product."""
    found, index = call.args["self"], call.args["index"]
    if isinstance(found, list):
        part = found[index]
        assert isinstance(part, Value)
        return part
    if index != 0:
        raise Unsupported("reads a by-product of another operation", got=f"result {index}")
    return call.moved("self")


def _part(call: Call, x: Value, dim: int, start: int, stop: int, step: int = 1) -> Value:
    """Elements of one axis."""
    size = layout.full_shape(x, call.imp.steps)[dim]
    if (start, stop, step) == (0, size, 1):
        return x
    axis = feature_axis(x, dim)
    if axis is None:
        raise Unsupported("takes a part of the time axis", got=f"{start}:{stop}", hint=LOOP_HINT)
    part = call.put(Slice, x, axis=axis, start=start, stop=stop, step=step)
    if x.frame is None:
        return part
    cut = (slice(None),) * axis + (slice(start, stop, step),)
    return replace(part, frame=replace(x.frame, inner=None, border=x.frame.border[cut]))


def _bounds(call: Call, size: int) -> tuple[int, int, int]:
    return slice(plain(call, "start"), plain(call, "end"), int(plain(call, "step"))).indices(size)


def _slice(call: Call) -> Value:
    x = call.moved("self")
    dim = _dim(call, x)
    return _part(call, x, dim, *_bounds(call, layout.full_shape(x, call.imp.steps)[dim]))


def _narrow(call: Call) -> Value:
    x, start = call.moved("self"), int(plain(call, "start"))
    dim = _dim(call, x)
    start %= layout.full_shape(x, call.imp.steps)[dim]
    return _part(call, x, dim, start, start + int(plain(call, "length")))


def _without(call: Call, x: Value, dim: int) -> Value:
    """``x`` without an axis of size 1."""
    axes, axis = labels(x), feature_axis(x, dim)
    lead = lead_of(axes[:dim] + axes[dim + 1 :])
    if axis is None:
        return replace(x, lead=lead, frame=None)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return replace(call.put(Reshape, x, beside="reshape", shape=shape), lead=lead)


def _item(call: Call) -> Value:
    raise Unsupported("reads a number out of a tensor that depends on the data", hint="tensor operations")


def _select(call: Call) -> Value:
    x = call.moved("self")
    dim = _dim(call, x)
    size, label = layout.full_shape(x, call.imp.steps)[dim], labels(x)[dim]
    if label in ("B", "TB") or (label == "T" and call.imp.steps > 1):
        hint = LAST_HINT if label == "T" and call.args["index"] == -1 else LOOP_HINT
        raise Unsupported("takes one element of an axis", got=f"axis {dim}", hint=hint)
    index = int(plain(call, "index")) % size
    return _without(call, _part(call, x, dim, index, index + 1), dim)


def _split_at(call: Call, x: Value, dim: int, sizes: list[int]) -> list[Value]:
    ends = np.cumsum(sizes).tolist()
    return [_part(call, x, dim, end - n, end) for n, end in zip(sizes, ends, strict=True)]


def _split(call: Call) -> list[Value]:
    x = call.moved("self")
    dim = _dim(call, x)
    size = layout.full_shape(x, call.imp.steps)[dim]
    if "chunks" in call.args:
        given: Any = -(-size // int(call.args["chunks"]))
    else:
        given = call.args.get("split_sizes", call.args.get("split_size"))
    if isinstance(given, int):
        given = [min(given, size - start) for start in range(0, size, given)]
    return _split_at(call, x, dim, [int(n) for n in given])


def _unbind(call: Call) -> list[Value]:
    x = call.moved("self")
    dim = _dim(call, x)
    if feature_axis(x, dim) is None:
        raise Unsupported("takes single elements of an axis", got=f"axis {dim}", hint=LOOP_HINT)
    size = layout.full_shape(x, call.imp.steps)[dim]
    return [_without(call, part, dim) for part in _split_at(call, x, dim, [1] * size)]


# ---- joins --------------------------------------------------------------------------------------


def _same_every_step(call: Call, parts: list[Any]) -> Value | None:
    """The one value that all parts are, one a timestep, if it does not depend on time."""
    first = parts[0]
    if not isinstance(first, Value) or len(parts) != call.imp.steps:
        return None
    static = not {"T", "TB", "f"} & set(first.lead)
    return first if static and all(p is first or p == first for p in parts) else None


def _cat(call: Call) -> Value:
    parts = call.args["tensors"]
    rank = len(call.out)
    dim = call.args["dim"] % rank
    repeated = _same_every_step(call, parts)
    if repeated is not None and dim < len(repeated.lead):
        times = tuple(len(parts) if a == dim else 1 for a in range(rank))
        return replace(repeated, lead=layout.repeat(repeated, times, call.imp.steps))
    if len(parts) == 1:
        return settled(parts[0])
    values = [settled(p) for p in parts if isinstance(p, Value)]
    lead = next((v.lead for v in values if {"T", "TB"} & set(v.lead)), values[0].lead)
    if dim < len(lead) or any(len(v.lead) != len(lead) or v.reduced != values[0].reduced for v in values):
        raise Unsupported("joins values over time or batch", got=f"axis {dim}", hint=LOOP_HINT)
    if len(values) < len(parts):
        return _cat_constants(call, parts, dim - len(lead))
    return call.put(Concat, replace(values[0], lead=lead), *values[1:], axis=dim - len(lead))


def _cat_constants(call: Call, parts: list[Any], axis: int) -> Value:
    """One value between constants, as a class token before the patches."""
    values = [p for p in parts if isinstance(p, Value)]
    if len(values) > 1:
        raise Unsupported("joins several values and constants", got=f"{len(values)} values")
    (x,) = values
    shape = list(x.shape)
    sizes = [p.shape[axis] if p is x else p.shape[len(x.lead) + axis] for p in parts]
    shape[axis] = sum(sizes)
    border = np.full(shape, np.nan, np.float32)
    ends = np.cumsum(sizes)
    before = [0] * len(shape)
    for part, end, n in zip(parts, ends, sizes, strict=True):
        at = (slice(None),) * axis + (slice(end - n, end),)
        if part is x:
            before[axis] = int(end - n)
        else:
            like = Value(x.name, x.lead, tuple(n if a == axis else m for a, m in enumerate(x.shape)))
            border[at] = feature_constant(call, part, like).numpy()
    return _framed(call, x, tuple(before), border)


def _stack(call: Call) -> Value:
    parts = call.args["tensors"]
    dim = call.args["dim"] % len(call.out)
    repeated = _same_every_step(call, parts)
    if repeated is not None and dim < len(repeated.lead) + 1 and call.imp.steps > 1:
        lead = (*repeated.lead[:dim], "T", *repeated.lead[dim:])
        return replace(repeated, lead=lead)
    if len(parts) == 1:
        x = settled(parts[0])
        return _viewed(call, x, *layout.insert(x, dim, call.imp.steps))
    if not all(isinstance(p, Value) and dim >= len(p.lead) and "f" not in p.lead for p in parts):
        raise Unsupported("joins values over time or batch", got=f"axis {dim}", hint=LOOP_HINT)
    first = parts[0]
    axis = dim - len(first.lead)
    shape = (*first.shape[:axis], 1, *first.shape[axis:])
    flat = [call.put(Reshape, p, beside="reshape", shape=shape) for p in parts]
    lead = next((p.lead for p in parts if {"T", "TB"} & set(p.lead)), first.lead)
    return call.put(Concat, replace(flat[0], lead=lead), *flat[1:], axis=axis)


# ---- padding, and constants written into a value --------------------------------------------------


def _framed(call: Call, inner: Value, before: tuple[int, ...], border: NDArray[np.float32]) -> Value:
    """Data with constants around them: a pad, and a constant sum where one pad value is not enough."""
    shape = border.shape
    after = tuple(m - b - n for m, b, n in zip(shape, before, inner.shape, strict=True))
    value = _pad_value(border, before, after)
    if value is not None:
        padded = call.put(Pad, inner, before=before, after=after, value=value)
    else:
        zeros = call.put(Pad, inner, beside="pad", before=before, after=after)
        rest = Const(np.nan_to_num(border, nan=0.0))
        padded = call.put(AddConst, zeros, value=rest)
    return replace(padded, frame=Frame(inner, before, border))


def _pad_value(
    border: np.ndarray[Any, Any], before: tuple[int, ...], after: tuple[int, ...]
) -> Number | None:
    """One number, or one per channel, if the border is no more than that."""
    known = border[~np.isnan(border)]
    if known.size == 0 or (known == known[0]).all():
        return float(known[0]) if known.size else 0.0
    if before[0] or after[0]:
        return None
    flat = border.reshape(border.shape[0], -1)
    highest, lowest = np.nanmax(flat, axis=1), np.nanmin(flat, axis=1)
    return Const(highest) if (highest == lowest).all() else None


def _pad(call: Call) -> Value:
    x, given = call.value("self"), [int(n) for n in call.args["pad"]]
    mode = call.args.get("mode", "constant")
    if mode != "constant":
        raise Unsupported("pads with values of its own", got=mode, limit="constant")
    if min(given, default=0) < 0:
        raise Unsupported("pads by a negative amount", got=given, hint="a slice")
    sides = list(zip(given[0::2], given[1::2], strict=True))[::-1]
    if len(sides) > len(x.shape) and any(a or b for a, b in sides[: len(sides) - len(x.shape)]):
        raise Unsupported("pads time or batch", got=given)
    sides = sides[-len(x.shape) :] if x.shape else []
    sides = [(0, 0)] * (len(x.shape) - len(sides)) + sides
    if not any(a or b for a, b in sides):
        return x
    border = np.full(
        [n + a + b for n, (a, b) in zip(x.shape, sides, strict=True)],
        call.args.get("value") or 0.0,
        np.float32,
    )
    border[tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, sides, strict=True))] = np.nan
    return _framed(call, x, tuple(b for b, _ in sides), border)


def _copy(call: Call) -> Value | Tensor:
    """What a functional copy delivers: its source, of the shape of its target."""
    target, source = call.args["self"], call.args["src"]
    if isinstance(source, Tensor):
        return source.expand(call.out)
    if isinstance(source, Value) and (not isinstance(target, Value) or source.shape == target.shape):
        return source
    raise Unsupported("writes into a part of a value")


def _fill(call: Call) -> Tensor:
    return torch.full(call.out, float(call.args["value"]))


def _slice_scatter(call: Call) -> Value | Tensor:
    """A part of a value overwritten; allowed where the part is known to be constant."""
    target, source = call.args["self"], call.args["src"]
    like = target if isinstance(target, Value) else source
    if not isinstance(like, Value) or "f" in like.lead:
        raise Unsupported("writes into a part of a value")
    dim = call.args["dim"] % len(call.out)
    depth = len(like.lead)
    start, stop, step = _bounds(call, call.out[dim])
    if (start, stop, step) == (0, call.out[dim], 1) and isinstance(source, Value):
        return source
    if dim < depth:
        raise Unsupported("writes single timesteps", hint=LOOP_HINT)
    at = (slice(None),) * (dim - depth) + (slice(start, stop, step),)
    if isinstance(target, Value):
        return _overwritten(call, target, source, at)
    return _placed(call, target, settled(source), at, call.out[depth:])


def _overwritten(call: Call, target: Value, source: object, at: tuple[slice, ...]) -> Value | Tensor:
    frame = target.frame
    if frame is None or np.isnan(frame.border[at]).any():
        raise Unsupported("writes over data", hint="padding, or a sum")
    border = frame.border.copy()
    if isinstance(source, Tensor):
        part = Value(target.name, target.lead, border[at].shape)
        border[at] = feature_constant(call, source, part).numpy()
    elif isinstance(source, Value) and source.frame is not None and not np.isnan(source.frame.border).any():
        border[at] = source.frame.border
    else:
        raise Unsupported("writes one value into another", hint="concatenation")
    if not np.isnan(border).any():
        return torch.from_numpy(border).expand(call.out)
    if frame.inner is None:
        raise Unsupported("writes into a part of a part", hint="padding, or a sum")
    return _framed(call, frame.inner, frame.before, border)


def _placed(
    call: Call, target: Tensor, source: Value, at: tuple[slice, ...], shape: tuple[int, ...]
) -> Value:
    """A value written into a constant."""
    if at[-1].step != 1:
        raise Unsupported("writes with a step", got=at[-1].step)
    like = Value(source.name, source.lead, shape)
    border = np.broadcast_to(feature_constant(call, target, like).numpy(), shape).astype(np.float32)
    offset = tuple(int(s.start or 0) for s in at) + (0,) * (len(shape) - len(at))
    inner = source
    if source.frame is not None and source.frame.inner is not None:
        inner = source.frame.inner
        border[at] = source.frame.border
        offset = tuple(a + b for a, b in zip(offset, source.frame.before, strict=True))
    else:
        border[at] = np.nan
    return _framed(call, inner, offset, border)


MOVES: dict[str, Handler] = {
    "view": _view,
    "reshape": _view,
    "_unsafe_view": _view,
    "flatten": _flatten,
    "unflatten": _unflatten,
    "permute": _permute,
    "movedim": _movedim,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "swapdims": _transpose,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "repeat": _repeat,
    "repeat_interleave": _repeat_interleave,
    "expand": _expand,
    "getitem": _getitem,
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    "item": _item,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "unbind": _unbind,
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "copy": _copy,
    "fill": _fill,
    "slice_scatter": _slice_scatter,
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
    "lift_fresh_copy": _identity,
    "to": _cast,
    "_to_copy": _cast,
    "dropout": _dropout,
    "feature_dropout": _dropout,
}
