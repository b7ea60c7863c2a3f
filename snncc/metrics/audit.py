"""Whether the operations and energies that a table prints can belong together: E = 4.6·F1 + 0.9·OPs.

F1 are the multiply-accumulates in front of the first spikes, which some tables count once a sample and
others once a timestep. A printed number stands for all that round to it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path

from snncc.errors import Problem, fail, problem, raise_all
from snncc.metrics.models.model import constants

NEEDED = ("row", "ops_g", "energy_mj")
OPTIONAL = ("stem_g", "timesteps")


class Verdict(StrEnum):
    """What a row's numbers allow."""

    IMPOSSIBLE = "impossible: the operations alone cost more than the energy"
    ONCE = "consistent, stem counted once"
    STEPS = "consistent, stem counted at every timestep"
    NEITHER = "inconsistent: fits the stem neither once nor at every timestep"
    UNKNOWN = "possible: no stem_g to compare with"


@dataclass(frozen=True)
class Published:
    """One row of a table.

    Attributes:
        name: of the network.
        ops: accumulates, G.
        energy: mJ.
        stem: multiply-accumulates of one pass through the stem, G; None: not known.
        timesteps: T; None: not known.
    """

    name: str
    ops: Decimal
    energy: Decimal
    stem: Decimal | None
    timesteps: int | None


@dataclass(frozen=True)
class Audited:
    """A row, the multiply-accumulates that its energy leaves room for (G), and what follows."""

    row: Published
    low: float
    high: float
    verdict: Verdict


def audit(path: Path) -> tuple[Audited, ...]:
    """Test every row of a CSV file with columns ``row,ops_g,energy_mj`` (``stem_g,timesteps``).

    Raises:
        UsageError: SNNC-U001 if there is no such file.
        DataError: SNNC-D001, every unusable row at once.
    """
    return tuple(_audited(row) for row in _rows(path))


def _rows(path: Path) -> list[Published]:
    if not path.is_file():
        raise fail("SNNC-U001", str(path), "no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail("SNNC-D001", str(path), "is no UTF-8 text", got=error.reason) from None
    reader = csv.DictReader(text.splitlines())
    heads = [h.strip() for h in reader.fieldnames or ()]
    missing = [h for h in NEEDED if h not in heads]
    if missing:
        limit = ", ".join((*NEEDED, *OPTIONAL))
        raise fail("SNNC-D001", str(path), "lacks columns", got=", ".join(missing), limit=limit)
    reader.fieldnames = heads
    found, problems = list[Published](), list[Problem]()
    for number, cells in enumerate(reader, start=2):
        read = _published(cells, f"{path}:{number}")
        if isinstance(read, Published):
            found.append(read)
        else:
            problems += read
    raise_all(problems)
    if not found:
        raise fail("SNNC-D001", str(path), "holds no rows")
    return found


def _published(cells: dict[str, str | None], where: str) -> Published | list[Problem]:
    problems = list[Problem]()
    numbers = {name: _number(cells, name, where, problems) for name in (*NEEDED[1:], *OPTIONAL)}
    if problems:
        return problems
    steps = numbers["timesteps"]
    ops, energy = numbers["ops_g"], numbers["energy_mj"]
    assert ops is not None
    assert energy is not None
    return Published(
        (cells["row"] or "").strip(), ops, energy, numbers["stem_g"], None if steps is None else int(steps)
    )


def _number(cells: dict[str, str | None], name: str, where: str, problems: list[Problem]) -> Decimal | None:
    text = (cells.get(name) or "").strip()
    if not text and name in OPTIONAL:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    whole = name != "timesteps" or value == value.to_integral_value()
    if not value.is_finite() or value < 0 or not whole or (name == "timesteps" and value < 1):
        kind = "a whole number from 1" if name == "timesteps" else "a number from 0"
        problems.append(
            problem("SNNC-D001", where, f"{name} is no such number", got=text or "nothing", limit=kind)
        )
        return None
    return value


def _interval(printed: Decimal) -> tuple[Decimal, Decimal]:
    """All numbers that round to what is printed."""
    exponent = printed.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - 1)
    return printed - half, printed + half


def _audited(row: Published) -> Audited:
    rule = constants("paper45")
    mac, ac = Decimal(str(rule["mac_pj"].value)), Decimal(str(rule["ac_pj"].value))
    (ops_low, ops_high), (e_low, e_high) = _interval(row.ops), _interval(row.energy)
    low, high = (e_low - ac * ops_high) / mac, (e_high - ac * ops_low) / mac
    return Audited(row, float(low), float(high), _verdict(row, low, high))


def _verdict(row: Published, low: Decimal, high: Decimal) -> Verdict:
    if high < 0:
        return Verdict.IMPOSSIBLE
    if row.stem is None:
        return Verdict.UNKNOWN
    steps = row.timesteps or 1
    for verdict, times in ((Verdict.ONCE, 1), *([(Verdict.STEPS, steps)] if steps > 1 else [])):
        smallest, largest = (times * end for end in _interval(row.stem))
        if smallest <= high and low <= largest:
            return verdict
    return Verdict.NEITHER
