"""Micro-steps on a mesh: small cases by hand, queues against a heap of events, bound against queues."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way, recolour
from simulator.test_traffic import mixed_net, native_net, tiled
from snncc.hw.mesh import Mesh
from snncc.mapping.mapped import Mapped, Tile
from snncc_sim import mesh, traffic
from snncc_sim.mesh import LINK, RECEIVE, SEND, UPDATE, Times

GRID = Mesh(source="", chips=2, columns=3, rows=3, cores_per_router=2)
# Coprime: no two ways take equally long by accident.
TIMES = Times(
    lookup=1009, synop=101, update=997, idle=503, send=211, hop_x=4099, hop_y=6521, barrier=0, shortest=0
)


def played(mapped: Mapped, counts: Any, x: Any, t: Times, grid: Mesh = GRID) -> dict[str, Any]:
    """Both fidelities of sample 0."""
    routes = traffic.build_routes(mapped)
    events = traffic.sample_events(routes, counts, x, 0)
    loads = traffic.sample_loads(routes, events)
    built = mesh.build_grid(routes, grid)
    amounts = mesh.sample_amounts(routes, built, loads)
    bound, limit = mesh.bound_times(routes, built, loads, amounts, t)
    queues = mesh.queue_times(routes, built, events, amounts, t)
    return {
        "routes": routes, "events": events, "grid": built, "amounts": amounts,
        "bound": bound, "limit": limit, "queues": queues,
    }  # fmt: skip


# ---- reference --------------------------------------------------------------------------------------


def way(start: tuple[int, int], goal: tuple[int, int]) -> list[tuple[tuple[int, int], str]]:
    """Routers and directions of an XY way."""
    (x, y), found = start, []
    while x != goal[0]:
        found.append(((x, y), "+x" if goal[0] > x else "-x"))
        x += 1 if goal[0] > x else -1
    while y != goal[1]:
        found.append(((x, y), "+y" if goal[1] > y else "-y"))
        y += 1 if goal[1] > y else -1
    return found


def reference(run: dict[str, Any], k: int, t: Times, grid: Mesh) -> int:
    """One micro-step with a heap of arrivals; of those at one time the lower class goes first."""
    routes, events, amounts = run["routes"], run["events"], run["amounts"]
    place = [grid.position(int(c)) for c in routes.cores]
    neurons = np.bincount(routes.tile_core, routes.tile_neurons, len(routes.cores)).astype(int)
    update = [int(u) for u in amounts.active[k] * t.update + amounts.idle[k] * t.idle]
    spikes = []
    for s in range(len(events.offsets)):
        for address in events.addresses[events.offsets[s, k] : events.offsets[s, k + 1]]:
            at = routes.starts[s] + address
            tile = routes.bundle_tile[routes.bundle[at]]
            core = -1 if tile < 0 else int(routes.tile_core[tile])
            spikes.append((core, int(routes.rank[at]), s, int(routes.bundle[at])))
    spikes.sort(key=lambda spike: spike[:2] if spike[0] >= 0 else (-1, 0))
    out, heap, free, number = [0] * len(place), [], {}, 0
    for core, rank, _, b in spikes:
        for i in range(routes.packets[b], routes.packets[b + 1]):
            goal, work = int(routes.flow_core[routes.packet_flow[i]]), int(routes.packet_operations[i])
            if core < 0:
                heap.append((0, -1, number, [], 0, goal, work))
            else:
                ready = update[core] * (rank + 1) // int(neurons[core])
                out[core] = max(out[core], ready) + t.send
                heap.append((out[core], 9 + core, number, way(place[core], place[goal]), 0, goal, work))
            number += 1
    heapq.heapify(heap)
    end = max(*update, *out)
    while heap:
        time, kind, n, links, passed, goal, work = heapq.heappop(heap)
        if passed == len(links):
            free[goal] = max(free.get(goal, 0), time) + t.lookup + work * t.synop
            end = max(end, free[goal])
            continue
        link = links[passed]
        free[link] = max(free.get(link, 0), time) + (t.hop_x if link[1] in "+x-x" else t.hop_y)
        following = links[passed + 1 :][:1]
        if following and following[0][1] == link[1]:
            kind = 0
        else:
            kind = {"+y": 1, "-y": 2, "+x": 3, "-x": 4}[link[1]]
        heapq.heappush(heap, (free[link], kind, n, links, passed + 1, goal, work))
    return end


def random_run(seed: int, native: bool, t: Times) -> dict[str, Any]:
    net = native_net() if native else mixed_net()
    rng = np.random.default_rng(seed)
    mapped = tiled(net.mapped(), rng, cuts=4)
    counts = {
        p.name: rng.integers(0, max(p.cell.max_spikes, 1) + 1, (1, net.steps, *p.shape))
        for p in mapped.pieces
    }
    return played(mapped, counts, net.data(1), t)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0, 1, 2]))
def test_queues_equal_a_heap_of_events(seed: int, native: bool, kind: int) -> None:
    # Equal times: packets tie at links and receivers all the time. Then: links are what is scarce.
    tied = replace(TIMES, lookup=100, synop=100, update=100, idle=100, send=100, hop_x=100, hop_y=100)
    t = (TIMES, tied, replace(TIMES, hop_x=40099, hop_y=9001, update=7))[kind]
    run = random_run(seed, native, t)
    assert run["queues"].tolist() == [reference(run, k, t, GRID) for k in range(len(run["queues"]))]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.lists(st.integers(0, 9000), min_size=7, max_size=7))
def test_bound_never_exceeds_queues(seed: int, native: bool, values: list[int]) -> None:
    run = random_run(seed, native, Times(*values, barrier=0, shortest=0))
    assert (run["bound"] <= run["queues"]).all()
    largest = run["amounts"].links.max(axis=1) * min(values[5:])
    assert (largest <= run["bound"]).all()
    again = random_run(seed, native, Times(*values, barrier=0, shortest=0))
    np.testing.assert_array_equal(run["queues"], again["queues"])


# ---- by hand ----------------------------------------------------------------------------------------


def pair(neurons: int, fan: int, core: int, goal: int) -> tuple[Mapped, dict[str, Any], Any]:
    """``neurons`` that all fire in micro-step 1, each with ``fan`` synapses on another core."""
    net = Net((1, 1, 1), levels=1, period=1)
    net.layer("a", neurons, Way(kernel=(1, 1)), threshold=1, max_spikes=1, phase=1)
    net.layer("r", fan, Way("a", kernel=(1, 1)), max_spikes=0, phase=2)
    tiles = (
        Tile(piece="a", core=core, low=(0, 0, 0), high=(neurons, 1, 1)),
        Tile(piece="r", core=goal, low=(0, 0, 0), high=(fan, 1, 1)),
    )
    counts = {"a": np.ones((1, 1, neurons, 1, 1), np.int32), "r": np.zeros((1, 1, fan, 1, 1), np.int32)}
    return net.mapped().model_copy(update={"tiles": tiles}), counts, np.ones((1, 1, 1, 1, 1), np.int32)


# Router (x, y) of core 2 * (3 * y + x): from (0, 0) to (2, 1) are two links along x and one along y.
def test_a_single_packet_takes_what_its_parts_take() -> None:
    run = played(*pair(1, 5, 0, 2 * 5), TIMES)
    alone = 997 + 211 + 2 * 4099 + 6521 + 1009 + 5 * 101
    assert run["queues"].tolist() == [5 * 503, alone, 5 * 997]
    assert run["bound"].tolist() == run["queues"].tolist()
    assert run["limit"][0].tolist() == run["limit"][2].tolist() == [UPDATE, 1]
    links = run["amounts"].links[1]
    assert {run["grid"].link_name(i): int(links[i]) for i in np.flatnonzero(links)} == {
        "(0, 0) → (1, 0)": 1,
        "(1, 0) → (2, 0)": 1,
        "(2, 0) → (2, 1)": 1,
    }


def test_a_row_of_packets_is_as_slow_as_its_slowest_stage() -> None:
    links = replace(TIMES, lookup=1, synop=1, update=10, idle=10, send=20)
    run = played(*pair(7, 5, 0, 2 * 5), links)
    # All wait for the link along y; the first gets there after two links along x.
    assert run["queues"][1] == 10 + 20 + 2 * 4099 + 7 * 6521 + 1 + 5
    assert run["bound"][1] == run["queues"][1]
    assert run["limit"][1].tolist() == [LINK, 4 * 2 + 2]
    receiver = replace(links, lookup=9000)
    run = played(*pair(7, 5, 0, 2 * 5), receiver)
    assert run["queues"][1] == 10 + 20 + 2 * 4099 + 6521 + 7 * 9005 == run["bound"][1]
    assert run["limit"][1].tolist() == [RECEIVE, 1]
    sender = replace(links, send=8000)
    run = played(*pair(7, 5, 0, 2 * 5), sender)
    assert run["queues"][1] == 10 + 7 * 8000 + 2 * 4099 + 6521 + 6 == run["bound"][1]
    assert run["limit"][1].tolist() == [SEND, 0]


def test_the_way_back_and_chip_borders() -> None:
    # Chip 1 stands three columns to the right: core 18 + 2 * 8 is at (5, 2), core 2 at (1, 0).
    run = played(*pair(1, 1, 18 + 16, 2), TIMES)
    assert run["queues"][1] == 997 + 211 + 4 * 4099 + 2 * 6521 + 1009 + 101
    links = run["amounts"].links[1]
    names = [run["grid"].link_name(i) for i in np.flatnonzero(links)]
    assert sorted(names) == sorted(
        ["(5, 2) → (4, 2)", "(4, 2) → (3, 2)", "(3, 2) → (2, 2)", "(2, 2) → (1, 2)", "(1, 2) → (1, 1)", "(1, 1) → (1, 0)"]
    )  # fmt: skip


def test_two_senders_share_a_link() -> None:
    """Cores 0 and 1 of router (0, 0) each send one packet over the same link at the same time."""
    net = Net((1, 1, 1), levels=1, period=1)
    net.layer("a", 2, Way(kernel=(1, 1)), threshold=1, max_spikes=1, phase=1)
    net.layer("r", 1, Way("a", kernel=(1, 1)), max_spikes=0, phase=2)
    tiles = tuple(
        Tile(piece=p, core=c, low=(low, 0, 0), high=(low + 1, 1, 1))
        for p, c, low in (("a", 0, 0), ("a", 1, 1), ("r", 2, 0))
    )
    mapped = net.mapped().model_copy(update={"tiles": tiles})
    counts = {"a": np.ones((1, 1, 2, 1, 1), np.int32), "r": np.zeros((1, 1, 1, 1, 1), np.int32)}
    run = played(mapped, counts, np.ones((1, 1, 1, 1, 1), np.int32), TIMES)
    assert run["queues"][1] == 997 + 211 + 2 * 4099 + 1009 + 101
    # The bound charges the pair of them to the link, too.
    assert run["bound"][1] == run["queues"][1]


@pytest.mark.parametrize(
    ("cores", "goals", "far"),
    [
        # Cores 0 and 1 of router (0, 0): the lower one's packet goes first, and it has the longer way.
        ((0, 1), (4 + 6, 2), 2 * 4099 + 6521),
        # Core 0 sends to (1, 2) and is at (1, 0) when core 2 there sends to (1, 1): who comes goes first.
        ((0, 2), (2 + 12, 2 + 6), 4099 + 2 * 6521),
        # The same, but both go on along x: again who comes goes first.
        ((0, 2), (4 + 6, 4), 2 * 4099 + 6521),
    ],
)
def test_who_goes_first_of_two_that_arrive_together(
    cores: tuple[int, int], goals: tuple[int, int], far: int
) -> None:
    net = Net((1, 1, 1), levels=1, period=1)
    late = 4099 * (cores[1] == 2)  # the second core's packet waits for that of the first
    for i, phase in ((0, 1), (1, 1)):
        net.layer(f"s{i}", 1, Way(kernel=(1, 1)), threshold=1, max_spikes=1, phase=phase)
    for i in (0, 1):
        net.layer(f"r{i}", 1, Way(f"s{i}", kernel=(1, 1)), max_spikes=0, phase=2)
    names = (("s0", cores[0]), ("s1", cores[1]), ("r0", goals[0]), ("r1", goals[1]))
    tiles = [Tile(piece=p, core=c, low=(0, 0, 0), high=(1, 1, 1)) for p, c in names]
    mapped = net.mapped()
    if late:  # as many neurons as make the second core's only spike leave a hop later
        idle = recolour(mapped.pieces[0], name="idle", shape=(late, 1, 1), connections=(), max_spikes=1)
        mapped = mapped.model_copy(update={"pieces": (idle, *mapped.pieces)})
        tiles.append(Tile(piece="idle", core=cores[1], low=(0, 0, 0), high=(late, 1, 1)))
    mapped = mapped.model_copy(update={"tiles": tuple(tiles)})
    counts = {p.name: np.full((1, 1, *p.shape), p.name[0] == "s", np.int32) for p in mapped.pieces}
    t = replace(TIMES, update=997, idle=1)
    run = played(mapped, counts, np.ones((1, 1, 1, 1, 1), np.int32), t)
    assert run["queues"][1] == 997 + 211 + far + 1009 + 101


def test_what_waits_twice_is_beyond_the_bound() -> None:
    """A packet that waits for a link and then for a receiver: neither term has both waits."""
    t = replace(TIMES, lookup=30000)
    net = Net((1, 1, 1), levels=1, period=1)
    net.layer("a", 2, Way(kernel=(1, 1)), threshold=1, max_spikes=1, phase=1)
    net.layer("b", 1, Way("a", kernel=(1, 1)), threshold=1, max_spikes=1, phase=2)
    net.layer("r", 1, Way("a", kernel=(1, 1)), max_spikes=0, phase=3)
    rng_tiles = (("a", 0, 0), ("a", 3, 1), ("b", 2, 0), ("r", 4, 0))
    tiles = tuple(Tile(piece=p, core=c, low=(low, 0, 0), high=(low + 1, 1, 1)) for p, c, low in rng_tiles)
    mapped = net.mapped().model_copy(update={"tiles": tiles})
    counts = {p.name: np.ones((1, 1, *p.shape), np.int32) for p in net.pieces}
    run = played(mapped, counts, np.ones((1, 1, 1, 1, 1), np.int32), t)
    assert run["queues"][1] > run["bound"][1]


@pytest.mark.parametrize("silent", [True, False])
def test_no_packets(silent: bool) -> None:
    mapped, counts, x = pair(3, 2, 0, 10)
    counts["a"][:] = 0
    run = played(mapped, counts, x * (not silent), TIMES)
    first = 3 * 503 if silent else max(1009 + 3 * 101, 3 * 503)
    second = 3 * 503 if silent else 3 * 997
    assert run["queues"].tolist() == [first, second, 3 * 503]
    assert run["bound"].tolist() == run["queues"].tolist()
