"""A chip and what a network takes of it, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from snncc.hw.spec import ChipSpec, CoreSpec, Quantity
from snncc.mapping.check import piece_words
from snncc.mapping.mapped import Mapped, Piece
from snncc.mapping.utilisation import Utilisation
from snncc.reporting.cost import quantity, split_unit
from snncc.reporting.numbers import count, plural, ratio, shape
from snncc.reporting.tables import Table, columns


@dataclass(frozen=True)
class Use:
    """What one piece takes of its core.

    Attributes:
        core: None on a chip without cores, hence without limits.
    """

    piece: Piece
    kernel_words: int
    neuron_words: int
    core: CoreSpec | None

    @property
    def kernel_share(self) -> float | None:
        """Part of the core's kernel memory."""
        return self.kernel_words / self.core.kernel_words if self.core else None

    @property
    def neuron_share(self) -> float | None:
        """Part of the core's neuron memory."""
        return self.neuron_words / self.core.neuron_words if self.core else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.piece.name,
            "layer": self.piece.layer,
            "shape": list(self.piece.shape),
            "core": self.piece.core,
            "kernel_words": {
                "used": self.kernel_words,
                "limit": self.core.kernel_words if self.core else None,
            },
            "neuron_words": {
                "used": self.neuron_words,
                "limit": self.core.neuron_words if self.core else None,
            },
        }


def uses(mapped: Mapped, chip: ChipSpec) -> tuple[Use, ...]:
    """What every piece takes."""
    cores = {c.id: c for c in chip.cores}
    return tuple(
        Use(p, *piece_words(p, chip), None if p.core is None else cores.get(p.core)) for p in mapped.pieces
    )


def layer_documents(mapped: Mapped, chip: ChipSpec, found: Utilisation | None) -> list[dict[str, Any]]:
    """What every layer takes, as plain JSON values; ``found``: of a mesh of cores, if the chip is one."""
    if found is None:
        return [use.as_dict() for use in uses(mapped, chip)]
    return [
        {
            "name": row.piece,
            "layer": row.layer,
            "largest_tile": list(row.block),
            "cores": row.cores,
            **{r: {"used": row.used[r], "limit": limit} for r, limit in found.limits.items()},
        }
        for row in found.rows
    ]


def use_table(mapped: Mapped, chip: ChipSpec, found: Utilisation | None) -> Table:
    """Layers on cores, with what they use of what there is; arguments as in :func:`layer_documents`."""
    if found is not None:
        return _utilisation_table(mapped, found)
    rows = tuple(map(_use_row, uses(mapped, chip)))
    heads = columns("layer", "module", "shape", "#core", "#kernel words", "#used", "#neuron words", "#used ")
    return Table(f"Layers on {chip.name}, schedule {mapped.schedule.name}", heads, rows)


def _utilisation_table(mapped: Mapped, found: Utilisation) -> Table:
    """The most that one core of each layer uses, under Intel's headings."""
    rows = tuple(
        (r.piece, r.layer, shape(r.block), *(ratio(s, 1) for s in found.shares(r)), count(r.cores))
        for r in found.rows
    )
    resources = (f"#{found.headings[r]}" for r in found.limits)
    heads = columns("layer", "module", "largest tile", *resources, "#Cores")
    used = f"{count(found.cores)} of {count(found.cores_available)} cores, {plural(found.chips, 'chip')}"
    return Table(f"Layers on {mapped.target}, schedule {mapped.schedule.name}: {used}", heads, rows)


def _use_row(use: Use) -> tuple[str, ...]:
    core = "–" if use.core is None else str(use.core.id)
    kernel = _of(use.kernel_words, use.core.kernel_words if use.core else None)
    neuron = _of(use.neuron_words, use.core.neuron_words if use.core else None)
    return use.piece.name, use.piece.layer, shape(use.piece.shape), core, *kernel, *neuron


def _of(used: int, limit: int | None) -> tuple[str, str]:
    if limit is None:
        return count(used), "no limit"
    return f"{count(used)} / {count(limit)}", ratio(used, limit)


def core_table(chip: ChipSpec) -> Table:
    """Cores and their memories; cores that are alike share a row."""
    groups: dict[tuple[int, int, str], list[CoreSpec]] = {}
    for core in chip.cores:
        time = "–" if core.synop_time_ns is None else _quantity(core.synop_time_ns, "ns")
        groups.setdefault((core.kernel_words, core.neuron_words, time), []).append(core)
    rows = tuple((_ids(cores), count(k), count(n), time) for (k, n, time), cores in groups.items())
    return Table(
        "Cores", columns("core", "#kernel words", "#neuron words", "#time of a synaptic operation"), rows
    )


def mesh_table(chip: ChipSpec) -> Table:
    """What each core of a mesh holds, with sources; no rows for a chip without one."""
    if chip.mesh is None:
        return Table("Limits of a core", (), ())
    mesh = chip.mesh
    rows = tuple(
        (name.replace("_", " "), count(bound.limit), bound.grade, bound.source)
        for name, bound in (*chip.core.items(), ("chip_crossing (hops)", mesh.chip_crossing))
        if bound is not None
    )
    routers = f"{mesh.columns}×{mesh.rows} routers of {plural(mesh.cores_per_router, 'core')}"
    notes = (f"mesh: {plural(mesh.chips, 'chip')} of {routers}; {mesh.source}",)
    heads = columns("limit", "#value", "grade", "source")
    return Table("Limits of a core", heads, rows, notes=notes)


def _ids(cores: list[CoreSpec]) -> str:
    return ", ".join(str(c.id) for c in cores)


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
    times: dict[Quantity, list[CoreSpec]] = {}
    for core in chip.cores:
        if core.synop_time_ns is not None:
            times.setdefault(core.synop_time_ns, []).append(core)
    for value, cores in times.items():
        yield "synop_time_ns", value, f" (cores {_ids(cores)})"


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
    faults: dict[str, list[CoreSpec]] = {}
    for core in chip.cores:
        for text in core.errata:
            faults.setdefault(text, []).append(core)
    return (*chip.errata, *(f"cores {_ids(cores)}: {text}" for text, cores in faults.items()))
