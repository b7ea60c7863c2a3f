"""The independent checker accepts every mapping and refuses every mutated one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from random_graphs import random_inputs, sfa_graphs
from snncc.compilation import Options
from snncc.errors import CapacityError
from snncc.ir import Graph, Input
from snncc.mapping.check import violations
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc_sim.target import SIM
from snncc_speck import SPECK2F
from speck_nets import changed, conv, example, lower, moved, spiking


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sfa_graphs(), st.integers(0, 9999), st.sampled_from([SPECK2F, SIM]))
def test_every_mapping_passes(graph: Graph, seed: int, target: Any) -> None:
    try:
        lowered = target.lower(Model(graph), random_inputs(graph, 4, seed), Options())
    except CapacityError:
        assert target is SPECK2F
        return
    assert list(violations(lowered.mapped, lowered.tensors, target.chip, target.checker)) == []


def split(mapped: Mapped) -> Mapped:
    """The second layer's first channel on a core of its own."""
    rest = moved(mapped, 1, low=(1, 0, 0))
    first = mapped.tiles[1].model_copy(update={"core": 0, "high": (1, *mapped.tiles[1].high[1:])})
    return rest.model_copy(update={"tiles": (*rest.tiles, first)})


def mutations() -> dict[str, Any]:
    def gate(m: Mapped, **updates: Any) -> Mapped:
        found = m.pieces[1].gate
        assert found is not None
        return changed(m, 1, gate=found.model_copy(update=updates))

    def address(m: Mapped, **updates: Any) -> Mapped:
        c = m.pieces[1].connections[0]
        return changed(
            m, 1, connections=(c.model_copy(update={"address": c.address.model_copy(update=updates)}),)
        )

    return {
        "several tiles stand on core 2": lambda m: moved(moved(m, 0, core=2), 1, core=2),
        "a tile stands on a core that the system has not": lambda m: moved(m, 1, core=9),
        "neurons stand on no core": lambda m: moved(m, 1, low=(1, 0, 0)),
        "stands on several cores": split,
        "reads a source that does not stand before it": lambda m: m.model_copy(update={"pieces": m.pieces[::-1]}),
        "has no gate in a gated schedule": lambda m: changed(m, 1, gate=None),
        "a control event could cause two spikes": lambda m: gate(m, step=128),
        "an allowed sum fires before the release": lambda m: changed(m, 1, admitted=(m.pieces[1].admitted[0], m.pieces[1].admitted[1] + 1)),
        "an allowed sum leaves the word": lambda m: changed(m, 1, admitted=(m.pieces[1].admitted[0] - 1, m.pieces[1].admitted[1])),
        "admits no range of input sums in a gated schedule": lambda m: changed(m, 0, admitted=None),
        "one source reaches it through several connections": lambda m: changed(m, 1, connections=m.pieces[1].connections * 2),
        "a control event has no address": lambda m: gate(m, tap=(2, 1)),
        "threshold leaves its range": lambda m: changed(m, 1, threshold=0),
        "weights do not fit the address function": lambda m: address(m, kernel=(3, 2)),
        "kernel reaches beyond the padded input": lambda m: address(m, padding=(0, 1)),
        "address function does not fit its source": lambda m: address(m, source_shape=(3, 4, 6)),
        "address function does not fit the piece": lambda m: address(m, target_shape=(5, 6, 5)),
        "membrane width is not the chip's": lambda m: changed(m, 0, state_bits=32),
        "the output names no piece": lambda m: m.model_copy(update={"output": m.output.model_copy(update={"piece": "z"})}),
    }  # fmt: skip


@pytest.mark.parametrize("rule", list(mutations()))
def test_a_mutated_mapping_is_refused(rule: str) -> None:
    lowered = example()
    assert list(violations(lowered.mapped, lowered.tensors, SPECK2F.chip, SPECK2F.checker)) == []
    broken = mutations()[rule](lowered.mapped)
    found = {p.what for p in violations(broken, lowered.tensors, SPECK2F.chip, SPECK2F.checker)}
    assert rule in found


def test_a_resource_that_nobody_counts_is_no_limit_kept() -> None:
    lowered = example()
    kinds = tuple(
        k.model_copy(update={"resources": k.resources | {"leak_words": k.resources["neuron_words"]}})
        for k in SPECK2F.chip.core_kinds
    )
    chip = SPECK2F.chip.model_copy(update={"core_kinds": kinds})
    assert [str(p) for p in violations(lowered.mapped, lowered.tensors, chip, SPECK2F.checker)] == [
        f"mapping of {t.piece} on core {t.core}: its use of the core is counted otherwise, "
        "got ['kernel_words', 'neuron_words'], limit ['kernel_words', 'neuron_words', 'leak_words']."
        for t in lowered.mapped.tiles
    ]


def test_weights_outside_their_word_are_refused() -> None:
    lowered = example()
    digest = lowered.mapped.pieces[0].connections[0].weight
    tensors = {k: (v.astype(np.int16) * 2 + 200 if k == digest else v) for k, v in lowered.tensors.items()}
    assert "a weight leaves its word" in {
        p.what for p in violations(lowered.mapped, tensors, SPECK2F.chip, SPECK2F.checker)
    }


def test_rectangular_kernels_are_refused_or_squared_by_the_chip_alone() -> None:
    with pytest.raises(CapacityError, match="SNNC-C005"):
        lower(Input(name="x", shape=(2, 6, 7), levels=4), conv("c1", "x", 3, 2, (3, 2)), spiking("n1", "c1"))
