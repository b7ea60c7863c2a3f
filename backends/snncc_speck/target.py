"""Lowering to a Speck chip: integers, spikes, cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from snncc.analysis.certificate import Certificate, LayerRange
from snncc.analysis.claims import LayerSums, layer_sums
from snncc.errors import Problem, raise_all
from snncc.hw.spec import ChipSpec, load_chip
from snncc.ir.graph import Graph
from snncc.ir.schedule import Engine, Release, Schedule
from snncc.lowering import Lowered, Options, offered
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import Mapped
from snncc.mapping.place import place
from snncc.model import Model
from snncc.passes.pipelines import legalise
from snncc.plugins import Executor
from snncc_speck.emit import chip_files
from snncc_speck.gate import gate_network, ungated
from snncc_speck.limits import limit_problems, needs
from snncc_speck.shapes import speck_shapes

# Output order of these cores is not guaranteed and their last spike may be held back [SAM].
UNRELIABLE_CORES = frozenset({0, 1})

GATED = Schedule(
    name="exact",
    promises=True,
    claim="spike counts of every neuron equal the unclipped integers of integer.snn, "
    "while input sums stay in the allowed ranges",
    engine=Engine.GATED,
    release=Release.WINDOW,
)
FREE = Schedule(
    name="free",
    promises=False,
    claim="none: a free-running chip fires in the order its input arrives and is compared, not claimed",
    engine=Engine.EVENT,
    release=Release.FREE,
)


@dataclass(frozen=True)
class SpeckTarget:
    """A chip of the Speck family.

    ``exact`` is the gated schedule, ``free`` lets the chip run as it does by itself. Counts are
    never clipped on this chip, so drop-clip runs for both and what the spikes must compute are
    the unclipped integers.
    """

    name: str

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """``exact`` and ``free``."""
        return {s.name: s for s in (GATED, FREE)}

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
            CapacityError: with every limit that is broken.
        """
        schedule = offered(self.name, self.schedules, options.schedule)
        legal = legalise(model, calibration, options, self.chip, schedule)
        logical, tensors = map_graph(
            legal.spikes,
            target=self.name,
            schedule=schedule,
            state_bits=self.chip.limits.state_bits,
            poolings=self.chip.limits.poolings,
        )
        shaped, tensors, problems = speck_shapes(logical, tensors)
        sums = {s.neuron.name: s for s in layer_sums(legal.integer, calibration)}
        mapped, ranges = self._fitted(shaped, sums, problems)
        certificate = Certificate(
            target=self.name,
            schedule=schedule.name,
            claim=schedule.claim,
            passes=tuple(legal.recorder.records),
            approximations=tuple(legal.recorder.approximations),
            ranges=ranges,
            notes=_notes(legal.integer, mapped),
        )
        return Lowered(model.graph, legal.integer, legal.spikes, mapped, certificate, self.chip, tensors)

    def _fitted(
        self, mapped: Mapped, sums: dict[str, LayerSums], known: list[Problem]
    ) -> tuple[Mapped, tuple[LayerRange, ...]]:
        """Gates and cores, or every reason why there are none."""
        has_gates = mapped.engine is Engine.GATED
        problems = [*known, *limit_problems(mapped, self.chip, has_gates)]
        gated = gate_network(mapped, sums) if has_gates else ungated(mapped, sums)
        problems += gated.problems
        cores: Mapping[str, int] = {}
        if not any(p.code in ("SNNC-C001", "SNNC-C002", "SNNC-C003") for p in problems):
            found = place(needs(mapped, has_gates), self.chip.cores, avoid=UNRELIABLE_CORES)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                cores = found
        raise_all(problems)
        pieces = tuple(p.model_copy(update={"core": cores[p.name]}) for p in gated.mapped.pieces)
        return gated.mapped.model_copy(update={"pieces": pieces}), gated.ranges

    def utilisation(self, mapped: Mapped, chip: ChipSpec) -> None:
        """Each layer has a core, or none: nothing is split."""

    def emit(self, lowered: Lowered) -> Mapping[str, bytes]:
        """Chip configuration and event schedule."""
        return chip_files(lowered.mapped, lowered.tensors, lowered.chip)


def _notes(integer: Graph, mapped: Mapped) -> tuple[str, ...]:
    decode = (
        "the final membrane potential, read back"
        if integer.output.decode.value == "membrane"
        else "spike counts"
    )
    notes = [f"class scores are {decode}"]
    risky = [f"%{p.name} (core {p.core})" for p in mapped.pieces if p.core in UNRELIABLE_CORES]
    if risky:
        what = "output order is not guaranteed and the last spike may be held back"
        notes.append(f"on cores where {what}: {', '.join(risky)}")
    return tuple(notes)


SPECK2F = SpeckTarget("speck2f")
