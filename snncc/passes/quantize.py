"""quantize: integer weights with one integer threshold a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import networkx as nx
import numpy as np

from snncc.analysis.ranges import extremes, held, rest_drive
from snncc.arrays import Array
from snncc.errors import Problem, fail, problem, raise_all
from snncc.ir import (
    Add,
    Cell,
    CentreGate,
    Concat,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    HostRegion,
    Input,
    Integer,
    IntegerNeuron,
    Linear,
    Neuron,
    Node,
    Number,
    Output,
    Permute,
    Reset,
    Reshape,
    Rounding,
    SiteGate,
    SumPool2d,
    SynapseOrder,
)
from snncc.ir.const import number_array
from snncc.ir.interp import run
from snncc.ir.neurons import POTENTIALS
from snncc.ir.node import FLOAT_ONLY
from snncc.ir.synapses import Weighted
from snncc.passes.base import Semantics, describe, not_taken

# Fixed-point places of a leak: the finest that keeps v·decay within 63 bits for 32-bit membranes.
DECAY_BITS = 12

# Rounding moves sums by a few per cent at most, so that the second attempt nearly always fits.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Quantize:
    """Float weights w become integers round(s·w), one scale s for everything a neuron layer adds up.

    s is the largest that keeps |round(s·w)| within ``bits`` and, on the calibration inputs, the
    layer's any-order prefix range (largest less smallest sum of inputs, whatever order they
    arrive in) times ``margin`` within the accumulator; then it is lowered until s·θ is a whole
    number, so that the threshold is exact. Biases keep full width. ``half_even`` becomes
    ``half_up``: exact ties, which ``torch.round`` sends to the even count, go up.

    Attributes:
        calibration: inputs [N, T, *shape].
        bits: weight width, two's complement, symmetric range.
        state_bits: membrane width, in units of a weight.
        sum_bits: width of what adds up one timestep's inputs; None: the membrane's.
        margin: how much wider than on the calibration inputs the range may become.
    """

    name: ClassVar[str] = "quantize"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = Family.INTEGER
    after: ClassVar[tuple[str, ...]] = ("lower-readout", "fold-scale", "split-host")
    lowers: ClassVar[frozenset[type[Node]]] = frozenset(
        {
            Input, Linear, Conv2d, Add, Concat, SumPool2d, Reshape, Permute, SiteGate, CentreGate, Neuron,
            HostRegion, Output,
        }
    )  # fmt: skip

    calibration: Array = field(compare=False)
    bits: int = 8
    state_bits: int = 32
    sum_bits: int | None = None
    margin: float = 1.25

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        raise_all((*not_taken(graph, (self,)), *_unsupported(graph)))
        graph = graph.rewrite(_synapse_first)
        keep = tuple(dict.fromkeys(name for layer in graph.layers.values() for name in layer.sources))
        values = {
            k: v.reshape(-1, *v.shape[2:]) for k, v in run(graph, self.calibration, keep).values.items()
        }
        new: dict[str, Node] = {}
        scale_of: dict[str, float] = {}
        problems: list[Problem] = []
        for neurons, weighted in _layers(graph):
            scale = self._scale(graph, neurons, weighted, values)
            new |= {w.name: _integer_weights(w, scale, self.bits) for w in weighted}
            for neuron in neurons:
                if not neuron.is_readout and _theta(neuron) * scale < 1:
                    problems.append(
                        problem(
                            "SNNC-M014",
                            describe(neuron),
                            "threshold rounds below one",
                            got=f"{_theta(neuron) * scale:.3g}",
                            limit="1",
                            hint="fewer inputs a neuron, or a target with a wider accumulator",
                        )
                    )
                    continue
                new[neuron.name] = _integer_neuron(neuron, scale)
                scale_of[neuron.name] = scale
        raise_all(problems)
        integer = (_finish(graph, new.get(n.name, n), scale_of) for n in graph.nodes)
        return replace(graph, family=Family.INTEGER, nodes=tuple(integer))

    def _scale(
        self, graph: Graph, neurons: list[Neuron], weighted: list[Weighted], values: dict[str, Array]
    ) -> float:
        """Largest scale whose integer weights, as they come out rounded, respect the accumulator."""
        largest = max(float(np.abs(w.weight.array).max(initial=0)) for w in weighted)
        top = 2 ** (self.bits - 1) - 1
        # A layer without weights above zero still needs a scale in which its threshold is an integer.
        scale = top / largest if largest > 0 else top / max(_theta(n) for n in neurons)
        theta = next((_theta(n) for n in neurons if not n.is_readout), None)
        # One control event, of at most a weight's size, must fit beside the range.
        room, sum_room = (
            2 ** (bits - 1) - 2 ** (self.bits - 1)
            for bits in (self.state_bits, self.sum_bits or self.state_bits)
        )
        for _ in range(_ATTEMPTS):
            if theta is not None and theta * scale >= 1:
                scale = min(int(np.floor(theta * scale * (1 + 1e-9))), room) / theta
            one, all_held = self._spans(graph, neurons, weighted, values, scale)
            over = max(one / sum_room, all_held / room)
            if over <= 1:
                break
            scale *= 0.99 / over
        return float(scale)

    def _spans(
        self,
        graph: Graph,
        neurons: list[Neuron],
        weighted: list[Weighted],
        values: dict[str, Array],
        scale: float,
    ) -> tuple[float, float]:
        """Widest any-order prefix range of one timestep's inputs, and of what a membrane holds.

        With the margin, in integers of ``scale``.
        """
        rounded = {
            w.name: replace(w, weight=Const(np.rint(w.weight.array * scale).astype(np.float32)))
            for w in weighted
        }
        trial = graph.rewrite(lambda n: rounded.get(n.name))
        spans = []
        for neuron in neurons:
            found = extremes(trial, neuron, values)
            low, high = found.merged()
            # Biases of the weights are not rounded here; how they differ between neurons adds to the span.
            fixed = extremes(graph, neuron, values).rest + number_array(neuron.bias, found.rest.ndim)
            one = (float(high) - float(low)) * self.margin + 2 * float(np.abs(fixed).max(initial=0)) * scale
            spans.append((one, one * held(neuron, graph.steps)))
        return max(s[0] for s in spans), max(s[1] for s in spans)


def _neurons(graph: Graph) -> Iterator[Neuron]:
    return (n for n in graph.nodes if isinstance(n, Neuron))


def _theta(neuron: Neuron) -> float:
    return max(_values(neuron.threshold))


def _values(value: Number | None) -> set[float]:
    """The different numbers among a layer's; none where there is none."""
    if value is None:
        return set()
    return set(value.array.tolist()) if isinstance(value, Const) else {float(value)}


# Numbers of a float neuron that integers hold once a layer, as messages call them.
_ONE_A_LAYER = {
    "threshold": "threshold",
    "reset_by": "amount of reset",
    "reset_to": "reset potential",
    "v_min": "lower bound",
}


def _layers(graph: Graph) -> Iterator[tuple[list[Neuron], list[Weighted]]]:
    """Neurons and weights that add up in common membranes and hence share one scale."""
    shared: nx.Graph[str] = nx.Graph()
    for neuron in _neurons(graph):
        shared.add_node(neuron.name)
        shared.add_edges_from((neuron.name, w.name) for w in graph.layers[neuron.name].weighted)
    for component in nx.connected_components(shared):
        members = [n for n in graph.nodes if n.name in component]
        yield [n for n in members if isinstance(n, Neuron)], [n for n in members if isinstance(n, Weighted)]


def _synapse_first(node: Node) -> Node | None:
    """The order in which integer synapses run: I = d·I + x, then read.

    Norse's order reads the same values. Sinabs' reads d times them: its potentials are d times
    those of a neuron with this order, exactly.
    """
    if not isinstance(node, Neuron) or node.synapse_decay is None:
        return None
    changes: dict[str, Any] = {"synapse_order": SynapseOrder.DECAY_ADD_READ}
    if node.synapse_order is SynapseOrder.ADD_DECAY_READ:
        d = float(node.synapse_decay)  # type: ignore[arg-type]  # one a layer: _unsupported has seen to it
        for name in POTENTIALS:
            value = getattr(node, name)
            if value is not None:
                changes[name] = Const(value.array / np.float32(d)) if isinstance(value, Const) else value / d
    return replace(node, **changes)


def _unsupported(graph: Graph) -> Iterator[Problem]:
    def no(code: str, node: Node, what: str, hint: str) -> Problem:
        return problem(code, describe(node), what, hint=hint)

    driving = {w.name for layer in graph.layers.values() for w in layer.weighted}
    for node in graph.nodes:
        if isinstance(node, Weighted) and node.name not in driving:
            what, hint = "weights whose sums no neuron integrates", "a neuron between two layers of weights"
            yield no("SNNC-M018", node, what, hint)
        if not isinstance(node, Neuron):
            continue
        for name, what in _ONE_A_LAYER.items():
            if len(_values(getattr(node, name))) > 1:
                yield no("SNNC-M020", node, f"one {what} per channel", f"one {what} for the layer")
        if node.synapse_decay is not None and rest_drive(graph, node).any():
            what = "a bias that passes a synapse with memory has no integer form"
            yield no("SNNC-M021", node, what, "bias=False in front of it")
        elif node.synapse_decay == 0:
            what = "a synaptic leak of 0 leaves no current to hold"
            yield no("SNNC-M021", node, what, "a neuron without synaptic current")
        elif isinstance(node.synapse_decay, Const):
            what = "one synaptic leak per channel has no integer form"
            yield no("SNNC-M020", node, what, "one leak for the layer")
        elif node.synapse_order is SynapseOrder.ADD_DECAY_READ and node.synapse_decay and node.is_readout:
            what = "a readout behind a synapse that decays first"
            yield no("SNNC-M021", node, what, "a readout without one")
        if node.reset_next:
            what = "a reset in the following step has no integer form yet"
            yield no("SNNC-M021", node, what, "a neuron that resets in the step in which it fires")
        if node.reset is Reset.NONE and not node.is_stateless and not node.is_readout:
            what = "a neuron with memory that never resets has no spike form"
            yield no("SNNC-M021", node, what, "reset by subtraction")


def _integer(value: Number, scale: float) -> Integer:
    if isinstance(value, Const):
        return Const(np.rint(value.array.astype(np.float64) * scale).astype(np.int32))
    return int(np.rint(value * scale))


def _one(value: Number | None, scale: float) -> int | None:
    """A number that is the same in all channels."""
    return None if value is None else int(np.rint(max(_values(value)) * scale))


def _integer_weights(node: Weighted, scale: float, bits: int) -> Weighted:
    top = 2 ** (bits - 1) - 1
    weight = np.clip(np.rint(node.weight.array.astype(np.float64) * scale), -top, top)
    dtype = np.int8 if bits <= 8 else np.int16
    bias = None if node.bias is None else _integer(node.bias, scale)
    assert bias is None or isinstance(bias, Const)
    return replace(node, weight=Const(weight.astype(dtype)), bias=bias)


def _integer_neuron(node: Neuron, scale: float) -> IntegerNeuron:
    decay, decay_bits = _fixed_leak(node, node.decay)
    fade, fade_bits = _fixed_leak(node, node.synapse_decay or 0)
    threshold = 1 if node.is_readout else int(np.rint(_theta(node) * scale))
    cell = Cell(
        threshold=threshold,
        max_spikes=node.max_spikes,
        precharge=_precharge(node, threshold),
        bias=_integer(node.bias, scale),
        synapse_decay=fade,
        synapse_bits=fade_bits,
        decay=decay,
        decay_bits=decay_bits,
        reset=Reset.SUBTRACT if node.reset is Reset.NONE else node.reset,
        reset_by=None if node.reset is not Reset.SUBTRACT else _one(node.reset_by, scale),
        reset_to=_one(node.reset_to, scale) or 0,
        v_min=_one(node.v_min, scale),
        v_init=_integer(node.v_init, scale),
    )
    return IntegerNeuron(name=node.name, inputs=node.inputs, source=node.source, cell=cell)


def _precharge(node: Neuron, threshold: int) -> int:
    """What turns rounding into flooring; ties that ``half_even`` sends down go up."""
    if node.is_readout:
        return 0
    if node.strict:
        return -1
    return 0 if node.rounding is Rounding.FLOOR else threshold // 2


def _fixed_leak(node: Neuron, leak: Number) -> tuple[int, int]:
    if isinstance(leak, Const):
        values = set(leak.array.tolist())
        if len(values) > 1:
            raise fail(
                "SNNC-M020",
                describe(node),
                "one leak per channel has no integer form yet",
                hint="one leak for the layer",
            )
        leak = float(values.pop())
    if leak in (0, 1):
        return int(leak), 0
    return int(np.rint(leak * 2**DECAY_BITS)), DECAY_BITS


def _finish(graph: Graph, node: Node, scale_of: dict[str, float]) -> Node:
    """The output's unit: a readout's membrane is s times the trained value."""
    if not isinstance(node, Output) or node.decode is not Decode.MEMBRANE:
        return node
    last = graph.by_name[node.inputs[0]]
    while last.name not in scale_of:
        last = graph.by_name[last.inputs[0]]
    return replace(node, scale=node.scale / scale_of[last.name])
