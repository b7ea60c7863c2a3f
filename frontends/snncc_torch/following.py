"""A canonical neuron that follows the spikes a PyTorch module really fired.

Two float programs that sum in another order may round to different sides of a threshold. Such a
flip is allowed only where the membrane is within the error bound of a threshold (DESIGN §5); the
membrane then goes on from the module's spike, so that one flip is not counted as many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.ir import Neuron, Reset
from snncc.ir.interp import neuron_step

Array = NDArray[Any]

# DESIGN §5: the float family agrees within this times the sum of absolute products.
RELATIVE = 1e-5


@dataclass
class _State:
    v: Any = 0
    i: Any = 0
    fired: Any = 0


@dataclass(frozen=True)
class Followed:
    """Outcome of :func:`follow`.

    Attributes:
        flips: outputs that differ where the bound allows it.
        wrong: outputs that differ where it does not.
    """

    flips: int
    wrong: int


def follow(
    node: Neuron, drive: Array, *, fired: Array, bound: Array | None = None, exact: bool = False
) -> Followed:
    """Compare a module's outputs with the canonical neuron, step by step.

    Args:
        node: stateless, or with one membrane and a reset in the same step.
        drive: float32 inputs [T, *shape].
        fired: the module's outputs [T, *shape].
        bound: error bound of ``drive``; zero if absent.
        exact: allow no flip where the membrane is computed without any rounding (it is the same
            in float32 and float64): there ties are real and their rule must agree.
    """
    state, wide = _State(), _State()
    slack = np.zeros_like(drive[:1])
    certain = np.full(drive[:1].shape, exact)
    flips = wrong = 0
    for t in range(len(drive)):
        x = drive[t : t + 1]
        before = np.abs(np.asarray(state.v, np.float32))
        u = _charged(node, x, state)
        certain = certain & (u == _charged(node, x.astype(np.float64), wide))
        charge = abs(_f(node.decay)) * before + np.abs(_f(node.gain) * x) + abs(_f(node.bias))
        extra = 0 if bound is None else abs(_f(node.gain)) * bound[t : t + 1]
        slack = np.where(certain, 0, abs(_f(node.decay)) * slack + extra + RELATIVE * charge)
        n = _count(node, u)
        given = fired[t : t + 1] / np.float32(node.output_scale)
        told = np.rint(given)
        fits = (_count(node, u - slack) <= told) & (told <= _count(node, u + slack))
        fits &= np.abs(given - told) <= RELATIVE * node.max_spikes
        flips += int((fits & (n != told)).sum())
        wrong += int((~fits).sum())
        state.v, wide.v = _settled(node, u, told), _settled(node, u.astype(np.float64), told)
        slack = np.where((told > 0) & (node.reset is Reset.VALUE), 0, slack)
    return Followed(flips, wrong)


def _f(value: Any) -> float:
    return float(value)


def _charged(node: Neuron, x: Array, state: _State) -> Array:
    """Membrane after the charge: what the same neuron delivers as a readout."""
    return neuron_step(replace(node, max_spikes=0), x, _State(v=state.v))


def _count(node: Neuron, u: Array) -> Array:
    """Spikes that a charged membrane fires."""
    bare = replace(node, decay=0, gain=1, bias=0, v_init=0, output_scale=1.0)
    return neuron_step(bare, u.astype(np.float32), _State())


def _settled(node: Neuron, u: Array, n: Array) -> Array:
    """Membrane after the reset that ``n`` spikes cause."""
    match node.reset:
        case Reset.SUBTRACT:
            return np.asarray(u - (n * _f(node.threshold)).astype(u.dtype))
        case Reset.VALUE:
            return np.where(n > 0, np.asarray(node.reset_to, u.dtype), u)
        case Reset.NONE:
            return u
