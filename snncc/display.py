"""What notebooks show of results. The pages stand above the results: whoever knows both hands them in."""

from __future__ import annotations

from functools import singledispatch


@singledispatch
def html(result: object) -> str | None:
    """Page of a result, by its class; None where none was handed in: a notebook then prints its text."""
    return None
