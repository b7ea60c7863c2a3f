"""Compiled kernels: the clocked engine and the event-driven one, a batch of samples a call.

Both scatter single events through compressed weights (:mod:`snncc_sim.program` explains the
layout). The inner loops run over contiguous outputs, so that they vectorise; firing, which does
not, happens only where the pass before found a membrane outside its bounds.

All kernels release the GIL; samples are independent of each other. ``net`` is always the tuple
(connections, pointers, outputs, taps, weights, sites, openings, cells) of a ``Program``; ``pieces``, ``p``
and ``c`` are its records.
"""

# mypy: disable-error-code="no-untyped-def"
# numba infers all types of compiled functions from the call.

from __future__ import annotations

import numpy as np
from numba import njit

from snncc_sim.kernels_neurons import window
from snncc_sim.kernels_pools import add_maxima
from snncc_sim.kernels_products import hold, multiply
from snncc_sim.program import (
    CONTROL_EVENTS,
    CONTROL_OPS,
    EARLY,
    EVENTS,
    OUTSIDE,
    OVERFLOW,
    SATURATIONS,
    STATS,
    SYNOPS,
    UNITS,
)
from snncc_sim.sparse import open_centres, open_reached

# Longest queue of one settling, in events (512 MiB); a network that exceeds it fires without bound.
QUEUE_LIMIT = 1 << 27


# ---- one event --------------------------------------------------------------------------------------


# Inlined here by numba, not by LLVM: 1.6 times the speed of the clocked engine on 3x3 kernels.
@njit(nogil=True, cache=True, inline="always")
def _add(v, weights, base, word, length):
    """Add a run of weights to a run of accumulators."""
    vs = v[base : base + length]
    ws = weights[word : word + length]
    for j in range(length):
        vs[j] += ws[j]


@njit(nogil=True, cache=True, inline="always")
def _add_times(v, weights, base, word, length, n):
    """Add a run of weights ``n`` times: what one graded event delivers."""
    vs = v[base : base + length]
    ws = weights[word : word + length]
    for j in range(length):
        vs[j] += n * ws[j]


@njit(nogil=True, cache=True)
def _add_size(v, weights, base, word, length):
    """Add the magnitudes of a run of weights to a run of accumulators."""
    vs = v[base : base + length]
    ws = weights[word : word + length]
    for j in range(length):
        w = np.int32(ws[j])
        vs[j] += np.int32(max(w, -w))


@njit(nogil=True, cache=True)
def _add_bounded(v, weights, base, word, length, low, top):
    """Add as :func:`_add` does; whether any sum is now below ``low`` or at least ``top``."""
    vs = v[base : base + length]
    ws = weights[word : word + length]
    most, least = np.int32(-(2**31)), np.int32(2**31 - 1)
    for j in range(length):
        s = np.int32(vs[j] + ws[j])
        vs[j] = s
        most = max(most, s)
        least = min(least, s)
    return most >= top or least < low


@njit(nogil=True, cache=True)
def _fire(p, net, v, fired, base, length, queue, n, stats):
    """Clamp and fire the neurons of a run that was just updated; the queue's new length."""
    # Local copies: the compiler cannot tell that the stores below leave the record alone.
    high, low, fire_at, limit = p.high, p.low, p.fire_at, p.limit
    start, count_low, cells, several = p.start, p.count_low, net[7], p.cells > 1
    floor, reached, threshold = low, fire_at, cells[p.cell].threshold
    for i in range(base, base + length):
        u = np.int64(v[i])
        if low <= u < fire_at and u <= high:
            continue
        if several:
            cell = cells[p.cell + (i - start) % p.channels]
            floor, reached, threshold = cell.low, cell.fire_at, cell.threshold
        if u > high:
            u = high
            stats[SATURATIONS] += 1
        elif u < floor:
            u = floor
            stats[SATURATIONS] += count_low
        if u >= reached and fired[i] < limit:
            u -= threshold
            fired[i] += 1
            queue[n] = i - start
            n += 1
        v[i] = u
    return n


@njit(nogil=True, cache=True, inline="always")
def _count(c, p, net, y, x, count, stats):
    """Count an event at (y, x) that carries ``count``; whether it reaches any neuron.

    A relay's event is one addition of a whole number, not so many spikes. Sites that are closed are not
    reached, and an event that reaches no other is none of the piece's.
    """
    if y >= c.end_y or x >= c.end_x:
        return False
    pointers = net[1]
    rows = pointers[c.y + y + 1] - pointers[c.y + y]
    columns = pointers[c.x + x + 1] - pointers[c.x + x]
    sites = rows * columns
    if c.sites >= 0:
        sites = open_reached(c, p, net, y, x)
    units = 1 if c.signed else count
    stats[EVENTS] += c.sites < 0 or sites > 0
    stats[STATS + c.index] += units
    stats[SYNOPS] += sites * c.fan
    stats[UNITS] += units * sites * c.fan
    return sites > 0


@njit(nogil=True, cache=True, inline="always")
def _scatter(c, p, event, count, net, a, stats):
    """Add what one event, which carries ``count``, delivers through a connection to the accumulators."""
    _, pointers, outputs, taps, weights, sites, _, _ = net
    site, channel = divmod(event, c.channels)
    y, x = divmod(site, c.width)
    if not _count(c, p, net, y, x, count, stats):
        return
    first, last = pointers[c.x + x], pointers[c.x + x + 1]
    group = channel // c.per_group * c.fan
    length = (last - first) * c.fan if c.run else c.fan
    end = first + 1 if c.run else last
    for i in range(pointers[c.y + y], pointers[c.y + y + 1]):
        row = outputs[i] * p.width
        kernel_row = (channel * c.kernel_y + taps[i]) * c.kernel_x
        for j in range(first, end):
            if c.sites >= 0 and not sites[c.sites + row + outputs[j]]:
                continue
            base = p.start + (row + outputs[j]) * p.channels + group
            word = c.weights + (kernel_row + taps[j]) * c.fan
            if count == 1:
                _add(a, weights, base, word, length)
            else:
                _add_times(a, weights, base, word, length, count)


@njit(nogil=True, cache=True)
def _deliver(c, p, event, net, v, size, fired, queue, n, stats):
    """Update and fire the neurons that one event reaches; the queue's new length."""
    _, pointers, outputs, taps, weights, sites, _, _ = net
    site, channel = divmod(event, c.channels)
    y, x = divmod(site, c.width)
    if not _count(c, p, net, y, x, 1, stats):
        return n
    first, last = pointers[c.x + x], pointers[c.x + x + 1]
    group = channel // c.per_group * c.fan
    length = (last - first) * c.fan if c.run else c.fan
    end = first + 1 if c.run else last
    top = min(p.fire_at, p.high + 1)
    for i in range(pointers[c.y + y], pointers[c.y + y + 1]):
        row = outputs[i] * p.width
        kernel_row = (channel * c.kernel_y + taps[i]) * c.kernel_x
        for j in range(first, end):
            if c.sites >= 0 and not sites[c.sites + row + outputs[j]]:
                continue
            base = p.start + (row + outputs[j]) * p.channels + group
            word = c.weights + (kernel_row + taps[j]) * c.fan
            if p.inspected:
                _add_size(size, weights, base, word, length)
            if _add_bounded(v, weights, base, word, length, p.low, top):
                n = _fire(p, net, v, fired, base, length, queue, n, stats)
    return n


# ---- event-driven engine ------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _room(queue, needed):
    """The queue, moved to a larger array if it cannot hold ``needed`` events."""
    if needed <= queue.size:
        return queue
    larger = np.empty(max(2 * queue.size, needed), np.int32)
    larger[: queue.size] = queue
    return larger


@njit(nogil=True, cache=True)
def _integrate(p, net, begins, ends, v, size, fired, queue, n, stats, budget):
    """Play all events that wait for a piece: source after source, connection after connection.

    Returns the queue and its new length, or -1 if it overflows.
    """
    connections = net[0]
    k = p.first
    while k < p.end:
        source = connections[k].source
        behind = k + 1
        while behind < p.end and connections[behind].source == source:
            behind += 1
        for e in range(begins[source], ends[source]):
            for m in range(k, behind):
                queue = _room(queue, n + connections[m].reach)
                n = _deliver(connections[m], p, queue[e], net, v, size, fired, queue, n, stats)
            if stats[EVENTS] > budget or n > QUEUE_LIMIT:
                stats[OVERFLOW] = 1
                return queue, -1
        k = behind
    return queue, n


@njit(nogil=True, cache=True)
def _inspect(p, v, start, size, fired, stats):
    """Excursions of a piece at the end of integration; whether a neuron is left at threshold.

    While nothing fired or was clamped, v - start is the sum of inputs and ``size`` that of their
    magnitudes, hence (size ± sum) / 2 those of the positive and the negative ones.
    """
    left = p.step > p.fire_at
    early = 0
    outside = False
    for i in range(p.start, p.start + p.size):
        early += fired[i] > 0
        left |= v[i] >= p.fire_at
        if not p.inspected:
            continue
        total = np.int64(v[i]) - start[i]
        outside |= (size[i] + total) // 2 > p.sum_high or -((size[i] - total) // 2) < p.sum_low
    stats[EARLY] += early
    if outside or early > 0:
        stats[OUTSIDE] = 1
    return left


@njit(nogil=True, cache=True)
def _lift(v, base, length, step):
    """Add ``step`` to a run of membranes; the largest of them."""
    vs = v[base : base + length]
    most = np.int32(-(2**31))
    for j in range(length):
        s = np.int32(vs[j] + step)
        vs[j] = s
        most = max(most, s)
    return most


@njit(nogil=True, cache=True)
def _control(p, oy, ox, net, v, fired, queue, n, stats, left):
    """One control event, for output site (oy, ox).

    It also looks up zeros for the other neurons that its site reaches. They matter only where a
    neuron may still stand at its threshold (``left``), as it does after an excursion.
    """
    base = p.start + (oy * p.width + ox) * p.channels
    if not left:
        if _lift(v, base, p.channels, p.step) >= min(p.fire_at, p.high + 1):
            n = _fire(p, net, v, fired, base, p.channels, queue, n, stats)
        return n
    pointers, outputs, taps = net[1], net[2], net[3]
    y, x = p.origin_y + oy * p.stride_y, p.origin_x + ox * p.stride_x
    for i in range(pointers[p.control_y + y], pointers[p.control_y + y + 1]):
        for j in range(pointers[p.control_x + x], pointers[p.control_x + x + 1]):
            base = p.start + (outputs[i] * p.width + outputs[j]) * p.channels
            if taps[i] == p.tap_y and taps[j] == p.tap_x:
                _lift(v, base, p.channels, p.step)
            n = _fire(p, net, v, fired, base, p.channels, queue, n, stats)
    return n


@njit(nogil=True, cache=True)
def _release(p, net, v, fired, queue, n, stats, left):
    """Play the control events of a gated piece, round after round, sites in order (y, x)."""
    for _ in range(p.rounds):
        for oy in range(p.height):
            for ox in range(p.width):
                queue = _room(queue, n + p.size)
                n = _control(p, oy, ox, net, v, fired, queue, n, stats, left)
    stats[CONTROL_EVENTS] += p.rounds * p.height * p.width
    stats[CONTROL_OPS] += p.rounds * p.control_operations
    return queue, n


@njit(nogil=True, cache=True)
def _settle(pieces, net, begins, ends, start, v, size, fired, queue, stats, budget):
    """Play the events at the head of the queue through all pieces; the queue, its length or -1."""
    n = ends[0]
    for i in range(pieces.size):
        p = pieces[i]
        begins[i + 1] = n
        queue, n = _integrate(p, net, begins, ends, v, size, fired, queue, n, stats[i], budget)
        if n < 0:
            return queue, n
        left = False
        if p.gated or p.inspected:
            left = _inspect(p, v, start, size, fired, stats[i])
        if p.gated:
            queue, n = _release(p, net, v, fired, queue, n, stats[i], left)
        ends[i + 1] = n
    return queue, n


@njit(nogil=True, cache=True)
def run_events(pieces, net, start, events, offsets, at_once, budget, counts, stats):
    """Event-driven execution of a batch of samples.

    Args:
        pieces: of a ``Program``.
        net: its other tables.
        start: int32 membranes before the first event, per neuron.
        events: int32 addresses of the input events of all samples, in order of play.
        offsets: those of sample s are ``offsets[s] .. offsets[s + 1]``.
        at_once: whether a piece gets all input events before the next piece runs (gated engine);
            otherwise each input event settles before the next.
        budget: data events that a piece may receive before its 32-bit sums could wrap.
        counts: int32 [samples, neurons], result: spikes, or a readout's membranes.
        stats: int64 [samples, pieces, STATS + connections of a piece], result.
    """
    queue = np.empty(4096, np.int32)
    begins, ends = np.zeros(pieces.size + 1, np.int64), np.zeros(pieces.size + 1, np.int64)
    size = np.zeros(start.size, np.int32)
    for s in range(offsets.size - 1):
        v = start.copy()
        size[:] = 0
        fired = counts[s]
        total = offsets[s + 1] - offsets[s]
        batch = total if at_once else 1
        for e in range(1 if at_once else total):
            first = offsets[s] + e
            queue = _room(queue, batch)
            for j in range(batch):
                queue[j] = events[first + j]
            ends[0] = batch
            queue, n = _settle(pieces, net, begins, ends, start, v, size, fired, queue, stats[s], budget)
            if n < 0:
                return
        for i in range(pieces.size):
            p = pieces[i]
            if p.max_spikes == 0:
                fired[p.start : p.start + p.size] = v[p.start : p.start + p.size]
            if stats[s, i, SATURATIONS] > 0:
                stats[s, i, OUTSIDE] = 1


# ---- clocked engine -----------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _encode(x, d, graded, ring, carried, base, previous, waiting):
    """A port's events of micro-step ``d`` of a timestep: spikes in steps 0..n-1, or one event of n."""
    n = 0
    if d == 0:
        for i in range(x.size):
            if x[i] != 0:
                ring[base + n] = i
                carried[base + n] = x[i] if graded else 1
                n += 1
        return n
    if graded:
        return n
    for j in range(waiting):
        i = ring[previous + j]
        if x[i] > d:
            ring[base + n] = i
            carried[base + n] = 1
            n += 1
    return n


@njit(nogil=True, cache=True)
def _collect(p, arrived, a, stats):
    """Move what one micro-step delivered to the accumulators; sums outside the admitted range."""
    outside = 0
    for i in range(p.start, p.start + p.size):
        s = arrived[i]
        outside += s < p.sum_low or s > p.sum_high
        a[i] += s
        arrived[i] = 0
    stats[SATURATIONS] += outside


@njit(nogil=True, cache=True)
def _sent(source, ago, k, events):
    """Where in the ring the events stand that a source sent so many micro-steps ago, and their number."""
    _, _, starts, sizes, depths, lengths = events
    if k < ago:
        return starts[source], 0
    slot = (k - ago) % depths[source]
    return starts[source] + slot * sizes[source], lengths[source, slot]


@njit(nogil=True, cache=True)
def _multiplied(products, m, p, now, events, into, stats):
    """What a product delivers in a micro-step; in a window's first it takes what it holds.

    An event is counted with every neuron that it reaches, whether a held value is 0 or not, as
    synapses of weight 0 are; taking a value in is an event without operations.
    """
    rows, tables, memory = products
    k, period = now
    c = rows[m]
    if k % period == 0:
        base, length = _sent(c.held, c.held_delay, k, events)
        hold(c, events[0], events[1], base, length, tables, memory)
        stats[EVENTS] += length
    base, length = _sent(c.stream, c.stream_delay, k, events)
    met, units = multiply(c, p.start, events[0], events[1], base, length, tables, memory, into)
    stats[EVENTS] += met
    stats[SYNOPS] += met * c.fan
    stats[UNITS] += units * c.fan
    stats[STATS + c.index] += units


@njit(nogil=True, cache=True)
def _pooled(pools, p, k, events, silent, into, stats):
    """Add what a piece's maxima bring in a micro-step; silence brings nothing.

    ``silent``: zeros, as many as the largest map of a source has addresses.
    """
    for m in range(p.first_pool, p.end_pool):
        base, length = _sent(pools[m].source, pools[m].delay, k, events)
        if length > 0:
            met, pairs, units = add_maxima(p, pools[m], events[0], events[1], base, length, silent, into)
            stats[EVENTS] += met
            stats[SYNOPS] += pairs
            stats[UNITS] += units


@njit(nogil=True, cache=True)
def run_clocked(pieces, net, products, pools, v_init, bias, inputs, period, depths, sizes, a, counts, stats):
    """Clocked execution of a batch of samples.

    Args:
        pieces: of a ``Program``.
        net: its other tables.
        products: rows and tables of its products, and memory for what they hold.
        pools: what pieces take maxima of.
        v_init: membranes before the first window, int64.
        bias: what every window adds, int64.
        inputs: ports of a ``Program``; their int32 counts [samples, steps, addresses].
        period: micro-steps of a timestep.
        depths: micro-steps for which each source's spikes are kept.
        sizes: addresses of each source.
        a: accumulators per neuron, int32 or int64: scratch.
        counts: int32 [samples, steps, neurons], result: spikes, or a readout's membranes.
        stats: int64 [samples, pieces, STATS + connections of a piece], result.
    """
    ports, x = inputs
    connections, steps, first = net[0], x.shape[1], ports.size
    starts = np.zeros(sizes.size + 1, np.int64)
    for source in range(sizes.size):
        starts[source + 1] = starts[source] + sizes[source] * depths[source]
    ring, carried = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    arrived, current = np.zeros_like(a), np.zeros_like(v_init)
    lengths = np.zeros((sizes.size, depths.max()), np.int64)
    silent = np.zeros(sizes.max() if pools.size else 0, np.int32)
    end = steps * period
    for i in range(pieces.size):
        end = max(end, pieces[i].phase + steps * period)
    for s in range(x.shape[0]):
        v = v_init.copy()
        a[:] = 0
        current[:] = 0
        state = (v, a, current)
        for k in range(end):
            for source in range(sizes.size):
                slot, last = k % depths[source], (k - 1) % depths[source]
                base = starts[source] + slot * sizes[source]
                previous = starts[source] + last * sizes[source]
                waiting = lengths[source, last]
                if source < first:
                    t, d = divmod(k, period)
                    n, port = 0, ports[source]
                    if t < steps:
                        mine = x[s, t, port.start : port.start + port.size]
                        n = _encode(mine, d, port.graded != 0, ring, carried, base, previous, waiting)
                else:
                    p, row = pieces[source - first], stats[s, source - first]
                    waits = (base, previous, waiting)
                    n = window(p, net[7], k, period, steps, state, bias, counts[s], ring, carried, waits, row)
                lengths[source, slot] = n
            events = (ring, carried, starts, sizes, depths, lengths)
            for i in range(pieces.size):
                into = arrived if pieces[i].inspected else a
                if k % period == 0:
                    open_centres(pieces[i], k, net, into, ring, starts, lengths, depths, sizes)
                for m in range(pieces[i].first, pieces[i].end):
                    c = connections[m]
                    if k < c.delay:
                        continue
                    slot = (k - c.delay) % depths[c.source]
                    base = starts[c.source] + slot * sizes[c.source]
                    for e in range(base, base + lengths[c.source, slot]):
                        _scatter(c, pieces[i], np.int64(ring[e]), carried[e], net, into, stats[s, i])
                for m in range(products[0].size):
                    if products[0][m].piece == i:
                        _multiplied(products, m, pieces[i], (k, period), events, into, stats[s, i])
                if pieces[i].end_pool > pieces[i].first_pool:
                    _pooled(pools, pieces[i], k, events, silent, into, stats[s, i])
                if pieces[i].inspected:
                    _collect(pieces[i], arrived, a, stats[s, i])
        for i in range(pieces.size):
            if stats[s, i, SATURATIONS] > 0:
                stats[s, i, OUTSIDE] = 1
