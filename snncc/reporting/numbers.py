"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def shown(text: str) -> str:
    r"""``text`` with every character that a terminal or page would obey in place of showing as ``\x1b``."""
    # Not printable: controls, bidirectional overrides, zero-width characters, separators other than a space.
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def shown_lines(text: str) -> str:
    """:func:`shown`, but line ends stay."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def count(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def percent(share: float | None, digits: int = 2) -> str:
    """``97.60 %``; a dash for what is unknown."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    # 99.9999 % must not read as all, nor 0.0001 % as none.
    if share < 1 and float(text) == 100:
        text = f"> {100 - 10**-digits:.{digits}f}"
    elif share > 0 and float(text) == 0:
        text = f"< {10**-digits:.{digits}f}"
    return f"{text} %"


def ratio(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent."""
    return percent(part / whole if whole else None)


def significant(value: float) -> str:
    """Three significant digits without an exponent: ``0.0123``, ``12.3``, ``1,230``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}"


def _scale(value: float) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    # Rounded first, so that 999.9 becomes 1.00 k.
    power = 3 * math.floor(math.log10(abs(float(f"{value:.2e}"))) / 3)
    return min(max(power, min(_PREFIXES)), max(_PREFIXES))


def si(value: float | None, unit: str) -> str:
    """``12.3 µJ``; a dash for what is unknown."""
    if value is None:
        return "–"
    power = _scale(value)
    return f"{significant(value / 10.0**power)} {_PREFIXES[power]}{unit}"


def band(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """``12.3 µJ (9.20–37.5)``: a value and its band in the same unit; no band where it is a point."""
    if value is None or low is None or high is None or low == high:
        return si(value, unit)
    power = _scale(value if value else high)
    factor = 10.0**power
    around = f"({significant(low / factor)}–{significant(high / factor)})"
    return f"{significant(value / factor)} {_PREFIXES[power]}{unit} {around}"


def shape(sizes: Sequence[int]) -> str:
    """``16×7×7``."""
    return "×".join(map(str, sizes))


def plural(number: int, noun: str, many: str | None = None) -> str:
    """``1 sample``, ``1,000 samples``."""
    return f"{count(number)} {noun if number == 1 else many or noun + 's'}"
