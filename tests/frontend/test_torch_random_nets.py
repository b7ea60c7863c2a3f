"""Random small networks: captured graph = PyTorch under the float rule, layer by layer.

`capture` itself compares every layer with the module's own spikes and raises beyond the bound of
docs/semantics.md#float-rule; the test adds an end-to-end check that is exact up to reported flips.
"""

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import snncc_torch
from snncc.ir.interp import run
from snncc_torch.nn import IF, LIF, SFA, OverTime, PerStep, Residual

SETTINGS = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def conv(draw, channels, size):
    """A convolution that fits [channels, *size], and the shape behind it."""
    groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    out = groups * draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(d * (k - 1) // 2 + draw(st.integers(0, 1)) for k, d in zip(kernel, dilation, strict=True))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    layer = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))
    with torch.no_grad():
        shape = layer(torch.zeros(1, channels, *size)).shape[1:]
    return layer, tuple(shape)


def norm(channels, rng):
    layer = nn.BatchNorm2d(channels, eps=1e-3)
    for tensor in (layer.running_mean, layer.bias.data):
        tensor.copy_(torch.from_numpy(rng.normal(0, 0.5, channels)))
    layer.running_var.copy_(torch.from_numpy(rng.uniform(0.2, 2.0, channels)))
    layer.weight.data.copy_(torch.from_numpy(rng.uniform(0.5, 3.0, channels)))
    return layer


def checked(module, x, levels, steps):
    """Capture, then one more input end to end."""
    model = snncc_torch.capture(module, torch.zeros(x.shape), steps, input_levels=levels)
    assert model.comparison.worst <= 1
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    mine = run(model.graph, x.reshape(1, steps, *model.graph.input.shape)).result.reshape(theirs.shape)
    differing = int((np.abs(mine - theirs) > 1e-4 * np.maximum(1, np.abs(theirs))).sum())
    assert differing == 0, f"{differing} of {theirs.size} results differ"
    return model


@SETTINGS
@given(st.data())
def test_integer_networks(data):
    draw = data.draw
    seed = draw(st.integers(0, 2**16))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shape = (draw(st.sampled_from([1, 2, 4])), draw(st.integers(4, 7)), draw(st.integers(5, 9)))
    start, levels = shape, draw(st.sampled_from([0, 1, 4]))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        D = draw(st.sampled_from([1, 2, 4, 8]))
        layer, shape = draw(conv(shape[0], shape[1:]))
        layers += [layer, norm(shape[0], rng), SFA(D, normalize=draw(st.booleans()))]
        if draw(st.booleans()):
            body = nn.Sequential(nn.Conv2d(shape[0], shape[0], 3, padding=1), SFA(D))
            layers.append(Residual(body))
        if min(shape[1:]) >= 4 and draw(st.booleans()):
            layers.append(nn.AvgPool2d(2, stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1))))
            with torch.no_grad():
                shape = tuple(layers[-1](torch.zeros(1, *shape)).shape[1:])
    layers += [nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)]
    if draw(st.booleans()):
        layers.append(SFA(4))
    drawn = rng.integers(0, levels + 1, (1, *start)) if levels else rng.normal(size=(1, *start))
    model = checked(nn.Sequential(*layers).eval(), drawn.astype(np.float32), levels, 1)
    assert model.graph.input.shape == start


@SETTINGS
@given(st.data())
def test_networks_over_time(data):
    draw = data.draw
    seed = draw(st.integers(0, 2**16))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    steps = draw(st.integers(1, 3))
    start = shape = (draw(st.integers(1, 3)), draw(st.integers(4, 6)), draw(st.integers(5, 7)))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 2))):
        layer, shape = draw(conv(shape[0], shape[1:]))
        v_reset = draw(st.sampled_from([None, 0.0, -0.25]))
        threshold = draw(st.sampled_from([0.5, 0.7]))
        fire = draw(
            st.sampled_from([
                IF(threshold, v_reset), LIF(2.0, threshold, v_reset),
                LIF(1.7, threshold, v_reset, decay_input=False),
            ])
        )  # fmt: skip
        layers += [PerStep(layer, norm(shape[0], rng)), fire]
    layers.append(PerStep(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)))
    if draw(st.booleans()):
        layers.append(OverTime(mean=draw(st.booleans())))
    x = rng.normal(size=(steps, 1, *start)).astype(np.float32)
    model = checked(nn.Sequential(*layers).eval(), x, 0, steps)
    assert model.graph.steps == steps
