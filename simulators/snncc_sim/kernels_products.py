"""Compiled kernels of products of spikes: one operand is held over a window, the other's events add it.

``c`` is a record of :data:`snncc_sim.products.PRODUCT`, ``tables`` those of
:class:`snncc_sim.products.Products`; ``memory`` holds the held values of all products.
"""

# mypy: disable-error-code="no-untyped-def"
# numba infers all types of compiled functions from the call.

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True)
def hold(c, ring, carried, base, length, tables, memory):
    """Forget the last window's values and keep those of ``length`` events from ``base`` of the ring."""
    order = tables[0]
    memory[c.memory : c.memory + c.size] = 0
    for e in range(base, base + length):
        memory[c.memory + order[c.order + ring[e]]] = carried[e]


@njit(nogil=True, cache=True)
def multiply(c, start, ring, carried, base, length, tables, memory, a):
    """Add held values, times what each event carries, to the accumulators of a piece at ``start``.

    Returns the number of events that meet held values, and of the spikes that those stand for.
    """
    _, places, held_starts, target_starts, held_turns, target_turns = tables
    met, units = 0, 0
    for e in range(base, base + length):
        first = held_starts[c.starts + ring[e]]
        if first < 0:
            continue
        count = carried[e]
        met += 1
        units += 1 if c.signed else count
        held, target = c.memory + first, c.places + target_starts[c.starts + ring[e]]
        for j in range(c.turns, c.turns + c.fan):
            value = memory[held + held_turns[j]]
            if value != 0:
                a[start + places[target + target_turns[j]]] += count * value
    return met, units
