"""Synapses that one input of a weighted node reaches: those that lead to an output, padding taps left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snncc.ir.sites import Bitmap
from snncc.ir.synapses import Conv2d, ConvTranspose2d, Linear

Synapses = Linear | Conv2d | ConvTranspose2d
Counts = NDArray[np.int64]


def fan_out(
    node: Synapses,
    shape: tuple[int, ...],
    result: tuple[int, ...],
    sites: Bitmap | None = None,
    nonzero: bool = False,
) -> Counts:
    """Synapses of every input, int64; it broadcasts over the input [*shape].

    Args:
        node: with its weights.
        shape: of its input, without batch and time.
        result: of its output.
        sites: places [H, W] of the output that a gate leaves open; None: all.
        nonzero: leave out the weights that are 0.
    """
    used = node.weight.array != 0 if nonzero else np.ones(node.weight.shape, np.bool_)
    if isinstance(node, Linear):
        return np.asarray(used.sum(axis=0, dtype=np.int64))
    taps = _taps(node, used)
    (rows, hit_rows), (columns, hit_columns) = (
        _places(node, axis, shape[1 + axis], result[1 + axis]) for axis in (0, 1)
    )
    if sites is None:
        return np.asarray(np.einsum("yk,ckl,xl->cyx", hit_rows, taps, hit_columns, optimize=True))
    hit = np.einsum("yk,xl->yxkl", hit_rows, hit_columns)
    return np.asarray(
        np.einsum("yxkl,ckl->cyx", hit * sites[rows[:, None, :, None], columns[None, :, None, :]], taps)
    )


def _taps(node: Conv2d | ConvTranspose2d, used: NDArray[np.bool_]) -> Counts:
    """Weights of every input channel at each place of the kernel, int64 [C, kh, kw]."""
    if isinstance(node, ConvTranspose2d):
        return np.asarray(used.sum(axis=1, dtype=np.int64))
    outputs, inner, *kernel = used.shape
    by_group = used.reshape(node.groups, outputs // node.groups, inner, *kernel).sum(axis=1, dtype=np.int64)
    return np.asarray(by_group.reshape(node.groups * inner, *kernel))


def _places(node: Conv2d | ConvTranspose2d, axis: int, inputs: int, outputs: int) -> tuple[Counts, Counts]:
    """Where each tap leads from each place of the input, and whether to an output: [inputs, kernel]."""
    stride, padding, dilation = node.stride[axis], node.padding[axis], node.dilation[axis]
    place = np.arange(inputs)[:, None]
    tap = np.arange(node.weight.shape[2 + axis])[None, :] * dilation
    rest: Counts | int = 0
    if isinstance(node, ConvTranspose2d):
        out = place * stride - padding + tap
    else:
        out, rest = np.divmod(place + padding - tap, stride)
    hit = (rest == 0) & (out >= 0) & (out < outputs)
    return np.where(hit, out, 0), hit.astype(np.int64)
