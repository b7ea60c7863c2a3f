"""The simulator: exact integer execution of mapped networks, then energy and latency of what happened.

Compiled kernels (numba) are imported when a network is executed, not with this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from snncc.mapping.mapped import Mapped
from snncc.simulation import Activity, Progress

__all__ = ["SIMULATOR", "EventSimulator"]


@dataclass(frozen=True)
class EventSimulator:
    """Event-driven execution on compressed weights; see :mod:`snncc_sim.engine`."""

    name: str = "sim"

    def execute(
        self,
        mapped: Mapped,
        tensors: Mapping[str, NDArray[Any]],
        x: NDArray[Any],
        *,
        shuffle: int | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> Activity:
        """Run a batch: :func:`snncc_sim.engine.execute`."""
        from snncc_sim import engine

        return engine.execute(mapped, tensors, x, shuffle=shuffle, workers=workers, progress=progress)


SIMULATOR = EventSimulator()
