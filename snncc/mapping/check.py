"""Independent checker: re-derives every limit from the mapped network and the chip alone.

Shares no code with what made the mapping; a violation found here is our bug, not the user's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import Problem, problem, raise_all
from snncc.hw.spec import ChipSpec
from snncc.ir.const import Const
from snncc.ir.schedule import Engine
from snncc.mapping.check_tiles import tile_violations
from snncc.mapping.mapped import INPUT, Mapped, Piece


def check_mapped(mapped: Mapped, tensors: Mapping[str, NDArray[Any]], chip: ChipSpec) -> None:
    """Raise InternalError (SNNC-X001) with every rule that ``mapped`` breaks on ``chip``."""
    raise_all(violations(mapped, tensors, chip))


def violations(mapped: Mapped, tensors: Mapping[str, NDArray[Any]], chip: ChipSpec) -> Iterator[Problem]:
    """Every broken rule; nothing for a good mapping."""
    shapes = {INPUT: mapped.input.shape}
    for piece in mapped.pieces:
        yield from _connection_problems(piece, shapes, tensors)
        yield from _word_problems(piece, tensors, chip)
        yield from _event_problems(piece, mapped.engine, chip)
        if mapped.engine is Engine.GATED:
            yield from _gate_problems(piece)
        shapes[piece.name] = piece.shape
    if mapped.output.piece not in shapes:
        yield _bad(mapped.output.piece, "the output names no piece")
    if mapped.tiles:
        yield from tile_violations(mapped, chip)
    if chip.cores:
        yield from _core_problems(mapped, chip)
        yield from _route_problems(mapped)
    else:
        yield from _unlisted_problems(mapped)


def _bad(where: str, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {where}", what, got=got, limit=limit)


def _unlisted_problems(mapped: Mapped) -> Iterator[Problem]:
    for piece in mapped.pieces:
        if piece.core is not None:
            yield _bad(piece.name, "stands on a core, and the chip lists none", got=piece.core)


def _connection_problems(
    piece: Piece, shapes: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> Iterator[Problem]:
    if not piece.connections:
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
            padded = a.source_shape[1 + axis] // a.pool[axis] + 2 * a.padding[axis]
            reach = (a.target_shape[1 + axis] - 1) * a.stride[axis] + (a.kernel[axis] - 1) * a.dilation[axis]
            if reach >= padded:
                yield _bad(piece.name, "kernel reaches beyond the padded input", got=reach, limit=padded - 1)


def _word_problems(piece: Piece, tensors: Mapping[str, NDArray[Any]], chip: ChipSpec) -> Iterator[Problem]:
    top = 2 ** (chip.limits.weight_bits - 1)
    for c in piece.connections:
        weight = tensors.get(c.weight)
        if weight is not None and (weight.min(initial=0) < -top or weight.max(initial=0) >= top):
            yield _bad(
                piece.name,
                "a weight leaves its word",
                got=(int(weight.min()), int(weight.max())),
                limit=chip.limits.weight_bits,
            )
    most = chip.limits.threshold_max
    if piece.cell.theta < 1 or (most is not None and piece.cell.theta > most):
        yield _bad(piece.name, "threshold leaves its range", got=piece.cell.theta, limit=most)
    if piece.state_bits != chip.limits.state_bits:
        yield _bad(
            piece.name, "membrane width is not the chip's", got=piece.state_bits, limit=chip.limits.state_bits
        )


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


def _route_problems(mapped: Mapped) -> Iterator[Problem]:
    """A core has one destination entry for a core it feeds: two equal connections would become one."""
    for piece in mapped.pieces:
        routes = [(c.source, c.address.pool) for c in piece.connections]
        if len(set(routes)) != len(routes):
            yield _bad(piece.name, "one source reaches it through several connections", got=routes)


def _core_problems(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    cores = {c.id: c for c in chip.cores}
    used = [p.core for p in mapped.pieces]
    if len(set(used)) != len(used):
        yield _bad(mapped.target, "two pieces share a core", got=used)
    for piece in mapped.pieces:
        core = None if piece.core is None else cores.get(piece.core)
        if core is None:
            yield _bad(piece.name, "stands on no core of the chip", got=piece.core)
            continue
        kernel, neurons = piece_words(piece, chip)
        if kernel > core.kernel_words:
            yield _bad(
                piece.name,
                f"kernel memory of core {core.id} is too small",
                got=kernel,
                limit=core.kernel_words,
            )
        if neurons > core.neuron_words:
            yield _bad(
                piece.name,
                f"neuron memory of core {core.id} is too small",
                got=neurons,
                limit=core.neuron_words,
            )
    if chip.limits.fan_out is not None:
        for source in mapped.pieces:
            routes = {
                (p.name, c.address.pool)
                for p in mapped.pieces
                for c in p.connections
                if c.source == source.name
            }
            if len(routes) > chip.limits.fan_out:
                yield _bad(
                    source.name, "feeds too many destinations", got=len(routes), limit=chip.limits.fan_out
                )


def piece_words(piece: Piece, chip: ChipSpec) -> tuple[int, int]:
    """Kernel words and neuron words that a piece takes of its core."""
    address = piece.connections[0].address
    inputs = address.source_shape[0] + (piece.gate is not None)
    kernel = inputs * _padded(math.prod(address.kernel), piece.shape[0], chip)
    return kernel, piece.shape[0] * _padded(piece.shape[1], piece.shape[2], chip)


def _padded(a: int, b: int, chip: ChipSpec) -> int:
    """Words of an a × b block; each factor fills up to a power of two on chips that address by bits."""
    if not chip.limits.power_of_two_memory:
        return a * b
    return int(2 ** (math.ceil(math.log2(a)) + math.ceil(math.log2(b))))
