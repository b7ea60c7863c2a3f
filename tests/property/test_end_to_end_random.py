"""Random trained-like PyTorch networks all the way: module = float graph, integers = simulated spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snncc_torch
from random_graphs import chain_graphs, random_inputs, sfa_graphs, speck_graphs, stateful_graphs
from snncc.analysis.free_bounds import free_bounds
from snncc.compilation import Lowered, Options, Target
from snncc.errors import CapacityError
from snncc.ir import Graph
from snncc.ir.batches import in_chunks
from snncc.mapping.build import map_graph
from snncc.model import Model
from snncc.simulation import Activity
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM
from snncc_speck import SPECK2F
from snncc_torch.nn import SFA

RELAXED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Shape:
    """What hypothesis varies about a network."""

    size: tuple[int, int, int]
    levels: int
    normalize: bool
    residual: bool
    stride: int
    pool: bool
    spiking_end: bool
    seed: int


class Net(nn.Module):
    """Conv, BN, SFA twice with an optional spike shortcut, pooling, and a linear end."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        torch.manual_seed(s.seed)
        c, h, w = s.size
        self.stem = nn.Conv2d(c, 4, 3, stride=s.stride, padding=1)
        self.bn1, self.sfa1 = nn.BatchNorm2d(4), SFA(s.levels, s.normalize)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2, self.sfa2 = nn.BatchNorm2d(4), SFA(s.levels, s.normalize)
        self.residual = s.residual
        self.pool = nn.AvgPool2d(2) if s.pool else nn.Identity()
        h, w = -(-h // s.stride), -(-w // s.stride)
        self.fc = nn.Linear(4 * (h // (1 + s.pool)) * (w // (1 + s.pool)), 5)
        self.end = SFA(s.levels, s.normalize) if s.spiking_end else nn.Identity()
        for bn in (self.bn1, self.bn2):
            nn.init.uniform_(bn.weight, 0.5 * s.levels, 1.5 * s.levels)
            nn.init.uniform_(bn.bias, -0.5, 1.0)
            bn.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
            bn.running_var.uniform_(0.3, 2.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        first = self.sfa1(self.bn1(self.stem(x)))
        x = self.sfa2(self.bn2(self.conv(first)))
        if self.residual:
            x = first + x
        out: Tensor = self.end(self.fc(torch.flatten(self.pool(x), 1)))
        return out


shapes = st.builds(
    Shape,
    size=st.sampled_from([(1, 6, 10), (2, 8, 6), (3, 10, 4)]),
    levels=st.sampled_from([1, 2, 4, 8]),
    normalize=st.booleans(),
    residual=st.booleans(),
    stride=st.sampled_from([1, 2]),
    pool=st.booleans(),
    spiking_end=st.booleans(),
    seed=st.integers(0, 2**31),
)


def executed(lowered: Lowered, x: np.ndarray) -> Activity:
    return SIMULATOR.execute(
        lowered.mapped, lowered.tensors, x.reshape(len(x), -1, *lowered.mapped.inputs[0].shape)
    )


def equals_integers(lowered: Lowered, activity: Activity, x: np.ndarray) -> None:
    """Every neuron of every layer and the decoded result, bit for bit."""
    integer = in_chunks(lowered.integer_graph, x)
    for piece in lowered.mapped.pieces:
        got = activity.counts[piece.name]
        want = integer.values[piece.name].reshape(got.shape)
        if piece.is_readout:
            got, want = got[:, -1:], want[:, -1:]
        assert np.array_equal(got, want), piece.name
    assert np.array_equal(activity.result, integer.result)


def simulated_equals_integers(lowered: Lowered, x: np.ndarray) -> None:
    """On the calibration inputs themselves, which no range may exclude."""
    activity = executed(lowered, x)
    equals_integers(lowered, activity, x)
    assert not any(a.out_of_range for a in activity.layers)


def lowers(target: Target, model: Model, calibration: np.ndarray) -> Lowered | None:
    try:
        return target.lower(model, calibration, Options())
    except CapacityError:
        assert target is SPECK2F
        return None


@RELAXED
@given(shapes)
def test_module_to_simulated_chip(shape: Shape) -> None:
    module = Net(shape).eval()
    model = snncc_torch.capture(module, torch.zeros(1, *shape.size), input_levels=shape.levels)
    assert model.comparison is not None
    assert model.comparison.worst <= 1
    assert model.comparison.layers >= 3
    x = random_inputs(model.graph, 6, shape.seed % 1000)
    for target in (SIM, SPECK2F):
        lowered = lowers(target, model, x)
        if lowered is not None:
            simulated_equals_integers(lowered, x)


@settings(RELAXED, max_examples=40)
@given(sfa_graphs(), st.integers(0, 2**16), st.sampled_from([SIM, SPECK2F]))
def test_graph_to_simulated_chip(graph: Graph, seed: int, target: Target) -> None:
    x = random_inputs(graph, 6, seed)
    lowered = lowers(target, Model(graph), x)
    if lowered is not None:
        simulated_equals_integers(lowered, x)


@settings(RELAXED, max_examples=40)
@given(speck_graphs(), st.integers(0, 2**16))
def test_speck_holds_every_network_made_for_it(graph: Graph, seed: int) -> None:
    """Calibrated on other inputs than those compared: a sample outside its range must be reported."""
    lowered = SPECK2F.lower(Model(graph), random_inputs(graph, 6, seed), Options())
    x = random_inputs(graph, 4, seed + 1)
    activity = executed(lowered, x)
    if not any(a.out_of_range for a in activity.layers):
        equals_integers(lowered, activity, x)
    full = executed(lowered, np.full_like(x, graph.input.levels))
    proven = {r.layer for r in lowered.certificate.ranges if r.proven}
    assert not [a.name for a in full.layers if a.out_of_range and a.name in proven]


@settings(RELAXED, max_examples=30)
@given(stateful_graphs(), st.integers(0, 2**16))
def test_timesteps_on_the_clocked_chip(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 6, seed)
    simulated_equals_integers(SIM.lower(Model(graph), x, Options()), x)


@settings(RELAXED, max_examples=30)
@given(chain_graphs(), st.integers(0, 2**16))
def test_features_in_a_row_on_the_clocked_chip(graph: Graph, seed: int) -> None:
    """Spikes that skip several layers wait for all of them."""
    x = random_inputs(graph, 4, seed)
    simulated_equals_integers(SIM.lower(Model(graph), x, Options()), x)


@pytest.mark.campaign
@settings(RELAXED, max_examples=1500)
@given(chain_graphs(), st.integers(0, 2**16))
def test_campaign_of_features_in_a_row(graph: Graph, seed: int) -> None:
    x = random_inputs(graph, 4, seed)
    simulated_equals_integers(SIM.lower(Model(graph), x, Options()), x)


@pytest.mark.campaign
@settings(RELAXED, max_examples=3000)
@given(st.one_of(sfa_graphs(), stateful_graphs()), st.integers(0, 2**16), st.sampled_from([SIM, SPECK2F]))
def test_campaign(graph: Graph, seed: int, target: Target) -> None:
    x = random_inputs(graph, 4, seed)
    lowered = lowers(target if graph.steps == 1 else SIM, Model(graph), x)
    if lowered is not None:
        simulated_equals_integers(lowered, x)


@settings(RELAXED, max_examples=40)
@given(sfa_graphs(), st.integers(0, 2**16), st.sampled_from([SIM, SPECK2F]))
def test_free_counts_stay_within_their_bounds_in_every_order(graph: Graph, seed: int, target: Target) -> None:
    x = random_inputs(graph, 3, seed)
    try:
        lowered = target.lower(Model(graph), x, Options("free"))
    except CapacityError:
        return
    bounds = free_bounds(lowered.integer_graph, x, capped=lowered.mapped.pieces[0].capped)
    counts = x.reshape(len(x), -1, *lowered.mapped.inputs[0].shape)
    for shuffle in (None, 1, 2):
        activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, counts, shuffle=shuffle)
        for piece in (p for p in lowered.mapped.pieces if not p.is_readout):
            low, high = bounds[piece.name]
            got = activity.counts[piece.name].reshape(high.shape)
            assert (got >= low).all(), piece.name
            assert (got <= high).all(), piece.name


@RELAXED
@given(sfa_graphs(groups=False), st.integers(0, 2**16), st.sampled_from([SIM, SPECK2F]))
def test_free_schedule_is_the_reference_event_order(graph: Graph, seed: int, target: Target) -> None:
    """The event engine on the mapped network = the interpreter on the free spike graph.

    Where Speck needs a larger, squared kernel, its zero taps visit neurons that the graph does not.
    """
    x = random_inputs(graph, 1, seed)
    try:
        lowered = target.lower(Model(graph), x, Options("free"))
    except CapacityError:
        return
    kernels = {c.address.kernel for p in lowered.mapped.pieces for c in p.connections}
    logical, _ = map_graph(
        lowered.spike_graph,
        target="",
        schedule=lowered.mapped.schedule,
        state_bits=32,
        poolings=target.chip.limits.poolings,
    )
    if kernels != {c.address.kernel for p in logical.pieces for c in p.connections}:
        return
    want = in_chunks(lowered.spike_graph, x)
    port = lowered.mapped.inputs[0].shape
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, x.reshape(len(x), -1, *port))
    for piece in lowered.mapped.pieces:
        got = activity.counts[piece.name]
        assert np.array_equal(got, want.values[piece.name].reshape(got.shape)), piece.name
