"""Handlers of layers: convolutions, normalisation, upsampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from snncc.ir import (
    BatchNorm,
    CentreGate,
    Conv2d,
    ConvTranspose2d,
    Function,
    LayerNorm,
    Linear,
    Op,
    OverTime,
    Reshape,
    Upsample,
)
from snncc.ir.node import Pair
from snncc.ir.sites import sites_const
from snncc_torch.operations.aten import Call, Handler, float_const
from snncc_torch.operations.layout import Unsupported, Value, relabelled


def pair(value: Any) -> Pair:
    """An argument of one or two numbers, vertical and horizontal."""
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


def planes(call: Call, idle: tuple[tuple[Any, int], ...]) -> Value:
    """[T, B, C, H, W] given to a 3-D layer that leaves its first axis (here the channels) alone."""
    x = call.value("self")
    found = relabelled(x, 2, call.imp.steps)
    if found is None or len(found.shape) != 3 or any(int(n) != m for n, m in idle):
        raise Unsupported("works on three axes", got=[*x.lead, *x.shape])
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
    dilation, padding = pair(call.args["dilation"]), call.args["padding"]
    if padding == "same":
        padding = _same_padding(weight.shape[2:], dilation)
    padding = (0, 0) if padding == "valid" else pair(padding)
    return call.put(
        Conv2d, x, weight=weight, bias=bias, stride=pair(call.args["stride"]), padding=padding,
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
        stride=pair(call.args["stride"]), padding=pair(call.args["padding"]),
        output_padding=pair(call.args["output_padding"]), dilation=pair(call.args["dilation"]),
    )  # fmt: skip


def _centre_gate(call: Call) -> Value:
    """The gate of a spike sparse convolution, which the spikes open that the convolution reads."""
    x, spikes = (arranged(call, call.value(key), 3) for key in ("x", "spikes"))
    linear_in_time(x)
    sites = sites_const(call.args["sites"].cpu().numpy() != 0)
    stride, offset = pair(call.args["stride"]), pair(call.args["offset"])
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


# ---- upsampling ---------------------------------------------------------------------------------


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
    x = planes(call, ())
    if call.out[-3] != x.shape[0]:
        raise Unsupported("works on three axes", got=[*x.lead, *x.shape])
    return _upsampled(call, x)


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
    "upsample_nearest2d": _upsample2d,
    "_upsample_nearest_exact2d": _upsample2d,
    "upsample_nearest3d": _upsample3d,
    "_upsample_nearest_exact3d": _upsample3d,
}
