"""Integer neurons behind products: the drive is a whole number already, only thresholds are scaled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from snncc.analysis.ranges import extremes, held
from snncc.arrays import Array
from snncc.errors import Problem, problem
from snncc.ir import Graph, IntegerNeuron, Neuron, Rounding, Sum
from snncc.ir.neurons import POTENTIALS
from snncc.passes.base import describe
from snncc.passes.quantizable import different_values
from snncc.passes.rounding import integer_neuron, theta_of

# Gains tried for a threshold that is no whole number of products; then powers of two, as a membrane with
# a leak needs them, whose truncation is then at most so small a part of a unit.
_TRIED = 64
_FRACTION_BITS = 8

# A threshold so near to a whole number is meant to be one: it came through float32.
_NEAR = Fraction(1, 1_000_000)


def not_behind_products(graph: Graph) -> Iterator[Problem]:
    """One problem for every sum over axes without products, and for every drive that adds weights to them."""
    summed = {n.name for layer in graph.layers.values() if layer.products for n in layer.path}
    for node in graph.nodes:
        if isinstance(node, Sum) and node.name not in summed:
            yield problem("SNNC-M012", describe(node), "no pass lowers sum to spikes yet")
    for layer in graph.layers.values():
        if layer.products and layer.weighted:
            what = "adds sums of weights to products of spikes, which have no common scale"
            yield problem("SNNC-M023", describe(layer.neuron), what, hint="a neuron behind the product")


def product_neuron(
    graph: Graph, neuron: Neuron, values: Mapping[str, Array], state_bits: int, margin: float
) -> tuple[IntegerNeuron, float]:
    """The neuron behind products of a float graph in integers, and the scale of its potentials.

    Without memory its counts are those of the real threshold for every possible sum, ties up: the
    least gain and the pre-charge that make them so are searched (docs/semantics.md#products). With
    memory, or a bias per channel, the gain is a power of two, as fine as the membrane's word allows.

    Args:
        graph: behind fold-scale, so that products are whole numbers.
        neuron: of it.
        values: calibration values [N, *shape] of what the products read.
        state_bits: width of the membrane.
        margin: how much wider than on the calibration inputs the sums may become.
    """
    room = _room(graph, neuron, values, state_bits, margin)
    fit = _exact(neuron, room) if neuron.is_stateless and _is_plain(neuron) else None
    gain = fit.gain if fit else _fine(neuron, room)
    made = integer_neuron(neuron, gain)
    cell = replace(made.cell, gain=gain)
    if fit:
        cell = replace(cell, threshold=fit.threshold, precharge=fit.precharge, bias=fit.bias)
    return replace(made, cell=cell), float(gain)


def _room(graph: Graph, neuron: Neuron, values: Mapping[str, Array], state_bits: int, margin: float) -> int:
    """The largest gain with which a membrane's word holds what the calibration inputs bring."""
    low, high = extremes(graph, neuron, values).merged()
    theta = 1.0 if neuron.is_readout else theta_of(neuron)
    span = max((float(high) - float(low)) * margin * held(neuron, graph.steps), theta, 1.0)
    return max(1, int(2 ** (state_bits - 1) / (2 * span)))


def _is_plain(neuron: Neuron) -> bool:
    """Whether it fires, by one bias for all its channels."""
    return not neuron.is_readout and len(different_values(neuron.bias)) == 1


@dataclass(frozen=True)
class _Fit:
    """Numbers of a neuron without memory whose counts are exactly the real one's."""

    gain: int
    threshold: int
    precharge: int
    bias: int


def _exact(neuron: Neuron, room: int) -> _Fit | None:
    """The fit of the least gain; None where none was found."""
    theta, bias = _fraction(theta_of(neuron)), _fraction(max(different_values(neuron.bias)))
    first = [_first_sum(neuron, theta, bias, k) for k in range(1, neuron.max_spikes + 1)]
    for gain in range(1, min(_TRIED, room) + 1):
        threshold, offset = round(gain * theta), round(gain * bias)
        if threshold < 1:
            continue
        # Count k starts with the sum s_k: gain·s_k + offset + p ≥ k·θ > gain·(s_k - 1) + offset + p.
        least = max(k * threshold - gain * s - offset for k, s in enumerate(first, 1))
        most = min(k * threshold - gain * (s - 1) - offset - 1 for k, s in enumerate(first, 1))
        if least <= most:
            usual = threshold // 2 if neuron.rounding is not Rounding.FLOOR else -int(neuron.strict)
            return _Fit(gain, threshold, min(max(usual, least), most), offset)
    return None


def _first_sum(neuron: Neuron, theta: Fraction, bias: Fraction, k: int) -> int:
    """The least whole number that the neuron, ties up, counts ``k`` times at least."""
    if neuron.rounding is Rounding.FLOOR:
        reached = k * theta - bias
        return floor(reached) + 1 if neuron.strict else ceil(reached)
    return ceil((k - Fraction(1, 2)) * theta - bias)


def _fraction(value: float) -> Fraction:
    """A float as it is, or the whole or half number that it all but is."""
    exact = Fraction(value)
    near = Fraction(round(exact * 2), 2)
    return near if abs(exact - near) <= _NEAR * max(abs(exact), Fraction(1)) else exact


def _fine(neuron: Neuron, room: int) -> int:
    """A power of two that makes every potential a whole number, or leaves a small part of a unit."""
    gain = 1
    while 2 * gain <= room and gain < 2**_FRACTION_BITS and not _is_whole(neuron, gain):
        gain *= 2
    return gain


def _is_whole(neuron: Neuron, gain: int) -> bool:
    if len(different_values(neuron.decay) - {0.0, 1.0}) or neuron.synapse_decay is not None:
        return False
    numbers = [x for name in POTENTIALS for x in different_values(getattr(neuron, name))]
    return all((gain * _fraction(x)).denominator == 1 for x in numbers)
