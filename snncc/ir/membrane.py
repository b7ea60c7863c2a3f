"""One update of the float neuron: what the canonical neuron of float graphs computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir.const import Number, number_array
from snncc.ir.neurons import Neuron
from snncc.ir.node import Reset, Rounding, SynapseOrder


@dataclass
class Membrane:
    """Potential ``v``, synaptic current ``i`` and the counts whose reset is still to come; 0 before any."""

    v: Any = 0
    i: Any = 0
    fired: Any = 0


def neuron_step(node: Neuron, x: Array, state: Membrane) -> Array:
    """Counts times the output's scale (a readout's membrane) [N, *shape] of a drive of that shape.

    Changes ``state``.
    """

    def num(value: Number) -> Any:
        return number_array(value, x.ndim)

    if np.isscalar(state.v):
        state.v = np.zeros_like(x) + num(node.v_init)
    drive = _synapse(node, x, state, num) * num(node.gain)
    u = np.asarray(num(node.decay) * state.v) + drive + num(node.bias)
    if node.is_readout:
        state.v = u
        return np.asarray(u)
    if node.reset_next:
        u = _reset(node, u, state.fired, num)
    n = np.clip(_round(node, u, num(node.threshold)), node.least, node.max_spikes)
    state.fired = n
    v = u if node.reset_next else _reset(node, u, n, num)
    state.v = v if node.v_min is None else np.maximum(v, num(node.v_min))
    return n * np.float32(node.output_scale) if node.output_scale != 1 else n


def _synapse(node: Neuron, x: Array, state: Membrane, num: Callable[[Number], Any]) -> Array:
    if node.synapse_decay is None:
        return x
    d = num(node.synapse_decay)
    i = np.zeros_like(x) if np.isscalar(state.i) else state.i
    match node.synapse_order:
        case SynapseOrder.ADD_READ_DECAY:
            read = i + x
            state.i = np.asarray(d * read)
        case SynapseOrder.DECAY_ADD_READ:
            read = state.i = np.asarray(d * i) + x
        case SynapseOrder.ADD_DECAY_READ:
            read = state.i = np.asarray(d * (i + x))
    return np.asarray(read)


def _round(node: Neuron, u: Array, threshold: Any) -> Array:
    if node.max_spikes == 1 and node.rounding is Rounding.FLOOR and not node.signed:
        return np.where(u > threshold if node.strict else u >= threshold, 1, 0).astype(u.dtype)
    ratio = u / threshold if isinstance(threshold, np.ndarray) or threshold != 1 else u
    match node.rounding:
        case Rounding.FLOOR:
            return np.asarray(np.ceil(ratio) - 1 if node.strict else np.floor(ratio))
        case Rounding.HALF_UP:
            return np.asarray(np.floor(ratio + np.float32(0.5)))
        case Rounding.HALF_EVEN:
            return np.asarray(np.rint(ratio))


def _reset(node: Neuron, u: Array, n: Any, num: Callable[[Number], Any]) -> Array:
    match node.reset:
        case Reset.SUBTRACT:
            return np.asarray(u - n * num(node.threshold if node.reset_by is None else node.reset_by))
        case Reset.VALUE:
            return np.where(np.asarray(n) > 0, num(node.reset_to), u).astype(u.dtype)
        case Reset.NONE:
            return u
