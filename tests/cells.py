"""Cells from keywords that mix a neuron's numbers with what stands around them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from snncc.ir.cell import Cell
from snncc.ir.const import Const
from snncc.ir.neurons import IntegerNeuron
from snncc.mapping.mapped import Piece

NUMBERS = {f.name for f in fields(Cell)}


def split(values: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
    """The cell of the numbers among ``values``, and the rest; arrays become constants."""
    own = {k: Const(v) if isinstance(v, np.ndarray) else v for k, v in values.items() if k in NUMBERS}
    return Cell(**own), {k: v for k, v in values.items() if k not in NUMBERS}


def renumbered(piece: Piece, **update: Any) -> Piece:
    """``piece`` with other values, of its cell or of its own."""
    own = {k: v for k, v in update.items() if k in NUMBERS}
    rest = {k: v for k, v in update.items() if k not in NUMBERS}
    return piece.model_copy(update={"cell": replace(piece.cell, **own), **rest})


def integer_neuron(name: str, reads: str, source: str = "", **numbers: Any) -> IntegerNeuron:
    """A neuron of integer graphs; ``half_up`` stands for half a threshold of pre-charge, ``strict`` for -1."""
    if numbers.pop("half_up", False):
        numbers["precharge"] = numbers["threshold"] // 2
    if numbers.pop("strict", False):
        numbers["precharge"] = -1
    return IntegerNeuron(name=name, inputs=(reads,), source=source, cell=Cell(**numbers))
