"""``snncc inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snncc.cli.base import command
from snncc.cli.models import model_options, model_source
from snncc.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from snncc.ir.graph import Graph

FAMILIES = ("float", "integer", "spike")


@command("inspect")
@model_options
@click.option("--graph", type=click.Choice(FAMILIES), help="Of an artifact, this graph only.")
@click.option("--table", is_flag=True, help="A table in place of the text form.")
def inspect(graph: str | None, table: bool, as_json: bool, **source: Any) -> int:
    """Show the graph of a model file, or the graphs of an artifact folder."""
    path, load = model_source(**source)
    graphs, notes = _artifact_graphs(path, graph) if path.is_dir() else _model_graphs(path, load, graph)
    if as_json:
        print_json(
            {"file": str(path), "notes": list(notes), "graphs": {str(g.family): _document(g) for g in graphs}}
        )
        return 0
    for line in notes:
        say(f"// {line}")
    for shown in graphs:
        _print(shown, table)
    return 0


def _print(graph: Graph, table: bool) -> None:
    from snncc.ir.text import to_text
    from snncc.reporting.graph import node_table

    if table:
        print_table(node_table(graph))
    else:
        say(to_text(graph))


def _artifact_graphs(path: Path, wanted: str | None) -> tuple[list[Graph], tuple[str, ...]]:
    from snncc.api import open_artifact

    artifact = open_artifact(path)
    found = {"float": artifact.float_graph, "integer": artifact.integer_graph, "spike": artifact.spike_graph}
    manifest = artifact.manifest
    made = f"of {manifest.model}, written by snncc {manifest.snncc}"
    head = f"artifact for {manifest.target}, schedule {manifest.schedule}, {made}"
    return [found[name] for name in FAMILIES if wanted in (None, name)], (head, *manifest.notes)


def _model_graphs(path: Path, load: Any, wanted: str | None) -> tuple[list[Graph], tuple[str, ...]]:
    from snncc.api import load_model

    if wanted not in (None, "float"):
        raise click.BadParameter("a model file holds the float graph alone", param_hint="--graph")
    model = load_model(path, load)
    return [model.graph], model.notes


def _document(graph: Graph) -> dict[str, Any]:
    from snncc.ir.text import to_text
    from snncc.reporting.graph import node_documents

    return {
        "name": graph.name,
        "family": str(graph.family),
        "steps": graph.steps,
        "micro_steps": graph.micro_steps,
        "nodes": node_documents(graph),
        "text": to_text(graph),
    }
