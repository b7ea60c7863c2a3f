"""``snncc export``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import command
from snncc.cli.models import FILE, model_options, model_source
from snncc.cli.output import busy, print_json, refuse_output, say

if TYPE_CHECKING:
    from snncc.model import Model

HOW = """\
Capture is a function: call it in the training script, where the module's class lives.

    import snncc
    snncc.export(module.eval(), example_input, "model.snnc", calibration=x, labels=y)

The file holds a graph and arrays, no code; `snncc compile model.snnc --target ...` reads it.

From here it works for a module that can be built by name, or a file that `compile` reads:

    snncc export --model pkg.mod:factory --weights sd.pt --input-shape 1,28,28 -o model.snnc
    snncc export model.pt -o model.snnc"""


@command("export")
@model_options
@click.option("-o", "--out", type=FILE, metavar="FILE.snnc", help="Graph file to write.")
@click.option("--calib", type=FILE, metavar="X.NPZ", help="Calibration inputs to put into the file.")
@click.option("--force", is_flag=True, help="Replace a file that stands there.")
def export(out: Path | None, calib: Path | None, force: bool, as_json: bool, **source: Any) -> int:
    """Capture a PyTorch module into a safe graph file; without options, how to call the function."""
    if out is None and not any(value is not None for value in source.values()):
        if as_json:
            print_json({"how": HOW})
        else:
            say(HOW)
        return 0
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    path, load = model_source(**source)
    from snncc.api import load_model
    from snncc.graphfile import SUFFIX, write_graph_file

    if out.suffix != SUFFIX:
        raise click.BadParameter(f"a graph file ends in {SUFFIX}", param_hint="-o")
    refuse_output(out, force)
    with busy(f"capturing {path}"):
        model = _with_calibration(load_model(path, load), calib)
        write_graph_file(out, model, force=force)
    if as_json:
        print_json({"file": str(out), "nodes": len(model.graph.nodes), "notes": list(model.notes)})
    else:
        say(f"wrote {out}: {len(model.graph.nodes)} nodes; next: snncc check {out} --target speck2f")
    return 0


def _with_calibration(model: Model, calib: Path | None) -> Model:
    if calib is None:
        return model
    from snncc.data import load_dataset

    data = load_dataset(calib, model.graph)
    return replace(model, calibration=data.x, labels=data.y)
