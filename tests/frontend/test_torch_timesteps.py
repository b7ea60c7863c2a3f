"""Which axis of the example is time, and how many timesteps a module makes itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snncc_torch
from captured_zoo import traced
from snncc.errors import SnnccError
from snncc.ir import AddConst, Graph
from snncc.ir.interp import run
from snncc_torch import capturing, zoo
from snncc_torch.comparing import lockstep
from snncc_torch.nn import IF, LIF, SFA, OverTime, PerStep


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


@pytest.mark.parametrize(("said", "batch"), [(None, 1), (None, 2), (None, 3), (3, 1), (3, 2)])
def test_features_as_many_as_the_timesteps_that_the_module_makes_are_no_time(
    said: int | None, batch: int
) -> None:
    torch.manual_seed(0)
    graph = snncc_torch.capture(Repeats(3, "repeat"), torch.rand(batch, 3, 4), said).graph
    assert (graph.steps, graph.input.shape) == (3, (3, 4))


class BatchFirst(Repeats):
    """[B, T, 2, 4], turned round inside; a static [B, 2, 4] is repeated."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if x.dim() == 4 else x.repeat(self.steps, 1, 1, 1)
        y: Tensor = self.lif(self.fc(x)).mean(0)
        return y


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("said", [None, 3])
def test_multi_step_neurons_show_time_behind_the_batch(said: int | None, batch: int) -> None:
    """Also where there are as many samples as timesteps."""
    torch.manual_seed(0)
    module, x = BatchFirst(5, "either"), torch.rand(batch, 3, 2, 4) * 3
    graph = snncc_torch.capture(module, x, said).graph
    assert (graph.steps, graph.input.shape) == (3, (2, 4))
    got = np.asarray(run(graph, x.numpy()).result)
    np.testing.assert_allclose(got, module(x).detach().numpy(), atol=1e-6)
    assert got.any()
    static = snncc_torch.capture(module, x[:, 0]).graph
    assert (static.steps, static.input.shape) == (5, (2, 4))


def test_another_number_than_the_module_shows_is_not_overruled() -> None:
    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(BatchFirst(5, "either"), torch.rand(1, 3, 2, 4), timesteps=5)
    assert str(caught.value) == (
        f"[SNNC-M004] fc: flatten: a feature axis stands before batch or time, got ['f', 'B', 'f', 'f']. {SAY}\n"
        f"[SNNC-M004] fc: view: mixes batch or time with the features, got [3, 1, 2, 5]. {SAY}\n"
        "[SNNC-M004] lif: neuron: a multi-step neuron needs [T, B, ...], got [3, 1, 2, 5]. Try another number of "
        "timesteps than 5: as many as the example has, or the module makes."
    )


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


# ---- neurons that do not say which axis is time -----------------------------------------------------


class Stateless(nn.Module):
    """An integer neuron and two layers; ``function`` says what they are given, and what becomes of it."""

    def __init__(
        self, function: Callable[[Stateless, Tensor], Tensor], neuron: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.function = function
        self.a, self.n, self.b = nn.Linear(8, 16), neuron or SFA(4), nn.Linear(16, 3)
        self.eval()

    def fired(self, x: Tensor) -> Tensor:
        """Of the rows [N, 8]."""
        y: Tensor = self.n(self.a(x))
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def flattened(m: Stateless, x: Tensor) -> Tensor:
    """[T, B, 8] or [B, T, 8] through [T·B, 8] or [B·T, 8] and back."""
    return m.fired(x.flatten(0, 1)).reshape(*x.shape[:2], -1)


def turned(m: Stateless, x: Tensor) -> Tensor:
    """[T, B, 8] through [B·T, 8]."""
    y = m.fired(x.permute(1, 0, 2).reshape(-1, 8))
    return y.reshape(x.shape[1], x.shape[0], -1).permute(1, 0, 2)


def result(graph: Graph, x: Tensor, axis: int) -> np.ndarray:
    """What ``graph`` makes of the samples of ``x``, whose time axis is given; [N, ...]."""
    samples = x.movedim(axis, 1).numpy() if graph.steps > 1 or axis == 0 else x[:, None].numpy()
    return np.asarray(run(graph, samples).result)


OVER_TIME = {
    "mean": lambda m, x: m.b(flattened(m, x).mean(0)),
    "mean of heads": lambda m, x: m.b(flattened(m, x)).mean(0),
    "sum": lambda m, x: nn.functional.linear(flattened(m, x).sum(0), m.b.weight),
    "no view": lambda m, x: m.b(m.fired(x).mean(0)),
    "the other order": lambda m, x: m.b(turned(m, x).mean(0)),
    "view": lambda m, x: m.b(m.fired(x.reshape(-1, 8)).view(len(x), -1, 16).mean(0)),
}


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("function", OVER_TIME.values(), ids=OVER_TIME)
def test_time_is_what_has_one_result(function: Callable[..., Tensor], batch: int) -> None:
    """Neurons without state take it for a batch; also where there are as many samples as timesteps."""
    torch.manual_seed(0)
    module, x = Stateless(function), torch.rand(4, batch, 8) * 4
    model = snncc_torch.capture(module, x)
    assert (model.graph.steps, model.graph.input.shape) == (4, (8,))
    assert not model.notes[1:-1]
    np.testing.assert_allclose(result(model.graph, x, 0), module(x).detach().numpy(), atol=1e-5)


def test_a_number_of_timesteps_that_is_written_into_the_module() -> None:
    torch.manual_seed(0)
    module = Stateless(lambda m, x: m.b(m.fired(x.view(-1, 8)).view(4, -1, 16).mean(0)))
    x = torch.rand(4, 3, 8) * 4
    graph = snncc_torch.capture(module, x).graph
    assert graph.steps == 4
    np.testing.assert_allclose(result(graph, x, 0), module(x).detach().numpy(), atol=1e-5)


BATCH_FIRST = {
    "mean": lambda m, x: m.b(flattened(m, x).mean(1)),
    "sum": lambda m, x: nn.functional.linear(flattened(m, x).sum(1), m.b.weight),
    "each": lambda m, x: m.b(flattened(m, x)),
    "transposed": lambda m, x: m.b(flattened(m, x.transpose(0, 1)).mean(0)),
}


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("function", BATCH_FIRST.values(), ids=BATCH_FIRST)
def test_time_behind_the_batch_is_found_by_its_size(function: Callable[..., Tensor], batch: int) -> None:
    torch.manual_seed(0)
    module, x = Stateless(function), torch.rand(batch, 4, 8) * 4
    graph = snncc_torch.capture(module, x, timesteps=4).graph
    assert (graph.steps, graph.input.shape) == (4, (8,))
    # As many samples as timesteps, each with a result of its own: either axis may be time.
    axis = 0 if batch == 4 and module(x).dim() == 3 else 1
    got = result(graph, x, axis)
    np.testing.assert_allclose(got if axis else got.swapaxes(0, 1), module(x).detach().numpy(), atol=1e-5)


def test_channels_as_many_as_timesteps_are_no_time() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), SFA(), nn.Flatten()).eval()
    with pytest.raises(
        SnnccError, match=r"^\[SNNC-U005\] timesteps: the module has no time axis, got 3, limit 1"
    ):
        snncc_torch.capture(module, torch.rand(2, 3, 5, 5), timesteps=3)


def test_images_whose_batch_is_averaged_are_no_timesteps() -> None:
    """One channel alone will not do, so that no batch stands behind the first axis."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), SFA(), OverTime()).eval()
    with pytest.raises(SnnccError, match=r"^\[SNNC-M004\] 2: mean: reduces batch, got \[0\]"):
        snncc_torch.capture(module, torch.rand(2, 3, 5, 5))


TAKEN_FOR_TIME = "the first axis of the example is taken for time: timesteps=1, if it is the batch"
TAKEN_FOR_BATCH = "the first axis of the example is taken for the batch: timesteps=T, if it is time"


def test_a_result_at_each_timestep() -> None:
    """It says nothing of time: an axis of size 1 behind the first is the batch; what is said, counts."""
    torch.manual_seed(0)
    module, x = Stateless(lambda m, x: m.b(flattened(m, x))), torch.rand(4, 1, 8) * 4
    guessed, told, batch = (snncc_torch.capture(module, x, steps) for steps in (None, 4, 1))
    assert [m.graph.steps for m in (guessed, told, batch)] == [4, 4, 1]
    assert [TAKEN_FOR_TIME in m.notes for m in (guessed, told, batch)] == [True, False, False]
    np.testing.assert_allclose(result(guessed.graph, x, 0), module(x).detach().numpy()[None, :, 0], atol=1e-5)


def test_what_may_be_a_batch_or_time_is_taken_for_a_batch_with_a_word() -> None:
    torch.manual_seed(0)
    rows = Stateless(lambda m, x: m.b(m.fired(x)))
    model = snncc_torch.capture(rows, torch.rand(4, 2, 8))
    assert (model.graph.steps, model.graph.input.shape) == (1, (2, 8))
    assert TAKEN_FOR_BATCH in model.notes
    single = Stateless(lambda m, x: m.b(m.fired(x)), IF(step_mode="s"))
    assert TAKEN_FOR_BATCH in snncc_torch.capture(single, torch.rand(4, 1, 8)).notes
    images = nn.Sequential(nn.Conv2d(1, 4, 3), SFA(), nn.Flatten()).eval()
    for channels in (torch.rand(4, 1, 5, 5), torch.rand(1, 1, 5, 5)):
        model = snncc_torch.capture(images, channels)
        assert model.graph.input.shape == (1, 5, 5)
        assert not [n for n in model.notes if "axis" in n]


SAY = "Try timesteps=T, if one of the first two axes of the example is time."
LOOP = "Try multi-step neurons that take [T, B, ...] in place of a Python loop over time."


@pytest.mark.parametrize(
    ("function", "shape", "steps", "text"),
    [
        (
            lambda m, x: m.b(flattened(m, x)), (4, 2, 8), None,
            f"[SNNC-M004] model: flatten: mixes batch or time with the features, got [2, 8]. {SAY}",
        ),
        (
            lambda m, x: m.b(flattened(m, x).mean(1)), (2, 4, 8), None,
            f"[SNNC-M004] model: flatten: mixes batch or time with the features, got [4, 8]. {SAY}",
        ),
        (
            lambda m, x: m.b(flattened(m, x.transpose(0, 1)).mean(0)), (2, 4, 8), None,
            "[SNNC-M004] model: flatten: a feature axis stands before batch or time, "
            f"got ['f', 'B', 'f']. {SAY}\n"
            f"[SNNC-M004] model: reshape: mixes batch or time with the features, got [4, 1, 16]. {SAY}",
        ),
        (
            lambda m, x: m.b(flattened(m, x)[-1]), (4, 2, 8), None,
            "[SNNC-M004] model: select: takes one element of an axis, got axis 0. "
            "Try a mean or a sum over time in place of its last step.",
        ),
        (
            lambda m, x: m.b(sum(m.fired(x[t]) for t in range(4)) / 4), (4, 2, 8), None,
            f"[SNNC-M004] model: select: takes one element of an axis, got axis 0. {LOOP}",
        ),
        (
            lambda m, x: m.b(flattened(m, x).mean(0)), (4, 1, 8), 1,
            "[SNNC-M006] result: has another shape on the example, got [4, 3], limit [1, 3]. "
            "Try timesteps=4, if the first axis of the example is time.",
        ),
        (
            lambda m, x: m.b(m.fired(x.view(-1, 8)).view(4, -1, 16).mean(0)), (4, 1, 8), 1,
            "[SNNC-M013] model: the module fails on an input of shape [1, 1, 8], got RuntimeError: shape "
            "'[4, -1, 16]' is invalid for input of size 16. "
            "Try a module that takes one sample, or timesteps=T if an axis of the example is time.",
        ),
    ],
    ids=["each", "batch first", "batch first, transposed", "last", "loop", "told otherwise", "fails"],
)  # fmt: skip
def test_what_cannot_be_read_says_what_helps(
    function: Callable[..., Tensor], shape: tuple[int, ...], steps: int | None, text: str
) -> None:
    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(Stateless(function), torch.rand(shape), steps)
    assert str(caught.value) == text


# ---- the example as it was given --------------------------------------------------------------------


class Mixing(nn.Module):
    """The last sample of a batch gets some of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fire = nn.Linear(3, 4), SFA()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3] → [B, 4]."""
        y: Tensor = self.fire(self.fc(x) * 4)
        return y if len(x) == 1 else torch.cat([y[:-1], y[-1:] + y[:1]])


def test_a_batch_whose_samples_see_each_other_is_not_the_graph() -> None:
    """At batch 1 it is; the user is told, and refused with an example where it is not."""
    torch.manual_seed(0)
    x = torch.rand(3, 3) + 1
    notes = snncc_torch.capture(Mixing(), x[:1]).notes
    assert [n for n in notes if n.startswith("samples of a batch influence each other")]
    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(Mixing(), x)
    assert str(caught.value) == (
        "[SNNC-M006] result: value differs from the module's on the example, got 3 for 7, limit difference "
        "3e-05. Try timesteps=3, if the first axis of the example is time."
    )


def test_an_example_on_which_the_module_fails() -> None:
    def only_small(m: Stateless, x: Tensor) -> Tensor:
        if len(x) > 2:
            raise RuntimeError("too many\nof them")
        return m.b(m.fired(x))

    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(Stateless(only_small), torch.rand(3, 8))
    assert str(caught.value) == (
        "[SNNC-M013] example_input: the module fails on it, got RuntimeError: too many."
    )


class Above(nn.Module):
    """Another function of inputs that are far from those drawn at random."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3] → [B, 3]."""
        return x + torch.relu(x - 100.0)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_graph_is_compared_on_the_numbers_of_the_example(batch: int) -> None:
    found = capturing.trace(Above().eval(), torch.full((batch, 3), 200.0) + torch.arange(3.0))
    wrong = found.graph.rewrite(
        lambda node: replace(node, value=-101.0) if isinstance(node, AddConst) else None
    )
    with pytest.raises(
        SnnccError, match=r"^\[SNNC-M006\] result: value differs from the module's on the example"
    ):
        lockstep.compare(wrong, found)
    assert lockstep.compare(found.graph, found)[0].worst <= 1
