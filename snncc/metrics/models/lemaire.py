"""Lemaire et al. 2022: additions and the memories behind them, each as large as its layer needs.

An event's synaptic operation reads a weight, reads a membrane potential and writes it back; a neuron
update reads and writes one. An access costs what a memory of the layer's size costs, by linear
interpolation between the published sizes; words of 32 bits. A spike is written into the smallest of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snncc.metrics.models.model import Constants, EnergyModel, Work, each
from snncc.simulation import Estimate

WORD_BYTES = 4
# Capacities in bytes at which an access was published, and the constants' names; nothing costs nothing.
SIZES = ((8 << 10, "access_8_kib_pj"), (32 << 10, "access_32_kib_pj"), (1 << 20, "access_1_mib_pj"))


def _components(work: Work, constants: Constants) -> Mapping[str, Estimate]:
    add = each(constants["add_pj"])
    multiply = each(constants["multiply_pj"])
    weights, potentials = (_access(words, constants) for words in (work.weights, work.neurons))
    updates = work.synaptic_operations + work.neuron_updates
    return {
        "additions": add.times(updates + work.macs),
        "multiplications": multiply.times(work.macs),
        "weight_reads": weights.times(work.synaptic_operations),
        "potential_accesses": potentials.times(2 * updates),
        "spike_writes": _access(SIZES[0][0] // WORD_BYTES, constants).times(work.spikes),
    }


def _access(words: int, constants: Constants) -> Estimate:
    """Energy of one access to a memory of that many words; beyond the largest size, that of the largest."""
    sizes = [0, *(size for size, _ in SIZES)]
    bands = [each(constants[name]) for _, name in SIZES]
    value, low, high = (
        float(np.interp(words * WORD_BYTES, sizes, [0.0, *(getattr(b, end) for b in bands)]))
        for end in ("value", "low", "high")
    )
    return Estimate(value, low, high)


LEMAIRE = EnergyModel(
    name="lemaire",
    about="additions and 32-bit memory accesses of the layers, each memory as large as its layer",
    components=_components,
    missing="computing addresses, routing, static power; a memory over 1 MiB is taken as one of 1 MiB",
)
