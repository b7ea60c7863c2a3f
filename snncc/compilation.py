"""From a captured model to a network on a chip: the steps of every target, and what a backend hands in.

A target is a value made from a chip description. What differs between chips (passes of its own, how a
network is fitted on cores, the chip's files) it holds as plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from snncc.analysis.certificate import Certificate, LayerRange
from snncc.analysis.claims import LayerSums, layer_sums, silent_notes
from snncc.analysis.host_currents import host_ranges
from snncc.analysis.ranges import largest_counts
from snncc.arrays import Array
from snncc.errors import ModelError, Problem, fail, problem, raise_all
from snncc.hw.demands import LACKING, demands
from snncc.hw.spec import ChipSpec
from snncc.ir.graph import Graph
from snncc.ir.node import describe
from snncc.ir.schedule import EXACT, Schedule
from snncc.mapping.build import map_graph
from snncc.mapping.check import NOTHING_MORE, Checker
from snncc.mapping.mapped import Mapped
from snncc.mapping.partition import HOST_BITS, Partition, divide, host_notes, takes_part, wanted
from snncc.model import Model
from snncc.passes.associate import product_orders
from snncc.passes.base import Pass
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.pipelines import Words, to_integers
from snncc.passes.quantize import Quantize
from snncc.passes.recorder import Recorder
from snncc.passes.relay import Relay, Shortcuts, compare_shortcuts, shared_sums
from snncc.passes.relay_pools import pool_notes
from snncc.simulation import Inputs


@dataclass(frozen=True)
class Options:
    """What the user may choose about a compilation.

    Attributes:
        schedule: name of one that the target offers.
        verify_each: run every pass's input and output on the calibration inputs.
        partition: whether a host may compute what the chip lacks.
        per_channel: whether every output channel of a layer has a scale of its own.
    """

    schedule: str = EXACT.name
    verify_each: bool = False
    partition: Partition = Partition.AUTO
    per_channel: bool = False


@dataclass(frozen=True)
class Lowered:
    """A network on its way to an artifact.

    Attributes:
        float_graph: as captured.
        integer_graph: legalised for the target: what the spikes must compute.
        spike_graph: the schedule made explicit.
        mapped: pieces on cores.
        certificate: what is proven, what is conditional, what is approximate.
        chip: what it was lowered for.
        tensors: arrays of ``mapped``, by digest.
        tied: layers whose channels keep one scale where others have one each, for people.
    """

    float_graph: Graph
    integer_graph: Graph
    spike_graph: Graph
    mapped: Mapped
    certificate: Certificate
    chip: ChipSpec
    tensors: Mapping[str, Array] = field(default_factory=dict)
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Legalised:
    """A model in the integer and spike families, and what was recorded on the way.

    ``shortcuts``: both lowerings of membrane shortcuts, where there are any and the chip can choose;
    ``tied``: layers whose channels keep one scale where others have one each.
    """

    integer: Graph
    spikes: Graph
    recorder: Recorder
    shortcuts: Shortcuts | None = None
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A network as a backend gets it: pieces without cores.

    Attributes:
        chip: what it is to stand on.
        float_graph: as captured.
        legal: integer and spike graph.
        mapped: pieces in topological order, one a neuron node.
        tensors: arrays of ``mapped``, by digest.
        sums: extreme input sums of each neuron layer.
    """

    chip: ChipSpec
    float_graph: Graph
    legal: Legalised
    mapped: Mapped
    tensors: Mapping[str, Array]
    sums: tuple[LayerSums, ...]

    def bits_of(self, piece: str) -> int:
        """Width of a piece's membranes: the chip's, or the host's."""
        return HOST_BITS if any(p.name == piece for p in self.mapped.on_host) else self.chip.limits.state_bits


@dataclass(frozen=True)
class Fitted:
    """What a backend made of a draft.

    Attributes:
        mapped: pieces on cores.
        tensors: arrays of ``mapped``, by digest.
        ranges: of membranes and accumulators, for the certificate.
        notes: what a user should know, for the certificate.
        problems: everything that stands against it; then ``mapped`` means nothing.
    """

    mapped: Mapped
    tensors: Mapping[str, Array]
    ranges: tuple[LayerRange, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class Executor(Protocol):
    """Runs the emitted program of an artifact outside of snncc."""

    def __call__(self, folder: Path, x: Inputs, python: str | None) -> Mapping[str, Array]:
        """Counts [N, T, C, H, W] of every piece (a readout's membranes).

        Args:
            folder: the artifact's ``target/``.
            x: input counts [N, T, C, H, W] by port.
            python: interpreter of the environment it needs; None to look for one.

        Raises:
            ToolError: if that environment is missing or the run fails.
        """
        ...


def _no_passes(schedule: Schedule) -> tuple[Pass, ...]:
    return ()


def _no_files(lowered: Lowered) -> Mapping[str, bytes]:
    return {}


def _any_number(graph: Graph, chip: ChipSpec) -> Iterable[Problem]:
    return ()


@dataclass(frozen=True)
class Target:
    """A chip that networks are compiled for.

    Attributes:
        chip: its description.
        schedules: what it offers, by the name that users give it.
        fit: puts a network on its cores.
        passes: the backend's own, by schedule; each runs as soon as its contract allows.
        words: widths in units of a weight, where the membrane's word does not give them.
        outgrown: what stands against a captured graph whatever becomes of it, said before it is lowered.
        copies: whether the neurons that read a shared sum may each get a copy of the weights behind it.
        emit: chip files of the artifact's ``target/`` folder, by name: of equal networks equal bytes.
        checker: what only the backend can check and count of a network, apart from its own ``fit``.
        executors: what else runs its artifacts, beside the simulator, by the name users give it.
    """

    chip: ChipSpec
    schedules: Mapping[str, Schedule]
    fit: Callable[[Draft], Fitted]
    passes: Callable[[Schedule], tuple[Pass, ...]] = _no_passes
    words: Words | None = None
    outgrown: Callable[[Graph, ChipSpec], Iterable[Problem]] = _any_number
    copies: bool = True
    emit: Callable[[Lowered], Mapping[str, bytes]] = _no_files
    checker: Checker = NOTHING_MORE
    executors: Mapping[str, Executor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As users say it."""
        return self.chip.name

    def schedule(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            UsageError: SNNC-U005, with those that the target offers, if it is none of them.
        """
        if name not in self.schedules:
            what, limit = f"{self.name} offers no such schedule", ", ".join(self.schedules)
            raise fail("SNNC-U005", "--schedule", what, got=name, limit=limit)
        return self.schedules[name]

    def of_weights(self, bits: int | None) -> Target:
        """The target with weights of so many bits; None leaves the chip's own.

        Raises:
            UsageError: SNNC-U005 for fewer than 2, or more than the chip holds.
        """
        limits = self.chip.limits
        most = max(limits.weight_bits, limits.weight_bits_max or 0)
        if bits is None:
            return self
        if not 2 <= bits <= most:
            what = f"{self.name} has no weights of that width"
            raise fail("SNNC-U005", "--weight-bits", what, got=bits, limit=f"2..{most}")
        own = limits.model_copy(update={"weight_bits": bits})
        return replace(self, chip=self.chip.model_copy(update={"limits": own}))

    def lower(self, model: Model, calibration: Array, options: Options) -> Lowered:
        """Integer graph, spike graph and mapped network of a model.

        Args:
            model: a captured float graph, with labels of the calibration inputs if it has them.
            calibration: inputs [N, T, *shape].
            options: what the user chose.

        Raises:
            ModelError: where a pass finds no exact lowering.
            CapacityError: with every limit that is broken.
            UsageError: SNNC-U005 for a schedule that the target does not offer.
        """
        schedule = self.schedule(options.schedule)
        raise_all((*self.outgrown(model.graph, self.chip), *self._one_threshold(model.graph, options)))
        legal = legalise(self, model, calibration, schedule, options)
        asked = demands(legal.integer, schedule, largest_counts(legal.integer))
        for_host = wanted(asked, self.chip, schedule, options.partition)
        logical, tensors = map_graph(
            legal.spikes,
            target=self.name,
            schedule=schedule,
            state_bits=self.chip.limits.state_bits,
            poolings=self.chip.limits.poolings,
            weight_bits=self.chip.limits.weight_bits,
        )
        mapped = divide(logical, for_host, self.chip)
        sums = tuple(layer_sums(legal.integer, calibration))
        fitted = self.fit(Draft(self.chip, model.graph, legal, mapped, tensors, sums))
        raise_all(fitted.problems)
        return Lowered(
            float_graph=model.graph,
            integer_graph=legal.integer,
            spike_graph=legal.spikes,
            mapped=fitted.mapped,
            certificate=_certificate(
                self,
                schedule,
                legal,
                fitted,
                (*host_ranges(legal.integer, calibration), *fitted.ranges),
                (*legal.tied, *silent_notes(sums), *host_notes(mapped, for_host)),
            ),
            chip=self.chip,
            tensors=fitted.tensors,
            tied=legal.tied,
        )

    def _one_threshold(self, graph: Graph, options: Options) -> Iterable[Problem]:
        """A chip that holds one threshold a layer, asked for a scale of each channel."""
        if not options.per_channel or self.chip.abilities.channel_numbers:
            return ()
        most = max(graph.neurons, key=lambda n: graph.types[n.name].shape[0])
        got = f"{graph.types[most.name].shape[0]} channels, each with a threshold, in {describe(most)}"
        code, what = LACKING["channel_numbers"]
        where, hint = f"--per-channel on {self.name}", "--target sim, or no --per-channel"
        return (problem(code, where, what, got=got, limit=1, hint=hint),)


def _certificate(
    target: Target,
    schedule: Schedule,
    legal: Legalised,
    fitted: Fitted,
    ranges: tuple[LayerRange, ...],
    notes: tuple[str, ...],
) -> Certificate:
    return Certificate(
        target=target.name,
        schedule=schedule.name,
        claim=schedule.claim,
        passes=tuple(legal.recorder.records),
        approximations=tuple(legal.recorder.approximations),
        ranges=ranges,
        notes=(*pool_notes(legal.integer), *fitted.notes, *map(str, product_orders(legal.integer)), *notes),
    )


def legalise(
    target: Target, model: Model, calibration: Array, schedule: Schedule, options: Options
) -> Legalised:
    """Integer graph that a chip can compute and its spike graph under a schedule.

    ``calibration`` holds inputs [N, T, *shape].

    Raises:
        ModelError: where a pass finds no exact lowering.
    """
    expand = ExpandSFA(
        schedule, capped=target.chip.abilities.clips_counts, longest=target.chip.limits.delay_max
    )
    recorder = Recorder(calibration, model.labels, options.verify_each)
    relayed, copied = (_passes(target, calibration, expand, options, relay) for relay in (True, False))
    integer, recorder, shortcuts, ran = _integers(target, model.graph, recorder, expand, relayed, copied)
    tied = tuple(line for one in ran if isinstance(one, Quantize) for line in one.told)
    return Legalised(integer, recorder.pipeline((expand,)).run(integer), recorder, shortcuts, tied)


def _integers(
    target: Target,
    graph: Graph,
    recorder: Recorder,
    expand: ExpandSFA,
    relayed: tuple[Pass, ...],
    copied: tuple[Pass, ...],
) -> tuple[Graph, Recorder, Shortcuts | None, tuple[Pass, ...]]:
    """The integer graph, what was recorded on the way, both lowerings of shared sums, and what ran.

    Where shared sums may be relayed, that is lowered up to the relays; where copies are chosen then, the
    way back is to where the passes part.
    """
    if not (_carries_sums(target, expand) and shared_sums(graph)):
        return recorder.pipeline(copied).run(graph), recorder, None, copied
    parting = next(i for i, (a, b) in enumerate(zip(relayed, copied, strict=False)) if a != b)
    relay = next(i for i, one in enumerate(relayed) if isinstance(one, Relay))
    trunk, before = recorder.pipeline(relayed).run(graph, last=parting), recorder.copy()
    ran, shortcuts = (*relayed[:parting], *copied[parting:]), None
    try:
        shared = recorder.pipeline(relayed).run(trunk, parting, relay)
        shortcuts = compare_shortcuts(shared, recorder.calibration, expand, target.chip.limits.delay_max)
    except ModelError:
        # One scale for all blocks can be too coarse where one for each is not; what else is wrong
        # shows when the copies are made.
        pass
    if shortcuts is not None and shortcuts.relayed:
        return recorder.pipeline(relayed).run(shared, relay), recorder, shortcuts, relayed
    return before.pipeline(ran).run(trunk, parting), before, shortcuts, ran


def _passes(
    target: Target, calibration: Array, expand: ExpandSFA, options: Options, relay: bool
) -> tuple[Pass, ...]:
    """From a float graph to the integers of a target, with shared sums relayed or copied."""
    schedule = expand.schedule
    return to_integers(
        calibration,
        target.chip,
        target.passes(schedule),
        target.words,
        relay=relay,
        copies=target.copies,
        graded=schedule.graded,
        sums=_carries_sums(target, expand),
        hosted=takes_part(target.chip, schedule, options.partition),
        per_channel=options.per_channel,
    )


def _carries_sums(target: Target, expand: ExpandSFA) -> bool:
    """Whether events of the chip can carry sums of either sign, and windows say when a sum is whole."""
    able = target.chip.abilities
    return able.graded_events and able.signed_events and expand.schedule.has_windows
