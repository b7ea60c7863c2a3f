"""Pools whose windows differ from site to site: torch's rules captured, and exact down to the engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

import snncc
from snncc.data import Dataset
from snncc.errors import ModelError
from snncc.ir import AvgPool2d, MaxPool2d, Pad, Resample, Upsample
from snncc.ir.interp import run
from snncc_torch import capture
from snncc_torch.nn import LIF, SFA, OverTime, PerStep
from snncc_torch.operations.pools import adaptive, sliding

# Pools of [6, 7], and what they become behind spikes and behind currents.
POOLS: dict[str, tuple[Callable[[], nn.Module], list[type], list[type]]] = {
    "uneven means": (lambda: nn.AdaptiveAvgPool2d((4, 3)), [Resample], [Resample]),
    "enlarging means": (lambda: nn.AdaptiveAvgPool2d((7, 9)), [Resample], [Resample]),
    "copies": (lambda: nn.AdaptiveAvgPool2d((12, 7)), [Upsample], [Upsample]),
    "overlapping means of one size": (lambda: nn.AdaptiveAvgPool2d((2, 3)), [AvgPool2d], [AvgPool2d]),
    "uneven maxima": (lambda: nn.AdaptiveMaxPool2d((4, 5)), [Upsample, MaxPool2d], [Upsample, MaxPool2d]),
    "enlarging maxima": (lambda: nn.AdaptiveMaxPool2d((7, 9)), [Upsample, MaxPool2d], [Upsample, MaxPool2d]),
    "overlapping maxima of one size": (lambda: nn.AdaptiveMaxPool2d((2, 3)), [MaxPool2d], [MaxPool2d]),
    "maxima of partial windows": (
        lambda: nn.MaxPool2d((3, 2), (2, 3), ceil_mode=True),
        [Pad, MaxPool2d],
        [Resample, MaxPool2d],
    ),
    "padded maxima of partial windows": (
        lambda: nn.MaxPool2d(3, (2, 3), padding=1, ceil_mode=True),
        [Pad, MaxPool2d],
        [Resample, MaxPool2d],
    ),
    "means of partial windows": (lambda: nn.AvgPool2d(4, (3, 2), 1, ceil_mode=True), [Resample], [Resample]),
    "means without padding": (
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        [Resample],
        [Resample],
    ),
    "means by another divisor": (
        lambda: nn.AvgPool2d((2, 3), 2, divisor_override=5),
        [Resample],
        [Resample],
    ),
    "a rest": (lambda: nn.AvgPool2d((4, 2)), [AvgPool2d], [AvgPool2d]),
}
UNEVEN = [name for name in POOLS if name not in ("copies", "a rest")]


def _same(net: nn.Module, x: torch.Tensor) -> list[type]:
    model = capture(net.eval(), x[:1])
    with torch.no_grad():
        want = net(x).numpy()
    got = run(model.graph, x.numpy()[:, None].astype(np.float32)).result
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-6, atol=1e-6)
    kinds = AvgPool2d | MaxPool2d | Pad | Resample | Upsample
    return [type(n) for n in model.graph.nodes if isinstance(n, kinds)]


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_computes_what_torch_computes(name: str) -> None:
    torch.manual_seed(2)
    make, behind_spikes, behind_currents = POOLS[name]
    x = torch.randn(3, 2, 6, 7)
    assert _same(nn.Sequential(SFA(2), make()), x) == behind_spikes
    assert _same(nn.Sequential(nn.Conv2d(2, 3, 1), make()), x) == behind_currents


def test_windows_of_every_size_are_torchs() -> None:
    for size, out in itertools.product(range(1, 13), range(1, 15)):
        windows, x = adaptive(size, out), torch.randn(1, size, dtype=torch.float64)
        mean = windows.matrix.array @ x[0].numpy() / windows.divisor
        np.testing.assert_allclose(mean, F.adaptive_avg_pool1d(x, out)[0], atol=1e-12)


def test_partial_windows_of_every_geometry_are_torchs() -> None:
    for size, kernel, stride, padding in itertools.product(range(3, 9), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2)):
        if 2 * padding > kernel or kernel > size + 2 * padding:
            continue
        for counted in (False, True):
            x = torch.randn(1, size, dtype=torch.float64)
            want = F.avg_pool1d(x, kernel, stride, padding, ceil_mode=True, count_include_pad=counted)[0]
            windows = sliding(size, len(want), kernel, stride, padding, counted)
            mean = windows.matrix.array @ x[0].numpy() / windows.divisor
            np.testing.assert_allclose(mean, want, atol=1e-12)


def _network(pool: nn.Module, place: str, steps: int) -> nn.Module:
    """Behind neurons, in front of a linear layer, or of currents in front of neurons."""

    def fire() -> nn.Module:
        return SFA(2) if steps == 1 else LIF(tau=1.5, v_threshold=0.3)

    def each(*layers: nn.Module) -> nn.Module:
        return PerStep(*layers) if steps > 1 else nn.Sequential(*layers)

    torch.manual_seed(4)
    first, second, last = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.LazyLinear(5)
    middle = {
        "weights": (each(pool, second), fire(), each(nn.Flatten(), last)),
        "a linear layer": (each(pool, nn.Flatten(), last),),
        "neurons": (each(second, pool), fire(), each(nn.Flatten(), last)),
    }
    for conv in (first, second):
        conv.bias.data.uniform_(0.0, 0.6)
    end = (OverTime(),) if steps > 1 else ()
    net = nn.Sequential(each(first), fire(), *middle[place], *end)
    net(torch.zeros(steps, 1, 2, 6, 7) if steps > 1 else torch.zeros(1, 2, 6, 7))
    return net.eval()


def _verified(net: nn.Module, steps: int, folder: Path) -> None:
    """Integers, spikes and the engine agree on every count and result; float passes keep the float rule."""
    drawn = torch.rand(8, steps, 2, 6, 7, generator=torch.Generator().manual_seed(1)).numpy()
    model = capture(net, torch.zeros(steps, 1, 2, 6, 7) if steps > 1 else torch.zeros(1, 2, 6, 7))
    calibration, unseen = Dataset(drawn[:6]), Dataset(drawn[2:])
    made = snncc.compile(model, target="sim", out=folder / "out", calib=calibration, verify_each=True)
    found = snncc.verify(made, unseen)
    assert found.equivalent, str(found)
    assert all(layer.mismatches == 0 and layer.compared > 0 for layer in found.layers)
    assert run(made.integer_graph, unseen.x).result.any()


@pytest.mark.parametrize("place", ["weights", "a linear layer", "neurons"])
@pytest.mark.parametrize("name", UNEVEN)
def test_a_pool_is_exact_down_to_the_engine(name: str, place: str, tmp_path: Path) -> None:
    _verified(_network(POOLS[name][0](), place, 1), 1, tmp_path)


@pytest.mark.parametrize("name", ["uneven means", "uneven maxima", "padded maxima of partial windows"])
def test_a_pool_is_exact_over_timesteps(name: str, tmp_path: Path) -> None:
    _verified(_network(POOLS[name][0](), "weights", 3), 3, tmp_path)


def test_dilated_partial_windows_of_currents_are_refused() -> None:
    """The repeated last row may be one that a dilated window steps over."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True), SFA(2))
    with pytest.raises(ModelError) as error:
        capture(net.eval(), torch.zeros(1, 1, 5, 7))
    assert str(error.value) == (
        "[SNNC-M004] 1: max_pool2d: ceil_mode adds partial windows of currents, which are dilated, "
        "got (2, 3). Try ceil_mode=False, or the pooling behind the neuron."
    )
    behind = nn.Sequential(nn.Conv2d(1, 2, 1), SFA(2), nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True))
    assert _same(behind, torch.rand(2, 1, 5, 7)) == [Pad, MaxPool2d]
