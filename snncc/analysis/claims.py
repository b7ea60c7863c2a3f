"""Ranges and ties of a legalised integer graph, for its certificate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from snncc.analysis.certificate import LayerRange
from snncc.analysis.ranges import drive, extremes, held, start_range, type_extremes
from snncc.analysis.ties import changed_by_ties
from snncc.arrays import Array
from snncc.errors import Problem, problem
from snncc.ir.batches import in_chunks
from snncc.ir.const import number_array
from snncc.ir.graph import Graph
from snncc.ir.neurons import IntegerNeuron
from snncc.ir.node import describe


@dataclass(frozen=True)
class LayerSums:
    """Extreme input sums of one neuron layer, over every order of its events.

    Attributes:
        start_low, start_high: membrane without any event, over the layer's neurons and timesteps.
        observed: least and largest prefix of input sums on the calibration inputs (low ≤ 0 ≤ high).
        all_inputs: the same over every input that the types allow.
        ties: calibration values exactly between two counts that its rounding sends elsewhere than to even.
        ties_other: those that the other rounding of ties would send elsewhere.
    """

    neuron: IntegerNeuron
    start_low: int
    start_high: int
    observed: tuple[int, int]
    all_inputs: tuple[int, int]
    ties: int
    ties_other: int


def layer_sums(graph: Graph, calibration: Array) -> Iterator[LayerSums]:
    """:class:`LayerSums` of every neuron of an integer graph, on calibration inputs [N, T, *shape]."""
    keep = tuple(dict.fromkeys(name for layer in graph.layers.values() for name in layer.sources))
    kept = in_chunks(graph, calibration, keep).values
    values = {name: v.reshape(-1, *v.shape[2:]) for name, v in kept.items()}
    for neuron in (n for n in graph.neurons if isinstance(n, IntegerNeuron)):
        seen, possible = extremes(graph, neuron, values), type_extremes(graph, neuron)
        steps = held(neuron, graph.steps)
        ties = _ties(graph, neuron, values)
        low, high = start_range(neuron.cell, seen.rest, steps)
        yield LayerSums(
            neuron=neuron,
            start_low=int(low.min()),
            start_high=int(high.max()),
            observed=(int(seen.low.min()) * steps, int(seen.high.max()) * steps),
            all_inputs=(int(possible.low.min()) * steps, int(possible.high.max()) * steps),
            ties=ties[0],
            ties_other=ties[1],
        )


def _ties(graph: Graph, neuron: IntegerNeuron, values: Mapping[str, Array]) -> tuple[int, int]:
    """Counts that the neuron's rounding of ties, and the other, change against rounding to even.

    For neurons without memory; with one, ties are not counted.
    """
    cell = neuron.cell
    if not cell.is_stateless or not (cell.rounds_half_up or cell.rounds_half_down):
        return 0, 0
    u = drive(graph, neuron, values, lambda node: node)
    up, down = changed_by_ties(cell, u + number_array(cell.bias, u.ndim))
    return (up, down) if cell.rounds_half_up else (down, up)


def layer_range(sums: LayerSums, bits: int, allowed: tuple[int, int]) -> LayerRange:
    """The certificate's entry: proven if every possible input stays within ``allowed``."""
    low, high = sums.all_inputs
    return LayerRange(
        layer=sums.neuron.name,
        bits=bits,
        word_low=-(2 ** (bits - 1)),
        word_high=2 ** (bits - 1) - 1,
        all_inputs=sums.all_inputs,
        observed=sums.observed,
        allowed=allowed,
        proven=allowed[0] <= low and high <= allowed[1],
        ties=sums.ties,
        ties_other=sums.ties_other,
    )


def word_range(sums: LayerSums, bits: int) -> LayerRange:
    """The range of a membrane that may take any value of its word of ``bits``."""
    word = 2 ** (bits - 1)
    return layer_range(sums, bits, (-word - sums.start_low, word - 1 - sums.start_high))


def left_ranges(ranges: Iterable[LayerRange]) -> Iterator[Problem]:
    """One problem, SNNC-C009, for every range that the calibration inputs leave already."""
    for r in ranges:
        if not r.allowed[0] <= r.observed[0] <= r.observed[1] <= r.allowed[1]:
            what = f"{r.quantity} leaves its {r.bits} bits on the calibration inputs"
            potentials = "initial, reset and lowest potentials nearer to the threshold"
            hint = potentials if r.quantity == "membrane" else "fewer inputs a neuron"
            yield problem("SNNC-C009", f"%{r.layer}", what, got=r.observed, limit=r.allowed, hint=hint)


def silent_notes(sums: Iterable[LayerSums]) -> Iterator[str]:
    """Layers of which the calibration inputs say nothing, for people."""
    for s in sums:
        if s.observed == (0, 0):
            why = "its weights are all zero" if s.all_inputs == (0, 0) else "no spike reaches it"
            where = describe(s.neuron)
            yield f"{where}: {why} on the calibration inputs, so that its scale and range are not measured"
