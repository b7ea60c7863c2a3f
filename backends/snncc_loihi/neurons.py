"""loihi-neurons: integer neurons in the units and with the comparison of Loihi's neuron."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from snncc.analysis.ranges import rest_drive
from snncc.errors import Problem, problem, raise_all
from snncc.ir import Cell, Const, Family, Graph, IntegerNeuron, Node, Reset
from snncc.ir.cell import one
from snncc.ir.const import number_array
from snncc.ir.node import INTEGER_ONLY, describe
from snncc.ir.trains import largest_train
from snncc.passes.base import Semantics

# Stored weights are even (twice the integer graph's), the form in which Lava, brian2_loihi and the
# chips agree on matrices of mixed sign; everything behind them is doubled.
DOUBLED = 2
# Loihi's stock neuron adds what the accumulator holds 6 bits higher.
FRACTION = 64
BIAS_LOW, BIAS_HIGH = -4096, 4095  # a 13-bit signed mantissa; its exponent 7 makes the unit one weight
_POTENTIALS = ("threshold", "bias", "reset_by", "reset_to", "v_min", "v_init")
STRICT = -1  # the pre-charge that makes ≥ a >


@dataclass(frozen=True)
class LoihiNeurons:
    """Scales every neuron by what a unit of input adds to its membrane.

    The chip's own neuron ("stock": leak, current, reset to zero) compares strictly, u > 64·vth.
    Without a leak its membrane is always a multiple of 128, so that u ≥ θ is u > θ - 64, exactly
    (and u > θ stays what it is); with one the threshold stays and only u = θ itself is decided
    otherwise, and the six fraction bits make the leak finer than in the integer graph before:
    approximate, hence measured. Its leak cannot forget everything (12 bits): a neuron without
    memory keeps v/4096. Up to θ = 2,048 and for sums above -2,048 that is less than half a unit, so
    that u ≥ θ is u > θ - 64 there too: ANDs, ORs and IANDs of spikes are exact.
    Neurons that are programs, or the host's, keep ≥ and are doubled only; where the chip has
    programs, a neuron whose numbers leave the stock neuron's fields becomes one.

    Attributes:
        custom: whether the chip runs programs as neurons (Loihi 2).
        threshold_max: largest threshold in the membrane's units.
        native: whether neurons update step by step where no source sends more than one spike.
    """

    name: ClassVar[str] = "loihi-neurons"
    custom: bool
    threshold_max: int
    native: bool = True

    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("bound-counts",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class.

        Raises:
            CapacityError: SNNC-C009 for numbers outside their fields.
        """
        neurons = [n for n in graph.nodes if isinstance(n, IntegerNeuron)]
        single = self.native and largest_train(graph) == 1
        biases = {n.name: _bias_range(graph, n) for n in neurons}
        own = [n for n in neurons if single and _is_stock(n.cell)]
        stock = {n.name for n in own if _fits(*biases[n.name])}
        once = graph.steps == 1
        changed = {n.name: replace(n, cell=_in_units(n.cell, n.name in stock, once)) for n in neurons}
        if self.custom or len(own) == len(neurons):  # else they are refused whatever their numbers
            biased = () if self.custom else (p for n in neurons for p in _bias_problems(n, *biases[n.name]))
            raise_all((*biased, *(p for n in changed.values() for p in self._too_high(n))))
        return _rescaled(graph.rewrite(lambda n: changed.get(n.name)), graph)

    def _too_high(self, node: IntegerNeuron) -> Iterator[Problem]:
        unit, threshold = one(node.cell.gain), node.cell.theta
        if not node.is_readout and threshold > self.threshold_max:
            # In units of weights, as it was before it became half a unit less.
            got = -(-threshold // unit)
            limit = (self.threshold_max + got * unit - threshold) // unit
            yield problem("SNNC-C009", describe(node), "threshold leaves its field", got=got, limit=limit)


def is_stock(cell: Cell) -> bool:
    """Whether a neuron, in Loihi's units, is the chip's own, with its six fraction bits."""
    return cell.gain == FRACTION * DOUBLED


def _bias_range(graph: Graph, node: IntegerNeuron) -> tuple[int, int]:
    """Least and largest bias of a layer's neurons, with those of its weights."""
    bias = rest_drive(graph, node) + number_array(node.cell.bias, len(graph.types[node.name].shape) + 1)
    return int(bias.min()), int(bias.max())


def _fits(low: int, high: int) -> bool:
    return low >= BIAS_LOW and high <= BIAS_HIGH


def _bias_problems(node: IntegerNeuron, low: int, high: int) -> Iterator[Problem]:
    if not _fits(low, high):
        what, limit = "bias leaves its 13-bit mantissa", f"{BIAS_LOW}..{BIAS_HIGH}"
        hint = "smaller biases against the weights, or --target loihi2"
        yield problem("SNNC-C009", describe(node), what, got=f"{low}..{high}", limit=limit, hint=hint)


def _is_stock(cell: Cell) -> bool:
    zero = cell.reset is Reset.VALUE and cell.reset_to == 0
    # A current that never fades would need du = -1 in the chip's 12 bits.
    plain = cell.v_min is None and not cell.starts_charged and cell.current_fades and not cell.signed
    # A gain of its own is that of products, which the chip has not; the host computes such a neuron.
    plain = plain and cell.gain == 1
    return cell.max_spikes <= 1 and plain and (zero or cell.is_stateless or cell.is_readout)


def _in_units(cell: Cell, stock: bool, once: bool) -> Cell:
    unit, forgets = DOUBLED * FRACTION if stock else DOUBLED, cell.decay == 0
    if stock:
        cell = _at_zero(cell)
        if forgets:
            cell = replace(cell, decay=1, decay_bits=12)
    scaled = {f: _times(getattr(cell, f), unit) for f in _POTENTIALS if getattr(cell, f) is not None}
    scaled["precharge"] = _scaled_precharge(cell, unit)
    cell = replace(cell, gain=one(cell.gain) * unit, **scaled)
    if not stock or cell.is_readout:
        return cell
    # What a membrane below the threshold leaves behind of itself is less than half a unit of the sums.
    fades = forgets and cell.theta <= FRACTION << 12
    steady = once or ((cell.integrates or fades) and cell.synapse_decay == 0)
    lower = FRACTION if steady and cell.precharge != STRICT else 0
    return replace(cell, precharge=STRICT, threshold=cell.theta - lower)


def _scaled_precharge(cell: Cell, unit: int) -> int:
    """Half a threshold stays half a threshold, and ``>`` stays ``>``."""
    if cell.precharge == STRICT:
        return STRICT
    return cell.theta * unit // 2 if cell.rounds_half_up else one(cell.precharge) * unit


def _at_zero(cell: Cell) -> Cell:
    """The same counts with the chip's reset and flooring: half up at one spike is floor at θ/2."""
    precharge = one(cell.precharge)
    if precharge != STRICT:
        cell = replace(cell, threshold=cell.theta - precharge, precharge=0)
    return cell if cell.is_readout else replace(cell, reset=Reset.VALUE, reset_by=None, reset_to=0)


def _times(value: Any, factor: int) -> Any:
    if isinstance(value, Const):
        return Const((value.array.astype(np.int64) * factor).astype(np.int32))
    return value * factor


def _rescaled(graph: Graph, before: Graph) -> Graph:
    """The output's unit, where it is a membrane."""
    last: Node = graph.by_name[graph.output.inputs[0]]
    while not isinstance(last, IntegerNeuron):
        last = graph.by_name[last.inputs[0]]
    if not last.is_readout:
        return graph
    old = before.by_name[last.name]
    assert isinstance(old, IntegerNeuron)
    unit = one(last.cell.gain) // one(old.cell.gain)
    output = replace(graph.output, scale=graph.output.scale / unit)
    return graph.rewrite(lambda n: output if n.name == output.name else None)
