"""Gates of output sites: what makes a spike convolution sparse (SSC; SFA paper, equation 13 and §6.2).

A gate stands behind a convolution, where the sums of a closed site become 0: bias and all. It is a
node of its own, so that no rewriting of weights moves anything across it: whatever joins one layer
of weights with the next (chains, pushed streams) finds a gate between them.
"""

# ruff: noqa: D102 - infer is documented by Node
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.const import Const, number_array
from snncc.ir.node import Node, Pair, Trait, two, want
from snncc.ir.synapses import window_count
from snncc.ir.types import Current, Spikes, ValueType

Bitmap = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SiteGate(Node):
    """Mode ``mask``: keeps a map [C, H, W] at its open sites and makes it 0 at all others.

    Attributes:
        sites: uint8 [H, W], 1 where a site is open. It is a constant of the network: another mask
            makes another network.
    """

    kind = "site_gate"
    traits = frozenset({Trait.LINEAR, Trait.MONOTONE})
    sites: Const

    @property
    def bitmap(self) -> Bitmap:
        """Whether each site may be open, [H, W]."""
        return self.sites.array.astype(bool)

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        want(len(args) == 1, self, "takes one input", len(args))
        self._fits(args[0])
        return args[0]

    def _fits(self, x: ValueType) -> None:
        want(len(x.shape) == 3, self, "input must be [C, H, W]", x.shape)
        sites = self.sites
        ok = sites.array.dtype == np.uint8 and bool((sites.array <= 1).all())
        want(ok, self, "sites must be uint8 zeros and ones", sites.array.dtype.name)
        want(sites.shape == x.shape[1:], self, "mask has another size than the map", sites.shape, x.shape[1:])


@dataclass(frozen=True, kw_only=True)
class CentreGate(SiteGate):
    """Mode ``centre``: a site is open where, besides, some channel of ``spikes`` fired at its centre.

    Reads (sums of a convolution, the spikes that this convolution reads). The centre of output site o
    is the input site ``o·stride + offset``, with offset = ⌊k/2⌋·dilation - padding; a site whose centre
    lies outside the map is closed. In spike graphs the gate is latched: whether a centre fired in the
    whole window is known from the window's first micro-step, for a train is a prefix of ones, and
    holds until its end.

    Attributes:
        stride, offset: of the centres.
        bias: spike graphs only: [C], what an open site gets once a window, with its first spikes.
    """

    kind = "centre_gate"
    traits = frozenset()
    stride: Pair = (1, 1)
    offset: Pair = (0, 0)
    bias: Const | None = None

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        x, spikes = two(self, args)
        self._fits(x)
        want(isinstance(x, Current), self, "gates sums", x)
        unsigned = isinstance(spikes, Spikes) and not spikes.signed and len(spikes.shape) == 3
        want(unsigned, self, "centres are unsigned spikes of a map [C, H, W]", spikes)
        want(min(self.stride) >= 1, self, "stride must be positive", self.stride)
        want(self.bias is None or self.bias.shape == x.shape[:1], self, "bias must be [C]")
        return x


def through(node: Node) -> tuple[str, ...]:
    """Inputs whose values a node passes on; what only opens a gate is none of them."""
    return node.inputs[:1] if isinstance(node, SiteGate) else node.inputs


def gated(node: SiteGate, args: list[Array]) -> Array:
    """Result [N, C, H, W] of a gate of either mode, from whole counts or from a window's first spikes."""
    x = args[0]
    if isinstance(node, CentreGate):
        return latched(node, x, fired_centres(node, args[1]), True)
    return np.where(node.bitmap, x, x.dtype.type(0))


def latched(node: CentreGate, sums: Array, fired: Bitmap, first: bool) -> Array:
    """What a gate whose centres ``fired`` [N, H, W] lets through of ``sums`` [N, C, H, W].

    ``first``: whether it is the window's first micro-step, which brings the bias as well.
    """
    bias = 0 if node.bias is None or not first else number_array(node.bias, sums.ndim)
    return np.where((fired & node.bitmap)[:, None], sums + bias, sums.dtype.type(0))


def fired_centres(node: CentreGate, spikes: Array) -> Bitmap:
    """Whether any channel of ``spikes`` [N, C, H, W] is not 0 at the centre of each site, [N, OH, OW]."""
    fired = (spikes != 0).any(axis=1)
    rows, columns = (
        centres(sites, step, first)
        for sites, step, first in zip(node.sites.shape, node.stride, node.offset, strict=True)
    )
    return looked_up(fired, rows, columns)


def centres(sites: int, stride: int, offset: int) -> NDArray[np.int64]:
    """Input position of the centre of each of ``sites`` output positions along one axis."""
    return np.arange(sites, dtype=np.int64) * stride + offset


def looked_up(values: Bitmap, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Bitmap:
    """``values[..., rows, columns]``, False outside the map [..., H, W]."""
    height, width = values.shape[-2:]
    inside = np.logical_and.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    found = values[..., rows.clip(0, height - 1), :][..., columns.clip(0, width - 1)]
    return np.asarray(found & inside)


def offset_of(kernel: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Pair:
    """Offset of the centres of a convolution: ⌊k/2⌋·dilation - padding, (vertical, horizontal)."""
    down, right = (k // 2 * d - p for k, p, d in zip(kernel, padding, dilation, strict=True))
    return down, right


def open_sites(
    mask: Bitmap, kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
) -> Bitmap:
    """Output sites [OH, OW] of a convolution whose centre is an unmasked site of ``mask`` [H, W].

    An odd kernel padded by its half gives ``mask[::stride]``. Every other may close sites whose centre
    lies outside the map, also under a mask that covers nothing.
    """
    sizes = [window_count(*axis) for axis in zip(mask.shape, kernel, stride, padding, dilation, strict=True)]
    offset = offset_of(kernel, padding, dilation)
    return looked_up(mask, centres(sizes[0], stride[0], offset[0]), centres(sizes[1], stride[1], offset[1]))


# ---- masks of patches -------------------------------------------------------------------------------


def masked_patches(size: Pair, patch: int, ratio: float, seed: int) -> Bitmap:
    """A mask [H, W] of an image, True where it is kept: ``ratio`` of its patches are covered at random.

    Args:
        size: of the image.
        patch: edge of the square patches.
        ratio: share of covered patches, from 0 to below 1; rounded to whole patches.
        seed: of the choice.

    Raises:
        ModelError: SNNC-M025 if the image is no whole number of patches, or none would be left.
    """
    rows, columns = (n // patch if patch >= 1 else 0 for n in size)
    if patch < 1 or (rows * patch, columns * patch) != size:
        what = "the image is no whole number of patches"
        raise fail("SNNC-M025", "mask", what, got=list(size), limit=patch)
    covered = round(ratio * rows * columns)
    if not 0 <= covered < rows * columns:
        got, limit = f"{covered} of {rows * columns} patches covered", f"0 to {rows * columns - 1}"
        raise fail("SNNC-M025", "mask", "at least one patch must be left", got=got, limit=limit)
    kept = np.ones(rows * columns, bool)
    kept[np.random.default_rng(seed).permutation(kept.size)[:covered]] = False
    return np.asarray(kept.reshape(rows, columns).repeat(patch, 0).repeat(patch, 1))


def carried(mask: Bitmap, stride: int) -> Bitmap:
    """``mask`` [H, W] at 1/stride of its size, [H/stride, W/stride].

    Raises:
        ModelError: SNNC-M025 if a site stands for pixels of which some are covered and some are not:
            the patches are smaller than its stride, or lie across it.
    """
    height, width = mask.shape
    if height % stride or width % stride:
        raise fail("SNNC-M025", "mask", "is no whole number of strides", got=list(mask.shape), limit=stride)
    blocks = mask.reshape(height // stride, stride, width // stride, stride)
    mixed = int((blocks.any(axis=(1, 3)) != blocks.all(axis=(1, 3))).sum())
    if mixed:
        what = f"sites at 1/{stride} of the image are covered in part"
        hint = f"patches of a multiple of {stride} pixels"
        raise fail("SNNC-M025", "mask", what, got=f"{mixed} of {blocks[:, 0, :, 0].size}", limit=0, hint=hint)
    return np.asarray(blocks[:, 0, :, 0])


def sites_const(bitmap: Bitmap) -> Const:
    """A bitmap [H, W] as the constant of a gate."""
    return Const(bitmap.astype(np.uint8))
