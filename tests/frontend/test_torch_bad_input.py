"""Modules and arguments that cannot be captured: the whole message, with module path and way out.

Elsewhere: layers and operations without semantics (test_torch_capture.py, test_torch_capture_patterns.py),
neurons that are none (test_torch_neurons.py, test_torch_neurons_traps.py), damaged files (test_torch_ptfile.py).
"""

import copy
import inspect

import pytest
import torch
from torch import nn

import snncc_torch
from frontend.test_torch_neurons import FakeIF, FakeLIF, bear
from frontend.test_torch_neurons_traps import IAF
from snncc.errors import SnnccError
from snncc_torch.nn import IF, LIF, SFA, PerStep


class Forward(nn.Module):
    """A module whose forward is a function; its layers are given by name."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.eval()

    def forward(self, x):
        return self.function(self, x)


def message(module, *shape, timesteps=None):
    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(module, torch.zeros(*shape), timesteps)
    return str(caught.value)


def inner(module):
    """``module`` as ``block.act`` of a network on [1, 3]."""
    net = nn.Sequential(nn.Linear(3, 3), SFA())
    net.add_module("block", nn.Sequential())
    net.block.add_module("act", module)
    return net.eval()


# ---- what depends on the data ---------------------------------------------------------------------


def branch(m, x):
    if x.sum() > 0:
        return x
    return -x


def loop(m, x):
    for _ in range(int(x.max())):
        x = x + 1
    return x


def until(m, x):
    while x.norm() > 1:
        x = x / 2
    return x


def called(m, x):
    return branch(m, x)


@pytest.mark.parametrize(
    ("function", "code", "after"),
    [
        (branch, "if x.sum() > 0:", branch),
        (loop, "for _ in range(int(x.max())):", loop),
        (until, "while x.norm() > 1:", until),
        (called, "if x.sum() > 0:", branch),
    ],
)
def test_python_code_that_depends_on_the_data_is_named_by_module_and_line(function, code, after, capsys):
    assert message(inner(Forward(function)), 1, 3) == (
        "[SNNC-M013] block.act: Python code depends on the data, got "
        f"`{code}` (test_torch_bad_input.py, line {inspect.getsourcelines(after)[1] + 1}). Try tensor operations "
        "in place of if, while, int() and float() on values of a tensor."
    )
    assert capsys.readouterr() == ("", "")


def test_python_code_of_the_model_itself_that_depends_on_the_data():
    """Its own, behind a layer that has returned."""
    module = Forward(lambda m, x: branch(m, m.fc(x)), fc=nn.Linear(3, 3))
    assert message(module, 1, 3).startswith(
        "[SNNC-M013] model: Python code depends on the data, got `if x.sum() > 0:` (test_torch_bad_input.py, line "
    )


def test_what_the_tracer_cannot_follow_is_named_by_module_and_line():
    def to_numpy(m, x):
        return x * float(x.numpy().max())

    text = message(inner(Forward(to_numpy)), 1, 3)
    assert text.startswith("[SNNC-M013] block.act: torch.export cannot trace the module, got RuntimeError: ")
    line = inspect.getsourcelines(to_numpy)[1] + 1
    assert text.endswith(
        f" at `return x * float(x.numpy().max())` (test_torch_bad_input.py, line {line}). Try control flow that "
        "does not depend on the data, or snncc_torch.nn's layers."
    )


def test_a_module_that_fails_is_named():
    assert message(inner(Forward(lambda m, x: x.view(7))), 1, 3) == (
        "[SNNC-M013] block.act: the module fails on an input of shape [1, 3], "
        "got RuntimeError: shape '[7]' is invalid for input of size 3."
    )


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda m, x: x[x > 0], "index"),
        (lambda m, x: x.masked_select(x > 0) * 2, "masked_select"),
        (lambda m, x: x[:, x[0].nonzero()[:, 0]].sum(1), "nonzero"),
        (lambda m, x: x.repeat_interleave(torch.tensor([1, 2, 1]), 1), "repeat_interleave"),
    ],
)
def test_a_shape_that_depends_on_the_data(function, op):
    assert message(inner(Forward(function)), 1, 3) == (
        f"[SNNC-M004] block.act: {op}: the shape of the result depends on the data. "
        "Try a mask that multiplies, in place of a selection."
    )


def test_every_shape_that_depends_on_the_data_is_named():
    net = nn.Sequential(Forward(lambda m, x: x * x.unique().sum()), Forward(lambda m, x: x[x > 0])).eval()
    assert [line.split(":")[0] for line in message(net, 1, 3).splitlines()] == [
        "[SNNC-M004] 0",
        "[SNNC-M004] 1",
    ]


@pytest.mark.parametrize(
    ("function", "use"),
    [
        (lambda m, x: x.select(1, x.sum().int().item()), "select: index"),
        (lambda m, x: torch.full_like(x, x.sum().item()) + x, "full_like: fill_value"),
        (lambda m, x: torch.add(x, x, alpha=x.sum().item()), "add: alpha"),
    ],
)
def test_a_number_that_depends_on_the_data(function, use):
    lines = message(inner(Forward(function)), 1, 3).splitlines()
    lines = [line for line in lines if "reduces batch" not in line and "casts to" not in line]
    assert lines == [
        "[SNNC-M004] block.act: item: reads a number out of a tensor that depends on the data. "
        "Try tensor operations.",
        f"[SNNC-M004] block.act: {use} depends on the data. Try a constant, or one of torch.nn's layers.",
    ]


# ---- neurons, mode, parameters --------------------------------------------------------------------


class Gate(nn.Module):
    """Discontinuous."""

    def forward(self, x):
        return torch.where(x > 0.3, x, torch.zeros_like(x))


class Integrator(nn.Module):
    """Stateful."""

    def __init__(self):
        super().__init__()
        self.register_buffer("v", torch.zeros(1, 3))

    def forward(self, x):
        self.v = self.v * 0.5 + x
        return self.v


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Gate(), "Gate fires or rounds (gt, where)"),
        (Integrator(), "Integrator holds state (v)"),
    ],
)
def test_an_unknown_neuron(module, text):
    assert message(inner(module), 1, 3) == (
        f"[SNNC-M005] block.act: {text} and is no neuron that snncc knows. "
        "Try snncc.register_neuron (docs/support.md)."
    )


def test_one_submodule_in_training_mode_is_named():
    net = inner(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)))
    net.block.act[1].train()
    assert message(net, 1, 3).startswith("[SNNC-M008] block.act.1: is in training mode, got 1 modules. Try ")
    assert message(net, 1, 3).endswith(". Try module.eval().")


def test_a_neuron_with_a_threshold_that_is_no_number():
    net = inner(nn.Identity())
    net.block.act = IF(v_threshold=float("nan")).eval()
    assert message(net, 2, 1, 3) == ("[SNNC-M007] block.act: IF: threshold is not a finite number, got nan.")


@pytest.mark.parametrize(
    ("function", "op"), [(lambda m, x: x * m.gain, "mul"), (lambda m, x: m.gain + x, "add")]
)
def test_a_constant_that_is_no_number(function, op):
    gain = torch.tensor([1.0, float("nan"), float("nan")])
    text = message(inner(Forward(function, gain=gain)), 1, 3)
    assert text == f"[SNNC-M004] block.act: {op}: a constant is NaN, got 2 of its values."


# ---- time -----------------------------------------------------------------------------------------


def multi_step():
    return nn.Sequential(PerStep(nn.Linear(3, 2)), LIF()).eval()


def own_steps(repeats=4):
    return Forward(
        lambda m, x: m.fire(m.fc(x).unsqueeze(0).repeat(repeats, 1, 1)), fc=nn.Linear(3, 2), fire=IF()
    )


@pytest.mark.parametrize("timesteps", [2, 4])
def test_other_timesteps_than_the_example_has(timesteps):
    assert message(multi_step(), 3, 1, 3, timesteps=timesteps) == (
        "[SNNC-M004] 1: neuron: a multi-step neuron needs [T, B, ...], got ['1', 'B', 2]. Try another number of "
        f"timesteps than {timesteps}: as many as the example has, or the module makes."
    )


@pytest.mark.parametrize("timesteps", [0, -1])
def test_no_timesteps(timesteps):
    assert message(multi_step(), 3, 1, 3, timesteps=timesteps) == (
        f"[SNNC-U005] timesteps: must be at least 1, got {timesteps}."
    )


def test_other_timesteps_than_the_module_makes():
    assert message(own_steps(), 1, 3, timesteps=3) == (
        "[SNNC-M004] model: repeat: repeats something else than a static input over time, got [4, 1, 1], "
        "limit 3 timesteps. Try timesteps=4, if the module makes so many.\n"
        "[SNNC-M004] fire: neuron: a multi-step neuron needs [T, B, ...], got ['1', 'B', 2]. Try another number of "
        "timesteps than 3: as many as the example has, or the module makes."
    )


def test_timesteps_of_a_module_without_time():
    net = nn.Sequential(nn.Linear(3, 2), SFA()).eval()
    assert message(net, 1, 3, timesteps=3) == (
        "[SNNC-U005] timesteps: the module has no time axis, got 3, limit 1. "
        "Try an example [3, B, ...], or no timesteps."
    )
    assert snncc_torch.capture(net, torch.zeros(3, 1, 3), timesteps=3).graph.steps == 3
    assert snncc_torch.capture(own_steps(3), torch.zeros(1, 3), timesteps=3).graph.steps == 3


# ---- state of an earlier run ----------------------------------------------------------------------


def with_memory(cls, name, **base):
    node = bear(cls, "spikingjelly.activation_based.neuron." + name[0], name[1])(**base)
    return nn.Sequential(PerStep(nn.Linear(3, 5)), nn.Sequential(node)).eval()


LIF_NODE, IF_NODE = ("lif", "LIFNode"), ("integrate_and_fire", "IFNode")


@pytest.mark.parametrize(
    ("cls", "name", "v_reset"), [(FakeLIF, LIF_NODE, None), (FakeIF, IF_NODE, 0.0), (FakeIF, IF_NODE, -0.5)]
)
def test_state_of_an_earlier_run_is_noted_and_left_alone(cls, name, v_reset):
    torch.manual_seed(0)
    net = with_memory(cls, name, v_reset=v_reset)
    rested = snncc_torch.capture(net, torch.zeros(4, 1, 3))
    net(torch.randn(4, 2, 3) * 3)  # a batch of two
    before = copy.deepcopy({k: v.detach() for k, v in net[1][0]._memories.items()})
    model = snncc_torch.capture(net, torch.zeros(4, 1, 3))
    assert model.graph == rested.graph
    note = "1.0: holds state of an earlier run (v); captured as at rest"
    assert [n for n in model.notes if n not in rested.notes] == [note]
    after = net[1][0]._memories
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_a_sinabs_membrane_is_noted_until_it_is_reset():
    net = nn.Sequential(nn.Linear(3, 5), IAF()).eval()
    net(torch.ones(2, 4, 3))
    note = "1: holds state of an earlier run (v_mem); captured as at rest"
    assert note in snncc_torch.capture(net, torch.zeros(1, 4, 3)).notes
    assert net[1].v_mem.shape == (2, 5)
    net[1].v_mem.detach_().zero_()
    assert note not in snncc_torch.capture(net, torch.zeros(1, 4, 3)).notes


def test_a_membrane_that_is_at_rest_is_not_noted():
    net = with_memory(FakeIF, IF_NODE, v_reset=-0.5)
    net[1][0]._memories["v"] = torch.full((1, 5), -0.5)
    notes = snncc_torch.capture(net, torch.zeros(4, 1, 3)).notes
    assert not [n for n in notes if "earlier run" in n]
