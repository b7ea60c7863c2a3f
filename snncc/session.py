"""One artifact on some data: what ran, what it is compared with, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from snncc import plugins
from snncc.arrays import Array
from snncc.artifact import Artifact
from snncc.compilation import Lowered
from snncc.data import Dataset
from snncc.equivalence.chipfiles import chip_file_problems
from snncc.equivalence.parts import certificate_problems, part_problems, schedule_problems
from snncc.equivalence.result import Verification
from snncc.equivalence.segmented import run_program
from snncc.equivalence.verify import SHUFFLE_SEED, verify_artifact
from snncc.errors import Problem, ToolError, UsageError, fail, problem
from snncc.hw.spec import ChipSpec
from snncc.ir.schedule import Release
from snncc.mapping.check import NOTHING_MORE, Checker
from snncc.mapping.utilisation import Utilisation, utilisation_of
from snncc.metrics.conventions import Conventions
from snncc.metrics.energy import energy_of, with_trained
from snncc.metrics.measure import measure
from snncc.plugins import target_of
from snncc.results import Simulation
from snncc.simulation import Activity, Progress, observed


def checker_of(chip: ChipSpec) -> Checker | None:
    """The backend's own checker of mapped networks; None where it is not installed."""
    try:
        return target_of(chip).checker
    except UsageError:
        return None  # reading needs no backend; `verify` says that its files could not be checked


def utilisation(made: Lowered | Artifact) -> Utilisation:
    """What each layer takes of its cores, counted by the backend, if that is installed."""
    checker = checker_of(made.chip) or NOTHING_MORE
    return utilisation_of(made.mapped, made.chip, checker.use(made.mapped, made.chip))


@dataclass(frozen=True)
class Session:
    """An artifact on some data; what ran is kept, so that a report runs it once."""

    artifact: Artifact
    data: Dataset
    workers: int
    progress: Progress | None

    @cached_property
    def host(self) -> dict[str, Array]:
        """Spikes of the host's part; whatever runs here is given these."""
        return self.artifact.host_spikes(self.data.x)

    def execute(self, shuffle: int | None = None) -> Activity:
        """The simulator's run, with the input events shuffled by a seed where one is given."""
        opened, simulator = self.artifact, plugins.find_simulator()
        counts = opened.spike_inputs(self.data.x, self.host)
        progress = self.progress if shuffle is None else None
        return simulator.execute(
            opened.mapped, opened.tensors, counts, shuffle=shuffle, workers=self.workers, progress=progress
        )

    def run_elsewhere(self, executor: str, python: str | None) -> Activity:
        """The emitted program, run by another of the target's executors."""
        opened = self.artifact
        known = target_of(opened.chip).executors
        if executor not in known:
            limit = ", ".join(["sim", *known])
            raise fail(
                "SNNC-U005", "--executor", f"{opened.mapped.target} has no such", got=executor, limit=limit
            )
        inputs = opened.spike_inputs(self.data.x, self.host)
        found = run_program(opened, lambda folder, x: known[executor](folder, x, python), inputs)
        return observed(opened.mapped, opened.tensors, found)

    @cached_property
    def contradictions(self) -> tuple[Problem, ...]:
        """Parts of the artifact that disagree."""
        return part_problems(self.artifact) or _schedule_problems(self.artifact)

    def verification(self, spikes: Activity, executor: str = "sim") -> Verification:
        """``spikes``, of an executor, against the integers."""
        # Within a micro-step of a clocked chip, or of a window, there is no order that could matter.
        ordered = self.artifact.mapped.schedule.release is Release.FREE
        other = self.execute(SHUFFLE_SEED) if ordered and executor == "sim" else None
        wrong = self.contradictions or _behind_the_parts(self.artifact)
        return verify_artifact(self.artifact, self.data, self.host, executor, spikes, other, wrong)

    def simulation(self, spikes: Activity, profile: ChipSpec | None, recosted: str) -> Simulation:
        """What ``spikes`` cost on a chip, beside the trained network's figures."""
        opened, chip = self.artifact, profile or self.artifact.chip
        cost = plugins.find_simulator().estimate(
            opened.mapped, spikes, chip, opened.host_macs, opened.tensors
        )
        trained = energy_of(measure(opened.float_graph, self.data), Conventions())
        cost = with_trained(cost, trained)
        return Simulation(opened, spikes, cost, chip, utilisation(opened), trained, recosted)


def _schedule_problems(artifact: Artifact) -> tuple[Problem, ...]:
    try:
        offered = target_of(artifact.chip).schedules
    except UsageError:
        return ()  # what is not installed is told of the chip files
    return tuple(schedule_problems(artifact, offered))


def _behind_the_parts(artifact: Artifact) -> tuple[Problem, ...]:
    """What stands against the certificate and the chip files of an artifact whose parts agree."""
    found = tuple(certificate_problems(artifact))
    try:
        emitted = target_of(artifact.chip).emit(artifact.lowered)
    except (UsageError, ToolError) as error:
        why, where = error.problems[0], f"{artifact.path}/target"
        got = f"{why.where}: {why.what}"
        return (*found, problem("SNNC-Q005", where, "could not be checked", got=got, hint=why.hint))
    return (*found, *chip_file_problems(artifact, emitted))
