"""Sum pooling in front of weights, absorbed into them: Loihi's routes do not pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem, raise_all
from snncc.ir.const import Const
from snncc.mapping.address import VSC
from snncc.mapping.mapped import Connection, Mapped


def without_pooling(mapped: Mapped, tensors: Mapping[str, Array]) -> tuple[Mapped, dict[str, Array]]:
    """The same network with every weight repeated for all spikes of its pooling window.

    A kernel k over maps pooled by p is a kernel k·p with stride s·p and padding pad·p over the
    map itself, and has p² times the weights; what a dilation leaves out weighs nothing.

    Raises:
        ModelError: SNNC-M022 where padding would fall on rows or columns that no pooling window covers.
    """
    raise_all(_unabsorbable(mapped))
    kept = dict(tensors)
    pieces = []
    for piece in mapped.pieces:
        host = piece.on_host
        connections = tuple(c if host else _absorbed(c, kept) for c in piece.connections)
        pieces.append(piece.model_copy(update={"connections": connections}))
    new = mapped.model_copy(update={"pieces": tuple(pieces)})
    used = {c.weight for p in new.pieces for c in p.connections}
    old = {c.weight for p in mapped.pieces for c in p.connections}
    return new, {digest: array for digest, array in kept.items() if digest in used or digest not in old}


def _unabsorbable(mapped: Mapped) -> Iterator[Problem]:
    for piece in mapped.on_chip:
        for a in (c.address for c in piece.connections if c.address.pool != (1, 1)):
            if any(_reads_rest(a, axis) for axis in (0, 1)):
                what = "pooling leaves a rest of the map where the convolution pads"
                hint = f"maps that {a.pool} divides"
                yield problem("SNNC-M022", f"%{piece.name}", what, got=f"map {a.source_shape[1:]}", hint=hint)


def _reads_rest(a: VSC, axis: int) -> bool:
    pooled = a.pooled_shape[1 + axis]
    extent = (a.kernel[axis] - 1) * a.dilation[axis] + 1
    reach = (a.target_shape[1 + axis] - 1) * a.stride[axis] - a.padding[axis] + extent
    return reach > pooled and a.source_shape[1 + axis] > pooled * a.pool[axis]


def _undilated(weight: Array, dilation: tuple[int, int]) -> Array:
    """The kernel [O, C, kh, kw] with zeros in the gaps of its dilation."""
    (o, c, kh, kw), (dy, dx) = weight.shape, dilation
    full = np.zeros((o, c, (kh - 1) * dy + 1, (kw - 1) * dx + 1), weight.dtype)
    full[:, :, ::dy, ::dx] = weight
    return full


def _absorbed(c: Connection, tensors: dict[str, Array]) -> Connection:
    a = c.address
    if a.pool == (1, 1):
        return c
    (py, px), (_, height, width) = a.pool, a.source_shape
    weight = _undilated(tensors[c.weight], a.dilation).repeat(py, axis=2).repeat(px, axis=3)
    whole = a.kernel == a.pooled_shape[1:] and a.target_shape[1:] == (1, 1) and a.padding == (0, 0)
    if whole:
        # Rows and columns that no pooling window covers weigh nothing.
        rest = (height - weight.shape[2], width - weight.shape[3])
        weight = np.pad(weight, ((0, 0), (0, 0), (0, rest[0]), (0, rest[1])))
    const = Const(np.ascontiguousarray(weight))
    tensors[const.digest] = const.array
    address = VSC(
        source_shape=a.source_shape,
        target_shape=a.target_shape,
        kernel=(weight.shape[2], weight.shape[3]),
        stride=(1, 1) if whole else (a.stride[0] * py, a.stride[1] * px),
        padding=(a.padding[0] * py, a.padding[1] * px),
        groups=a.groups,
    )
    return c.model_copy(update={"weight": const.digest, "address": address})
