"""The console script ``snncc``."""

from __future__ import annotations

import sys
import warnings

import click

from snncc.cli.base import LazyGroup

COMMANDS = {
    "check": ("snncc.cli.compile:check", "Say at once everything that stands between a model and a chip."),
    "compile": ("snncc.cli.compile:compile_", "Compile a model into an artifact folder."),
    "verify": ("snncc.cli.run:verify", "Compare an artifact's spikes with the trained integers."),
    "simulate": ("snncc.cli.run:simulate", "Events, energy and latency, per layer and in total."),
    "report": ("snncc.cli.run:report", "Write all of it as one self-contained HTML page."),
    "energy": ("snncc.cli.energy:energy", "Rates, operations and energy of the trained network; no chip."),
    "export": ("snncc.cli.export:export", "Capture a PyTorch module into a safe graph file."),
    "inspect": ("snncc.cli.inspect:inspect", "Show the graph of a model file or an artifact."),
    "targets": ("snncc.cli.targets:targets", "List chips; their limits and the source of every number."),
    "explain": ("snncc.cli.explain:explain", "What an error code means and how to mend it."),
    "doctor": ("snncc.cli.doctor:doctor", "Which optional tools can be used here."),
}


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"snncc {version('snncc')}")
        ctx.exit()


@click.group(
    "snncc",
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    r"""Put a trained PyTorch spiking network on a neuromorphic chip; check that it still computes the same.

    \b
      snncc compile model.pt --target speck2f -o out/
      snncc verify out/ --data test.npz

    Exit codes: 0 ok, 1 model or data refused, 2 wrong usage, 3 does not fit the chip,
    4 not equivalent, 5 unsafe file, 70 a bug of snncc.
    """


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show µ shows a question mark; it is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if "--debug" not in sys.argv:
        # Other people's deprecations are no message for this program's user.
        warnings.simplefilter("ignore")
    cli.main()
