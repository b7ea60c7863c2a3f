"""The zoo's models compute what the papers' equations say, train, save, and spike in every layer."""

import copy
import io

import pytest
import torch
from torch import nn

from snncc_torch import zoo
from snncc_torch.nn import IF, ILIF, LIF, SFA, OverTime, PerStep
from snncc_torch.zoo.blocks import SelfAttention, product
from snncc_torch.zoo.metaformers import BNAndPad, rep_conv
from snncc_torch.zoo.ms import membrane
from snncc_torch.zoo.sdt import MaskAttention
from snncc_torch.zoo.sew import SEWBlock
from snncc_torch.zoo.spikformers import TokenAttention

NAMES = list(zoo.REDUCED)
NEURONS = SFA | ILIF | IF | LIF


# Numbers of a result that is not ten classes: 5 of 8 × 8 pixels; 5 + 3 of 4 × 4 cells, for two maps; 24 of
# 2 × 2 sites.
RESULTS = {
    "e-spikeformer-segmenter": 5 * 64, "e-spikeformer-detector": 2 * 8 * 16,
    "e-spikeformer-masked": 24 * 4, "e-spikeformer-masked-centre": 24 * 4,
}  # fmt: skip


def record(module, x, kinds, inputs=False):
    """Output (or input) of every part of these kinds in one forward pass, by module path, in order."""
    seen = {}
    handles = [
        part.register_forward_hook(lambda _, a, y, path=path: seen.__setitem__(path, a[0] if inputs else y))
        for path, part in module.named_modules()
        if isinstance(part, kinds)
    ]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return seen


def fresh(x, seed):
    """Another input in the manner of ``x``: an image in [0, 1], or binary frames."""
    drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    return drawn if x.dim() == 4 else (drawn < 0.3).float()


# ---- every reduced model ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_neuron_fires_and_not_always(name):
    module, x = zoo.reduced(name)
    for image in (x, fresh(x, 1), fresh(x, 2)):
        spikes = record(module, image, NEURONS)
        assert len(spikes) == sum(isinstance(part, NEURONS) for part in module.modules())
        assert [path for path, s in spikes.items() if not (s != 0).any()] == []
        assert [path for path, s in spikes.items() if s.unique().numel() == 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_reduced_models_are_small(name):
    module, x = zoo.reduced(name)
    assert x.shape[:-3] in {(1,), (3, 1)}
    assert 1_000 < sum(p.numel() for p in module.parameters()) < 100_000
    with torch.no_grad():
        assert module(x).shape == (1, RESULTS.get(name, 10))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    module, x = zoo.reduced(name)  # evaluation mode: in training mode a norm cancels the bias before it
    logits = module(torch.cat([x, fresh(x, 1)], dim=x.dim() - 4))
    nn.functional.cross_entropy(logits, torch.tensor([3, 7])).backward()
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert (parameter.grad != 0).any(), path


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss(name):
    module, x = zoo.reduced(name)
    batch = torch.cat([x, *[fresh(x, seed) for seed in range(3)]], dim=x.dim() - 4)
    labels = torch.tensor([1, 2, 3, 4])
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    module.train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(batch), labels)
        loss.backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.98 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_a_batch_do_not_mix(name):
    module, x = zoo.reduced(name)
    other, axis = fresh(x, 1), x.dim() - 4
    with torch.no_grad():
        apart = torch.cat([module(x), module(other)])
        together = module(torch.cat([x, other], dim=axis))
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    assert (apart[0] != apart[1]).any()


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("e-") and "events" not in n])
def test_an_image_is_the_same_as_its_frames(name):
    module, x = zoo.reduced(name)
    with torch.no_grad():
        torch.testing.assert_close(module(x.unsqueeze(0).repeat(module.T, 1, 1, 1, 1)), module(x))


@pytest.mark.parametrize("name", NAMES)
def test_saved_whole_and_copied(name):
    module, x = zoo.reduced(name)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    loaded = torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    with torch.no_grad():
        assert torch.equal(loaded(x), module(x))
        assert torch.equal(copy.deepcopy(module)(x), module(x))


@pytest.mark.parametrize(
    "name",
    [
        "spikformer-cifar",
        "sew-resnet-basic-iand",
        "meta-spikeformer",
        "e-spikeformer-83M",
        "e-spikeformer-detector",
    ],
)
def test_exports_without_edits(name):
    module, x = zoo.reduced(name)
    program = torch.export.export(module, (x,), strict=False)
    with torch.no_grad():
        assert torch.equal(program.module()(x), module(x))


def test_reduced_is_reproducible_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    (first, x), (second, y) = zoo.reduced("spikformer"), zoo.reduced("spikformer")
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(x, y)
    state = second.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in first.state_dict().items())
    assert not torch.equal(zoo.reduced("spikformer", seed=1)[1], x)
    raw, _ = zoo.reduced("spikformer", calibrated=False)
    assert all((b == 0).all() for key, b in raw.state_dict().items() if key.endswith("running_mean"))


# ---- what the weights meet ----------------------------------------------------------------------


def test_spikformer_block_k_reads_up_to_2k():
    module, x = zoo.reduced("spikformer")
    for index, block in enumerate(module.blocks):
        levels = record(block, module.blocks[:index](module.stem(x.repeat(2, 1, 1, 1, 1))), nn.Conv1d, True)
        read = levels["attention.body.q.0.0"]
        assert torch.equal(read, read.round())
        assert 2 * index < read.max() <= 2 * (index + 1)
        assert read.min() >= 0


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("spikingformer", "ms-", "spike-driven"))])
def test_weights_meet_binary_spikes_after_the_stem(name):
    module, x = zoo.reduced(name)
    values = record(module, x, nn.Conv1d | nn.Conv2d, inputs=True)
    assert len(values) > 8
    real = [path for path, v in values.items() if not ((v == 0) | (v == 1)).all()]
    stem = {"ms-resnet-104": ["stem.0", "stem.1", "stem.2"]}.get(name, [next(iter(values))])
    # MS-ResNet's striding shortcuts convolve currents, as published: one in each of the four stages.
    shortcuts = [path for path in values if "shortcut" in path]
    assert real == ([] if name == "spikingformer-events" else stem + shortcuts)
    assert len(shortcuts) == (4 if name.startswith("ms-") else 0)


@pytest.mark.parametrize(("connect", "values"), [("add", {0, 1, 2}), ("and", {0, 1}), ("iand", {0, 1})])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_what_sew_blocks_deliver(kind, connect, values):
    module, x = zoo.reduced(f"sew-resnet-{kind}-{connect}")
    out = record(module, x, SEWBlock)["blocks.0"]
    assert set(out.unique().tolist()) <= values
    assert out.max() == max(values)


@pytest.mark.parametrize(
    ("connect", "table"), [("ADD", [0, 1, 1, 2]), ("AND", [0, 0, 0, 1]), ("IAND", [0, 1, 0, 0])]
)
def test_sew_truth_tables(connect, table):
    block = SEWBlock(1, 1, 1, False, connect)
    block.body = nn.Identity()
    spikes, identity = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    block.body.forward = lambda _: spikes
    assert block(identity).tolist() == table


@pytest.mark.parametrize("family", ["spikformer", "spikformer-cifar", "spikingformer"])
def test_cml_pools_currents(family):
    for name, binary in ((family, True), (f"{family}-cml", False)):
        module, x = zoo.reduced(name)
        pooled = record(module, x, nn.MaxPool2d, inputs=True)
        assert len(pooled) == 2
        assert all(bool(((v == 0) | (v == 1)).all()) is binary for v in pooled.values())


@pytest.mark.parametrize(("normalize", "levels"), [(True, [0, 0.25, 0.5, 0.75, 1]), (False, [0, 1, 2, 3, 4])])
def test_levels_of_e_spikeformer(normalize, levels):
    module, x = zoo.reduced("e-spikeformer" if normalize else "e-spikeformer-integers")
    spikes = record(module, x, SFA)
    assert set(torch.cat([s.flatten() for p, s in spikes.items() if p != "head.neuron"]).tolist()) == set(
        levels
    )
    assert set(spikes["head.neuron"].flatten().tolist()) <= {0, 1, 2, 3, 4}


# ---- the equations ------------------------------------------------------------------------------


def brute_force(q, k, v, heads):
    """Σ_m Σ_c q[n,c] k[m,c] v[m,e] per step, sample and head, on [T, B, C, N], by loops."""
    out = torch.zeros(*q.shape[:2], v.shape[2], q.shape[3])
    d, e = q.shape[2] // heads, v.shape[2] // heads
    for t in range(q.shape[0]):
        for b in range(q.shape[1]):
            for h in range(heads):
                qs, ks, vs = (
                    q[t, b, h * d : h * d + d],
                    k[t, b, h * d : h * d + d],
                    v[t, b, h * e : h * e + e],
                )
                for n in range(q.shape[3]):
                    weights = [sum(qs[c, n] * ks[c, m] for c in range(d)) for m in range(q.shape[3])]
                    for c in range(e):
                        out[t, b, h * e + c, n] = sum(w * vs[c, m] for m, w in enumerate(weights))
    return out


def spikes(*shape, seed):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


class Given(nn.Module):
    """Delivers a tensor whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


@pytest.mark.parametrize("keys_first", [True, False])
@pytest.mark.parametrize("expansion", [1, 2])
def test_attention_by_loops(keys_first, expansion):
    q, k, v = (spikes(2, 1, c, 2, 3, seed=c + i) for i, c in enumerate((6, 6, 6 * expansion)))
    attention = SelfAttention(
        3,
        0.125,
        keys_first,
        pre=None,
        qkv=[Given(q), Given(k), Given(v)],
        spike=nn.Identity(),
        proj=nn.Identity(),
        maps=True,
    )
    expected = 0.125 * brute_force(q.flatten(3), k.flatten(3), v.flatten(3), 3)
    assert torch.equal(attention(q), expected.unflatten(-1, (2, 3)))


def test_token_attention_by_loops():
    q, k, v = (spikes(2, 1, 5, 6, seed=seed) for seed in range(3))
    attention = TokenAttention(6, 3, 0.125, 2.0)
    attention.q, attention.k, attention.v = Given(q), Given(k), Given(v)
    attention.spike = attention.proj = nn.Identity()
    expected = 0.125 * brute_force(*(x.transpose(-1, -2) for x in (q, k, v)), 3)
    assert torch.equal(attention(q), expected.transpose(-1, -2))


def test_mask_attention_by_loops():
    q, k, v = (spikes(2, 1, 6, 2, 2, seed=seed) for seed in range(3))
    neuron = LIF(v_threshold=0.5, v_reset=0.0)
    attention = MaskAttention(
        3,
        1.0,
        True,
        pre=None,
        qkv=[Given(q), Given(k), Given(v)],
        spike=neuron,
        proj=nn.Identity(),
        maps=True,
    )
    currents = torch.zeros(2, 1, 6, 1, 1)
    for t in range(2):
        for c in range(6):
            currents[t, 0, c] = sum(k[t, 0, c, i, j] * v[t, 0, c, i, j] for i in range(2) for j in range(2))
    mask = neuron(currents)
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(attention(q), q * mask)


def test_both_orders_of_the_product_agree():
    q, k, v = (spikes(2, 3, 4, 5, seed=seed) for seed in range(3))
    assert torch.equal(product(q, k, v, True), product(q, k, v, False))


def test_the_border_is_what_the_norm_makes_of_zero():
    torch.manual_seed(0)
    layer = BNAndPad(3, pixels=2).eval()
    for tensor in (layer.bn.weight, layer.bn.bias, layer.bn.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(layer.bn.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(x), layer.bn(nn.functional.pad(x, (2, 2, 2, 2))))
    with pytest.raises(ValueError, match=r"^BNAndPad: pixels must be at least 1, got 0$"):
        BNAndPad(3, pixels=0)


def test_a_rep_conv_is_one_zero_padded_convolution():
    torch.manual_seed(0)
    chain = nn.Sequential(*rep_conv(3, 4)).double().eval()
    for part in chain.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    with torch.no_grad():
        bias = chain(torch.zeros(1, 3, 3, 3).double())[0, :, 1, 1]
        kernel = torch.zeros(4, 3, 3, 3).double()
        for c in range(3):
            for i in range(3):
                for j in range(3):
                    impulse = torch.zeros(1, 3, 3, 3).double()
                    impulse[0, c, i, j] = 1
                    kernel[:, c, i, j] = chain(impulse)[0, :, 1, 1] - bias
        x = torch.randn(2, 3, 5, 4).double()
        torch.testing.assert_close(chain(x), nn.functional.conv2d(x, kernel, bias, padding=1))


def test_the_membrane_of_ms_resnet():
    neuron, v, expected = membrane(), 0.0, []
    drive = [0.4, 0.4, 0.45, -0.2, 0.5, 0.1, 0.49]
    for x in drive:
        u = 0.25 * v + x
        expected.append(float(u >= 0.5))
        v = 0.0 if u >= 0.5 else u
    assert neuron(torch.tensor(drive)).tolist() == expected
    assert neuron.factors() == (0.25, 1.0)


def test_the_head_of_a_distilled_model_is_the_mean_of_two():
    module, x = zoo.reduced("meta-spikeformer-distilled")
    with torch.no_grad():
        first, second = module.head.both(module.features(x))
        assert torch.equal(module(x), (first + second) / 2)
        assert (first != second).any()
    with pytest.raises(ValueError, match=r"^Head\.both: this model was built with distill=False$"):
        zoo.reduced("meta-spikeformer")[0].head.both(x)


# ---- calibration --------------------------------------------------------------------------------


def test_calibrated_norms_have_the_moments_asked_for():
    torch.manual_seed(0)
    module = zoo.REDUCED["meta-spikeformer"].build().train()
    before = {key: value.clone() for key, value in module.named_parameters()}
    x = torch.rand(8, 3, 32, 32)
    rates = zoo.calibrate_batchnorm(module, x, mean=0.75, std=1.5)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())
    assert set(rates) == {path for path, part in module.named_modules() if isinstance(part, NEURONS)}
    module.eval()
    checked = 0
    for out in record(module, x, nn.BatchNorm1d | nn.BatchNorm2d).values():
        axes = [axis for axis in range(out.dim()) if axis != 1]
        torch.testing.assert_close(out.mean(axes), torch.full((out.shape[1],), 0.75), atol=2e-2, rtol=0)
        assert (out.std(axes) < 1.6).all()
        checked += int((out.std(axes) > 1.4).sum())
    assert checked > 100  # only channels that hardly vary are left with less


def test_a_silent_neuron_is_named():
    module = nn.Sequential(PerStep(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), IF(v_threshold=100.0), OverTime())
    with pytest.raises(
        ValueError,
        match=r"^calibrate_batchnorm: neurons that stayed silent: 1\. Try a larger mean or std, or more varied inputs\.$",
    ):
        zoo.calibrate_batchnorm(module, torch.rand(2, 2, 1, 5, 5))
    assert module.training
    assert not module[0][1]._forward_pre_hooks


def test_a_norm_without_statistics_is_refused():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    with pytest.raises(
        ValueError, match=r"^calibrate_batchnorm: a BatchNorm does not track running statistics$"
    ):
        zoo.calibrate_batchnorm(module, torch.rand(2, 1, 5, 5))


# ---- wrong arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: zoo.spikformer("large"),
            "zoo: a variant is named 'BLOCKS-CHANNELS', such as '8-512', got 'large'",
        ),
        (
            lambda: zoo.spikingformer("2-36", heads=2),
            "zoo: the embedding dimension must be a multiple of 8, got 36",
        ),
        (lambda: zoo.spikingformer("2-64", heads=3), "zoo: 64 channels cannot be split into 3 heads"),
        (
            lambda: zoo.spikformer("2-64", pools=[True]),
            "zoo: pools names the four stages of the stem, got 1 values",
        ),
        (lambda: zoo.spike_driven_transformer("2-64", T=0), "zoo: T must be at least 1, got 0"),
        (lambda: zoo.sew_resnet(19), "sew_resnet: depth must be one of 18, 34, 50, 101, 152, got 19"),
        (lambda: zoo.sew_resnet(18, "OR"), "sew_resnet: connect must be one of ADD, AND, IAND, got 'OR'"),
        (
            lambda: zoo.sew_resnet(18, img_size=8),
            "sew_resnet: images must have at least 17 pixels a side, got 8",
        ),
        (lambda: zoo.sew_resnet(18, T=0), "sew_resnet: T must be at least 1, got 0"),
        (lambda: zoo.ms_resnet(50), "ms_resnet: depth must be one of 18, 34, 104, got 50"),
        (lambda: zoo.ms_resnet(18, T=-1), "ms_resnet: T must be at least 1, got -1"),
        (
            lambda: zoo.ms_resnet(104, img_size=40),
            "ms_resnet: averaging shortcuts need sides divisible by 32, got 40",
        ),
        (
            lambda: zoo.meta_spikeformer("8-768"),
            "meta_spikeformer: name must be one of 8-256, 8-384, 8-512, got '8-768'",
        ),
        (
            lambda: zoo.meta_spikeformer(img_size=40),
            "meta_spikeformer: the image must be a multiple of 16 pixels, got 40",
        ),
        (
            lambda: zoo.e_spikeformer("52M"),
            "e_spikeformer: name must be one of t, s, m, l, 83M, 173M, got '52M'",
        ),
        (
            lambda: zoo.e_spikeformer(img_size=8),
            "e_spikeformer: the image must be a multiple of 16 pixels, got 8",
        ),
        (
            lambda: zoo.e_spikeformer(dims=(8, 12, 16)),
            "e_spikeformer: dims of 's' are 4 channel counts, got 3",
        ),
        (
            lambda: zoo.meta_spikeformer(dims=(8, 12, 16)),
            "meta_spikeformer: dims are 4 channel counts, got 3",
        ),
        (
            lambda: zoo.sew_resnet(layers=(1, 1)),
            "sew_resnet: layers are the blocks of four stages, got 2 values",
        ),
        (
            lambda: zoo.ms_resnet(layers=(1, 1)),
            "ms_resnet: layers are the blocks of four stages, got 2 values",
        ),
        (
            lambda: zoo.reduced("vgg"),
            f"reduced: name must be one of {', '.join(NAMES)}, got 'vgg'",
        ),
    ],
)
def test_wrong_arguments(build, message):
    with torch.device("meta"), pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        build()
    assert str(caught.value) == message
