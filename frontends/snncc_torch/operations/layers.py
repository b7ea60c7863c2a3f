"""Handlers of layers: convolutions, normalisation, pooling, upsampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from snncc.ir import (
    AvgPool2d,
    BatchNorm,
    CentreGate,
    Conv2d,
    ConvTranspose2d,
    Function,
    LayerNorm,
    Linear,
    MaxPool2d,
    Op,
    OverTime,
    Reshape,
    Upsample,
)
from snncc.ir.sites import sites_const
from snncc_torch.operations.aten import Call, Handler, float_const
from snncc_torch.operations.layout import Unsupported, Value, relabelled

Pair = tuple[int, int]


def _pair(value: Any) -> Pair:
    items = [value] * 2 if isinstance(value, int) else list(value)
    return (int(items[0]), int(items[-1]))


def reshaped(call: Call, x: Value, shape: tuple[int, ...]) -> Value:
    """``x`` with other features, through a node beside the operation's own."""
    return x if shape == x.shape else call.put(Reshape, x, beside="reshape", shape=shape)


def arranged(call: Call, x: Value, rank: int) -> Value:
    """``x`` with one leading axis and ``rank`` feature axes, as layers want it that count from the front."""
    found = relabelled(x, 1, call.imp.steps)
    if found is None or len(found.shape) != rank:
        raise Unsupported(
            "needs one leading axis (batch, or time and batch flattened)",
            got=[*x.lead, *x.shape],
            hint="flatten(0, 1) before the layer, or snncc_torch.nn.PerStep",
        )
    return replace(reshaped(call, x, found.shape), lead=found.lead)


def affine(x: Value, constant: bool) -> None:
    """A layer behind the reduction over time must commute with it."""
    if x.reduced is OverTime.SUM and constant:
        raise Unsupported(
            "adds a constant behind the sum over time", hint="a mean over time, or the sum last"
        )


def linear_in_time(x: Value) -> None:
    """Raise for an operation that does not commute with the reduction over time before it."""
    if x.reduced is not OverTime.NONE:
        raise Unsupported(
            "is not linear and stands behind the reduction over time", hint="the reduction last"
        )


# ---- weights ------------------------------------------------------------------------------------


def _linear(call: Call) -> Value:
    x, weight, bias = call.value("input"), call.const("weight"), call.const("bias")
    affine(x, bias is not None)
    return call.put(Linear, x, weight=weight, bias=bias)


def _same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(n % 2 for n in total):
        raise Unsupported(
            "padding 'same' is asymmetric here", got=f"kernel {list(kernel)}", limit="odd kernels"
        )
    return [n // 2 for n in total]


def _conv2d(call: Call) -> Value:
    x = arranged(call, call.value("input"), 3)
    weight, bias = call.const("weight"), call.const("bias")
    assert weight is not None
    affine(x, bias is not None)
    dilation, padding = _pair(call.args["dilation"]), call.args["padding"]
    if padding == "same":
        padding = _same_padding(weight.shape[2:], dilation)
    padding = (0, 0) if padding == "valid" else _pair(padding)
    return call.put(
        Conv2d, x, weight=weight, bias=bias, stride=_pair(call.args["stride"]), padding=padding,
        dilation=dilation, groups=int(call.args["groups"]),
    )  # fmt: skip


def _conv1d(call: Call) -> Value:
    """A convolution of height 1: the IR has no other kind for it."""
    x = arranged(call, call.value("input"), 2)
    weight, bias = call.args["weight"], call.const("bias")
    affine(x, bias is not None)
    dilation, padding = (int(call.args["dilation"][0]),), call.args["padding"]
    if padding == "same":
        padding = _same_padding(tuple(weight.shape[2:]), dilation)
    flat = reshaped(call, x, (x.shape[0], 1, x.shape[1]))
    y = call.put(
        Conv2d, flat, weight=float_const(weight.unsqueeze(2)), bias=bias, groups=int(call.args["groups"]),
        stride=(1, int(call.args["stride"][0])), padding=(0, 0 if padding == "valid" else int(padding[0])),
        dilation=(1, dilation[0]),
    )  # fmt: skip
    return reshaped(call, y, (y.shape[0], y.shape[2]))


def _conv_transpose2d(call: Call) -> Value:
    x = arranged(call, call.value("input"), 3)
    bias = call.const("bias")
    affine(x, bias is not None)
    return call.put(
        ConvTranspose2d, x, weight=call.const("weight"), bias=bias, groups=int(call.args["groups"]),
        stride=_pair(call.args["stride"]), padding=_pair(call.args["padding"]),
        output_padding=_pair(call.args["output_padding"]), dilation=_pair(call.args["dilation"]),
    )  # fmt: skip


def _centre_gate(call: Call) -> Value:
    """The gate of a spike sparse convolution, which the spikes open that the convolution reads."""
    x, spikes = (arranged(call, call.value(key), 3) for key in ("x", "spikes"))
    linear_in_time(x)
    sites = sites_const(call.args["sites"].cpu().numpy() != 0)
    stride, offset = _pair(call.args["stride"]), _pair(call.args["offset"])
    return call.put(CentreGate, x, spikes, sites=sites, stride=stride, offset=offset)


# ---- normalisation and real functions ------------------------------------------------------------


def _batch_norm(call: Call) -> Value:
    if call.args.get("training", False):
        raise Unsupported(
            "normalises by the statistics of the batch", hint="track_running_stats=True and eval()"
        )
    mean, var = call.const("running_mean"), call.const("running_var")
    if mean is None or var is None:
        raise Unsupported("has no running statistics", hint="track_running_stats=True")
    x = call.value("input")
    x = arranged(call, x, max(1, len(x.lead) + len(x.shape) - 1))
    affine(x, True)
    gamma = call.const("weight") or float_const(torch.ones(mean.shape))
    beta = call.const("bias") or float_const(torch.zeros(mean.shape))
    return call.put(BatchNorm, x, gamma=gamma, beta=beta, mean=mean, var=var, eps=float(call.args["eps"]))


def _layer_norm(call: Call) -> Value:
    x, shape = call.value("input"), tuple(call.args["normalized_shape"])
    linear_in_time(x)
    gamma = call.const("weight") or float_const(torch.ones(shape))
    beta = call.const("bias") or float_const(torch.zeros(shape))
    return call.put(LayerNorm, x, gamma=gamma, beta=beta, eps=float(call.args["eps"]))


def _function(op: Op) -> Handler:
    def handle(call: Call) -> Value:
        x = call.value("self")
        linear_in_time(x)
        if call.args.get("approximate", "none") != "none":
            raise Unsupported("is approximated", got=call.args["approximate"], limit="none")
        axis = call.args["dim"] % len(call.out) - len(call.out) if op is Op.SOFTMAX else -1
        if op is Op.SOFTMAX and -axis > len(x.shape):
            raise Unsupported("is not over features", got=call.args["dim"])
        return call.put(Function, x, op=op, axis=axis)

    return handle


# ---- pooling ------------------------------------------------------------------------------------


def _whole_windows(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
    """Refuse what ``ceil_mode`` adds."""
    floor = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, k, s, d in zip(x.shape[1:], padding, kernel, stride, dilation, strict=True)
    )
    if floor != call.out[-2:]:
        raise Unsupported(
            "ceil_mode adds partial windows", got=call.out[-2:], limit=floor, hint="ceil_mode=False"
        )


def _avg_pooled(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair) -> Value:
    if kernel == (1, 1) and stride == (1, 1):
        return x
    return call.put(AvgPool2d, x, kernel=kernel, stride=stride, padding=padding)


def _avg_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel, padding = _pair(call.args["kernel_size"]), _pair(call.args["padding"])
    stride = _pair(call.args["stride"] or kernel)
    _whole_windows(call, x, kernel, stride, padding, (1, 1))
    if any(padding) and not call.args["count_include_pad"]:
        raise Unsupported("count_include_pad=False", hint="count_include_pad=True")
    if call.args["divisor_override"] not in (None, kernel[0] * kernel[1]):
        raise Unsupported("divisor_override", got=call.args["divisor_override"], limit=kernel[0] * kernel[1])
    return _avg_pooled(call, x, kernel, stride, padding)


def _avg_pool1d(call: Call) -> Value:
    """Over a map of height 1, as one-dimensional convolutions are."""
    x = arranged(call, call.value("self"), 2)
    (kernel,), (padding,) = call.args["kernel_size"], call.args["padding"]
    (stride,) = call.args["stride"] or [kernel]
    args = {
        "kernel_size": [1, kernel],
        "stride": [1, stride],
        "padding": [0, padding],
        "divisor_override": None,
    }
    flat = reshaped(call, x, (x.shape[0], 1, x.shape[1]))
    out = (*call.out[:-1], 1, call.out[-1])
    y = _avg_pool2d(replace(call, args={**call.args, "self": flat, **args}, out=out))
    return reshaped(call, y, (y.shape[0], y.shape[2]))


def _max_pooled(call: Call, x: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Value:
    linear_in_time(x)
    _whole_windows(call, x, kernel, stride, padding, dilation)
    return call.put(MaxPool2d, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def _max_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel = _pair(call.args["kernel_size"])
    stride = _pair(call.args["stride"] or kernel)
    return _max_pooled(call, x, kernel, stride, _pair(call.args["padding"]), _pair(call.args["dilation"]))


def _planes(call: Call, idle: tuple[tuple[Any, int], ...]) -> Value:
    """[T, B, C, H, W] given to a 3-D layer that leaves its first axis (here the channels) alone."""
    x = call.value("self")
    found = relabelled(x, 2, call.imp.steps)
    if found is None or len(found.shape) != 3 or any(int(n) != m for n, m in idle):
        raise Unsupported("works on three axes", got=[*x.lead, *x.shape])
    return replace(reshaped(call, x, found.shape), lead=found.lead)


def _max_pool3d(call: Call) -> Value:
    args = {
        key: [call.args[key]] * 3 if isinstance(call.args[key], int) else list(call.args[key])
        for key in ("kernel_size", "stride", "padding", "dilation")
    }
    kernel = args["kernel_size"]
    stride, padding, dilation = args["stride"] or kernel, args["padding"], args["dilation"]
    padding, dilation = ([n[0]] * 3 if len(n) == 1 else n for n in (padding, dilation))
    x = _planes(call, ((kernel[0], 1), (stride[0], 1), (padding[0], 0)))
    return _max_pooled(call, x, _pair(kernel[1:]), _pair(stride[1:]), _pair(padding[1:]), _pair(dilation[1:]))


def _even_windows(call: Call, x: Value) -> Pair:
    """Kernel of an adaptive pool."""
    size, out = x.shape[1:], call.out[-2:]
    if any(n % m for n, m in zip(size, out, strict=True)):
        raise Unsupported(
            "windows are uneven", got=f"{list(size)} to {list(out)}", limit="sizes that divide evenly"
        )
    return size[0] // out[0], size[1] // out[1]


def _adaptive_avg_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel = _even_windows(call, x)
    return _avg_pooled(call, x, kernel, kernel, (0, 0))


def _adaptive_max_pool2d(call: Call) -> Value:
    x = arranged(call, call.value("self"), 3)
    kernel = _even_windows(call, x)
    return _max_pooled(call, x, kernel, kernel, (0, 0), (1, 1))


def _upsampled(call: Call, x: Value) -> Value:
    size, out = x.shape[1:], call.out[-2:]
    if any(m % n for n, m in zip(size, out, strict=True)):
        raise Unsupported("scales by no whole factor", got=f"{list(size)} to {list(out)}")
    return call.put(Upsample, x, factor=(out[0] // size[0], out[1] // size[1]))


def _upsample2d(call: Call) -> Value:
    x = call.args.get("input", call.args.get("self"))
    call = replace(call, args={**call.args, "self": x})
    return _upsampled(call, arranged(call, call.value("self"), 3))


def _upsample3d(call: Call) -> Value:
    x = call.args.get("input", call.args.get("self"))
    call = replace(call, args={**call.args, "self": x})
    planes = _planes(call, ())
    if call.out[-3] != planes.shape[0]:
        raise Unsupported("works on three axes", got=[*planes.lead, *planes.shape])
    return _upsampled(call, planes)


LAYERS: dict[str, Handler] = {
    "linear": _linear,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "centre_gate": _centre_gate,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _layer_norm,
    "native_layer_norm": _layer_norm,
    "relu": _function(Op.RELU),
    "sigmoid": _function(Op.SIGMOID),
    "tanh": _function(Op.TANH),
    "silu": _function(Op.SILU),
    "gelu": _function(Op.GELU),
    "softmax": _function(Op.SOFTMAX),
    "_softmax": _function(Op.SOFTMAX),
    "avg_pool1d": _avg_pool1d,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "max_pool3d": _max_pool3d,
    "max_pool3d_with_indices": _max_pool3d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "upsample_nearest2d": _upsample2d,
    "_upsample_nearest_exact2d": _upsample2d,
    "upsample_nearest3d": _upsample3d,
    "_upsample_nearest_exact3d": _upsample3d,
}
