"""Compiled kernels of the clocked engine for maxima of spikes: dense, one micro-step at a time.

``net`` and the records are those of :mod:`snncc_sim.kernels`; maps are stored with channels last.
"""

# mypy: disable-error-code="no-untyped-def"
# numba infers all types of compiled functions from the call.

from __future__ import annotations

import numpy as np
from numba import njit

NOTHING = -(2**62)  # below every number that an event carries


@njit(nogil=True, cache=True, inline="always")
def _windows_over(position, size, kernel, stride, padding, dilation):
    """How many of ``size`` windows along an axis cover a position."""
    found = 0
    for tap in range(kernel):
        reach = position + padding - tap * dilation
        found += reach >= 0 and reach % stride == 0 and reach // stride < size
    return found


@njit(nogil=True, cache=True)
def _largest(pool, sent, oy, ox, channel):
    """The largest of what one window of the source's map sent."""
    most = NOTHING
    for ky in range(pool.kernel_y):
        y = oy * pool.stride_y + ky * pool.dilation_y - pool.padding_y
        if y < 0 or y >= pool.height:
            continue
        for kx in range(pool.kernel_x):
            x = ox * pool.stride_x + kx * pool.dilation_x - pool.padding_x
            if x >= 0 and x < pool.width:
                most = max(most, sent[(y * pool.width + x) * pool.channels + channel])
    return most


@njit(nogil=True, cache=True)
def add_maxima(p, pool, ring, carried, base, length, sent, a):
    """Add the maxima of one micro-step's events to a piece's accumulators ``a``.

    The events stand at ``base`` to ``base + length`` of the ring, with the numbers that they carry.
    ``sent`` is int32, as long as the source's map at least, and all zeros before and after.

    Returns the events that reach a window, the pairs of an event and a window, and these weighted with
    what an event carries (a relay's counts as one).
    """
    events, operations, units = 0, 0, 0
    for e in range(base, base + length):
        sent[ring[e]] = carried[e]
        y, x = divmod(ring[e] // pool.channels, pool.width)
        rows = _windows_over(y, p.height, pool.kernel_y, pool.stride_y, pool.padding_y, pool.dilation_y)
        columns = _windows_over(x, p.width, pool.kernel_x, pool.stride_x, pool.padding_x, pool.dilation_x)
        events += rows * columns > 0
        operations += rows * columns
        units += rows * columns * (1 if pool.signed else np.int64(carried[e]))
    for oy in range(p.height):
        for ox in range(p.width):
            first = p.start + (oy * p.width + ox) * p.channels
            for channel in range(p.channels):
                a[first + channel] += _largest(pool, sent, oy, ox, channel)
    for e in range(base, base + length):
        sent[ring[e]] = 0
    return events, operations, units
