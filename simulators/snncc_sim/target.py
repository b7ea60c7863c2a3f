"""Targets for simulation only: the ideal clocked chip ``sim``, and chips that differ in cost alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from snncc.analysis.certificate import Certificate
from snncc.analysis.claims import layer_range, layer_sums
from snncc.errors import problem, raise_all
from snncc.hw.spec import ChipSpec, load_chip
from snncc.ir.schedule import EXACT, Engine, Release, Schedule
from snncc.lowering import Lowered, Options, offered
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc.passes.pipelines import legalise
from snncc.plugins import Executor

FREE = Schedule(
    name="free",
    promises=False,
    claim="none: a free-running network fires in the order its input arrives and is compared, not claimed",
    engine=Engine.EVENT,
    release=Release.FREE,
)


@dataclass(frozen=True)
class SimTarget:
    """Lowers to windows of micro-steps (``exact``) or to free-running events (``free``).

    ``name`` is also that of the chip's description beside this file.
    """

    name: str

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """``exact`` and ``free``."""
        return {s.name: s for s in (EXACT, FREE)}

    @cached_property
    def chip(self) -> ChipSpec:
        """Its description."""
        return load_chip(Path(__file__).with_name(f"{self.name}.toml"))

    @property
    def executors(self) -> Mapping[str, Executor]:
        """None beside the simulator."""
        return {}

    def lower(self, model: Model, calibration: NDArray[Any], options: Options) -> Lowered:
        """See :class:`snncc.plugins.Target`.

        Raises:
            ModelError: where a pass finds no exact lowering.
            CapacityError: SNNC-C009 if a sum leaves the 32-bit membrane even on the calibration inputs.
        """
        limits = self.chip.limits
        schedule = offered(self.name, self.schedules, options.schedule)
        legal = legalise(model, calibration, options, self.chip, schedule)
        mapped, tensors = map_graph(
            legal.spikes,
            target=self.name,
            schedule=schedule,
            state_bits=limits.state_bits,
        )
        word = 2 ** (limits.state_bits - 1)
        ranges = []
        for sums in layer_sums(legal.integer, calibration):
            ranges.append(
                layer_range(sums, limits.state_bits, (-word - sums.start_low, word - 1 - sums.start_high))
            )
        raise_all(
            problem(
                "SNNC-C009",
                f"%{r.layer}",
                "input sums leave the membrane's word",
                got=r.observed,
                limit=r.allowed,
            )
            for r in ranges
            if not r.allowed[0] <= r.observed[0] <= r.observed[1] <= r.allowed[1]
        )
        certificate = Certificate(
            target=self.name,
            schedule=schedule.name,
            claim=schedule.claim,
            passes=tuple(legal.recorder.records),
            approximations=tuple(legal.recorder.approximations),
            ranges=tuple(ranges),
        )
        return Lowered(model.graph, legal.integer, legal.spikes, mapped, certificate, self.chip, tensors)

    def utilisation(self, mapped: Mapped, chip: ChipSpec) -> None:
        """Each layer has a core, or none: nothing is split."""

    def emit(self, lowered: Lowered) -> Mapping[str, bytes]:
        """A simulated chip has no files of its own: ``mapped.json`` is its program."""
        return {}


SIM = SimTarget("sim")
TIANJIC = SimTarget("tianjic")
