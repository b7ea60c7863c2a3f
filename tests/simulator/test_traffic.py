"""Events by micro-step, tile and core against the unrolled connectivity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.simnets import Net, Way, recolour
from snncc.errors import InternalError
from snncc.mapping.mapped import INPUT, Mapped, Piece, Tile
from snncc_sim import SIMULATOR, traffic

Box = tuple[list[int], list[int]]


def split_boxes(rng: np.random.Generator, shape: tuple[int, ...], cuts: int) -> list[Box]:
    """A random partition of a map into boxes, by repeated halving somewhere."""
    boxes: list[Box] = [([0, 0, 0], list(shape))]
    for _ in range(cuts):
        low, high = boxes.pop(int(rng.integers(len(boxes))))
        axis = int(rng.integers(3))
        if high[axis] - low[axis] < 2:
            boxes.append((low, high))
            continue
        at = int(rng.integers(low[axis] + 1, high[axis]))
        boxes.append((low, [*high[:axis], at, *high[axis + 1 :]]))
        boxes.append(([*low[:axis], at, *low[axis + 1 :]], high))
    return boxes


def tiled(mapped: Mapped, rng: np.random.Generator, cuts: int = 3, cores: int = 6) -> Mapped:
    """Random tiles of every piece on random cores, some cores shared."""
    tiles = []
    for piece in mapped.pieces:
        for low, high in split_boxes(rng, piece.shape, cuts):
            core = int(rng.choice([2, 3, 5, 11, 17, 30][:cores]))
            tiles.append(Tile(piece=piece.name, core=core, low=tuple(low), high=tuple(high)))
    order = rng.permutation(len(tiles))
    return mapped.model_copy(update={"tiles": tuple(tiles[i] for i in order)})


def mixed_net(steps: int = 2) -> Net:
    """Strides that skip sources, groups, a pooling that leaves a rest, delays, a shared source."""
    net = Net((2, 7, 9), levels=3, steps=steps, seed=3)
    neuron = {"threshold": 15, "max_spikes": 3, "precharge": 5}
    net.layer("a", 4, Way(kernel=(2, 3), pool=(2, 2), padding=(0, 1)), phase=4, **neuron)
    net.layer("b", 4, Way("a", kernel=(1, 1), groups=2), phase=8, **neuron)
    ways = Way("b", kernel=(1, 1), stride=(2, 3)), Way("a", kernel=(1, 1), stride=(2, 3), delay=4)
    net.layer("c", 6, *ways, phase=12, **neuron)
    net.layer("d", 6, Way("c", kernel=(1, 1), groups=6), phase=16, **neuron)
    net.layer("r", 3, Way("d", kernel=None), max_spikes=0, phase=20)
    return net


def native_net(steps: int = 7) -> Net:
    """Binary spikes in every micro-step; a convolution with padding, stride and dilation."""
    net = Net((3, 6, 8), levels=1, steps=steps, period=1, seed=5)
    net.layer("a", 4, Way(padding=(1, 2), dilation=(1, 2)), threshold=9, max_spikes=1, phase=1)
    net.layer(
        "b",
        5,
        Way("a", kernel=(3, 2), stride=(2, 1), padding=(1, 0)),
        threshold=np.array([7, 3, 9, 7, 12], np.int32),
        max_spikes=1,
        phase=2,
    )
    net.layer("c", 6, Way("b", kernel=None), threshold=9, max_spikes=1, phase=3)
    net.layer("r", 4, Way("c", kernel=None), max_spikes=0, phase=4)
    return net


def spikes_at(mapped: Mapped, piece: Piece | None, counts: Any, k: int) -> Any:
    """Flat spikes of a source [T, C, H, W] in micro-step k, by the definition of its windows."""
    shape = mapped.inputs[0].shape if piece is None else piece.shape
    phase = 0 if piece is None else piece.phase
    graded = mapped.inputs[0].graded if piece is None else piece.graded
    t, d = divmod(k - phase, mapped.micro_steps)
    if not 0 <= t < mapped.steps or (piece is not None and piece.is_readout):
        return np.zeros(math.prod(shape), bool)
    n = np.asarray(counts[t]).reshape(-1)
    return (n > 0) & (d == 0) if graded else n > d


def expanded(mapped: Mapped) -> list[tuple[Piece, str, int, Any]]:
    """(piece, source, delay, number of synapses [targets, sources]) of every connection."""
    found = []
    for piece in mapped.pieces:
        for c in piece.connections:
            a = c.address
            ones = np.ones((a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel), np.int64)
            found.append((piece, c.source, c.delay, a.expand(ones)))
    return found


def tile_of(mapped: Mapped, piece: Piece) -> Any:
    holder = np.full(piece.shape, -1)
    for i, t in enumerate(mapped.tiles):
        if t.piece == piece.name:
            holder[t.low[0] : t.high[0], t.low[1] : t.high[1], t.low[2] : t.high[2]] = i
    return holder.reshape(-1)


def brute_force(mapped: Mapped, counts: Any, x: Any, sample: int) -> dict[str, Any]:
    """The same loads from dense matrices, one spike at a time."""
    steps, tiles = traffic.last_micro_step(mapped), len(mapped.tiles)
    pieces: dict[str, Piece | None] = {INPUT: None} | {p.name: p for p in mapped.pieces}
    data = {INPUT: x} | counts
    sent = {n: [spikes_at(mapped, p, data[n][sample], k) for k in range(steps)] for n, p in pieces.items()}
    holder = {p.name: tile_of(mapped, p) for p in mapped.pieces}
    ways = expanded(mapped)
    found: dict[str, Any] = {n: np.zeros((steps, tiles), int) for n in ("spikes", "operations", "active")}
    flows: list[dict[tuple[int, int], int]] = [{} for _ in range(steps)]
    touched = {p.name: np.zeros((steps, math.prod(p.shape)), bool) for p in mapped.pieces}
    for k in range(steps):
        for name, piece in pieces.items():
            for i in np.flatnonzero(sent[name][k]):
                tile = -1 if piece is None else holder[name][i]
                cores = set()
                for target, source, delay, matrix in ways:
                    if source != name:
                        continue
                    column = matrix[:, i]
                    np.add.at(found["operations"][k], holder[target.name], column)
                    cores |= {mapped.tiles[j].core for j in holder[target.name][column > 0]}
                    if k + 1 + delay < steps:
                        touched[target.name][k + 1 + delay] |= column > 0
                for core in cores:
                    flows[k][tile, core] = flows[k].get((tile, core), 0) + 1
                if piece is not None:
                    found["spikes"][k, tile] += 1
                    touched[name][k, i] = True
    for p in mapped.pieces:
        for k in range(steps):
            np.add.at(found["active"][k], holder[p.name], touched[p.name][k])
    return found | {"flows": flows}


def check(mapped: Mapped, counts: Any, x: Any) -> None:
    routes = traffic.build_routes(mapped)
    operations = np.zeros(len(mapped.tiles), np.int64)
    for sample in range(len(x)):
        events = traffic.sample_events(routes, counts, x, sample)
        loads = traffic.sample_loads(routes, events)
        expected = brute_force(mapped, counts, x, sample)
        for name in ("spikes", "operations", "active"):
            np.testing.assert_array_equal(getattr(loads, name), expected[name], err_msg=name)
        for k, row in enumerate(loads.flows):
            found = {
                (int(routes.flow_tile[f]), int(routes.cores[routes.flow_core[f]])): int(row[f])
                for f in np.flatnonzero(row)
            }
            assert found == expected["flows"][k], k
        assert loads.lookups.sum() == loads.flows.sum()
        by_core = np.bincount(routes.tile_core, loads.lookups, len(routes.cores))
        arrived = np.bincount(routes.flow_core, loads.flows.sum(axis=0), len(routes.cores))
        np.testing.assert_array_equal(by_core, arrived)
        operations += loads.operations.sum(axis=0)
    np.testing.assert_array_equal(np.sort(routes.cores), np.unique([t.core for t in mapped.tiles]))
    for core in range(len(routes.cores)):
        ranks = [
            routes.rank[routes.starts[i + 1] : routes.starts[i + 2]][
                routes.tile_core[tile_of(mapped, p)] == core
            ]
            for i, p in enumerate(mapped.pieces)
        ]
        joined = np.concatenate(ranks)
        np.testing.assert_array_equal(joined, np.arange(len(joined)))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 5), st.booleans())
def test_loads_equal_brute_force(seed: int, cuts: int, native: bool) -> None:
    net = native_net() if native else mixed_net()
    rng = np.random.default_rng(seed)
    mapped = tiled(net.mapped(), rng, cuts)
    counts = {
        p.name: rng.integers(0, max(p.cell.max_spikes, 1) + 1, (2, net.steps, *p.shape))
        * rng.integers(0, 2, p.shape)
        for p in mapped.pieces
    }
    check(mapped, counts, net.data(2, density=0.3))


def graded(mapped: Mapped) -> Mapped:
    """The same network, whose counts travel as single events."""
    pieces = tuple(recolour(p, graded=not p.is_readout) for p in mapped.pieces)
    port = mapped.inputs[0].model_copy(update={"graded": True})
    return mapped.model_copy(update={"pieces": pieces, "inputs": (port,)})


def test_graded_events_carry_the_count() -> None:
    net = mixed_net()
    mapped = graded(net.mapped())
    pieces = tuple(recolour(p, graded=p.name in "ac") for p in mapped.pieces)
    mapped = tiled(mapped.model_copy(update={"pieces": pieces}), np.random.default_rng(1))
    rng = np.random.default_rng(2)
    counts = {p.name: rng.integers(0, 4, (1, 2, *p.shape)) for p in mapped.pieces}
    check(mapped, counts, net.data(1))


@pytest.mark.parametrize(("make", "single"), [(mixed_net, False), (native_net, False), (mixed_net, True)])
def test_operations_are_those_of_the_engine(make: Any, single: bool) -> None:
    net = make()
    mapped, x = tiled(net.mapped(), np.random.default_rng(8)), net.data(4)
    mapped = graded(mapped) if single else mapped
    activity = SIMULATOR.execute(mapped, net.tensors, x)
    routes = traffic.build_routes(mapped)
    total = np.zeros(len(mapped.tiles), np.int64)
    spikes = np.zeros(len(mapped.tiles), np.int64)
    for sample in range(4):
        loads = traffic.sample_loads(routes, traffic.sample_events(routes, activity.counts, x, sample))
        total += loads.operations.sum(axis=0)
        spikes += loads.spikes.sum(axis=0)
    for layer in activity.layers:
        mine = [i for i, t in enumerate(mapped.tiles) if t.piece == layer.name]
        assert total[mine].sum() == layer.synaptic_operations > 0
        if not single:
            assert spikes[mine].sum() == layer.spikes


def test_a_packet_goes_once_to_each_core() -> None:
    """Two pieces on one core that read the same spike share its packet; their work adds up."""
    net = Net((1, 1, 1), levels=1, period=1)
    net.layer("a", 1, Way(kernel=(1, 1)), threshold=1, max_spikes=1, phase=1)
    net.layer("b", 3, Way("a", kernel=(1, 1)), threshold=1, max_spikes=1, phase=2)
    net.layer("c", 2, Way("a", kernel=(1, 1)), Way("b", kernel=(1, 1)), threshold=1, max_spikes=0, phase=3)
    tiles = tuple(
        Tile(piece=p.name, core=core, low=(0, 0, 0), high=p.shape)
        for p, core in zip(net.pieces, (4, 9, 9), strict=True)
    )
    routes = traffic.build_routes(net.mapped().model_copy(update={"tiles": tiles}))
    counts = {p.name: np.zeros((1, 1, *p.shape), np.int32) for p in net.pieces}
    counts["a"][:] = 1
    events = traffic.sample_events(routes, counts, np.ones((1, 1, 1, 1, 1), int), 0)
    loads = traffic.sample_loads(routes, events)
    flows = {(int(t), int(c)): int(n) for t, c, n in zip(routes.flow_tile, routes.flow_core, loads.flows.sum(axis=0), strict=True)}  # fmt: skip
    assert flows == {(-1, 0): 1, (0, 1): 1, (1, 1): 0}
    assert loads.lookups.tolist() == [1, 1, 0]
    assert loads.operations.sum(axis=0).tolist() == [1, 3, 2]


def test_tiles_must_hold_every_neuron_once() -> None:
    net = native_net()
    mapped = tiled(net.mapped(), np.random.default_rng(0))
    missing = mapped.model_copy(update={"tiles": mapped.tiles[1:]})
    with pytest.raises(InternalError, match="neurons stand in no tile"):
        traffic.build_routes(missing)
    twice = mapped.model_copy(update={"tiles": (*mapped.tiles, mapped.tiles[0])})
    with pytest.raises(InternalError, match="a tile leaves its piece or overlaps another"):
        traffic.build_routes(twice)
