"""Ties: membranes exactly between two counts, which rounding to even sends now up, now down."""

from __future__ import annotations

import numpy as np

from snncc.arrays import Array
from snncc.ir.cell import Cell
from snncc.ir.const import number_array


def changed_by_ties(cell: Cell, u: Array) -> tuple[int, int]:
    """Counts of charged membranes [N, *shape] that half-up, and that half-down, change against half-even."""
    theta = number_array(cell.threshold, u.ndim)
    n, rest = np.divmod(2 * u + theta, 2 * theta)
    tie = (rest == 0) & (n >= 1) & (n <= cell.max_spikes)
    return int((tie & (n % 2 == 1)).sum()), int((tie & (n % 2 == 0)).sum())
