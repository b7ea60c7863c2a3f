"""Time of clocked chips whose cores stand on a mesh: micro-step by micro-step, then the barrier.

In a micro-step every core updates its neurons one after the other; a neuron that fires leaves one
packet a destination core in the core's out queue, which sends one after the other. Packets travel
along x, then along y; every link serves one packet a hop time, first come first served. The
destination looks each packet up and does its synaptic operations, again one packet after the other.
Updating, sending and receiving work side by side, as the units of a Loihi core do (Davies et al.,
IEEE Micro 38(1), 2018). Input events stand at their destination when the micro-step begins.

Two fidelities. *Queues* plays every packet. *Bound* is the largest of affine terms (the form that
Timcheck et al., arXiv:2601.10035, fit to Loihi 2): the work of a core's updates, of its out queue, of
its receiver, and of a link, each with the shortest way before and behind it. It never exceeds the
queues' time, and equals it where nothing waits for anything else. All times are whole picoseconds.
"""

# mypy: disable-error-code="no-untyped-def"
# mypy: disallow-untyped-decorators=False, disallow-any-unimported=False, disallow-untyped-calls=False
# numba infers all types of compiled functions from the call.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snncc.hw.mesh import Mesh
from snncc.hw.quantity import Quantity
from snncc.hw.timing import MeshCosts
from snncc_sim.traffic import Events, Loads, Routes

Ints = NDArray[np.int64]

UPDATE, SEND, RECEIVE, LINK = range(4)  # what a micro-step waits for


@dataclass(frozen=True)
class Times:
    """Times of single operations, ps; see :class:`snncc.hw.timing.MeshCosts`."""

    lookup: int
    synop: int
    update: int
    idle: int
    send: int
    hop_x: int
    hop_y: int
    barrier: int
    shortest: int


def times(costs: MeshCosts, pick: Callable[[Quantity], float]) -> Times:
    """Times by one end of their bands. Unknown ones are 0 and must be listed by the caller.

    The time of an idle neuron is that of an update where it is unknown.
    """

    def ps(quantity: Quantity | None) -> int:
        return 0 if quantity is None else round(1000 * pick(quantity))

    idle = costs.neuron_idle_time_ns or costs.neuron_update_time_ns
    return Times(
        lookup=ps(costs.axon_in_time_ns),
        synop=ps(costs.synop_time_ns),
        update=ps(costs.neuron_update_time_ns),
        idle=ps(idle),
        send=ps(costs.spike_out_time_ns),
        hop_x=ps(costs.hop_x_time_ns),
        hop_y=ps(costs.hop_y_time_ns),
        barrier=ps(costs.barrier_time_ns),
        shortest=ps(costs.step_time_min_ns),
    )


@dataclass(frozen=True)
class Grid:
    """Routers and the ways of the flows over them.

    Attributes:
        columns, rows: routers of all chips in use.
        core_x, core_y: router of each core in use.
        ways: links of flow f are ``links[ways[f] .. ways[f + 1]]``, in order of travel.
        links: numbers ``4 * (y * columns + x) + direction``; directions are +x, -x, +y, -y.
        hops_x, hops_y: per flow, how many of them lie along each axis.
    """

    columns: int
    rows: int
    core_x: Ints
    core_y: Ints
    ways: Ints
    links: Ints
    hops_x: Ints
    hops_y: Ints

    def link_name(self, link: int) -> str:
        """``(1, 0) → (2, 0)``."""
        router, direction = divmod(link, 4)
        y, x = divmod(router, self.columns)
        dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[direction]
        return f"({x}, {y}) → ({x + dx}, {y + dy})"


def build_grid(routes: Routes, mesh: Mesh) -> Grid:
    """XY ways of all flows; those of the input have none."""
    places = np.array([mesh.position(int(c)) for c in routes.cores], np.int64).reshape(-1, 2)
    chips = int(routes.cores.max(initial=0)) // mesh.cores_per_chip + 1
    columns = chips * mesh.columns
    ways, links, hops = [0], list[int](), []
    for tile, core in zip(routes.flow_tile, routes.flow_core, strict=True):
        x, y = places[routes.tile_core[tile] if tile >= 0 else core]
        goal_x, goal_y = places[core]
        hops.append((abs(goal_x - x), abs(goal_y - y)))
        while x != goal_x:
            step = 1 if goal_x > x else -1
            links.append(4 * (y * columns + x) + (step < 0))
            x += step
        while y != goal_y:
            step = 1 if goal_y > y else -1
            links.append(4 * (y * columns + x) + 2 + (step < 0))
            y += step
        ways.append(len(links))
    travelled = np.array(hops, np.int64).reshape(-1, 2)
    return Grid(
        columns,
        mesh.rows,
        places[:, 0].copy(),
        places[:, 1].copy(),
        np.array(ways, np.int64),
        np.array(links, np.int64),
        travelled[:, 0].copy(),
        travelled[:, 1].copy(),
    )


@dataclass(frozen=True)
class Amounts:
    """What one sample asks of cores [K, cores] and links [K, links] in every micro-step.

    Attributes:
        active, idle: neurons that are updated, and that only leak.
        sent, received: packets.
        operations: synaptic operations.
        links: packets over each link.
    """

    active: Ints
    idle: Ints
    sent: Ints
    received: Ints
    operations: Ints
    links: Ints


def sample_amounts(routes: Routes, grid: Grid, loads: Loads) -> Amounts:
    """Tiles and flows of a sample, summed up by core and link."""
    cores, steps = len(routes.cores), len(loads.flows)
    active, idle, sent, received, operations = (np.zeros((steps, cores), np.int64) for _ in range(5))
    _gather(loads.active, routes.tile_core, active)
    _gather(routes.tile_neurons - loads.active, routes.tile_core, idle)
    _gather(loads.operations, routes.tile_core, operations)
    _gather(loads.flows, flow_sender(routes), sent)
    _gather(loads.flows, routes.flow_core, received)
    links = np.zeros((steps, 4 * grid.columns * grid.rows), np.int64)
    _cross(loads.flows, grid.ways, grid.links, links)
    return Amounts(active, idle, sent, received, operations, links)


def flow_sender(routes: Routes) -> Ints:
    """Sending core of every flow; -1 for the input."""
    return np.where(routes.flow_tile >= 0, routes.tile_core[routes.flow_tile], -1)


@dataclass(frozen=True)
class Work:
    """Busy times, ps: of each core's updates, out queue and receiver [K, cores]."""

    update: Ints
    send: Ints
    receive: Ints


def work_of(amounts: Amounts, t: Times) -> Work:
    """Amounts as times."""
    return Work(
        amounts.active * t.update + amounts.idle * t.idle,
        amounts.sent * t.send,
        amounts.received * t.lookup + amounts.operations * t.synop,
    )


@njit(nogil=True, cache=True)
def _gather(values, index, result):
    """Sum columns by ``index``; those of index -1 count nowhere."""
    for k in range(values.shape[0]):
        for i in range(values.shape[1]):
            if index[i] >= 0:
                result[k, index[i]] += values[k, i]


@njit(nogil=True, cache=True)
def _cross(flows, ways, links, crossed):
    """Packets over every link and micro-step."""
    for k in range(flows.shape[0]):
        for f in range(flows.shape[1]):
            if flows[k, f]:
                for i in range(ways[f], ways[f + 1]):
                    crossed[k, links[i]] += flows[k, f]


# ---- bound ------------------------------------------------------------------------------------------


def bound_times(
    routes: Routes, grid: Grid, loads: Loads, amounts: Amounts, t: Times
) -> tuple[Ints, NDArray[np.int32]]:
    """Lower bound of every micro-step without its barrier, ps, and what sets it: [K], [K, 2].

    The second array names the kind of the largest term and its core or link.
    """
    work, neurons = work_of(amounts, t), _neurons(routes)
    first = work.update // np.maximum(neurons, 1) + t.send  # earliest end of a core's first packet
    travel = grid.hops_x * t.hop_x + grid.hops_y * t.hop_y
    service = t.lookup + routes.flow_least * t.synop
    result, limit = np.zeros(len(loads.flows), np.int64), np.zeros((len(loads.flows), 2), np.int32)
    _bound(
        loads.flows, (work.update, work.send, work.receive, amounts.links), first, flow_sender(routes),
        routes.flow_core, (grid.ways, grid.links), (t.hop_x, t.hop_y), t.send, travel, service, result, limit,
    )  # fmt: skip
    return result, limit


def _neurons(routes: Routes) -> Ints:
    """Neurons of each core."""
    neurons = np.zeros(len(routes.cores), np.int64)
    np.add.at(neurons, routes.tile_core, routes.tile_neurons)
    return neurons


@njit(nogil=True, cache=True)
def _bound(flows, work, first, sender, goal, ways, hop, send, travel, service, result, limit):
    """Largest term of every micro-step."""
    never = np.int64(2**62)
    update, sending, receive, crossed = work
    cores, links = update.shape[1], crossed.shape[1]
    behind, arrival = np.empty(cores, np.int64), np.empty(cores, np.int64)
    before, after = np.empty(links, np.int64), np.empty(links, np.int64)
    for k in range(flows.shape[0]):
        behind[:], arrival[:], before[:], after[:] = never, never, never, never
        for f in range(flows.shape[1]):
            if flows[k, f] == 0:
                continue
            if sender[f] < 0:
                arrival[goal[f]] = 0
                continue
            start = first[k, sender[f]]
            behind[sender[f]] = min(behind[sender[f]], travel[f] + service[f])
            arrival[goal[f]] = min(arrival[goal[f]], start + travel[f])
            passed = np.int64(0)
            for i in range(ways[0][f], ways[0][f + 1]):
                link = ways[1][i]
                before[link] = min(before[link], start + passed)
                passed += hop[link % 4 // 2]
                after[link] = min(after[link], travel[f] - passed + service[f])
        most, kind, where = np.int64(0), UPDATE, 0
        for c in range(cores):
            if update[k, c] > most:
                most, kind, where = update[k, c], UPDATE, c
            term = first[k, c] - send + sending[k, c] + behind[c]
            if behind[c] != never and term > most:
                most, kind, where = term, SEND, c
            if arrival[c] != never and arrival[c] + receive[k, c] > most:
                most, kind, where = arrival[c] + receive[k, c], RECEIVE, c
        for link in range(links):
            if crossed[k, link]:
                term = before[link] + crossed[k, link] * hop[link % 4 // 2] + after[link]
                if term > most:
                    most, kind, where = term, LINK, link
        result[k], limit[k, 0], limit[k, 1] = most, kind, where


# ---- queues -----------------------------------------------------------------------------------------


def queue_times(routes: Routes, grid: Grid, events: Events, amounts: Amounts, t: Times) -> Ints:
    """Time of every micro-step without its barrier, ps [K], with every packet in every queue."""
    result = np.zeros(events.offsets.shape[1] - 1, np.int64)
    ways = (routes.packets, routes.packet_operations, routes.flow_core[routes.packet_flow])
    senders = np.where(routes.bundle_tile >= 0, routes.tile_core[routes.bundle_tile], -1)
    constants = np.array([t.lookup, t.synop, t.send, t.hop_x, t.hop_y], np.int64)
    _play(
        (events.offsets, events.addresses, routes.starts, routes.bundle, routes.rank), ways, senders,
        _neurons(routes), work_of(amounts, t).update, (grid.columns, grid.rows, grid.core_x, grid.core_y),
        constants, result,
    )  # fmt: skip
    return result


# Packets wait in singly linked lists, ordered by time: ``following[p]`` comes behind packet p, -1
# ends a list, -1 is an empty one. Of two packets that arrive together the one from the list named
# first goes first, so that results do not depend on anything else.


@njit(nogil=True, cache=True)
def _merge(a, b, time, following):
    """One list of two."""
    if a < 0:
        return b
    if b < 0:
        return a
    if time[a] <= time[b]:
        head, a = a, following[a]
    else:
        head, b = b, following[b]
    last = head
    while a >= 0 and b >= 0:
        if time[a] <= time[b]:
            following[last] = a
            last, a = a, following[a]
        else:
            following[last] = b
            last, b = b, following[b]
    following[last] = a if a >= 0 else b
    return head


@njit(nogil=True, cache=True)
def _split(head, goal, at, following):
    """Lists of the packets whose goal lies above, below and at a position."""
    heads, tails = [-1, -1, -1], [-1, -1, -1]
    p = head
    while p >= 0:
        behind = following[p]
        way = 0 if goal[p] > at else (1 if goal[p] < at else 2)
        if tails[way] < 0:
            heads[way] = p
        else:
            following[tails[way]] = p
        tails[way] = p
        following[p] = -1
        p = behind
    return heads[0], heads[1], heads[2]


@njit(nogil=True, cache=True)
def _line(up, entering, leaving, goal, hop, time, following):
    """Packets along one line of links in one direction; ``leaving`` gets those that reach their goal."""
    n = entering.size
    leaving[:] = -1
    waiting = np.int32(-1)
    for i in range(n - 1):
        at = i if up else n - 1 - i
        behind = at + 1 if up else at - 1
        p = _merge(waiting, entering[at], time, following)
        waiting = np.int32(-1)
        last_on = last_off = np.int32(-1)
        free = np.int64(0)
        while p >= 0:
            after = following[p]
            free = max(free, time[p]) + hop
            time[p] = free
            following[p] = -1
            if goal[p] == behind:
                if last_off < 0:
                    leaving[behind] = p
                else:
                    following[last_off] = p
                last_off = p
            else:
                if last_on < 0:
                    waiting = p
                else:
                    following[last_on] = p
                last_on = p
            p = after


@njit(nogil=True, cache=True)
def _sweep(lines, goal, hop, time, following):
    """Packets along parallel lines [lines, positions]: each entry becomes what arrived there."""
    count, n = lines.shape
    above, below = np.empty(n, np.int32), np.empty(n, np.int32)
    from_below, from_above = np.empty(n, np.int32), np.empty(n, np.int32)
    for line in range(count):
        if (lines[line] < 0).all():
            continue
        for at in range(n):
            above[at], below[at], lines[line, at] = _split(lines[line, at], goal, at, following)
        _line(True, above, from_below, goal, hop, time, following)
        _line(False, below, from_above, goal, hop, time, following)
        for at in range(n):
            arrived = _merge(from_below[at], from_above[at], time, following)
            lines[line, at] = _merge(arrived, lines[line, at], time, following)


@njit(nogil=True, cache=True)
def _inject(k, events, ways, senders, neurons, update, send, routers, packets, heads):
    """Packets of a micro-step in their cores' out queues; returns their number and the last send time.

    ``heads`` gets a list per core; behind the cores' stand those of the input's packets, per core.
    """
    offsets, addresses, starts, bundle, rank = events
    first, operations, cores = ways
    _, _, core_x, core_y = routers
    time, following, goal_x, goal_y, goal, work = packets
    free = np.zeros(neurons.size, np.int64)
    tails = np.full(heads.size, -1, np.int32)
    heads[:] = -1
    n = 0
    for s in range(offsets.shape[0]):
        for e in range(offsets[s, k], offsets[s, k + 1]):
            address = starts[s] + addresses[e]
            b = bundle[address]
            core = senders[b]
            ready = np.int64(0)
            if core >= 0:
                ready = update[core] * (rank[address] + 1) // neurons[core]
            for i in range(first[b], first[b + 1]):
                c = cores[i]
                queue = core if core >= 0 else neurons.size + c
                if core >= 0:
                    free[core] = max(free[core], ready) + send
                    time[n] = free[core]
                else:
                    time[n] = 0
                goal[n], work[n], following[n] = c, operations[i], -1
                goal_x[n], goal_y[n] = core_x[c], core_y[c]
                if tails[queue] < 0:
                    heads[queue] = n
                else:
                    following[tails[queue]] = n
                tails[queue] = n
                n += 1
    return n, free.max()


@njit(nogil=True, cache=True)
def _receive(heads, lookup, synop, free, packets):
    """The receivers serve what arrived at their router."""
    time, following, _, _, goal, work = packets
    p = heads
    while p >= 0:
        free[goal[p]] = max(free[goal[p]], time[p]) + lookup + work[p] * synop
        p = following[p]


@njit(nogil=True, cache=True)
def _most(offsets, bundle, starts, addresses, first):
    """Packets of the fullest micro-step."""
    most = 0
    for k in range(offsets.shape[1] - 1):
        n = 0
        for s in range(offsets.shape[0]):
            for e in range(offsets[s, k], offsets[s, k + 1]):
                b = bundle[starts[s] + addresses[e]]
                n += first[b + 1] - first[b]
        most = max(most, n)
    return most


@njit(nogil=True, cache=True)
def _play(events, ways, senders, neurons, update, routers, constants, result):
    """Every packet of a sample through every queue."""
    offsets, addresses, starts, bundle, _ = events
    columns, rows, core_x, core_y = routers
    lookup, synop, send, hop_x, hop_y = constants
    size, cores = _most(offsets, bundle, starts, addresses, ways[0]), neurons.size
    time, following = np.empty(size, np.int64), np.empty(size, np.int32)
    goal_x, goal_y = np.empty(size, np.int32), np.empty(size, np.int32)
    goal, work = np.empty(size, np.int32), np.empty(size, np.int64)
    packets = (time, following, goal_x, goal_y, goal, work)
    heads, grid = np.empty(2 * cores, np.int32), np.empty((rows, columns), np.int32)
    for k in range(result.size):
        n, end = _inject(k, events, ways, senders, neurons, update[k], send, routers, packets, heads)
        end = max(end, update[k].max())
        if n > 0:
            grid[:] = -1
            for c in range(cores):
                at = grid[core_y[c], core_x[c]]
                grid[core_y[c], core_x[c]] = _merge(at, heads[c], time, following)
            _sweep(grid, goal_x, hop_x, time, following)
            turned = grid.T.copy()
            _sweep(turned, goal_y, hop_y, time, following)
            free = np.zeros(cores, np.int64)
            for c in range(cores):
                _receive(heads[cores + c], lookup, synop, free, packets)
            for x in range(columns):
                for y in range(rows):
                    _receive(turned[x, y], lookup, synop, free, packets)
            end = max(end, free.max())
        result[k] = end
