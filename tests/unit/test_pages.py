"""The pages in docs/: references find them, what they name is there, their numbers are those of the files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from snncc.analysis.layerwise import TOLERANCE
from snncc.passes.quantize import Quantize
from snncc.passes.rounding import DECAY_BITS
from snncc_speck import gate

MARGIN_OF_SCALE = Quantize.margin  # the field's default
ROOT = Path(__file__).parents[2]
FOLDERS = ("snncc", "frontends", "backends", "simulators", "tests", "examples", "docs", "bench")
SUFFIXES = {".py", ".md", ".toml", ".j2", ".css"}


@cache
def texts() -> dict[str, str]:
    """Every text file of the repository by its path."""
    files = [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    files += [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files if p.is_file()}


@cache
def anchors(page: str) -> frozenset[str]:
    """Anchors of a page's headings, as they are made of a heading's words."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", texts()[page], flags=re.S), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings)


def references(path: str, text: str) -> Iterator[tuple[str, str]]:
    """(page, anchor) of everything in a file that points to a page; the anchor may be empty."""
    for page, anchor in re.findall(r"\b(docs/[\w.-]+\.md)(?:#([\w-]+))?", text):
        yield page, anchor
    if path.endswith(".md"):
        for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
            if target.endswith(".md") or not target:
                at = (ROOT / path).parent / target if target else ROOT / path
                yield at.resolve().relative_to(ROOT).as_posix(), anchor


def test_every_page_and_anchor_that_is_named_exists() -> None:
    named = [
        (path, page, anchor) for path, text in texts().items() for page, anchor in references(path, text)
    ]
    assert len(named) > 20
    assert [n for n in named if n[1] not in texts() or (n[2] and n[2] not in anchors(n[1]))] == []


def test_nothing_refers_to_documents_outside_the_repository() -> None:
    outside = re.compile(r"DESIGN ?§|\bDESIGN\b|\bfacts/")
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert [p for p, text in texts().items() if p != here and outside.search(text)] == []


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md")))
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", texts()[page])
    assert [name for name in named if not (ROOT / name).exists()] == []


def table_rows(page: str) -> Iterator[tuple[str, str, str]]:
    """(chip file, key, value) of every table whose head names a chip file's keys."""
    chip = None
    for line in texts()[page].splitlines():
        head = re.match(r"\| what \| key in `([\w./]+\.toml)` \| value \|", line)
        chip = head.group(1) if head else chip if line.startswith("|") else None
        row = re.match(r"\| [^|]+ \| `([\w.]+)` \| (\d+) \|", line)
        if chip and row:
            yield chip, row.group(1), row.group(2)


@pytest.mark.parametrize(("chip", "key", "value"), list(table_rows("docs/chips.md")))
def test_a_number_of_the_page_is_the_chip_files(chip: str, key: str, value: str) -> None:
    found = tomllib.loads(texts()[chip])
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert str(found["limit"] if isinstance(found, dict) else found) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("on the calibration inputs ([ranges](#ranges-and-certificates)), times 1.25, fits", MARGIN_OF_SCALE),
        ("`high` and `low` are the calibrated prefix sums times 1.2, or", gate.MARGIN),
        ("A leak is rounded to 12 binary places", DECAY_BITS),
        ("which adds s = min(127, θ)", gate.STEP_MAX),
        ("|Δ drive| ≤ 1e-5·(Σ|w·x| + |b|)", TOLERANCE),
    ],
)
def test_a_number_in_the_semantics_is_the_codes(sentence: str, value: float) -> None:
    assert sentence in " ".join(texts()["docs/semantics.md"].split())
    assert value in [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", sentence)]
