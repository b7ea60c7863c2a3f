"""Ranges of what a membrane can receive, over every order in which its events may arrive."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir import (
    Cell,
    CentreGate,
    Const,
    Family,
    Graph,
    Integer,
    IntegerNeuron,
    Linear,
    Neuron,
    Number,
    Spikes,
    ValueType,
)
from snncc.ir.cell import leaked
from snncc.ir.const import number_array, values_of
from snncc.ir.evaluation import evaluate, with_bias
from snncc.ir.layers import AnyNeuron, End
from snncc.ir.pools import MaxPool2d
from snncc.ir.synapses import Weighted


@dataclass(frozen=True)
class Extremes:
    """Sums of the negative and of the positive synaptic inputs, and what is there without input.

    Attributes:
        low: Σ of negative contributions, [N, *shape].
        high: Σ of positive contributions, [N, *shape].
        rest: drive without any spike (biases of the weights), [1, *shape].
    """

    low: Array
    high: Array
    rest: Array

    def merged(self) -> tuple[Any, Any]:
        """Least ``low`` and largest ``high`` over samples and neurons."""
        return self.low.min(initial=0), self.high.max(initial=0)


def drive(
    graph: Graph,
    neuron: AnyNeuron,
    values: Mapping[str, Array],
    change: Callable[[Weighted], Weighted],
) -> Array:
    """What the neuron's membrane receives, [N, *shape], when ``change`` is applied to the weighted nodes.

    With the neuron's gain, in units of its membrane.

    ``values`` holds the values [N, *shape] that the layer's weights, products and pools read.
    """

    def end(node: End) -> Array:
        changed = change(node) if isinstance(node, Weighted) else node
        return evaluate(changed, [values[name] for name in node.inputs])

    return _received(graph, neuron, end, values)


def _received(
    graph: Graph,
    neuron: AnyNeuron,
    end: Callable[[End], Array],
    values: Mapping[str, Array],
    env: dict[str, Array] | None = None,
) -> Array:
    """The neuron's drive, [N, *shape], where each end of its layer delivers what ``end`` says.

    What opens a gate is among ``values``. ``env`` holds what paths of other neurons had in common with this
    one's, and takes up what it computes: else each block of a stream would compute those before it again.
    """
    layer, env = graph.layers[neuron.name], {} if env is None else env
    env |= {node.name: end(node) for node in layer.ends if node.name not in env}
    for node in layer.path:
        if node.name not in env:
            env[node.name] = evaluate(node, [env[i] if i in env else values[i] for i in node.inputs])
    received = env[neuron.inputs[0]]
    gain = neuron.gain if isinstance(neuron, Neuron) else neuron.cell.gain
    return received * number_array(gain, received.ndim) if isinstance(gain, Const) or gain != 1 else received


def signed_part(sign: int) -> Callable[[Weighted], Weighted]:
    """Keeps a node's weights of one sign (1 or -1), and no bias: what ``drive`` takes as change."""

    def keep(node: Weighted) -> Weighted:
        w, cut = node.weight.array, np.maximum if sign > 0 else np.minimum
        return replace(node, weight=Const(cut(w, w.dtype.type(0)), copy=False), bias=None)

    return keep


def rest_drive(graph: Graph, neuron: AnyNeuron, env: dict[str, Array] | None = None) -> Array:
    """What the neuron receives without any spike: the biases of its weights, [1, *shape].

    ``env``: values of the paths of neurons before it, to which its own are added.
    """
    dtype = np.float32 if graph.family is Family.FLOAT else np.int64
    silent = {n: np.zeros((1, *graph.types[n].shape), dtype) for n in graph.layers[neuron.name].sources}

    def biases(node: End) -> Array:
        nothing = np.zeros((1, *graph.types[node.name].shape), dtype)
        return with_bias(node, nothing) if isinstance(node, Weighted) else nothing

    return _received(graph, neuron, biases, silent, env)


def extremes(
    graph: Graph,
    neuron: AnyNeuron,
    values: Mapping[str, Array],
    change: Callable[[Weighted], Weighted] | None = None,
    shared: Shared | None = None,
) -> Extremes:
    """:class:`Extremes` of a neuron's drive for given values, negative only where types are signed.

    ``change`` is applied to the weighted nodes; ``rest`` is that without it. ``shared``: of neurons with
    the same ``values`` and ``change``, whose sums have parts in common.
    """
    positive = {name: values[name] for name in graph.layers[neuron.name].sources}
    negative = {name: np.minimum(v, 0) for name, v in positive.items() if _signed(graph.types[name])}
    positive |= {n: positive[n] - v for n, v in negative.items()}

    def respond(node: Weighted, x: Array) -> Array:
        return evaluate(node, [x])

    response = _Response(respond, change or (lambda node: node))
    return _extremes(graph, neuron, negative, positive, response, shared or Shared())


@dataclass(frozen=True)
class Shared:
    """What the paths of several neurons have in common, [N, *shape] by name: each is computed once."""

    low: dict[str, Array] = field(default_factory=dict)
    high: dict[str, Array] = field(default_factory=dict)
    rest: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Response:
    """How weights answer a value [N, *shape], and what is done with them before."""

    of: Callable[[Weighted, Array], Array]
    change: Callable[[Weighted], Weighted] = lambda node: node


def _signed(kind: ValueType) -> bool:
    return not isinstance(kind, Spikes) or kind.signed


def _extremes(
    graph: Graph,
    neuron: AnyNeuron,
    negative: Mapping[str, Array],
    positive: Mapping[str, Array],
    response: _Response,
    shared: Shared,
) -> Extremes:
    """The same for the negative and positive parts of the values; a part that is not there is zeros."""

    def contributions(node: End, sign: int) -> Array:
        """The sum of a node's contributions of one sign, part by part."""
        if isinstance(node, MaxPool2d):
            # One number arrives, of the sign that it has: below zero where all of its window are.
            name, values = node.inputs[0], positive if sign > 0 else negative
            return evaluate(node, [values.get(name, np.zeros_like(positive[name]))])
        if isinstance(node, Weighted):
            changed, source = response.change(node), node.inputs[0]
            parts = [(s, v[source]) for s, v in ((sign, positive), (-sign, negative)) if source in v]
            found = [response.of(signed_part(s)(changed), x) for s, x in parts]
            return np.asarray(sum(found[1:], found[0]))
        a, b = node.inputs
        second = (positive, negative) if sign > 0 else (negative, positive)
        pairs = zip((positive, negative), second, strict=True)
        terms = [evaluate(node, [one[a], other[b]]) for one, other in pairs if a in one and b in other]
        return np.asarray(sum(terms)) if terms else 0 * evaluate(node, [positive[a], positive[b]])

    low = _received(graph, neuron, lambda node: contributions(node, -1), positive, shared.low)
    low = low + _opened_bias(graph, neuron, positive, -1)
    high = _received(graph, neuron, lambda node: contributions(node, 1), positive, shared.high)
    high = high + _opened_bias(graph, neuron, positive, 1)
    return Extremes(low, high, rest_drive(graph, neuron, shared.rest))


def _opened_bias(graph: Graph, neuron: AnyNeuron, values: Mapping[str, Array], sign: int) -> Any:
    """Biases of one sign that come with the spikes which open a gate, [N, *shape]; 0 without such gates."""
    opened = {n.inputs[0] for n in graph.layers[neuron.name].path if isinstance(n, CentreGate)}
    if not opened:
        return 0

    def biases(node: End) -> Array:
        nothing = np.zeros((1, *graph.types[node.name].shape), np.int64)
        if node.name not in opened or not isinstance(node, Weighted) or node.bias is None:
            return nothing
        bias = node.bias.array
        kept = Const(np.where(np.sign(bias) == sign, bias, 0 * bias))
        return np.asarray(nothing + number_array(kept, nothing.ndim))

    return _received(graph, neuron, biases, values)


def type_extremes(graph: Graph, neuron: AnyNeuron, types: Mapping[str, ValueType] | None = None) -> Extremes:
    """:class:`Extremes` over every input that the types allow: all sources at their largest level.

    ``types``: of the sources, where they are tighter than the graph's.
    """
    types = graph.types if types is None else types
    most: dict[str, Array] = {}
    for name in graph.layers[neuron.name].sources:
        kind = types[name]
        assert isinstance(kind, Spikes)
        most[name] = np.full((1, *kind.shape), kind.levels, np.int64)
    least = {n: -v for n, v in most.items() if _signed(types[n])}
    return _extremes(graph, neuron, least, most, _Response(_response_to_equals), Shared())


def _response_to_equals(node: Weighted, x: Array) -> Array:
    """What a node makes of equal values [1, *shape], from the sums of its weights over channels."""
    sums = node.weight.array.sum(axis=1, keepdims=True, dtype=np.int64)
    summed = replace(node, weight=Const(sums, copy=False))
    return evaluate(summed, [x[..., :1] if isinstance(node, Linear) else x[:, : node.groups]])


def held(neuron: Neuron | IntegerNeuron, steps: int) -> int:
    """Timesteps' worth of input that a membrane can hold after ``steps`` timesteps, rounded up.

    What one unit of input in every timestep leaves there without a reset: 1 without memory, at most
    1/(1 - decay) with a leak, ``steps`` where a membrane integrates, more where a synaptic current
    collects as well. Rounding toward zero only takes from it.
    """
    leak, fade = _leaks(neuron)
    current = membrane = 0.0
    for _ in range(steps):
        current = fade * current + 1
        membrane = leak * membrane + current
    return math.ceil(membrane)


def _leaks(neuron: Neuron | IntegerNeuron) -> tuple[float, float]:
    """Leaks of the membrane and of the synaptic current as real numbers, the largest of a layer's."""
    if isinstance(neuron, Neuron):
        return _largest(neuron.decay), _largest(neuron.synapse_decay or 0)
    cell = neuron.cell
    return _largest(cell.decay) / 2**cell.decay_bits, _largest(cell.synapse_decay) / 2**cell.synapse_bits


def _largest(value: Number) -> float:
    return float(values_of(value).max())


def largest_count(graph: Graph, neuron: IntegerNeuron, types: Mapping[str, ValueType] | None = None) -> int:
    """⌊u/θ⌋ of the largest charged membrane that the types of the inputs allow; its size if signed.

    ``types`` as in :func:`type_extremes`.
    """
    found, cell = type_extremes(graph, neuron, types), neuron.cell
    steps = held(neuron, graph.steps)
    least, most = start_range(cell, found.rest, steps)
    threshold = number_array(cell.threshold, most.ndim)
    high = int(((most + found.high * steps) // threshold).max())
    if not cell.signed:
        return high
    return max(high, -int(((least + found.low * steps) // threshold).min()))


def largest_counts(graph: Graph) -> dict[str, int]:
    """:func:`largest_count` of every neuron of an integer graph that fires, by name."""
    return {
        n.name: largest_count(graph, n)
        for n in graph.nodes
        if isinstance(n, IntegerNeuron) and not n.is_readout
    }


def start_range(cell: Cell, rest: Array, steps: int) -> tuple[Array, Array]:
    """Least and largest membrane without any event, pre-charge included, [1, *shape] each.

    ``rest`` is the drive without spikes, of which the membrane holds ``steps`` times at most
    (:func:`held`). A neuron with memory starts each timestep from what the last one left: its
    initial value, what a reset put there, or the rest below the pre-charge that subtraction leaves,
    less what each spike takes beyond its threshold. Leak only shrinks it.
    """

    def num(value: Integer) -> Any:
        return number_array(value, rest.ndim)

    bias: Array = rest + num(cell.bias)
    charge = num(cell.precharge)
    if steps == 1:
        first = bias + leaked(num(cell.v_init), num(cell.decay), cell.decay_bits) + charge
        return first, first
    beyond = 0 if cell.reset_by is None else np.maximum(0, num(cell.reset_by) - num(cell.threshold))
    left = [-charge - cell.max_spikes * beyond, 0, num(cell.v_init), num(cell.reset_to), num(cell.v_min or 0)]
    before = [value + np.zeros_like(bias) for value in left]
    collected = [np.zeros_like(bias), bias, bias * steps]
    low = np.minimum.reduce(collected) + np.minimum.reduce(before) + np.minimum(charge, 0)
    high = np.maximum.reduce(collected) + np.maximum.reduce(before) + np.maximum(charge, 0)
    return low, high
