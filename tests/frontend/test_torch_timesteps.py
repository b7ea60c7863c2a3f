"""Which axis of the example is time, and how many timesteps a module makes itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snncc_torch
from captured_zoo import traced
from snncc.errors import SnnccError
from snncc_torch import capturing, zoo
from snncc_torch.nn import LIF, SFA, PerStep


class Repeats(nn.Module):
    """Shows a static [B, 2, 4] for ``steps`` timesteps, as ``make`` has it."""

    def __init__(self, steps: int, make: str) -> None:
        super().__init__()
        self.steps, self.make = steps, make
        self.fc, self.lif = PerStep(nn.Linear(4, 5)), LIF(v_threshold=0.2)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        match self.make:
            case "repeat":
                x = x.repeat(self.steps, 1, 1, 1)
            case "stack":
                x = torch.stack([x] * self.steps)
            case "expand":
                x = x.unsqueeze(0).expand(self.steps, -1, -1, -1)
        y: Tensor = self.lif(self.fc(x)).mean(0)
        return y


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("make", ["repeat", "stack", "expand"])
def test_timesteps_that_the_module_makes_are_found(make: str, steps: int, batch: int) -> None:
    """Also where the example has as many samples as the module makes timesteps."""
    torch.manual_seed(0)
    graph = snncc_torch.capture(Repeats(steps, make), torch.rand(batch, 2, 4)).graph
    assert (graph.steps, graph.input.shape) == (steps, (2, 4))


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (3, 1), (3, 3), (3, 2)])
def test_timesteps_of_the_example(steps: int, batch: int) -> None:
    torch.manual_seed(0)
    graph = snncc_torch.capture(Repeats(0, "takes time"), torch.rand(steps, batch, 2, 4)).graph
    assert (graph.steps, graph.input.shape) == (steps, (2, 4))


def test_what_is_said_counts() -> None:
    """A first size equal to T is time; a module that then fails is told as it is."""
    torch.manual_seed(0)
    graph = snncc_torch.capture(Repeats(3, "repeat"), torch.rand(1, 2, 4), timesteps=3).graph
    assert (graph.steps, graph.input.shape) == (3, (2, 4))
    with pytest.raises(SnnccError, match=r"^\[SNNC-U005\] timesteps: "):
        snncc_torch.capture(nn.Sequential(nn.Linear(4, 5), SFA()).eval(), torch.rand(2, 4), timesteps=3)


@pytest.mark.parametrize(
    "name", ["spikformer", "sew-resnet-basic-add", "spikingformer-events", "e-spikeformer"]
)
def test_models_of_the_zoo_need_no_timesteps(name: str) -> None:
    module, example, found = traced(name)
    form = capturing.trace(module, example).form
    assert form == found.form
    assert form.steps == getattr(module, "T", 1)


def test_a_neuron_inside_that_never_runs_is_no_obstacle() -> None:
    torch.manual_seed(0)
    module = Repeats(3, "repeat")
    module.unused = LIF()
    module.eval()
    assert snncc_torch.capture(module, torch.rand(1, 2, 4)).graph.steps == 3


def test_a_module_of_one_timestep_can_be_said_to_be_one() -> None:
    module, example = (
        zoo.spikformer(
            "1-32", img_size=16, T=1, heads=2, mlp_ratio=1, pools=(False, True, False, True)
        ).eval(),
        torch.rand(1, 3, 16, 16),
    )
    assert [snncc_torch.capture(module, example, t).graph.steps for t in (None, 1)] == [1, 1]
