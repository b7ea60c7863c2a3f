"""Targets for simulation only: the ideal clocked chip ``sim``, and chips that differ in cost alone."""

from __future__ import annotations

from pathlib import Path

from snncc.analysis.claims import left_ranges, word_range
from snncc.compilation import Draft, Fitted, Target
from snncc.hw.spec import ChipSpec, expect, load_chip
from snncc.ir.schedule import EXACT, Engine, Release, Schedule

FREE = Schedule(
    name="free",
    promises=False,
    claim="none: a free-running network fires in the order its input arrives and is compared, not claimed",
    engine=Engine.EVENT,
    release=Release.FREE,
)


def sim_target(chip: ChipSpec) -> Target:
    """Windows of micro-steps (``exact``) or free-running events (``free``), on a chip that sets no limits.

    It has no files of its own: ``mapped.json`` is its program.

    Raises:
        UsageError: SNNC-U009 if the description has limits other than the widths: nothing checks them.
    """
    expect(chip, (), ("limits.weight_bits_max", "limits.exponent_max"), divides=True)
    return Target(chip, schedules={s.name: s for s in (EXACT, FREE)}, fit=fit)


def fit(draft: Draft) -> Fitted:
    """The network as it is, with the ranges of its membranes.

    A sum that leaves the membrane's word on the calibration inputs is a problem, SNNC-C009.
    """
    ranges = tuple(word_range(s, draft.bits_of(s.neuron.name)) for s in draft.sums)
    return Fitted(draft.mapped, draft.tensors, ranges, problems=tuple(left_ranges(ranges)))


SIM, TIANJIC = (
    sim_target(load_chip(Path(__file__).with_name(f"{name}.toml"))) for name in ("sim", "tianjic")
)
