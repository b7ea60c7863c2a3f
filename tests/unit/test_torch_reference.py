"""Neurons and small networks written once more in plain PyTorch, over random numbers that are exact in binary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import integer_neuron
from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reset,
    Reshape,
    Rounding,
    Scale,
    SynapseOrder,
)
from snncc.ir.interp import run

F = torch.nn.functional
CHANNELS = 3
NUMBERS = {
    "threshold", "decay", "gain", "bias", "reset_by", "reset_to", "v_min", "v_init", "synapse_decay",
}  # fmt: skip


def graph(*nodes: Node, shape: tuple[int, ...], steps: int, family: Family = Family.FLOAT) -> Graph:
    end = Output(name="y", inputs=(nodes[-1].name,), over_time=OverTime.NONE)
    return Graph("g", family, (Input(name="x", shape=shape), *nodes, end), steps)


def as_torch(value: Any) -> torch.Tensor:
    """A number, or one a channel, against [N, C, W]."""
    array = np.asarray(value.array if isinstance(value, Const) else value, np.float64)
    return torch.from_numpy(array).reshape(-1, 1) if array.ndim else torch.tensor(float(array)).double()


def rounded(ratio: torch.Tensor, node: Neuron) -> torch.Tensor:
    if node.rounding is Rounding.HALF_EVEN:
        return torch.round(ratio)
    if node.rounding is Rounding.HALF_UP:
        return torch.floor(ratio + 0.5)
    return torch.ceil(ratio) - 1 if node.strict else torch.floor(ratio)


def in_torch(node: Neuron, x: torch.Tensor) -> torch.Tensor:
    """The canonical neuron on a drive [N, T, C, W], one timestep after the other, without snncc."""
    number = {name: as_torch(getattr(node, name)) for name in NUMBERS if getattr(node, name) is not None}
    v = torch.zeros_like(x[:, 0]) + number["v_init"]
    i, before, found = torch.zeros_like(v), torch.zeros_like(v), []
    for drive in x.unbind(1):
        if node.synapse_decay is not None:
            if node.synapse_order is SynapseOrder.ADD_READ_DECAY:
                drive = i + drive
                i = number["synapse_decay"] * drive
            elif node.synapse_order is SynapseOrder.DECAY_ADD_READ:
                drive = i = number["synapse_decay"] * i + drive
            else:
                drive = i = number["synapse_decay"] * (i + drive)
        u = number["decay"] * v + number["gain"] * drive + number["bias"]
        if node.max_spikes == 0:
            v = u
            found.append(u)
            continue

        def left(u: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            if node.reset is Reset.SUBTRACT:
                return u - n * number.get("reset_by", number["threshold"])
            return torch.where(n > 0, number["reset_to"], u) if node.reset is Reset.VALUE else u

        u = left(u, before) if node.reset_next else u
        n = rounded(u / number["threshold"], node).clamp(0, node.max_spikes)
        v = u if node.reset_next else left(u, n)
        v = v if node.v_min is None else torch.maximum(v, number["v_min"])
        before = n
        found.append(n * node.output_scale)
    return torch.stack(found, 1)


def halves(low: int, high: int, least: float = -99) -> st.SearchStrategy[Any]:
    """Quarters between bounds, one number or one a channel."""
    quarter = st.integers(low, high).map(lambda n: n / 4).filter(lambda n: n >= least)
    channels = st.lists(quarter, min_size=CHANNELS, max_size=CHANNELS)
    return st.one_of(quarter, channels.map(lambda n: Const(np.array(n, np.float32))))


@st.composite
def neurons(draw: st.DrawFn) -> Neuron:
    rounding = draw(st.sampled_from(list(Rounding)))
    powers = st.sampled_from([0.5, 1.0, 2.0, Const(np.array([0.5, 1.0, 4.0], np.float32))])
    synapse = draw(st.sampled_from([None, 0.5, 0.25, Const(np.array([0.5, 1.0, 0.25], np.float32))]))
    return Neuron(
        name="n",
        inputs=("x",),
        # Division by a power of two is exact.
        threshold=draw(powers),
        max_spikes=draw(st.sampled_from([0, 1, 1, 2, 5])),
        rounding=rounding,
        strict=rounding is Rounding.FLOOR and draw(st.booleans()),
        decay=draw(st.sampled_from([0, 0.5, 1.0, 0.75, Const(np.array([0.0, 1.0, 0.5], np.float32))])),
        gain=draw(st.sampled_from([1, 0.5, 2.0, Const(np.array([0.5, 1.0, 2.0], np.float32))])),
        bias=draw(halves(-3, 3)),
        reset=draw(st.sampled_from(list(Reset))),
        reset_by=draw(st.one_of(st.none(), halves(1, 8))),
        reset_to=draw(halves(-4, 2)),
        reset_next=draw(st.booleans()),
        v_min=draw(st.one_of(st.none(), halves(-8, 0))),
        v_init=draw(halves(-4, 4)),
        synapse_decay=synapse,
        synapse_order=draw(st.sampled_from(list(SynapseOrder))),
        output_scale=draw(st.sampled_from([1.0, 0.5])),
    )


def drives(seed: int, steps: int) -> np.ndarray:
    """Halves of both signs, so that many sums lie on a threshold or between two counts."""
    return (np.random.default_rng(seed).integers(-4, 8, (4, steps, CHANNELS, 5)) / 2).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(neurons(), st.integers(1, 5), st.integers(0, 2**16))
def test_the_canonical_neuron_is_a_loop_in_torch(node: Neuron, steps: int, seed: int) -> None:
    x = drives(seed, steps)
    got = run(graph(node, shape=(CHANNELS, 5), steps=steps), x).values["n"]
    want = in_torch(node, torch.from_numpy(x).double()).numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("changed", [
    {"strict": True}, {"reset": Reset.VALUE}, {"reset_by": 0.5}, {"reset_next": True}, {"v_min": 0.0},
    {"v_init": 1.0}, {"bias": 0.25}, {"gain": 0.5}, {"decay": 1.0}, {"synapse_decay": 0.5}, {"max_spikes": 2},
    {"rounding": Rounding.HALF_UP},
], ids=str)  # fmt: skip
def test_each_number_is_seen_by_the_comparison(changed: dict[str, Any]) -> None:
    """The drives above tell every field from its default."""
    plain = Neuron(name="n", inputs=("x",), decay=0.5)
    x = torch.from_numpy(drives(3, 5)).double()
    assert not torch.equal(in_torch(plain, x), in_torch(replace(plain, **changed), x))


# ---- networks -----------------------------------------------------------------------------------


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.integers(-4, 5, shape) / 4).astype(np.float32)


class Residual(torch.nn.Module):
    """conv, bn, SFA; a spike shortcut; average pooling; channels last; a linear end."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 1))
        self.bn = torch.nn.BatchNorm2d(4, eps=0.0)
        self.conv2 = torch.nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.fc = torch.nn.Linear(4 * 2 * 3, 5)
        for p in self.parameters():
            p.data = torch.from_numpy(dyadic(rng, *p.shape))
        self.conv2.weight.data += 0.5
        # A variance of 4^n has an exact root.
        self.bn.running_var = torch.tensor([1.0, 4.0, 0.25, 16.0])
        self.bn.running_mean = torch.from_numpy(dyadic(rng, 4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        s = torch.round(self.bn(self.conv1(x))).clamp(0, 4) / 4
        n = torch.round(self.conv2(s)).clamp(0, 4) / 4
        pooled = F.avg_pool2d(s + n, 2)
        out = self.fc(pooled.permute(0, 2, 3, 1).flatten(1)) * 0.5
        return {"s": s, "n": n, "y": out}


def residual(module: Residual) -> Graph:
    def const(p: torch.Tensor) -> Const:
        return Const(p.detach().numpy())

    sfa = {"max_spikes": 4, "rounding": Rounding.HALF_EVEN, "output_scale": 0.25}
    bn = module.bn
    assert bn.running_mean is not None
    assert bn.running_var is not None
    assert module.conv1.bias is not None
    return graph(
        Conv2d(
            name="c", inputs=("x",), weight=const(module.conv1.weight), bias=const(module.conv1.bias),
            stride=(2, 1), padding=(1, 1),
        ),
        BatchNorm(
            name="b", inputs=("c",), gamma=const(bn.weight), beta=const(bn.bias), mean=const(bn.running_mean),
            var=const(bn.running_var), eps=0.0,
        ),
        Neuron(name="s", inputs=("b",), **sfa),  # type: ignore[arg-type]
        Conv2d(name="d", inputs=("s",), weight=const(module.conv2.weight), padding=(1, 1), groups=2),
        Neuron(name="n", inputs=("d",), **sfa),  # type: ignore[arg-type]
        Add(name="a", inputs=("s", "n")),
        AvgPool2d(name="p", inputs=("a",), kernel=(2, 2), stride=(2, 2)),
        Permute(name="t", inputs=("p",), axes=(1, 2, 0)),
        Reshape(name="f", inputs=("t",), shape=(24,)),
        Linear(name="l", inputs=("f",), weight=const(module.fc.weight), bias=const(module.fc.bias)),
        Scale(name="h", inputs=("l",), factor=0.5),
        shape=(2, 7, 5),
        steps=1,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_a_residual_network_is_its_module(seed: int) -> None:
    rng = np.random.default_rng(seed)
    module = Residual(rng).eval()
    x = (rng.integers(0, 5, (6, 2, 7, 5)) / 4).astype(np.float32)
    with torch.no_grad():
        want = module(torch.from_numpy(x))
    got = run(residual(module), x[:, None])
    for name in ("s", "n"):
        np.testing.assert_array_equal(got.values[name][:, 0], want[name].numpy())
    assert 0.1 < float((want["n"] > 0).float().mean()) < 0.9
    np.testing.assert_array_equal(got.result, want["y"].numpy())


@pytest.mark.parametrize("reset", [Reset.SUBTRACT, Reset.VALUE])
def test_two_branches_of_integrators_over_time_are_their_loop(reset: Reset) -> None:
    """Integers: concatenated channels of two leaky layers drive a third, timestep by timestep, in int64."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.integers(-5, 6, shape).astype(np.int8) for shape in ((3, 4), (2, 4), (3, 5)))
    numbers = {"threshold": 6, "max_spikes": 2, "decay": 3, "decay_bits": 2, "reset": reset, "v_min": -9}
    g = Graph(
        "g",
        Family.INTEGER,
        (
            Input(name="x", shape=(4,), levels=3),
            Linear(name="a", inputs=("x",), weight=Const(a)),
            integer_neuron("m", "a", **numbers),
            Linear(name="b", inputs=("x",), weight=Const(b)),
            integer_neuron("n", "b", **numbers),
            Concat(name="both", inputs=("m", "n"), axis=0),
            Linear(name="c", inputs=("both",), weight=Const(c)),
            integer_neuron("r", "c", max_spikes=0, decay=1),
            Output(name="y", inputs=("r",)),
        ),
        steps=5,
    )
    x = rng.integers(0, 4, (8, 5, 4))

    def fires(v: torch.Tensor, drive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u = torch.sign(v) * torch.div(v.abs() * 3, 4, rounding_mode="floor") + drive
        n = torch.div(u, 6, rounding_mode="floor").clamp(0, 2)
        left = u - 6 * n if reset is Reset.SUBTRACT else torch.where(n > 0, 0, u)
        return n, left.clamp(min=-9)

    va, vb, total = (torch.zeros(8, n, dtype=torch.int64) for n in (3, 2, 3))
    got = run(g, x, ("m", "n", "r")).values
    for t in range(5):
        xt = torch.from_numpy(x[:, t])
        na, va = fires(va, xt @ torch.from_numpy(a).long().T)
        nb, vb = fires(vb, xt @ torch.from_numpy(b).long().T)
        total = total + torch.cat([na, nb], 1) @ torch.from_numpy(c).long().T
        for name, want in (("m", na), ("n", nb), ("r", total)):
            np.testing.assert_array_equal(got[name][:, t], want.numpy())
    assert total.abs().max() > 9
