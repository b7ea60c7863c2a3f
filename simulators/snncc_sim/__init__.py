"""The simulator: exact integer execution of mapped networks, then energy and latency of what happened.

Compiled kernels (numba) are imported when a network is executed, not with this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from snncc.hw.spec import ChipSpec
from snncc.mapping.crossing import crossings
from snncc.mapping.mapped import Mapped
from snncc.simulation import Activity, Cost, Inputs, Progress, by_port

__all__ = ["SIMULATOR", "EventSimulator"]


@dataclass(frozen=True)
class EventSimulator:
    """Event-driven execution on compressed weights; see :mod:`snncc_sim.engine`."""

    name: str = "sim"

    def execute(
        self,
        mapped: Mapped,
        tensors: Mapping[str, NDArray[Any]],
        x: Inputs,
        *,
        shuffle: int | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> Activity:
        """Run a batch of input counts [N, T, C, H, W] by port: :func:`snncc_sim.engine.execute`."""
        from snncc_sim import engine

        done = engine.execute(mapped, tensors, x, shuffle=shuffle, workers=workers, progress=progress)
        inputs = by_port(tuple(mapped.ports), x)
        return replace(done, inputs=inputs, crossings=crossings(mapped, done.counts, inputs))

    def estimate(
        self,
        mapped: Mapped,
        activity: Activity,
        chip: ChipSpec,
        host_macs_per_sample: int,
        tensors: Mapping[str, NDArray[Any]] | None = None,
    ) -> Cost:
        """Energy and latency: :func:`snncc_sim.cost.estimate`."""
        from snncc_sim import cost

        return cost.estimate(mapped, activity, chip, host_macs_per_sample, tensors)


SIMULATOR = EventSimulator()
