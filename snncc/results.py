"""What the verbs return, for programs, the command line and notebooks alike."""

from __future__ import annotations

from dataclasses import dataclass

from snncc import display
from snncc.artifact import Artifact
from snncc.compilation import Lowered
from snncc.errors import Problem
from snncc.hw.spec import ChipSpec
from snncc.mapping.crossing import Crossing
from snncc.mapping.utilisation import Utilisation
from snncc.metrics.energy import TrainedEnergy
from snncc.model import Model
from snncc.simulation import Activity, Cost


@dataclass(frozen=True)
class CheckResult:
    """What ``snncc check`` found.

    Attributes:
        model: the captured model, unless capturing failed.
        lowered: the network on the target, unless something stands against it.
        problems: everything that is wrong, most basic first.
        notes: what was assumed (for example calibration inputs that are missing).
        utilisation: what the lowered network takes of the chip's cores, if there is one.
        crossings: events between host and chip that the calibration inputs would cause, over all of
            ``samples``.
    """

    model: Model | None
    lowered: Lowered | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    utilisation: Utilisation | None = None
    crossings: tuple[Crossing, ...] = ()
    samples: int = 0

    def _repr_html_(self) -> str | None:
        return display.html(self)


@dataclass(frozen=True)
class Simulation:
    """What ``snncc simulate`` found: integer activity, what it costs under each named model, cores in use.

    Attributes:
        chip: whose description gave the constants.
        recosted: what to say where that is another than the artifact's own, else empty.
        trained: what the trained network did on the same inputs.
    """

    artifact: Artifact
    activity: Activity
    cost: Cost
    chip: ChipSpec
    utilisation: Utilisation
    trained: TrainedEnergy
    recosted: str = ""

    def _repr_html_(self) -> str | None:
        return display.html(self)
