"""Independent checker for Speck: gates, routes and memories, from the mapped network and the chip alone.

Shares no code with what made them; a violation found here is our bug.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.const import Const
from snncc.ir.schedule import Engine
from snncc.mapping.check import Checker, Tensors
from snncc.mapping.mapped import Mapped, Piece, Tile


def rules(mapped: Mapped, tensors: Tensors, chip: ChipSpec) -> Iterator[Problem]:
    """Every rule (SNNC-X001) of a Speck chip that the network breaks, beside those of all chips."""
    for piece in mapped.pieces:
        if mapped.engine is Engine.GATED:
            yield from _gate_problems(piece)
    yield from _split_problems(mapped)
    yield from _fan_out_problems(mapped, chip)
    yield from _route_problems(mapped)


def core_use(mapped: Mapped, chip: ChipSpec) -> dict[Tile, dict[str, int]]:
    """Words of memory that each layer takes of its core."""
    pieces = {p.name: p for p in mapped.pieces}
    return {t: _words(pieces[t.piece]) for t in mapped.tiles}


def _bad(where: str, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {where}", what, got=got, limit=limit)


def _start(piece: Piece) -> tuple[int, int]:
    low = high = 0
    for part in (piece.cell.precharge, piece.cell.bias, piece.cell.v_init):
        values = [int(v) for v in np.ravel(part.array if isinstance(part, Const) else part)]
        low, high = low + min(values), high + max(values)
    return low, high


def _gate_problems(piece: Piece) -> Iterator[Problem]:
    low, high = _start(piece)
    word = 2 ** (piece.state_bits - 1)
    if piece.admitted is None:
        yield _bad(piece.name, "admits no range of input sums in a gated schedule")
        return
    if piece.is_readout:
        # Its threshold stands at the largest word and must not be reached either.
        if low + piece.admitted[0] < -word or high + piece.admitted[1] >= word - 1:
            yield _bad(piece.name, "an allowed sum leaves a readout's word", got=piece.admitted)
        return
    gate = piece.gate
    if gate is None:
        yield _bad(piece.name, "has no gate in a gated schedule")
        return
    if not 1 <= gate.step <= min(127, piece.cell.theta):
        yield _bad(
            piece.name,
            "a control event could cause two spikes",
            got=gate.step,
            limit=min(127, piece.cell.theta),
        )
    if low - gate.lift + piece.admitted[0] < -word:
        got = low - gate.lift + piece.admitted[0]
        yield _bad(piece.name, "an allowed sum leaves the word", got=got, limit=-word)
    if high - gate.lift + piece.admitted[1] >= piece.cell.theta:
        yield _bad(
            piece.name,
            "an allowed sum fires before the release",
            got=high - gate.lift + piece.admitted[1],
            limit=piece.cell.theta - 1,
        )
    highest = piece.cell.theta - 1 + gate.step
    if highest >= word:
        yield _bad(piece.name, "a control event leaves the word", got=highest, limit=word - 1)
    a = piece.connections[0].address
    for axis in (0, 1):
        size = a.source_shape[1 + axis] // a.pool[axis]
        sites = [
            o * a.stride[axis] - a.padding[axis] + gate.tap[axis] for o in range(a.target_shape[1 + axis])
        ]
        if min(sites) < 0 or max(sites) >= size or not 0 <= gate.tap[axis] < a.kernel[axis]:
            yield _bad(
                piece.name, "a control event has no address", got=(min(sites), max(sites)), limit=size - 1
            )


def _split_problems(mapped: Mapped) -> Iterator[Problem]:
    """A core computes a whole map: its routes know no parts of one."""
    for piece in mapped.pieces:
        if len(cores := mapped.cores_of(piece.name)) > 1:
            yield _bad(piece.name, "stands on several cores", got=cores, limit=1)


def _fan_out_problems(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    most = chip.limits.fan_out
    for source in mapped.pieces:
        routes = {
            (p.name, c.address.pool) for p in mapped.pieces for c in p.connections if c.source == source.name
        }
        if most is not None and len(routes) > most:
            yield _bad(source.name, "feeds too many destinations", got=len(routes), limit=most)


def _route_problems(mapped: Mapped) -> Iterator[Problem]:
    """A core has one destination entry for a core it feeds: two equal connections would become one."""
    for piece in mapped.pieces:
        routes = [(c.source, c.address.pool) for c in piece.connections]
        if len(set(routes)) != len(routes):
            yield _bad(piece.name, "one source reaches it through several connections", got=routes)


def _words(piece: Piece) -> dict[str, int]:
    address = piece.connections[0].address
    inputs = address.source_shape[0] + (piece.gate is not None)
    kernel = inputs * _padded(math.prod(address.kernel), piece.shape[0])
    return {"kernel_words": kernel, "neuron_words": piece.shape[0] * _padded(piece.shape[1], piece.shape[2])}


def _padded(a: int, b: int) -> int:
    """Words of an a × b block, which is addressed by bits: each factor fills up to a power of two."""
    return int(2 ** (math.ceil(math.log2(a)) + math.ceil(math.log2(b))))


CHECKER = Checker(rules, core_use)
