"""Tables of a trained network's rates, operations and energy."""

from __future__ import annotations

from collections.abc import Iterator

from snncc.metrics.audit import Audited, Verdict
from snncc.metrics.conventions import times
from snncc.metrics.energy import TrainedEnergy
from snncc.metrics.figures import LayerFigures, NeuronFigures
from snncc.metrics.models.model import Work
from snncc.reporting.cost import energy_constant_table, energy_table, joules
from snncc.reporting.numbers import count, percent, plural, si
from snncc.reporting.tables import Table, columns

_FEW = 6  # timesteps whose rates stand in one cell; of more the first and the last


def energy_tables(found: TrainedEnergy) -> tuple[Table, ...]:
    """Everything ``snncc energy`` prints, in order."""
    return (
        layer_table(found),
        neuron_table(found),
        work_table(found),
        *(energy_table(e) for e in found.energies),
        convention_table(found),
        *([twin_table(found)] if found.twins else []),
        energy_constant_table(found.energies),
    )


def layer_table(found: TrainedEnergy) -> Table:
    """What multiplies, layer by layer, means a sample."""
    rows = tuple(_row(found, *pair) for pair in zip(found.figures.layers, found.works, strict=True))
    done, layers = found.total, found.figures.layers
    samples = found.figures.samples
    return Table(
        f"Operations of the trained network, means over {plural(samples, 'image')}",
        columns(
            "layer", "kind", "reads", "#rate", "#× T", "#largest", "#events", "#unit events", "#ACs",
            "#ACs, papers", "#MACs", "#MACs, valid", "#parameters",
        ),
        rows,
        total=(
            "total", "", "", "", "", "",
            _each(sum(n.events for n in layers), samples), _each(sum(n.unit_events for n in layers), samples),
            _rounded(done.acs), _rounded(done.acs_paper), _rounded(done.macs), _rounded(done.macs_valid),
            count(found.figures.parameters),
        ),
        notes=(
            "rate: mean level of what the layer reads. events: non-zero spikes × synapses reached, without "
            "padding taps; unit events: their levels × synapses.",
            "ACs: accumulates, by the declared type of what is read. ACs, papers: rate × T × dense "
            "operations, with padding taps. MACs: on real values; valid: without padding taps.",
            f"conventions: {found.conventions}.",
        ),
    )  # fmt: skip


def _row(found: TrainedEnergy, layer: LayerFigures, done: Work) -> tuple[str, ...]:
    samples = found.figures.samples
    return (
        layer.name,
        layer.kind,
        str(layer.operand),
        "–" if not layer.levels else f"{layer.rate:.4f}",
        count(times(found.figures, layer, found.conventions)),
        count(layer.largest) if layer.levels else "–",
        _each(layer.events, samples),
        _each(layer.unit_events, samples),
        *map(_rounded, (done.acs, done.acs_paper, done.macs, done.macs_valid)),
        count(layer.parameters),
    )


def _each(total: int, samples: int) -> str:
    return _rounded(total / max(samples, 1))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value else "–"


def neuron_table(found: TrainedEnergy) -> Table:
    """What fires, layer by layer."""
    figures = found.figures
    rows = tuple((*_neuron_row(n), _by_step(n.rates)) for n in figures.neurons)
    neurons = sum(n.neurons for n in figures.neurons)
    return Table(
        "Firing rates of the trained network, unit spikes a neuron and timestep",
        columns("neurons", "#number", "#largest count", "#rate", "by timestep"),
        rows,
        total=("total", count(neurons), "", _rate(figures.firing_rate), _by_step(figures.nsfr)),
        notes=("total by timestep: NSFR(t), spikes of all layers over all neurons.", *_virtual(found)),
    )


def _virtual(found: TrainedEnergy) -> Iterator[str]:
    virtual = found.figures.virtual_nsfr
    if len(virtual) > found.figures.steps:
        most = len(virtual) // found.figures.steps
        yield (
            f"over T × D = {found.figures.steps} × {most} virtual timesteps, a count n firing in the "
            f"first n: {_by_step(virtual)}"
        )


def _neuron_row(layer: NeuronFigures) -> tuple[str, ...]:
    return layer.name, count(layer.neurons), count(layer.levels), _rate(layer.rate)


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.4f}"


def _by_step(rates: tuple[float, ...]) -> str:
    texts = [f"{r:.4f}" for r in rates]
    return " ".join(texts if len(texts) <= _FEW else (*texts[: _FEW - 1], "…", texts[-1]))


def work_table(found: TrainedEnergy) -> Table:
    """What no layer's operations hold, a sample."""
    figures = found.figures
    rows = (
        ("neuron updates", count(figures.updates)),
        ("residual additions", count(figures.additions)),
        ("masks, spike by spike", count(figures.masks)),
        ("pooling: additions and comparisons", count(figures.pooling)),
        ("norms, 0 once folded into weights", count(figures.norms)),
    )
    return Table("Beside the layers' operations, a sample", columns("what", "#number"), rows)


def convention_table(found: TrainedEnergy) -> Table:
    """The papers' rule as it was asked for, and where another choice gives another figure."""
    choices = ((found.conventions, found.papers), *found.alternatives)
    rows = tuple((str(chosen), joules(e.total_nj)) for chosen, e in choices)
    return Table("paper45 by convention", columns("conventions", "#energy a sample"), rows)


def twin_table(found: TrainedEnergy) -> Table:
    """The same shapes without spikes."""
    rows = tuple(
        (
            str(t.kind), count(t.macs), count(t.activation_bits),
            "no published constant for that width" if t.energy is None else joules(t.energy.total_nj),
        )
        for t in found.twins
    )  # fmt: skip
    return Table(
        "Twin networks, one pass a sample",
        columns("twin", "#MACs", "#bits of an activation", "#energy, paper45"),
        rows,
    )


def audit_table(rows: tuple[Audited, ...]) -> Table:
    """Published pairs of operations and energy, and what they leave for the stem."""
    wrong = (Verdict.IMPOSSIBLE, Verdict.NEITHER)
    return Table(
        "Published rows under E = 4.6 pJ · F1 + 0.9 pJ · OPs",
        columns("row", "#OPs (G)", "#energy (mJ)", "#F1 needed (G)", "#stem (G)", "#T", "verdict"),
        tuple(_audit_row(r) for r in rows),
        marked=frozenset(i for i, r in enumerate(rows) if r.verdict in wrong),
        notes=(
            "F1: multiply-accumulates in front of the first spikes that the row's energy leaves room for.",
        ),
    )


def _audit_row(found: Audited) -> tuple[str, ...]:
    row = found.row
    stem = "–" if row.stem is None else str(row.stem)
    steps = "–" if row.timesteps is None else count(row.timesteps)
    needed = f"{found.low:.4f} … {found.high:.4f}"
    return row.name, str(row.ops), str(row.energy), needed, stem, steps, str(found.verdict)


def headline(found: TrainedEnergy, allow_subset: bool) -> Iterator[str]:
    """The figures that a table of a paper takes; none of a part of a set, unless they are asked for."""
    figures = found.figures
    if found.of is not None and not allow_subset:
        yield (
            f"{plural(figures.samples, 'image')} of {count(found.of)}: a part of the set gives no headline; "
            "--allow-subset prints it"
        )
        return
    part = "" if found.of is None else f" of {count(found.of)} (a part of the set)"
    done = found.total
    yield f"{figures.network}, means over {plural(figures.samples, 'image')}{part}, {found.conventions}:"
    for e in found.energies:
        yield f"  {'energy, ' + e.model:24} {joules(e.total_nj)}"
    papers = f"by the papers' rule {si(done.acs_paper, '').strip()}{_padding(found)}"
    yield f"  {'ACs':24} {si(done.acs, '').strip()}, {papers}"
    yield f"  {'MACs':24} {si(done.macs, '').strip()}"
    yield f"  {'firing rate':24} {percent(figures.firing_rate)}"


def _padding(found: TrainedEnergy) -> str:
    share = found.padding
    return "" if share is None else f" ({100 * share:+.1f} %: padding taps and rates taken for uniform)"
