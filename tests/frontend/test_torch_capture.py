"""Capture: every supported operation, every refusal with its whole message, no change to the module."""

import copy
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

import snncc_torch
from snncc.errors import ModelError, SnnccError
from snncc.ir import AvgPool2d, Conv2d, Decode, Mean, Neuron, OverTime, Scale, to_text
from snncc.ir.interp import run
from snncc_torch.comparing import lockstep
from snncc_torch.nn import IF, LIF, SFA, PerStep, Residual
from snncc_torch.nn import OverTime as ReduceTime


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


def captured(module, *shape, timesteps=None, levels=0):
    return snncc_torch.capture(module.eval(), torch.zeros(*shape), timesteps, input_levels=levels)


def problems(module, *shape, timesteps=None):
    with pytest.raises(SnnccError) as caught:
        captured(module, *shape, timesteps=timesteps)
    return str(caught.value)


def agree(model, module, x):
    """The interpreter on the graph against the module on one more input, end to end."""
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    steps = x.reshape(1, model.graph.steps, *model.graph.input.shape)
    mine = run(model.graph, steps).result
    np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, atol=1e-4)


# ---- what is captured ---------------------------------------------------------------------------


def test_text_of_a_small_network():
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module(
        "conv", nn.Conv2d(2, 4, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False)
    )
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("fire", SFA(4, normalize=True))
    net.add_module("pool", nn.AvgPool2d(2))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(24, 3, bias=False))
    text = to_text(captured(net, 1, 2, 8, 7, levels=4).graph)
    shapes = [re.sub(r" {.*} :", " :", line.strip()) for line in text.splitlines()[1:-1]]
    assert shapes == [
        "%input = input : spikes<2x8x7, 4>",
        "%conv = conv2d %input : current<4x4x7, f32>",
        "%norm = batchnorm %conv : current<4x4x7, f32>",
        "%fire = neuron %norm : spikes<4x4x7, 4, unit=0.25>",
        "%pool = avg_pool2d %fire : spikes<4x2x3, 16, unit=0.0625>",
        "%flat = reshape %pool : spikes<24, 16, unit=0.0625>",
        "%head = linear %flat : current<3, f32>",
        "%output = output %head : current<3, f32>",
    ]


def test_sources_are_module_paths():
    block = Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), SFA()))
    net = nn.Sequential(nn.Conv2d(1, 2, 1), SFA(), block)
    graph = captured(net, 1, 1, 4, 5).graph
    assert [(n.name, n.source) for n in graph.nodes] == [
        ("input", ""), ("0", "0"), ("1", "1"), ("2.body.0", "2.body.0"), ("2.body.1", "2.body.1"),
        ("2.add", "2"), ("output", ""),
    ]  # fmt: skip
    assert str(graph.types["2.add"]) == "spikes<2x4x5, 8>"
    assert graph.output.decode is Decode.COUNT


def test_capture_is_deterministic():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), SFA(), nn.Flatten(), nn.Linear(36, 2))
    assert to_text(captured(net, 1, 1, 5, 6).graph) == to_text(captured(net, 1, 1, 5, 6).graph)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda m, x: x * 2.0, (3, 4, 5)),
        (lambda m, x: x / 3, (3, 4, 5)),
        (lambda m, x: -x, (3, 4, 5)),
        (lambda m, x: x * torch.tensor([1.0, 2.0, -3.0]).view(3, 1, 1), (3, 4, 5)),
        (lambda m, x: x + 2 * x, (3, 4, 5)),
        (lambda m, x: torch.add(x, x, alpha=0.5) - x, (3, 4, 5)),
        (lambda m, x: F.avg_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 0)), (3, 4, 5)),
        (lambda m, x: F.avg_pool2d(x, 2, ceil_mode=True), (3, 4, 6)),
        (lambda m, x: F.adaptive_avg_pool2d(x, (2, 3)), (3, 4, 6)),
        (lambda m, x: F.adaptive_avg_pool2d(x, 1).flatten(1), (3, 4, 5)),
        (lambda m, x: x.mean((2, 3)), (3, 4, 5)),
        (lambda m, x: x.mean((-1, -2), keepdim=True) + 1 * x.mean((2, 3))[:, :, None, None], (3, 4, 5)),
        (lambda m, x: x.flatten(2).mean(2), (3, 4, 5)),
        (lambda m, x: x.permute(0, 2, 3, 1), (3, 4, 5)),
        (lambda m, x: x.transpose(1, 3).contiguous().view(1, -1), (3, 4, 5)),
        (lambda m, x: x.reshape(x.shape[0], 6, 10).unsqueeze(1).squeeze(1), (3, 4, 5)),
        (lambda m, x: x.unflatten(1, (1, 3)).flatten(1, 2).clone().detach(), (3, 4, 5)),
        (lambda m, x: F.dropout(x, 0.5, training=False).float() * 0.5, (3, 4, 5)),
        (lambda m, x: F.conv2d(x, torch.ones(2, 3, 3, 3), padding="same", dilation=2), (3, 4, 5)),
        (lambda m, x: F.conv2d(x, torch.ones(2, 3, 3, 1), padding="same"), (3, 4, 5)),
        (lambda m, x: F.conv2d(x, torch.ones(2, 3, 2, 2), padding="valid"), (3, 4, 5)),
    ],
)
def test_operations_compute_what_torch_computes(function, shape):
    module = Forward(function)
    model = captured(module, 1, *shape)
    agree(model, module, np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32))


def test_in_place_operations_are_followed():
    def forward(m, x):
        y = m.fire(m.conv(x))
        y += m.skip(y)
        y.mul_(0.5).unsqueeze_(0).squeeze_(0)
        return m.norm(y)

    module = Forward(
        forward, conv=nn.Conv2d(1, 3, 3), fire=SFA(), skip=nn.Conv2d(3, 3, 1), norm=nn.BatchNorm2d(3)
    )
    module.norm.running_mean.normal_()
    model = captured(module, 1, 1, 5, 6)
    agree(model, module, np.random.default_rng(1).normal(size=(1, 1, 5, 6)).astype(np.float32))


def test_constants_are_folded():
    weight = nn.Parameter(torch.tensor([0.5, -1.0]))
    module = Forward(lambda m, x: x * torch.sigmoid(m.gain).view(1, 2, 1, 1), gain=weight)
    (scale,) = [n for n in captured(module, 1, 2, 3, 4).graph.nodes if isinstance(n, Scale)]
    np.testing.assert_allclose(scale.factor.array, torch.sigmoid(weight).detach().numpy())


def test_a_shared_stateless_neuron_has_one_node_a_call():
    module = Forward(
        lambda m, x: m.fire(m.b(m.fire(m.a(x)))), a=nn.Linear(3, 4), b=nn.Linear(4, 5), fire=SFA()
    )
    graph = captured(module, 1, 3).graph
    assert [n.name for n in graph.neurons] == ["fire", "fire_1"]


def test_a_bare_neuron_is_a_model():
    graph = captured(SFA(2), 1, 3).graph
    assert [n.name for n in graph.nodes] == ["input", "neuron", "output"]


def test_pooling_to_one_and_means():
    nodes = captured(Forward(lambda m, x: x.mean((2, 3))), 1, 2, 3, 4).graph.nodes
    assert isinstance(nodes[1], Mean)
    nodes = captured(nn.Sequential(nn.AdaptiveAvgPool2d((1, 2))), 1, 2, 3, 4).graph.nodes
    assert isinstance(nodes[1], AvgPool2d)
    assert (nodes[1].kernel, nodes[1].stride) == ((3, 2), (3, 2))


# ---- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_multi_step_models_lose_their_time_axis(steps):
    torch.manual_seed(steps)
    module = nn.Sequential(
        PerStep(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), LIF(tau=1.5, v_threshold=0.3),
        PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4)), IF(v_threshold=0.2), ReduceTime(),
    ).eval()  # fmt: skip
    model = captured(module, steps, 1, 2, 4, 6)
    assert model.graph.steps == steps
    assert model.graph.input.shape == (2, 4, 6)
    assert model.graph.output.over_time is OverTime.MEAN
    assert model.graph.output.decode is Decode.COUNT
    x = np.random.default_rng(0).normal(size=(steps, 1, 2, 4, 6)).astype(np.float32)
    agree(model, module, x)


@pytest.mark.parametrize(
    ("function", "over_time"),
    [
        (lambda m, x: m.fire(m.fc(x)), OverTime.NONE),
        (lambda m, x: m.fire(m.fc(x)).sum(0), OverTime.SUM),
        (lambda m, x: m.fire(m.fc(x)).mean(0) * 0.5, OverTime.MEAN),
        (lambda m, x: m.head(m.fire(m.fc(x)).mean(0)), OverTime.MEAN),
        (
            lambda m, x: m.fire(m.fc(x.flatten(0, 1)).view(3, 1, -1)).mean(0, keepdim=True).squeeze(0),
            OverTime.MEAN,
        ),
        (
            lambda m, x: m.fire(m.fc(x.reshape(-1, 5)).reshape(x.shape[0], x.shape[1], 4)).mean(0),
            OverTime.MEAN,
        ),
    ],
)
def test_reductions_over_time(function, over_time):
    torch.manual_seed(0)
    module = Forward(function, fc=nn.Linear(5, 4), fire=IF(v_threshold=0.4), head=nn.Linear(4, 2))
    model = captured(module, 3, 1, 5)
    assert model.graph.output.over_time is over_time
    x = np.random.default_rng(0).normal(size=(3, 1, 5)).astype(np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    mine = run(model.graph, x.reshape(1, 3, 5)).result
    np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, atol=1e-5)


def test_a_static_input_repeated_by_the_module():
    module = Forward(
        lambda m, x: m.fire(m.fc(x).unsqueeze(0).repeat(3, 1, 1)).mean(0),
        fc=nn.Linear(5, 4),
        fire=IF(v_threshold=0.4),
    )
    model = captured(module, 1, 5, timesteps=3)
    assert model.graph.steps == 3
    assert "the module repeats a static input over 3 timesteps: feed the same input at each" in model.notes


def test_axes_of_equal_size_are_told_apart():
    """T = C = H = 2: nothing but the order of operations tells the axes apart."""
    torch.manual_seed(1)
    module = nn.Sequential(
        PerStep(nn.Conv2d(2, 2, 1)), IF(v_threshold=0.3), PerStep(nn.Flatten(), nn.Linear(8, 2)), IF()
    ).eval()
    model = captured(module, 2, 1, 2, 2, 2)
    assert [str(model.graph.types[n.name].shape) for n in model.graph.nodes] == [
        "(2, 2, 2)", "(2, 2, 2)", "(2, 2, 2)", "(8,)", "(2,)", "(2,)", "(2,)",
    ]  # fmt: skip


# ---- refusals, whole messages -------------------------------------------------------------------


def test_every_unsupported_layer_is_named_at_once():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ELU(), nn.Hardswish(), SFA(), nn.Conv2d(2, 2, 2, padding="same"), nn.Softplus()
    )
    named = [line.split(". Try ")[0].rstrip(".") for line in problems(net, 1, 1, 8, 8).splitlines()]
    assert named == [
        "[SNNC-M004] 1: operation elu is not supported, got ELU",
        "[SNNC-M004] 2: operation hardswish is not supported, got Hardswish",
        "[SNNC-M004] 4: conv2d: padding 'same' is asymmetric here, got kernel [2, 2], limit odd kernels",
        "[SNNC-M004] 5: operation softplus is not supported, got Softplus",
    ]


@pytest.mark.parametrize(
    ("module", "shape", "text"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")), (1, 1, 5, 4),
            "[SNNC-M004] 0: conv2d: padding 'same' is asymmetric here, got kernel [2, 2], limit odd kernels.",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), (1, 2, 5, 4),
            "[SNNC-M004] 0: batch_norm: normalises by the statistics of the batch. "
            "Try track_running_stats=True and eval().",
        ),
        (
            Forward(lambda m, x: x / x), (1, 3),
            "[SNNC-M004] model: div: divides by a value that depends on the input.",
        ),
        (
            Forward(lambda m, x: x.flatten()), (1, 3, 4),
            "[SNNC-M004] model: flatten: mixes batch or time with the features. "
            "Try flatten(start_dim=1), or 2 behind a time axis.",
        ),
        (
            Forward(lambda m, x: x.squeeze()), (1, 3, 4),
            "[SNNC-M004] model: squeeze: removes the batch axis. Try squeeze(dim) of one feature axis.",
        ),
        (
            Forward(lambda m, x: torch.cat([x, x], 0)), (1, 3),
            "[SNNC-M004] model: cat: joins values over time or batch, got axis 0. Try multi-step neurons that "
            "take [T, B, ...] in place of a Python loop over time.",
        ),
        (
            Forward(lambda m, x: (x, x)), (1, 3),
            "[SNNC-M004] model: must return one tensor, got 2 results. "
            "Try a forward that returns one tensor.",
        ),
        (
            Forward(lambda m, x: torch.zeros(3)), (1, 3),
            "[SNNC-M004] model: the result does not depend on the input.",
        ),
    ],
)  # fmt: skip
def test_refusals(module, shape, text):
    assert problems(module, *shape) == text


def test_a_python_loop_over_time_is_refused_with_advice():
    module = Forward(
        lambda m, x: torch.stack([m.fire(m.fc(t)) for t in x]), fc=nn.Linear(3, 2), fire=IF(step_mode="s")
    )
    text = problems(module, 2, 1, 3, timesteps=2)
    assert "multi-step neurons that take [T, B, ...] in place of a Python loop over time" in text


def test_a_single_step_neuron_that_gets_time_as_a_batch_is_refused():
    """Its state is never seen, so integrating over T would be wrong."""
    module = nn.Sequential(nn.Linear(3, 2), IF(step_mode="s"))
    assert problems(module, 4, 1, 3, timesteps=4) == (
        "[SNNC-M004] 1: neuron: a single-step neuron gets all timesteps as a batch, got ['T', 'B']. Try "
        "multi-step neurons that take [T, B, ...] in place of a Python loop over time."
    )


def test_a_bias_behind_the_sum_over_time_is_refused():
    module = Forward(lambda m, x: m.head(m.fire(x).sum(0)), fire=IF(), head=nn.Linear(3, 2))
    assert problems(module, 2, 1, 3) == (
        "[SNNC-M004] head: linear: adds a constant behind the sum over time. "
        "Try a mean over time, or the sum last."
    )


def test_training_mode():
    net = nn.Sequential(nn.Linear(3, 2), SFA())
    with pytest.raises(
        ModelError,
        match=r"^\[SNNC-M008\] model: is in training mode, got 3 modules\. Try module\.eval\(\)\.$",
    ):
        snncc_torch.capture(net, torch.zeros(1, 3))


def test_nan_and_infinity_are_counted_per_tensor():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), SFA())
    net[0].weight.data[0, 1] = float("nan")
    net[1].running_var[:] = float("inf")
    assert problems(net, 1, 3) == (
        "[SNNC-M007] 0.weight: is not finite, got 1 of 6 values NaN or infinite.\n"
        "[SNNC-M007] 1.running_var: is not finite, got 2 of 2 values NaN or infinite."
    )


def test_other_float_types():
    assert problems(nn.Sequential(nn.Linear(3, 2)).half(), 1, 3).splitlines()[0] == (
        "[SNNC-M004] 0.weight: is not float32, got torch.float16. Try module.float()."
    )


def test_a_wrong_input_shape_names_the_layer():
    text = problems(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), 1, 5)
    assert text.startswith(
        "[SNNC-M013] 1: the module fails on an input of shape [1, 5], got RuntimeError: mat1 and mat2"
    )


def test_not_a_module():
    with pytest.raises(SnnccError, match=r"^\[SNNC-U010\] module: is no torch\.nn\.Module, got function\.$"):
        snncc_torch.capture(lambda x: x, torch.zeros(1, 3))


# ---- comparison ---------------------------------------------------------------------------------


def test_the_module_is_not_changed():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), SFA(), nn.Flatten(), nn.Linear(36, 2)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    classes = [type(m) for m in net.modules()]
    state = torch.get_rng_state()
    snncc_torch.capture(net, torch.zeros(1, 1, 5, 8))
    assert [type(m) for m in net.modules()] == classes
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    "write",
    [
        lambda weight: setattr(weight, "data", weight.data * 0.5),
        lambda weight: weight.data.clamp_(-0.1, 0.1),
        lambda weight: weight.clamp_(-0.1, 0.1),
    ],
)
def test_a_layer_that_writes_its_own_weights_is_refused_and_left_alone(write):
    """No run shows it by attributes or versions, and the graph's weights would change with it."""

    def forward(m, x):
        write(m.fc.weight)
        return m.fire(m.fc(x))

    torch.manual_seed(0)
    net = Forward(forward, fc=nn.Linear(3, 4), fire=SFA())
    before = net.fc.weight.detach().clone()
    with torch.no_grad():
        assert problems(net, 1, 3).startswith("[SNNC-M005] fc: Linear holds state (weight) and is no neuron")
    assert torch.equal(net.fc.weight, before)


def test_training_on_leaves_the_graph_alone():
    net = trained_like()
    graph = captured(net, 1, 2, 7, 6, levels=4).graph
    before = to_text(graph)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor += 1
    assert to_text(graph) == before
    assert not any(n.weight.array.flags.writeable for n in graph.nodes if isinstance(n, Conv2d))


def trained_like():
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), SFA(4), nn.Conv2d(4, 3, 3, stride=2), SFA(2),
        nn.Flatten(), nn.Linear(3 * 3 * 2, 5),
    ).eval()  # fmt: skip
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.2, 2)
    return net


def test_comparison_counts_layers_and_stays_within_the_bound():
    comparison = captured(trained_like(), 1, 2, 7, 6, levels=4).comparison
    assert (comparison.inputs, comparison.layers) == (2, 3)
    assert 0 < comparison.worst < 1
    assert comparison.flips == 0


def flipped(node):
    return (
        copy.copy(node)
        if not isinstance(node, Conv2d)
        else _replace(node, weight=node.weight.array[..., ::-1])
    )


def less_padding(node):
    return _replace(node, padding=(1, 0)) if isinstance(node, Conv2d) and node.padding == (1, 1) else node


def other_eps(node):
    return _replace(node, eps=node.eps + 1e-3) if hasattr(node, "eps") else node


def other_rounding(node):
    return _replace(node, rounding="half_up") if isinstance(node, Neuron) else node


def fewer_spikes(node):
    return (
        _replace(node, max_spikes=node.max_spikes - 1)
        if isinstance(node, Neuron) and node.max_spikes > 1
        else node
    )


def lower_threshold(node):
    return _replace(node, threshold=0.98) if isinstance(node, Neuron) else node


def _replace(node, **fields):
    from dataclasses import replace

    from snncc.ir import Const, Rounding

    if "weight" in fields:
        fields["weight"] = Const(np.ascontiguousarray(fields["weight"]))
    if "rounding" in fields:
        fields["rounding"] = Rounding(fields["rounding"])
    return replace(node, **fields)


@pytest.mark.parametrize("mutate", [flipped, less_padding, other_eps, fewer_spikes, lower_threshold])
def test_a_planted_error_is_refused_and_named(mutate, monkeypatch):
    """The comparison gets a wrong graph; a lost padding column changes the type and fails earlier."""
    real = lockstep.compare

    def planted(graph, traced):
        return real(graph.rewrite(mutate), traced)

    monkeypatch.setattr("snncc_torch.capturing.compare", planted)
    with pytest.raises(ModelError) as caught:
        captured(trained_like(), 1, 2, 7, 6, levels=4)
    assert caught.value.code in ("SNNC-M006", "SNNC-M010")
    if caught.value.code == "SNNC-M006":
        assert caught.value.problems[0].where in ("0", "1", "2", "3", "4")


def test_a_silent_layer_is_noted():
    net = nn.Sequential(nn.Linear(3, 2), SFA())
    net[0].weight.data.zero_()
    net[0].bias.data.fill_(-1.0)
    assert "1: never fired on the two test inputs" in captured(net, 1, 3).notes


# ---- packaging ----------------------------------------------------------------------------------


def test_importing_the_plugin_does_not_import_torch():
    code = "import sys, snncc_torch, snncc_torch.plugin; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert snncc_torch.__all__ == [
        "NeuronSpec", "capture", "describe", "export", "nn", "register_neuron", "sfa_neurons", "zoo",
    ]  # fmt: skip
    assert all(callable(getattr(snncc_torch, name)) for name in ("capture", "describe", "export"))
    assert snncc_torch.nn.SFA is SFA
