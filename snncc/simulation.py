"""What a simulator takes and gives: the contract between the core and simulator packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from snncc.mapping.mapped import Mapped

Array = NDArray[Any]
Progress = Callable[[int], None]  # called with the number of samples just finished


@dataclass(frozen=True)
class LayerActivity:
    """Integer totals of one piece over all samples.

    Attributes:
        events: data spikes that arrived (after pooling; one a connection).
        synaptic_operations: weight look-ups those caused, taps outside the map excluded,
            zero weights included.
        control_events, control_operations: the same for the gate's control events.
        spikes: spikes that the piece sent.
        neuron_updates: membrane updates other than synaptic ones (bias, decay, fire pass).
        saturations: updates that left the membrane's word and were clamped.
        early: neurons that fired while their layer was still integrating (gated engine).
        out_of_range: samples in which either happened.
    """

    name: str
    events: int = 0
    synaptic_operations: int = 0
    control_events: int = 0
    control_operations: int = 0
    spikes: int = 0
    neuron_updates: int = 0
    saturations: int = 0
    early: int = 0
    out_of_range: tuple[int, ...] = ()


@dataclass(frozen=True)
class Activity:
    """What a mapped network did on a batch.

    Attributes:
        samples: N.
        counts: per piece [N, T, C, H, W]: spikes of each timestep's window; a readout's membrane.
        layers: totals, one a piece, in order.
        result: decoded result [N, ...].
        per_sample: per piece, synaptic operations of each sample: data and control, [N, 2] int64.
        connection_events: per piece, data events that arrived over each of its connections.
    """

    samples: int
    counts: dict[str, Array]
    layers: tuple[LayerActivity, ...]
    result: Array
    per_sample: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    connection_events: dict[str, tuple[int, ...]] = field(default_factory=dict)


class Simulator(Protocol):
    """Executes mapped networks."""

    name: str

    def execute(
        self,
        mapped: Mapped,
        tensors: Mapping[str, Array],
        x: Array,
        *,
        shuffle: int | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> Activity:
        """Run a batch of spike counts ``x`` [N, T, C, H, W].

        ``shuffle`` plays the input events of the event-driven engines in a random order of that seed.
        """
        ...
