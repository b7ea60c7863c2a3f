"""``snncc explain [CODE]``."""

from __future__ import annotations

import click

from snncc.cli.base import command
from snncc.cli.output import print_json, print_table, say


@command("explain")
@click.argument("code", required=False)
def explain(code: str | None, as_json: bool) -> int:
    """What an error code means and how to mend it; without CODE, all of them."""
    from snncc.errors import CODES, fail

    if code is None:
        return _all(as_json)
    # M001 and snnc-m001 are as good.
    key = code.upper() if code.upper().startswith("SNNC-") else f"SNNC-{code.upper()}"
    if key not in CODES:
        raise fail(
            "SNNC-U007", "explain", "no such error code", got=code, hint="`snncc explain` for the list"
        )
    info = CODES[key]
    if as_json:
        print_json(_entry(key))
        return 0
    say(f"{key}: {info.title} (exit code {info.error.exit_code})")
    say()
    for line in _wrapped(info.explanation):
        say(line)
    return 0


def _entry(code: str) -> dict[str, str | int]:
    from snncc.errors import CODES

    info = CODES[code]
    return {
        "code": code,
        "title": info.title,
        "exit_code": info.error.exit_code,
        "explanation": info.explanation,
    }


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _all(as_json: bool) -> int:
    from snncc.errors import CODES
    from snncc.reporting.tables import Table, columns

    if as_json:
        print_json({"codes": [_entry(code) for code in CODES]})
        return 0
    rows = tuple((code, str(info.error.exit_code), info.title) for code, info in CODES.items())
    print_table(Table("Error codes", columns("code", "#exit", "meaning"), rows))
    return 0
