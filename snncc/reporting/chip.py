"""A chip and what a network takes of it, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from snncc.hw.mesh import Bound
from snncc.hw.spec import ChipSpec, CoreKind, Quantity
from snncc.mapping.mapped import Mapped
from snncc.mapping.utilisation import Use, Utilisation
from snncc.reporting.cost import core_numbers, quantity, split_unit
from snncc.reporting.numbers import count, plural, ratio, shape
from snncc.reporting.tables import Table, columns


def layer_documents(found: Utilisation) -> list[dict[str, Any]]:
    """What every layer takes of its cores, as plain JSON values."""
    return [
        {
            "name": row.piece.name,
            "layer": row.piece.layer,
            "largest_tile": list(row.largest),
            "cores": list(row.cores),
            **{r: {"used": use.used, "limit": use.limit} for r, use in row.most.items()},
        }
        for row in found.rows
    ]


def use_table(mapped: Mapped, chip: ChipSpec, found: Utilisation) -> Table:
    """Layers on cores, with the most that they use of one core's resources, and its share."""
    resources = dict.fromkeys(r for row in found.rows for r in row.most)
    rows = tuple(
        (
            row.piece.name,
            row.piece.layer,
            shape(row.largest),
            core_numbers(row.cores),
            *(_used(row.most[r]) for r in resources),
        )
        for row in found.rows
    )
    heads = columns("layer", "module", "largest tile", "#core", *(f"#{_words(r)}" for r in resources))
    title = f"Layers on {chip.name}, schedule {mapped.schedule.name}: {_taken(found)}"
    return Table(title, heads, rows, notes=tuple(_limit_note(chip)))


def _words(resource: str) -> str:
    return resource.replace("_", " ")


def _used(use: Use) -> str:
    return f"{count(use.used)} ({ratio(use.used, use.limit)})"


def _taken(found: Utilisation) -> str:
    if not found.cores_available:
        return "no limits of cores"
    return f"{count(found.cores)} of {count(found.cores_available)} cores, {plural(found.chips, 'chip')}"


def _limit_note(chip: ChipSpec) -> Iterator[str]:
    limits = (f"{_words(resource)} {_where(bounds)}" for resource, bounds in _bounds(chip).items())
    if chip.core_kinds:
        yield f"limits of a core: {'; '.join(limits)}"


def _where(bounds: dict[Bound, str]) -> str:
    """A limit, or several and the cores that have each."""
    if len(bounds) == 1:
        return count(next(iter(bounds)).limit)
    return ", ".join(f"{count(bound.limit)} ({cores})" for bound, cores in bounds.items())


def _bounds(chip: ChipSpec) -> dict[str, dict[Bound, str]]:
    """Limits of each resource of a core, and the cores that have each of them."""
    found: dict[str, dict[Bound, list[CoreKind]]] = {}
    for kind in chip.core_kinds:
        for resource, bound in kind.resources.items():
            found.setdefault(resource, {}).setdefault(bound, []).append(kind)
    return {r: {bound: _which(kinds) for bound, kinds in bounds.items()} for r, bounds in found.items()}


def _which(kinds: Iterable[CoreKind]) -> str:
    ids = sorted(i for kind in kinds for i in kind.ids)
    return f"cores {', '.join(map(str, ids))}" if ids else "every core"


def core_table(chip: ChipSpec) -> Table:
    """What each core holds, with sources; no rows for a chip without cores."""
    rows = [
        (_words(resource), where, count(bound.limit), bound.grade, bound.source)
        for resource, bounds in _bounds(chip).items()
        for bound, where in bounds.items()
    ]
    heads = columns("limit", "of", "#value", "grade", "source")
    return Table("Limits of a core", heads, (*rows, *_crossing(chip)), notes=tuple(_mesh_notes(chip)))


def _crossing(chip: ChipSpec) -> Iterator[tuple[str, ...]]:
    bound = None if chip.mesh is None else chip.mesh.chip_crossing
    if bound is not None:
        yield "chip crossing (hops)", "the mesh", count(bound.limit), bound.grade, bound.source


def _mesh_notes(chip: ChipSpec) -> Iterator[str]:
    mesh = chip.mesh
    if mesh is not None:
        routers = f"{mesh.columns}×{mesh.rows} routers of {plural(mesh.cores_per_router, 'core')}"
        yield f"mesh: {plural(mesh.chips, 'chip')} of {routers}; {mesh.source}"


def _quantity(q: Quantity, unit: str) -> str:
    return quantity(q.value, q.low, q.high, unit)


def limit_table(chip: ChipSpec) -> Table:
    """Limits and abilities, with their sources."""
    rows = [(key.replace("_", " "), _value(value)) for key, value in chip.limits if key != "source"]
    rows += [(key.replace("_", " "), _value(value)) for key, value in chip.abilities if key != "source"]
    notes = (f"limits: {chip.limits.source}", f"abilities: {chip.abilities.source}")
    return Table("Limits and abilities", columns("limit", "#value"), tuple(rows), notes=notes)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "no limit"
    return "no limit" if value is None else count(value)


def _constants(chip: ChipSpec) -> Iterator[tuple[str, Quantity | None, str]]:
    for key, value in chip.costs:
        yield key, value, ""
    for key, value in chip.mesh_costs or ():
        if value is not None or chip.mesh is not None:
            yield key, value, ""
    times: dict[Quantity, list[CoreKind]] = {}
    for kind in chip.core_kinds:
        if kind.synop_time_ns is not None:
            times.setdefault(kind.synop_time_ns, []).append(kind)
    for value, kinds in times.items():
        yield "synop_time_ns", value, f" ({_which(kinds)})"


def chip_constant_table(chip: ChipSpec) -> Table:
    """Every physical number of a chip, with source and grade."""
    rows = []
    for key, value, where in _constants(chip):
        name, unit = split_unit(key)
        row = ("unknown", "–", "–") if value is None else (_quantity(value, unit), value.grade, value.source)
        rows.append((name + where, *row))
    notes = (
        ("what is unknown is never counted as zero silently: figures that need it list it as not counted",)
        if any(r[1] == "unknown" for r in rows)
        else ()
    )
    return Table(
        "Energy and time constants",
        columns("constant", "#value (band)", "grade", "source"),
        tuple(rows),
        notes=notes,
    )


def errata(chip: ChipSpec) -> tuple[str, ...]:
    """Known faults of the silicon: of the chip, then of its cores."""
    faults: dict[str, list[CoreKind]] = {}
    for kind in chip.core_kinds:
        for text in kind.errata:
            faults.setdefault(text, []).append(kind)
    return (*chip.errata, *(f"{_which(kinds)}: {text}" for text, kinds in faults.items()))
