"""Loihi targets: integers in the chip's units, spikes in windows or step by step, tiles on a mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from snncc.analysis.certificate import LayerRange
from snncc.analysis.claims import LayerSums, layer_range, left_ranges, word_range
from snncc.analysis.ranges import held, type_extremes
from snncc.arrays import Array
from snncc.compilation import Draft, Fitted, Legalised, Lowered, Target
from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec, expect, load_chip
from snncc.ir import Graph, IntegerNeuron, Neuron
from snncc.ir.cell import one
from snncc.ir.schedule import EXACT, Engine, Release, Schedule
from snncc.mapping.mapped import Mapped
from snncc.mapping.partition import HOST_BITS
from snncc.mapping.segments import segment
from snncc.passes.pipelines import Words
from snncc.simulation import Inputs
from snncc_loihi.check import CHECKER, cautions
from snncc_loihi.emit import chip_files
from snncc_loihi.exponents import without_exponents
from snncc_loihi.neurons import DOUBLED, LoihiNeurons, is_stock
from snncc_loihi.place import place_network
from snncc_loihi.pooling import without_pooling
from snncc_loihi.reference import run_reference
from snncc_loihi.resources import MODELS
from snncc_loihi.runner import run_lava

WINDOWS = replace(
    EXACT,
    claim="spike counts of every neuron equal integer.snn, timestep by timestep, under Loihi's fixed-point "
    "rules, while sums stay in the allowed ranges",
)
# A neuron may be over its threshold when the last input has come: one micro-step more to say so.
STREAM = Schedule(
    name="free",
    promises=False,
    claim="none: in the free schedule a neuron fires on what has arrived so far; compared, not claimed",
    engine=Engine.CLOCKED,
    release=Release.STREAM,
    spare=True,
)
GRADED = replace(WINDOWS, name="graded", graded=True)


def loihi_target(chip: ChipSpec) -> Target:
    """A chip of the Loihi family.

    ``free`` needs neurons with soft reset, which are programs; ``graded`` needs events that carry counts.

    Raises:
        UsageError: SNNC-U009 if the description lacks numbers, or has limits that are not checked here.
    """
    needed = ("mesh", "core_kinds", "limits.threshold_max", "limits.accumulator_bits", "limits.delay_max")
    checked = ("limits.graded_bits", "limits.convolution_width", "limits.exponent_max")
    expect(chip, needed, checked, MODELS[chip.backend].resources, divides=True)
    abilities, limits = chip.abilities, chip.limits
    assert limits.threshold_max is not None
    neurons = LoihiNeurons(abilities.custom_neurons, limits.threshold_max)
    free = (STREAM,) if abilities.custom_neurons else ()
    graded = (GRADED,) if abilities.graded_events else ()
    return Target(
        chip,
        schedules={s.name: s for s in (WINDOWS, *free, *graded)},
        fit=fit,
        passes=lambda schedule: (replace(neurons, native=schedule.has_windows and not schedule.graded),),
        # In the chip's own neuron a unit of weight is 128 units of the membrane; in programs less.
        words=Words(_sum_bits(chip), limits.state_bits - 7),
        emit=_emitted,
        checker=CHECKER,
        executors={"lava": _in_lava, "reference": run_reference},
    )


def fit(draft: Draft) -> Fitted:
    """The network without pooling connections and exponents of convolutions, in tiles on cores.

    Raises:
        CapacityError: SNNC-C013 for every layer that cannot be cut small enough, SNNC-C014 if there
            are too few cores.
    """
    chip, legal = draft.chip, draft.legal
    ranges = tuple(_ranges(draft))
    assert chip.limits.delay_max is not None
    problems = (
        *(() if chip.abilities.custom_neurons else _programs(draft.mapped)),
        *_too_late(draft.mapped, chip.limits.delay_max),
        *_too_wide(draft.mapped, chip.limits.graded_bits),
        *left_ranges(ranges),
    )
    if problems:
        return Fitted(draft.mapped, draft.tensors, ranges, problems=problems)
    logical, tensors = without_pooling(draft.mapped, draft.tensors)
    logical = without_exponents(_admitting(logical, ranges))
    mapped, _ = place_network(logical, tensors, chip, _traffic(legal))
    notes = (
        *_notes(draft.float_graph, legal.integer),
        *(() if legal.shortcuts is None else (str(legal.shortcuts),)),
        *cautions(mapped, chip),
    )
    return Fitted(mapped, tensors, ranges, notes)


def _programs(mapped: Mapped) -> Iterator[Problem]:
    """Neurons that are none of the chip's own, whatever its description says that these can do."""
    for piece in mapped.on_chip:
        if not is_stock(piece.cell):
            what, hint = "is no neuron of the chip's own, and it runs no programs", "--target loihi2"
            yield problem("SNNC-C010", f"%{piece.name}", what, got=f"gain {piece.cell.gain}", hint=hint)


def _emitted(lowered: Lowered) -> Mapping[str, bytes]:
    """The program as JSON and weights, and the folder that runs in Lava; of each segment its own."""
    mapped = lowered.mapped
    if not mapped.parts:
        return chip_files(mapped, lowered.tensors, lowered.chip)
    return {
        f"{part.name}/{name}": data
        for part in mapped.parts
        if not part.on_host
        for name, data in chip_files(segment(mapped, part), lowered.tensors, lowered.chip).items()
    }


def _sum_bits(chip: ChipSpec) -> int:
    """Width for sums of weights as the integer graph has them: the chip stores them doubled."""
    assert chip.limits.accumulator_bits is not None
    return chip.limits.accumulator_bits - 1


def _ranges(draft: Draft) -> Iterator[LayerRange]:
    """Membranes against their word, and the sums of one micro-step against the accumulator's."""
    bits, sum_bits = draft.chip.limits.state_bits, _sum_bits(draft.chip)
    word = 2 ** (bits - 1) - 1
    half = 2 ** (sum_bits - 1)
    host = {p.name for p in draft.mapped.on_host}
    for sums in draft.sums:
        if sums.neuron.name in host:
            yield word_range(sums, HOST_BITS)
            continue
        yield layer_range(sums, bits, (-word - sums.start_low, word - sums.start_high))
        yield _input_range(draft.legal.spikes, sums, sum_bits + 1, (-half, half - 1))


def _in_lava(folder: Path, x: Inputs, python: str | None) -> Mapping[str, Array]:
    return run_lava(folder / "lava", x, python=python).counts


def _input_range(spikes: Graph, sums: LayerSums, bits: int, allowed: tuple[int, int]) -> LayerRange:
    """What one micro-step's events can add up to, in units of the integer graph's weights.

    The types of the spike graph say what one micro-step brings: a spike of each neuron, so many
    where the weights read a sum of several, or a count. Observed are the positive and the negative
    inputs of whole windows, each by itself: those of a part are no larger.
    """
    neuron = sums.neuron
    gain = one(neuron.cell.gain)
    possible = type_extremes(spikes, spikes.layers[neuron.name].neuron)
    low, high = (int(v) // gain for v in possible.merged())
    whole = gain * held(neuron, spikes.steps)
    seen = (max(low, sums.observed[0] // whole), min(high, sums.observed[1] // whole))
    return LayerRange(
        layer=neuron.name,
        quantity="input of one micro-step",
        bits=bits,
        word_low=-(2 ** (bits - 1)) // DOUBLED,
        word_high=(2 ** (bits - 1) - 1) // DOUBLED,
        all_inputs=(low, high),
        observed=seen,
        allowed=allowed,
        proven=allowed[0] <= low and high <= allowed[1],
    )


def _too_late(mapped: Mapped, limit: int) -> Iterator[Problem]:
    """Skips over so many layers that a synapse's delay bits do not count their micro-steps."""
    host = {p.name for p in mapped.on_host}  # what it sends late does not wait on the chip
    for piece in mapped.on_chip:
        longest = max((c.delay for c in piece.connections if c.source not in host), default=0)
        if longest > limit:
            what, hint = "spikes that skip layers would wait too long", "fewer levels, or shorter skips"
            if mapped.micro_steps > 1:
                hint = f"{hint}, or --schedule graded where the chip offers it (one micro-step a layer)"
            yield problem("SNNC-C012", f"%{piece.name}", what, got=longest, limit=limit, hint=hint)


def _too_wide(mapped: Mapped, limit: int | None) -> Iterator[Problem]:
    """Counts that leave the word of a graded event, on the chip or on their way to it."""
    heard = {source for piece in mapped.on_chip for source in piece.sources}
    for piece in (p for p in mapped.pieces if p.name in heard or not p.on_host):
        bits = piece.cell.max_spikes.bit_length() + piece.cell.signed
        if piece.graded and limit is not None and bits > limit:
            what, hint = "a graded event leaves its word", "fewer levels"
            yield problem("SNNC-C009", f"%{piece.name}", what, got=f"{bits} bits", limit=limit, hint=hint)


def _admitting(mapped: Mapped, ranges: tuple[LayerRange, ...]) -> Mapped:
    """Pieces whose accumulator is not proven are watched at run time."""
    open_ = {r.layer: r.allowed for r in ranges if r.quantity != "membrane" and not r.proven}
    pieces = tuple(
        p.model_copy(update={"admitted": open_[p.name]}) if p.name in open_ else p for p in mapped.pieces
    )
    return mapped.model_copy(update={"pieces": pieces})


def _traffic(legal: Legalised) -> dict[str, float]:
    """Mean spike count a neuron and sample of every layer on the calibration inputs; of a relay, events."""
    relays = {n.name for n in legal.integer.nodes if isinstance(n, IntegerNeuron) and n.cell.signed}
    counts = legal.recorder.counts(legal.integer)
    return {n: float((v != 0 if n in relays else v).sum(axis=1).mean()) for n, v in counts.items()}


def _notes(real: Graph, integer: Graph) -> Iterator[str]:
    """How leaks became the chip's fields, and which neurons are the chip's own."""
    yield "compared with Lava's fixed-point processes only: nothing here ran on a chip"
    for node in integer.nodes:
        if not isinstance(node, IntegerNeuron):
            continue
        kind = "the chip's own neuron" if is_stock(node.cell) else "a neuron program of ours"
        kind = f"a relay of sums up to ±{node.cell.max_spikes:,}" if node.cell.signed else kind
        yield f"%{node.name}: {kind}" + _leak(real, node)


def _leak(real: Graph, node: IntegerNeuron) -> str:
    before = real.by_name.get(node.name)
    if real.steps == 1 or node.cell.decay_bits == 0:
        return ""
    if not isinstance(before, Neuron) or not isinstance(before.decay, int | float):
        return ""
    decay = one(node.cell.decay)
    got = decay / 2**node.cell.decay_bits
    return f"; dv = {4096 - decay}: leak {before.decay:g} becomes {got:g} ({got - before.decay:+.2g})"


LOIHI1, LOIHI2 = (
    loihi_target(load_chip(Path(__file__).with_name(f"{name}.toml"))) for name in ("loihi1", "loihi2")
)
