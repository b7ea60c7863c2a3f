"""Cutting layers into blocks: Intel's published networks, errors, covers and limits."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loihi_nets import DENSE, Way, boards, chain, chip, cut, mobilenet, networks, pilotnet, yolo_kp
from snncc.errors import CapacityError
from snncc.mapping.mapped import Mapped
from snncc_loihi.partition import core_limits, partition, tiles_of
from snncc_loihi.resources import MODELS, readers_of

LOIHI1, LOIHI2 = chip("loihi1"), chip("loihi2")


def test_pilotnet_is_cut_as_intel_prints_it() -> None:
    """Blocks (x, y, channels) and cores of the input and five convolutions; the log's total is 74 cores."""
    table = cut(pilotnet(), LOIHI2)
    found = [(row.largest[::-1], len(row.cores)) for row in table.rows[:6]]
    assert found == [
        ((16, 66, 3), 13),
        ((4, 32, 24), 25),
        ((4, 15, 36), 13),
        ((8, 7, 48), 3),
        ((8, 4, 64), 3),
        ((16, 2, 64), 2),
    ]
    # The dense layer takes 12 cores there, with its weights of 3 bits but 12000 words a core.
    assert [len(row.cores) for row in table.rows[6:]] == [6, 1, 1, 1]
    assert table.cores == 68
    assert abs(table.cores - 74) <= 0.1 * 74


def test_pilotnet_with_the_memory_of_the_older_log() -> None:
    older = chip("loihi2", synapse_words=12000)
    assert sum(g.tiles for g in partition(pilotnet(), older).values()) == 71


def test_yolo_takes_as_many_cores_as_intel_prints() -> None:
    grids = partition(yolo_kp(), LOIHI2)
    assert [g.tiles for g in grids.values()] == [224, 112, 56, 28, 56, 16, 32, 14, 32, 4]


def test_oxford() -> None:
    """200 -> 256 -> 200. Intel's log takes 3 + 2 cores of 12000 words; the third is not explained."""
    net = chain((200, 1, 1), (256, DENSE), (200, DENSE))
    assert [g.tiles for g in partition(net, chip("loihi2", synapse_words=12000)).values()] == [2, 2]


@pytest.mark.parametrize(("slots", "tiles"), [(1000, 1), (999, 2), (400, 3), (250, 4), (1, 1000)])
def test_a_layer_that_exceeds_a_core_by_its_targets_is_cut_again(slots: int, tiles: int) -> None:
    """1000 neurons that one core reads need a slot each."""
    net = chain((4, 1, 1), (1000, DENSE), (5, DENSE))
    grids = partition(net, chip("loihi1", axons_out=slots))
    assert [g.tiles for g in grids.values()] == [tiles, 1]


def test_a_neuron_that_reaches_too_many_cores_names_the_slots() -> None:
    net = chain((4, 1, 1), (30, DENSE), (5, DENSE))
    with pytest.raises(CapacityError) as info:
        partition(net, chip("loihi1", neurons=3, axons_out=1))
    assert str(info.value) == (
        "[SNNC-C013] %a (a): a core of loihi1 holds not even one of its neurons: output axon slots, got 2, "
        "limit 1. Try fewer neurons in the layers that read it."
    )


def test_one_neuron_that_exceeds_a_core_names_layer_and_resource() -> None:
    net = chain((5, 60, 60), (3, DENSE), (4, DENSE))
    with pytest.raises(CapacityError) as info:
        partition(net, LOIHI1)
    assert str(info.value) == (
        "[SNNC-C013] %a (a): a core of loihi1 holds not even one of its neurons: input axons, got 18000, "
        "limit 4096. Try fewer input channels or a smaller input map."
    )


def test_all_layers_that_exceed_a_core_are_named() -> None:
    net = chain((5, 60, 60), (3, DENSE), (4, DENSE), (70, DENSE), (2, DENSE))
    with pytest.raises(CapacityError) as info:
        partition(net, chip("loihi2", synapse_words=60))
    assert [p.where for p in info.value.problems] == ["%a (a)", "%d (d)"]
    assert [p.got for p in info.value.problems] == ["18000", "70"]


def test_too_many_cores() -> None:
    with pytest.raises(CapacityError) as info:
        partition(yolo_kp(), boards(LOIHI2, 4))
    assert str(info.value) == (
        "[SNNC-C014] network on loihi2: its blocks are more than the system has cores (most by %a: 224, "
        "%b: 112, %c: 56), got 574 cores, limit 512 cores (4 chips). Try fewer channels or smaller maps in "
        "these layers."
    )


def test_the_table_names_the_fullest_tile_of_each_layer() -> None:
    table = cut(chain((2, 8, 12), (6, Way(kernel=(3, 3))), (10, DENSE)), LOIHI2)
    assert [(r.piece.name, r.largest, r.cores) for r in table.rows] == [
        ("a", (6, 6, 8), (0, 1)),
        ("b", (10, 1, 1), (2,)),
    ]
    shares = [[f"{use.share:.2%}" for use in r.most.values()] for r in table.rows]
    assert [list(r.most) for r in table.rows] == [list(MODELS["loihi2"].resources)] * 2
    assert shares == [
        ["0.01%", "25.00%", "7.03%", "0.22%", "1.80%", "0.00%", "3.08%"],
        ["2.25%", "12.50%", "0.24%", "9.00%", "0.06%", "0.00%", "9.11%"],
    ]
    assert (table.cores, table.cores_available, table.chips) == (3, 1024, 1)


def test_a_network_of_28_layers_is_cut() -> None:
    grids = partition(mobilenet(128), LOIHI2)
    assert sum(g.tiles for g in grids.values()) <= LOIHI2.mesh.chips * LOIHI2.mesh.cores_per_chip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.sampled_from(["loihi1", "loihi2"]), st.integers(1, 40), st.integers(40, 400))
def test_blocks_cover_and_keep_every_limit(mapped: Mapped, name: str, neurons: int, words: int) -> None:
    limits = {"neurons": neurons, "synapse_words": words, "memory_words": 5 * words, "axons_out": words}
    small = chip(name, **limits)
    try:
        grids = partition(mapped, small)
    except CapacityError:
        return
    model, readers, allowed = MODELS[name], readers_of(mapped), core_limits(small)
    for piece in mapped.pieces:
        seen = set()
        for block in grids[piece.name].blocks():
            neurons_here = {
                (c, y, x)
                for c in range(block.low[0], block.high[0])
                for y in range(block.low[1], block.high[1])
                for x in range(block.low[2], block.high[2])
            }
            assert not seen & neurons_here
            seen |= neurons_here
            used = model.use(piece, block, grids, readers, mapped.leaving)
            assert all(used[r] <= allowed[r] for r in used)
            if name == "loihi2":
                assert block.shape[2] & (block.shape[2] - 1) == 0 or block.high[2] == piece.shape[2]
        assert len(seen) == piece.shape[0] * piece.shape[1] * piece.shape[2]
    tiles = tiles_of(mapped, grids)
    assert [t.core for t in tiles] == list(range(len(tiles)))
