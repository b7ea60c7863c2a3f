"""Physical constants with source, grade and band."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Grade = Literal["measured", "vendor", "estimate", "fitted", "simulated", "assumed"]

MOST = 1e9  # a second in ns, a mJ in pJ, a MW in mW: what a chip may cost at most, so that sums stay finite


class Quantity(BaseModel):
    """A physical constant; the unit stands in the name of the field that holds it.

    Attributes:
        value: best estimate.
        low, high: band that the sources support.
        source: where it was published or how it was derived.
        grade: what kind of evidence that is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    value: float
    low: float
    high: float
    source: str
    grade: Grade

    @model_validator(mode="after")
    def _ordered(self) -> Quantity:
        if not 0 <= self.low <= self.value <= self.high <= MOST:
            raise ValueError(f"needs 0 <= low <= value <= high <= {MOST:g}")
        return self
