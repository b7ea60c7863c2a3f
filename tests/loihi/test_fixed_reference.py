"""The processes compute what the reference semantics says: mapped networks against snncc.ir.interp."""

import numpy as np
import pytest

from simulator.simnets import Net, Way
from snncc.ir.const import each_channel
from snncc.ir.interp import run
from snncc.ir.nodes import Reset
from snncc.mapping.mapped import INPUT
from snncc_loihi.fixed import LIF, Conv, Population
from snncc_loihi.fixed_network import FixedNetwork, Link


def links(net):
    """Connections of all pieces, through Conv, which takes any int8 weights as they are."""
    for piece in net.pieces:
        for c in piece.connections:
            a = c.address
            conv = Conv(net.tensors[c.weight], a.stride, a.padding, a.dilation, a.groups)
            yield Link(c.source, piece.name, conv, c.delay)


def population(piece, net):
    return Population(
        piece.shape,
        piece.cell,
        graded=piece.graded,
        micro_steps=net.period,
        steps=net.steps,
        first=piece.phase,
    )


def lif(piece, net):
    """Lava's own LIF of a piece as the contract has it: gain 64, threshold 64·vth, precharge -1."""
    return LIF(
        piece.shape,
        vth=piece.cell.theta // 64,
        du=4095,
        dv=4096 - piece.cell.decay,
        bias_mant=each_channel(piece.cell.bias, piece.shape[0]).reshape(-1, 1, 1) // 64,
        bias_exp=6,
        v_init=each_channel(piece.cell.v_init, piece.shape[0]).reshape(-1, 1, 1),
        begin=piece.phase,
        end=piece.phase + net.steps,
    )


def counts(net, x, neurons):
    """Spikes (a readout: membranes) of each piece in each timestep, [T, *shape] by name."""
    fixed = FixedNetwork({INPUT: net.shape}, {p.name: neurons(p, net) for p in net.pieces}, tuple(links(net)))
    end = max(p.phase for p in net.pieces) + net.steps * net.period
    events = np.zeros((end, *net.shape), np.int64)
    for t in range(net.steps):
        for d in range(net.period):
            events[t * net.period + d] = x[t] > d
    traces = fixed.run({INPUT: events})
    found = {}
    for p in net.pieces:
        of_steps = traces[p.name].spikes[p.phase : p.phase + net.steps * net.period]
        found[p.name] = of_steps.reshape(net.steps, net.period, *p.shape).sum(axis=1)
    return found


def assert_equal(net, neurons):
    x = np.random.default_rng(net.seed + 1).integers(0, net.levels + 1, (net.steps, *net.shape))
    names = tuple(p.name for p in net.pieces)
    expected = run(net.graph(), x[None], keep=names).values
    found = counts(net, x, neurons)
    for name in names:
        assert found[name].any(), f"{name} is silent: the comparison says nothing"
        assert found[name].ravel().tolist() == expected[name].ravel().tolist()


@pytest.mark.parametrize("seed", range(12))
def test_windows(seed):
    d = 3 if seed % 2 else 4
    p = d + (seed % 5 == 4)  # some with a spare micro-step
    net = Net((2, 6, 5), levels=d, steps=3, period=p, seed=seed)
    leak = {"decay": 3000, "decay_bits": 12} if seed % 3 else {"decay": 1, "decay_bits": 0}
    reset = {"reset": Reset.VALUE, "reset_to": 3} if seed % 4 == 0 else {"reset": Reset.SUBTRACT}
    common = {"max_spikes": d, "precharge": 15, "threshold": 30, **leak, **reset}
    bias = np.arange(-3, 1)
    net.layer("a", 4, Way(kernel=(3, 2), padding=(1, 0)), phase=p, bias=bias, v_min=-40, **common)
    skip = Way(kernel=(3, 2), padding=(1, 0), delay=p)
    net.layer("b", 4, Way("a", kernel=(3, 3), padding=(1, 1), groups=2), skip, phase=2 * p, **common)
    net.layer("r", 3, Way("b", kernel=None), threshold=1, max_spikes=0, phase=3 * p, bias=2, decay=1)
    assert_equal(net, population)


def native(seed, **fields):
    net = Net((2, 6, 5), levels=1, steps=9, period=1, seed=seed)
    net.layer("a", 3, Way(kernel=(2, 3), stride=(2, 1)), phase=1, max_spikes=1, **fields)
    skip = Way(kernel=(2, 3), stride=(2, 1), delay=1)
    net.layer("b", 3, Way("a", kernel=(3, 1), padding=(1, 0)), skip, phase=2, max_spikes=1, **fields)
    return net


@pytest.mark.parametrize("seed", range(8))
def test_soft_reset_of_each_step(seed):
    fields = {"threshold": 21, "decay": 3500, "decay_bits": 12, "bias": np.arange(-1, 2), "v_min": -50}
    assert_equal(native(seed, **fields), population)


@pytest.mark.parametrize("seed", range(8))
def test_hard_reset_is_lavas_own_neuron(seed):
    fields = {"threshold": 64 * 14, "gain": 64, "precharge": -1, "reset": Reset.VALUE}
    net = native(seed, **fields, decay=3700, decay_bits=12, bias=64 * np.arange(-1, 2))
    assert_equal(net, lif)
    assert_equal(net, population)
