"""Which pieces of a network the host computes, and the parts into which that cuts the rest.

A piece goes to the host where it needs what the chip lacks, and where what it reads from there is
no event of the chip's. The host computes the same piece from the same numbers: nothing but its
place changes, so that every executor and check of mapped networks covers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import StrEnum

from snncc.errors import Problem, raise_all
from snncc.hw.demands import Demand, denied, unmet
from snncc.hw.spec import ChipSpec
from snncc.ir.schedule import Engine, Schedule
from snncc.mapping.mapped import Mapped, Part, Piece

HOST_BITS = 32  # of a membrane that the host holds


class Partition(StrEnum):
    """Whether a host may compute what the chip lacks."""

    AUTO = "auto"
    NONE = "none"


def takes_part(chip: ChipSpec, schedule: Schedule, partition: Partition) -> bool:
    """Whether a host may compute islands of networks on a chip under a schedule."""
    return _able(chip, schedule) and partition is Partition.AUTO


def _able(chip: ChipSpec, schedule: Schedule) -> bool:
    return chip.exchange is not None and schedule.engine is Engine.CLOCKED and schedule.has_windows


def wanted(
    asked: Iterable[Demand], chip: ChipSpec, schedule: Schedule, partition: Partition
) -> tuple[Demand, ...]:
    """The demands that a host has to meet, of those that a network makes on a chip under a schedule.

    A host keeps to windows; it does not fire as soon as it can.

    Raises:
        CapacityError: with every other demand that the chip does not meet.
    """
    lacking = denied(asked, chip)
    able, auto = _able(chip, schedule), takes_part(chip, schedule, partition)
    raise_all(_refused((d for d in lacking if not (auto and d.neuron)), chip, offered=able and not auto))
    return lacking


def _refused(lacking: Iterable[Demand], chip: ChipSpec, offered: bool) -> Iterator[Problem]:
    for d in lacking:
        more = ", or --partition auto: the host computes it" if offered and d.neuron else ""
        yield from unmet([replace(d, hint=d.hint + more)], chip)


def divide(mapped: Mapped, wanted: Iterable[Demand], chip: ChipSpec) -> Mapped:
    """The network with the pieces of these demands, and what must follow them, on the host.

    Args:
        mapped: pieces without cores.
        wanted: demands that ``chip`` does not meet, each of one neuron.
        chip: whose events cross the border.

    Raises:
        CapacityError: with these demands, if nothing is left to the chip.
    """
    wanted = tuple(wanted)
    host = _with_followers(mapped, {d.neuron for d in wanted}, chip)
    if len(host) == len(mapped.pieces):
        raise_all(unmet(wanted, chip))
    if not host:
        return mapped
    moved = {"on_host": True, "state_bits": HOST_BITS}
    pieces = tuple(p.model_copy(update=moved) if p.name in host else p for p in mapped.pieces)
    return mapped.model_copy(update={"pieces": pieces, "parts": parts_of(pieces)})


def host_notes(mapped: Mapped, wanted: Iterable[Demand]) -> Iterator[str]:
    """Why each piece on the host stands there, for people."""
    reasons: dict[str, list[str]] = {}
    for d in wanted:
        reasons.setdefault(d.neuron, []).append(d.got)
    for piece in mapped.on_host:
        why = "; ".join(reasons.get(piece.name, ["it reads what the chip's events cannot carry"]))
        yield f"%{piece.name} is computed by the host: {why}"


def _with_followers(mapped: Mapped, host: set[str], chip: ChipSpec) -> set[str]:
    """``host`` with every piece that reads something of it which is no event of the chip's."""
    found, foreign = set(host), set[str]()
    for piece in mapped.pieces:
        if not foreign.isdisjoint(piece.sources):
            found.add(piece.name)
        if piece.name in found and not _can_enter(piece, chip):
            foreign.add(piece.name)
    return found


def _can_enter(piece: Piece, chip: ChipSpec) -> bool:
    """Whether what the host sends for a piece is an event that the chip can have."""
    able = chip.abilities
    return (able.graded_events or not piece.graded) and (able.signed_events or not piece.cell.signed)


def parts_of(pieces: tuple[Piece, ...]) -> tuple[Part, ...]:
    """Segments of the chip and islands of the host, in the order of their data; none without islands.

    Segment k is what the chip computes from events of the host's islands before k, island k what the
    host computes from events of the segments up to k.
    """
    stage: dict[str, int] = {}
    of: dict[tuple[int, bool], list[str]] = {}
    place = {p.name: p.on_host for p in pieces}
    for piece in pieces:
        known = [(stage[s], place[s]) for s in piece.sources if s in stage]
        stage[piece.name] = max((n + (host and not piece.on_host) for n, host in known), default=0)
        of.setdefault((stage[piece.name], piece.on_host), []).append(piece.name)
    if not any(place.values()):
        return ()
    parts: list[Part] = []
    for (_, on_host), names in sorted(of.items()):
        number = sum(p.on_host == on_host for p in parts)
        name = f"{'host' if on_host else 'chip'}.{number}"
        parts.append(Part(name=name, on_host=on_host, pieces=tuple(names)))
    return tuple(parts)
