"""Weights as a chip's words: numbers of so many bits, times a power of two for each connection."""

from __future__ import annotations

from snncc.arrays import Array
from snncc.ir.const import narrow


def words(weight: Array, bits: int) -> tuple[Array, int]:
    """The weights over 2^e, and e: the least at which they fit ``bits``; none where no e does it exactly."""
    top, exponent = 2 ** (bits - 1) - 1, 0
    while max(int(weight.max(initial=0)), -int(weight.min(initial=0))) >> exponent > top:
        exponent += 1
    if exponent == 0 or (weight & ((1 << exponent) - 1)).any():
        return weight, 0
    return narrow(weight >> exponent), exponent
