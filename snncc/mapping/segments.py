"""One segment of the chip by itself: a network whose ports play what the other parts send."""

from __future__ import annotations

import math
from collections.abc import Mapping

from snncc.arrays import Array
from snncc.ir.nodes import Decode, OverTime
from snncc.mapping.mapped import Connection, InputPort, Mapped, OutputPort, Part, Piece


def segment(mapped: Mapped, part: Part) -> Mapped:
    """The pieces of one part of the chip, as a network that hears all others through input ports.

    A port plays its source's counts from the source's phase on. What the host sends late it sends late
    itself: such a port, named by source and delay, has no synapse wait for it.
    """
    mine = set(part.pieces)
    pieces = tuple(_alone(p, mapped, mine) for p in mapped.pieces if p.name in mine)
    ports: dict[str, InputPort] = {}
    for piece, alone in zip((p for p in mapped.pieces if p.name in mine), pieces, strict=True):
        for c, new in zip(piece.connections, alone.connections, strict=True):
            if c.source not in mine:
                ports[new.source] = _port(mapped, c, new)
    return mapped.model_copy(
        update={
            "inputs": tuple(ports.values()),
            "pieces": pieces,
            "output": mapped.output if mapped.output.piece in mine else _last(pieces[-1]),
            "tiles": tuple(t for t in mapped.tiles if t.piece in mine),
            "parts": (),
        }
    )


def port_sources(mapped: Mapped, part: Part) -> dict[str, str]:
    """The sender whose counts each port of a segment plays, by the port's name."""
    mine, found = set(part.pieces), dict[str, str]()
    for piece in (p for p in mapped.pieces if p.name in mine):
        for c in piece.connections:
            if c.source not in mine:
                found[_heard(c, mapped, mine).source] = c.source
    return found


def played(mapped: Mapped, part: Part, counts: Mapping[str, Array]) -> dict[str, Array]:
    """What the ports of a segment play, [N, T, C, H, W] by name, of what every sender sent."""
    return {port: counts[source] for port, source in port_sources(mapped, part).items()}


def _alone(piece: Piece, mapped: Mapped, mine: set[str]) -> Piece:
    heard = tuple(_heard(c, mapped, mine) for c in piece.connections)
    return piece.model_copy(update={"connections": heard})


def _heard(c: Connection, mapped: Mapped, mine: set[str]) -> Connection:
    """A connection with the port that it hears, where its source stands elsewhere."""
    sender = mapped.senders[c.source]
    by_host = isinstance(sender, Piece) and sender.on_host
    if c.source in mine or not by_host or c.delay == 0:
        return c
    return c.model_copy(update={"source": f"{c.source}+{c.delay}", "delay": 0})


def _port(mapped: Mapped, c: Connection, heard: Connection) -> InputPort:
    sender = mapped.senders[c.source]
    if isinstance(sender, InputPort):
        return sender
    return InputPort(
        name=heard.source,
        shape=sender.shape,
        levels=sender.cell.max_spikes,
        graded=sender.graded,
        signed=sender.cell.signed,
        phase=sender.phase + c.delay - heard.delay,
    )


def _last(piece: Piece) -> OutputPort:
    """A segment that is read by others has the counts of its last piece for a result."""
    shape = (math.prod(piece.shape),)
    return OutputPort(piece=piece.name, decode=Decode.COUNT, over_time=OverTime.NONE, scale=1.0, shape=shape)
