"""Where two documents differ first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_MISSING = "nothing"


@dataclass(frozen=True)
class Difference:
    """The first value that differs.

    Attributes:
        path: where: keys and numbers, joined by dots.
        got, limit: the value found and the one expected, as text.
    """

    path: str
    got: str
    limit: str


def first_difference(got: Any, limit: Any, path: str = "") -> Difference | None:
    """Where a document of dicts, lists and scalars differs first from the expected one; None if nowhere."""
    pairs: dict[Any, tuple[Any, Any]]
    if isinstance(got, dict) and isinstance(limit, dict):
        pairs = {k: (got.get(k, _MISSING), limit.get(k, _MISSING)) for k in (*limit, *got)}
    elif isinstance(got, list) and isinstance(limit, list):
        pairs = dict(enumerate(zip_longest(got, limit, fillvalue=_MISSING)))
    else:
        same = type(got) is type(limit) and got == limit
        return None if same else Difference(path, _short(got), _short(limit))
    inner = (first_difference(a, b, f"{path}.{k}" if path else f"{k}") for k, (a, b) in pairs.items())
    return next((d for d in inner if d is not None), None)


def _short(value: Any, length: int = 120) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[:length]}…"
