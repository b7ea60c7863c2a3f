"""Numbers and names as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snncc.reporting.cost import quantity, split_unit
from snncc.reporting.numbers import band, percent, plural, shown, shown_lines, si, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (999.6, "1,000"),
        (1234.0, "1,230"),
        (-2.5, "-2.50"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 J"),
        (1.23e-5, "12.3 µJ"),
        (9.999e-7, "1.00 µJ"),
        (2.5, "2.50 J"),
        (4.2e-18, "0.00420 fJ"),
        (7e12, "7,000 GJ"),
        (-1.5e-3, "-1.50 mJ"),
    ],
)
def test_si(value: float | None, text: str) -> None:
    assert si(value, "J") == text


def test_a_band_stands_in_the_unit_of_its_value() -> None:
    assert band(12.3e-6, 9.2e-6, 37.5e-6, "J") == "12.3 µJ (9.20–37.5)"
    assert band(900e-9, 500e-9, 2e-6, "J") == "900 nJ (500–2,000)"
    assert band(1e-6, 1e-6, 1e-6, "J") == "1.00 µJ"
    assert band(0.0, 0.0, 2e-6, "J") == "0 µJ (0–2.00)"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (0, "0.00 %"),
        (1, "100.00 %"),
        (0.99999, "> 99.99 %"),
        (0.000001, "< 0.01 %"),
        (0.5, "50.00 %"),
        (1.5, "150.00 %"),
    ],
)
def test_percent_rounds_neither_to_all_nor_to_none(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_constants_are_not_rounded() -> None:
    assert quantity(1357.5, 1357.5, 1357.5, "ns") == "1,357.5 ns"
    assert quantity(20.0, 15.0, 61.0, "pJ") == "20 pJ (15–61)"
    assert split_unit("static_power_mw") == ("static power", "mW")
    assert split_unit("fan_out") == ("fan out", "")


def test_plural() -> None:
    assert (plural(1, "sample"), plural(1000, "sample")) == ("1 sample", "1,000 samples")


def test_shown() -> None:
    assert shown("a\x1b[2J\n\u202e\u200b\U000e0001µ") == "a\\x1b[2J\\x0a\\u202e\\u200b\\U000e0001µ"
    assert shown_lines("a\nb\r") == "a\nb\\x0d"


@given(st.text())
def test_shown_is_printable_and_keeps_what_was(text: str) -> None:
    assert shown(text).isprintable()
    if text.isprintable():
        assert shown(text) == text
