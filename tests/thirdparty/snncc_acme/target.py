"""Acme's backend: from a chip description to a target."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from snncc.analysis.claims import layer_range, left_ranges
from snncc.compilation import Draft, Fitted, Lowered, Target
from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec, expect, load_chip
from snncc.ir.schedule import EXACT, Schedule
from snncc.mapping.check import Checker
from snncc.mapping.mapped import Mapped, Tile
from snncc.passes.base import Pass
from snncc_acme.mirrored import Mirrored


def acme_target(chip: ChipSpec) -> Target:
    """Windows of micro-steps on slices, of which every layer takes one."""
    expect(chip, needed=("core_kinds",), counted=("layers",))
    checker = Checker(use=_use)
    return Target(chip, {EXACT.name: EXACT}, _fit, passes=_passes, emit=_emit, checker=checker)


def _passes(schedule: Schedule) -> tuple[Pass, ...]:
    return (Mirrored(),)


def _fit(draft: Draft) -> Fitted:
    bits = draft.chip.limits.state_bits
    word = 2 ** (bits - 1)
    ranges = tuple(layer_range(s, bits, (-word - s.start_low, word - 1 - s.start_high)) for s in draft.sums)
    problems = (*_too_many(draft), *left_ranges(ranges))
    places = zip(draft.mapped.pieces, draft.chip.cores, strict=False)
    tiles = tuple(Tile(piece=p.name, core=core, low=(0, 0, 0), high=p.shape) for p, core in places)
    mapped = draft.mapped.model_copy(update={"tiles": tiles})
    return Fitted(mapped, draft.tensors, ranges, problems=problems)


def _use(mapped: Mapped, chip: ChipSpec) -> Mapping[Tile, Mapping[str, int]]:
    return {tile: {"layers": 1} for tile in mapped.tiles}


def _too_many(draft: Draft) -> Iterator[Problem]:
    layers, slices = len(draft.mapped.pieces), len(draft.chip.cores)
    if layers > slices:
        hint = "fewer layers"
        where, what = draft.float_graph.name, "has more layers than slices"
        yield problem("ACME-C001", where, what, got=layers, limit=slices, hint=hint)


def _emit(lowered: Lowered) -> Mapping[str, bytes]:
    order = [piece.name for piece in lowered.mapped.pieces]
    return {"slices.json": json.dumps(order).encode()}


ACME1 = acme_target(load_chip(Path(__file__).with_name("acme1.toml")))
