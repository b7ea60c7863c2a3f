"""Whether what a network did can be costed under the description of another chip than its own."""

from __future__ import annotations

from collections.abc import Iterator

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.schedule import Engine
from snncc.mapping.mapped import Mapped


def profile_problems(mapped: Mapped, own: ChipSpec, chip: ChipSpec, where: str) -> Iterator[Problem]:
    """Everything (SNNC-U013) that keeps the costs of ``chip`` from applying to a network made for ``own``.

    Costs belong to cores, links and kinds of events, so the neurons must stand on cores that the chip has,
    or on none if it has none, and it must run as the network does. Widths and memories are not asked for.
    """
    if _places(chip) != _places(own):
        what = "has other places than those on which the network stands"
        yield _bad(where, what, _places(chip), _places(own))
    else:
        yield from _core_problems(mapped, chip, where)
    if mapped.engine is Engine.CLOCKED and not chip.abilities.clocked:
        yield _bad(where, "has no micro-steps, in which the network runs", chip.name, "a clocked chip")
    if mapped.graded and not chip.abilities.graded_events:
        yield _bad(where, "has no graded events, which the network sends", chip.name, "a chip that has")


def _places(chip: ChipSpec) -> str:
    if chip.mesh is not None:
        return "a mesh of cores"
    return "a list of cores" if chip.cores else "no cores"


def _core_problems(mapped: Mapped, chip: ChipSpec, where: str) -> Iterator[Problem]:
    known, used = chip.cores, {t.core for t in mapped.tiles}
    missing = sorted(used - known.keys())
    if missing:
        got = f"{len(missing)} of {len(used)}, the first is core {missing[0]}"
        yield _bad(where, "lacks cores on which the network stands", got, f"{len(known)} cores")


def _bad(where: str, what: str, got: object, limit: object) -> Problem:
    return problem("SNNC-U013", where, what, got=got, limit=limit)
