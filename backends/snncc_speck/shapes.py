"""Brings connections into the shapes that a Speck core has: dense, undilated, square kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem
from snncc.ir.const import Const
from snncc.mapping.address import VSC
from snncc.mapping.mapped import Connection, Mapped, Piece


def speck_shapes(
    mapped: Mapped, tensors: Mapping[str, Array]
) -> tuple[Mapped, dict[str, Array], list[Problem]]:
    """Equivalent connections whose kernels are square, without groups or dilation.

    Returns:
        The network, its arrays, and one SNNC-C005 for every rectangular kernel that no square one
        equals; those connections keep their kernels.
    """
    tables = {c.digest for p in mapped.pieces for c in p.cell.constants()} | {mapped.output.order}
    found: dict[str, Array] = {k: v for k, v in tensors.items() if k in tables}
    problems: list[Problem] = []
    pieces = []
    for piece in mapped.pieces:
        connections = []
        for c in piece.connections:
            address, weight = _dense(c.address, tensors[c.weight])
            squared = _square(address, weight)
            if squared is None:
                problems.append(_rectangular(piece, address))
            address, weight = squared or (address, weight)
            const = Const(weight)
            found[const.digest] = const.array
            connections.append(c.model_copy(update={"address": address, "weight": const.digest}))
        pieces.append(piece.model_copy(update={"connections": tuple(connections)}))
    return mapped.model_copy(update={"pieces": tuple(pieces)}), found, list(dict.fromkeys(problems))


def _rectangular(piece: Piece, address: VSC) -> Problem:
    return problem(
        "SNNC-C005",
        f"%{piece.name}" + (f" ({piece.layer})" if piece.layer else ""),
        "a rectangular kernel that no square one equals",
        got=f"{address.kernel[0]}x{address.kernel[1]}",
        hint="a square kernel, or one whose sides differ by an even number",
    )


def _dense(address: VSC, weight: Array) -> tuple[VSC, Array]:
    """Groups become blocks of a full kernel, dilation becomes zeros between its taps."""
    groups, (dy, dx) = address.groups, address.dilation
    out, inner, kh, kw = weight.shape
    full = np.zeros((out, inner * groups, dy * (kh - 1) + 1, dx * (kw - 1) + 1), weight.dtype)
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        full[rows, g * inner : (g + 1) * inner, ::dy, ::dx] = weight[rows]
    changes = {"groups": 1, "dilation": (1, 1), "kernel": (full.shape[2], full.shape[3])}
    return address.model_copy(update=changes), full


@dataclass(frozen=True)
class _Axis:
    """One axis of a kernel inside a larger one: its start, and padding and stride that keep the outputs."""

    start: int
    padding: int
    stride: int


def _square(address: VSC, weight: Array) -> tuple[VSC, Array] | None:
    kh, kw = address.kernel
    if kh == kw:
        return address, weight
    k = max(kh, kw)
    y, x = (_embedded(address, axis, k) for axis in (0, 1))
    if y is None or x is None:
        return None
    full = np.zeros((*weight.shape[:2], k, k), weight.dtype)
    full[:, :, y.start : y.start + kh, x.start : x.start + kw] = weight
    changes = {"kernel": (k, k), "padding": (y.padding, x.padding), "stride": (y.stride, x.stride)}
    return address.model_copy(update=changes), full


def _embedded(address: VSC, axis: int, k: int) -> _Axis | None:
    """The axis with a kernel of k taps, or None where the number of outputs would change."""
    size, out = address.pooled_shape[1 + axis], address.target_shape[1 + axis]
    start = (k - address.kernel[axis] + 1) // 2
    padding, stride = address.padding[axis] + start, address.stride[axis]
    # A single output may take any stride: the next position then falls outside.
    for s in (stride, 2, 4, 8) if out == 1 else (stride,):
        if (size + 2 * padding - k) // s + 1 == out:
            return _Axis(start, padding, s)
    return None


def connection_key(connection: Connection) -> tuple[object, ...]:
    """What two connections must share to be one on a core: kernel and geometry behind the pooling."""
    a = connection.address
    return connection.weight, a.kernel, a.stride, a.padding, a.pooled_shape
