"""Who sends what to whom: events, packets and operations of every micro-step, by tile and core.

Derived from the counts that an engine left. On a clocked chip a window's count n is a train of ones
in the window's first n micro-steps, and a graded neuron with n > 0 sends one event in the first, so
that counts and phases give every train back (not those of streaming neurons). A spike goes as ONE
packet to each core that holds at least one of its targets, in the micro-step in which it was sent;
the synapses there hold it back for the connection's delay. Address functions are separable (channel
x row x column), so that nothing is unrolled: addresses whose spikes go the same way form a bundle,
and a bundle has one entry a core.
"""

# mypy: disable-error-code="no-untyped-def"
# mypy: disallow-untyped-decorators=False, disallow-any-unimported=False, disallow-untyped-calls=False
# numba infers all types of compiled functions from the call.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.errors import fail
from snncc.mapping.address import VSC
from snncc.mapping.mapped import Connection, Mapped, Piece, Tile
from snncc.simulation import Inputs, by_port

Ints = NDArray[np.int64]

CONNECTION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "source", "delay", "height", "width", "per_group",
            "blocks",  # blocks of target channels that a group reaches
            "y", "x",  # hit tables
        )
    ]
)  # fmt: skip

PIECE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "source",  # index of its own spikes
            "first", "end",  # its rows of the connection table
            "height", "width", "block", "sites",  # channels of a block; blocks x height x width
            "tiles",  # start of its block-to-tile table
        )
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Routes:
    """Where the spikes of a mapped network go. Sources: 0 is the input, i + 1 is piece i.

    Attributes:
        cores: cores in use, ascending; everything else names them by their index here.
        tile_core, tile_neurons: per tile.
        starts: per source, its first address among those of all sources [sources + 1].
        bundle: per address, C order [c][y][x]: which addresses it shares its way with.
        rank: per address, its place in the order in which its core updates neurons; 0 for the input.
        bundle_tile: per bundle, the tile that sends; -1 for the input.
        packets: ``packets[b] .. packets[b + 1]`` are the rows of bundle b in the next three.
        packet_flow, packet_operations, packet_tile: its packet's flow, the synaptic operations that
            it causes there, and the first tile that it reaches.
        works: the same for ``work_tile`` and ``work_operations``: synaptic operations by tile.
        flow_tile, flow_core: a flow leads from a tile (-1: the input) to a core.
        flow_least: fewest synaptic operations that one of its packets causes.
        pieces, connections, pointers, outputs, block_tile: tables for counting which neurons are hit.
    """

    mapped: Mapped
    cores: Ints
    tile_core: Ints
    tile_neurons: Ints
    starts: Ints
    bundle: NDArray[np.int32]
    rank: NDArray[np.int32]
    bundle_tile: Ints
    packets: Ints
    packet_flow: Ints
    packet_operations: Ints
    packet_tile: Ints
    works: Ints
    work_tile: Ints
    work_operations: Ints
    flow_tile: Ints
    flow_core: Ints
    flow_least: Ints
    pieces: Array
    connections: Array
    pointers: Ints
    outputs: Ints
    block_tile: NDArray[np.int32]

    @property
    def micro_steps(self) -> int:
        """Micro-steps of a sample, until the last window has ended."""
        return last_micro_step(self.mapped)


@dataclass(frozen=True)
class Events:
    """Spikes of one sample.

    Attributes:
        offsets: those of source s in micro-step k stand at ``offsets[s, k] .. offsets[s, k + 1]``.
        addresses: flat index [c][y][x] into the source's map, ascending within a micro-step.
    """

    offsets: Ints
    addresses: NDArray[np.int32]


@dataclass(frozen=True)
class Loads:
    """What one sample causes, by micro-step K.

    Attributes:
        spikes: sent by each tile [K, tiles].
        operations: synaptic operations in each tile [K, tiles].
        active: neurons of each tile that an event reached in the micro-step before, or that spike
            in this one [K, tiles]; the others only leak.
        flows: packets of each flow [K, flows].
        lookups: packets by the first tile that they reach on their core [tiles].
    """

    spikes: Ints
    operations: Ints
    active: Ints
    flows: Ints
    lookups: Ints


def last_micro_step(mapped: Mapped) -> int:
    """Micro-steps of one sample."""
    return max((p.phase for p in mapped.pieces), default=0) + mapped.steps * mapped.micro_steps


# ---- routes -----------------------------------------------------------------------------------------


def build_routes(mapped: Mapped) -> Routes:
    """Routes of a network whose tiles hold every neuron of the chip; what the host sends comes as input does.

    Raises:
        InternalError: SNNC-X001 if a neuron stands in no tile or in two.
    """
    cores, tile_core = np.unique([t.core for t in mapped.tiles], return_inverse=True)
    holders = [np.full(math.prod(port.shape), -1, np.int32) for port in mapped.inputs]
    holders += [_holder(p, mapped.tiles) for p in mapped.pieces]
    bundles, packets, works = [], [], []
    made = 0
    for (name, source), holder in zip(mapped.senders.items(), holders, strict=True):
        bundle, tiles, operations, columns = _bundles(mapped, name, source.shape, holder)
        bundles.append(bundle + made)
        here = _entries(tiles, operations, columns, tile_core)
        packets.append(here[0] + np.array([[made], [0], [0], [0], [0]]))
        works.append(here[1] + np.array([[made], [0], [0]]))
        made += len(tiles)
    rows, work = _joined(packets, 5), _joined(works, 3)
    flows, flow = np.unique(rows[1:3], axis=1, return_inverse=True)
    least = np.full(flows.shape[1], np.iinfo(np.int64).max)
    np.minimum.at(least, flow.reshape(-1), rows[3])
    pieces, connections, pointers, outputs, block_tile = _hit_tables(mapped, holders)
    return Routes(
        mapped=mapped,
        cores=cores.astype(np.int64),
        tile_core=tile_core.astype(np.int64),
        tile_neurons=np.array([math.prod(t.shape) for t in mapped.tiles], np.int64),
        starts=np.cumsum([0, *(len(h) for h in holders)]),
        bundle=np.concatenate(bundles).astype(np.int32),
        rank=_ranks(holders, tile_core, len(mapped.inputs)),
        bundle_tile=_senders(bundles, holders, made),
        packets=np.searchsorted(rows[0], np.arange(made + 1)),
        packet_flow=flow.reshape(-1).astype(np.int64),
        packet_operations=rows[3],
        packet_tile=rows[4],
        works=np.searchsorted(work[0], np.arange(made + 1)),
        work_tile=work[1],
        work_operations=work[2],
        flow_tile=flows[0],
        flow_core=flows[1],
        flow_least=least,
        pieces=pieces,
        connections=connections,
        pointers=pointers,
        outputs=outputs,
        block_tile=block_tile,
    )


def _holder(piece: Piece, tiles: tuple[Tile, ...]) -> NDArray[np.int32]:
    """Tile of each neuron, flat [c][y][x]; -1 on the host."""
    holder = np.full(piece.shape, -1, np.int32)
    if piece.on_host:
        return holder.reshape(-1)
    for i, tile in enumerate(tiles):
        if tile.piece != piece.name:
            continue
        inside = holder[tuple(slice(a, b) for a, b in zip(tile.low, tile.high, strict=True))]
        if inside.shape != tile.shape or (inside >= 0).any():
            raise fail("SNNC-X001", piece.name, "a tile leaves its piece or overlaps another", got=i)
        inside[...] = i
    if (holder < 0).any():
        raise fail("SNNC-X001", piece.name, "neurons stand in no tile", got=int((holder < 0).sum()))
    return holder.reshape(-1)


def _senders(bundles: list[Array], holders: list[NDArray[np.int32]], made: int) -> Ints:
    sender = np.full(made, -1, np.int64)
    for bundle, holder in zip(bundles, holders, strict=True):
        sender[bundle] = holder
    return sender


def _ranks(holders: list[NDArray[np.int32]], tile_core: Ints, ports: int) -> NDArray[np.int32]:
    """Cores update their neurons piece by piece, each [c][y][x]; the first holders are the ports'."""
    seen = np.zeros(int(tile_core.max(initial=-1)) + 1, np.int64)
    ranks = [np.zeros(len(holder), np.int32) for holder in holders[:ports]]
    for holder in holders[ports:]:
        core = np.where(holder < 0, -1, tile_core[holder])
        rank = np.zeros(len(core), np.int32)
        for c in np.unique(core[core >= 0]):
            mine = np.flatnonzero(core == c)
            rank[mine] = seen[c] + np.arange(len(mine))
            seen[c] += len(mine)
        ranks.append(rank)
    return np.concatenate(ranks)


def _bundles(
    mapped: Mapped, name: str, shape: tuple[int, int, int], holder: NDArray[np.int32]
) -> tuple[Array, Array, Ints, Ints]:
    """Addresses that share tile and way.

    Returns:
        Bundle of each address; tile of each bundle; operations of one spike [bundles, columns]; tile
        of each column. A column is a tile that one connection reaches.
    """
    columns, axes = [], [[np.zeros((n, 0), np.int64)] for n in shape]
    for piece in mapped.pieces:
        held = [(i, t) for i, t in enumerate(mapped.tiles) if t.piece == piece.name]
        for reach in (_reach(c.address) for c in piece.connections if c.source == name):
            columns += [i for i, _ in held]
            for axis, below in enumerate(reach):
                axes[axis] += [below[:, [t.high[axis]]] - below[:, [t.low[axis]]] for _, t in held]
    unique = [np.unique(np.hstack(a), axis=0, return_inverse=True) for a in axes]
    (_, c), (_, y), (_, x) = unique
    sizes = [len(u) for u, _ in unique]
    kind = (c.reshape(-1, 1, 1) * sizes[1] + y.reshape(-1, 1)) * sizes[2] + x.reshape(-1)
    keys, bundle = np.unique(
        (holder.astype(np.int64) + 1) * math.prod(sizes) + kind.reshape(-1), return_inverse=True
    )
    tile, kinds = np.divmod(keys, math.prod(sizes))
    parts = zip(unique, np.unravel_index(kinds, sizes), strict=True)
    operations = math.prod((u[0][index] for u, index in parts), start=np.ones((1, 1), np.int64))
    return bundle.reshape(-1), tile - 1, operations, np.array(columns, np.int64)


def _reach(address: VSC) -> tuple[Ints, Ints, Ints]:
    """Targets of each source channel, row and column below each bound [positions, bounds].

    Differences over a tile's bounds are its own targets; their product is an address's.
    """
    per_group = address.source_shape[0] // address.groups
    first = np.arange(address.source_shape[0])[:, None] // per_group * address.outputs_per_tap
    channels = np.clip(np.arange(address.target_shape[0] + 1) - first, 0, address.outputs_per_tap)
    axes = []
    for axis in (0, 1):
        hits = np.zeros((address.source_shape[axis + 1], address.target_shape[axis + 1] + 1), np.int64)
        for position, row in enumerate(hits):
            for out, _ in address.axis_hits(axis, position):
                row[out + 1] += 1
        axes.append(hits.cumsum(axis=1))
    return channels.astype(np.int64), axes[0], axes[1]


def _entries(tiles: Array, operations: Ints, columns: Ints, tile_core: Ints) -> tuple[Array, Array]:
    """Packets (bundle, sender, core, operations, first tile) and works (bundle, tile, operations)."""
    bundle, column = np.nonzero(operations)
    work = _summed(bundle, columns[column], operations[bundle, column])
    # Sorted by tile within a bundle: the first of equal cores below is the lowest tile.
    packet = _summed(work[0], tile_core[work[1]], work[2])
    order = np.lexsort((work[1], tile_core[work[1]], work[0]))
    changes = np.diff(np.stack([work[0], tile_core[work[1]]])[:, order], prepend=-1).any(axis=0)
    first = work[1][order][changes]
    return np.stack([packet[0], tiles[packet[0]], packet[1], packet[2], first]), np.stack(work)


def _summed(a: Array, b: Array, values: Array) -> tuple[Array, Array, Array]:
    """``values`` summed over equal (a, b), in that order."""
    keys, where = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
    total = np.zeros(keys.shape[1], np.int64)
    np.add.at(total, where.reshape(-1), values)
    return keys[0], keys[1], total


def _joined(parts: list[Array], rows: int) -> Array:
    return np.concatenate([*parts, np.zeros((rows, 0), np.int64)], axis=1).astype(np.int64)


def _hit_tables(
    mapped: Mapped, holders: list[NDArray[np.int32]]
) -> tuple[Array, Array, Ints, Ints, NDArray[np.int32]]:
    """Tables from which :func:`_active` marks the neurons that events reach.

    Channels that every connection and tile treats alike form a block; one mark stands for a block.
    """
    index = {name: i for i, name in enumerate(mapped.senders)}
    pieces = np.zeros(len(mapped.on_chip), PIECE)
    rows: list[Array] = []
    pointers: list[int] = []
    outputs: list[int] = []
    blocks: list[Array] = []
    held = dict(zip(mapped.senders, holders, strict=True))
    for i, piece in enumerate(mapped.on_chip):
        holder = held[piece.name]
        cuts = [cut for t in mapped.tiles if t.piece == piece.name for cut in (t.low[0], t.high[0])]
        size = math.gcd(piece.shape[0], *cuts, *(c.address.outputs_per_tap for c in piece.connections))
        pieces[i]["source"], pieces[i]["first"] = index[piece.name], len(rows)
        pieces[i]["height"], pieces[i]["width"], pieces[i]["block"] = *piece.shape[1:], size
        pieces[i]["tiles"] = sum(map(len, blocks))
        for c in piece.connections:
            rows.append(_hit_row(c, index[c.source], size, pointers, outputs))
        pieces[i]["end"] = len(rows)
        blocks.append(holder.reshape(piece.shape)[::size].reshape(-1))
        pieces[i]["sites"] = len(blocks[-1])
    table = np.array(rows, CONNECTION) if rows else np.zeros(0, CONNECTION)
    tiles = np.concatenate(blocks) if blocks else np.zeros(0, np.int32)
    return pieces, table, np.array(pointers, np.int64), np.array(outputs, np.int64), tiles


def _hit_row(c: Connection, source: int, size: int, pointers: list[int], outputs: list[int]) -> Array:
    row, a = np.zeros((), CONNECTION), c.address
    row["source"], row["delay"] = source, c.delay
    row["height"], row["width"] = a.source_shape[1:]
    row["per_group"], row["blocks"] = a.source_shape[0] // a.groups, a.outputs_per_tap // size
    for axis, name in ((0, "y"), (1, "x")):
        row[name] = len(pointers)
        for position in range(a.source_shape[1 + axis]):
            pointers.append(len(outputs))
            outputs += [out for out, _ in a.axis_hits(axis, position)]
        pointers.append(len(outputs))
    return row


# ---- one sample -------------------------------------------------------------------------------------


def sample_events(routes: Routes, counts: Mapping[str, Array], x: Inputs, sample: int) -> Events:
    """Every spike of a sample.

    Args:
        routes: of the network.
        counts: spike counts of the pieces [N, T, C, H, W], as :class:`snncc.simulation.Activity` has them.
        x: input counts [N, T, C, H, W] by port.
        sample: which.
    """
    mapped, steps = routes.mapped, routes.micro_steps
    period = mapped.micro_steps
    given = by_port(tuple(mapped.ports), x)
    sources = [(given[port.name][sample], 0, 1 if port.graded else period) for port in mapped.inputs]
    for p in mapped.pieces:
        # Of a streaming neuron the count alone is known: its spikes are put into its first micro-steps.
        most = 0 if p.is_readout else 1 if p.graded else steps - p.phase if p.streams else period
        sources.append((counts[p.name][sample], p.phase, most))
    offsets = np.zeros((len(sources), steps + 1), np.int64)
    # What a relay sends may be negative; it is one event all the same.
    flat = [np.ascontiguousarray(np.abs(n), np.int32).reshape(mapped.steps, -1) for n, _, _ in sources]
    for i, (_, phase, most) in enumerate(sources):
        _lengths(flat[i], phase, period, most, offsets[i])
    totals = np.cumsum(offsets.reshape(-1)).reshape(offsets.shape)
    addresses = np.empty(int(totals[-1, -1]), np.int32)
    for i, (_, phase, most) in enumerate(sources):
        _fill(flat[i], phase, period, most, totals[i, :-1].copy(), addresses)
    return Events(totals, addresses)


@njit(nogil=True, cache=True)
def _lengths(counts, phase, period, most, lengths):
    """Spikes of micro-step k, counted at ``lengths[k + 1]``; a window has at most ``most``."""
    for t in range(counts.shape[0]):
        for i in range(counts.shape[1]):
            for d in range(min(counts[t, i], most)):
                lengths[phase + t * period + d + 1] += 1


@njit(nogil=True, cache=True)
def _fill(counts, phase, period, most, ends, addresses):
    """Addresses of the spikes; ``ends[k]`` is where the next one of micro-step k goes."""
    for t in range(counts.shape[0]):
        for i in range(counts.shape[1]):
            for d in range(min(counts[t, i], most)):
                k = phase + t * period + d
                addresses[ends[k]] = i
                ends[k] += 1


def sample_loads(routes: Routes, events: Events) -> Loads:
    """What a sample's spikes cause."""
    steps, tiles = routes.micro_steps, len(routes.tile_core)
    spikes, operations, active = (np.zeros((steps, tiles), np.int64) for _ in range(3))
    flows = np.zeros((steps, len(routes.flow_tile)), np.int64)
    lookups = np.zeros(tiles, np.int64)
    packets = (routes.packets, routes.packet_flow, routes.packet_tile)
    works = (routes.works, routes.work_tile, routes.work_operations)
    _sum_up(
        events.offsets, events.addresses, routes.starts, routes.bundle, routes.bundle_tile, packets, works,
        spikes, operations, flows, lookups,
    )  # fmt: skip
    hits = (routes.connections, routes.pointers, routes.outputs, routes.block_tile)
    _active(events.offsets, events.addresses, routes.pieces, hits, int(np.diff(routes.starts).max()), active)
    return Loads(spikes, operations, active, flows, lookups)


@njit(nogil=True, cache=True)
def _sum_up(
    offsets, addresses, starts, bundle, bundle_tile, packets, works, spikes, operations, flows, lookups
):
    """Spikes, operations, flows and look-ups of every micro-step."""
    first_packet, packet_flow, packet_tile = packets
    first_work, work_tile, work_operations = works
    for s in range(offsets.shape[0]):
        for k in range(offsets.shape[1] - 1):
            for e in range(offsets[s, k], offsets[s, k + 1]):
                b = bundle[starts[s] + addresses[e]]
                if bundle_tile[b] >= 0:
                    spikes[k, bundle_tile[b]] += 1
                for i in range(first_packet[b], first_packet[b + 1]):
                    flows[k, packet_flow[i]] += 1
                    lookups[packet_tile[i]] += 1
                for i in range(first_work[b], first_work[b + 1]):
                    operations[k, work_tile[i]] += work_operations[i]


@njit(nogil=True, cache=True)
def _mark(c, event, tables, tiles, hit, done, mark, stamp, active):
    """Mark the blocks that one event reaches; count their neurons by tile."""
    _, pointers, outputs, block_tile = tables
    area = c.height * c.width
    channel, site = divmod(event, area)
    group = channel // c.per_group
    if done[group * area + site] == stamp:
        return  # another channel of this group did the same
    done[group * area + site] = stamp
    y, x = divmod(site, c.width)
    for i in range(pointers[c.y + y], pointers[c.y + y + 1]):
        for j in range(pointers[c.x + x], pointers[c.x + x + 1]):
            for b in range(group * c.blocks, (group + 1) * c.blocks):
                at = (b * tiles[2] + outputs[i]) * tiles[3] + outputs[j]
                if hit[at] != mark:
                    hit[at] = mark
                    active[block_tile[tiles[0] + at]] += tiles[1]


@njit(nogil=True, cache=True)
def _active(offsets, addresses, pieces, tables, most, active):
    """Neurons that an event reached in the micro-step before, or that spike, [K, tiles]."""
    connections, block_tile = tables[0], tables[3]
    sites = 0
    for p in pieces:
        sites = max(sites, p.sites)
    hit, done = np.full(sites, -1, np.int64), np.full(most, -1, np.int64)
    stamp = 0
    for i in range(pieces.size):
        p = pieces[i]
        tiles = (p.tiles, p.block, p.height, p.width)
        for k in range(active.shape[0]):
            mark = i * active.shape[0] + k
            for m in range(p.first, p.end):
                c = connections[m]
                sent = k - 1 - c.delay
                if sent < 0:
                    continue
                stamp += 1
                for e in range(offsets[c.source, sent], offsets[c.source, sent + 1]):
                    _mark(c, np.int64(addresses[e]), tables, tiles, hit, done, mark, stamp, active[k])
            for e in range(offsets[p.source, k], offsets[p.source, k + 1]):
                channel, site = divmod(np.int64(addresses[e]), p.height * p.width)
                at = channel // p.block * p.height * p.width + site
                if hit[at] != mark:
                    active[k, block_tile[p.tiles + at]] += 1
