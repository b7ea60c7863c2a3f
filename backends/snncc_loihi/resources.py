"""What a block of a layer takes of a Loihi core: Intel's counts for Loihi 2, nengo-loihi's for Loihi 1.

Loihi 2. The counts reproduce the compile logs that Intel prints in the lava-dl notebooks (the
chip file names them). A dense connection stores one list of synapses an input axon; a convolution
stores one row of weights a (kernel position, input channel), whatever the size of the block. Output
channels are handled in groups of a power of two (48 = 32 + 16).

Loihi 1. ``nengo_loihi.block.SynapseConfig``: synapses stand in lists of up to 64 with a header of
10 bits, each list rounded up to 64-bit words. A convolution uses population axons: one a source
position, whose weights the positions with equal surroundings share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from snncc.mapping.address import VSC, Shape3
from snncc.mapping.mapped import Connection, Mapped, Piece

WORD = 64  # bits
HEADER = 10  # bits in front of a list of synapses
INDEX = 12  # bits of a synapse's target in a dense list of Loihi 2
LIST = 64  # synapses of a list of Loihi 1
INDEX_WIDTHS = (0, 6, 7, 8, 9, 10, 11, 12)  # of Loihi 1
WEIGHT_BITS = 8  # what the emission stores; narrower weights are not packed


@dataclass(frozen=True)
class Block:
    """Neurons [low, high) of a piece along (channel, y, x)."""

    low: Shape3
    high: Shape3

    @property
    def shape(self) -> Shape3:
        """(C, H, W) of the block."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1], self.high[2] - self.low[2]

    @property
    def neurons(self) -> int:
        """Number of its neurons."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Grid:
    """A piece cut into blocks of ``block`` = (C, H, W); the last along an axis may be smaller."""

    shape: Shape3
    block: Shape3

    @property
    def counts(self) -> Shape3:
        """Blocks along each axis."""
        c, h, w = (-(-s // b) for s, b in zip(self.shape, self.block, strict=True))
        return c, h, w

    @property
    def tiles(self) -> int:
        """Number of blocks."""
        return math.prod(self.counts)

    def cuts(self, axis: int) -> tuple[tuple[int, int], ...]:
        """[low, high) of each block along an axis (0 = channel, 1 = y, 2 = x)."""
        size, step = self.shape[axis], self.block[axis]
        return tuple((low, min(low + step, size)) for low in range(0, size, step))

    def blocks(self) -> Iterator[Block]:
        """Blocks in row-major order."""
        for c0, c1 in self.cuts(0):
            for y0, y1 in self.cuts(1):
                for x0, x1 in self.cuts(2):
                    yield Block((c0, y0, x0), (c1, y1, x1))


Grids = Mapping[str, Grid]


def is_dense(address: VSC) -> bool:
    """Whether every source position reaches every output: a linear layer."""
    return (
        address.kernel == address.source_shape[1:]
        and address.target_shape[1:] == (1, 1)
        and address.padding == (0, 0)
        and address.groups == 1
    )


def channel_groups(channels: int) -> tuple[int, ...]:
    """Powers of two that add up to ``channels``, largest first: 48 -> (32, 16)."""
    return tuple(1 << bit for bit in reversed(range(channels.bit_length())) if channels >> bit & 1)


def dense_words(axons: int, outputs: int, weight_bits: int = WEIGHT_BITS) -> int:
    """Loihi 2: words of a dense connection, one list of ``outputs`` synapses an axon."""
    return axons * math.ceil((outputs * (weight_bits + INDEX) + HEADER) / WORD)


def kernel_words(rows: int, outputs: int, weight_bits: int = WEIGHT_BITS) -> int:
    """Loihi 2: words of ``rows`` rows of a shared kernel over ``outputs`` output channels."""
    return rows * sum(math.ceil((n * weight_bits + HEADER) / WORD) for n in channel_groups(outputs))


def list_words(synapses: int, bits: int) -> int:
    """Loihi 1: words of one axon's ``synapses`` of ``bits`` bits each."""
    full, rest = divmod(synapses, LIST)
    words = full * math.ceil((LIST * bits + HEADER) / WORD)
    return words + (math.ceil((rest * bits + HEADER) / WORD) if rest else 0)


@cache
def touched(address: VSC, axis: int, low: int, high: int) -> frozenset[int]:
    """Source positions along an axis (0 = y) that reach outputs [low, high)."""
    found = {
        out * address.stride[axis] - address.padding[axis] + tap * address.dilation[axis]
        for out in range(low, high)
        for tap in range(address.kernel[axis])
    }
    return frozenset(p for p in found if 0 <= p < address.source_shape[1 + axis])


@cache
def surroundings(address: VSC, axis: int, low: int, high: int) -> tuple[int, ...]:
    """Synapse counts along an axis of each kind of source position that reaches outputs [low, high).

    Two positions are of one kind if they reach the same taps at the same distances from each other;
    the chip then shares their weights.
    """
    kinds: dict[tuple[tuple[int, int], ...], int] = {}
    for position in sorted(touched(address, axis, low, high)):
        hits = [(out, tap) for out, tap in address.axis_hits(axis, position) if low <= out < high]
        kinds[tuple((out - hits[0][0], tap) for out, tap in hits)] = len(hits)
    return tuple(kinds.values())


def group_runs(address: VSC, low: int, high: int) -> tuple[int, ...]:
    """Output channels of [low, high) in each convolution group that they belong to."""
    size = address.outputs_per_tap
    return tuple(min(high, (g + 1) * size) - max(low, g * size) for g in range(low // size, -(-high // size)))


def common_groups(address: VSC, source: tuple[int, int], target: tuple[int, int]) -> int:
    """Convolution groups that have channels both in a source's [low, high) and in a target's."""
    ins, outs = address.source_shape[0] // address.groups, address.outputs_per_tap
    first = max(source[0] // ins, target[0] // outs)
    last = min(-(-source[1] // ins), -(-target[1] // outs))
    return max(0, last - first)


@cache
def overlap(address: VSC, axis: int, source: tuple[int, int], target: tuple[int, int]) -> int:
    """Positions of a source's [low, high) along an axis (0 = y) that reach a target's [low, high)."""
    return sum(source[0] <= p < source[1] for p in touched(address, axis, *target))


def reached_sites(address: VSC, source: Block, reader: Grid) -> int:
    """Pairs of a (y, x) of ``source`` and a row and column of the reader's blocks that it reaches."""
    rows, columns = (
        sum(
            overlap(address, axis, (source.low[1 + axis], source.high[1 + axis]), cut)
            for cut in reader.cuts(1 + axis)
        )
        for axis in (0, 1)
    )
    return rows * columns


@dataclass(frozen=True)
class Reader:
    """A connection out of a piece, and the name of the piece that reads it."""

    piece: str
    connection: Connection


Readers = Mapping[str, tuple[Reader, ...]]


def readers_of(mapped: Mapped) -> Readers:
    """Who of the chip reads each piece of the chip."""
    found: dict[str, list[Reader]] = {p.name: [] for p in mapped.on_chip}
    for piece in mapped.on_chip:
        for c in piece.connections:
            if c.source in found:
                found[c.source].append(Reader(piece.name, c))
    return {name: tuple(readers) for name, readers in found.items()}


@dataclass(frozen=True)
class CoreModel:
    """How one chip counts.

    Attributes:
        resources: what it counts, by the names of the chip's description.
        incoming: neurons, synapses and input axons of a block, given how the sources are cut.
        outgoing: what a block takes to reach its readers; the last argument: whether the host reads it.
        pool: the sum of all the others, of one shared memory; None if there is none.
        halves: whether blocks are a power of two wide and their heights the map's, halved, as in every
            log that Intel published.
    """

    resources: tuple[str, ...]
    incoming: Callable[[Piece, Block, Grids], dict[str, int]]
    outgoing: Callable[[Block, tuple[Reader, ...], Grids, bool], dict[str, int]]
    pool: str | None
    halves: bool

    def use(
        self, piece: Piece, block: Block, grids: Grids, readers: Readers, leaving: frozenset[str]
    ) -> dict[str, int]:
        """Everything a block of ``piece`` takes of its core, in the order of ``resources``.

        ``leaving``: names of the pieces that the host reads.
        """
        found = self.incoming(piece, block, grids)
        found |= self.outgoing(block, readers[piece.name], grids, piece.name in leaving)
        if self.pool is not None:
            found[self.pool] = sum(found.values())
        return {name: found[name] for name in self.resources}


def _incoming2(piece: Piece, block: Block, grids: Grids) -> dict[str, int]:
    groups = len(channel_groups(block.shape[0]))
    words = axons = 0
    for a in (c.address for c in piece.connections):
        if is_dense(a):
            words += dense_words(math.prod(a.source_shape), block.shape[0])
            axons += math.prod(a.source_shape)
            continue
        rows = math.prod(a.kernel) * a.source_shape[0] // a.groups
        words += sum(kernel_words(rows, n) for n in group_runs(a, block.low[0], block.high[0]))
        axons += groups
    dense = all(is_dense(c.address) for c in piece.connections)
    return {
        "axons_in": axons,
        "neuron_groups": 1 if dense else groups,
        "neurons": block.neurons,
        "synapse_words": words,
    }


def _outgoing2(block: Block, readers: tuple[Reader, ...], grids: Grids, host: bool) -> dict[str, int]:
    c, h, w = block.shape
    entries = block.neurons if host else 0
    destinations = 0
    for r in readers:
        a = r.connection.address
        if is_dense(a):
            entries += block.neurons
            continue
        entries += h * w * len(channel_groups(c))
        cuts = grids[r.piece].cuts(0)
        cores = sum(common_groups(a, (block.low[0], block.high[0]), cut) > 0 for cut in cuts)
        destinations += cores * reached_sites(a, block, grids[r.piece])
    return {"axon_map": entries, "axon_memory": destinations}


def _incoming1(piece: Piece, block: Block, grids: Grids) -> dict[str, int]:
    words = axons = 0
    channels = (block.low[0], block.high[0])
    for c in piece.connections:
        a, bits = c.address, WEIGHT_BITS + c.delay.bit_length()
        if is_dense(a):
            axons += math.prod(a.source_shape)
            words += math.prod(a.source_shape) * list_words(block.shape[0], bits)
            continue
        wide = (block.neurons - 1).bit_length()
        bits += next((b for b in INDEX_WIDTHS if b >= wide), wide)
        sites = [len(touched(a, axis, block.low[1 + axis], block.high[1 + axis])) for axis in (0, 1)]
        kinds = [surroundings(a, axis, block.low[1 + axis], block.high[1 + axis]) for axis in (0, 1)]
        cuts = ((0, a.source_shape[0]),) if c.source not in grids else grids[c.source].cuts(0)
        for synapses in _population_synapses(a, cuts, channels):
            axons += sites[0] * sites[1]
            words += sum(list_words(synapses * y * x, bits) for y in kinds[0] for x in kinds[1])
    return {"axons_in": axons, "neuron_groups": 1, "neurons": block.neurons, "synapse_words": words}


def _population_synapses(
    address: VSC, cuts: Sequence[tuple[int, int]], channels: tuple[int, int]
) -> Iterator[int]:
    """Source channels times target channels of each population axon at one position, for one tap."""
    ins, outs = address.source_shape[0] // address.groups, address.outputs_per_tap
    for low, high in cuts:
        for g in range(low // ins, -(-high // ins)):
            sources = min(high, (g + 1) * ins) - max(low, g * ins)
            targets = min(channels[1], (g + 1) * outs) - max(channels[0], g * outs)
            if targets > 0:
                yield sources * targets


def _outgoing1(block: Block, readers: tuple[Reader, ...], grids: Grids, host: bool) -> dict[str, int]:
    slots = 0
    for r in readers:
        a, grid = r.connection.address, grids[r.piece]
        if is_dense(a):
            slots += block.neurons * grid.tiles
            continue
        groups = sum(common_groups(a, (block.low[0], block.high[0]), cut) for cut in grid.cuts(0))
        slots += 2 * groups * reached_sites(a, block, grid)  # a population axon takes two slots
    return {"axons_out": slots}


_COMMON = ("axons_in", "neuron_groups", "neurons", "synapse_words")
MODELS: Mapping[str, CoreModel] = {
    "loihi1": CoreModel((*_COMMON, "axons_out"), _incoming1, _outgoing1, pool=None, halves=False),
    "loihi2": CoreModel(
        (*_COMMON, "axon_map", "axon_memory", "memory_words"),
        _incoming2,
        _outgoing2,
        pool="memory_words",
        halves=True,
    ),
}
