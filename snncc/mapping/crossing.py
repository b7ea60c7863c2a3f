"""Which events cross the border between host and chip, counted from what every layer sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from snncc.arrays import Array
from snncc.ir.nodes import Decode
from snncc.mapping.mapped import Mapped, Piece

CHIP = "chip"  # the one part of a network that no host takes part in
RESULT = "result"  # what the host makes the result of


@dataclass(frozen=True)
class Crossing:
    """Events of one source that cross the border, over all samples.

    Attributes:
        source: a piece, or what comes in from outside.
        origin: the part that sends them; of the input its own name.
        readers: parts on the other side that read them, in order; an event crosses once for all.
        inward: whether to the chip.
        events: single spikes, or graded events whatever they carry; of a readout, membranes read.
    """

    source: str
    origin: str
    readers: tuple[str, ...]
    inward: bool
    events: int


def part_of(mapped: Mapped) -> dict[str, str]:
    """Name of the part in which each piece stands."""
    named = {piece: part.name for part in mapped.parts for piece in part.pieces}
    return {p.name: named.get(p.name, CHIP) for p in mapped.pieces}


def crossings(
    mapped: Mapped, counts: Mapping[str, Array], inputs: Mapping[str, Array]
) -> tuple[Crossing, ...]:
    """Every border of a network and what crossed it, the input first, then in order of the pieces.

    Args:
        mapped: the network.
        counts: of every piece [N, T, C, H, W]; a readout's membranes.
        inputs: counts [N, T, C, H, W] of every port.
    """
    return tuple(_crossings(mapped, counts, inputs))


def _crossings(
    mapped: Mapped, counts: Mapping[str, Array], inputs: Mapping[str, Array]
) -> Iterator[Crossing]:
    parts = part_of(mapped)
    for name, port in mapped.ports.items():
        readers = _readers(mapped, name, on_host=False)
        if readers:
            yield Crossing(name, name, readers, True, _sent(inputs[name], port.graded))
    for piece in mapped.pieces:
        readers = _readers(mapped, piece.name, on_host=not piece.on_host)
        if piece.name == mapped.output.piece and not piece.on_host:
            readers = (*readers, RESULT)
        if readers:
            events = _of_piece(mapped, piece, counts[piece.name])
            yield Crossing(piece.name, parts[piece.name], readers, piece.on_host, events)


def _readers(mapped: Mapped, source: str, on_host: bool) -> tuple[str, ...]:
    """Parts of the host, or of the chip, with a piece that reads a source."""
    parts = part_of(mapped)
    mine = (p for p in mapped.pieces if p.on_host == on_host and source in p.sources)
    return tuple(dict.fromkeys(parts[p.name] for p in mine))


def _of_piece(mapped: Mapped, piece: Piece, counts: Array) -> int:
    if mapped.output.piece == piece.name and mapped.output.decode is Decode.MEMBRANE:
        return counts[:, -1].size
    return _sent(counts, piece.graded)


def _sent(counts: Array, graded: bool) -> int:
    return int(np.count_nonzero(counts) if graded else counts.sum(dtype=np.int64))


def exchanges(mapped: Mapped) -> int:
    """Micro-steps of a sample in which islands of the host and the chip may send each other events."""
    found = set[int]()
    for piece in mapped.pieces:
        if _readers(mapped, piece.name, on_host=not piece.on_host):
            width = 1 if piece.graded else min(piece.cell.max_spikes, mapped.micro_steps)
            begins = (piece.phase + t * mapped.micro_steps for t in range(mapped.steps))
            found |= {begin + k for begin in begins for k in range(width)}
    return len(found)
