"""Address functions: from the address of a spike to the synapses and neurons it updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

Pair = tuple[int, int]
Shape3 = tuple[int, int, int]


class VSC(BaseModel):
    """Vanilla spike convolution: an affine map of constant size (SFA paper §6.2, Fig. 12).

    A spike of the source at (c, y, x) stands, after sum pooling, at (c, y // pool_y, x // pool_x)
    and updates the outputs (o, oy, ox) with ``oy·stride + ky·dilation = y + padding`` for some
    kernel row ky (columns alike) and every o of c's group. A linear layer is the convolution
    whose kernel is its whole input. Spikes behind the last whole pooling window reach nothing.

    Attributes:
        source_shape: (C, H, W) of the source's own map, before pooling.
        target_shape: (O, OH, OW).
        kernel, stride, padding, dilation, pool: (vertical, horizontal).
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

    @model_validator(mode="after")
    def _positive(self) -> VSC:
        sizes = (
            *self.source_shape,
            *self.target_shape,
            *self.kernel,
            *self.stride,
            *self.dilation,
            *self.pool,
        )
        if min(*sizes, self.groups) < 1 or min(self.padding) < 0:
            raise ValueError("sizes must be positive and padding not negative")
        if self.source_shape[0] % self.groups or self.target_shape[0] % self.groups:
            raise ValueError("groups must divide the channels")
        return self

    @property
    def pooled_shape(self) -> Shape3:
        """(C, H, W) of the map that the kernel sees."""
        c, h, w = self.source_shape
        return c, h // self.pool[0], w // self.pool[1]

    @property
    def outputs_per_tap(self) -> int:
        """Output channels that one kernel tap updates."""
        return self.target_shape[0] // self.groups

    def axis_hits(self, axis: int, position: int) -> Iterator[tuple[int, int]]:
        """(output position, kernel tap) pairs that an unpooled position reaches along an axis (0 = y).

        In ascending order of the output position.
        """
        pooled = position // self.pool[axis]
        if pooled >= self.pooled_shape[1 + axis]:
            return
        for tap in reversed(range(self.kernel[axis])):
            reach = pooled + self.padding[axis] - tap * self.dilation[axis]
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

    def dense_operations(self) -> int:
        """Multiply-accumulates of the dense convolution, padding taps included."""
        inner = self.source_shape[0] // self.groups * math.prod(self.kernel)
        return math.prod(self.target_shape) * inner

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
