"""docs/support.md: what becomes of captured models on every target, as tables that a run writes.

The page has two writers. ``tests/frontend/test_zoo_on_chips.py`` owns the section :data:`ZOO`, which stands
last; the oracle tests own all that stands before it.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import snncc
from snncc.data import Dataset
from snncc.errors import Problem, SnnccError
from snncc.model import Model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"
ZOO = "## The papers' networks on the chips"
TARGETS = ("sim", "loihi2", "loihi1", "tianjic", "speck2f", "speck2e")
CALIBRATION, SAMPLES = 8, 2

MEANING = f"""Compiled under `exact` with `--partition auto` from {CALIBRATION} calibration inputs.
"yes": compiled, and spikes = integers on every neuron and timestep of {SAMPLES} inputs that calibration had not
seen; "n on the host": so many layers the host computes, exactly and verified like the rest. "no": the
codes of what stands against it; ×n: at so many places. The reasons stand below the table.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one model on one target.

    Attributes:
        hosted: layers that the host computes.
        problems: what stands against the model; none: it was compiled and verified.
    """

    hosted: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def cell(self) -> str:
        """For the table: short."""
        if not self.problems:
            return f"yes, {self.hosted} on the host" if self.hosted else "yes"
        codes = Counter(p.code.removeprefix("SNNC-") for p in self.problems)
        return "no: " + ", ".join(f"{code} ×{n}" if n > 1 else code for code, n in codes.items())


Outcomes = Mapping[str, Mapping[str, Outcome]]


def outcome(model: Model, target: str, calibration: Dataset, unseen: Dataset) -> Outcome:
    """A model compiled and verified, or what stands against it; a difference fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = snncc.compile(model, target=target, out=Path(folder) / "out", calib=calibration)
        except SnnccError as error:
            return Outcome(problems=error.problems)
        found = snncc.verify(made, unseen)
        hosted = len(made.mapped.on_host)
    assert found.equivalent, f"{model.graph.name} on {target}: compiled and not equivalent"
    assert all(layer.mismatches == 0 and layer.compared > 0 for layer in found.layers)
    return Outcome(hosted)


def table(outcomes: Outcomes, label: str) -> str:
    """A row for each model, and the reasons behind its cells; ``label`` heads the first column."""
    head = f"| {label} | {' | '.join(TARGETS)} |\n|{'---|' * (len(TARGETS) + 1)}\n"
    rows = (f"| {name} | {' | '.join(found[t].cell for t in TARGETS)} |" for name, found in outcomes.items())
    return head + "\n".join(rows) + "\n\n" + _reasons(outcomes)


def _reasons(outcomes: Outcomes) -> str:
    """Every reason once: on which targets it stops how many models, and one place with its numbers."""
    stopped: dict[tuple[str, str], dict[str, set[str]]] = {}
    first: dict[tuple[str, str], str] = {}
    for name, found in outcomes.items():
        for target, one in found.items():
            for problem in one.problems:
                key = problem.code, problem.what
                first.setdefault(key, f"{name}: {_place(problem)}")
                stopped.setdefault(key, {}).setdefault(target, set()).add(name)
    lines = (_reason(*key, stopped[key], first[key]) for key in sorted(stopped))
    return "".join(f"{line}\n" for line in lines)


def _reason(code: str, what: str, stopped: Mapping[str, Sequence[str] | set[str]], example: str) -> str:
    where = ", ".join(f"{target} {len(names)}" for target, names in stopped.items())
    text = f"- **{code.removeprefix('SNNC-')}** {what} ({where}). First, {example}."
    return textwrap.fill(text, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _place(problem: Problem) -> str:
    got = "" if problem.got is None else f", got {problem.got}"
    limit = "" if problem.limit is None else f", limit {problem.limit}"
    return f"{problem.where}{got}{limit}"


def parts() -> tuple[str, str]:
    """The page as it is: what the oracle tests write, and the section of the zoo."""
    before, title, behind = PAGE.read_text(encoding="utf-8").partition(ZOO)
    return before, title + behind


def rows() -> dict[str, tuple[str, ...]]:
    """Cells of the zoo's table on the page, by network."""
    lines = (line.strip("| ").split(" | ") for line in parts()[1].splitlines() if line.startswith("| "))
    return {name: tuple(cells) for name, *cells in lines if name != "network"}
