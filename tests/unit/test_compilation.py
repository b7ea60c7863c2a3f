"""The steps that all targets share, and what a backend may hand in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from random_graphs import Builder, random_inputs
from snncc.compilation import Draft, Fitted, Options, Target
from snncc.errors import CapacityError, problem
from snncc.ir import Family, Graph, IntegerNeuron, Node
from snncc.ir.node import INTEGER_ONLY
from snncc.ir.schedule import EXACT, Schedule
from snncc.mapping.check import NOTHING_MORE
from snncc.model import Model
from snncc.passes.base import Pass, Semantics
from snncc_sim.target import SIM, fit
from snncc_speck import SPECK2F, speck_target


def network() -> Graph:
    b = Builder(np.random.default_rng(3), (2, 6, 5), 3)
    b.conv("a", b.last, 4, (3, 3), padding=(1, 1))
    b.sfa("na", 3, normalized=True)
    b.conv("b", b.last, 3, (3, 3), stride=(2, 2))
    b.sfa("nb", 3, normalized=True)
    return b.graph()


GRAPH = network()
X = random_inputs(GRAPH, 5, 1)


@dataclass(frozen=True)
class HalfAsManySpikes:
    """A backend's pass: chips that send fewer spikes under some schedule."""

    name: ClassVar[str] = "half-as-many-spikes"
    preserves: ClassVar[Semantics] = Semantics.APPROXIMATE
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("bound-counts",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()
    most: int

    def run(self, graph: Graph) -> Graph:
        return graph.rewrite(
            lambda n: (
                replace(n, cell=replace(n.cell, max_spikes=self.most))
                if isinstance(n, IntegerNeuron) and not n.is_readout
                else None
            )
        )


def test_a_target_needs_a_chip_its_schedules_and_how_a_network_stands_on_it() -> None:
    seen: list[Draft] = []

    def watching(draft: Draft) -> Fitted:
        seen.append(draft)
        return replace(fit(draft), notes=("watched",))

    target = Target(SIM.chip, {"exact": EXACT}, watching)
    lowered, plain = (t.lower(Model(GRAPH), X, Options()) for t in (target, SIM))
    (draft,) = seen
    assert draft.chip is lowered.chip is SIM.chip
    assert draft.float_graph is lowered.float_graph is GRAPH
    assert (draft.legal.integer, draft.legal.spikes) == (lowered.integer_graph, lowered.spike_graph)
    assert [s.neuron.name for s in draft.sums] == [p.name for p in draft.mapped.pieces]
    assert lowered.mapped == draft.mapped == plain.mapped
    assert lowered.certificate == plain.certificate.model_copy(update={"notes": ("watched",)})
    assert target.emit(lowered) == {}
    assert target.checker is NOTHING_MORE
    assert target.executors == {}


def test_every_problem_of_a_backend_is_raised_at_once() -> None:
    wrong = tuple(problem("SNNC-C009", f"%{n}", "is too wide", got=n) for n in "ab")
    target = replace(SIM, fit=lambda draft: replace(fit(draft), problems=wrong))
    with pytest.raises(CapacityError) as caught:
        target.lower(Model(GRAPH), X, Options())
    assert caught.value.problems == wrong


def test_a_backends_passes_depend_on_the_schedule_and_run_last_on_the_integers() -> None:
    def own(schedule: Schedule) -> tuple[Pass, ...]:
        return (HalfAsManySpikes(1),) if schedule.promises else ()

    target = replace(SIM, passes=own)
    made = {name: target.lower(Model(GRAPH), X, Options(name)) for name in ("exact", "free")}
    specs = {name: [p.spec.split("{")[0] for p in m.certificate.passes] for name, m in made.items()}
    assert specs["exact"][-3:] == ["bound-counts", "half-as-many-spikes", "expand-sfa"]
    assert specs["free"][-2:] == ["bound-counts", "expand-sfa"]
    assert {p.cell.max_spikes for p in made["exact"].mapped.pieces if not p.is_readout} == {1}
    (step,) = [a for a in made["exact"].certificate.approximations if a.step == "half-as-many-spikes"]
    assert sum(changed for changed, _ in step.layers.values()) > 0


def test_sums_beyond_the_membrane_name_its_width() -> None:
    narrow = SIM.chip.model_copy(update={"limits": SIM.chip.limits.model_copy(update={"state_bits": 11})})
    target = replace(SIM, chip=narrow, fit=lambda draft: fit(replace(draft, chip=eight(draft.chip))))
    with pytest.raises(CapacityError) as caught:
        target.lower(Model(GRAPH), X, Options())
    assert [p.code for p in caught.value.problems] == ["SNNC-C009"] * len(caught.value.problems)
    first = caught.value.problems[0]
    assert (first.where, first.what) == ("%na", "membrane leaves its 8 bits on the calibration inputs")


def eight(chip: Any) -> Any:
    """A chip whose membranes are narrower than the quantizer was told."""
    return chip.model_copy(update={"limits": chip.limits.model_copy(update={"state_bits": 8})})


def test_cores_with_faults_are_taken_last_and_noted() -> None:
    plain = SPECK2F.lower(Model(GRAPH), X, Options())
    assert {t.core for t in plain.mapped.tiles}.isdisjoint({0, 1})
    assert not [n for n in plain.certificate.notes if "stands on core" in n]
    kinds = tuple(k.model_copy(update={"errata": ("is odd", "hums")}) for k in SPECK2F.chip.core_kinds)
    faulty = speck_target(SPECK2F.chip.model_copy(update={"core_kinds": kinds}))
    made = faulty.lower(Model(GRAPH), X, Options())
    assert [n for n in made.certificate.notes if "stands on core" in n] == [
        f"%{t.piece} stands on core {t.core}: is odd; hums" for t in made.mapped.tiles
    ]
