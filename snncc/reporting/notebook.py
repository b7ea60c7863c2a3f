"""What notebooks show of the results: the same tables, as ``_repr_html_`` returns them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snncc.equivalence.result import Verification
from snncc.reporting import chip as chips
from snncc.reporting import cost as costs
from snncc.reporting import tables
from snncc.reporting.energy import layer_table
from snncc.reporting.html import template
from snncc.reporting.numbers import plural
from snncc.reporting.parts import crossing_table, part_table
from snncc.reporting.words import verdict
from snncc.results import CheckResult, Simulation


def _html(headline: str, lines: Iterable[str], shown: Iterable[tables.Table]) -> str:
    page = template("notebook.html.j2")
    return page.render(headline=headline, lines=list(lines), tables=list(shown))


def verification_html(result: Verification) -> str:
    """Verdict and mismatches."""
    words = verdict(result, "")
    shown = (tables.match_table(result), tables.excursion_table(result), tables.accuracy_table(result))
    return _html(words.headline, words.details, shown)


def simulation_html(result: Simulation) -> str:
    """Activity, energy, latency."""
    cost, mapped = result.cost, result.artifact.mapped
    shown = (
        layer_table(result.trained),
        costs.activity_table(cost),
        crossing_table(cost),
        *(costs.energy_table(e) for e in cost.energy),
        costs.latency_table(cost),
    )
    headline = f"{mapped.target}, schedule {mapped.schedule.name}, {plural(cost.samples, 'sample')}"
    lines = [result.recosted] if result.recosted else []
    return _html(headline, [*lines, *(f"not modelled: {text}" for text in cost.not_modelled)], shown)


def check_html(result: CheckResult) -> str:
    """Every problem, or what the network takes of the chip."""
    if result.lowered is None or result.utilisation is None:
        problems = (f"[{p.code}] {p}" for p in result.problems)
        return _html(f"does not compile: {plural(len(result.problems), 'problem')}", problems, ())
    mapped = result.lowered.mapped
    shown = (
        part_table(mapped, result.crossings, result.samples),
        chips.use_table(mapped, result.lowered.chip, result.utilisation),
    )
    return _html(f"fits {mapped.target}", result.notes, shown)


PAGES: Mapping[type, Callable[[Any], str]] = {
    CheckResult: check_html,
    Simulation: simulation_html,
    Verification: verification_html,
}
