"""A captured model: the float graph and what came with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from snncc.ir.graph import Graph


@dataclass(frozen=True)
class Comparison:
    """Captured graph against the module it came from, layer by layer on the module's own spikes.

    Attributes:
        inputs: random inputs compared.
        layers: layers compared.
        worst: largest |difference| / bound over all pre-activations, where the bound is
            1e-5·(Σ|w·x| + |b|) (docs/semantics.md#float-rule); at most 1.
        flips: spikes that differ, each with its membrane within the bound of the threshold.
        end_to_end: largest |difference| of the results on the first input; reported, not bounded.
        values: pre-activations and results compared.
        equal: how many of them are bitwise equal to the module's.
    """

    inputs: int
    layers: int
    worst: float
    flips: int
    end_to_end: float
    values: int = 0
    equal: int = 0


@dataclass(frozen=True)
class Model:
    """A float graph with the calibration inputs that ride with it.

    Attributes:
        graph: of the float family.
        calibration: inputs [N, T, *shape], or None.
        labels: classes [N] of the calibration inputs, or None.
        comparison: how well the graph reproduces the module; None where no module was at hand.
        notes: what the frontend recognised, folded or left to the host, for people.
        origin: file or class the model came from.
    """

    graph: Graph
    calibration: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    origin: str = ""
