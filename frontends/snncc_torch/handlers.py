"""What each ATen operation becomes in the IR. One small function each, and one table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snncc.ir import Add, AvgPool2d, BatchNorm, Const, Conv2d, Linear, Mean, OverTime, Permute, Reshape, Scale
from snncc_torch import layout
from snncc_torch.aten import Call, Handler, SiteCall, float_const
from snncc_torch.layout import Unsupported, Value

LOOP_HINT = "multi-step neurons that take [T, B, ...] in place of a Python loop over time"


def _pair(value: Any) -> tuple[int, int]:
    items = [value] * 2 if isinstance(value, int) else list(value)
    return (int(items[0]), int(items[-1]))


def _per_step(call: Call, x: Value, axes: int) -> None:
    """Layers that count axes from the front need one leading axis and ``axes`` feature axes."""
    if len(x.lead) != 1 or len(x.shape) != axes:
        raise Unsupported(
            "needs one leading axis (batch, or time and batch flattened)",
            got=[*x.lead, *x.shape],
            hint="flatten(0, 1) before the layer, or snncc_torch.nn.PerStep",
        )


def _affine(x: Value, constant: bool) -> None:
    """A layer behind the reduction over time must commute with it."""
    if x.reduced is OverTime.SUM and constant:
        raise Unsupported(
            "adds a constant behind the sum over time", hint="a mean over time, or the sum last"
        )


# ---- layers with parameters -------------------------------------------------------------------


def _linear(call: Call) -> Value:
    x, weight, bias = call.value("input"), call.const("weight"), call.const("bias")
    assert weight is not None
    _affine(x, bias is not None)
    node = Linear(name=call.new_name(), inputs=(x.name,), source=call.path, weight=weight, bias=bias)
    return replace(x, name=call.imp.emit(node), shape=(*x.shape[:-1], weight.shape[0]))


def _same_padding(
    kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(n % 2 for n in total):
        raise Unsupported(
            "padding 'same' is asymmetric here", got=f"kernel {list(kernel)}", limit="odd kernels"
        )
    return total[0] // 2, total[1] // 2


def _conv2d(call: Call) -> Value:
    x, weight, bias = call.value("input"), call.const("weight"), call.const("bias")
    assert weight is not None
    _per_step(call, x, 3)
    _affine(x, bias is not None)
    stride, dilation, padding = _pair(call.args["stride"]), _pair(call.args["dilation"]), call.args["padding"]
    if padding == "same":
        padding = _same_padding(weight.shape[2:], stride, dilation)
    padding = (0, 0) if padding == "valid" else _pair(padding)
    node = Conv2d(
        name=call.new_name(), inputs=(x.name,), source=call.path, weight=weight, bias=bias, stride=stride,
        padding=padding, dilation=dilation, groups=int(call.args["groups"]),
    )  # fmt: skip
    return replace(x, name=call.imp.emit(node), shape=call.out[1:])


def _batch_norm(call: Call) -> Value:
    x = call.value("input")
    if call.args.get("training", False):
        raise Unsupported(
            "normalises by the statistics of the batch", hint="track_running_stats=True and eval()"
        )
    _per_step(call, x, max(1, len(x.shape)))
    _affine(x, True)
    mean, var = call.const("running_mean"), call.const("running_var")
    if mean is None or var is None:
        raise Unsupported("has no running statistics", hint="track_running_stats=True")
    gamma = call.const("weight") or float_const(torch.ones(mean.shape))
    beta = call.const("bias") or float_const(torch.zeros(mean.shape))
    node = BatchNorm(
        name=call.new_name(), inputs=(x.name,), source=call.path, gamma=gamma, beta=beta, mean=mean, var=var,
        eps=float(call.args["eps"]),
    )  # fmt: skip
    return replace(x, name=call.imp.emit(node))


# ---- arithmetic -------------------------------------------------------------------------------


def _channel_factor(constant: Tensor, x: Value) -> float | Const:
    """A constant factor as one number or per channel; ``constant`` broadcasts against ``x``."""
    if constant.numel() == 1:
        return float(constant)
    rank = len(x.lead) + len(x.shape)
    shape = (1,) * (rank - constant.dim()) + tuple(constant.shape)
    axis = len(x.lead)
    ok = all(n == 1 or a == axis for a, n in enumerate(shape))
    if not ok or not x.shape or shape[axis] != x.shape[0]:
        raise Unsupported("constant must be one number or one per channel", got=list(constant.shape))
    return float_const(constant.reshape(-1))


def _scaled(call: Call, x: Value, factor: float | Const) -> Value:
    if factor == 1.0:
        return x
    node = Scale(name=call.new_name(), inputs=(x.name,), source=call.path, factor=factor)
    return replace(x, name=call.imp.emit(node))


def _mul(call: Call) -> Value:
    a, b = call.args["self"], call.args["other"]
    if isinstance(a, Value) and isinstance(b, Value):
        raise Unsupported("multiplies two values that depend on the input")
    x, other = (a, b) if isinstance(a, Value) else (b, a)
    return _scaled(call, x, _channel_factor(torch.as_tensor(other), x))


def _div(call: Call) -> Value:
    if call.args.get("rounding_mode") is not None:
        raise Unsupported("rounds", got=call.args["rounding_mode"])
    x, other = call.value("self"), call.args["other"]
    if isinstance(other, Value):
        raise Unsupported("divides by a value that depends on the input")
    return _scaled(call, x, _channel_factor(1.0 / torch.as_tensor(other, dtype=torch.float64), x))


def _neg(call: Call) -> Value:
    return _scaled(call, call.value("self"), -1.0)


def _sum_of(call: Call, sign: float) -> Value:
    a, b = call.args["self"], call.args["other"]
    if not (isinstance(a, Value) and isinstance(b, Value)):
        raise Unsupported("adds a constant", hint="a bias of the layer before it")
    b = _scaled(call, b, sign * float(call.args.get("alpha", 1)))
    if a.shape != b.shape or a.reduced is not b.reduced:
        raise Unsupported("operands differ in shape", got=f"{list(a.shape)} and {list(b.shape)}")
    if len(a.lead) != len(b.lead):
        raise Unsupported("operands differ in their leading axes", got=f"{a.lead} and {b.lead}")
    lead = a.lead if "T" in a.lead or "TB" in a.lead else b.lead
    node = Add(name=call.new_name(), inputs=(a.name, b.name), source=call.path)
    return replace(a, name=call.imp.emit(node), lead=lead)


def _add(call: Call) -> Value:
    return _sum_of(call, 1.0)


def _sub(call: Call) -> Value:
    return _sum_of(call, -1.0)


# ---- pooling and means ------------------------------------------------------------------------


def _pooled(
    call: Call, x: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Value:
    if kernel == (1, 1) and stride == (1, 1):
        return x
    node = AvgPool2d(
        name=call.new_name(),
        inputs=(x.name,),
        source=call.path,
        kernel=kernel,
        stride=stride,
        padding=padding,
    )
    return replace(x, name=call.imp.emit(node), shape=call.out[1:])


def _avg_pool2d(call: Call) -> Value:
    x = call.value("self")
    _per_step(call, x, 3)
    kernel, padding = _pair(call.args["kernel_size"]), _pair(call.args["padding"])
    stride = _pair(call.args["stride"] or kernel)
    floor = tuple(
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:], padding, kernel, stride, strict=True)
    )
    if floor != call.out[2:]:
        raise Unsupported(
            "ceil_mode adds partial windows", got=call.out[2:], limit=floor, hint="ceil_mode=False"
        )
    if any(padding) and not call.args["count_include_pad"]:
        raise Unsupported("count_include_pad=False", hint="count_include_pad=True")
    if call.args["divisor_override"] not in (None, kernel[0] * kernel[1]):
        raise Unsupported("divisor_override", got=call.args["divisor_override"], limit=kernel[0] * kernel[1])
    return _pooled(call, x, kernel, stride, padding)


def _adaptive_avg_pool2d(call: Call) -> Value:
    x = call.value("self")
    _per_step(call, x, 3)
    size, out = x.shape[1:], call.out[2:]
    if any(n % m for n, m in zip(size, out, strict=True)):
        raise Unsupported(
            "windows are uneven", got=f"{list(size)} to {list(out)}", limit="sizes that divide evenly"
        )
    kernel = (size[0] // out[0], size[1] // out[1])
    return _pooled(call, x, kernel, kernel, (0, 0))


def _axes(call: Call, x: Value, key: str = "dim") -> tuple[int, ...]:
    rank = len(x.lead) + len(x.shape)
    given = call.args[key]
    if given is None:
        return tuple(range(rank))
    return tuple(sorted(a % rank for a in ([given] if isinstance(given, int) else given)))


def _over_time(call: Call, x: Value, axis: int, how: OverTime) -> Value:
    if x.reduced is not OverTime.NONE:
        raise Unsupported("second reduction over time")
    kept = ("1",) if call.args.get("keepdim") else ()
    return replace(x, lead=(*x.lead[:axis], *kept, *x.lead[axis + 1 :]), reduced=how)


def _mean(call: Call) -> Value:
    x = call.value("self")
    axes, depth = _axes(call, x), len(x.lead)
    if len(axes) == 1 and axes[0] < depth and x.lead[axes[0]] == "T":
        return _over_time(call, x, axes[0], OverTime.MEAN)
    if len(x.shape) == 2 and axes == (depth + 1,) and not call.args.get("keepdim"):
        flat = Reshape(
            name=call.imp.name(call.path, "reshape", False),
            inputs=(x.name,),
            source=call.path,
            shape=(*x.shape, 1),
        )
        x = replace(x, name=call.imp.emit(flat), shape=(*x.shape, 1))
        axes = (depth + 1, depth + 2)
    if len(x.shape) != 3 or axes != (depth + 1, depth + 2):
        raise Unsupported("is not over time, nor over both spatial axes", got=call.args["dim"])
    keep = bool(call.args.get("keepdim"))
    node = Mean(name=call.new_name(), inputs=(x.name,), source=call.path, keepdim=keep)
    return replace(x, name=call.imp.emit(node), shape=(x.shape[0], 1, 1) if keep else x.shape[:1])


def _sum(call: Call) -> Value:
    x = call.value("self")
    axes = _axes(call, x)
    if len(axes) == 1 and axes[0] < len(x.lead) and x.lead[axes[0]] == "T":
        return _over_time(call, x, axes[0], OverTime.SUM)
    raise Unsupported("is not over time", got=call.args["dim"])


# ---- views ------------------------------------------------------------------------------------


def _viewed(call: Call, x: Value, lead: tuple[str, ...], shape: tuple[int, ...]) -> Value:
    """``x`` with other labels, and with a reshape node only where the features change."""
    if shape == x.shape:
        return replace(x, lead=lead)
    node = Reshape(name=call.new_name(), inputs=(x.name,), source=call.path, shape=shape)
    return replace(x, name=call.imp.emit(node), lead=lead, shape=shape)


def _identity(call: Call) -> Value:
    return call.value("self")


def _cast(call: Call) -> Value:
    """A cast to float32 changes nothing; any other would round."""
    dtype = call.args.get("dtype")
    if dtype not in (None, torch.float32):
        raise Unsupported("casts to another type", got=dtype, limit="float32")
    return call.value("self")


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
    return _viewed(call, x, *layout.flatten(x, start, end, call.imp.steps))


def _unflatten(call: Call) -> Value:
    x = call.value("self")
    dim, depth = call.args["dim"] % (len(x.lead) + len(x.shape)), len(x.lead)
    if dim >= depth:
        count = len(call.out) - depth
        return _viewed(call, x, x.lead, call.out[-count:] if count else ())
    return _viewed(call, x, *layout.reshape(x, call.out, call.imp.steps))


def _permute(call: Call) -> Value:
    x = call.value("self")
    rank = len(x.lead) + len(x.shape)
    return _permuted(call, x, tuple(a % rank for a in call.args["dims"]))


def _transpose(call: Call) -> Value:
    x = call.value("self")
    rank = len(x.lead) + len(x.shape)
    order = list(range(rank))
    a, b = call.args["dim0"] % rank, call.args["dim1"] % rank
    order[a], order[b] = order[b], order[a]
    return _permuted(call, x, tuple(order))


def _permuted(call: Call, x: Value, order: tuple[int, ...]) -> Value:
    lead, axes = layout.permute(x, order)
    if axes == tuple(range(len(axes))):
        return replace(x, lead=lead)
    node = Permute(name=call.new_name(), inputs=(x.name,), source=call.path, axes=axes)
    return replace(x, name=call.imp.emit(node), lead=lead, shape=tuple(x.shape[a] for a in axes))


def _unsqueeze(call: Call) -> Value:
    x = call.value("self")
    axis = call.args["dim"] % (len(x.lead) + len(x.shape) + 1)
    return _viewed(call, x, *layout.insert(x, axis, call.imp.steps))


def _squeeze(call: Call) -> Value:
    x = call.value("self")
    rank = len(x.lead) + len(x.shape)
    axes = _axes(call, x) if "dim" in call.args else tuple(range(rank))
    return _viewed(call, x, *layout.remove(x, axes, call.imp.steps))


def _repeat(call: Call) -> Value:
    x = call.value("self")
    return replace(x, lead=layout.repeat(x, tuple(call.args["repeats"]), call.imp.steps))


def _expand(call: Call) -> Value:
    x = call.value("self")
    old = (
        (1,) * (len(call.out) - len(x.lead) - len(x.shape))
        + layout.lead_sizes(x.lead, call.imp.steps)
        + x.shape
    )
    times = tuple(n // m for n, m in zip(call.out, old, strict=True))
    return replace(x, lead=layout.repeat(x, times, call.imp.steps))


def _getitem(call: Call) -> Value:
    """The first of a decomposed batch norm's three results."""
    if call.args["index"] != 0:
        raise Unsupported("reads a by-product of another operation", got=f"result {call.args['index']}")
    return call.value("self")


def _select(call: Call) -> Value:
    x = call.value("self")
    dim = call.args["dim"] % (len(x.lead) + len(x.shape))
    if dim < len(x.lead) and x.lead[dim] == "T" and call.imp.steps == 1:
        return replace(x, lead=(*x.lead[:dim], *x.lead[dim + 1 :]))
    hint = LOOP_HINT if dim < len(x.lead) else None
    raise Unsupported("takes one element of an axis", got=f"axis {dim}", hint=hint)


# ---- neurons ----------------------------------------------------------------------------------


def _neuron(call: Call) -> Value:
    x, site = call.value("x"), call.imp.sites[call.args["site"]]
    steps = call.imp.steps
    if x.reduced is not OverTime.NONE:
        raise Unsupported("a neuron behind the reduction over time")
    if site.time == "multi" and steps > 1 and x.lead not in (("T", "B"), ("TB",)):
        raise Unsupported("a multi-step neuron needs [T, B, ...]", got=[*x.lead, *x.shape])
    if site.time == "multi" and x.lead != ("T", "B"):
        call.imp.notes.append(
            f"{site.path}: time reaches this multi-step neuron through the batch axis; right at batch 1 only"
        )
    if site.time == "single" and steps > 1:
        raise Unsupported("a single-step neuron gets all timesteps as a batch", got=[*x.lead], hint=LOOP_HINT)
    if site.time != "none" and any(c.path == site.path for c in call.imp.calls):
        raise Unsupported("a neuron with state is called twice in one pass", hint=LOOP_HINT)
    name = call.imp.name(site.path, "neuron", True)
    node = replace(site.neuron, name=name, inputs=(x.name,), source=site.path)
    call.imp.calls.append(SiteCall(site.path, name))
    return replace(x, name=call.imp.emit(node))


HANDLERS: dict[str, Handler] = {
    "linear": _linear,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "getitem": _getitem,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "sum": _sum,
    "view": _view,
    "reshape": _view,
    "_unsafe_view": _view,
    "flatten": _flatten,
    "unflatten": _unflatten,
    "permute": _permute,
    "transpose": _transpose,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "repeat": _repeat,
    "expand": _expand,
    "select": _select,
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
    "lift_fresh_copy": _identity,
    "to": _cast,
    "_to_copy": _cast,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "neuron": _neuron,
}
