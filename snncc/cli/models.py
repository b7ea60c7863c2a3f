"""Options that say which model is meant, shared by the commands that read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.errors import fail

if TYPE_CHECKING:
    from snncc.plugins import LoadOptions

FILE = click.Path(path_type=Path)  # existence is checked where the file is opened, with our own error


def _sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``C,H,W`` as integers, each at least 1."""
    if value is None:
        return None
    parts = [part.strip() for part in value.replace("x", ",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is no list of positive sizes, for example 1,28,28", ctx, param)
    return tuple(map(int, parts))


_MODEL_OPTIONS = (
    click.argument("model_file", metavar="[MODEL]", type=FILE, required=False),
    click.option(
        "--model",
        "factory",
        metavar="PKG.MOD:FACTORY",
        help="In place of MODEL: a callable that builds the module.",
    ),
    click.option("--weights", type=FILE, metavar="SD.PT", help="State dict for --model."),
    click.option(
        "--input-shape",
        callback=_sizes,
        metavar="C,H,W",
        help="Shape of one sample, where the file does not tell.",
    ),
    click.option(
        "--timesteps",
        type=click.IntRange(min=1),
        metavar="T",
        help="Timesteps of one sample, where the file does not tell.",
    ),
    click.option(
        "--input-levels",
        type=click.IntRange(min=0),
        metavar="L",
        help="Largest spike count of the input; 0 for real values.",
    ),
)

_TARGET_OPTIONS = (
    click.option("--target", metavar="NAME", help="The chip; `snncc targets` lists them."),
    click.option("--chip", type=FILE, metavar="FILE.TOML", help="In place of --target: a chip description."),
    click.option(
        "--schedule",
        default="exact",
        show_default=True,
        metavar="NAME",
        help="When neurons fire, and what is promised of it; `snncc targets show` lists a chip's.",
    ),
    click.option("--graded", is_flag=True, help="Short for --schedule graded (Loihi 2)."),
    click.option(
        "--partition",
        type=click.Choice(["auto", "none"]),
        default="auto",
        show_default=True,
        help="auto: a host computes what the chip lacks, where it can take part. none: all on the chip.",
    ),
    click.option(
        "--weight-bits",
        type=int,
        metavar="N",
        help="Bits of a weight, in place of as many as the chip holds; on sim up to 24.",
    ),
    click.option(
        "--per-channel",
        is_flag=True,
        help="A scale, and a threshold, for each output channel of a layer, where the chip holds them.",
    ),
    click.option(
        "--calib", type=FILE, metavar="X.NPZ", help="Calibration inputs, in place of those in the model."
    ),
)


def _apply(options: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _apply(_MODEL_OPTIONS)
target_options = _apply(_TARGET_OPTIONS)


def model_source(
    model_file: Path | None,
    factory: str | None,
    weights: Path | None,
    input_shape: tuple[int, ...] | None,
    timesteps: int | None,
    input_levels: int | None,
) -> tuple[Path, LoadOptions]:
    """The file to read and how.

    Raises:
        UsageError: SNNC-U005 unless it is either MODEL or both --model and --weights.
    """
    from snncc.plugins import LoadOptions

    if model_file is not None and (factory is not None or weights is not None):
        raise fail(
            "SNNC-U005", "MODEL", "a model file and --model/--weights exclude each other", got=model_file
        )
    path = model_file if model_file is not None else weights
    if path is None:
        if factory is not None:
            raise fail("SNNC-U005", "--model", "needs the trained parameters too", hint="--weights sd.pt")
        raise fail(
            "SNNC-U005",
            "MODEL",
            "no model given",
            hint="a model file, or --model pkg.mod:factory --weights sd.pt",
        )
    if model_file is None and factory is None:
        raise fail(
            "SNNC-U005",
            "--weights",
            "needs the callable that builds the module",
            hint="--model pkg.mod:factory",
        )
    return path, LoadOptions(
        input_shape=input_shape, timesteps=timesteps, input_levels=input_levels, factory=factory
    )
