"""Maxima of spikes: which values of a source's map each neuron of a piece takes the largest of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from snncc.mapping.address import Pair


class MaxOver(BaseModel):
    """A maximum over windows of one source's map, which a piece integrates (docs/semantics.md#pools).

    In every micro-step the neuron (c, oy, ox) gets the largest of what the source sent from
    (c, oy·stride + ky·dilation - padding, ...), silence being 0; positions outside the map do not count.

    Attributes:
        source: name of a piece, or :data:`~snncc.mapping.mapped.INPUT`.
        delay: micro-steps that the spikes wait.
        kernel, stride, padding, dilation: (vertical, horizontal), of the window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: str
    delay: int = 0
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @model_validator(mode="after")
    def _positive(self) -> MaxOver:
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(*self.padding, self.delay) < 0:
            raise ValueError("sizes must be positive, padding and delay not negative")
        return self
