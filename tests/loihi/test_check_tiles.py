"""The independent checkers accept every placed network, count as the partitioner does, refuse mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cells import renumbered
from loihi_nets import DENSE, Way, chain, chip, mobilenet, networks, pilotnet, without_cores
from snncc.errors import CapacityError, Problem
from snncc.hw.spec import ChipSpec
from snncc.mapping.check import violations as all_violations
from snncc.mapping.mapped import Mapped, Piece, Tile
from snncc_loihi.check import CHECKER, cautions, core_use
from snncc_loihi.partition import partition, tiles_of
from snncc_loihi.place import place_network
from snncc_loihi.resources import MODELS, Block, readers_of

Tensors = dict[str, Any]
LOIHI1, LOIHI2 = chip("loihi1"), chip("loihi2")


def tensors(mapped: Mapped, value: int = 1) -> Tensors:
    found = {}
    for c in (c for p in mapped.pieces for c in p.connections):
        a = c.address
        found[c.weight] = np.full(
            (a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel), value, np.int8
        )
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.sampled_from(["loihi1", "loihi2"]), st.integers(2, 60), st.integers(40, 400))
def test_every_placed_network_passes_and_is_counted_alike(
    mapped: Mapped, name: str, neurons: int, words: int
) -> None:
    small = chip(name, neurons=neurons, synapse_words=words, memory_words=5 * words)
    try:
        placed, _ = place_network(mapped, tensors(mapped), small)
    except CapacityError:
        return
    assert list(violations(placed, tensors(mapped), small)) == []
    grids, readers = partition(mapped, small), readers_of(mapped)
    pieces = {p.name: p for p in mapped.pieces}
    for tile, used in core_use(placed, small).items():
        block = Block(tile.low, tile.high)
        assert used == MODELS[name].use(pieces[tile.piece], block, grids, readers, mapped.leaving)


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
@pytest.mark.parametrize("make", [pilotnet, lambda: mobilenet(32, width=0.5)])
def test_large_networks_are_counted_alike(name: str, make: Callable[[], Mapped]) -> None:
    mapped, spec = make(), chip(name)
    grids, readers = partition(mapped, spec), readers_of(mapped)
    placed = mapped.model_copy(update={"tiles": tiles_of(mapped, grids)})
    pieces = {p.name: p for p in mapped.pieces}
    for tile, used in core_use(placed, spec).items():
        block = Block(tile.low, tile.high)
        assert used == MODELS[name].use(pieces[tile.piece], block, grids, readers, mapped.leaving)


def violations(mapped: Mapped, made: Tensors, spec: ChipSpec) -> Iterator[Problem]:
    return all_violations(mapped, made, spec, CHECKER)


def example(name: str = "loihi2") -> tuple[Mapped, Tensors]:
    net = chain((2, 9, 12), (6, Way(kernel=(3, 3), delay=0)), (4, Way(kernel=(2, 2), groups=2)), (10, DENSE))
    made = tensors(net)
    placed, _ = place_network(net, made, chip(name, neurons=120))
    return placed, made


def tile(m: Mapped, index: int, **updates: Any) -> Mapped:
    tiles = list(m.tiles)
    tiles[index] = tiles[index].model_copy(update=updates)
    return m.model_copy(update={"tiles": tuple(tiles)})


def piece(m: Mapped, index: int, **updates: Any) -> Mapped:
    pieces: list[Piece] = list(m.pieces)
    pieces[index] = renumbered(pieces[index], **updates)
    return m.model_copy(update={"pieces": tuple(pieces)})


def connection(m: Mapped, **updates: Any) -> Mapped:
    return piece(m, 1, connections=(m.pieces[1].connections[0].model_copy(update=updates),))


def pooled(m: Mapped) -> Mapped:
    address = m.pieces[1].connections[0].address
    return connection(m, address=address.model_copy(update={"pool": (2, 1)}))


def grown(m: Mapped) -> Mapped:
    """The second tile takes a row of the first's neurons."""
    first, second = m.tiles[0], m.tiles[1]
    assert first.low != second.low
    return tile(m, 1, low=first.low)


MUTATIONS: dict[str, Callable[[Mapped], Mapped]] = {
    "neurons stand on no core, got ": lambda m: m.model_copy(update={"tiles": m.tiles[1:]}),
    "neurons stand on several cores, got ": grown,
    "several tiles stand on core ": lambda m: tile(m, 2, core=m.tiles[0].core),
    "a tile stands on a core that the system has not, got 1024, limit 1023.": lambda m: tile(m, 0, core=1024),
    "a tile stands on a core that the system has not, got -1": lambda m: tile(m, 0, core=-1),
    "a tile names no piece": lambda m: tile(m, 0, piece="z"),
    "a tile is empty or leaves its map": lambda m: tile(
        m, 0, high=(m.tiles[0].high[0], 99, m.tiles[0].high[2])
    ),
    "spikes wait longer than the chip can hold them, got 63, limit 62.": lambda m: connection(m, delay=63),
    "a connection pools, which this chip cannot": pooled,
    "sums of one micro-step leave the accumulator": lambda m: piece(m, 2, gain=256 * 64),
}


@pytest.mark.parametrize("message", MUTATIONS)
def test_mutated_tiles_are_refused(message: str) -> None:
    placed, made = example()
    assert list(violations(placed, made, LOIHI2)) == []
    assert any(message in str(p) for p in violations(MUTATIONS[message](placed), made, LOIHI2))


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_every_limit_of_a_core_is_checked(name: str) -> None:
    """Lowering any limit to one below what the fullest core takes is noticed."""
    placed, made = example(name)
    use = core_use(placed, chip(name))
    for resource in MODELS[name].resources:
        most = max(used[resource] for used in use.values())
        if most == 0:
            continue
        assert list(violations(placed, made, chip(name, **{resource: most}))) == []
        refused = list(violations(placed, made, chip(name, **{resource: most - 1})))
        assert refused
        assert all(f"too many {resource}, got {most}, limit {most - 1}" in str(p) for p in refused)


def test_one_tile_of_everything_exceeds_a_small_core() -> None:
    placed, made = example()
    whole = tuple(
        Tile(piece=p.name, core=i, low=(0, 0, 0), high=p.shape) for i, p in enumerate(placed.pieces)
    )
    merged = placed.model_copy(update={"tiles": whole})
    texts = [str(p) for p in violations(merged, made, chip("loihi2", neurons=120))]
    assert texts == [
        "mapping of a on core 0: too many neurons, got 420, limit 120.",
        "mapping of b on core 1: too many neurons, got 216, limit 120.",
    ]


def test_accumulator_of_16_bits() -> None:
    net = chain((30, 5, 5), (2, DENSE))
    made = tensors(net, 127)
    text = "mapping of a: sums of one micro-step leave the accumulator, got (0, 95250), limit 32767."
    assert [str(p) for p in violations(net, made, LOIHI2) if "sums" in str(p)] == [text]
    enforced = piece(net, 0, admitted=(-32768, 32767))
    assert not [p for p in violations(enforced, made, LOIHI2) if "sums" in str(p)]
    doubled = piece(net, 0, admitted=(0, 16384), gain=128)
    assert [p for p in violations(doubled, made, LOIHI2) if "got (0, 32768)" in str(p)]
    assert not [
        p for p in violations(piece(net, 0, admitted=(0, 16383), gain=128), made, LOIHI2) if "sums" in str(p)
    ]


def test_tiles_on_a_chip_without_cores() -> None:
    placed, made = example()
    plain = without_cores(LOIHI2)
    assert [p.what for p in violations(placed, made, plain)] == ["has tiles, but the chip has no cores"]
    assert list(violations(placed.model_copy(update={"tiles": ()}), made, plain)) == []


def test_wide_convolutions_are_cautioned_on_loihi_2() -> None:
    wide = chain((1, 4, 300), (1, Way(kernel=(3, 3))), (2, DENSE))
    assert cautions(wide, LOIHI2) == (
        "%a: a convolution over a map 300 wide; Intel's compiler warns that spikes of x = 256·n - 1 and its "
        "neighbours may be dropped",
    )
    assert cautions(wide, LOIHI1) == ()
    assert cautions(pilotnet(), LOIHI2) == ()
