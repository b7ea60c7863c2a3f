"""Independent checker: re-derives every limit from the mapped network and the chip alone.

Shares no code with what made the mapping; a violation found here is our bug, not the user's. What
only a backend knows, it checks apart from its own lowering and hands in as a :class:`Checker`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import Problem, problem, raise_all
from snncc.hw.spec import ChipSpec
from snncc.ir.cell import EACH_CHANNEL
from snncc.ir.const import values_of
from snncc.ir.schedule import Engine
from snncc.mapping.check_products import product_problems
from snncc.mapping.mapped import InputPort, Mapped, Piece, Tile
from snncc.mapping.pool import MaxOver

Tensors = Mapping[str, NDArray[Any]]
TileUse = Mapping[Tile, Mapping[str, int]]


def _no_rules(mapped: Mapped, tensors: Tensors, chip: ChipSpec) -> Iterable[Problem]:
    return ()


def _no_use(mapped: Mapped, chip: ChipSpec) -> TileUse:
    return {}


@dataclass(frozen=True)
class Checker:
    """A backend's part of the independent check; as it stands, of one without rules and cores.

    Attributes:
        rules: every rule (SNNC-X001) of its own that a network breaks, beside those of all chips.
        use: how much each tile takes of its core, by resource of the chip's description.
    """

    rules: Callable[[Mapped, Tensors, ChipSpec], Iterable[Problem]] = _no_rules
    use: Callable[[Mapped, ChipSpec], TileUse] = _no_use


NOTHING_MORE = Checker()


def check_mapped(mapped: Mapped, tensors: Tensors, chip: ChipSpec, checker: Checker) -> None:
    """Raise InternalError (SNNC-X001) with every rule that ``mapped`` breaks on ``chip``."""
    raise_all(violations(mapped, tensors, chip, checker))


def violations(
    mapped: Mapped, tensors: Tensors, chip: ChipSpec, checker: Checker | None
) -> Iterator[Problem]:
    """Every broken rule (SNNC-X001); nothing for a good mapping.

    ``checker`` is None where the chip's backend is not at hand: then the rules of all chips alone.
    """
    shapes = {name: port.shape for name, port in mapped.ports.items()}
    if not shapes or len(shapes) < len(mapped.inputs):
        yield _bad("inputs", "input ports have names of their own", got=[p.name for p in mapped.inputs])
    for port in mapped.inputs:
        yield from _port_problems(port, mapped.engine, chip)
    for piece in mapped.pieces:
        yield from _connection_problems(piece, shapes, tensors)
        for pool in piece.pools:
            yield from _pool_problems(piece, pool, shapes)
        if piece.pools and not (piece.on_host or chip.abilities.pools_counts):
            yield _bad(piece.name, "takes maxima, which the chip cannot")
        if not piece.on_host:
            yield from _channel_problems(piece, chip)
            yield from _word_problems(piece, tensors, chip)
            yield from _event_problems(piece, mapped.engine, chip)
        yield from _site_problems(piece, tensors, mapped.engine, chip)
        shapes[piece.name] = piece.shape
    if mapped.output.piece not in shapes:
        yield _bad(mapped.output.piece, "the output names no piece")
    yield from _host_problems(mapped, chip)
    yield from product_problems(mapped, chip)
    misplaced = list(_tile_problems(mapped, chip))
    yield from misplaced
    if checker is None:
        return
    if any(True for piece in mapped.on_chip for _ in _channel_problems(piece, chip)):
        return  # the rules of such chips read one number a layer
    yield from checker.rules(mapped, tensors, chip)
    if not misplaced:  # what a core takes is defined for whole covers only
        yield from _resource_problems(checker.use(mapped, chip), mapped, chip)


def _bad(where: str, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {where}", what, got=got, limit=limit)


def _connection_problems(piece: Piece, shapes: Mapping[str, Any], tensors: Tensors) -> Iterator[Problem]:
    if not piece.sources:
        yield _bad(piece.name, "has no connection")
    for c in piece.connections:
        a = c.address
        if c.source not in shapes:
            yield _bad(piece.name, "reads a source that does not stand before it", got=c.source)
        elif shapes[c.source] != a.source_shape:
            yield _bad(
                piece.name,
                "address function does not fit its source",
                got=a.source_shape,
                limit=shapes[c.source],
            )
        if a.target_shape != piece.shape:
            yield _bad(
                piece.name, "address function does not fit the piece", got=a.target_shape, limit=piece.shape
            )
        weight = tensors.get(c.weight)
        want = (a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel)
        if weight is None or weight.shape != want:
            yield _bad(
                piece.name,
                "weights do not fit the address function",
                got=None if weight is None else weight.shape,
                limit=want,
            )
        for axis in (0, 1):
            padded = a.seen_shape[1 + axis] + 2 * a.padding[axis]
            reach = (a.target_shape[1 + axis] - 1) * a.stride[axis] + (a.kernel[axis] - 1) * a.dilation[axis]
            if reach >= padded:
                yield _bad(piece.name, "kernel reaches beyond the padded input", got=reach, limit=padded - 1)


def _pool_problems(piece: Piece, pool: MaxOver, shapes: Mapping[str, Any]) -> Iterator[Problem]:
    """Windows that reach nothing, or reach beyond their source's padded map."""
    if pool.source not in shapes:
        yield _bad(piece.name, "reads a source that does not stand before it", got=pool.source)
        return
    source = shapes[pool.source]
    if source[0] != piece.shape[0]:
        yield _bad(piece.name, "takes maxima across channels", got=source, limit=piece.shape)
    for axis in (0, 1):
        size, pad = source[1 + axis], pool.padding[axis]
        taps = [k * pool.dilation[axis] - pad for k in range(pool.kernel[axis])]
        starts = [at * pool.stride[axis] for at in range(piece.shape[1 + axis])]
        if starts[-1] + taps[-1] >= size + pad:
            got, limit = starts[-1] + taps[-1], size + pad - 1
            yield _bad(piece.name, "a window of maxima reaches beyond the padded input", got=got, limit=limit)
        if any(all(not 0 <= s + t < size for t in taps) for s in starts):
            yield _bad(piece.name, "a window of maxima covers padding alone")


def _channel_problems(piece: Piece, chip: ChipSpec) -> Iterator[Problem]:
    names = [name for name in piece.cell.per_channel() if name not in EACH_CHANNEL]
    if names and not chip.abilities.channel_numbers:
        yield _bad(piece.name, "has numbers of each channel, which the chip has not", got=", ".join(names))


def _word_problems(piece: Piece, tensors: Tensors, chip: ChipSpec) -> Iterator[Problem]:
    top = 2 ** (chip.limits.weight_bits - 1)
    for c in piece.connections:
        if not 0 <= c.exponent <= chip.limits.exponent_max:
            limit = chip.limits.exponent_max
            yield _bad(piece.name, "an exponent of weights leaves its range", got=c.exponent, limit=limit)
        weight = tensors.get(c.weight)
        if weight is not None and (weight.min(initial=0) < -top or weight.max(initial=0) >= top):
            yield _bad(
                piece.name,
                "a weight leaves its word",
                got=(int(weight.min()), int(weight.max())),
                limit=chip.limits.weight_bits,
            )
    most, thetas = chip.limits.threshold_max, values_of(piece.cell.threshold)
    low, high = int(thetas.min()), int(thetas.max())
    if low < 1 or (most is not None and high > most):
        yield _bad(piece.name, "threshold leaves its range", got=low if low < 1 else high, limit=most)
    if piece.state_bits != chip.limits.state_bits:
        yield _bad(
            piece.name, "membrane width is not the chip's", got=piece.state_bits, limit=chip.limits.state_bits
        )


def _port_problems(port: InputPort, engine: Engine, chip: ChipSpec) -> Iterator[Problem]:
    """Ports whose events carry a number."""
    if port.signed and not (port.graded and engine is Engine.CLOCKED and chip.abilities.signed_events):
        yield _bad(port.name, "is signed, but no graded port of a clocked chip that knows signs")
    if port.graded and not chip.abilities.graded_events:
        yield _bad(port.name, "brings graded events, which the chip has not")
    bits, most = port.levels.bit_length() + port.signed, chip.limits.graded_bits
    if port.graded and most is not None and bits > most:
        yield _bad(port.name, "a graded event leaves its word", got=bits, limit=most)


def _event_problems(piece: Piece, engine: Engine, chip: ChipSpec) -> Iterator[Problem]:
    """Events that carry a number."""
    if piece.cell.signed and not (piece.graded and piece.cell.max_spikes > 0 and engine is Engine.CLOCKED):
        yield _bad(piece.name, "is signed, but no graded window of a clocked chip")
    if not piece.graded:
        return
    if not chip.abilities.graded_events:
        yield _bad(piece.name, "sends graded events, which the chip has not")
    # Spelled out apart from what emits it: the largest number, and a sign.
    bits, most = piece.cell.max_spikes.bit_length() + piece.cell.signed, chip.limits.graded_bits
    if most is not None and bits > most:
        yield _bad(piece.name, "a graded event leaves its word", got=bits, limit=most)


def _host_problems(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    """The host takes part where the chip lets it; what it sends the chip, the chip could have sent."""
    host = {p.name: p for p in mapped.pieces if p.on_host}
    if host and chip.exchange is None:
        yield _bad(mapped.target, "the host computes pieces, but exchanges no events", got=list(host))
    if host and mapped.engine is not Engine.CLOCKED:
        yield _bad(mapped.target, "the host computes pieces, but no clock waits for it", got=list(host))
    entering = {s for p in mapped.on_chip for s in p.sources}
    for name in [n for n in host if n in entering]:
        yield from _event_problems(host[name], mapped.engine, chip)
    yield from _part_problems(mapped)


def _part_problems(mapped: Mapped) -> Iterator[Problem]:
    """Every piece in one part of its kind, behind the parts of the other kind that its sources stand in."""
    if not any(p.on_host for p in mapped.pieces):
        if mapped.parts:
            yield _bad(mapped.target, "is in parts, but the host computes no piece", got=len(mapped.parts))
        return
    times = Counter(name for part in mapped.parts for name in part.pieces)
    for piece in mapped.pieces:
        if times.pop(piece.name, 0) != 1:
            yield _bad(piece.name, "stands in no part, or in several")
            return
    for name in times:
        yield _bad(name, "a part names no piece")
        return
    place = {name: i for i, part in enumerate(mapped.parts) for name in part.pieces}
    for piece in mapped.pieces:
        own = mapped.parts[place[piece.name]]
        if own.on_host != piece.on_host:
            yield _bad(piece.name, "stands in a part of the other kind", got=own.name)
        last = max((place[s] for s in piece.sources if s in place), default=0)
        if last > place[piece.name]:
            what = "stands in a part before one that it reads"
            yield _bad(piece.name, what, got=own.name, limit=mapped.parts[last].name)


def _site_problems(piece: Piece, tensors: Tensors, engine: Engine, chip: ChipSpec) -> Iterator[Problem]:
    """Closed sites: bitmaps that fit, no synapse without its neuron, windows where spikes open them."""
    gates = [c.sites for c in piece.connections if c.sites is not None]
    digests = {g.bitmap for g in gates} | ({piece.sites} if piece.sites else set())
    if digests and not (piece.on_host or chip.abilities.gates_sites):
        yield _bad(piece.name, "closes sites, which the chip cannot")
    want = (math.ceil(piece.shape[1] * piece.shape[2] / 8),)
    found = {d: tensors[d] for d in digests if d in tensors}
    if any(d not in found or found[d].dtype != np.uint8 or found[d].shape != want for d in digests):
        yield _bad(piece.name, "a bitmap of sites does not fit the map", got=sorted(digests), limit=want)
        return
    populated = found[piece.sites] if piece.sites else np.full(want, 0xFF, np.uint8)
    heard = len(piece.connections) + len(piece.products)
    ungated = piece.sites is not None and len(gates) < heard
    if ungated or any((found[g.bitmap] & ~populated).any() for g in gates):
        yield _bad(piece.name, "synapses end at sites without neurons")
    for gate in gates:
        if gate.centre and (engine is not Engine.CLOCKED or piece.streams):
            yield _bad(piece.name, "spikes open its sites, but there are no windows", got=engine)
        bias = tensors.get(gate.bias) if gate.bias else None
        if gate.bias and (not gate.centre or bias is None or bias.shape != piece.shape[:1]):
            what = "what an opened site gets does not fit"
            yield _bad(piece.name, what, got=gate.bias, limit=piece.shape[:1])


def _tile_problems(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    """Every neuron on one core of the chip, every core with one tile; no tiles without cores."""
    cores = chip.cores
    if not cores:
        if mapped.tiles:
            yield _bad(mapped.target, "has tiles, but the chip has no cores", got=len(mapped.tiles))
        return
    of_piece: dict[str, list[Tile]] = {p.name: [] for p in mapped.pieces if not p.on_host}
    for tile in mapped.tiles:
        if tile.piece not in of_piece:
            yield _bad(tile.piece, "a tile names no piece of the chip")
        else:
            of_piece[tile.piece].append(tile)
    for piece in mapped.pieces:
        if not piece.on_host:
            yield from _cover_problems(piece, of_piece[piece.name])
    used = Counter(t.core for t in mapped.tiles)
    for core in sorted(c for c, times in used.items() if times > 1):
        yield _bad(mapped.target, f"several tiles stand on core {core}", got=used[core], limit=1)
    for core in sorted(used.keys() - cores.keys()):
        what = "a tile stands on a core that the system has not"
        yield _bad(mapped.target, what, got=core, limit=max(cores))


def _cover_problems(piece: Piece, tiles: list[Tile]) -> Iterator[Problem]:
    holders = np.zeros(piece.shape, np.int32)
    for tile in tiles:
        spans = list(zip(tile.low, tile.high, piece.shape, strict=True))
        if not all(0 <= low < high <= size for low, high, size in spans):
            yield _bad(
                piece.name, "a tile is empty or leaves its map", got=(tile.low, tile.high), limit=piece.shape
            )
            continue
        holders[tuple(slice(low, high) for low, high, _ in spans)] += 1
    if (holders == 0).any():
        yield _bad(piece.name, "neurons stand on no core", got=int((holders == 0).sum()), limit=0)
    if (holders > 1).any():
        yield _bad(piece.name, "neurons stand on several cores", got=int((holders > 1).sum()), limit=0)


def _resource_problems(use: TileUse, mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    """No tile takes more than its core has, and nothing that is limited goes uncounted."""
    cores = chip.cores
    for tile in mapped.tiles:
        limits, used = cores[tile.core].resources, use.get(tile, {})
        where = f"{tile.piece} on core {tile.core}"
        if used.keys() != limits.keys():
            yield _bad(where, "its use of the core is counted otherwise", got=list(used), limit=list(limits))
            continue
        for resource, bound in limits.items():
            if used[resource] > bound.limit:
                yield _bad(where, f"too many {resource}", got=used[resource], limit=bound.limit)
