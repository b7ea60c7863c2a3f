"""quantize: integer weights with one integer threshold a layer, or one a channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem, raise_all
from snncc.ir import (
    Add,
    CentreGate,
    Concat,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    HostRegion,
    Input,
    IntegerNeuron,
    Linear,
    MatMul,
    MaxPool2d,
    Mul,
    Neuron,
    Node,
    Output,
    Permute,
    Reshape,
    SiteGate,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.cell import one
from snncc.ir.interp import run
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.synapses import Weighted
from snncc.passes.base import Semantics, describe, not_taken
from snncc.passes.host_currents import quantized_currents
from snncc.passes.product_cells import not_behind_products, product_neuron
from snncc.passes.quantizable import not_quantizable, synapse_first
from snncc.passes.rounding import Scale, integer, integer_neuron, integers, theta_of, threshold_of
from snncc.passes.scales import Group, Widths, groups, scale_of
from snncc.passes.ties import settle_ties


@dataclass(frozen=True)
class Quantize:
    """Float weights w become integers round(s·w), one scale s for everything a neuron layer adds up.

    s is the largest that keeps |round(s·w)| within ``bits`` and, on the calibration inputs, the
    layer's any-order prefix range (largest less smallest sum of inputs, whatever order they
    arrive in) times ``margin`` within the accumulator; then it is lowered until s·θ is a whole
    number, so that the threshold is exact. Biases keep full width. ``half_even`` becomes
    ``half_up``, or ``half_down`` where that changes fewer calibration counts: exact ties, which
    ``torch.round`` sends to the even count, go all one way in a layer.

    Products of spikes are whole numbers that no weight scales: behind them the threshold becomes a whole
    number of them, or they get a gain.

    Where the branches of a sum differ much in size, s may be larger: a branch whose weights then leave
    their word becomes round(s·w / 2^e)·2^e, with an exponent e of its own. What an analog stem adds to
    a sum becomes signed counts at its scale.

    With ``per_channel`` each output channel of a layer has a scale of its own, and with it a threshold;
    where several branches or neurons share sums, of a readout and of relays the channels stay with one.

    Attributes:
        calibration: inputs [N, T, *shape].
        bits: weight width, two's complement, symmetric range.
        state_bits: membrane width, in units of a weight.
        sum_bits: width of what adds up one timestep's inputs; None: the membrane's.
        margin: how much wider than on the calibration inputs the range may become.
        exponent: largest exponent of a branch.
        event_bits: of the number that an event carries, with its sign; None: as many as a membrane.
        per_channel: whether channels have scales of their own.
        told: layers that keep one scale nevertheless, and why, for people; filled by :meth:`run`.
    """

    name: ClassVar[str] = "quantize"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = Family.INTEGER
    after: ClassVar[tuple[str, ...]] = ("lower-readout", "fold-scale", "split-host")
    lowers: ClassVar[frozenset[type[Node]]] = frozenset(
        {
            Input, Linear, Conv2d, MatMul, Mul, Add, Concat, Sum, SumPool2d, MaxPool2d, Upsample, Reshape,
            Permute, SiteGate, CentreGate, Neuron, HostRegion, Output,
        }
    )  # fmt: skip

    calibration: Array = field(compare=False)
    bits: int = 8
    state_bits: int = 32
    sum_bits: int | None = None
    margin: float = 1.25
    exponent: int = 0
    event_bits: int | None = None
    per_channel: bool = False
    told: list[str] = field(default_factory=list, compare=False, repr=False)

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        raise_all((*not_taken(graph, (self,)), *not_quantizable(graph), *not_behind_products(graph)))
        graph = graph.rewrite(synapse_first)
        keep = tuple(dict.fromkeys(name for layer in graph.layers.values() for name in layer.sources))
        values = {
            k: v.reshape(-1, *v.shape[2:]) for k, v in run(graph, self.calibration, keep).values.items()
        }
        new: dict[str, tuple[Node, ...]] = {}
        scale_of_neuron: dict[str, Scale] = {}
        problems: list[Problem] = []
        units: dict[str, float] = {}
        for group in (g.in_units(units) for g in groups(graph)):
            if graph.layers[group.neurons[0].name].products:
                made, gain = self._behind_products(group, values)
                new[made.name], scale_of_neuron[made.name] = (made,), gain
                continue
            each = self.per_channel and not group.tie
            scale = scale_of(group, self._widths, values, self.margin, each)
            problems += _below_one(group, scale)
            if not problems:
                new |= self._integers(group, scale, values)
                scale_of_neuron |= {n.name: scale for n in group.neurons}
                units |= _units(group, scale, values)
        raise_all(problems)
        self.told[:] = _kept_together(graph) if self.per_channel else ()
        nodes = (_finish(graph, made, scale_of_neuron) for n in graph.nodes for made in new.get(n.name, (n,)))
        return settle_ties(graph, replace(graph, family=Family.INTEGER, nodes=tuple(nodes)), self.calibration)

    def _behind_products(self, group: Group, values: dict[str, Array]) -> tuple[IntegerNeuron, float]:
        """The one neuron of a group that products drive, and its scale."""
        (neuron,) = group.neurons
        return product_neuron(group.graph, neuron, values, self.state_bits, self.margin)

    @property
    def _widths(self) -> Widths:
        sums, event = self.sum_bits or self.state_bits, self.event_bits or self.state_bits
        return Widths(self.bits, self.state_bits, sums, self.exponent, event)

    def _integers(self, group: Group, scale: Scale, values: dict[str, Array]) -> dict[str, tuple[Node, ...]]:
        """What stands in the place of each node of a group."""
        new: dict[str, tuple[Node, ...]] = {w.name: (self._weights(group, w, scale),) for w in group.branches}
        new |= {n.name: (integer_neuron(n, scale),) for n in group.neurons}
        if not group.currents:
            return new
        assert isinstance(scale, float), "currents tie a group's channels"
        for region, weights in quantized_currents(group, scale, self._widths, values, self.margin):
            new[region.inputs[0]] = (group.graph.by_name[region.inputs[0]], region)
            new |= {w.name: (w,) for w in weights}
        return new

    def _weights(self, group: Group, node: Weighted, scale: Scale) -> Weighted:
        exponent = group.exponent(node, scale, self.bits)
        bias = None if node.bias is None else integer(node.bias, scale)
        assert bias is None or isinstance(bias, Const)
        return replace(node, weight=Const(integers(node.weight.array, scale, self.bits, exponent)), bias=bias)


def _units(group: Group, scale: Scale, values: dict[str, Array]) -> dict[str, float]:
    """What a count of each relay is worth, over what it was; ``values`` become its counts."""
    found = {}
    for n in (n for n in group.neurons if n.signed):
        found[n.name] = float(one(threshold_of(n, scale)) / scale / theta_of(n))
        if n.name in values:
            values[n.name] = values[n.name] / np.float32(found[n.name])
    return found


def _kept_together(graph: Graph) -> Iterator[str]:
    """A line for every layer of weights whose channels keep one scale."""
    for group in groups(graph):
        if group.weighted and group.tie:
            names = ", ".join(describe(n) for n in group.neurons)
            yield f"one scale for all channels of {names}: {group.tie}"


def _below_one(group: Group, scale: Scale) -> Iterator[Problem]:
    for neuron in group.neurons:
        theta = float(np.min(theta_of(neuron) * scale))
        if not (neuron.is_readout or neuron.signed) and theta < 1:
            hint = "fewer inputs a neuron, or a target with a wider accumulator"
            what = "threshold rounds below one"
            yield problem("SNNC-M014", describe(neuron), what, got=f"{theta:.3g}", limit="1", hint=hint)


def _finish(graph: Graph, node: Node, scale_of_neuron: dict[str, Scale]) -> Node:
    """Products of whole numbers; the output's unit: a readout's membrane is s times the trained value."""
    if isinstance(node, MatMul):
        return replace(node, integer=True)
    if not isinstance(node, Output) or node.decode is not Decode.MEMBRANE:
        return node
    last = graph.by_name[node.inputs[0]]
    while last.name not in scale_of_neuron:
        last = graph.by_name[last.inputs[0]]
    scale = scale_of_neuron[last.name]
    assert isinstance(scale, float), "a readout has one unit"
    return replace(node, scale=node.scale / scale)
