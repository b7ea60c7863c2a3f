"""``snncc targets [show NAME]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import command
from snncc.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from snncc.compilation import Target
    from snncc.hw.spec import ChipSpec


@command("targets")
@click.argument("words", nargs=-1, metavar="[show NAME]")
def targets(words: tuple[str, ...], as_json: bool) -> int:
    """List the chips that are installed; ``show NAME``: schedules, limits, constants with their sources."""
    if not words:
        return _list(as_json)
    name = words[1:] if words[0] == "show" else words
    if len(name) != 1:
        raise click.UsageError("takes nothing, or: show NAME")
    from snncc.plugins import find_target

    target = find_target(name[0])
    if as_json:
        claims = {name: schedule.claim for name, schedule in target.schedules.items()}
        print_json(target.chip.model_dump(mode="json") | {"schedules": claims})
    else:
        _show(target)
    return 0


def _list(as_json: bool) -> int:
    from snncc.plugins import find_target, target_names

    chips: dict[str, tuple[ChipSpec, list[str]]] = {}
    for name in target_names():
        chip = find_target(name).chip
        chips.setdefault(chip.name, (chip, []))[1].append(name)
    found = [_summary(chip, names) for chip, names in chips.values()]
    if as_json:
        print_json({"targets": found})
        return 0
    from snncc.reporting.tables import Table, columns

    rows = tuple(
        (
            f["name"],
            ", ".join(f["aliases"]),
            f"{f['cores']:,}" if f["cores"] else "no limit",
            f["description"],
        )
        for f in found
    )
    print_table(Table("Targets", columns("name", "also", "#cores", "description"), rows))
    return 0


def _summary(chip: ChipSpec, names: list[str]) -> dict[str, Any]:
    aliases = [n for n in names if n != chip.name]
    return {"name": chip.name, "aliases": aliases, "cores": len(chip.cores), "description": chip.description}


def _show(target: Target) -> None:
    from snncc.reporting.chip import chip_constant_table, core_table, errata, limit_table

    chip = target.chip
    say(f"{chip.name}: {chip.description}")
    for table in (core_table(chip), limit_table(chip), chip_constant_table(chip)):
        if table.rows:
            print_table(table)
    schedules = tuple(f"{name}: {schedule.claim}" for name, schedule in target.schedules.items())
    references = tuple(f"[{short}] {long}" for short, long in chip.references)
    sections = (
        ("Schedules, and what each claims", schedules),
        ("Sources", references),
        ("Errata", errata(chip)),
        ("Not modelled", chip.not_modelled),
    )
    for title, lines in sections:
        if lines:
            say(f"{title}:")
            for line in lines:
                say(f"  - {line}")
