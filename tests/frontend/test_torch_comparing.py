"""The comparison itself: which inputs the module runs on, flipped spikes, which layer is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snncc_torch
from snncc.errors import ModelError
from snncc.ir import Const, Graph, Linear
from snncc_torch.capturing import trace
from snncc_torch.comparing import lockstep
from snncc_torch.nn import LIF, SFA, OverTime, PerStep


def network(inputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = PerStep(nn.Linear(inputs, 5)), LIF(v_threshold=0.2), PerStep(nn.Linear(5, 4), nn.Linear(4, 4))
    return nn.Sequential(*layers, OverTime()).eval()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs that the module is run on beside the graph."""
    seen: list[tuple[int, ...]] = []
    real = lockstep._run_both

    def counted(traced: lockstep.Traced, lockstep: lockstep._Lockstep, given: Tensor) -> object:
        seen.append(tuple(given.shape))
        return real(traced, lockstep, given)

    monkeypatch.setattr(lockstep, "_run_both", counted)
    return seen


@pytest.mark.parametrize(("steps", "inputs"), [(1, 3), (2, 3), (2, 2), (4, 2), (3, 1)])
def test_the_second_input_runs_in_one_batch_with_the_first(
    steps: int, inputs: int, runs: list[tuple[int, ...]]
) -> None:
    model = snncc_torch.capture(network(inputs), torch.zeros(steps, 1, inputs))
    assert runs == [(steps, 1, inputs), (steps, 2, inputs)]
    found = model.comparison
    assert found is not None
    # Results of three layers and the drive of a neuron at each step; and what comes out in the end.
    assert found.values == 2 * (steps * (5 + 5 + 4 + 4) + 4)
    note = f"{found.equal} of {found.values} compared values are bitwise those of the module"
    assert model.notes[-1] == note
    assert found.equal > found.values // 4


class ThroughBatch(nn.Module):
    """A neuron to which the batch is time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(3, 4), LIF(v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 3] → [B, 4]."""
        return torch.unflatten(self.lif(self.fc(x.flatten(0, 1))), 0, x.shape[:2]).mean(0)


class OneSample(nn.Module):
    """Batch 1 is written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fire = nn.Linear(3, 4), SFA()

    def forward(self, x: Tensor) -> Tensor:
        """[T, 1, 3] → [1, 4]."""
        y: Tensor = self.fire(self.fc(x.view(5, 1, 3)) + 1).mean(0)
        return y


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (ThroughBatch, "samples of a batch influence each other in the module"),
        (OneSample, "the module does not run at batch 2; captured at batch 1"),
    ],
)
def test_where_a_batch_is_not_two_samples_the_second_runs_alone(
    module: type[nn.Module], note: str, runs: list[tuple[int, ...]]
) -> None:
    torch.manual_seed(0)
    model = snncc_torch.capture(module().eval(), torch.zeros(5, 1, 3), timesteps=5)
    assert runs == [(5, 1, 3), (5, 2, 3), (5, 1, 3)]
    assert [n for n in model.notes if n.startswith(note)]


class FirstOnly(nn.Module):
    """Delivers the first sample's result alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = PerStep(nn.Linear(3, 4)), LIF(v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 3] → [1, 4]."""
        y: Tensor = self.lif(self.fc(x))[:, :1].mean(0)
        return y


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (ThroughBatch, "samples of a batch influence each other in the module"),
        (FirstOnly, "two samples of a batch have one result in the module; captured at batch 1"),
    ],
)
def test_where_time_is_known_a_batch_that_mixes_is_told_whatever_the_example(
    module: type[nn.Module], note: str
) -> None:
    torch.manual_seed(0)
    for batch in (1, 3):
        model = snncc_torch.capture(module().eval(), torch.rand(5, batch, 3))
        assert model.graph.steps == 5
        assert [n for n in model.notes if n.startswith(note)]


def planted(graph: Graph, name: str, bias: np.ndarray) -> Graph:
    """``graph`` with ``bias`` in place of that of the layer ``name``."""

    def change(node: object) -> object:
        return replace(node, bias=Const(bias)) if isinstance(node, Linear) and node.name == name else None

    return graph.rewrite(change)


def test_a_spike_may_flip_at_the_threshold_and_its_effect_is_told() -> None:
    """On the second input the neuron is given what the module's own layer delivers: no spike flips."""
    net = nn.Sequential(nn.Linear(3, 4), SFA(4), nn.Linear(4, 2, bias=False)).eval()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([0.5, 2.5, 1.0, 0.5]))  # two to even, down: 0 and 2
        net[2].weight.fill_(3.0)
    found = trace(net, torch.zeros(1, 3))
    above = np.nextafter(np.float32([0.5, 2.5, 1.0, 0.25]), np.float32(9))
    above[3] = 0.5
    graph = planted(found.graph, "0", above)
    made, _ = lockstep.compare(graph, found)
    assert (made.flips, made.end_to_end) == (2, 6.0)
    straight, _ = lockstep.compare(found.graph, found)
    assert (straight.flips, straight.end_to_end) == (0, 0.0)


@pytest.mark.parametrize("name", ["0.0", "2.0", "2.1"])
def test_only_the_layer_that_is_wrong_is_named(name: str) -> None:
    """The layers behind it are given what the module's own layer delivers."""
    found = trace(network(), torch.zeros(4, 1, 3))
    bias = dict(found.module.named_parameters())[f"{name}.bias"].detach().numpy()
    wrong = bias + np.float32([0.001, *(0 for _ in bias[1:])])
    with pytest.raises(ModelError) as caught:
        lockstep.compare(planted(found.graph, name, wrong), found)
    assert [(p.code, p.where) for p in caught.value.problems] == [("SNNC-M006", name)]
