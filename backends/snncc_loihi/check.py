"""Independent checker for Loihi: counts every core's use again from the tiles and connections alone.

Shares no code with the partitioner: positions are enumerated from the inputs' side and from the
tiles as they stand, which need not be a regular grid. A violation found here is our bug.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.cell import one
from snncc.mapping.address import VSC
from snncc.mapping.check import Checker, Tensors
from snncc.mapping.mapped import Connection, Mapped, Piece, Tile


def rules(mapped: Mapped, tensors: Tensors, chip: ChipSpec) -> Iterator[Problem]:
    """Every rule (SNNC-X001) of a Loihi chip that the network breaks, beside those of all chips."""
    host = {p.name for p in mapped.on_host}
    for piece in mapped.on_chip:
        yield from _connection_problems(piece, chip, host)
        yield from _accumulator_problems(mapped, piece, tensors, chip)


def cautions(mapped: Mapped, chip: ChipSpec) -> tuple[str, ...]:
    """What a user should know of a network that keeps all rules."""
    widest = chip.limits.convolution_width
    if widest is None:
        return ()
    return tuple(
        f"%{p.name}: a convolution over a map {c.address.source_shape[2]} wide; Intel's compiler warns that "
        f"spikes of x = {widest}·n - 1 and its neighbours may be dropped"
        for p in mapped.on_chip
        for c in p.connections
        if c.address.source_shape[2] > widest and not _whole(c.address)
    )


def core_use(mapped: Mapped, chip: ChipSpec) -> dict[Tile, dict[str, int]]:
    """What each tile takes of its core, by resource of the chip's description."""
    count = {"loihi1": _use1, "loihi2": _use2}[chip.backend]
    tiles: dict[str, list[Tile]] = {}
    for t in mapped.tiles:
        tiles.setdefault(t.piece, []).append(t)
    pieces = {p.name: p for p in mapped.pieces if not p.on_host}
    readers: dict[str, list[tuple[Piece, Connection]]] = {name: [] for name in pieces}
    for p in pieces.values():
        for c in p.connections:
            if c.source in pieces:
                readers[c.source].append((p, c))
    # The host reads the result, and what its islands read.
    read = {mapped.output.piece, *(c.source for p in mapped.on_host for c in p.connections)}
    read |= {s for p in mapped.on_host for product in p.products for s in (product.held, product.stream)}
    return {t: count(pieces[t.piece], t, tiles, readers[t.piece], t.piece in read) for t in mapped.tiles}


def _bad(where: str, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {where}", what, got=got, limit=limit)


def _connection_problems(piece: Piece, chip: ChipSpec, host: set[str]) -> Iterator[Problem]:
    """Pooling, exponents, and waits; what the host sends late does not wait on the chip."""
    longest = chip.limits.delay_max
    for c in piece.connections:
        if longest is not None and c.delay > longest and c.source not in host:
            yield _bad(
                piece.name, "spikes wait longer than the chip can hold them", got=c.delay, limit=longest
            )
        if c.address.pool != (1, 1):
            yield _bad(piece.name, "a connection pools, which this chip cannot", got=c.address.pool)
        if c.exponent and not _whole(c.address):
            what = "weights of a convolution stand before a power of two, which this chip's have not"
            yield _bad(piece.name, what, got=c.exponent)


def _accumulator_problems(
    mapped: Mapped, piece: Piece, tensors: Tensors, chip: ChipSpec
) -> Iterator[Problem]:
    """The sums of one micro-step stay in the accumulator, or a range that does is enforced."""
    assert chip.limits.accumulator_bits is not None
    top = 2 ** (chip.limits.accumulator_bits - 1)
    low, high = micro_step_sums(mapped, piece, tensors)
    if piece.admitted is not None:
        low, high = max(low, piece.admitted[0]), min(high, piece.admitted[1])
    # A gain of 2 or 128 says that the chip stores every weight doubled.
    gain = one(piece.cell.gain)
    stored = gain // 64 if gain % 64 == 0 else gain
    if low * stored < -top or high * stored >= top:
        yield _bad(
            piece.name,
            "sums of one micro-step leave the accumulator",
            got=(low * stored, high * stored),
            limit=top - 1,
        )


def micro_step_sums(mapped: Mapped, piece: Piece, tensors: Tensors) -> tuple[int, int]:
    """Least and largest sum of weights that one micro-step's events can bring a neuron of a piece.

    Every weight takes the event that is worst for it. All connections of a neuron add up; a kernel's
    taps that fall outside the map bring nothing. This is the certificate's bound
    (:func:`snncc.analysis.ranges.type_extremes` on the spike graph), counted from the addresses.
    """
    low = high = np.zeros(piece.shape, np.int64)
    for c in piece.connections:
        least, largest = _event_sizes(mapped, c.source)
        weight = tensors[c.weight].astype(np.int64) << c.exponent
        ends = np.sort(np.stack([weight * largest, weight * least]), axis=0).sum(axis=2)
        taps = (_taps_on_the_map(c.address, axis) for axis in (0, 1))
        reached = np.einsum("eokl,yk,xl->eoyx", ends, *taps, optimize=True)
        low, high = low + reached[0], high + reached[1]
    return int(low.min()), int(high.max())


def _event_sizes(mapped: Mapped, source: str) -> tuple[int, int]:
    """Least and largest number that an event of a source carries; 0 is no event."""
    if source in mapped.ports:
        port = mapped.ports[source]
        return port.least, port.levels if port.graded else 1
    piece = next(p for p in mapped.pieces if p.name == source)
    largest = piece.cell.max_spikes if piece.graded else 1
    return -largest if piece.cell.signed else 0, largest


def _taps_on_the_map(a: VSC, axis: int) -> NDArray[np.int64]:
    """1 where a kernel tap of an output position reads a position of the source, [outputs, taps]."""
    starts = np.arange(a.target_shape[1 + axis]) * a.stride[axis] - a.padding[axis]
    read = np.add.outer(starts, np.arange(a.kernel[axis]) * a.dilation[axis])
    return ((read >= 0) & (read < a.source_shape[1 + axis])).astype(np.int64)


def _whole(a: VSC) -> bool:
    """A linear layer: the kernel is the source's map, no output shares it."""
    _, h, w = a.source_shape
    return (a.kernel, a.padding, a.target_shape[1:], a.groups) == ((h, w), (0, 0), (1, 1), 1)


@cache
def _pattern(a: VSC, axis: int, low: int, high: int) -> dict[int, tuple[tuple[int, int], ...]]:
    """(output, tap) pairs of each source position that reaches outputs [low, high), from the first output."""
    found = {}
    for position in range(a.source_shape[1 + axis]):
        hits = []
        for tap in range(a.kernel[axis]):
            out, rest = divmod(position + a.padding[axis] - tap * a.dilation[axis], a.stride[axis])
            if rest == 0 and low <= out < high:
                hits.append((out, tap))
        if hits:
            first = min(hits)[0]
            found[position] = tuple(sorted((out - first, tap) for out, tap in hits))
    return found


def _patterns(a: VSC, tile: Tile) -> tuple[dict[int, Any], dict[int, Any]]:
    return _pattern(a, 0, tile.low[1], tile.high[1]), _pattern(a, 1, tile.low[2], tile.high[2])


@cache
def _groups(channels: int, groups: int, low: int, high: int) -> Counter[int]:
    """How many of the channels [low, high) belong to each convolution group."""
    return Counter(c // (channels // groups) for c in range(low, high))


def _groups_of(a: VSC, tile: Tile, *, as_source: bool) -> Counter[int]:
    channels = a.source_shape[0] if as_source else a.target_shape[0]
    return _groups(channels, a.groups, tile.low[0], tile.high[0])


def _sites_between(a: VSC, source: Tile, reader: Tile) -> int:
    """Positions (y, x) of a source's tile from which a spike reaches a reader's tile."""
    ys, xs = _patterns(a, reader)
    rows = sum(source.low[1] <= y < source.high[1] for y in ys)
    return rows * sum(source.low[2] <= x < source.high[2] for x in xs)


def _words(bits: int) -> int:
    return -(-bits // 64)


def _binary_digits(n: int) -> list[int]:
    return [1 << i for i, digit in enumerate(reversed(f"{n:b}")) if digit == "1"]


def _neurons(tile: Tile) -> int:
    return math.prod(tile.shape)


def _use2(
    piece: Piece,
    tile: Tile,
    tiles: Mapping[str, list[Tile]],
    readers: list[tuple[Piece, Connection]],
    host: bool,
) -> dict[str, int]:
    """Loihi 2: a list of 20-bit synapses an axon of a linear layer, a row of bytes a kernel tap and input."""
    outputs = tile.shape[0]
    used = dict.fromkeys(("axons_in", "synapse_words", "axon_map", "axon_memory"), 0)
    used |= {"neurons": _neurons(tile), "neuron_groups": 1}
    for a in (c.address for c in piece.connections):
        if _whole(a):
            used["axons_in"] += math.prod(a.source_shape)
            used["synapse_words"] += math.prod(a.source_shape) * _words(outputs * 20 + 10)
            continue
        used["neuron_groups"] = len(_binary_digits(outputs))
        used["axons_in"] += len(_binary_digits(outputs))
        inputs = _groups(a.source_shape[0], a.groups, 0, a.source_shape[0])
        for group, n in _groups_of(a, tile, as_source=False).items():
            row = sum(_words(8 * part + 10) for part in _binary_digits(n))
            used["synapse_words"] += inputs[group] * math.prod(a.kernel) * row
    used["axon_map"] = _neurons(tile) if host else 0
    for reader, c in readers:
        if _whole(c.address):
            used["axon_map"] += _neurons(tile)
            continue
        used["axon_map"] += tile.shape[1] * tile.shape[2] * len(_binary_digits(outputs))
        mine = _groups_of(c.address, tile, as_source=True)
        for other in tiles[reader.name]:
            if mine.keys() & _groups_of(c.address, other, as_source=False).keys():
                used["axon_memory"] += _sites_between(c.address, tile, other)
    return used | {"memory_words": sum(used.values())}


def _use1(
    piece: Piece,
    tile: Tile,
    tiles: Mapping[str, list[Tile]],
    readers: list[tuple[Piece, Connection]],
    host: bool,
) -> dict[str, int]:
    """Loihi 1: lists of up to 64 synapses; a convolution has an axon a position and block of channels."""
    used = {"neurons": _neurons(tile), "neuron_groups": 1, "axons_in": 0, "synapse_words": 0, "axons_out": 0}
    for c in piece.connections:
        a, delay = c.address, math.ceil(math.log2(c.delay + 1))
        if _whole(a):
            used["axons_in"] += math.prod(a.source_shape)
            used["synapse_words"] += math.prod(a.source_shape) * _list_words(tile.shape[0], 8 + delay)
            continue
        index = math.ceil(math.log2(_neurons(tile)))
        index = 0 if index == 0 else max(6, index)
        ys, xs = _patterns(a, tile)
        kinds = [(len(y), len(x)) for y in set(ys.values()) for x in set(xs.values())]
        spans = (
            {(0, a.source_shape[0])}
            if c.source not in tiles
            else {(t.low[0], t.high[0]) for t in tiles[c.source]}
        )
        targets = _groups_of(a, tile, as_source=False)
        for low, high in spans:
            for group, atoms in _groups(a.source_shape[0], a.groups, low, high).items():
                if group not in targets:
                    continue
                used["axons_in"] += len(ys) * len(xs)
                used["synapse_words"] += sum(
                    _list_words(atoms * targets[group] * y * x, 8 + delay + index) for y, x in kinds
                )
    for reader, c in readers:
        mine = _groups_of(c.address, tile, as_source=True)
        for other in tiles[reader.name]:
            if _whole(c.address):
                used["axons_out"] += _neurons(tile)
                continue
            common = mine.keys() & _groups_of(c.address, other, as_source=False).keys()
            used["axons_out"] += 2 * len(common) * _sites_between(c.address, tile, other)
    return used


def _list_words(synapses: int, bits: int) -> int:
    words = 0
    while synapses > 0:
        words += _words(min(64, synapses) * bits + 10)
        synapses -= 64
    return words


CHECKER = Checker(rules, core_use)
