"""Which way a layer sends ties, which rounding to even sends now up, now down."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from snncc.analysis.ties import changed_by_ties
from snncc.arrays import Array
from snncc.ir import Graph, IntegerNeuron, Neuron, Node, Rounding
from snncc.ir.cell import Cell
from snncc.ir.const import number_array, values_of
from snncc.ir.interp import run
from snncc.passes.rounding import half_down

# Samples that run at a time.
_CHUNK = 16


def settle_ties(trained: Graph, integer: Graph, calibration: Array) -> Graph:
    """The integer graph with half-down neurons where that changes fewer calibration counts than half-up.

    Args:
        trained: the float graph, which says who rounds to even.
        integer: its quantized form, whose neurons round half up.
        calibration: inputs [N, T, *shape].
    """
    asked = [n for n in integer.nodes if isinstance(n, IntegerNeuron) and _rounds_to_even(trained, n)]
    if not asked:
        return integer
    wrong: Counter[tuple[str, bool]] = Counter()
    keep = tuple(dict.fromkeys(n.inputs[0] for n in asked))
    for start in range(0, len(calibration), _CHUNK):
        values = run(integer, calibration[start : start + _CHUNK], keep).values
        for node in asked:
            up, down = changed_by_ties(node.cell, _charged(node.cell, values[node.inputs[0]]))
            wrong[node.name, True] += up
            wrong[node.name, False] += down
    return integer.rewrite(lambda n: _down(n) if wrong[n.name, False] < wrong[n.name, True] else None)


def _charged(cell: Cell, drive: Array) -> Array:
    """Membranes [N·T, *shape] that drives [N, T, *shape] leave in a neuron without memory."""
    x = drive.reshape(-1, *drive.shape[2:])
    return np.asarray(x * number_array(cell.gain, x.ndim) + number_array(cell.bias, x.ndim))


def _rounds_to_even(trained: Graph, node: IntegerNeuron) -> bool:
    """Whether a neuron without memory stands for one that rounds to even, and can meet a tie."""
    theirs, cell = trained.by_name.get(node.name), node.cell
    even = isinstance(theirs, Neuron) and theirs.rounding is Rounding.HALF_EVEN
    theta = values_of(cell.threshold)
    # With a threshold of 2, half-down is flooring: not told from a neuron that floors.
    return even and cell.is_stateless and cell.rounds_half_up and bool(((theta % 2 == 0) & (theta > 2)).any())


def _down(node: Node) -> Node:
    assert isinstance(node, IntegerNeuron)
    return replace(node, cell=replace(node.cell, precharge=half_down(node.cell.threshold)))
