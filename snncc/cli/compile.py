"""``snncc check`` and ``snncc compile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import command
from snncc.cli.models import FILE, model_options, model_source, target_options
from snncc.cli.output import busy, error_document, note, print_json, print_problems, print_table, say

if TYPE_CHECKING:
    from snncc.artifact import Artifact
    from snncc.results import CheckResult


@command("check")
@model_options
@target_options
def check(
    target: str | None,
    chip: Path | None,
    schedule: str,
    graded: bool,
    partition: str,
    weight_bits: int | None,
    per_channel: bool,
    calib: Path | None,
    as_json: bool,
    **source: Any,
) -> int:
    """Say at once everything that stands between MODEL and a chip; nothing is written.

    Exit code 0 if it fits, else that of the most basic problem: 1 for the model, 2 for usage,
    3 if it does not fit, 5 for an unsafe file.
    """
    path, load = model_source(**source)
    from snncc import api
    from snncc.errors import error_of

    with busy(f"checking {path}"):
        result = api.check(
            path,
            target=target,
            chip=chip,
            schedule=schedule,
            graded=graded,
            partition=partition,
            weight_bits=weight_bits,
            per_channel=per_channel,
            calib=calib,
            load=load,
        )
    error = error_of(result.problems) if result.problems else None
    where = str(target or chip)
    if as_json:
        print_json(_check_document(result, path, where, schedule))
    else:
        _print_check(result, path, where)
    return 0 if error is None else error.exit_code


def _check_document(result: CheckResult, path: Path, target: str, schedule: str) -> dict[str, Any]:
    from snncc.errors import error_of
    from snncc.reporting.chip import layer_documents
    from snncc.reporting.graph import node_documents
    from snncc.reporting.parts import part_documents

    layers, parts = [], []
    if result.lowered is not None and result.utilisation is not None:
        mapped = result.lowered.mapped
        layers, schedule = layer_documents(result.utilisation), mapped.schedule.name
        parts = part_documents(mapped, result.crossings, result.samples)
    return {
        "fits": not result.problems,
        "model": str(path),
        "target": target,
        "schedule": schedule,
        "layers": layers,
        "parts": parts,
        "nodes": [] if result.model is None else node_documents(result.model.graph),
        "notes": list(result.notes),
        "error": error_document(error_of(result.problems)) if result.problems else None,
    }


def _print_check(result: CheckResult, path: Path, target: str) -> None:
    from snncc.reporting.chip import use_table
    from snncc.reporting.graph import node_table, real_edge_notes
    from snncc.reporting.numbers import plural
    from snncc.reporting.parts import part_table

    if result.model is not None:
        print_table(node_table(result.model.graph))
        for line in (*result.model.notes, *real_edge_notes(result.model.graph)):
            note(f"note: {line}")
    for line in result.notes:
        note(f"note: {line}")
    if result.lowered is None or result.utilisation is None:
        from snncc.errors import error_of

        print_problems(error_of(result.problems).problems)
        note(f"{path} does not compile for {target}: {plural(len(result.problems), 'problem')}")
        return
    divided = part_table(result.lowered.mapped, result.crossings, result.samples)
    if divided.rows:
        print_table(divided)
    print_table(use_table(result.lowered.mapped, result.lowered.chip, result.utilisation))
    say(f"{path} fits {target}.")


@command("compile")
@model_options
@target_options
@click.option(
    "-o",
    "--out",
    type=FILE,
    required=True,
    metavar="DIR",
    help="Artifact folder to write, whole or not at all.",
)
@click.option("--force", is_flag=True, help="Replace an artifact that stands there.")
@click.option("--verify-each", is_flag=True, help="Run before and after each pass on the calibration inputs.")
def compile_(
    target: str | None,
    chip: Path | None,
    schedule: str,
    graded: bool,
    partition: str,
    weight_bits: int | None,
    per_channel: bool,
    calib: Path | None,
    out: Path,
    force: bool,
    verify_each: bool,
    as_json: bool,
    **source: Any,
) -> int:
    """Compile MODEL for a chip into an artifact folder."""
    path, load = model_source(**source)
    from snncc import api

    with busy(f"compiling {path}"):
        artifact = api.compile(
            path,
            target=target,
            chip=chip,
            out=out,
            schedule=schedule,
            graded=graded,
            partition=partition,
            weight_bits=weight_bits,
            per_channel=per_channel,
            calib=calib,
            load=load,
            verify_each=verify_each,
            force=force,
        )
    if as_json:
        print_json(_artifact_document(artifact))
    else:
        _print_artifact(artifact)
    return 0


def _artifact_document(artifact: Artifact) -> dict[str, Any]:
    from snncc.reporting.chip import layer_documents
    from snncc.session import utilisation

    return {
        "artifact": str(artifact.path),
        "manifest": artifact.manifest.model_dump(mode="json"),
        "layers": layer_documents(utilisation(artifact)),
        "certificate": artifact.certificate.model_dump(mode="json"),
        "host_macs": artifact.host_macs,
    }


def _print_artifact(artifact: Artifact) -> None:
    from snncc.reporting.chip import use_table
    from snncc.reporting.tables import approximation_table, pass_table, range_table
    from snncc.session import utilisation

    for line in artifact.manifest.notes:
        note(f"note: {line}")
    certificate = artifact.certificate
    tables = (
        use_table(artifact.mapped, artifact.chip, utilisation(artifact)),
        pass_table(certificate),
        approximation_table(certificate),
        range_table(certificate),
    )
    for table in tables:
        if table.rows:
            print_table(table)
    say(f"claim: {certificate.claim}")
    for line in certificate.notes:
        say(f"  - {line}")
    say(f"wrote {artifact.path}; next: snncc verify {artifact.path} --data x.npz")
