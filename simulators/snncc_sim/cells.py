"""Flat numpy table of the numbers of neurons: a row a piece, or a row a channel where channels differ."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.ir.cell import EACH_CHANNEL, Cell
from snncc.ir.const import Integer, each_channel
from snncc.ir.node import Reset
from snncc.mapping.mapped import Piece

NEVER = 2**62  # a threshold that no membrane reaches, a floor that none falls below
RESETS = {Reset.SUBTRACT: 0, Reset.VALUE: 1}

# The cell's numbers that may differ between channels, and how they are read; biases and start values are
# tables with one a neuron.
OF_PIECE = ("max_spikes", "signed")
NUMBERS = tuple(f.name for f in fields(Cell) if f.name not in (*EACH_CHANNEL, *OF_PIECE))

CELL = np.dtype(
    [
        (name, np.int64)
        for name in (
            *NUMBERS,
            "first", "step",  # whose: every so-many-th neuron of the piece from the first on
            "fire_at", "low",  # as a piece's
        )
    ]
)  # fmt: skip


def _stored(value: Integer | Reset | None, rows: int) -> NDArray[np.int64]:
    """A cell's number as the kernels hold it, [rows]."""
    if isinstance(value, Reset):
        value = RESETS[value]
    return each_channel(-NEVER if value is None else value, rows)


def cells_of(piece: Piece, event_driven: bool) -> Array:
    """The records of a piece: one, or one a channel where any number is given channel by channel."""
    cell, several = piece.cell, any(name in NUMBERS for name in piece.cell.per_channel())
    found = np.zeros(piece.shape[0] if several else 1, CELL)
    for name in NUMBERS:
        found[name] = _stored(getattr(cell, name), len(found))
    if cell.reset_by is None:
        found["reset_by"] = found["threshold"]
    found["first"], found["step"] = np.arange(len(found)), len(found)
    found["fire_at"] = NEVER if piece.is_readout else found["threshold"]
    found["low"] = -(1 << (piece.state_bits - 1))
    if event_driven:
        found["low"] = np.maximum(found["low"], found["v_min"])
    return found
