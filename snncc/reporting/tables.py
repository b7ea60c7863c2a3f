"""Tables that the terminal and the HTML page share: built once from typed results, drawn by each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snncc.analysis.certificate import Approximation, Certificate, LayerRange
from snncc.equivalence.result import LayerMatch, Verification
from snncc.reporting.numbers import count, percent, ratio


@dataclass(frozen=True)
class Column:
    """A column; numbers stand to the right."""

    name: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """Text in rows.

    Attributes:
        title: what the table shows.
        columns: heads.
        rows: cells, one a column.
        total: last row, set apart; empty for none.
        marked: numbers of the rows that call for attention.
        notes: lines under the table.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    marked: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def columns(*names: str) -> tuple[Column, ...]:
    """Columns by name; a leading ``#`` marks one of numbers."""
    return tuple(Column(n.removeprefix("#"), n.startswith("#")) for n in names)


def _layer_row(layer: LayerMatch, other: LayerMatch | None) -> tuple[str, ...]:
    row = (
        layer.name,
        layer.layer,
        layer.quantity,
        count(layer.neurons),
        count(layer.compared),
        count(layer.mismatches),
    )
    share = (ratio(layer.mismatches, layer.compared),)
    return (
        row
        + share
        + (() if other is None else (count(other.mismatches), ratio(other.mismatches, other.compared)))
    )


def match_table(result: Verification) -> Table:
    """Integers against spikes, layer by layer; for a free schedule also in the other order."""
    others = result.shuffled.layers if result.shuffled else (None,) * len(result.layers)
    extra = (f"#shuffled (seed {result.shuffled.seed})", "#share ") if result.shuffled else ()
    compared = sum(layer.compared for layer in result.layers)
    wrong = sum(layer.mismatches for layer in result.layers)
    neurons = sum(layer.neurons for layer in result.layers)
    total = ["total", "", "", count(neurons), count(compared), count(wrong), ratio(wrong, compared)]
    if result.shuffled:
        shuffled = sum(layer.mismatches for layer in result.shuffled.layers)
        total += [count(shuffled), ratio(shuffled, compared)]
    return Table(
        "Integers against spikes",
        columns("layer", "module", "quantity", "#neurons", "#compared", "#mismatches", "#share", *extra),
        tuple(_layer_row(layer, other) for layer, other in zip(result.layers, others, strict=True)),
        total=tuple(total),
        marked=frozenset(i for i, layer in enumerate(result.layers) if layer.mismatches),
    )


def accuracy_table(result: Verification) -> Table:
    """Accuracy of the three forms of the network; empty without labels."""
    values = [
        ("float graph, as trained", result.accuracy.float),
        ("integers, as legalised for the chip", result.accuracy.integer),
        ("spikes, as exported", result.accuracy.spikes),
    ]
    if result.shuffled is not None:
        values.append(
            (f"spikes, input events shuffled (seed {result.shuffled.seed})", result.shuffled.accuracy)
        )
    rows = tuple((name, percent(value)) for name, value in values if value is not None)
    return Table("Accuracy", columns("form", "#accuracy"), rows)


def bounds_table(result: Verification) -> Table:
    """Bounds on free counts over every order of events; empty for an exact schedule."""
    rows = tuple(
        (
            b.name,
            count(b.values),
            f"{b.mean_low:.2f} … {b.mean_high:.2f}",
            ratio(b.decided, b.values),
            count(b.outside),
        )
        for b in result.bounds
    )
    heads = columns("layer", "#counts", "#mean bounds", "#fixed by them", "#measured outside")
    return Table("Bounds on free counts, for every order of events", heads, rows)


def excursion_table(result: Verification) -> Table:
    """Samples that left a layer's range."""
    rows = tuple(
        (x.layer, count(x.samples), str(x.first_sample), count(x.saturations), count(x.early))
        for x in result.excursions
    )
    heads = columns("layer", "#samples", "#first sample", "#clamped updates", "#early spikes")
    return Table("Samples outside the calibrated range", heads, rows, marked=frozenset(range(len(rows))))


def _interval(bounds: tuple[int, int]) -> str:
    return f"{count(bounds[0])} … {count(bounds[1])}"


def _range_row(layer: LayerRange) -> tuple[str, ...]:
    return (
        layer.layer,
        layer.quantity,
        "proven" if layer.proven else "conditional",
        str(layer.bits),
        _interval((layer.word_low, layer.word_high)),
        _interval(layer.all_inputs),
        _interval(layer.observed),
        "–" if layer.proven else _interval(layer.allowed),
        count(layer.ties),
    )


def range_table(certificate: Certificate) -> Table:
    """What every accumulator may reach, against the chip's word."""
    heads = columns(
        "layer",
        "quantity",
        "range",
        "#bits",
        "#word holds",
        "#all inputs",
        "#calibration inputs",
        "#admitted",
        "#ties",
    )
    notes = (
        "proven: no input that the types allow leaves the word.",
        "conditional: holds for sums in the admitted range; each sample that is run is checked for it.",
        "ties: calibration values half-way between two counts; they go up, where rounding to even would "
        "send them down.",
    )
    return Table("Certificate", heads, tuple(map(_range_row, certificate.ranges)), notes=notes)


def pass_table(certificate: Certificate) -> Table:
    """The steps from the trained graph to spikes."""
    rows = tuple((p.spec, "no" if p.preserves == "exact" else "yes", p.note) for p in certificate.passes)
    marked = frozenset(i for i, p in enumerate(certificate.passes) if p.preserves == "approximate")
    return Table(
        "Compilation steps", columns("step", "changes values", "measured effect"), rows, marked=marked
    )


def approximation_table(certificate: Certificate) -> Table:
    """Steps that change values, and by how much on the calibration inputs."""
    rows = tuple(row for step in certificate.approximations for row in _approximation_rows(step))
    heads = columns("step", "layer", "#values changed", "#of", "#share")
    return Table(
        "Approximations, measured on the calibration inputs",
        heads,
        rows,
        notes=tuple(_effects(certificate.approximations)),
    )


def _approximation_rows(step: Approximation) -> Iterable[tuple[str, ...]]:
    for layer, (changed, of) in step.layers.items():
        yield step.step, layer, count(changed), count(of), ratio(changed, of)


def _effects(steps: Iterable[Approximation]) -> Iterable[str]:
    for step in steps:
        text = f"{step.step}: {count(step.samples)} calibration inputs"
        if step.decisions_changed >= 0:
            text += f", {count(step.decisions_changed)} decisions changed"
        if step.accuracy_before is not None and step.accuracy_after is not None:
            text += (
                f", accuracy {percent(step.accuracy_before)} before and {percent(step.accuracy_after)} after"
            )
        yield text
