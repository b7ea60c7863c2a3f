"""Latency of networks on a mesh of cores: every sample, with bands, and who was waited for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from snncc.hw.spec import ChipSpec
from snncc.hw.timing import MeshCosts
from snncc.mapping.mapped import Mapped
from snncc.simulation import Activity, CoreUse, Estimate, Latency, Limit, LinkUse, MicroSteps
from snncc_sim import mesh, traffic
from snncc_sim.mesh import Amounts, Grid, Times
from snncc_sim.mesh_energy import constant, cycles
from snncc_sim.traffic import Loads, Routes

Ints = NDArray[np.int64]

# Packets that the queues play, from the first sample on; the first sample is always played whole.
QUEUED_PACKETS = 1_000_000

BANDS = (lambda q: q.value, lambda q: q.low, lambda q: q.high)
_NEEDED = ("neuron_update_time_ns", "synop_time_ns")  # without them a step has no time at all


@dataclass(frozen=True)
class Totals:
    """Sums over all samples and micro-steps of what a mesh did.

    Attributes:
        operations, lookups, active, idle, packets, hops_x, hops_y: per tile; look-ups count where
            a packet arrives, packets and hops where it was sent.
    """

    operations: Ints
    lookups: Ints
    active: Ints
    idle: Ints
    packets: Ints
    hops_x: Ints
    hops_y: Ints

    def of(self, mapped: Mapped, piece: str) -> dict[str, int]:
        """Those of one piece, by name."""
        mine = [i for i, t in enumerate(mapped.tiles) if t.piece == piece]
        return {f.name: int(getattr(self, f.name)[mine].sum()) for f in fields(self)}


def mesh_run(mapped: Mapped, activity: Activity, chip: ChipSpec) -> tuple[Totals, Latency]:
    """What a network of tiles did on a chip with a mesh, and how long that took.

    Args:
        mapped: the network, clocked, with tiles.
        activity: its counts, and the input that it was given.
        chip: a chip with a mesh and its constants.
    """
    assert chip.mesh is not None
    assert activity.inputs is not None
    costs = chip.mesh_costs or MeshCosts()
    routes = traffic.build_routes(mapped)
    grid = mesh.build_grid(routes, chip.mesh)
    known = all(getattr(costs, key) is not None for key in _NEEDED)
    clocks = [_Clock(mesh.times(costs, pick)) for pick in BANDS] if known else []
    tally, left, queued = _Tally(routes, grid), QUEUED_PACKETS, 0
    for sample in range(activity.samples):
        events = traffic.sample_events(routes, activity.counts, activity.inputs, sample)
        loads = traffic.sample_loads(routes, events)
        amounts = mesh.sample_amounts(routes, grid, loads)
        tally.add(loads, amounts)
        left -= int(loads.flows.sum())
        play = queued == sample and (sample == 0 or left >= 0)
        queued += play
        for clock in clocks:
            bound, limit = mesh.bound_times(routes, grid, loads, amounts, clock.times)
            clock.add(bound, mesh.queue_times(routes, grid, events, amounts, clock.times) if play else None)
            if clock is clocks[0]:
                tally.blame(clock.closed(bound), bound, limit)
    steps = routes.micro_steps
    if not clocks or not activity.samples:
        return tally.totals(), Latency(_model(0), steps, None, None)
    return tally.totals(), _latency(costs, tally, clocks, steps)


# ---- sums over samples ------------------------------------------------------------------------------


class _Clock:
    """Times of all samples with one end of the constants' bands, ps."""

    def __init__(self, times: Times) -> None:
        self.times = times
        self.bounds: list[int] = []
        self.queues: list[int] = []
        self.longest = 0

    def closed(self, steps: Ints) -> Ints:
        """Micro-steps with their barriers."""
        return np.maximum(steps + self.times.barrier, self.times.shortest)

    def add(self, bound: Ints, queues: Ints | None) -> None:
        """One sample."""
        closed = self.closed(bound)
        self.bounds.append(int(closed.sum()))
        if queues is not None:
            closed = self.closed(queues)
            self.queues.append(int(closed.sum()))
        self.longest = max(self.longest, int(closed.max(initial=0)))

    @property
    def queueing(self) -> float:
        """Time with queues over its bound, of the samples that have both."""
        bound = sum(self.bounds[: len(self.queues)])
        return sum(self.queues) / bound if bound else 1.0

    @property
    def ns(self) -> NDArray[np.float64]:
        """Time of every sample: with queues, or its bound scaled as theirs."""
        rest = [b * self.queueing for b in self.bounds[len(self.queues) :]]
        return np.array([*self.queues, *rest]) / 1000


class _Tally:
    """Amounts of all samples."""

    def __init__(self, routes: Routes, grid: Grid) -> None:
        self.routes, self.grid = routes, grid
        tiles = len(routes.tile_core)
        self.operations, self.lookups, self.active, self.idle = (np.zeros(tiles, np.int64) for _ in range(4))
        self.flows = np.zeros(len(routes.flow_tile), np.int64)
        self.cores = np.zeros((5, len(routes.cores)), np.int64)
        self.links = np.zeros(4 * grid.columns * grid.rows, np.int64)
        self.blamed: Counter[tuple[int, int]] = Counter()

    def add(self, loads: Loads, amounts: Amounts) -> None:
        """One sample."""
        self.operations += loads.operations.sum(axis=0)
        self.lookups += loads.lookups
        self.active += loads.active.sum(axis=0)
        self.idle += (self.routes.tile_neurons - loads.active).sum(axis=0)
        self.flows += loads.flows.sum(axis=0)
        parts = (amounts.active, amounts.idle, amounts.sent, amounts.received, amounts.operations)
        self.cores += np.stack([p.sum(axis=0) for p in parts])
        self.links += amounts.links.sum(axis=0)

    def blame(self, closed: Ints, bound: Ints, limit: NDArray[np.int32]) -> None:
        """Time of one sample's micro-steps by what set it; -1 is all behind the last packet."""
        for time, (kind, where) in zip(bound, limit, strict=True):
            self.blamed[int(kind), int(where)] += int(time)
        self.blamed[-1, 0] += int((closed - bound).sum())

    def totals(self) -> Totals:
        """Sums by tile."""
        sent, tiles = self.routes.flow_tile >= 0, len(self.operations)
        by_tile = []
        for each in (np.ones_like(self.flows), self.grid.hops_x, self.grid.hops_y):
            total = np.zeros(tiles, np.int64)
            np.add.at(total, self.routes.flow_tile[sent], (self.flows * each)[sent])
            by_tile.append(total)
        return Totals(self.operations, self.lookups, self.active, self.idle, *by_tile)

    def busy(self, t: Times) -> Ints:
        """Busy time of each core's updates, out queue and receiver, ps [3, cores]."""
        active, idle, sent, received, operations = self.cores
        update, receive = active * t.update + idle * t.idle, received * t.lookup + operations * t.synop
        return np.stack([update, sent * t.send, receive])

    def hop_times(self, t: Times) -> Ints:
        """Hop time of every link, ps."""
        return np.where(np.arange(len(self.links)) % 4 < 2, t.hop_x, t.hop_y)


# ---- result -----------------------------------------------------------------------------------------


def _model(queued: int) -> str:
    return (
        "largest of each core's updates, sending and receiving and each link's packets, then the barrier; "
        f"queues of every packet in the first {queued} samples, the others' bounds scaled as theirs"
    )


def _latency(costs: MeshCosts, tally: _Tally, clocks: list[_Clock], steps: int) -> Latency:
    every = [c.ns for c in clocks]
    mean, most = (Estimate(*(float(f(ns)) for ns in every)) for f in (np.mean, np.max))
    used = [
        constant(key, quantity)
        for key, quantity in costs
        if quantity is not None and key.endswith(("_time_ns", "min_ns", "mhz"))
    ]
    found = _micro_steps(tally, clocks, steps, mean)
    model = _model(found.queued_samples)
    return Latency(model, steps, mean, most, tuple(used), cycles(mean, costs), found)


def _micro_steps(tally: _Tally, clocks: list[_Clock], steps: int, mean: Estimate) -> MicroSteps:
    clock, grid = clocks[0], tally.grid
    whole = max(1.0, float(clock.ns.sum()) * 1000)  # ps of all samples
    update, send, receive = tally.busy(clock.times) / whole
    hops = tally.hop_times(clock.times)
    return MicroSteps(
        mean_ns=mean.times(1 / steps),
        longest_ns=Estimate(*(c.longest / 1000 for c in clocks)),
        packets=int(tally.flows.sum()),
        hops=int(tally.links.sum()),
        queued_samples=len(clock.queues),
        queueing=clock.queueing,
        limits=tuple(_limits(tally, clock.times)),
        cores=tuple(
            CoreUse(int(core), float(update[i]), float(send[i]), float(receive[i]))
            for i, core in enumerate(tally.routes.cores)
        ),
        links=tuple(
            LinkUse(grid.link_name(int(i)), int(tally.links[i]), float(tally.links[i] * hops[i] / whole))
            for i in np.flatnonzero(tally.links)
        ),
    )


def _limits(tally: _Tally, t: Times) -> list[Limit]:
    """Who held the micro-steps back, by falling share of their bounds."""
    whole = max(1, sum(tally.blamed.values()))
    named: Counter[tuple[str, str]] = Counter()
    for (kind, where), time in tally.blamed.items():
        named[_named(tally, t, kind, where)] += time
    order = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return [Limit(component, where, time / whole) for (component, where), time in order if time]


def _named(tally: _Tally, t: Times, kind: int, where: int) -> tuple[str, str]:
    if kind < 0:
        return "barrier", "all cores"
    if kind == mesh.LINK:
        return "link", tally.grid.link_name(where)
    core = f"core {tally.routes.cores[where]}"
    if kind == mesh.UPDATE:
        return "neuron updates", core
    if kind == mesh.SEND:
        return "sending packets", core
    received, operations = tally.cores[3, where] * t.lookup, tally.cores[4, where] * t.synop
    return ("axon look-ups" if received > operations else "synaptic operations"), core
