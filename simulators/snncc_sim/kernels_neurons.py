"""Compiled kernels of the clocked engine's neurons: what a micro-step does to the membranes of a piece.

``p`` is a record of :data:`snncc_sim.program.PIECE`, ``q`` one of :data:`snncc_sim.cells.CELL`: the numbers
of every ``q.step``-th neuron from ``q.first`` on, which are all of a piece, or one channel's.
"""

# mypy: disable-error-code="no-untyped-def"
# numba infers all types of compiled functions from the call.

from __future__ import annotations

import numpy as np
from numba import njit

from snncc_sim.program import SATURATIONS


@njit(nogil=True, cache=True)
def _charge(p, q, v, a, current, bias, counts, stats):
    """Start of a window: decay, then add what collected since the last one."""
    decay, bits, low, high, precharge = q.decay, q.decay_bits, p.low, p.high, q.precharge
    gain, fade, fade_bits = q.gain, q.synapse_decay, q.synapse_bits
    saturations = 0
    for i in range(p.start + q.first, p.start + p.size, q.step):
        u = v[i]
        u = (u * decay) >> bits if u >= 0 else -((-u * decay) >> bits)
        drive = gain * np.int64(a[i])
        if fade > 0:
            s = current[i]
            drive += (s * fade) >> fade_bits if s >= 0 else -((-s * fade) >> fade_bits)
            # Lava's current wraps from its lowest word on, which a membrane still holds.
            saturations += drive > high or drive <= low
            current[i] = drive
        u += drive + bias[i] + precharge
        a[i] = 0
        saturations += u > high or u < low
        v[i] = min(max(u, low), high)
    stats[SATURATIONS] += saturations
    if p.max_spikes == 0:
        for i in range(p.start + q.first, p.start + p.size, q.step):
            counts[i] = v[i]


@njit(nogil=True, cache=True)
def _fire_graded(p, q, v, counts, ring, carried, base):
    """Events of a window whose neurons send their count at once."""
    n, threshold, window = 0, q.threshold, p.max_spikes
    least = -window if p.signed else 0
    for j in range(q.first, p.size, q.step):
        count = min(max(v[p.start + j] // threshold, least), window)
        if count != 0:
            v[p.start + j] -= count * threshold
            counts[p.start + j] += count
            ring[base + n], carried[base + n] = j, count
            n += 1
    return n


@njit(nogil=True, cache=True)
def _stream(p, q, k, v, a, bias, counts, ring, carried, base, stats):
    """A micro-step of the clocked free schedule: add what arrived, fire once where at threshold."""
    n, first = 0, k == p.phase
    for j in range(q.first, p.size, q.step):
        i = p.start + j
        u = v[i] + q.gain * np.int64(a[i])
        a[i] = 0
        if first:
            u += bias[i] + q.precharge
        stats[SATURATIONS] += u > p.high or u < p.low
        u = min(max(u, p.low), p.high)
        if p.max_spikes == 0:
            counts[i] = u
        elif u >= q.threshold and counts[i] < p.limit:
            u -= q.threshold
            counts[i] += 1
            ring[base + n], carried[base + n] = j, 1
            n += 1
        v[i] = u
    return n


@njit(nogil=True, cache=True)
def _fire_first(p, q, v, counts, ring, carried, base):
    """Spikes of a window's first micro-step."""
    n, threshold = 0, q.threshold
    vs, sent = v[p.start : p.start + p.size], counts[p.start : p.start + p.size]
    for i in range(q.first, p.size, q.step):
        if vs[i] >= threshold:
            vs[i] -= threshold
            sent[i] += 1
            ring[base + n], carried[base + n] = i, 1
            n += 1
    return n


@njit(nogil=True, cache=True)
def _fire_again(p, cells, v, counts, ring, carried, base, previous, waiting):
    """Spikes of a later micro-step; only who fired in the last can fire in this."""
    n, several, threshold = 0, p.cells > 1, cells[p.cell].threshold
    vs, sent = v[p.start : p.start + p.size], counts[p.start : p.start + p.size]
    for j in range(waiting):
        i = np.int64(ring[previous + j])
        if several:
            threshold = cells[p.cell + i % p.channels].threshold
        if vs[i] >= threshold:
            vs[i] -= threshold
            sent[i] += 1
            ring[base + n], carried[base + n] = i, 1
            n += 1
    return n


@njit(nogil=True, cache=True)
def _close(p, q, v, counts):
    """End of a window."""
    precharge, to_value, reset_to, v_min = q.precharge, q.reset == 1, q.reset_to, q.v_min
    back = q.threshold - q.reset_by
    for i in range(p.start + q.first, p.start + p.size, q.step):
        u = v[i] - precharge + counts[i] * back
        if to_value and counts[i] > 0:
            u = reset_to
        v[i] = max(u, v_min)


@njit(nogil=True, cache=True)
def window(p, cells, k, period, steps, state, bias, counts, ring, carried, waits, stats):
    """Micro-step ``k`` of a piece: number of events it left at ``base`` of the ring.

    ``waits``: base of this micro-step's events, that of the last one's, and their number.
    """
    v, a, current = state
    base, previous, waiting = waits
    if k < p.phase:
        return 0
    n, mine = 0, range(p.cell, p.cell + p.cells)
    if p.streams:
        for c in mine:
            n += _stream(p, cells[c], k, v, a, bias, counts[0], ring, carried, base + n, stats)
        return n
    t, d = divmod(k - p.phase, period)
    if t >= steps:
        return 0
    if d == 0:
        for c in mine:
            _charge(p, cells[c], v, a, current, bias, counts[t], stats)
    if p.max_spikes == 0:
        return 0
    if d == 0 and p.graded:
        for c in mine:
            n += _fire_graded(p, cells[c], v, counts[t], ring, carried, base + n)
    elif d == 0:
        for c in mine:
            n += _fire_first(p, cells[c], v, counts[t], ring, carried, base + n)
    elif d < p.max_spikes and not p.graded:
        n = _fire_again(p, cells, v, counts[t], ring, carried, base, previous, waiting)
    if d == period - 1:
        for c in mine:
            _close(p, cells[c], v, counts[t])
    return n
