"""Relays: neurons that pass whole numbers on."""

from __future__ import annotations

from snncc.ir import Cell, IntegerNeuron
from snncc.passes.drop_clip import UNBOUNDED


def relay(name: str, reads: str, source: str) -> IntegerNeuron:
    """A memoryless neuron of threshold 1 that sends what it gets, of either sign, as one event.

    ``bound-counts`` lowers its largest count to what its inputs can reach.
    """
    cell = Cell(max_spikes=UNBOUNDED, signed=True)
    return IntegerNeuron(name=name, inputs=(reads,), source=source, cell=cell)
