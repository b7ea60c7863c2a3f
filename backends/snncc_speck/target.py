"""Speck targets: the gated schedule or free-running, a layer a core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from snncc.compilation import Draft, Fitted, Lowered, Target
from snncc.errors import Problem
from snncc.hw.spec import ChipSpec, expect, load_chip
from snncc.ir.graph import Graph
from snncc.ir.nodes import Decode
from snncc.ir.schedule import Engine, Release, Schedule
from snncc.mapping.mapped import Mapped, Tile
from snncc.mapping.place import place
from snncc_speck.check import CHECKER
from snncc_speck.emit import chip_files
from snncc_speck.gate import gate_network, ungated
from snncc_speck.limits import CHECKED, COUNTED, limit_problems, needs, outgrown
from snncc_speck.shapes import speck_shapes

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


def speck_target(chip: ChipSpec) -> Target:
    """A chip of the Speck family.

    ``exact`` is the gated schedule, ``free`` lets the chip run as it does by itself. Counts are
    never clipped on this chip, so drop-clip runs for both and what the spikes must compute are
    the unclipped integers. A core has one kernel and two destinations: no room for copies of shared sums.

    Raises:
        UsageError: SNNC-U009 if the description lacks numbers, or has limits that are not checked here.
    """
    expect(chip, ("core_kinds", "limits.strides", "limits.poolings"), CHECKED, tuple(COUNTED))
    return Target(
        chip,
        schedules={s.name: s for s in (GATED, FREE)},
        fit=fit,
        outgrown=outgrown,
        copies=False,
        emit=_emitted,
        checker=CHECKER,
    )


def fit(draft: Draft) -> Fitted:
    """Square kernels, gates and cores, or every reason why there are none."""
    shaped, tensors, problems = speck_shapes(draft.mapped, draft.tensors)
    sums = {s.neuron.name: s for s in draft.sums}
    has_gates = shaped.engine is Engine.GATED
    gated = gate_network(shaped, sums) if has_gates else ungated(shaped, sums)
    problems += [*limit_problems(shaped, draft.chip, has_gates), *gated.problems]
    cores: Mapping[str, int] = {}
    if not any(p.code in ("SNNC-C001", "SNNC-C002", "SNNC-C003") for p in problems):
        found = place(needs(shaped, has_gates), draft.chip.cores, avoid=frozenset(_faulty(draft.chip)))
        if isinstance(found, Problem):
            problems.append(found)
        else:
            cores = found
    tiles = tuple(
        Tile(piece=p.name, core=cores[p.name], low=(0, 0, 0), high=p.shape)
        for p in gated.mapped.pieces
        if p.name in cores
    )
    mapped = gated.mapped.model_copy(update={"tiles": tiles})
    notes = tuple(_notes(draft.legal.integer, mapped, draft.chip))
    return Fitted(mapped, tensors, gated.ranges, notes, tuple(problems))


def _faulty(chip: ChipSpec) -> dict[int, str]:
    """Cores with faults of their own, and these: used only where there is no placement without them."""
    return {i: "; ".join(kind.errata) for i, kind in chip.cores.items() if kind.errata}


def _notes(integer: Graph, mapped: Mapped, chip: ChipSpec) -> Iterator[str]:
    read_back = integer.output.decode is Decode.MEMBRANE
    yield f"class scores are {'the final membrane potential, read back' if read_back else 'spike counts'}"
    faults = _faulty(chip)
    for t in mapped.tiles:
        if t.core in faults:
            yield f"%{t.piece} stands on core {t.core}: {faults[t.core]}"


def _emitted(lowered: Lowered) -> Mapping[str, bytes]:
    """Chip configuration and event schedule."""
    return chip_files(lowered.mapped, lowered.tensors, lowered.chip)


SPECK2E, SPECK2F = (
    speck_target(load_chip(Path(__file__).with_name(f"{name}.toml"))) for name in ("speck2e", "speck2f")
)
