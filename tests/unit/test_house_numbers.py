"""What the code promises about itself, and that the script which counts it can count."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from bench import house_numbers
from bench.house_numbers import SOURCE, code_lines, error_texts, functions, percentile, share

SAMPLE = '''"""A module.

With a docstring of three lines.
"""

import numpy as np  # 6


class Base:  # 9
    """Doc."""

    def size(self) -> int:  # 12
        """In bytes."""
        return 1  # 14


class Derived(Base):  # 17
    def size(self) -> int:  # 18

        #only a comment

        return 2  # 22

    def _hidden(self):  # 24
        return """one string
        of two lines"""  # 25, 26


def shaped(x: Array, table: dict[str, Array]) -> None:  # 29
    """x [N, C]."""

    def inner(y):  # 32
        return fail("SNNC-U001", "w", "x", got=1, hint=None)  # 33

    raise inner(x)  # 35


def stores(table: Mapping[str, NDArray[Any]]) -> dict[str, Array]:  # 38
    raise_all([errors.problem("SNNC-M001", "w", "x"), problem("SNNC-X001", "w", "x", got=2)])  # 39


def bare(x: Array) -> Array:  # 42
    """No shape (a, b) and no [1]."""
    raise problem("SNNC-M001", "w", "x", limit=2, hint="y")  # 44
'''


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(house_numbers, "ROOT", tmp_path)
    (tmp_path / "pkg").mkdir()
    path = tmp_path / "pkg" / "a.py"
    path.write_text(SAMPLE)
    return path


def test_lines_of_code_are_neither_blank_nor_comment_nor_docstring(sample: Path) -> None:
    marked = {i for i, line in enumerate(SAMPLE.splitlines(), 1) if "  # " in line} | {25}
    assert code_lines(sample) == marked


def test_functions_are_measured_and_read(sample: Path) -> None:
    assert [(f.place, f.lines, f.public, bool(f.doc), f.arrays, f.sized) for f in functions("pkg")] == [
        ("pkg/a.py: Base.size", 1, True, True, False, True),
        ("pkg/a.py: Derived.size", 1, True, True, False, True),
        ("pkg/a.py: Derived._hidden", 2, False, False, False, False),
        ("pkg/a.py: shaped", 3, True, True, True, True),
        ("pkg/a.py: shaped._.inner", 1, False, False, False, False),
        ("pkg/a.py: stores", 1, True, False, False, False),
        ("pkg/a.py: bare", 1, True, True, True, False),
    ]


def test_error_texts_are_found_with_what_they_carry(sample: Path) -> None:
    assert [(t.place, set(t.carries)) for t in error_texts("pkg")] == [
        ("pkg/a.py:33", {"got"}),
        ("pkg/a.py:39", set()),
        ("pkg/a.py:44", {"limit", "hint"}),
    ]


def test_shares_and_percentiles() -> None:
    assert (share(1, 4), share(0, 0)) == (0.25, 1.0)
    assert [percentile([5, 1, 4, 2, 3], p) for p in (0, 20, 21, 50, 90, 100)] == [1, 1, 2, 3, 5, 5]


def test_functions_are_short() -> None:
    lengths = [f.lines for f in functions(*SOURCE)]
    assert statistics.median(lengths) <= 6
    assert percentile(lengths, 90) <= 20
    assert [f.place for f in functions(*SOURCE) if f.lines > 60] == []


def test_every_public_function_has_a_docstring() -> None:
    assert [f.place for f in functions(*SOURCE) if f.public and not f.doc] == []


def test_docstrings_say_shapes_or_units_where_arrays_are_taken_or_given() -> None:
    arrays = [f for f in functions(*SOURCE) if f.public and f.arrays]
    assert share(sum(f.sized for f in arrays), len(arrays)) >= 0.8


def test_error_texts_carry_what_was_got_the_limit_or_a_way_out() -> None:
    texts = error_texts(*SOURCE)
    assert share(sum(bool(t.carries) for t in texts), len(texts)) >= 0.9


def test_there_is_nearly_as_much_test_as_source() -> None:
    assert house_numbers.ratio() >= 0.9


def test_the_report_names_every_number() -> None:
    lines = list(house_numbers.report())
    assert [line.partition(":")[0] for line in lines[:9]] == [
        "functions",
        "longest",
        "source",
        "public functions without docstring",
        "arrays without a shape or unit",
        "error texts without got, limit and hint",
        "error texts with got",
        "error texts with limit",
        "error texts with hint",
    ]
