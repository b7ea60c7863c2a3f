"""Chips whose cores stand on a mesh of routers: geometry and what one core holds."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from snncc.hw.quantity import Grade

_MOST_CORES = 1 << 20  # tables of all cores and links are made


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Bound(_Model):
    """A limit with its source.

    Attributes:
        limit: largest allowed number.
        source: where it was published or how it was derived.
        grade: what kind of evidence that is.
    """

    limit: int = Field(ge=0)
    source: str
    grade: Grade


def _some(bound: Bound) -> Bound:
    if bound.limit < 1:
        raise ValueError("a core that holds none of it could hold no network")
    return bound


Resource = Annotated[Bound, AfterValidator(_some)]


class Mesh(_Model):
    """Cores of a chip hang on a grid of routers with XY routing; chips stand in a row.

    Core ``i`` of a chip hangs on router ``i // cores_per_router``, which stands at
    ``(router % columns, router // columns)``.

    Attributes:
        chip_crossing: links that a step to the next chip counts as in placement, on top of its own.
    """

    source: str
    chips: int
    columns: int
    rows: int
    cores_per_router: int
    chip_crossing: Bound | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Mesh:
        sizes = (self.chips, self.columns, self.rows, self.cores_per_router)
        if min(sizes) < 1 or math.prod(sizes) > _MOST_CORES:
            raise ValueError(f"sizes must be positive, and all cores together at most {_MOST_CORES:,}")
        return self

    @property
    def cores_per_chip(self) -> int:
        """Cores of one chip."""
        return self.columns * self.rows * self.cores_per_router

    @property
    def cores(self) -> int:
        """Cores of all chips."""
        return self.chips * self.cores_per_chip

    def position(self, core: int) -> tuple[int, int]:
        """(x, y) of a core's router; chip c stands ``c * columns`` to the right."""
        chip, local = divmod(core, self.cores_per_chip)
        y, x = divmod(local // self.cores_per_router, self.columns)
        return chip * self.columns + x, y
