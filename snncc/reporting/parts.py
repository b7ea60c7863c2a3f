"""What runs where: parts of a network on host and chip, and the events between them, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from snncc.reporting.numbers import count
from snncc.reporting.tables import Table, columns

if TYPE_CHECKING:
    from snncc.mapping.crossing import Crossing
    from snncc.mapping.mapped import Mapped, Part
    from snncc.simulation import Cost

_NAMED = 4  # layers of a part that a table names, of those the first and the last
_NOTES = (
    "an event that several parts read crosses once; a graded event is one, whatever it carries.",
    "the result leaves the chip for the host as spikes of its last layer, or as membranes that are read.",
)


def part_table(mapped: Mapped, found: Sequence[Crossing], samples: int) -> Table:
    """Every part with its layers and the events that it gets from the other side, and sends there, a sample.

    No rows for a network that no host takes part in.
    """
    each = 1 / max(samples, 1)
    rows = tuple(
        (
            part.name,
            "host" if part.on_host else "chip",
            _layers(mapped, part),
            _mean(sum(c.events for c in found if part.name in c.readers) * each),
            _mean(sum(c.events for c in found if part.name == c.origin) * each),
        )
        for part in mapped.parts
    )
    heads = columns("part", "on", "layers", "#events in", "#events out")
    return Table("What runs where, events a sample over the border", heads, rows, notes=_NOTES[:1])


def _layers(mapped: Mapped, part: Part) -> str:
    names = list(part.pieces)
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"… {len(names) - _NAMED} more …", names[-1]]
    return f"{', '.join(names)} ({len(part.pieces)})" if len(part.pieces) > 1 else names[0]


def _mean(events: float) -> str:
    return f"{events:,.1f}".removesuffix(".0")


def crossing_table(cost: Cost) -> Table:
    """Every source whose events cross between islands of the host and the chip; no rows without islands."""
    shown = cost.crossings if cost.operations.host_updates else ()
    title = f"Events between host and chip, sums over {count(cost.samples)} samples"
    heads = columns("source", "from", "to", "direction", "#events")
    return Table(title, heads, tuple(map(_row, shown)), total=tuple(_total(shown)), notes=_NOTES)


def _row(c: Crossing) -> tuple[str, ...]:
    return c.source, c.origin, ", ".join(c.readers), _direction(c.inward), count(c.events)


def _direction(inward: bool) -> str:
    return "to the chip" if inward else "to the host"


def _total(shown: Iterable[Crossing]) -> Iterator[str]:
    shown = tuple(shown)
    if shown:
        inward = sum(c.events for c in shown if c.inward)
        outward = sum(c.events for c in shown if not c.inward)
        yield from ("total", "", "", f"{count(inward)} in, {count(outward)} out", count(inward + outward))


def part_documents(mapped: Mapped, found: Sequence[Crossing], samples: int) -> list[dict[str, Any]]:
    """The rows of :func:`part_table` as plain JSON values; events are sums over ``samples``."""
    return [
        {
            "name": part.name,
            "on_host": part.on_host,
            "layers": list(part.pieces),
            "events_in": sum(c.events for c in found if part.name in c.readers),
            "events_out": sum(c.events for c in found if part.name == c.origin),
            "samples": samples,
        }
        for part in mapped.parts
    ]
