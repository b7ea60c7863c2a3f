"""Masked encoders: spike sparse convolution (SSC) as trainable modules (SFA paper, eq. 13, §3.4, §6.2).

A masked encoder covers whole patches of its image and works at the sites that are left; masks go
through its strided stages with it. A mask is state of a module and a constant of the network that
snncc compiles from it: another mask makes another network. Pre-training draws a new one for each
batch (:func:`remask`); fine-tuning goes on with the plain convolutions of the same weights
(:func:`vanilla`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snncc.errors import fail
from snncc.ir.sites import carried, masked_patches, offset_of, open_sites
from snncc_torch.ops import centre_gate, fired_centres

MODES = ("mask", "centre")


def patch_mask(height: int, width: int, patch: int = 16, ratio: float = 0.5, seed: int = 0) -> Tensor:
    """A mask bool [height, width] of an image, False on a share of its patches, chosen by ``seed``.

    Raises:
        ModelError: SNNC-M025 if the image is no whole number of patches, or none would be left.
    """
    return torch.from_numpy(masked_patches((height, width), patch, ratio, seed))


class Mask2d(nn.Module):
    """Sets what a mask covers to 0: [..., H, W] of the mask's own size.

    Args:
        mask: bool [H, W], True where values are kept.
    """

    kept: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", _checked(mask).float())

    def remask(self, mask: Tensor) -> None:
        """Another mask of the same size."""
        self.kept = _sized(mask, self.kept).float()

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``, [..., H, W].

        Raises:
            ModelError: SNNC-M025 if the mask has another size.
        """
        return x * _fitting(self.kept, x)


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics in training are those of open sites alone; a gate stands behind it."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:  # type: ignore[override]
        """[B, C, H, W] normalised; open sites ``kept`` [H, W] or [B, H, W] are not 0."""
        if not self.training:
            return super().forward(x)
        last = x.movedim(1, -1)
        normed = nn.functional.batch_norm(
            self.kept_values(x, kept), self.running_mean, self.running_var, self.weight, self.bias, True,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        at = kept.bool().expand(last.shape[:-1]).unsqueeze(-1)
        return torch.zeros_like(last).masked_scatter(at, normed).movedim(-1, 1)

    def kept_values(self, x: Tensor, kept: Tensor) -> Tensor:
        """Values [n, C] of ``x`` [B, C, H, W] at its open sites."""
        last = x.movedim(1, -1)
        return last[kept.bool().expand(last.shape[:-1])]


class MaskedConv2d(nn.Conv2d):
    """Spike sparse convolution: works at the open sites of its result, where all others are 0, bias and all.

    A site is open if the centre of its kernel, o·stride - padding + ⌊k/2⌋·dilation, lies inside the
    map and is not masked; with ``mode="centre"`` also only if some channel of the input is not 0 there. The
    gate passes no gradient at closed sites.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as of Conv2d.
        mask: bool [H, W] of its input, True where it is kept.
        mode: ``mask`` or ``centre`` (for spikes, not for an image).
        norm: BatchNorm between convolution and gate, its statistics taken at open sites.
    """

    mask: Tensor
    kept: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        mask: Tensor,
        mode: str = "mask",
        norm: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        if mode not in MODES:
            raise ValueError(f"MaskedConv2d: mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.mode = mode
        self.norm = MaskedBatchNorm2d(out_channels) if norm else None
        self.register_buffer("mask", _checked(mask).float())
        self.register_buffer("kept", self._open(mask).float())

    def remask(self, mask: Tensor) -> None:
        """Another mask of the same size."""
        self.mask = _sized(mask, self.mask).float()
        self.kept = self._open(self.mask).float()

    def forward(self, x: Tensor) -> Tensor:
        """[B, out_channels, OH, OW] of [B, in_channels, H, W].

        Raises:
            ModelError: SNNC-M025 if the mask has another size.
        """
        _fitting(self.mask, x)
        y = super().forward(x)
        if self.norm is not None:
            y = self.norm(y, self._kept_by(x) if self.training else self.kept)
        if self.mode == "mask":
            return y * self.kept
        gated: Tensor = centre_gate(y, x, self.kept, list(self.stride), self._offset())
        return gated

    def vanilla(self) -> nn.Module:
        """The same weights without gate (VSC), in front of the norm if there is one: for an unmasked network.

        Raises:
            ModelError: SNNC-M025 where that computes something else even under a mask that covers
                nothing: where spikes open the sites, and where centres lie outside the map.
        """
        what = "without its gate the convolution computes something else"
        if self.mode == "centre":
            raise fail("SNNC-M025", "MaskedConv2d", what, got="sites that spikes open", hint="mode='mask'")
        everywhere = self._open(torch.ones_like(self.mask))
        closed = int((~everywhere).sum())
        if closed:
            got, hint = f"{closed} of {everywhere.numel()} sites closed", "odd kernels padded by half"
            raise fail("SNNC-M025", "MaskedConv2d", what, got=got, limit=0, hint=hint)
        plain = copy.deepcopy(self)
        conv = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,  # type: ignore[arg-type]
            self.groups, self.bias is not None,
        )  # fmt: skip
        conv.weight, conv.bias = plain.weight, plain.bias
        if plain.norm is None:
            return conv.train(self.training)
        norm = nn.BatchNorm2d(self.out_channels, plain.norm.eps, plain.norm.momentum)
        norm.load_state_dict(plain.norm.state_dict())
        return nn.Sequential(conv, norm).train(self.training)

    def _offset(self) -> list[int]:
        return list(offset_of(_pair(self.kernel_size), _pair(self.padding), _pair(self.dilation)))

    def _open(self, mask: Tensor) -> Tensor:
        pairs = (_pair(value) for value in (self.kernel_size, self.stride, self.padding, self.dilation))
        return torch.from_numpy(open_sites(mask.cpu().numpy() != 0, *pairs)).to(mask.device)

    def _kept_by(self, x: Tensor) -> Tensor:
        """Open sites of this input, [H, W] or [B, H, W]."""
        kept = self.kept.bool()
        if self.mode == "mask":
            return kept
        return kept & fired_centres(x, kept, list(self.stride), self._offset())

    def extra_repr(self) -> str:
        """Parameters for ``print(module)``."""
        share = f"{int(self.kept.sum())} of {self.kept.numel()} sites open"
        return f"{nn.Conv2d.extra_repr(self)}, mode={self.mode!r}, {share}"  # type: ignore[no-untyped-call]


def _pair(value: Any) -> tuple[int, int]:
    down, right = value
    return int(down), int(right)


def _checked(mask: Tensor) -> Tensor:
    if mask.dtype is not torch.bool or mask.dim() != 2:
        got = f"{str(mask.dtype).removeprefix('torch.')}{list(mask.shape)}"
        raise fail("SNNC-M025", "mask", "must be bool [H, W]", got=got)
    return mask.clone()


def _sized(mask: Tensor, old: Tensor) -> Tensor:
    if mask.shape != old.shape:
        what = "has another size than the map"
        raise fail("SNNC-M025", "mask", what, got=list(mask.shape), limit=list(old.shape))
    return _checked(mask).to(old.device)


def _fitting(mask: Tensor, x: Tensor) -> Tensor:
    if mask.shape != x.shape[-2:]:
        what = "has another size than the map"
        raise fail("SNNC-M025", "mask", what, got=list(mask.shape), limit=list(x.shape[-2:]))
    return mask


# ---- whole networks -----------------------------------------------------------------------------------


def remask(module: nn.Module, mask: Tensor) -> None:
    """Give every masked part of a module a mask, in place: of the image, carried to each part's size.

    Raises:
        ModelError: SNNC-M025 if a part's size is no whole fraction of the mask's, or if a site
            there stands for pixels of which some are covered.
    """
    for _, part in _masked_parts(module):
        size = part.kept.shape if isinstance(part, Mask2d) else part.mask.shape
        part.remask(_at(mask, (int(size[0]), int(size[1]))))


def _masked_parts(module: nn.Module) -> Iterator[tuple[str, MaskedConv2d | Mask2d]]:
    for path, part in module.named_modules():
        if isinstance(part, MaskedConv2d | Mask2d):
            yield path, part


def _at(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of the image at a smaller size."""
    height, width = _checked(mask).shape
    stride = height // size[0]
    if (size[0] * stride, size[1] * stride) != (height, width):
        what = "the map is no whole fraction of the image"
        raise fail("SNNC-M025", "mask", what, got=list(size), limit=[height, width])
    return torch.from_numpy(np.ascontiguousarray(carried(mask.numpy(), stride)))


def sparse(module: nn.Module, example: Tensor, mask: Tensor, mode: str = "mask") -> nn.Module:
    """A copy of an encoder with every convolution masked, its BatchNorm in front of the gate.

    The copy runs on ``example`` once, to see the size at which each convolution works; masks of the
    image are carried there. The first convolution reads the image and is gated by the mask alone.

    Args:
        module: maps all the way: 2-D convolutions, each right before its BatchNorm if it has one.
        example: what it takes, [B, C, H, W].
        mask: bool [H, W] of the image.
        mode: of the other convolutions.

    Raises:
        ModelError: SNNC-M025 for a stage that the mask's patches do not reach, and for weights that
            are no 2-D convolution.
    """
    made = copy.deepcopy(module)
    sizes = _sizes(made, example)
    first = next(iter(sizes), None)
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MaskedConv2d) or not isinstance(child, nn.Conv2d):
                continue
            own = "mask" if child is first else mode
            norm = _norm_behind(parent, name)
            setattr(parent, name, _masked(child, norm, _at(mask, sizes[child]), own))
    return made


def _sizes(module: nn.Module, example: Tensor) -> dict[nn.Module, tuple[int, int]]:
    """Height and width of what each convolution reads, in the order in which they run."""
    found: dict[nn.Module, tuple[int, int]] = {}

    def seen(conv: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[conv] = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))

    handles = []
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv1d | nn.ConvTranspose2d):
            what = "a masked encoder has 2-D convolutions and no other weights"
            raise fail("SNNC-M025", path, what, got=type(part).__name__)
        if isinstance(part, nn.Conv2d):
            handles.append(part.register_forward_pre_hook(seen))
    training = module.training
    with torch.no_grad():
        module.eval()(example)
    module.train(training)
    for handle in handles:
        handle.remove()
    return found


def _norm_behind(parent: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """The BatchNorm right behind a child, which leaves its place."""
    children = list(parent.named_children())
    at = [key for key, _ in children].index(name) + 1
    if at == len(children) or not isinstance(parent, nn.Sequential):
        return None
    key, norm = children[at]
    if not isinstance(norm, nn.BatchNorm2d):
        return None
    setattr(parent, key, nn.Identity())
    return norm


def _masked(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, mask: Tensor, mode: str) -> MaskedConv2d:
    made = MaskedConv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
        conv.groups, conv.bias is not None, mask=mask, mode=mode, norm=norm is not None,
    )  # fmt: skip
    made.weight, made.bias = conv.weight, conv.bias
    if norm is not None and made.norm is not None:
        made.norm.eps, made.norm.momentum = norm.eps, norm.momentum
        made.norm.load_state_dict(norm.state_dict())
    return made.train(conv.training)


def vanilla(module: nn.Module) -> nn.Module:
    """A copy of a masked encoder without masks and gates (VSC), as fine-tuning goes on with it.

    It computes what the masked encoder does under a mask that covers nothing.

    Raises:
        ModelError: SNNC-M025 for a convolution of which that is not so.
    """
    made = copy.deepcopy(module)
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MaskedConv2d):
                setattr(parent, name, child.vanilla())
            elif isinstance(child, Mask2d):
                setattr(parent, name, nn.Identity())
    return made
