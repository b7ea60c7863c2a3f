"""A trained network's energy as JSON, CSV and LaTeX: energies of one sample, in mJ; counts of all."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from snncc.metrics.audit import Audited
from snncc.metrics.conventions import times
from snncc.metrics.energy import TrainedEnergy, Twin
from snncc.metrics.figures import Figures, LayerFigures, NeuronFigures
from snncc.metrics.models.model import Work
from snncc.simulation import Energy

MILLI = 1e-6  # nJ in mJ

CSV_COLUMNS = (
    "name", "module", "kind", "part", "operand", "levels", "largest", "multiplicity", "rate", "timesteps",
    "events", "nonzero_events", "unit_events", "acs", "acs_paper", "macs", "macs_valid", "dense",
    "dense_valid", "parameters",
)  # fmt: skip
SUMMED = CSV_COLUMNS[CSV_COLUMNS.index("events") : -1]
BESIDE = ("additions", "masks", "pooling", "norms")


def document(found: TrainedEnergy) -> dict[str, Any]:
    """Plain JSON values."""
    figures = found.figures
    return {
        "network": figures.network,
        "samples": figures.samples,
        "of": found.of,
        "subset": found.of is not None,
        "timesteps": figures.steps,
        "static_input": figures.static,
        "conventions": asdict(found.conventions),
        "layers": layer_rows(found),
        "neurons": [_neurons(n) for n in figures.neurons],
        "total": _total(found),
        "energy": {e.model: _energy(e) for e in found.energies},
        "alternatives": [
            {"conventions": asdict(chosen), "model": e.model, "total_mj": e.total_nj.value * MILLI}
            for chosen, e in found.alternatives
        ],
        "baselines": [_twin(t) for t in found.twins],
    }


def layer_rows(found: TrainedEnergy) -> list[dict[str, Any]]:
    """One row a layer: counts over all samples."""
    return [_layer(found, layer, done) for layer, done in zip(found.figures.layers, found.works, strict=True)]


def _layer(found: TrainedEnergy, layer: LayerFigures, done: Work) -> dict[str, Any]:
    figures = found.figures
    return {
        "name": layer.name,
        "module": layer.source,
        "kind": layer.kind,
        "part": layer.part.value,
        "operand": layer.operand.value,
        "levels": layer.levels,
        "largest": layer.largest,
        "multiplicity": layer.multiplicity,
        "rate": layer.rate,
        "rates_by_timestep": list(layer.rates),
        "timesteps": times(figures, layer, found.conventions),
        "events": layer.events,
        "nonzero_events": layer.nonzero,
        "unit_events": layer.unit_events,
        "acs": round(done.acs * figures.samples),
        "acs_paper": done.acs_paper * figures.samples,
        "macs": round(done.macs * figures.samples),
        "macs_valid": round(done.macs_valid * figures.samples),
        "dense": layer.dense * figures.steps * figures.samples,
        "dense_valid": layer.valid * figures.steps * figures.samples,
        "parameters": layer.parameters,
    }


def _neurons(layer: NeuronFigures) -> dict[str, Any]:
    return {
        "name": layer.name,
        "module": layer.source,
        "neurons": layer.neurons,
        "levels": layer.levels,
        "rate": layer.rate,
        "rates_by_timestep": list(layer.rates),
        "spikes": sum(layer.spikes),
    }


def _total(found: TrainedEnergy) -> dict[str, Any]:
    figures, rows = found.figures, layer_rows(found)
    return {
        "over_layers": [row["name"] for row in rows],
        **{key: sum(row[key] for row in rows) for key in SUMMED},
        "firing_rate": figures.firing_rate,
        "nsfr": list(figures.nsfr),
        "nsfr_virtual": list(figures.virtual_nsfr),
        "parameters": figures.parameters,
        "neurons": sum(n.neurons for n in figures.neurons),
        "neuron_updates": figures.updates * figures.samples,
        **{key: getattr(figures, key) * figures.samples for key in BESIDE},
        "padding_share": found.padding,
    }


def _energy(energy: Energy) -> dict[str, Any]:
    whole = energy.total_nj
    return {
        "total_mj": whole.value * MILLI,
        "low_mj": whole.low * MILLI,
        "high_mj": whole.high * MILLI,
        "components": {
            c.name: {f"{end}_mj": getattr(c.energy_nj, end) * MILLI for end in ("value", "low", "high")}
            for c in energy.components
        },
        "about": energy.about,
        "missing": list(energy.missing),
        "constants": [asdict(c) for c in energy.constants],
    }


def _twin(twin: Twin) -> dict[str, Any]:
    return {
        "kind": twin.kind.value,
        "macs": twin.macs,
        "activation_bits": twin.activation_bits,
        "paper45_mj": None if twin.energy is None else twin.energy.total_nj.value * MILLI,
    }


def audited_row(found: Audited) -> dict[str, Any]:
    """One row of ``--audit``: G operations, mJ."""
    row = found.row
    return {
        "row": row.name,
        "ops_g": float(row.ops),
        "energy_mj": float(row.energy),
        "stem_g": None if row.stem is None else float(row.stem),
        "timesteps": row.timesteps,
        "macs_low_g": found.low,
        "macs_high_g": found.high,
        "verdict": found.verdict.name.lower(),
    }


def csv_text(found: TrainedEnergy) -> str:
    """One row a layer, after a row of heads."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(layer_rows(found))
    return out.getvalue()


def latex_text(found: TrainedEnergy) -> str:
    """A row of a table for every model, and for every twin whose energy the papers' rule gives."""
    figures = found.figures
    whole = _per_sample(figures, found.total)
    head = "% network & parameters (M) & T & firing rate & ACs (G) & MACs (G) & energy (mJ), model"
    rows = [
        " & ".join((*whole, f"{e.total_nj.value * MILLI:.4g}, {e.model}")) + r" \\" for e in found.energies
    ]
    for twin in found.twins:
        if twin.energy is not None:
            done = Work(macs=twin.macs)
            cells = _cells(f"{figures.network} ({twin.kind.value})", figures.parameters, 1, None, done)
            rows.append(" & ".join((*cells, f"{twin.energy.total_nj.value * MILLI:.4g}, paper45")) + r" \\")
    part = "" if found.of is None else f" of {found.of}, a part of the set"
    return "\n".join((head, f"% means over {figures.samples} images{part}; {found.conventions}", *rows, ""))


def _per_sample(figures: Figures, done: Work) -> tuple[str, ...]:
    return _cells(figures.network, figures.parameters, figures.steps, figures.firing_rate, done)


def _cells(name: str, parameters: int, steps: int, rate: float | None, done: Work) -> tuple[str, ...]:
    plain = name.replace("\\", r"\textbackslash{}")
    for character in "_&%#$":
        plain = plain.replace(character, f"\\{character}")
    numbers = (f"{parameters / 1e6:.2f}", str(steps), "--" if rate is None else f"{rate:.4f}")
    return (plain, *numbers, f"{done.acs / 1e9:.4g}", f"{done.macs / 1e9:.4g}")
