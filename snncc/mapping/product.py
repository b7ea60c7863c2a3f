"""Products of spikes: which pairs of events meet, and at which neurons, as one map of constant size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from snncc.mapping.address import Shape3


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Strided(_Model):
    """Flat indices into a map [C, H, W]: ``offset`` plus, along each loop, its position times a stride.

    A stride of 0 is a value that serves along the whole loop (broadcast) or collects it (a sum).
    """

    offset: int = 0
    strides: tuple[int, ...]

    def indices(self, sizes: tuple[int, ...]) -> NDArray[np.int64]:
        """Index of every turn of the loops, of the shape ``sizes``. It unrolls: for tables and tests."""
        found = np.full(sizes, self.offset, np.int64)
        for axis, (size, stride) in enumerate(zip(sizes, self.strides, strict=True)):
            along = (-1, *(1,) * (len(sizes) - axis - 1))
            found += (np.arange(size) * stride).reshape(along)
        return found

    def last(self, sizes: tuple[int, ...]) -> int:
        """The largest index."""
        return self.offset + sum((n - 1) * s for n, s in zip(sizes, self.strides, strict=True))


class ProductAddress(_Model):
    """An affine map of constant size: loops over which held values, events and neurons stride together.

    In every turn of the loops (batch, rows, inner, columns of a matrix product; the axes of an
    element-wise one) the neuron gets the held value times what the streaming value brings. Indices
    count a map [C, H, W] in row-major order. Each streaming address meets a held one once a neuron.

    Attributes:
        sizes: turns of each loop.
        held, stream, target: where the held values, the streaming ones and the neurons stand.
        held_shape, stream_shape, target_shape: (C, H, W) of their maps.
    """

    sizes: tuple[int, ...]
    held: Strided
    stream: Strided
    target: Strided
    held_shape: Shape3
    stream_shape: Shape3
    target_shape: Shape3

    @model_validator(mode="after")
    def _within(self) -> ProductAddress:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("loops must have turns")
        for name in ("held", "stream", "target"):
            at: Strided = getattr(self, name)
            if len(at.strides) != len(self.sizes) or min(at.offset, *at.strides) < 0:
                raise ValueError(f"{name}: one stride a loop, none of them negative")
            if at.last(self.sizes) >= math.prod(getattr(self, f"{name}_shape")):
                raise ValueError(f"{name}: indices leave the map")
        return self

    @property
    def fan_out(self) -> int:
        """Neurons that an event of the streaming operand updates, held zeros included."""
        return math.prod(n for n, s in zip(self.sizes, self.stream.strides, strict=True) if s == 0)

    @property
    def largest_sum(self) -> int:
        """Pairs that one neuron adds up at most."""
        return math.prod(n for n, s in zip(self.sizes, self.target.strides, strict=True) if s == 0)


class Product(_Model):
    """A product of two sources' spikes, which a piece integrates (docs/semantics.md#products).

    What ``held`` sends in the first micro-step of a window is kept until the window's end; every
    event of ``stream`` adds it, times the number that the event carries.

    Attributes:
        held, stream: names of pieces or input ports.
        address: which values meet where.
        held_delay, stream_delay: micro-steps that the spikes wait.
    """

    held: str
    stream: str
    address: ProductAddress
    held_delay: int = 0
    stream_delay: int = 0
