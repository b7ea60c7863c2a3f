"""A canonical neuron that follows the spikes a PyTorch module really fired.

Two float programs that sum in another order may round to different sides of a threshold. Such a
flip is allowed only where the membrane is within the error bound of a threshold
(docs/semantics.md#float-rule); the membrane then goes on from the module's spike, so that one flip is
not counted as many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir import Neuron, Number, Reset, SynapseOrder
from snncc.ir.const import number_array
from snncc.ir.membrane import Membrane, neuron_step

# The float family agrees within this times the sum of absolute products (docs/semantics.md#float-rule).
RELATIVE = 1e-5


@dataclass(frozen=True)
class Followed:
    """Outcome of :func:`follow`.

    Attributes:
        flips: outputs that differ where the bound allows it.
        wrong: outputs that differ where it does not.
    """

    flips: int
    wrong: int


@dataclass
class _Slack:
    """Error bounds of the synaptic current and of the membrane."""

    i: Any = 0
    v: Any = 0


def follow(
    node: Neuron, drive: Array, *, fired: Array, size: Array | None = None, exact: bool = False
) -> Followed:
    """Compare a module's outputs with the canonical neuron, step by step.

    Args:
        node: with a reset in the same step; a readout's outputs are membrane potentials.
        drive: float32 inputs [T, *shape].
        fired: the module's outputs [T, *shape].
        size: magnitude of ``drive``, whose error bound is RELATIVE of it; zero if absent.
        exact: allow no flip where the membrane is computed without any rounding, in whatever
            order: there ties are real and their rule must agree.
    """
    assert not node.reset_next
    if _equal(node, drive, fired):
        return Followed(0, 0)
    state, slack = Membrane(), _Slack()
    coarse = exact and _constants_on_grid(node)
    # From rest, an integrate-and-fire neuron's membrane is its input, on a grid or not.
    certain = np.full(drive[:1].shape, exact and (coarse or _starts_with_its_input(node)))
    flips = wrong = 0
    for t in range(len(drive)):
        x, given = drive[t : t + 1], fired[t : t + 1]
        _widen(node, x, state, slack, 0 if size is None else RELATIVE * size[t : t + 1])
        u = _charged(node, x, state)
        if t or not _starts_with_its_input(node):
            certain = certain & coarse & _on_grid(x) & _on_grid(u)
        allowed = np.where(certain, 0, slack.v)
        if node.is_readout:
            wrong += int((~(np.abs(given - u) <= np.where(certain, RELATIVE * np.abs(u), allowed))).sum())
            state.v = u
            continue
        n, given = _count(node, u), given / np.float32(node.output_scale)
        told = np.rint(given)
        fits = (_count(node, u - allowed) <= told) & (told <= _count(node, u + allowed))
        fits &= np.abs(given - told) <= RELATIVE * node.max_spikes
        flips += int((fits & (n != told)).sum())
        wrong += int((~fits).sum())
        state.v = _settled(node, u, told)
        slack.v = np.where((told > 0) & (node.reset is Reset.VALUE), 0, allowed)
    return Followed(flips, wrong)


def _equal(node: Neuron, drive: Array, fired: Array) -> bool:
    """Whether all outputs are the same to the last bit, as they mostly are: then no bound matters."""
    state = Membrane()
    return all(
        np.array_equal(neuron_step(node, drive[t : t + 1], state), fired[t : t + 1])
        for t in range(len(drive))
    )


# Numbers of this many binary places below this size add up in float32 without rounding, and so do
# their products with a decay of a few binary places.
_PLACES, _SIZE = 12, 2**9


def _on_grid(x: Any) -> Array:
    scaled = np.asarray(x, np.float64) * 2**_PLACES
    return np.asarray((scaled == np.rint(scaled)) & (np.abs(x) < _SIZE))


def _constants_on_grid(node: Neuron) -> bool:
    values = (
        node.threshold, node.decay, node.gain, node.bias, node.synapse_decay, node.reset_by, node.reset_to,
        node.v_min, node.v_init,
    )  # fmt: skip
    return all(v is None or bool(_on_grid(number_array(v, 2)).all()) for v in values)


def _starts_with_its_input(node: Neuron) -> bool:
    plain = (node.gain, node.bias, node.synapse_decay) == (1, 0, None)
    return plain and (node.v_init == 0 or node.decay == 0)


def _widen(node: Neuron, x: Array, state: Membrane, slack: _Slack, extra: Any) -> None:
    """Error bounds after the charge that ``x`` is about to cause."""

    def size(value: Number) -> Any:
        return np.abs(number_array(value, x.ndim))

    drive, extra = np.abs(x), np.broadcast_to(extra, x.shape)
    if node.synapse_decay is not None:
        d = size(node.synapse_decay)
        # What is decayed before the membrane reads it: the current, the current and the drive, or neither.
        kept = 1 if node.synapse_order is SynapseOrder.ADD_READ_DECAY else d
        added = d if node.synapse_order is SynapseOrder.ADD_DECAY_READ else 1
        drive = kept * np.abs(state.i) + added * drive
        extra = kept * slack.i + added * extra + RELATIVE * drive
        slack.i = extra * d if node.synapse_order is SynapseOrder.ADD_READ_DECAY else extra
    before = np.abs(size(node.v_init) if np.isscalar(state.v) else state.v)
    charge = size(node.decay) * before + size(node.gain) * drive + size(node.bias)
    slack.v = size(node.decay) * slack.v + size(node.gain) * extra + RELATIVE * charge


def _charged(node: Neuron, x: Array, state: Membrane) -> Array:
    """Membrane after the charge, which also moves the synapse of ``state`` on."""
    charging = Membrane(v=state.v, i=state.i)
    u = neuron_step(replace(node, max_spikes=0), x, charging)
    state.i = charging.i
    return u


def _count(node: Neuron, u: Array) -> Array:
    """Spikes that a charged membrane fires."""
    bare = replace(node, decay=0, gain=1, bias=0, v_init=0, v_min=None, synapse_decay=None, output_scale=1.0)
    return neuron_step(bare, u.astype(np.float32), Membrane())


def _settled(node: Neuron, u: Array, n: Array) -> Array:
    """Membrane after the reset that ``n`` spikes cause, and after the clamp."""
    match node.reset:
        case Reset.SUBTRACT:
            by = number_array(node.threshold if node.reset_by is None else node.reset_by, u.ndim)
            v = np.asarray(u - (n * by).astype(u.dtype))
        case Reset.VALUE:
            v = np.where(n > 0, number_array(node.reset_to, u.ndim), u).astype(u.dtype)
        case Reset.NONE:
            v = u
    return (
        v
        if node.v_min is None
        else np.asarray(np.maximum(v, number_array(node.v_min, u.ndim)).astype(u.dtype))
    )
