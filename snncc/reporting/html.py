"""The report: one self-contained HTML page without scripts, safe whatever the names in the model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from snncc.reporting import chip as chips
from snncc.reporting import cost as costs
from snncc.reporting import svg, tables
from snncc.reporting.energy import layer_table, neuron_table
from snncc.reporting.numbers import shown
from snncc.reporting.parts import crossing_table, part_table
from snncc.reporting.words import is_calibration, verdict
from snncc.safeio import write_whole

if TYPE_CHECKING:
    from snncc.artifact import Artifact
    from snncc.equivalence.result import Verification
    from snncc.results import Simulation


def _visible(value: Any) -> Any:
    """Control characters shown; autoescape then does the rest."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def template(name: str) -> Template:
    """A template of this package."""
    environment = Environment(
        loader=PackageLoader("snncc.reporting", "."),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def write_report(
    path: Path, simulation: Simulation, verification: Verification, origin: str, *, force: bool = False
) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: of the page.
        simulation: what the artifact did and costs.
        verification: integers against spikes on the same data.
        origin: where the data came from.
        force: replace a file that stands there.

    Raises:
        UsageError: SNNC-U002 if ``path`` exists, SNNC-U003 if it cannot be written.
    """
    page = render(simulation, verification, origin)
    # A lone surrogate cannot be encoded; shown() has already replaced those in names.
    write_whole(path, page.encode("utf-8", "backslashreplace"), force=force)
    return path


def render(simulation: Simulation, verification: Verification, origin: str) -> str:
    """The page as text; arguments as in :func:`write_report`."""
    artifact, cost = simulation.artifact, simulation.cost
    chip = artifact.chip
    return template("report.html.j2").render(
        artifact=artifact,
        mapped=artifact.mapped,
        manifest=artifact.manifest,
        certificate=artifact.certificate,
        chip=chip,
        profile=simulation.chip,
        recosted=simulation.recosted,
        cost=cost,
        verification=verification,
        verdict=verdict(verification, origin),
        calibration_only=is_calibration(origin),
        headline=costs.headline(cost),
        network=svg.network_svg(artifact.mapped, simulation.utilisation),
        floor=svg.floor_svg(chip, simulation.utilisation),
        energy=svg.energy_svg(cost),
        tables=_tables(simulation, verification),
        reproducibility=_reproducibility(artifact),
        errata=chips.errata(chip),
    )


def _tables(simulation: Simulation, verification: Verification) -> dict[str, Any]:
    artifact, cost = simulation.artifact, simulation.cost
    return {
        "use": chips.use_table(artifact.mapped, artifact.chip, simulation.utilisation),
        "match": tables.match_table(verification),
        "accuracy": tables.accuracy_table(verification),
        "bounds": tables.bounds_table(verification),
        "excursions": tables.excursion_table(verification),
        "ranges": tables.range_table(artifact.certificate),
        "passes": tables.pass_table(artifact.certificate),
        "approximations": tables.approximation_table(artifact.certificate),
        "trained": [layer_table(simulation.trained), neuron_table(simulation.trained)],
        "activity": costs.activity_table(cost),
        "parts": part_table(artifact.mapped, cost.crossings, cost.samples),
        "crossings": crossing_table(cost),
        "energies": [costs.energy_table(e) for e in cost.energy],
        "layers": costs.layer_energy_table(cost),
        "latency": costs.latency_table(cost),
        "constants": costs.constant_table(cost),
    }


def _reproducibility(artifact: Artifact) -> tables.Table:
    manifest = artifact.manifest
    return tables.Table(
        "Files of the artifact",
        tables.columns("file", "SHA-256"),
        tuple(manifest.files.items()),
        notes=(f"written by snncc {manifest.snncc} from {manifest.model or 'an unnamed model'}",),
    )
