"""Address functions: from the address of a spike to the synapses and neurons it updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from snncc.errors import fail
from snncc.ir.sites import Bitmap, centres, looked_up, offset_of, open_sites

Pair = tuple[int, int]
Shape3 = tuple[int, int, int]


class VSC(BaseModel):
    """Vanilla spike convolution: an affine map of constant size (SFA paper §6.2, Fig. 12).

    A spike of the source at (c, y, x) stands, after sum pooling, at (c, y // pool_y, x // pool_x),
    after nearest upsampling at every place (y', x') with y' // spread_y and x' // spread_x that, and
    updates the outputs (o, oy, ox) with ``oy·stride + ky·dilation = y' + padding`` for some
    kernel row ky (columns alike) and every o of c's group. A linear layer is the convolution
    whose kernel is its whole input. Spikes behind the last whole pooling window reach nothing.

    Attributes:
        source_shape: (C, H, W) of the source's own map, before pooling and upsampling.
        target_shape: (O, OH, OW).
        kernel, stride, padding, dilation, pool, spread: (vertical, horizontal).
        groups: as in a grouped convolution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source_shape: Shape3
    target_shape: Shape3
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pool: Pair = (1, 1)
    spread: Pair = (1, 1)

    @model_validator(mode="after")
    def _positive(self) -> VSC:
        sizes = (
            *self.source_shape,
            *self.target_shape,
            *self.kernel,
            *self.stride,
            *self.dilation,
            *self.pool,
            *self.spread,
        )
        if min(*sizes, self.groups) < 1 or min(self.padding) < 0:
            raise ValueError("sizes must be positive and padding not negative")
        if self.source_shape[0] % self.groups or self.target_shape[0] % self.groups:
            raise ValueError("groups must divide the channels")
        return self

    @property
    def pooled_shape(self) -> Shape3:
        """(C, H, W) of the map behind the pooling."""
        c, h, w = self.source_shape
        return c, h // self.pool[0], w // self.pool[1]

    @property
    def seen_shape(self) -> Shape3:
        """(C, H, W) of the map that the kernel sees: pooled, then upsampled."""
        c, h, w = self.pooled_shape
        return c, h * self.spread[0], w * self.spread[1]

    @property
    def outputs_per_tap(self) -> int:
        """Output channels that one kernel tap updates."""
        return self.target_shape[0] // self.groups

    def axis_hits(self, axis: int, position: int) -> Iterator[tuple[int, int]]:
        """(output position, kernel tap) pairs that an unpooled position reaches along an axis (0 = y).

        In ascending order of the output position, which upsampling may reach by several taps.
        """
        pooled, spread = position // self.pool[axis], self.spread[axis]
        if pooled >= self.pooled_shape[1 + axis]:
            return
        places = range(pooled * spread, (pooled + 1) * spread)
        yield from sorted(hit for place in places for hit in self._hits_of(axis, place))

    def _hits_of(self, axis: int, place: int) -> Iterator[tuple[int, int]]:
        """(output position, kernel tap) pairs of one place of the map that the kernel sees."""
        for tap in reversed(range(self.kernel[axis])):
            reach = place + self.padding[axis] - tap * self.dilation[axis]
            out, rest = divmod(reach, self.stride[axis])
            if rest == 0 and 0 <= out < self.target_shape[1 + axis]:
                yield out, tap

    def fan_out(self) -> NDArray[np.int64]:
        """Synapses that a spike at each (y, x) of the source updates, [H, W]; none outside the map."""
        hits = [
            np.array([sum(1 for _ in self.axis_hits(axis, p)) for p in range(self.source_shape[1 + axis])])
            for axis in (0, 1)
        ]
        return np.asarray(np.multiply.outer(hits[0], hits[1]) * self.outputs_per_tap, dtype=np.int64)

    def expand(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Dense matrix [targets, sources] of ``weight`` [O, C/groups, kh, kw]. For tests: it unrolls."""
        (c, h, w), (o, oh, ow) = self.source_shape, self.target_shape
        dense = np.zeros((o, oh, ow, c, h, w), weight.dtype)
        per_group = c // self.groups
        for y in range(h):
            for x in range(w):
                for oy, ky in self.axis_hits(0, y):
                    for ox, kx in self.axis_hits(1, x):
                        for g in range(self.groups):
                            outs = slice(g * o // self.groups, (g + 1) * o // self.groups)
                            ins = slice(g * per_group, (g + 1) * per_group)
                            dense[outs, oy, ox, ins, y, x] += weight[outs, :, ky, kx]
        return dense.reshape(o * oh * ow, c * h * w)


@dataclass(frozen=True)
class SSC:
    """Spike sparse convolution: an affine map, gated per output site (SFA paper, equation 13 and §6.2).

    The affine part is of constant size, the gate one bit a site. A closed site gets no synaptic
    update, no bias and no pre-charge.

    Attributes:
        affine: where an event goes.
        bitmap: uint8 [⌈OH·OW/8⌉], a bit a site in order (y, x), first in the highest bit; 1 is open.
        by_centre: whether a site is open only where, besides, some channel fired at its centre in the
            whole window.
    """

    affine: VSC
    bitmap: NDArray[np.uint8]
    by_centre: bool = False

    @classmethod
    def under(cls, affine: VSC, mask: Bitmap, by_centre: bool = False) -> SSC:
        """The map of a convolution under a mask [H, W] of what it reads, True where it is kept.

        Raises:
            ModelError: SNNC-M025 if the mask has another size.
        """
        if mask.shape != affine.seen_shape[1:]:
            what = "has another size than the map that the convolution reads"
            raise fail("SNNC-M025", "mask", what, got=list(mask.shape), limit=list(affine.seen_shape[1:]))
        sites = open_sites(mask, affine.kernel, affine.stride, affine.padding, affine.dilation)
        return cls(affine, packed(sites), by_centre)

    @cached_property
    def sites(self) -> Bitmap:
        """Whether each site may be open, [OH, OW]."""
        return unpacked(self.bitmap, self.affine.target_shape)

    def opened(self, spikes: NDArray[Any]) -> Bitmap:
        """Open sites [OH, OW] of a window in which the source sent ``spikes`` [C, H, W]."""
        if not self.by_centre:
            return self.sites
        a = self.affine
        (height, width), (down, right) = a.pooled_shape[1:], a.pool
        whole = (spikes != 0).any(axis=0)[: height * down, : width * right]
        fired = whole.reshape(height, down, width, right).any(axis=(1, 3))
        rows, columns = (
            centres(n, step, first)
            for n, step, first in zip(
                self.sites.shape, a.stride, offset_of(a.kernel, a.padding, a.dilation), strict=True
            )
        )
        return self.sites & looked_up(fired, rows, columns)

    def fan_out(self) -> NDArray[np.int64]:
        """Synapses at sites that may be open that a spike at each (y, x) of the source updates, [H, W]."""
        rows, columns = (_reaches(self.affine, axis) for axis in (0, 1))
        return np.asarray(rows @ self.sites.astype(np.int64) @ columns.T * self.affine.outputs_per_tap)

    def expand(self, weight: NDArray[Any], spikes: NDArray[Any]) -> NDArray[Any]:
        """Dense matrix [targets, sources] of ``weight`` while ``spikes`` [C, H, W] hold. For tests."""
        dense = self.affine.expand(weight)
        kept = np.broadcast_to(self.opened(spikes), self.affine.target_shape).reshape(-1, 1)
        return np.where(kept, dense, dense.dtype.type(0))


def _reaches(address: VSC, axis: int) -> NDArray[np.int64]:
    """Kernel taps by which each source position along an axis reaches each output position."""
    found = np.zeros((address.source_shape[1 + axis], address.target_shape[1 + axis]), np.int64)
    for position in range(len(found)):
        for out, _ in address.axis_hits(axis, position):
            found[position, out] += 1
    return found


def packed(sites: Bitmap) -> NDArray[np.uint8]:
    """A bitmap [H, W] with one bit a site."""
    return np.packbits(sites.astype(bool))


def unpacked(bitmap: NDArray[np.uint8], target: Shape3) -> Bitmap:
    """The bitmap [H, W] of a map (C, H, W) whose sites :func:`packed` has packed."""
    _, height, width = target
    bits = np.unpackbits(bitmap, count=height * width)
    return bits.reshape(height, width).astype(bool)
