"""A chip file with any number in it compiles a network rightly or is refused by a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from random_graphs import Builder, random_inputs
from snncc.compilation import Lowered, Options, Target
from snncc.errors import InternalError, SnnccError
from snncc.hw.spec import ChipSpec
from snncc.ir import Graph
from snncc.ir.batches import in_chunks
from snncc.mapping.check import check_mapped
from snncc.model import Model
from snncc.plugins import target_of
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM
from snncc_speck import SPECK2F


def network() -> Graph:
    b = Builder(np.random.default_rng(3), (2, 6, 5), 3)
    b.conv("a", b.last, 4, (3, 3), padding=(1, 1))
    b.sfa("na", 3, normalized=True)
    b.conv("b", b.last, 3, (3, 3), stride=(2, 2))
    b.sfa("nb", 3, normalized=True)
    return b.graph()


GRAPH = network()
X = random_inputs(GRAPH, 5, 1)
ODD = (-1, 0, 1, 2, 5, 64, 10**6)


def odd_values(value: Any) -> tuple[Any, ...]:
    """Others of the same kind."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, tuple):
        return ((), (-1,), (0,), (3, 10**9))
    return ODD if isinstance(value, int) else ()


def edited(chip: ChipSpec, part: str, key: str, value: Any) -> ChipSpec:
    """The description as a file with another value gives it."""
    document = chip.model_dump()
    document[part][key] = value
    return ChipSpec.model_validate(document)


def cases(chip: ChipSpec) -> Iterator[tuple[str, str, Any]]:
    for part in ("limits", "abilities"):
        for key, value in getattr(chip, part):
            yield from ((part, key, odd) for odd in odd_values(value))


def lowered_for(chip: ChipSpec) -> Lowered | None:
    """The network on a chip; None where a typed error, not our own bug, stands against it."""
    try:
        return target_of(chip).lower(Model(GRAPH), X, Options())
    except InternalError:
        raise
    except SnnccError:
        return None


def check_counts(lowered: Lowered) -> None:
    check_mapped(lowered.mapped, lowered.tensors, lowered.chip, target_of(lowered.chip).checker)
    counts = X.reshape(len(X), 1, *lowered.mapped.inputs[0].shape)
    activity = SIMULATOR.execute(lowered.mapped, lowered.tensors, counts)
    assert not any(a.out_of_range for a in activity.layers)
    want = in_chunks(lowered.integer_graph, X).values
    for piece, n in activity.counts.items():
        assert np.array_equal(n, want[piece].reshape(n.shape)), piece


@pytest.mark.parametrize("base", [SIM, SPECK2F], ids=["sim", "speck2f"])
def test_any_number_is_kept_or_refused(base: Target) -> None:
    through = refused = 0
    for part, key, value in cases(base.chip):
        try:
            chip = edited(base.chip, part, key, value)
        except ValidationError:
            refused += 1
            continue
        lowered = lowered_for(chip)
        if lowered is not None:
            check_counts(lowered)
        through += lowered is not None
        refused += lowered is None
    assert min(through, refused) > 4
