"""Lava's fixed-point arithmetic in numpy: the definition of what a Loihi program computes here.

The rules are those of lava-nc 0.10.0, models tagged ``fixed_pt``, each checked bit for bit against
Lava itself (``tests/lava``); where Lava's CPU models ignore a limit of the chip (a 16-bit dendritic
accumulator, for one) so does this module, and the certificate of the mapped network bounds it
instead (:func:`snncc_loihi.fixed_network.beyond_the_chip` names parameters that are too wide).
All arrays are int64; ``>>`` is the arithmetic (floor) shift. Micro-step k = 0, 1, 2, ... is Lava's
time step k + 1. Feature maps are [C, H, W] (Lava: W, H, C), weights as in PyTorch.

Sources: the models under ``lava/proc`` of lava-nc 0.10.0 (BSD-3) for what is computed; Davies et
al., IEEE Micro 38(1) 2018, and lava's docstrings for the widths: u, v 24 bits, du, dv 12, vth 17,
bias mantissa 13 with a 3-bit exponent, weights 8 plus sign mode, delays 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.cell import Cell, CellState, leaked
from snncc.ir.const import Const, Integer, number_array
from snncc.ir.evaluation import evaluate, exact_product
from snncc.ir.nodes import Conv2d

Pair = tuple[int, int]
Shape = tuple[int, ...]

STATE_BITS = 24  # of current u and membrane v
HALF = 1 << (STATE_BITS - 1)
FRACTION_BITS = 6  # synaptic sums and thresholds stand this far left in u and v
DECAY_BITS = 12
UNITY = 1 << DECAY_BITS
WEIGHT_BITS = 8


# ---- rules ------------------------------------------------------------------------------------------


class SignMode(StrEnum):
    """Signs that the weights of one matrix have; mixed signs cost the lowest bit."""

    MIXED = "mixed"
    EXCITATORY = "excitatory"
    INHIBITORY = "inhibitory"


def wrap(x: Array, bits: int) -> Array:
    """``x`` modulo 2^bits as two's complement; Lava's ``signed_clamp``."""
    half = 1 << (bits - 1)
    return np.asarray((x + half) % (1 << bits) - half)


def shifted(x: Array, exponent: int | Array) -> Array:
    """``x << exponent``, or ``x >> -exponent`` (rounding down) where that is negative, int64 [*shape]."""
    e = np.asarray(exponent)
    return np.asarray(np.where(e >= 0, x << np.maximum(e, 0), x >> np.maximum(-e, 0)), np.int64)


def sign_mode_of(weights: Array) -> SignMode:
    """The mode Lava takes for weights [targets, sources] when none is given; zeros alone are excitatory."""
    if weights.min(initial=0) >= 0:
        return SignMode.EXCITATORY
    return SignMode.INHIBITORY if weights.max(initial=0) <= 0 else SignMode.MIXED


def stored_weights(weights: Array, sign_mode: SignMode | None = None, num_weight_bits: int = 8) -> Array:
    """Weights as Lava's Dense and Sparse keep them.

    Clipped to 0..255 (excitatory), -255..0 (inhibitory) or -256..255 (mixed); then the lowest
    8 - num_weight_bits bits, one more where signs are mixed, are cleared. Clearing rounds down
    (-3 becomes -4), but inhibitory weights, kept as magnitudes, toward zero.

    Args:
        weights: integers of any shape, all weights of one process.
        sign_mode: None: :func:`sign_mode_of` the weights.
        num_weight_bits: 1..8.
    """
    mode = sign_mode or sign_mode_of(weights)
    sign = -1 if mode is SignMode.INHIBITORY else 1
    low = -(1 << WEIGHT_BITS) if mode is SignMode.MIXED else 0
    dropped = WEIGHT_BITS - num_weight_bits + (mode is SignMode.MIXED)
    clipped = np.clip(sign * weights.astype(np.int64), low, (1 << WEIGHT_BITS) - 1)
    return np.asarray(sign * ((clipped >> dropped) << dropped))


def message(s: Array, num_message_bits: int) -> Array:
    """What synapses multiply by: the payload, or 1 for any event if there are no message bits."""
    return s if num_message_bits > 0 else (s != 0).astype(np.int64)


def next_current(u: Array, a: Array, du: int) -> Array:
    """LIF current: u·(4096 - (du + 1)) / 4096 toward zero, plus a << 6, wrapped once at 24 bits.

    du = 4095: no memory; du = 0 still loses 1/4096. A sum over 2^23 loses 2^24, one at or under
    -2^23 gains 2^24, so that +2^23 itself stays. Lava's int32 wraps beyond that.

    Args:
        u: int64, the last current.
        a: int64, sum of all synapses.
        du: 0..4095.
    """
    x = wrap(leaked(u, UNITY - (du + 1), DECAY_BITS) + wrap(a << FRACTION_BITS, 32), 32)
    return np.where(x > HALF, x - 2 * HALF, np.where(x <= -HALF, x + 2 * HALF, x))


def next_membrane(v: Array, u: Array, bias: Array, dv: int) -> Array:
    """LIF membrane before it fires, int64 [*shape]: v·(4096 - dv) / 4096 toward zero, plus u and bias.

    Saturates at ±(2^23 - 1).
    """
    x = wrap(leaked(v, UNITY - dv, DECAY_BITS) + u + bias, 32)
    return np.clip(x, -(HALF - 1), HALF - 1)


# ---- synapses: each has a buffer of one step behind it ------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dense:
    """Lava's Dense and, with ``delays``, DelayDense: a = (Σ w·s) shifted by ``weight_exp``.

    The shift follows the sum; with delays, the sum of each delay.

    Attributes:
        weights: integers [N, M], before :func:`stored_weights`.
        delays: integers [N, M], further steps that each synapse waits (0..63).
    """

    weights: Array
    delays: Array | None = None
    weight_exp: int = 0
    num_weight_bits: int = 8
    num_message_bits: int = 0
    sign_mode: SignMode | None = None


@dataclass(frozen=True, eq=False)
class Sparse:
    """Lava's Sparse: the arithmetic of :class:`Dense` for single synapses, none of them twice.

    Attributes:
        shape: (N, M).
        post, pre: rows and columns, integers [K].
        weights: integers [K].
    """

    shape: Pair
    post: Array
    pre: Array
    weights: Array
    weight_exp: int = 0
    num_weight_bits: int = 8
    num_message_bits: int = 0
    sign_mode: SignMode | None = None


@dataclass(frozen=True, eq=False)
class Conv:
    """Lava's Conv: raw weights (not clipped, no bit dropped, no exponent), sums wrapped.

    Lava convolves with a mirrored kernel in another layout, W[O, x, y, I]; from the weights here
    that is ``w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)``.

    Attributes:
        weights: integers [O, I/groups, kh, kw], cross-correlated as in PyTorch.
        stride, padding, dilation: (vertical, horizontal).
        sum_bits: width at which sums wrap: 24; 32 in our own TapConv.
    """

    weights: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    num_message_bits: int = 0
    sum_bits: int = STATE_BITS


Synapses = Dense | Sparse | Conv


def slots(p: Synapses) -> int:
    """Steps over which the sums of one step's spikes arrive: 1 plus the largest delay."""
    return 1 + int(p.delays.max(initial=0)) if isinstance(p, Dense) and p.delays is not None else 1


def synaptic_sums(p: Synapses, s: Array) -> Array:
    """Sums that spikes ``s`` cause, by delay: [slots, N] (Conv: [1, O, H', W']).

    Args:
        p: the process.
        s: spikes or payloads of one micro-step, [M] or any shape of M elements (Conv: [C, H, W]).

    Raises:
        CapacityError: SNNC-C009 if a sum leaves 32 bits. What Lava makes of it differs from process to
            process.
    """
    x = message(s.astype(np.int64), p.num_message_bits)
    match p:
        case Dense():
            kept = stored_weights(p.weights, p.sign_mode, p.num_weight_bits)
            parts = [kept] if p.delays is None else [kept * (p.delays == d) for d in range(slots(p))]
            sums = _bounded(np.stack([exact_product(x.ravel(), w.T) for w in parts]))
            return _bounded(shifted(sums, p.weight_exp))
        case Sparse():
            sums = np.zeros((1, p.shape[0]), np.int64)
            kept = stored_weights(p.weights, p.sign_mode, p.num_weight_bits)
            np.add.at(sums[0], p.post, kept * x.ravel()[p.pre])
            return _bounded(shifted(_bounded(sums), p.weight_exp))
        case Conv():
            node = Conv2d(
                name="conv",
                weight=Const(p.weights.astype(np.int64)),
                stride=p.stride,
                padding=p.padding,
                dilation=p.dilation,
                groups=p.groups,
            )
            return wrap(_bounded(evaluate(node, [x[None]])), p.sum_bits)


def _bounded(sums: Array) -> Array:
    most = int(np.abs(sums).max(initial=0))
    if most >= 1 << 31:
        raise fail(
            "SNNC-C009", "synapses", "a sum leaves the word of Lava's models", got=most, limit=2**31 - 1
        )
    return sums


# ---- neurons ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LIF:
    """Lava's LIF and LIFReset, and our StartedLIF, which runs Lava's from ``begin`` to ``end``.

    u and v as in :func:`next_current` and :func:`next_membrane`; a spike where v > vth << 6, and
    there v = 0. Lava would take an array for du, dv or vth; the chip has one of each a neuron group.

    Attributes:
        shape: of the population.
        vth: 0..2^17-1. ``du``: 0..4095. ``dv``: 0..4096 (no memory).
        bias_mant, bias_exp: bias_mant << bias_exp (>> if negative) is added every step; integers or
            integer arrays that broadcast to ``shape``.
        v_init: membrane before micro-step 0, an integer or integer array.
        reset_interval, reset_offset: u = v = 0 before Lava's time steps t = k + 1 with
            t % interval == offset % interval; interval 0: never.
        begin, end: silent and unchanged outside micro-steps begin..end - 1; end None: never ends.
    """

    shape: Shape
    vth: int
    du: int = UNITY - 1
    dv: int = 0
    bias_mant: int | Array = 0
    bias_exp: int | Array = 0
    v_init: int | Array = 0
    reset_interval: int = 0
    reset_offset: int = 0
    begin: int = 0
    end: int | None = None


@dataclass(frozen=True, eq=False)
class GradedVec:
    """Lava's GradedVec, s = a where |a| > vth, and with ``relu`` GradedReluVec, s = a where a > vth.

    No memory; the payload is neither rounded nor clipped.
    """

    shape: Shape
    vth: int = 1
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Population:
    """Our own process: soft reset, windows of spikes (SFA), graded counts, readouts.

    Timestep t < ``steps`` starts at micro-step first + t·micro_steps with one update of the cell,
    whose drive is what arrived since the last window, in that very micro-step too; the membrane
    saturates at ``state_bits`` when it is charged. Then in each micro-step at most one spike while
    v ≥ threshold (v -= threshold), ``cell.max_spikes`` at most; a graded population sends its count
    at once. At its last micro-step the pre-charge is taken off and the cell settles, as in
    :mod:`snncc.ir.windows`. A readout sends v at the first micro-step. ``max_spikes`` =
    ``micro_steps`` = 1 is the soft-reset neuron that updates every micro-step.

    Attributes:
        cell: its biases and start values [C] stand for the maps of channel C of ``shape``.
        begin: if given, it leaks and adds its bias in every micro-step from here to ``first`` - 1.
    """

    shape: Shape
    cell: Cell
    micro_steps: int = 1
    steps: int = 1
    first: int = 0
    begin: int | None = None
    graded: bool = False
    state_bits: int = STATE_BITS


@dataclass(frozen=True, eq=False)
class Streaming:
    """Our own process for the free schedule: soft reset with inputs and spikes in every micro-step.

    At micro-step ``first`` v += bias + precharge; in each one from there to end - 1, v =
    saturate(v + gain·inputs) with all that arrived before it, then one spike while v ≥ threshold
    (v -= threshold), ``cell.max_spikes`` at most if ``capped``. No leak, no window that ends. A
    readout sends v in every micro-step.
    """

    shape: Shape
    cell: Cell
    end: int
    capped: bool = True
    first: int = 0
    state_bits: int = STATE_BITS


Neurons = LIF | GradedVec | Population | Streaming


@dataclass
class State:
    """Of a population; all int64 of its shape.

    Attributes:
        u, v: current and membrane. ``inputs``, ``fired``: inputs since, spikes in the last window.
    """

    u: Array
    v: Array
    inputs: Array
    fired: Array


def start(p: Neurons) -> State:
    """State before micro-step 0."""
    zeros = np.zeros(p.shape, np.int64)
    match p:
        case GradedVec():
            v = zeros
        case LIF():
            v = zeros + p.v_init
        case _:
            v = p.cell.start((1, *p.shape)).v[0]
    return State(zeros, v, zeros, zeros)


def neuron_step(p: Neurons, state: State, a: Array, k: int) -> Array:
    """One micro-step: changes ``state`` and returns what the population sends, int64 of its shape.

    Args:
        p: the population.
        state: of the micro-step before.
        a: int64 of its shape, what all connections deliver in micro-step k.
        k: the micro-step.
    """
    match p:
        case LIF():
            return _lif_step(p, state, a, k)
        case GradedVec():
            size = a if p.relu else np.abs(a)
            return np.where(size > p.vth, a, 0)
        case Population():
            state.inputs = state.inputs + a
            return _population_step(p, state, k)
        case Streaming():
            state.inputs = state.inputs + a
            return _streaming_step(p, state, k)


def _lif_step(p: LIF, state: State, a: Array, k: int) -> Array:
    if k < p.begin or (p.end is not None and k >= p.end):
        return np.zeros_like(state.v)
    if p.reset_interval and (k + 1) % p.reset_interval == p.reset_offset % p.reset_interval:
        state.u, state.v = np.zeros_like(state.u), np.zeros_like(state.v)
    bias = shifted(np.asarray(p.bias_mant, np.int64), p.bias_exp)
    state.u = next_current(state.u, a, p.du)
    v = next_membrane(state.v, state.u, bias, p.dv)
    fires = v > p.vth << FRACTION_BITS
    state.v = np.where(fires, 0, v)
    return fires.astype(np.int64)


def _population_step(p: Population, state: State, k: int) -> Array:
    t, d = divmod(k - p.first, p.micro_steps)
    if not 0 <= t < p.steps:
        if p.begin is not None and p.begin <= k < p.first:
            _charge(p, state)
            _close(p, state)
        return np.zeros_like(state.v)
    if d == 0:
        _charge(p, state)
    if p.cell.is_readout:
        return state.v if d == 0 else np.zeros_like(state.v)
    sent = _fire(p, state, d)
    if d == p.micro_steps - 1:
        _close(p, state)
    return sent


def _streaming_step(p: Streaming, state: State, k: int) -> Array:
    cell = p.cell
    if not p.first <= k < p.end:
        return np.zeros_like(state.v)
    if k == p.first:
        state.v = state.v + _map(p, cell.bias) + _map(p, cell.precharge)
    arrived, state.inputs = _map(p, cell.gain) * state.inputs, np.zeros_like(state.inputs)
    state.v = _saturated(p, state.v + arrived)
    if cell.is_readout:
        return state.v
    may = state.fired < cell.max_spikes if p.capped else True
    sent: Array = ((state.v >= _map(p, cell.threshold)) & may).astype(np.int64)
    state.v = state.v - sent * _map(p, cell.threshold)
    state.fired = state.fired + sent
    return sent


def _map(p: Population | Streaming, value: Integer) -> Any:
    """A cell's number against the population's shape."""
    found = number_array(value, len(p.shape) + 1)
    return found[0] if isinstance(found, np.ndarray) else found


def _saturated(p: Population | Streaming, v: Array) -> Array:
    half = 1 << (p.state_bits - 1)
    return np.clip(v, -half, half - 1)


def _charge(p: Population, state: State) -> None:
    before = CellState(state.v[None], state.u[None])
    charged = p.cell.charge(state.inputs[None], before)
    state.u, state.v = charged.i[0], _saturated(p, charged.v[0] + _map(p, p.cell.precharge))
    state.inputs, state.fired = np.zeros_like(state.inputs), np.zeros_like(state.fired)


def _fire(p: Population, state: State, d: int) -> Array:
    threshold = _map(p, p.cell.threshold)
    if p.graded:
        sent = p.cell.counts(state.v[None])[0] * (d == 0)
    else:
        sent = ((state.v >= threshold) & (d < p.cell.max_spikes)).astype(np.int64)
    state.v = state.v - sent * threshold
    state.fired = state.fired + sent
    return np.asarray(sent)


def _close(p: Population, state: State) -> None:
    left = state.v - _map(p, p.cell.precharge)
    state.v = p.cell.settled(left[None], state.fired[None])[0]
