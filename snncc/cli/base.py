"""The command group: commands load on use, every failure becomes one message and one exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from snncc.cli.output import error_document, print_json, print_problems
from snncc.errors import SnnccError, fail

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class LazyGroup(click.Group):
    """A group whose help needs no command to be imported.

    Attributes:
        lazy: per command, where it stands (``module:attribute``) and its line in the help.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of work, not of the alphabet."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from :attr:`lazy` alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line and exit with its code; ``standalone_mode`` is ours alone."""
        given = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        run = super().main
        sys.exit(guarded(lambda: run(given, prog_name or "snncc", standalone_mode=False, **extra), given))


def guarded(run: Callable[[], Any], args: Sequence[str]) -> int:
    """Exit code of ``run``, whatever it raises; the message is printed here."""
    as_json, debug = "--json" in args, "--debug" in args or os.environ.get("SNNCC_DEBUG") == "1"
    try:
        code = run()
    except SnnccError as error:
        return _report(error, as_json, debug)
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        return _usage(error, as_json)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        hint = None if debug else "again with --debug and report the traceback"
        return _report(fail("SNNC-X001", "snncc", what, hint=hint), as_json, debug)
    return code if isinstance(code, int) else 0


def _report(error: SnnccError, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if as_json:
        print_json({"error": error_document(error)})
    else:
        print_problems(error.problems)
    return error.exit_code


def _usage(error: click.ClickException, as_json: bool) -> int:
    """What click refuses: a missing argument, an unknown option, a value out of range."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    refused = fail("SNNC-U005", "command line", error.format_message().rstrip("."))
    if as_json:
        print_json({"error": error_document(refused)})
        return 2
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    print_problems(refused.problems)
    return 2


def command(name: str) -> Callable[[Callable[..., int]], click.Command]:
    """A command with the options that all have: ``--json`` (as ``as_json``) and ``--debug``."""

    def decorate(function: Callable[..., int]) -> click.Command:
        # expose_value=False: guarded() reads it, since it must also know of failures before parsing ends.
        debug = click.option(
            "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
        )
        as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        return click.command(name, context_settings=settings)(debug(as_json(function)))

    return decorate
