"""``snncc verify``, ``simulate`` and ``report``: everything that runs an artifact on data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import command
from snncc.cli.models import FILE
from snncc.cli.output import note, print_json, print_problems, print_table, progress, refuse_output, say

if TYPE_CHECKING:
    from snncc.artifact import Artifact
    from snncc.data import Dataset
    from snncc.equivalence.result import Verification
    from snncc.results import Simulation

NOT_EQUIVALENT = 4


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


artifact_argument = click.argument("artifact", metavar="DIR", type=FILE)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=_processors,
    metavar="N",
    show_default="all processors",
    help="Samples run side by side; the result does not depend on it.",
)


def data_option(required: bool) -> Callable[..., Any]:
    """``--data``."""
    text = "Inputs `x` [N,C,H,W] or [N,T,C,H,W], optionally classes `y` [N]."
    return click.option(
        "--data",
        type=FILE,
        required=required,
        metavar="X.NPZ",
        help=text if required else f"{text} Without: the artifact's calibration inputs.",
    )


chip_option = click.option(
    "--chip",
    type=FILE,
    metavar="FILE.toml",
    help="Cost it under this description of a chip, not under the artifact's own.",
)


def _open(path: Path, data: Path | None) -> tuple[Artifact, Dataset]:
    from snncc import api
    from snncc.data import load_dataset

    artifact = api.open_artifact(path)
    return artifact, artifact.calibration if data is None else load_dataset(data, artifact.float_graph)


@command("verify")
@artifact_argument
@data_option(required=True)
@workers_option
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="The first N inputs only.")
@click.option(
    "--executor",
    default="sim",
    show_default=True,
    metavar="NAME",
    help="What runs the exported program: the simulator, for Loihi also `lava` or `reference`.",
)
@click.option("--python", metavar="PATH", help="Interpreter of the environment that the executor needs.")
def verify(
    artifact: Path,
    data: Path,
    workers: int,
    samples: int | None,
    executor: str,
    python: str | None,
    as_json: bool,
) -> int:
    """Compare the spikes of the artifact DIR with the trained integers, neuron by neuron.

    Exit code 4 if they differ, if a sample left the range for which the schedule was made, or if
    the schedule is `free`, which promises nothing.
    """
    opened, inputs = _open(artifact, data)
    inputs = inputs if samples is None else inputs.first(samples)
    from snncc import api

    with progress("verify", len(inputs)) as advance:
        result = api.verify(
            opened, inputs, executor=executor, python=python, workers=workers, progress=advance
        )
    if as_json:
        print_json(result.model_dump(mode="json") | {"artifact": str(artifact), "data": inputs.origin})
    else:
        _print_verification(result, str(artifact), inputs.origin)
    return 0 if result.equivalent else NOT_EQUIVALENT


def _print_verification(result: Verification, where: str, origin: str) -> None:
    from snncc.reporting.tables import accuracy_table, bounds_table, excursion_table, match_table
    from snncc.reporting.words import verdict, verification_problems

    for table in (match_table(result), accuracy_table(result), bounds_table(result), excursion_table(result)):
        if table.rows:
            print_table(table)
    words = verdict(result, origin)
    say(words.headline)
    for line in words.details:
        say(f"  - {line}")
    print_problems(verification_problems(result, where))


@command("simulate")
@artifact_argument
@data_option(required=True)
@chip_option
@workers_option
def simulate(artifact: Path, data: Path, chip: Path | None, workers: int, as_json: bool) -> int:
    """Run the artifact DIR and say what it costs: events, energy by component, latency."""
    opened, samples = _open(artifact, data)
    from snncc import api

    with progress("simulate", len(samples)) as advance:
        result = api.simulate(opened, samples, chip=chip, workers=workers, progress=advance)
    if as_json:
        print_json(_simulation_document(result, str(artifact), samples.origin))
    else:
        _print_simulation(result, samples.origin)
    return 0


def _simulation_document(result: Simulation, where: str, origin: str) -> dict[str, Any]:
    from snncc.metrics.documents import document

    mapped = result.artifact.mapped
    head = {
        "artifact": where,
        "data": origin,
        "target": mapped.target,
        "schedule": mapped.schedule.name,
        "engine": mapped.engine.value,
        "costed_under": result.chip.name,
        "recosted": result.recosted or None,
    }
    return {**head, **result.cost.as_dict(), "trained": document(result.trained)}


def _print_simulation(result: Simulation, origin: str) -> None:
    from snncc.reporting.cost import (
        activity_table,
        constant_table,
        energy_table,
        headline,
        latency_table,
        layer_energy_table,
    )
    from snncc.reporting.energy import layer_table, neuron_table
    from snncc.reporting.parts import crossing_table

    cost = result.cost
    mapped = result.artifact.mapped
    energies, crossed = [energy_table(e) for e in cost.energy], crossing_table(cost)
    for table in (
        layer_table(result.trained),
        neuron_table(result.trained),
        activity_table(cost),
        *([crossed] if crossed.rows else []),
        layer_energy_table(cost),
        *energies,
        latency_table(cost),
        constant_table(cost),
    ):
        print_table(table)
    say("Not modelled:")
    for line in cost.not_modelled:
        say(f"  - {line}")
    say()
    if result.recosted:
        say(result.recosted)
    say(f"{mapped.target}, schedule {mapped.schedule.name}, {cost.samples:,} samples of {origin}; a sample:")
    for name, value in headline(cost):
        say(f"  {name:24} {value}")


@command("report")
@artifact_argument
@click.option("--html", type=FILE, required=True, metavar="FILE", help="Page to write.")
@data_option(required=False)
@chip_option
@workers_option
@click.option("--force", is_flag=True, help="Replace a file that stands there.")
def report(
    artifact: Path,
    html: Path,
    data: Path | None,
    chip: Path | None,
    workers: int,
    force: bool,
    as_json: bool,
) -> int:
    """Write what `verify` and `simulate` find as one self-contained HTML page."""
    refuse_output(html, force)  # before the work, not after it
    opened, samples = _open(artifact, data)
    from snncc import api

    with progress("report", len(samples)) as advance:
        written = api.report(
            opened, html, data=samples, chip=chip, workers=workers, progress=advance, force=force
        )
    if as_json:
        print_json(
            {"html": str(written), "artifact": str(artifact), "data": samples.origin, "samples": len(samples)}
        )
    else:
        say(f"wrote {written}")
        if data is None:
            note("note: only the artifact's calibration inputs were run; --data x.npz runs held-back ones")
    return 0
