"""What the papers count is the trained network's, whatever a chip's lowering made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snncc
import snncc_torch
from snncc.data import Dataset, as_dataset
from snncc.model import Model
from snncc_torch.nn import IF, SFA, OverTime, PerStep, Residual

CHIPS = ("sim", "loihi2", "speck2f")


def depthwise() -> nn.Module:
    """A depthwise convolution, which Speck stores as a dense one, and a 1×5 kernel, which it pads."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), SFA(3), nn.Conv2d(4, 4, 3, padding=1, groups=4), SFA(3),
        nn.Conv2d(4, 3, (1, 5), padding=(0, 2)), SFA(3), nn.Flatten(), nn.Linear(3 * 8 * 7, 5),
    )  # fmt: skip


def shortcuts() -> nn.Module:
    """Membrane shortcuts, whose weights are copied or whose sums are relayed."""

    def block() -> nn.Module:
        return Residual(nn.Sequential(IF(1.0), PerStep(nn.Conv2d(4, 4, 3, padding=1, bias=False))))

    return nn.Sequential(
        PerStep(nn.Conv2d(2, 4, 3, padding=1)), IF(0.5), PerStep(nn.Conv2d(4, 4, 3, padding=1)), block(), block(),
        IF(0.5), PerStep(nn.Flatten(), nn.Linear(4 * 8 * 7, 5)), OverTime(False),
    )  # fmt: skip


def run_and_count(module: nn.Module, batches: list[Tensor]) -> tuple[float, float]:
    """Accumulates by the papers' rule, and spikes a neuron and timestep, by hooks in PyTorch: a sample."""
    acs, fired = [], [0.0, 0]

    def weighted(m: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(m, nn.Conv2d | nn.Linear)
        acs.append(float(args[0].double().mean()) * out[0].numel() * m.weight[0].numel() * args[0].shape[0])

    def spiking(m: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        fired[0] += float(out.sum())
        fired[1] += out.numel()

    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            m.register_forward_hook(weighted)
        elif isinstance(m, IF | SFA):
            m.register_forward_hook(spiking)
    with torch.no_grad():
        for x in batches:
            module(x)
    return sum(acs) / len(batches), fired[0] / fired[1]


def made(module: nn.Module, steps: int) -> tuple[Model, Dataset, list[Tensor]]:
    torch.manual_seed(2)
    for p in module.parameters():
        nn.init.uniform_(p, -0.4, 0.7)
    shape = (1, 2, 8, 7) if steps == 1 else (steps, 1, 2, 8, 7)
    model = snncc_torch.capture(module.eval(), torch.zeros(shape), input_levels=1)
    x = (np.random.default_rng(1).random((4, steps, 2, 8, 7)) < 0.4).astype(np.int64)
    batches = [torch.tensor(s, dtype=torch.float32).reshape(shape) for s in x]
    return model, as_dataset(x, None, model.graph, "x"), batches


@pytest.mark.parametrize(
    ("build", "steps", "chips"), [(depthwise, 1, CHIPS), (shortcuts, 3, ("sim", "loihi2"))]
)
def test_no_lowering_changes_the_papers_figures(
    build: object, steps: int, chips: tuple[str, ...], tmp_path: Path
) -> None:
    module = build()  # type: ignore[operator]
    model, data, batches = made(module, steps)
    acs, rate = run_and_count(module, batches)
    alone = snncc.energy(model, data)
    assert alone.total.acs_paper == pytest.approx(acs, rel=1e-6)
    assert alone.figures.firing_rate == pytest.approx(rate, rel=1e-6)
    lowered = set()
    for chip in chips:
        artifact = snncc.compile(model, target=chip, out=tmp_path / chip, calib=data)
        cost = snncc.simulate(artifact, data, workers=1).cost
        papers = next(e for e in cost.energy if e.model == "paper45")
        assert papers == alone.energies[0]
        assert (cost.firing_rate, cost.acs_paper) == (alone.figures.firing_rate, alone.total.acs_paper)
        lowered.add(sum(layer.operations.neurons for layer in cost.layers))
    trained = sum(n.neurons for n in alone.figures.neurons)
    assert build is depthwise or max(lowered) > trained  # relays are neurons of the chip alone
