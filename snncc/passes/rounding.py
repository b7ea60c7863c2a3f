"""Real numbers of weights and neurons as integers, at a scale."""

from __future__ import annotations

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir import Cell, Const, Integer, IntegerNeuron, Neuron, Number, Reset, Rounding
from snncc.ir.const import narrow
from snncc.passes.base import describe
from snncc.passes.quantizable import different_values

# Fixed-point places of a leak: the finest that keeps v·decay within 63 bits for 32-bit membranes.
DECAY_BITS = 12


def theta_of(neuron: Neuron) -> float:
    """The threshold of a layer, the largest where it has several."""
    return max(different_values(neuron.threshold))


def threshold_of(neuron: Neuron, scale: float) -> int:
    """The threshold at a scale; a relay's may be any, since its readers take up what rounding makes of it."""
    whole = int(np.rint(theta_of(neuron) * scale))
    return max(1, whole) if neuron.signed else whole


def exponent_for(largest: float, bits: int) -> int:
    """The least e at which integers up to ``largest`` in size fit words of ``bits`` times 2^e."""
    top, e = 2 ** (bits - 1) - 1, 0
    while np.rint(largest / 2**e) > top:
        e += 1
    return e


def integers(weight: Array, scale: float, bits: int, exponent: int) -> Array:
    """round(scale·w / 2^e)·2^e, each of the rounded within ``bits``, in the narrowest signed dtype."""
    top = 2 ** (bits - 1) - 1
    words = np.clip(np.rint(weight.astype(np.float64) * scale / 2**exponent), -top, top)
    return narrow(words.astype(np.int64) << exponent)


def integer(value: Number, scale: float) -> Integer:
    """A potential at a scale, one or a channel's each."""
    if isinstance(value, Const):
        return Const(np.rint(value.array.astype(np.float64) * scale).astype(np.int32))
    return int(np.rint(value * scale))


def _one(value: Number | None, scale: float) -> int | None:
    """A number that is the same in all channels."""
    return None if value is None else int(np.rint(max(different_values(value)) * scale))


def integer_neuron(node: Neuron, scale: float) -> IntegerNeuron:
    """The neuron whose potentials are ``scale`` times those of a float one."""
    decay, decay_bits = _fixed_leak(node, node.decay)
    fade, fade_bits = _fixed_leak(node, node.synapse_decay or 0)
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
        reset_by=None if node.reset is not Reset.SUBTRACT else _one(node.reset_by, scale),
        reset_to=_one(node.reset_to, scale) or 0,
        v_min=_one(node.v_min, scale),
        v_init=integer(node.v_init, scale),
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
