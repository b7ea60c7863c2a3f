"""What published spiking models are made of, each as a small module of its own, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

import snncc_torch
from snncc.errors import ModelError, SnnccError
from snncc.ir import (
    Add,
    AddConst,
    And,
    Concat,
    Const,
    ConvTranspose2d,
    Function,
    LayerNorm,
    MatMul,
    MaxPool2d,
    Mul,
    Pad,
    Permute,
    Slice,
    Sum,
    Upsample,
    parse,
    to_text,
)
from snncc.ir.interp import run
from snncc_torch.comparing import lockstep
from snncc_torch.nn import IF, LIF, SFA, PerStep

T = 3


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


def bn(channels, dims=2):
    norm = (nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d)(channels)
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.1, 0.4)
    norm.weight.data.uniform_(0.8, 1.5)
    norm.bias.data.uniform_(0.0, 0.6)
    return norm


def checked(module, shape, timesteps=None, levels=0):
    """Capture; every neuron must fire in the comparison; equal end to end on a fresh input too."""
    torch.manual_seed(1)
    module.eval()
    model = snncc_torch.capture(module, torch.zeros(shape), timesteps, input_levels=levels)
    assert not [n for n in model.notes if "never fired" in n]
    graph = model.graph
    x = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    if levels:
        x = np.random.default_rng(4).integers(0, levels + 1, shape).astype(np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(x)).numpy()
    timed = shape[0] == graph.steps and len(shape) == len(graph.input.shape) + 2
    steps = np.broadcast_to(
        x.reshape(graph.steps if timed else 1, *graph.input.shape), (graph.steps, *graph.input.shape)
    )
    mine = run(graph, steps[None]).result
    np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, atol=1e-4)
    assert parse(to_text(graph), graph.constants()) == graph
    return model


def kinds(model, *classes):
    return [n for n in model.graph.nodes if isinstance(n, classes)]


# ---- attention ----------------------------------------------------------------------------------


class Attention(nn.Module):
    """Spikformer's SSA on tokens [T, B, N, C], as the published code writes it."""

    def __init__(self, dim=8, heads=2, keys_first=False):
        super().__init__()
        self.heads, self.keys_first = heads, keys_first
        for name in ("q", "k", "v", "proj"):
            setattr(self, f"{name}_linear", nn.Linear(dim, dim))
            setattr(self, f"{name}_bn", bn(dim, 1))
            setattr(self, f"{name}_lif", LIF(tau=2.0, v_threshold=0.4))
        self.attn_lif = LIF(tau=2.0, v_threshold=0.2)

    def branch(self, name, x):
        t, b, n, c = x.shape
        y = getattr(self, f"{name}_linear")(x.flatten(0, 1))
        y = (
            getattr(self, f"{name}_bn")(y.transpose(-1, -2))
            .transpose(-1, -2)
            .reshape(t, b, n, c)
            .contiguous()
        )
        return getattr(self, f"{name}_lif")(y)

    def forward(self, x):
        t, b, n, c = x.shape
        q, k, v = (
            self.branch(name, x)
            .reshape(t, b, n, self.heads, c // self.heads)
            .permute(0, 1, 3, 2, 4)
            .contiguous()
            for name in "qkv"
        )
        y = q @ (k.transpose(-2, -1) @ v) if self.keys_first else (q @ k.transpose(-2, -1)) * 0.25 @ v
        y = self.attn_lif(y.transpose(2, 3).reshape(t, b, n, c).contiguous())
        return self.branch("proj", y)


@pytest.mark.parametrize("keys_first", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_spiking_self_attention_in_both_orders(keys_first, steps):
    torch.manual_seed(0)
    model = checked(Attention(keys_first=keys_first), (steps, 1, 5, 8))
    first, second = kinds(model, MatMul)
    shapes = [model.graph.types[n.name].shape for n in (first, second)]
    assert shapes == ([(2, 4, 4), (2, 5, 4)] if keys_first else [(2, 5, 5), (2, 5, 4)])
    assert not [n for n in model.notes if "batch" in n]


def test_fused_qkv_whose_axis_stands_before_batch_for_a_while():
    def forward(m, x):
        t, b, n, c = x.shape
        qkv = m.lif(m.qkv(x)).reshape(t, b, n, 3, 2, c // 2).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv[0], qkv[1], qkv.unbind(0)[2]
        return m.out((q @ k.transpose(-1, -2) @ v).transpose(2, 3).flatten(3))

    torch.manual_seed(0)
    module = Forward(forward, qkv=nn.Linear(6, 18), lif=IF(v_threshold=0.3), out=IF(v_threshold=2.0))
    model = checked(module, (T, 1, 5, 6))
    assert len(kinds(model, Slice)) == 3


def test_token_attention_of_one_dimension_and_batched_products():
    """Conv1d branches, and torch.bmm on time and batch in one."""

    def forward(m, x):
        t, b, _, n = x.shape
        q = m.q_lif(m.q_bn(m.q(x.flatten(0, 1))).reshape(t, b, 6, n)).flatten(0, 1)
        k = m.k_lif(m.k_bn(m.k(x.flatten(0, 1))).view(t, b, 6, n)).flatten(0, 1)
        return m.lif(torch.bmm(q.transpose(1, 2), k).reshape(t, b, n, n))

    torch.manual_seed(0)
    module = Forward(
        forward, q=nn.Conv1d(4, 6, 3, padding=1, groups=2), q_bn=bn(6, 1), q_lif=IF(v_threshold=0.5),
        k=nn.Conv1d(4, 6, 3, padding=2, dilation=2, bias=False), k_bn=bn(6, 1), k_lif=IF(v_threshold=0.5), lif=IF(v_threshold=2.0),
    )  # fmt: skip
    model = checked(module, (T, 1, 4, 5))
    (product,) = kinds(model, MatMul)
    assert model.graph.types[product.name].shape == (5, 5)


def test_mask_and_sum_attention_without_a_matrix_product():
    """Spike-driven transformer v1: k·v summed over tokens, fired, times q."""

    def forward(m, x):
        q, k, v = (
            lif(conv(x.flatten(0, 1)).reshape(x.shape))
            for lif, conv in ((m.ql, m.q), (m.kl, m.k), (m.vl, m.v))
        )
        kv = m.kvl(k.mul(v).sum(dim=-2, keepdim=True))
        return q.mul(kv) + q

    torch.manual_seed(0)
    convs = {n: nn.Conv2d(4, 4, 1) for n in "qkv"}
    module = Forward(
        forward,
        **convs,
        ql=IF(v_threshold=0.3),
        kl=IF(v_threshold=0.3),
        vl=IF(v_threshold=0.3),
        kvl=IF(v_threshold=1.5),
    )
    model = checked(module, (T, 1, 4, 3, 5))
    (total,) = kinds(model, Sum)
    assert str(model.graph.types[total.name]) == "spikes<4x1x5, 3>"
    assert [str(model.graph.types[n.name]) for n in kinds(model, And)] == ["spikes<4x3x5, 1>"] * 2


def test_products_of_integers_keep_their_levels():
    def forward(m, x):
        a, b = m.a(x), m.b(2 * x)
        return (a * b).sum(1)

    model = checked(Forward(forward, a=SFA(4, normalize=True), b=SFA(2)), (1, 5, 3))
    (product,) = kinds(model, Mul)
    assert str(model.graph.types[product.name]) == "spikes<5x3, 8, unit=0.25>"
    assert str(model.graph.types["output"]) == "spikes<3, 40, unit=0.25>"


# ---- residual blocks ----------------------------------------------------------------------------


class SEW(nn.Module):
    """SEW-ResNet: a static image, repeated behind the first layer; in-place operations."""

    def __init__(self, connect):
        super().__init__()
        self.connect = connect
        self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), bn(4)
        self.first = IF(v_threshold=0.5)
        self.body, self.second = (
            PerStep(nn.Conv2d(4, 4, 3, padding=1, bias=False), bn(4)),
            IF(v_threshold=0.5),
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x.unsqueeze_(0)
        identity = self.first(x.repeat(T, 1, 1, 1, 1))
        out = self.second(self.body(identity))
        if self.connect == "ADD":
            out += identity
        elif self.connect == "AND":
            out = out * identity
        else:
            out = identity * (1.0 - out)
        return self.head(out.mean((3, 4))).mean(0)


@pytest.mark.parametrize("connect", ["ADD", "AND", "IAND"])
def test_element_wise_residuals(connect):
    torch.manual_seed(2)
    model = checked(SEW(connect), (1, 2, 6, 5), timesteps=T)
    kind = Add if connect == "ADD" else And
    (joint,) = kinds(model, kind)
    assert str(model.graph.types[joint.name]) == f"spikes<4x6x5, {2 if connect == 'ADD' else 1}>"
    if connect == "IAND":
        assert (joint.invert_first, joint.inputs) == (True, ("second", "first"))
        assert not kinds(model, AddConst)  # nothing is left of 1 - out
    assert model.graph.steps == T


def test_integers_above_one_enter_a_convolution():
    torch.manual_seed(4)
    net = nn.Sequential()
    net.add_module(
        "embed",
        Forward(
            lambda m, x: m.a(m.c(x)) + m.b(m.d(x)),
            a=SFA(1),
            b=SFA(2),
            c=nn.Conv2d(1, 2, 1),
            d=nn.Conv2d(1, 2, 1),
        ),
    )
    net.add_module("conv", nn.Conv2d(2, 3, 2))
    net.embed.c.bias.data.fill_(0.6)
    model = checked(net, (1, 1, 3, 4))
    assert str(model.graph.types["embed.add"]) == "spikes<2x3x4, 3>"


# ---- RepConv ------------------------------------------------------------------------------------


class BNAndPad(nn.Module):
    """Meta-SpikeFormer's: pads with what batch normalisation makes of zero, by slice assignment."""

    def __init__(self, channels, width=1):
        super().__init__()
        self.bn, self.width = bn(channels), width

    def forward(self, x):
        y, p = self.bn(x), self.width
        value = self.bn.bias.detach() - self.bn.running_mean * self.bn.weight.detach() / torch.sqrt(
            self.bn.running_var + self.bn.eps
        )
        y = F.pad(y, [p] * 4)
        value = value.view(1, -1, 1, 1)
        y[:, :, 0:p, :] = value
        y[:, :, -p:, :] = value
        y[:, :, :, 0:p] = value
        y[:, :, :, -p:] = value
        return y


@pytest.mark.parametrize("width", [1, 2])
def test_reparametrised_convolution(width):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), BNAndPad(4, width),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 5, 1, bias=False), bn(5)),
    )  # fmt: skip
    module = nn.Sequential(IF(v_threshold=0.3), PerStep(body, bn(5)), IF(v_threshold=0.4))
    model = checked(module, (T, 1, 3, 5, 6))
    (pad,) = kinds(model, Pad)
    assert (pad.before, pad.after) == ((0, width, width), (0, width, width))
    norm = body[1].bn
    expected = norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)
    np.testing.assert_allclose(pad.value.array, expected.detach().numpy(), rtol=1e-6)
    assert not kinds(model, AddConst)


def test_other_writes_into_padding():
    """A border that is not one value a channel, zeros with a value inside, and corners by two slices."""

    def uneven(m, x):
        y = F.pad(x, (1, 0, 2, 1))
        y[:, :, 0:1, :] = 3.0
        y[:, :, :, 0:1] = torch.arange(7.0).view(1, 1, 7, 1)
        return y

    def inside(m, x):
        y = torch.ones(1, 2, 8, 9) * torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
        y[:, :, 1:5, 3:8] = x
        return y

    def corner(m, x):
        y = F.pad(x, (1, 1, 1, 1))
        y[:, :, 0:1, 0:1] = 5.0
        return y

    assert len(kinds(checked(Forward(uneven), (1, 2, 4, 5)), AddConst)) == 1
    (pad,) = kinds(checked(Forward(inside), (1, 2, 4, 5)), Pad)
    assert (pad.before, pad.after, pad.value.array.tolist()) == ((0, 1, 3), (0, 3, 1), [2, 3])
    checked(Forward(corner), (1, 2, 4, 5))


# ---- stems, pyramids, tails ---------------------------------------------------------------------


def test_patch_splitting_with_max_pooling_and_depthwise_position_embedding():
    def forward(m, x):
        t, b = x.shape[:2]
        y = m.bn1(m.conv1(x.flatten(0, 1)))
        y = m.pool(m.lif1(y.reshape(t, b, *y.shape[1:])).flatten(0, 1))
        y = m.lif2(m.pool(m.bn2(m.conv2(y))).reshape(t, b, 6, 2, 2))
        rpe = m.lif3(m.bn3(m.rpe(y.flatten(0, 1))).reshape(y.shape))
        return (y + rpe).flatten(3).transpose(-1, -2).mean(2)

    torch.manual_seed(0)
    module = Forward(
        forward, conv1=nn.Conv2d(2, 4, 3, padding=1, bias=False), bn1=bn(4), lif1=LIF(v_threshold=0.3), pool=nn.MaxPool2d(3, 2, 1, 1),
        conv2=nn.Conv2d(4, 6, 3, padding=1), bn2=bn(6), lif2=LIF(v_threshold=0.3), rpe=nn.Conv2d(6, 6, 3, padding=1, groups=6),
        bn3=bn(6), lif3=LIF(v_threshold=0.3),
    )  # fmt: skip
    model = checked(module, (T, 1, 2, 8, 7))
    pools = kinds(model, MaxPool2d)
    assert [str(model.graph.types[p.name]) for p in pools] == ["spikes<4x4x4, 1>", "current<6x2x2, f32>"]


def test_upsampling_concatenation_and_chunks():
    def forward(m, x):
        a, b = m.fire(m.conv(x)).chunk(2, 1)
        small = F.max_pool2d(a, 2)
        joined = torch.cat(
            [
                F.interpolate(small, scale_factor=2),
                b,
                a[:, 1:, ::2, :]
                .repeat_interleave(1, 2)[:, :, :1]
                .mean((2, 3), keepdim=True)
                .expand(1, 1, 1, 1)
                .contiguous()
                * b[:, :1],
            ],
            1,
        )
        return m.out(m.mix(joined))

    torch.manual_seed(0)
    module = Forward(
        forward, conv=nn.Conv2d(2, 4, 3, padding=1), fire=SFA(3), mix=nn.Conv2d(5, 3, 1), out=SFA(2)
    )
    model = checked(module, (1, 2, 4, 6))
    assert len(kinds(model, Upsample)) == len(kinds(model, Concat)) == 1
    (joint,) = kinds(model, Concat)
    assert str(model.graph.types[joint.inputs[0]]) == "spikes<2x4x6, 3>"


def test_three_dimensional_layers_that_leave_time_alone():
    """SpikeYOLO and SDT on events give [T, B, C, H, W] to 3-D layers with a kernel of 1 over C."""

    def forward(m, x):
        y = F.max_pool3d(m.fire(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return F.interpolate(y, scale_factor=(1, 2, 2), mode="nearest")

    checked(Forward(forward, fire=IF(v_threshold=0.5)), (T, 1, 2, 6, 5))


def test_transposed_convolution_and_adaptive_pools():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), SFA(2), nn.ConvTranspose2d(4, 6, (3, 2), stride=2, padding=1, output_padding=(1, 0), groups=2),
        SFA(2), nn.AdaptiveMaxPool2d((2, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    net[0].bias.data.fill_(1.0)
    net[2].bias.data.fill_(0.5)
    model = checked(net, (1, 1, 4, 5))
    (node,) = kinds(model, ConvTranspose2d)
    assert model.graph.types[node.name].shape == (6, 4, 4)


def test_class_token_position_embedding_and_a_softmax_tail():
    """Parts that cannot be spikes are captured, compared, and listed for the host."""

    def forward(m, x):
        y = torch.cat([m.token.expand(1, -1, -1), m.embed(x)], 1) + m.position
        y = m.norm(m.fire(y) @ m.mixer)
        weights = torch.softmax(y @ y.transpose(1, 2), -1)
        return torch.sigmoid(F.gelu(weights @ y) + F.silu(y) + torch.tanh(F.relu(y)))

    torch.manual_seed(0)
    module = Forward(forward, embed=nn.Linear(3, 4), fire=SFA(3), norm=nn.LayerNorm(5))
    module.token = nn.Parameter(torch.randn(1, 1, 4))
    module.position = nn.Parameter(torch.randn(1, 7, 4))
    module.mixer = nn.Parameter(torch.randn(4, 5))
    model = checked(module, (1, 6, 3))
    for name in ("matmul", "softmax", "gelu", "silu", "relu", "tanh", "sigmoid"):
        assert f"model: {name} of real values is left to the host" in model.notes
    assert "norm: layernorm of real values is left to the host" in model.notes
    assert len(kinds(model, LayerNorm)) == 1
    assert len(kinds(model, Function)) == 6
    assert len(kinds(model, AddConst)) == 2


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda m, x: x + 1.0, (3, 4)),
        (lambda m, x: 1 - x, (3, 4)),
        (lambda m, x: torch.ones_like(x) - x * x, (3, 4)),
        (lambda m, x: torch.tensor([[1.0], [2.0], [3.0]]) - x, (3, 4)),
        (lambda m, x: x * torch.tensor([1.0, -2.0, 3.0, 0.5]), (3, 4)),
        (lambda m, x: torch.arange(12.0).view(4, 3) @ x, (3, 5)),
        (lambda m, x: x.sum((1, 3)) + x.sum(3).mean(1), (3, 4, 5)),
        (lambda m, x: x.mean(1, keepdim=True) * x, (3, 4, 5)),
        (lambda m, x: x.mean((1, 2, 3), keepdim=True), (3, 4, 5)),
        (lambda m, x: x[:, 1], (3, 4)),
        (lambda m, x: x[..., -2], (3, 4)),
        (lambda m, x: x[:, :, 1::2][:, 1:], (3, 5)),
        (lambda m, x: x.narrow(2, 1, 2), (3, 4)),
        (lambda m, x: torch.cat(x.split([1, 3], 2)[::-1], 2), (3, 4)),
        (lambda m, x: torch.stack([x[:, 0], x[:, 2]], 1), (3, 4)),
        (lambda m, x: torch.stack(x.unbind(1), -1), (3, 4)),
        (lambda m, x: x.movedim(1, 3), (3, 4, 5)),
        (lambda m, x: x.swapaxes(1, 2), (3, 4, 5)),
        (lambda m, x: F.pad(x, (1, 2, 0, 1), value=-0.5), (3, 4, 5)),
        (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)), (3, 4, 5)),
        (lambda m, x: F.max_pool2d(x, (2, 3), (1, 2), (1, 1), (2, 1)), (3, 6, 5)),
        (lambda m, x: F.max_pool2d(x, 3, 2, ceil_mode=True), (3, 5, 7)),
        (lambda m, x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True), (3, 5, 7)),
        (lambda m, x: F.avg_pool1d(x, 3, 2, padding=1), (4, 9)),
        (lambda m, x: F.avg_pool1d(x, 2), (4, 7)),
        (lambda m, x: F.avg_pool1d(x, 2, ceil_mode=True), (4, 7)),
        (lambda m, x: F.avg_pool1d(x, 3, padding=1, count_include_pad=False), (4, 7)),
        (lambda m, x: F.avg_pool1d(x.unsqueeze(1), 4, 4, ceil_mode=True).squeeze(1), (12,)),
        (lambda m, x: torch.einsum("bhnd,bhmd->bhnm", x, x + 1), (2, 3, 4)),
        (lambda m, x: torch.einsum("bhnd,bhne -> bhed", x, x[..., 1:]), (2, 3, 4)),
        (lambda m, x: torch.einsum("bnhd,bmhd->bhmn", x, x[:, 1:]), (3, 2, 4)),
        (lambda m, x: F.conv1d(x, torch.ones(4, 3, 2), padding=1, stride=2), (3, 5)),
        (lambda m, x: F.interpolate(x, size=(8, 15), mode="nearest"), (3, 4, 5)),
        (lambda m, x: x.softmax(1) + x.softmax(-1), (3, 4, 5)),
        (lambda m, x: F.layer_norm(x, (4, 5)), (3, 4, 5)),
        (lambda m, x: x.reshape(1, 2, 3, 4).permute(2, 0, 1, 3)[1], (6, 4)),
    ],
)  # fmt: skip
def test_operations_compute_what_torch_computes(function, shape):
    checked(Forward(function), (1, *shape))


# ---- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "repeat",
    [
        lambda x: x.unsqueeze(0).repeat(T, 1, 1, 1, 1),
        lambda x: x.unsqueeze(0).expand(T, -1, -1, -1, -1),
        lambda x: x.repeat(T, 1, 1, 1, 1),
        lambda x: torch.stack([x] * T),
        lambda x: x.repeat(T, 1, 1, 1).view(T, 1, *x.shape[1:]),
        lambda x: torch.cat([x] * T).view(T, 1, *x.shape[1:]),
        lambda x: x.repeat_interleave(T, 0).view(T, 1, *x.shape[1:]),
        lambda x: x[None].repeat(T, 1, 1, 1, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_time_that_the_module_makes_itself(repeat, first):
    def forward(m, x):
        y = m.stem(repeat(x)) if first else repeat(m.conv(x))
        return m.fire(y).mean((0, 3, 4))

    conv = nn.Conv2d(2, 3, 2)
    torch.manual_seed(0)
    module = Forward(forward, conv=conv, stem=PerStep(conv), fire=LIF(v_threshold=0.2))
    model = checked(module, (1, 2, 4, 5), timesteps=T)
    assert model.graph.steps == T
    assert model.graph.types["fire"].shape == (3, 3, 4)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_axes_of_the_size_of_time_are_told_apart(steps):
    """T, C, N and heads are all equal: nothing but the order of operations tells them apart."""

    def forward(m, x):
        t, b, c, n = x.shape
        y = m.lif(m.fc(x.flatten(0, 1)).reshape(t, b, c, n))
        z = y.reshape(t, b, c, 1, n).transpose(3, 4).reshape(t, b, c * n).view(t, b, n, c)
        return (y.transpose(-1, -2) @ z).sum(0)

    torch.manual_seed(0)
    module = Forward(forward, fc=nn.Linear(steps, steps), lif=IF(v_threshold=0.1))
    module.fc.bias.data.fill_(0.2)
    checked(module, (steps, 1, steps, steps))


def test_time_and_batch_split_off_again_leave_no_axis_behind():
    """[T·B, N, C] to [T, B, N, heads, d]: the batch must not stay as a feature of size 1."""
    module = Forward(
        lambda m, x: m.fire(x.flatten(0, 1).reshape(T, x.shape[1], 4, 2, 3).transpose(2, 3)),
        fire=IF(v_threshold=0.3),
    )
    model = checked(module, (T, 1, 4, 6))
    assert [model.graph.types[n.name].shape for n in model.graph.nodes[1:3]] == [(4, 2, 3), (2, 4, 3)]
    assert not [n for n in model.notes if "batch" in n]


def test_batch_first_layout():
    def forward(m, x):
        y = m.fc(x).transpose(0, 1)
        return m.lif(y).transpose(0, 1).mean(1)

    torch.manual_seed(0)
    module = Forward(forward, fc=nn.Linear(4, 5), lif=IF(v_threshold=0.3))
    x = torch.rand(1, T, 4)
    model = snncc_torch.capture(module, x, timesteps=T)
    assert (model.graph.steps, model.graph.input.shape) == (T, (4,))
    with torch.no_grad():
        np.testing.assert_allclose(run(model.graph, x.numpy()).result, module(x).numpy(), atol=1e-6)


class ThroughBatch(nn.Module):
    """QKFormer's projection: a multi-step neuron that gets [T·B, ...]."""

    def __init__(self, through=True):
        super().__init__()
        self.conv, self.lif, self.through = nn.Conv1d(3, 4, 1), LIF(v_threshold=0.1), through

    def forward(self, x):
        y = self.conv(x.flatten(0, 1))
        y = self.lif(y if self.through else y.view(*x.shape[:2], 4, -1)).reshape(*x.shape[:2], 4, -1)
        return y.mean(3).mean(0)


def test_time_that_runs_through_the_batch_is_captured_at_batch_one_with_a_warning():
    torch.manual_seed(0)
    model = checked(ThroughBatch(), (T, 1, 3, 5))
    (measured,) = [n for n in model.notes if n.startswith("samples of a batch influence each other")]
    assert "of their scale from those at batch 1, which was captured" in measured
    assert any(
        n.startswith("lif: time reaches this multi-step neuron through the batch") for n in model.notes
    )
    assert not [n for n in checked(ThroughBatch(False), (T, 1, 3, 5)).notes if "batch" in n]


def test_a_module_with_batch_one_written_into_it():
    module = Forward(lambda m, x: m.fire(x.view(1, 6)), fire=SFA())
    assert "the module does not run at batch 2; captured at batch 1" in checked(module, (1, 2, 3)).notes


# ---- tracing ------------------------------------------------------------------------------------


def first_export_fails(monkeypatch):
    real, calls = torch.export.export, []

    def export(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no luck\ntoday")
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.export, "export", export)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_the_second_way_of_tracing():
    """torch.export refuses the parameters of scripted layers; those of others survive, as do paths and writes."""

    def forward(m, x):
        y = m.block(x)
        y += 0.25
        y = F.pad(y, (0, 1))
        y[:, :, :, -1:] = 2.0
        return m.fire(m.mix(y))

    def made(script):
        torch.manual_seed(0)
        block, mix = nn.Sequential(nn.Conv2d(1, 2, 3), bn(2)), nn.Conv2d(2, 3, 1)
        mix.bias.data += 1.0
        return Forward(forward, block=block, mix=script(mix.eval()), fire=SFA(3))

    scripted = made(torch.jit.script)
    model, plain = checked(scripted, (1, 1, 5, 6)), checked(made(lambda m: m), (1, 1, 5, 6))
    (note,) = [n for n in model.notes if n.startswith("traced by make_fx, for torch.export failed: ")]
    assert "SpecViolationError: State dict entry for parameter model.mix.weight" in note
    assert not [n for n in plain.notes if "make_fx" in n]
    assert [type(n) for n in model.graph.nodes] == [type(n) for n in plain.graph.nodes]
    # A scripted layer takes no hooks: its node stands in the model itself.
    sources = [n.source.replace("mix", "") for n in plain.graph.nodes]
    assert [n.source for n in model.graph.nodes] == sources
    x = np.random.default_rng(2).normal(size=(1, 1, 1, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(model.graph, x).result, run(plain.graph, x).result)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_shared_layer_is_not_compared_with_the_wrong_call(first, second, monkeypatch):
    """A call on constants is no node: the layer's other result is that of the node."""

    def forward(m, x):
        y = m.fc(torch.ones(1, 3)) if first else 0
        z = m.fc(x)
        return m.fire(z + y) if first else m.fire(z) + m.fc(torch.ones(1, 3))

    torch.manual_seed(0)
    module = Forward(forward, fc=nn.Linear(3, 4), fire=SFA())
    module.fc.bias.data += 1
    if second:
        first_export_fails(monkeypatch)
    model = checked(module, (1, 3))
    assert second == any("make_fx" in note for note in model.notes)


def test_the_second_way_does_not_decide_what_depends_on_data(monkeypatch):
    first_export_fails(monkeypatch)
    with pytest.raises(
        ModelError, match=r"SNNC-M013.*torch\.export cannot trace the module, got RuntimeError: no luck"
    ):
        snncc_torch.capture(Forward(lambda m, x: x if x.sum() > 0 else -x), torch.zeros(1, 3))


# ---- refusals -----------------------------------------------------------------------------------


LOOP = "Try multi-step neurons that take [T, B, ...] in place of a Python loop over time."


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda m, x: m.mix(x.flatten(0, 2)), "model: flatten: mixes batch or time with the features"),
        (lambda m, x: x.reshape(-1, 5), "model: reshape: mixes batch or time with the features, got [12, 5]."),
        (lambda m, x: m.time(x.permute(1, 2, 3, 0)), "time: linear: a feature axis stands before batch or time"),
        (lambda m, x: torch.cat([x, x], 0), f"model: cat: joins values over time or batch, got axis 0. {LOOP}"),
        (lambda m, x: x[1:], f"model: slice: takes a part of the time axis, got 1:3. {LOOP}"),
        (lambda m, x: x[1], f"model: select: takes one element of an axis, got axis 0. {LOOP}"),
        (lambda m, x: x.unbind(0)[1], f"model: unbind: takes single elements of an axis, got axis 0. {LOOP}"),
        (lambda m, x: torch.stack([x, x]), f"model: stack: joins values over time or batch, got axis 0. {LOOP}"),
        (lambda m, x: x + torch.arange(3.0).view(3, 1, 1, 1), "model: add: a constant differs between timesteps, got [3, 1, 1, 1]."),
        (lambda m, x: x * torch.arange(3.0).view(3, 1, 1, 1), "model: mul: a constant differs between timesteps"),
        (lambda m, x: x * torch.arange(20.0).view(4, 5), "model: mul: constant must be one number or one per channel, got [4, 5]."),
        (lambda m, x: x.mean(0).softmax(-1), "model: softmax: is not linear and stands behind the reduction over time. Try the reduction last."),
        (lambda m, x: x.mean(0) * x.mean(0), "model: mul: is not linear and stands behind the reduction over time"),
        (lambda m, x: F.max_pool2d(x.mean(0)[:, None], 2), "model: max_pool2d: is not linear and stands behind the reduction over time"),
        (lambda m, x: x.mean(0) @ x.mean(0).transpose(1, 2), "model: matmul: is not linear and stands behind"),
        (lambda m, x: x.sum(0) + 1.0, "model: add: adds a constant behind the sum over time"),
        (lambda m, x: x.mean(0) + x, "model: add: one operand stands behind a reduction over time, the other does not."),
        (lambda m, x: x.mean(1), "model: mean: reduces batch, got [1]."),
        (lambda m, x: x.cumsum(0), "model: operation cumsum is not supported"),
        (lambda m, x: x.roll(1, 0), "model: operation roll is not supported"),
        (lambda m, x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), "model: pad: pads time or batch, got [0, 0, 0, 0, 0, 0, 1, 0]."),
        (lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "model: pad: pads with values of its own, got reflect, limit constant."),
        (lambda m, x: F.pad(x, (-1, 0)), "model: pad: pads by a negative amount, got [-1, 0]. Try a slice."),
        (lambda m, x: x.softmax(0), "model: softmax: is not over features, got 0."),
        (lambda m, x: F.gelu(x, approximate="tanh"), "model: gelu: is approximated, got tanh, limit none."),
        (lambda m, x: F.interpolate(x, size=(6, 5)), "model: upsample_nearest2d: "),
        (lambda m, x: torch.einsum("tbnc,tbnc->tbn", x, x), "model: einsum: is no product of two matrices, got tbnc,tbnc->tbn, limit such as bhnd,bhmd->bhnm."),
        (lambda m, x: torch.einsum("...nc,...mc->...nm", x, x), "model: einsum: is no product of two matrices, got ...nc,...mc->...nm"),
        (lambda m, x: torch.einsum("tbnc,tbcm,tbmk->tbnk", x, x.transpose(2, 3), x), "model: einsum: is no product of two matrices"),
        (lambda m, x: torch.einsum("tbnc,cm->tbnm", x, torch.ones(5, 2)), "model: einsum: is no product of two matrices"),
        (lambda m, x: torch.einsum("tbnc,tbmc->nmtb", x, x), "model: einsum: moves batch or time, got tbnc,tbmc->nmtb. Try batch and time first in every operand."),
        (lambda m, x: torch.einsum("tbnc,sbnc->bnts", x, x), "model: einsum: moves batch or time, got tbnc,sbnc->bnts."),
        (lambda m, x: torch.einsum("tbnc,tbmc->tbnm", x.mean(0, keepdim=True), x.mean(0, keepdim=True)), "model: einsum: is not linear and stands behind the reduction over time"),
        (lambda m, x: F.max_pool2d(x, 2, 3, dilation=2, ceil_mode=True), "model: max_pool2d: ceil_mode adds partial windows of currents, which are dilated, got (2, 2). Try ceil_mode=False, or the pooling behind the neuron."),
        (lambda m, x: F.pad(x, (1, 1, 1, 1), mode="replicate"), "model: pad: pads with values of its own, got replicate, limit constant."),
        (lambda m, x: torch.matmul(x, torch.ones(3, 1, 5, 2)), "model: matmul: multiplies by a constant that is no matrix"),
    ],
)  # fmt: skip
def test_what_would_mix_time_or_has_no_semantics_is_refused(function, text):
    module = Forward(function, mix=nn.Linear(5, 2), time=nn.Linear(3, 2))
    with pytest.raises(SnnccError) as caught:
        snncc_torch.capture(module, torch.zeros(3, 1, 4, 5), timesteps=3)
    assert str(caught.value).split("\n")[0].startswith(f"[SNNC-M004] {text}")


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda y: y[:, :, 1:2].fill_(2.0), "writes over data. Try padding, or a sum."),
        (lambda y: y[:, :, 0:1].copy_(y[:, :, 1:2] * 2), "writes one value into another. Try concatenation."),
    ],
)
def test_writes_over_data_are_refused(write, text):
    def forward(m, x):
        y = F.pad(x, (0, 0, 1, 0))
        write(y)
        return y

    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(Forward(forward), torch.zeros(1, 2, 4, 5))
    assert str(caught.value) == f"[SNNC-M004] model: slice_scatter: {text}"


def test_a_wrong_number_of_timesteps_is_named():
    module = Forward(lambda m, x: m.fire(m.fc(x).unsqueeze(0).repeat(4, 1, 1)), fc=nn.Linear(3, 2), fire=IF())
    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(module, torch.zeros(1, 3), timesteps=3)
    assert str(caught.value).split("\n")[0] == (
        "[SNNC-M004] model: repeat: repeats something else than a static input over time, got [4, 1, 1], "
        "limit 3 timesteps. Try timesteps=4, if the module makes so many."
    )


# ---- planted errors -----------------------------------------------------------------------------


def everything():
    """One module with every new kind in it; neurons stand where an error would wash out behind them."""

    def forward(m, x):
        a, b = m.fire(m.conv(x)).chunk(2, 1)
        y = m.up(F.max_pool2d(torch.cat([a * b, a], 1), 2))
        y = F.interpolate(y, scale_factor=2).sum(1, keepdim=True) + m.shift
        y = m.middle(F.pad(y, (1, 0, 2, 1), value=0.5).flatten(1, 2))
        y = m.norm(y @ y.transpose(1, 2)).softmax(1)
        return m.last(m.two(y) * 3) * y.mean(2, keepdim=True)

    torch.manual_seed(3)
    module = Forward(
        forward, conv=nn.Conv2d(1, 4, 3, padding=1), fire=SFA(3), up=nn.ConvTranspose2d(4, 3, 2, bias=False), middle=SFA(2),
        last=SFA(4), norm=nn.LayerNorm(11), two=nn.Linear(11, 11),
    )  # fmt: skip
    module.shift = nn.Parameter(torch.randn(1, 8, 6))
    return module


def changed(cls, **fields):
    def mutate(node):
        if not isinstance(node, cls):
            return node
        return replace(node, **{k: v(getattr(node, k)) for k, v in fields.items()})

    return mutate


def scaled(const):
    return Const(const.array * np.float32(1.001))


@pytest.mark.parametrize(
    "mutate",
    [
        changed(MaxPool2d, padding=lambda p: (1, 1), kernel=lambda k: (3, 3), stride=lambda s: (2, 2)),
        changed(MaxPool2d, kernel=lambda k: (2, 1), dilation=lambda d: (1, 1)),
        changed(ConvTranspose2d, weight=lambda w: Const(np.ascontiguousarray(w.array[..., ::-1]))),
        changed(ConvTranspose2d, weight=scaled),
        changed(Concat, inputs=lambda i: i[::-1]),
        changed(Slice, start=lambda s: 0, stop=lambda s: 2),
        changed(Mul, inputs=lambda i: (i[0], i[0])),
        changed(MatMul, inputs=lambda i: (i[1], i[0])),
        changed(AddConst, value=scaled),
        changed(Pad, value=lambda v: 0.4995),
        changed(Pad, before=lambda b: (0, 1, 1), after=lambda a: (0, 2, 0)),
        changed(LayerNorm, eps=lambda e: e + 0.01),
        changed(LayerNorm, gamma=scaled),
        changed(Function, axis=lambda a: -1),
        changed(Permute, axes=lambda a: tuple(range(len(a)))),
    ],
)  # fmt: skip
def test_a_planted_error_in_each_kind_is_refused(mutate, monkeypatch):
    real = lockstep.compare
    changes = []

    def planted(graph, traced):
        wrong = graph.rewrite(mutate)
        changes.append(wrong != graph)
        return real(wrong, traced)

    monkeypatch.setattr("snncc_torch.capturing.compare", planted)
    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(everything(), torch.zeros(1, 1, 6, 4))
    assert caught.value.code in ("SNNC-M006", "SNNC-M010")
    assert changes != [False]


def test_the_module_with_every_kind_is_captured():
    model = checked(everything(), (1, 1, 6, 4))
    assert model.comparison.worst < 1
