"""Each limit of the independent checker: what lies on it passes, one more is refused, with the whole message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snncc.hw.spec import ChipSpec
from snncc.ir import Const
from snncc.mapping.check import violations
from snncc.mapping.mapped import Mapped, Piece
from snncc_speck import SPECK2F
from speck_nets import changed, example, moved, resized

CHIP = SPECK2F.chip
LOWERED = example()
GOOD, TENSORS = LOWERED.mapped, LOWERED.tensors


def found(mapped: Mapped, tensors: Any = TENSORS, chip: ChipSpec = CHIP) -> list[str]:
    problems = list(violations(mapped, tensors, chip, SPECK2F.checker))
    assert {p.code for p in problems} <= {"SNNC-X001"}
    return [str(p) for p in problems]


def gate(**updates: Any) -> Mapped:
    second = GOOD.pieces[1].gate
    assert second is not None
    return changed(GOOD, 1, gate=second.model_copy(update=updates))


def readers(count: int) -> Mapped:
    """n1 read by n2 and by copies of it on other cores."""
    names = [f"n{i + 2}" for i in range(count)]
    copies = [GOOD.pieces[1].model_copy(update={"name": name}) for name in names]
    tiles = [GOOD.tiles[1].model_copy(update={"piece": name, "core": i + 3}) for i, name in enumerate(names)]
    return GOOD.model_copy(update={"pieces": (GOOD.pieces[0], *copies), "tiles": (GOOD.tiles[0], *tiles)})


def test_a_core_feeds_as_many_others_as_it_addresses() -> None:
    assert CHIP.limits.fan_out == 2
    assert found(readers(2)) == []
    assert found(readers(3)) == ["mapping of n1: feeds too many destinations, got 3, limit 2."]


def test_one_reader_by_two_routes_is_two_destinations() -> None:
    """Pooling belongs to a destination's entry."""
    first = GOOD.pieces[1].connections[0]
    pooled = first.model_copy(update={"address": first.address.model_copy(update={"pool": (2, 2)})})
    other = GOOD.pieces[1].model_copy(update={"name": "n3"})
    both = other.model_copy(update={"connections": (first, pooled)})
    doubled = GOOD.model_copy(update={"pieces": (*GOOD.pieces, both)})
    assert "mapping of n1: feeds too many destinations, got 3, limit 2." in found(doubled)


@pytest.mark.parametrize("threshold", [1, 5, 126, 127, 128, 300])
def test_a_control_event_adds_at_most_the_threshold_and_a_weight(threshold: int) -> None:
    """More than θ could cause two spikes where the membrane stands just below it."""
    most = min(127, threshold)
    for step, refused in ((0, True), (1, False), (most, False), (most + 1, True)):
        second = GOOD.pieces[1].gate
        assert second is not None
        made = changed(
            GOOD, 1, threshold=threshold, gate=second.model_copy(update={"step": step}), admitted=(0, 0)
        )
        text = f"mapping of n2: a control event could cause two spikes, got {step}, limit {most}."
        assert (text in found(made)) is refused, step


def wide_range(low: int, high: int) -> list[str]:
    return found(changed(GOOD, 1, admitted=(low, high)))


def test_sums_of_a_gated_layer_stay_between_the_words_end_and_the_threshold() -> None:
    """n2 starts at 141 - 127·20 = -2399, fires at 283."""
    low, high = -32768 + 2399, 282 + 2399
    assert (low, high) == GOOD.pieces[1].admitted
    assert wide_range(low, high) == []
    assert wide_range(low - 1, high) == [
        "mapping of n2: an allowed sum leaves the word, got -32769, limit -32768."
    ]
    assert wide_range(low, high + 1) == [
        "mapping of n2: an allowed sum fires before the release, got 283, limit 282."
    ]


def test_the_last_control_event_stays_in_the_word() -> None:
    limit = 32767 - 127
    for threshold, texts in (
        (limit + 1, []),
        (limit + 2, ["mapping of n2: a control event leaves the word, got 32768, limit 32767."]),
    ):
        assert found(changed(GOOD, 1, threshold=threshold, admitted=(0, 0))) == texts


def readout(low: int, high: int) -> Mapped:
    return changed(GOOD, 1, max_spikes=0, threshold=32767, precharge=0, gate=None, admitted=(low, high))


def test_a_readouts_sums_stay_in_its_word_and_below_its_threshold() -> None:
    assert found(readout(-32768, 32766)) == []
    for low, high in ((-32769, 32766), (-32768, 32767)):
        text = f"mapping of n2: an allowed sum leaves a readout's word, got ({low}, {high})."
        assert found(readout(low, high)) == [text]


def test_a_start_value_counts_with_its_least_and_its_largest_channel() -> None:
    """Biases and start values [C]: the range shifts at both ends."""
    values = Const(np.array([-3, 0, 0, 0, 9], np.int32))
    low, high = GOOD.pieces[1].admitted or (0, 0)
    assert found(changed(GOOD, 1, bias=values, admitted=(low + 3, high - 9))) == []
    assert found(changed(GOOD, 1, v_init=values, admitted=(low + 3, high - 9))) == []
    assert found(changed(GOOD, 1, bias=values)) == [
        "mapping of n2: an allowed sum leaves the word, got -32771, limit -32768.",
        "mapping of n2: an allowed sum fires before the release, got 291, limit 282.",
    ]


def test_every_output_site_has_an_address_for_its_control_event() -> None:
    """A tap outside the kernel, or one that falls on the padding at either end."""
    text = "mapping of n2: a control event has no address, got ({}, {}), limit {}."
    assert found(gate(tap=(1, 1))) == []
    assert found(gate(tap=(0, 1))) == [text.format(-1, 4, 5)]
    assert found(gate(tap=(1, 0))) == [text.format(-1, 2, 3)]
    assert found(gate(tap=(2, 1))) == [text.format(1, 6, 5)]
    assert found(gate(tap=(1, 2))) == [text.format(1, 4, 3)]


def test_a_control_event_goes_through_a_tap_of_the_kernel() -> None:
    """A pointwise layer that leaves out the last row: behind its one tap the sites are on the map, too."""
    one = GOOD.pieces[1].connections[0]
    geometry = {"kernel": (1, 1), "padding": (0, 0), "target_shape": (5, 5, 4)}
    connection = one.model_copy(update={"address": one.address.model_copy(update=geometry), "weight": "w"})
    weights = {**TENSORS, "w": np.ones((5, 3, 1, 1), np.int8)}
    for tap, texts in (
        ((0, 0), []),
        ((1, 0), ["mapping of n2: a control event has no address, got (1, 5), limit 5."]),
    ):
        smaller = changed(gate(tap=tap), 1, connections=(connection,), shape=(5, 5, 4))
        assert found(moved(smaller, 1, high=(5, 5, 4)), weights) == texts


@pytest.mark.parametrize(("words", "message"), [
    ({"kernel_words": 511}, "too many kernel_words, got 512, limit 511."),
    ({"neuron_words": 159}, "too many neuron_words, got 160, limit 159."),
], ids=str)  # fmt: skip
def test_memories_of_a_core(words: dict[str, int], message: str) -> None:
    """4 inputs (one of them the gate's) · 2^(⌈ld 9⌉ + ⌈ld 5⌉) words; 5 · 2^(⌈ld 6⌉ + ⌈ld 4⌉)."""
    name, limit = next(iter(words.items()))
    assert found(GOOD, chip=resized(CHIP, 3, **{name: limit + 1})) == []
    assert found(GOOD, chip=resized(CHIP, 3, **words)) == [f"mapping of n2 on core 3: {message}"]


def events(piece: Piece, **updates: Any) -> list[str]:
    index = GOOD.pieces.index(piece)
    return [t for t in found(changed(GOOD, index, **updates)) if "graded" in t]


def test_events_that_carry_numbers_need_a_chip_and_a_schedule_for_them() -> None:
    first = GOOD.pieces[0]
    assert events(first, graded=True) == ["mapping of n1: sends graded events, which the chip has not."]
    assert events(first, signed=True) == ["mapping of n1: is signed, but no graded window of a clocked chip."]


@pytest.mark.parametrize(("threshold", "messages"), [
    (0, ["mapping of n1: threshold leaves its range, got 0, limit 32767."]),
    (32768, ["mapping of n1: threshold leaves its range, got 32768, limit 32767."]),
    (32767, []),
])  # fmt: skip
def test_thresholds_stay_in_their_field(threshold: int, messages: list[str]) -> None:
    texts = found(changed(GOOD, 0, threshold=threshold, admitted=(0, 0)))
    assert [t for t in texts if "leaves its range" in t] == messages


def test_a_piece_without_connections() -> None:
    mapped = changed(GOOD, 1, connections=())
    first = next(iter(violations(mapped, TENSORS, CHIP, SPECK2F.checker)))
    assert str(first) == "mapping of n2: has no connection."
