"""What a spike graph asks of a chip, held against the abilities of the chip's description.

The one place where abilities are asked for. What a graph does not ask for, a chip need not have: a
network of one timestep runs on a chip without a leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from snncc.errors import Problem, problem
from snncc.hw.spec import Abilities
from snncc.ir.graph import Graph
from snncc.ir.neurons import Encode, WindowNeuron
from snncc.ir.node import Decode, Reset, describe
from snncc.ir.schedule import Engine, Schedule
from snncc.ir.types import Spikes

NEURON, SCHEDULE = "SNNC-C010", "SNNC-C015"
_ONE_STEP = "a network of one timestep, or --target sim"
_LOIHI2 = "--target loihi2"


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing that a node or the whole network asks for.

    Attributes:
        ability: name of the field of :class:`snncc.hw.spec.Abilities` that grants it.
        where: what asks.
        what: what a chip without that ability lacks, as a message says it.
        got: the value that asks for it.
        hint: a way out.
        code: of the refusal: a neuron that the chip has not, or a schedule that it cannot run.
    """

    ability: str
    where: str
    what: str
    got: str | None = None
    hint: str | None = None
    code: str = NEURON

    @property
    def refusal(self) -> Problem:
        """What a chip without the ability is refused with."""
        return problem(self.code, self.where, self.what, got=self.got, hint=self.hint)


def demands(graph: Graph, schedule: Schedule) -> tuple[Demand, ...]:
    """Everything that a spike graph asks of a chip under its schedule, in order of the nodes."""
    neurons = [n for n in graph.nodes if isinstance(n, WindowNeuron)]
    senders = [n for n in graph.nodes if isinstance(n, Encode | WindowNeuron)]
    return (
        *_of_schedule(graph, schedule),
        *(d for node in neurons for d in _of_neuron(node, graph.steps)),
        *(d for node in senders for d in _of_events(graph, node)),
        *_of_result(graph),
    )


def unmet(asked: Iterable[Demand], abilities: Abilities) -> Iterator[Problem]:
    """One problem (SNNC-C010, SNNC-C015) for every demand that the abilities do not grant."""
    for demand in dict.fromkeys(asked):
        if not getattr(abilities, demand.ability):
            yield demand.refusal


def _of_schedule(graph: Graph, schedule: Schedule) -> Iterator[Demand]:
    if schedule.engine is Engine.CLOCKED:
        what, hint = "the chip has no micro-steps, in which this schedule runs", "a target with a clock"
        yield Demand("clocked", graph.name, what, f"--schedule {schedule.name}", hint, SCHEDULE)
    if schedule.has_windows and graph.steps > 1 and graph.micro_steps > 1:
        what = "timesteps need a second accumulator while a window fires"
        yield Demand("second_accumulator", graph.name, what, f"{graph.steps} timesteps", _ONE_STEP, SCHEDULE)


def _of_neuron(node: WindowNeuron, steps: int) -> Iterator[Demand]:
    cell, where = node.cell, describe(node)
    if steps > 1 and not cell.integrates:
        leak = "everything" if cell.decay == 0 else f"all but {cell.decay}/{2**cell.decay_bits}"
        what = "the chip's membranes do not leak between timesteps"
        yield Demand("leak_between_timesteps", where, what, f"a leak of {leak}", _ONE_STEP)
    if cell.reset is Reset.VALUE:
        what, hint = "the chip's neurons do not reset to a value", "reset by subtraction"
        yield Demand("hard_reset", where, what, f"reset to {cell.reset_to}", hint)
    if cell.synapse_decay != 0:
        what = "the chip's neurons have no synaptic current"
        yield Demand("synaptic_current", where, what, hint=f"a neuron without one, or {_LOIHI2}")
    if node.capped and not node.is_readout:
        what = "the chip cannot hold a neuron back after its largest count"
        yield Demand("clips_counts", where, what, f"{cell.max_spikes} spikes", "counts without a clip")


def _of_events(graph: Graph, node: Encode | WindowNeuron) -> Iterator[Demand]:
    kind = graph.types[node.name]
    if node.graded and isinstance(kind, Spikes):
        what = "the chip's events carry no counts"
        yield Demand("graded_events", describe(node), what, f"up to {kind.levels}", _LOIHI2, SCHEDULE)


def _of_result(graph: Graph) -> Iterator[Demand]:
    if graph.output.decode is Decode.MEMBRANE:
        what, hint = "the chip's membranes cannot be read back", "a neuron as the last layer"
        yield Demand("reads_membranes", describe(graph.output), what, hint=hint, code=SCHEDULE)
