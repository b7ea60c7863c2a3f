"""Kernels of gated sites (SSC): which sites an event reaches, and which sites spikes open.

As in :mod:`snncc_sim.kernels`, ``net`` is (connections, pointers, outputs, taps, weights, sites,
openings, cells).
"""

# mypy: disable-error-code="no-untyped-def"
# numba infers all types of compiled functions from the call.

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def open_reached(c, p, net, y, x):
    """Open sites that an event at (y, x) reaches."""
    pointers, outputs, sites = net[1], net[2], net[5]
    found = 0
    for i in range(pointers[c.y + y], pointers[c.y + y + 1]):
        for j in range(pointers[c.x + x], pointers[c.x + x + 1]):
            found += sites[c.sites + outputs[i] * p.width + outputs[j]]
    return found


@njit(nogil=True, cache=True)
def open_centres(p, k, net, a, ring, starts, lengths, depths, sizes):
    """In the first micro-step of a window: open the sites at whose centre a spike stands, close all others.

    Whoever fires in a window fires in its first micro-step, and a site stays open until the window ends.
    A site that opens gets its bias.
    """
    connections, sites = net[0], net[5]
    for m in range(p.first, p.end):
        c = connections[m]
        if c.static >= 0:
            sites[c.sites : c.sites + p.height * p.width] = 0
    for m in range(p.first, p.end):
        c = connections[m]
        if c.static < 0 or k < c.delay:
            continue
        slot = (k - c.delay) % depths[c.source]
        base = starts[c.source] + slot * sizes[c.source]
        for e in range(base, base + lengths[c.source, slot]):
            y, x = divmod(np.int64(ring[e]) // c.channels, c.width)
            if y < c.end_y and x < c.end_x:
                _open(c, p, net, y // c.pool_y, x // c.pool_x, a)


@njit(nogil=True, cache=True)
def _open(c, p, net, y, x, a):
    """Open the site whose centre is (y, x), if there is one that may be open and is not yet."""
    sites, openings = net[5], net[6]
    oy, above = divmod(y - c.offset_y, c.stride_y)
    ox, left = divmod(x - c.offset_x, c.stride_x)
    if above != 0 or left != 0 or not (0 <= oy < p.height and 0 <= ox < p.width):
        return
    site = oy * p.width + ox
    if not sites[c.static + site] or sites[c.sites + site]:
        return
    sites[c.sites + site] = 1
    if c.opening >= 0:
        for o in range(p.channels):
            a[p.start + site * p.channels + o] += openings[c.opening + o]
