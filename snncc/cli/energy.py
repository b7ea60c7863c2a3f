"""``snncc energy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import F, command
from snncc.cli.models import FILE, model_options, model_source
from snncc.cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from snncc.metrics.energy import TrainedEnergy


def _choice(name: str, values: tuple[str, ...], default: str, text: str) -> Callable[[F], F]:
    return click.option(f"--{name}", type=click.Choice(values), default=default, show_default=True, help=text)


@command("energy")
@model_options
@click.option("--data", type=FILE, metavar="X.NPZ", help="Inputs `x` [N,...] or [N,T,...].")
@click.option(
    "--audit", "table", type=FILE, metavar="T.CSV", help="In place of MODEL: test a published table."
)
@_choice("stem", ("once", "steps"), "steps", "Layers before the first spikes run once or at every timestep.")
@_choice("head", ("once", "steps"), "steps", "Layers behind the last neurons, of results averaged over time.")
@_choice("integers", ("acs", "macs"), "acs", "Counts above one: an accumulate a unit, or dense multiplies.")
@_choice("attention", ("executed", "papers"), "executed", "paper45: pairs that meet, or N·d²·(min(k,v) + q).")
@click.option("--bias", is_flag=True, help="Count additions of biases too.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="The first N inputs only.")
@click.option(
    "--of", type=click.IntRange(min=1), metavar="M", help="Images of the whole set that the data are from."
)
@click.option("--allow-subset", is_flag=True, help="Print the headline of a part of the set too.")
@click.option(
    "--baseline", "baselines", type=click.Choice(("ann", "qnn")), multiple=True, help="Add the twin network."
)
@_choice("format", ("table", "csv", "latex"), "table", "What is printed.")
def energy(
    data: Path | None,
    table: Path | None,
    samples: int | None,
    of: int | None,
    allow_subset: bool,
    baselines: tuple[str, ...],
    format: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Rates, operations and energy of the trained network in MODEL on data: no chip, no quantization."""
    if table is not None:
        return _audit(
            table, [k for k, v in {"MODEL": options["model_file"], "--data": data}.items() if v], as_json
        )
    if data is None:
        raise click.UsageError("Missing option '--data'.")
    conventions = {k: options.pop(k) for k in ("stem", "head", "integers", "attention", "bias")}
    path, load = model_source(**options)
    from snncc import api
    from snncc.data import load_dataset

    model = api.load_model(path, load)
    inputs = load_dataset(data, model.graph)
    whole = len(inputs)
    with progress("energy", min(whole, samples or whole)) as advance:
        found = api.energy(
            model, inputs, samples=samples, of=of, baselines=baselines, progress=advance, **conventions
        )
    if as_json:
        print_json(_json(found, path, data, allow_subset))
    else:
        _print(found, format, allow_subset)
    return 0


def _audit(table: Path, beside: list[str], as_json: bool) -> int:
    if beside:
        raise click.UsageError(f"--audit reads a table alone, without {' and '.join(beside)}")
    from snncc.metrics.audit import audit
    from snncc.metrics.documents import audited_row
    from snncc.reporting.energy import audit_table

    rows = audit(table)
    if as_json:
        print_json({"table": str(table), "rows": [audited_row(a) for a in rows]})
    else:
        print_table(audit_table(rows))
    return 0


def _json(found: TrainedEnergy, path: Path, data: Path, allow_subset: bool) -> dict[str, Any]:
    from snncc.metrics.documents import document

    made = {"model": str(path), "data": str(data), **document(found)}
    shown = found.of is None or allow_subset
    headline = {name: e["total_mj"] for name, e in made["energy"].items()} if shown else None
    return {**made, "headline_mj": headline}


def _print(found: TrainedEnergy, format: str, allow_subset: bool) -> None:
    if format == "csv":
        from snncc.metrics.documents import csv_text

        click.echo(csv_text(found), nl=False)
        return
    if format == "latex":
        if found.of is not None and not allow_subset:
            raise click.UsageError(
                "rows of a table are of a whole set; --allow-subset prints those of a part"
            )
        from snncc.metrics.documents import latex_text

        click.echo(latex_text(found), nl=False)
        return
    from snncc.reporting.energy import energy_tables, headline

    for table in energy_tables(found):
        print_table(table)
    for line in headline(found, allow_subset):
        say(line)
