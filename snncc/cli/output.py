"""What the commands print: one JSON document on stdout, or text; diagnostics always on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from snncc.errors import Problem, SnnccError, fail

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from snncc.reporting.tables import Table
    from snncc.simulation import Progress

# A table in a file or a pipe has no window to fit into.
_WIDTH_ELSEWHERE = 200


def say(text: str = "") -> None:
    """A line of result on stdout, control characters shown."""
    from snncc.reporting.numbers import shown_lines

    click.echo(shown_lines(text))


def note(text: str) -> None:
    """A line about the run on stderr."""
    from snncc.reporting.numbers import shown_lines

    click.echo(shown_lines(text), err=True)


def print_json(document: Any) -> None:
    """The one document of a ``--json`` run."""
    # ASCII only: names may hold characters that a terminal obeys.
    click.echo(json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False))


def error_document(error: SnnccError) -> dict[str, Any]:
    """What ``--json`` says of an error."""
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "problems": [p.as_dict() for p in error.problems],
    }


def print_problems(problems: Iterable[Problem]) -> None:
    """``error[SNNC-C001] where: what, got X, limit Y. Try Z.``, one line a problem."""
    from snncc.reporting.numbers import shown

    for problem in problems:
        click.echo(
            f"{click.style('error', fg='red', bold=True)}[{problem.code}] {shown(str(problem))}", err=True
        )


def console(stream: TextIO) -> Console:
    """A console without markup: what it prints are names and numbers."""
    from rich.console import Console

    elsewhere = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=stream, markup=False, highlight=False, emoji=False, width=_WIDTH_ELSEWHERE if elsewhere else None
    )


def refuse_output(path: Path, force: bool) -> None:
    """Raise before the work, not after it, if a file could not be written to ``path``.

    Raises:
        UsageError: SNNC-U002 if it exists, SNNC-U003 if its folder cannot be written.
    """
    if os.path.lexists(path) and (not force or path.is_symlink() or not path.is_file()):
        plain = path.is_file() and not path.is_symlink()
        raise fail(
            "SNNC-U002",
            str(path),
            "exists already",
            hint="another path, or --force" if plain else "another path",
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        got = "no such folder" if not path.parent.is_dir() else "no permission"
        raise fail("SNNC-U003", str(path), "its folder cannot be written", got=got)


def print_table(table: Table) -> None:
    """A table on stdout."""
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, show_footer=bool(table.total), pad_edge=False)
    for index, column in enumerate(table.columns):
        footer = _plain(table.total[index], "bold") if table.total else ""
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        drawn.add_column(_plain(column.name), footer=footer, justify=justify, overflow="fold")
    for number, row in enumerate(table.rows):
        style = "red" if number in table.marked else ""
        drawn.add_row(*(_plain(cell, style) for cell in row))
    out = console(sys.stdout)
    out.print(_plain(table.title, "bold"))
    out.print(drawn)
    for line in table.notes:
        out.print(_plain(f"  {line}", "dim"))
    if table.notes:
        out.print()


def _plain(text: str, style: str = "") -> Text:
    """Text that is data: no markup, no control characters."""
    from rich.text import Text

    from snncc.reporting.numbers import shown

    return Text(shown(text), style=style)


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress | None]:
    """A bar on stderr that counts samples, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def advance(samples: int) -> None:
            bar.advance(task, samples)

        yield advance


@contextmanager
def busy(label: str) -> Iterator[None]:
    """A spinner on stderr, if it is a terminal, for work whose length nobody knows."""
    if not sys.stderr.isatty():
        yield
        return
    with console(sys.stderr).status(_plain(label)):
        yield
