"""What a target's lowering takes and gives: the contract between the core and backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from snncc.analysis.certificate import Certificate
from snncc.errors import fail
from snncc.hw.spec import ChipSpec
from snncc.ir.graph import Graph
from snncc.ir.schedule import Schedule
from snncc.mapping.mapped import Mapped


@dataclass(frozen=True)
class Options:
    """What the user may choose about a compilation.

    Attributes:
        schedule: name of one that the target offers.
        verify_each: run every pass's input and output on the calibration inputs.
    """

    schedule: str = "exact"
    verify_each: bool = False


def offered(target: str, schedules: Mapping[str, Schedule], name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        UsageError: SNNC-U005, with those that the target offers, if it is none of them.
    """
    if name not in schedules:
        limit = ", ".join(schedules)
        raise fail("SNNC-U005", "--schedule", f"{target} offers no such schedule", got=name, limit=limit)
    return schedules[name]


@dataclass(frozen=True)
class Lowered:
    """A network on its way to an artifact.

    Attributes:
        float_graph: as captured.
        integer_graph: legalised for the target: what the spikes must compute.
        spike_graph: the schedule made explicit.
        mapped: pieces on cores.
        tensors: arrays of ``mapped``, by digest.
        certificate: what is proven, what is conditional, what is approximate.
        chip: what it was lowered for.
    """

    float_graph: Graph
    integer_graph: Graph
    spike_graph: Graph
    mapped: Mapped
    certificate: Certificate
    chip: ChipSpec
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
