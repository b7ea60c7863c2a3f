"""Masked modules: what they compute and train, their masks, capture, and the way back to plain convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snncc_torch
from snncc.errors import ModelError
from snncc.ir import CentreGate, SiteGate
from snncc.ir.interp import run
from snncc_torch.nn import SFA, Mask2d, MaskedBatchNorm2d, MaskedConv2d, patch_mask, remask, sparse, vanilla
from snncc_torch.zoo import calibrate_batchnorm, e_spikeformer_masked


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def spikes(*shape: int) -> Tensor:
    """Counts 0..2, of which about half of the sites have none."""
    return torch.randint(0, 3, shape).float() * (torch.rand(shape[0], 1, *shape[2:]) < 0.5)


def by_definition(conv: MaskedConv2d, x: Tensor, mask: Tensor) -> Tensor:
    """The dense convolution, 0 wherever the definition closes a site."""
    y = nn.functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    for n, oy, ox in torch.cartesian_prod(*(torch.arange(k) for k in (len(y), *y.shape[-2:]))).tolist():
        at = [
            o * s - p + k // 2 * d
            for o, s, p, k, d in zip(
                (oy, ox), conv.stride, conv.padding, conv.kernel_size, conv.dilation, strict=True
            )
        ]
        inside = all(0 <= a < size for a, size in zip(at, mask.shape, strict=True))
        kept = inside and bool(mask[at[0], at[1]])
        if conv.mode == "centre":
            kept = kept and bool((x[n, :, at[0], at[1]] != 0).any())
        y[n, :, oy, ox] *= kept
    return y


@pytest.mark.parametrize("mode", ["mask", "centre"])
@pytest.mark.parametrize("geometry", [
    {"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": 2, "padding": 1, "dilation": 2}, {"kernel_size": (1, 4), "stride": (2, 1), "padding": (0, 1)},
], ids=str)  # fmt: skip
def test_a_masked_convolution_is_the_definition(mode: str, geometry: dict[str, object]) -> None:
    mask = torch.rand(7, 8) < 0.6
    conv = MaskedConv2d(2, 4, **geometry, mask=mask, mode=mode)  # type: ignore[arg-type]
    x = spikes(3, 2, 7, 8)
    torch.testing.assert_close(conv(x), by_definition(conv, x, mask))


@pytest.mark.parametrize("mode", ["mask", "centre"])
def test_no_gradient_passes_a_closed_site(mode: str) -> None:
    conv = MaskedConv2d(2, 3, 3, padding=1, mask=torch.rand(6, 6) < 0.6, mode=mode)
    x = spikes(2, 2, 6, 6).requires_grad_()
    y = conv(x)
    y.sum().backward()
    kept = (by_definition(conv, torch.ones_like(x), conv.mask) != 0).any(1, keepdim=True)
    if mode == "centre":
        kept = kept & (x != 0).any(1, keepdim=True)
    torch.testing.assert_close(conv.bias.grad, kept.sum().float().expand(3))  # type: ignore[union-attr]
    want = nn.functional.conv_transpose2d(kept.float().expand_as(y), conv.weight, padding=1)
    torch.testing.assert_close(x.grad, want)


def test_statistics_are_those_of_open_sites() -> None:
    mask = torch.rand(6, 6) < 0.5
    norm = MaskedBatchNorm2d(3)
    x = torch.randn(4, 3, 6, 6)
    y = norm(x, mask)
    plain = nn.BatchNorm1d(3)
    torch.testing.assert_close(
        y.movedim(1, -1)[:, mask].flatten(0, 1), plain(x.movedim(1, -1)[:, mask].flatten(0, 1))
    )
    assert not y.movedim(1, -1)[:, ~mask].any()
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@pytest.mark.parametrize("mode", ["mask", "centre"])
def test_capture_gives_a_gate_behind_the_norm(mode: str) -> None:
    mask = torch.rand(6, 8) < 0.6
    conv = MaskedConv2d(2, 3, 3, 2, 1, mask=mask, mode=mode, norm=True)
    module = nn.Sequential(SFA(2), conv, SFA(2)).eval()
    x = 3 * torch.rand(2, 2, 6, 8) * (torch.rand(2, 1, 6, 8) < 0.5)
    model = snncc_torch.capture(module, x[:1])
    assert [n.kind for n in model.graph.nodes][2:5] == [
        "conv2d",
        "batchnorm",
        "site_gate" if mode == "mask" else "centre_gate",
    ]
    gate = model.graph.nodes[4]
    assert isinstance(gate, SiteGate)
    assert (gate.bitmap == mask[::2, ::2].numpy()).all()
    assert not isinstance(gate, CentreGate) or (gate.stride, gate.offset) == ((2, 2), (0, 0))
    result = run(model.graph, x.numpy()[:, None]).result
    torch.testing.assert_close(torch.from_numpy(result), module(x))


def test_a_product_with_zeros_and_ones_of_sites_is_a_gate() -> None:
    """As SparK's code masks its features."""

    class Spark(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fire = nn.Conv2d(1, 2, 3, padding=1), SFA(2)
            self.register_buffer("active", (torch.rand(1, 1, 4, 5) < 0.5).float())

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fire(self.conv(x) * self.active)
            return y

    model = snncc_torch.capture(Spark().eval(), torch.rand(1, 1, 4, 5))
    assert [n.kind for n in model.graph.nodes] == ["input", "conv2d", "site_gate", "neuron", "output"]


# ---- masks ----------------------------------------------------------------------------------------------


def encoder(mode: str = "mask", ratio: float = 0.5) -> nn.Module:
    options = {"dims": (8, 12, 16, 24), "depths": (1, 0), "heads": 2, "mlp_ratio": 2, "expansion": 2}
    module = e_spikeformer_masked("s", img_size=32, mode=mode, ratio=ratio, seed=1, **options).eval()  # type: ignore[arg-type]
    calibrate_batchnorm(module, torch.rand(4, 3, 32, 32), mean=0.75)
    return module


@pytest.mark.parametrize("mode", ["mask", "centre"])
def test_what_is_covered_changes_nothing_and_nothing_fires_there(mode: str) -> None:
    """Information does not leak: covered pixels are without influence, covered sites without values."""
    module = encoder(mode)
    cover = module.cover.kept.bool()  # type: ignore[union-attr, operator]
    x = torch.rand(1, 3, 32, 32)
    other = torch.where(cover, x, torch.rand(1, 3, 32, 32))
    assert module(x).any()
    assert torch.equal(module(x), module(other))
    seen: list[Tensor] = []
    for part in module.modules():
        if isinstance(part, MaskedConv2d | SFA):
            part.register_forward_hook(lambda _m, _a, y: seen.append(y))
    module(x)
    maps = [y for y in seen if y.dim() == 4]
    assert len(maps) > 20
    for y in maps:
        step = 32 // y.shape[-1]
        assert not y[..., ~cover[::step, ::step]].any()


def test_another_mask_reaches_every_stage() -> None:
    module = encoder()
    mask = patch_mask(32, 32, 16, 0.25, seed=7)
    remask(module, mask)
    for part in module.modules():
        if isinstance(part, MaskedConv2d):
            assert torch.equal(
                part.mask.bool(), mask[:: 32 // part.mask.shape[0], :: 32 // part.mask.shape[1]]
            )
    assert torch.equal(module.cover.kept.bool(), mask)  # type: ignore[union-attr, operator]


def refused(call: object, *args: object, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        call(*args, **options)  # type: ignore[operator]
    return str(caught.value)


def test_masks_that_do_not_fit() -> None:
    module, wrong = encoder(), "[SNNC-M025] mask: has another size than the map"
    small = patch_mask(32, 32, 8, 0.5, seed=1)
    assert refused(remask, module, small).startswith(
        "[SNNC-M025] mask: sites at 1/16 of the image are covered in part, got 4 of 4, limit 0."
    )
    assert refused(remask, module, torch.ones(40, 32, dtype=torch.bool)).startswith("[SNNC-M025] mask: ")
    assert refused(module.cover, torch.zeros(1, 3, 48, 48)) == f"{wrong}, got [32, 32], limit [48, 48]."  # type: ignore[union-attr]
    conv = MaskedConv2d(1, 1, 3, mask=torch.ones(4, 4, dtype=torch.bool))
    assert refused(conv, torch.zeros(1, 1, 5, 5)) == f"{wrong}, got [4, 4], limit [5, 5]."
    assert refused(conv.remask, torch.ones(5, 4, dtype=torch.bool)) == f"{wrong}, got [5, 4], limit [4, 4]."
    assert refused(Mask2d, torch.ones(4, 4)) == "[SNNC-M025] mask: must be bool [H, W], got float32[4, 4]."
    with pytest.raises(ValueError, match="mode must be one of mask, centre, got 'both'"):
        MaskedConv2d(1, 1, 3, mask=torch.ones(4, 4, dtype=torch.bool), mode="both")


def test_an_encoder_with_other_weights_is_not_masked() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(2), nn.Conv1d(2, 2, 1))
    message = refused(sparse, module, torch.zeros(1, 1, 16, 16), patch_mask(16, 16, 16, 0.0))
    assert message == "[SNNC-M025] 2: a masked encoder has 2-D convolutions and no other weights, got Conv1d."


# ---- and back -------------------------------------------------------------------------------------------


def test_plain_convolutions_compute_what_the_unmasked_encoder_does() -> None:
    module = encoder(ratio=0.0)
    plain = vanilla(module)
    assert not any(isinstance(part, MaskedConv2d | Mask2d) for part in plain.modules())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(plain(x), module(x), atol=0, rtol=0)
    masked = encoder()
    assert not torch.equal(vanilla(masked)(x), masked(x))  # a mask is not part of it


def test_what_is_no_plain_convolution() -> None:
    whole = torch.ones(9, 9, dtype=torch.bool)
    what = "[SNNC-M025] MaskedConv2d: without its gate the convolution computes something else"
    even = MaskedConv2d(1, 1, 2, padding=1, mask=whole)
    assert (
        refused(even.vanilla)
        == f"{what}, got 19 of 100 sites closed, limit 0. Try odd kernels padded by half."
    )
    centre = MaskedConv2d(1, 1, 3, padding=1, mask=whole, mode="centre")
    assert refused(centre.vanilla) == f"{what}, got sites that spikes open. Try mode='mask'."
    assert refused(vanilla, encoder("centre")) == f"{what}, got sites that spikes open. Try mode='mask'."
