"""``snncc explain [CODE]``."""

from __future__ import annotations

import click

from snncc.cli.base import command
from snncc.cli.output import print_json, print_table, say
from snncc.errors import CodeInfo, codes, fail, find_code


@command("explain")
@click.argument("code", required=False)
def explain(code: str | None, as_json: bool) -> int:
    """What an error code means and how to mend it; without CODE, all of them."""
    if code is None:
        return _all(as_json)
    # M001 and snnc-m001 are as good.
    key = code.upper() if "-" in code else f"SNNC-{code.upper()}"
    info = find_code(key)
    if info is None:
        raise fail(
            "SNNC-U007", "explain", "no such error code", got=code, hint="`snncc explain` for the list"
        )
    if as_json:
        print_json(_entry(key, info))
        return 0
    say(f"{key}: {info.title} (exit code {info.error.exit_code})")
    say()
    for line in _wrapped(info.explanation):
        say(line)
    return 0


def _entry(code: str, info: CodeInfo) -> dict[str, str | int]:
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
    from snncc.reporting.tables import Table, columns

    if as_json:
        print_json({"codes": [_entry(code, info) for code, info in codes().items()]})
        return 0
    rows = tuple((code, str(info.error.exit_code), info.title) for code, info in codes().items())
    print_table(Table("Error codes", columns("code", "#exit", "meaning"), rows))
    return 0
