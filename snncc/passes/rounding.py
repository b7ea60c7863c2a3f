"""Real numbers of weights and neurons as integers, at a scale."""

from __future__ import annotations

import numpy as np

from snncc.arrays import Array
from snncc.ir import Cell, Const, Integer, IntegerNeuron, Neuron, Number, Reset, Rounding
from snncc.ir.cell import one
from snncc.ir.const import narrow, values_of
from snncc.passes.quantizable import different_values

# Units of an integer membrane that a unit of the real one becomes: one for a layer, or float64 [C].
Scale = float | Array

# Fixed-point places of a leak: the finest that keeps v·decay within 63 bits for 32-bit membranes.
DECAY_BITS = 12

_ELEMENTS = 4_000_000  # of weights that are rounded at a time, in float64


def theta_of(neuron: Neuron) -> float:
    """The threshold of a layer, the largest where it has several."""
    return max(different_values(neuron.threshold))


def threshold_of(neuron: Neuron, scale: Scale) -> Integer:
    """The threshold at a scale; a relay's may be any, since its readers take up what rounding makes of it."""
    whole = _number(neuron.threshold, scale)
    return max(1, one(whole)) if neuron.signed else whole


def exponent_for(largest: float, bits: int) -> int:
    """The least e at which integers up to ``largest`` in size fit words of ``bits`` times 2^e."""
    top, e = 2 ** (bits - 1) - 1, 0
    while np.rint(largest / 2**e) > top:
        e += 1
    return e


def integers(weight: Array, scale: Scale, bits: int, exponent: int) -> Array:
    """round(scale·w / 2^e)·2^e, each of the rounded within ``bits``, in the narrowest signed dtype."""
    top = 2 ** (bits - 1) - 1
    factor, parts = along(scale, weight.ndim), []
    rows = max(1, _ELEMENTS * len(weight) // max(1, weight.size))
    for first in range(0, max(1, len(weight)), rows):  # all in float64 at once would be eight times the words
        some = slice(first, first + rows)
        words = weight[some].astype(np.float64)
        words *= factor[some] if isinstance(factor, np.ndarray) else factor
        words /= 2**exponent
        np.clip(np.rint(words, out=words), -top, top, out=words)
        words *= 2**exponent
        parts.append(narrow(words))
    return np.concatenate(parts)


def along(scale: Scale, rank: int) -> Scale:
    """A scale ready to broadcast over [O, ...] weights of ``rank`` dimensions."""
    return scale.reshape(-1, *(1,) * (rank - 1)) if isinstance(scale, np.ndarray) else scale


def integer(value: Number, scale: Scale) -> Integer:
    """A potential at a scale, one or a channel's each."""
    if isinstance(value, Const):
        return Const(np.rint(value.array.astype(np.float64) * scale).astype(np.int32))
    return _number(value, scale)


def _number(value: Number, scale: Scale) -> Integer:
    """A number of the neuron at a scale; one where all its channels have the same."""
    whole = np.rint(values_of(value).astype(np.float64) * scale)
    if (whole == whole.flat[0]).all():
        return int(whole.flat[0])
    return Const(whole.astype(np.int32 if np.abs(whole).max() < 2**31 else np.int64))


def integer_neuron(node: Neuron, scale: Scale) -> IntegerNeuron:
    """The neuron whose potentials are ``scale`` times those of a float one."""

    def given(value: Number | None) -> Integer | None:
        return None if value is None else _number(value, scale)

    decay, decay_bits = _fixed_leak(node.decay)
    fade, fade_bits = _fixed_leak(0 if node.synapse_decay is None else node.synapse_decay)
    threshold = 1 if node.is_readout else threshold_of(node, scale)
    cell = Cell(
        threshold=threshold,
        max_spikes=node.max_spikes,
        signed=node.signed,
        precharge=_precharge(node, threshold),
        bias=integer(node.bias, scale),
        synapse_decay=fade,
        synapse_bits=fade_bits,
        decay=decay,
        decay_bits=decay_bits,
        reset=Reset.SUBTRACT if node.reset is Reset.NONE else node.reset,
        reset_by=None if node.reset is not Reset.SUBTRACT else given(node.reset_by),
        reset_to=_number(node.reset_to, scale),
        v_min=given(node.v_min),
        v_init=integer(node.v_init, scale),
    )
    return IntegerNeuron(name=node.name, inputs=node.inputs, source=node.source, cell=cell)


def _precharge(node: Neuron, threshold: Integer) -> Integer:
    """What turns rounding into flooring; ties that ``half_even`` sends down go up."""
    if node.is_readout:
        return 0
    if node.strict:
        return -1
    return 0 if node.rounding is Rounding.FLOOR else half_up(threshold)


def half_up(threshold: Integer) -> Integer:
    """The pre-charge ⌊θ/2⌋."""
    return Const(threshold.array // 2) if isinstance(threshold, Const) else threshold // 2


def half_down(threshold: Integer) -> Integer:
    """The pre-charge ⌈θ/2⌉ - 1."""
    return Const((threshold.array - 1) // 2) if isinstance(threshold, Const) else (threshold - 1) // 2


def _fixed_leak(leak: Number) -> tuple[Integer, int]:
    """A leak in fixed point, and its places."""
    values = values_of(leak)
    if values.max() == values.min() and float(values.flat[0]) in (0, 1):
        return int(values.flat[0]), 0
    return _number(leak, 2**DECAY_BITS), DECAY_BITS
