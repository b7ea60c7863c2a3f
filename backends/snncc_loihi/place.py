"""Puts blocks on cores of the mesh so that few packets cross few links.

A spike travels as one packet to every core that holds a target of its neuron (per connection, where
a layer is read through several). The cost of a placement is the expected number of packets of a
sample times the links between their cores, XY routing; a step to the next chip counts as
``mesh.chip_crossing`` further links. Spikes of the host's input and readouts are left out: where
they enter the mesh is the board's affair. Simulated annealing starts from row-major order and
never ends above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from snncc.hw.mesh import Mesh
from snncc.hw.spec import ChipSpec
from snncc.mapping.address import VSC
from snncc.mapping.check import check_mapped
from snncc.mapping.mapped import Mapped
from snncc_loihi.check import CHECKER
from snncc_loihi.partition import partition, tiles_of
from snncc_loihi.resources import Grid, Grids, is_dense, overlap

MOVES_A_TILE = 5000  # and at least MOVES_LEAST
MOVES_LEAST = 100_000
NEAR = 8  # cores around a tile's neighbour that half of the moves aim at
COLDEST = 1e-3  # last temperature over the first


@dataclass(frozen=True)
class Traffic:
    """Expected packets of a sample between tiles; parallel arrays, one entry a pair with any.

    Attributes:
        tiles: how many tiles there are.
        source, target: tile numbers, int64.
        packets: float64.
    """

    tiles: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    packets: NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Core of each tile, and the packets times links before and after."""

    cores: NDArray[np.int64]
    hops: float
    hops_row_major: float


def place_network(
    mapped: Mapped,
    tensors: Mapping[str, NDArray[Any]],
    chip: ChipSpec,
    traffic: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[Mapped, Placement]:
    """The network with its layers cut into tiles and these on cores, and how these were found.

    Args:
        mapped: pieces without tiles, no connection pools.
        tensors: arrays that it names by digest.
        chip: Loihi 1 or 2, as its file describes it.
        traffic: expected spikes of a neuron in a sample, by piece, for all that others read; None
            for one each.
        seed: of the annealing; equal seeds give equal placements.

    Raises:
        CapacityError: SNNC-C013 for every layer that cannot be cut small enough, SNNC-C014 if there
            are too few cores.
        InternalError: SNNC-X001 if the independent check refuses the result.
    """
    assert chip.mesh is not None
    grids = partition(mapped, chip)
    placement = place(traffic_of(mapped, grids, traffic), chip.mesh, seed)
    tiles = tuple(
        t.model_copy(update={"core": int(core)})
        for t, core in zip(tiles_of(mapped, grids), placement.cores, strict=True)
    )
    placed = mapped.model_copy(update={"tiles": tiles})
    check_mapped(placed, tensors, chip, CHECKER)
    return placed, placement


def traffic_of(mapped: Mapped, grids: Grids, rates: Mapping[str, float] | None = None) -> Traffic:
    """Packets between the tiles of :func:`~snncc_loihi.partition.tiles_of`.

    Args:
        mapped: the network.
        grids: how its pieces are cut.
        rates: expected spikes of a neuron in a sample, by piece; None for one each.
    """
    first: dict[str, int] = {}
    tiles = 0
    for piece in mapped.on_chip:
        first[piece.name] = tiles
        tiles += grids[piece.name].tiles
    parts = []
    for piece in mapped.on_chip:
        for c in piece.connections:
            if c.source not in grids:
                continue
            neurons = _neurons_between(c.address, grids[c.source], grids[piece.name])
            source, target = np.nonzero(neurons)
            packets = neurons[source, target] * (1.0 if rates is None else rates[c.source])
            parts.append((source + first[c.source], target + first[piece.name], packets))
    if not parts:
        none = np.zeros(0, np.int64)
        return Traffic(tiles, none, none, np.zeros(0))
    return Traffic(tiles, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _neurons_between(address: VSC, source: Grid, target: Grid) -> NDArray[np.float64]:
    """Neurons of each source block that reach each target block, [source blocks, target blocks]."""
    if is_dense(address):
        sizes = np.array([block.neurons for block in source.blocks()], float)
        return np.repeat(sizes[:, None], target.tiles, axis=1)
    ins, outs = address.source_shape[0] // address.groups, address.outputs_per_tap
    channels = [
        [
            max(0, min(high, -(-last // outs) * ins) - max(low, first // outs * ins))
            for first, last in target.cuts(0)
        ]
        for low, high in source.cuts(0)
    ]
    rows, columns = (
        [
            [overlap(address, axis, mine, theirs) for theirs in target.cuts(1 + axis)]
            for mine in source.cuts(1 + axis)
        ]
        for axis in (0, 1)
    )
    return np.kron(np.kron(channels, rows), columns).astype(float)


def place(traffic: Traffic, mesh: Mesh, seed: int = 0, moves: int | None = None) -> Placement:
    """A core for each tile, by simulated annealing from row-major order.

    Moves swap two cores' tiles or shift a tile to a free core, on as few chips as hold all tiles.
    Deterministic for a seed. ``moves``: how many are tried; None for a number that grows with the tiles.
    """
    chips = -(-traffic.tiles // mesh.cores_per_chip)
    slots = np.array([mesh.position(core) for core in range(chips * mesh.cores_per_chip)], np.int64)
    chip_of = np.arange(len(slots)) // mesh.cores_per_chip
    crossing = 0 if mesh.chip_crossing is None else mesh.chip_crossing.limit
    start = np.arange(traffic.tiles)
    before = weighted_hops(traffic, mesh, start)
    if traffic.tiles < 2 or before == 0:
        return Placement(start, before, before)
    links, neighbours, weights = _adjacency(traffic)
    cores, _ = _anneal(
        links, neighbours, weights, slots[:, 0], slots[:, 1], chip_of, crossing,
        moves or max(MOVES_LEAST, MOVES_A_TILE * traffic.tiles), COLDEST, seed,
    )  # fmt: skip
    after = weighted_hops(traffic, mesh, cores)
    return Placement(cores, after, before) if after < before else Placement(start, before, before)


def weighted_hops(traffic: Traffic, mesh: Mesh, cores: NDArray[np.int64]) -> float:
    """Packets times links that they cross, for a core of each tile [tiles]."""
    where = np.array([mesh.position(int(core)) for core in cores], np.int64).reshape(-1, 2)
    crossing = 0 if mesh.chip_crossing is None else mesh.chip_crossing.limit
    way = np.abs(where[traffic.source] - where[traffic.target]).sum(axis=1)
    chip = cores // mesh.cores_per_chip
    way = way + crossing * np.abs(chip[traffic.source] - chip[traffic.target])
    return float(traffic.packets @ way)


def _adjacency(traffic: Traffic) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Undirected neighbours in compressed rows: (row starts, neighbours, weights)."""
    a = np.concatenate([traffic.source, traffic.target])
    b = np.concatenate([traffic.target, traffic.source])
    key, inverse = np.unique(a * traffic.tiles + b, return_inverse=True)
    weights = np.bincount(inverse, np.concatenate([traffic.packets] * 2))
    rows, columns = np.divmod(key, traffic.tiles)
    keep = rows != columns
    starts = np.searchsorted(rows[keep], np.arange(traffic.tiles + 1))
    return starts, columns[keep], weights[keep]


def _change_of_move(
    starts: Any, neighbours: Any, weights: Any, xs: Any, ys: Any, chip_of: Any, crossing: int,
    slot_of: Any, a: int, there: int, b: int,
) -> Any:  # fmt: skip
    """Change of the cost if tile ``a`` goes to slot ``there`` and tile ``b`` (-1: none) to its slot."""
    here, delta = slot_of[a], 0.0
    for tile, old, new, other in ((a, here, there, b), (b, there, here, a)):
        if tile < 0:
            continue
        for i in range(starts[tile], starts[tile + 1]):
            if neighbours[i] == other:  # they swap: their distance stays
                continue
            s = slot_of[neighbours[i]]
            delta += weights[i] * (
                abs(xs[new] - xs[s]) + abs(ys[new] - ys[s]) + crossing * abs(chip_of[new] - chip_of[s])
                - abs(xs[old] - xs[s]) - abs(ys[old] - ys[s]) - crossing * abs(chip_of[old] - chip_of[s])
            )  # fmt: skip
    return delta


_delta: Any = numba.njit(cache=True)(_change_of_move)


def _anneal_loop(
    starts: Any, neighbours: Any, weights: Any, xs: Any, ys: Any, chip_of: Any, crossing: int,
    moves: int, coldest: float, seed: int,
) -> Any:  # fmt: skip
    """Best placement seen, [tiles], and its cost less that of row-major order; compiled below."""
    tiles, slots = len(starts) - 1, len(xs)
    slot_of = np.arange(tiles)
    tile_at = np.full(slots, -1)
    tile_at[:tiles] = np.arange(tiles)
    np.random.seed(seed)
    best = slot_of.copy()
    change = lowest = heat = 0.0
    warm_up = min(1000, moves)
    for move in range(moves + warm_up):
        a = np.random.randint(tiles)
        there = np.random.randint(slots)
        degree = starts[a + 1] - starts[a]
        if move % 2 and degree > 0:  # towards a tile that it talks to
            near = slot_of[neighbours[starts[a] + np.random.randint(degree)]]
            there = min(max(near + np.random.randint(-NEAR, NEAR + 1), 0), slots - 1)
        here, b = slot_of[a], tile_at[there]
        if b == a:
            continue
        delta = _delta(starts, neighbours, weights, xs, ys, chip_of, crossing, slot_of, a, there, b)
        if move < warm_up:  # the first temperature is the mean change of a move
            heat += abs(delta) / warm_up
            continue
        temperature = heat * coldest ** ((move - warm_up) / moves) + 1e-300
        if delta > 0 and np.random.random() >= np.exp(-delta / temperature):
            continue
        slot_of[a], tile_at[there], tile_at[here] = there, a, b
        if b >= 0:
            slot_of[b] = here
        change += delta
        if change < lowest:
            lowest = change
            best[:] = slot_of
    return best, lowest


_anneal: Any = numba.njit(cache=True)(_anneal_loop)
