"""Cuts layers into blocks that a core holds, as Intel's compiler does: split, count again, repeat.

Every layer gets the smallest number of blocks that fits by the resources which its own neurons and
synapses take; of several cuts into as many, the one that splits channels least, then the one with
the shortest borders. What a block takes to reach its readers is known only once these are cut; where
that overflows, the layer's number of blocks grows by the ratio of the worst resource and everything
is counted again. One block takes one core: Intel's logs show no core with blocks of two layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from snncc.errors import Problem, problem, raise_all
from snncc.hw.spec import ChipSpec
from snncc.mapping.mapped import Mapped, Piece, Tile
from snncc_loihi.resources import MODELS, Block, CoreModel, Grid, Grids, Readers, readers_of

# How errors call a resource.
_NAMES: Mapping[str, str] = {
    "axons_in": "input axons",
    "neuron_groups": "neuron groups",
    "neurons": "neurons",
    "synapse_words": "words of synapse memory",
    "axon_map": "axon map entries",
    "axon_memory": "words of axon memory",
    "axons_out": "output axon slots",
    "memory_words": "words of memory",
}

_OUTGOING = ("axon_map", "axon_memory", "axons_out")
_OUTGOING_HINT = "fewer neurons in the layers that read it"


def core_limits(chip: ChipSpec) -> dict[str, int]:
    """Limit of each resource of a core; all cores of a Loihi chip are alike."""
    return {r: bound.limit for r, bound in chip.core_kinds[0].resources.items()}


def partition(mapped: Mapped, chip: ChipSpec) -> dict[str, Grid]:
    """How each piece is cut into blocks, one a core.

    Args:
        mapped: pieces in topological order; no connection pools.
        chip: one of :data:`~snncc_loihi.resources.MODELS`, with a mesh.

    Raises:
        CapacityError: SNNC-C013 for every layer of which not even one neuron fits a core, or
            SNNC-C014 if all blocks together are more than the system has cores.
    """
    model, limits, readers = MODELS[chip.backend], core_limits(chip), readers_of(mapped)
    candidates = {p.name: _candidates(p, model, limits["neurons"]) for p in mapped.on_chip}
    least = dict.fromkeys(candidates, 1)
    while True:
        grids = _cut(mapped, model, limits, candidates, least)
        overfull = dict(_overfull(mapped, model, limits, grids, readers))
        if not overfull:
            break
        stuck = [p for p in mapped.on_chip if p.name in overfull and grids[p.name].block == (1, 1, 1)]
        raise_all(_too_much(p, chip, *overfull[p.name]) for p in stuck)
        for name, (resource, used) in overfull.items():
            tiles = grids[name].tiles
            least[name] = max(tiles + 1, math.ceil(tiles * used / limits[resource]))
    raise_all(_too_many_cores(mapped, chip, grids))
    return grids


def _cut(
    mapped: Mapped,
    model: CoreModel,
    limits: Mapping[str, int],
    candidates: Mapping[str, tuple[Grid, ...]],
    least: Mapping[str, int],
) -> dict[str, Grid]:
    """The first cut of each piece into ``least`` blocks or more that fits by its own resources."""
    grids: dict[str, Grid] = {}
    for piece in mapped.on_chip:
        found = candidates[piece.name][-1]
        for grid in candidates[piece.name]:
            if grid.tiles >= least[piece.name] and _fits(piece, model, limits, grid, grids):
                found = grid
                break
        # The last candidate, single neurons, may not fit: the count of all blocks finds that.
        grids[piece.name] = found
    return grids


def _candidates(piece: Piece, model: CoreModel, neurons: int) -> tuple[Grid, ...]:
    """Ways to cut a piece by its number of neurons alone, best first; single neurons come last."""
    c, h, w = piece.shape
    channels = _fractions(c) if h * w == 1 else _halves(c)
    rows, columns = (_halves(h), _powers(w)) if model.halves else (_fractions(h), _fractions(w))
    grids = [
        Grid(piece.shape, (bc, by, bx))
        for bc in channels
        for by in rows
        for bx in columns
        if bc * by * bx <= neurons
    ]

    def rank(grid: Grid) -> tuple[int, int, int]:
        nc, ny, nx = grid.counts
        return grid.tiles, nc, ny * w + nx * h

    return tuple(sorted(grids, key=rank))


def _fractions(size: int) -> list[int]:
    """Sizes of equal parts: ceil(size / k) for every k."""
    return sorted({-(-size // k) for k in range(1, size + 1)})


def _halves(size: int) -> list[int]:
    """``size`` halved again and again, rounded up."""
    return sorted({-(-size // (1 << bit)) for bit in range(size.bit_length() + 1)})


def _powers(size: int) -> list[int]:
    """Powers of two up to ``size``."""
    return [1 << bit for bit in range(size.bit_length())]


def _fits(piece: Piece, model: CoreModel, limits: Mapping[str, int], grid: Grid, grids: Grids) -> bool:
    """Whether the neurons and synapses of the first, middle and last block along each axis fit."""
    some = [{cuts[0], cuts[len(cuts) // 2], cuts[-1]} for cuts in map(grid.cuts, range(3))]
    for c0, c1 in some[0]:
        for y0, y1 in some[1]:
            for x0, x1 in some[2]:
                used = model.incoming(piece, Block((c0, y0, x0), (c1, y1, x1)), grids)
                if model.pool is not None:
                    used[model.pool] = sum(used.values())
                if any(n > limits[r] for r, n in used.items()):
                    return False
    return True


def _overfull(
    mapped: Mapped, model: CoreModel, limits: Mapping[str, int], grids: Grids, readers: Readers
) -> Iterator[tuple[str, tuple[str, int]]]:
    """(piece, (worst resource, its use)) of each piece with a block that exceeds a limit."""
    for piece in mapped.on_chip:
        most = _most(mapped, piece, model, grids, readers)
        worst = max(limits, key=lambda r: most[r] / limits[r])
        if most[worst] > limits[worst]:
            yield piece.name, (worst, most[worst])


def _most(mapped: Mapped, piece: Piece, model: CoreModel, grids: Grids, readers: Readers) -> dict[str, int]:
    """The most that any block of a piece takes of each resource."""
    most = dict.fromkeys(model.resources, 0)
    for block in grids[piece.name].blocks():
        used = model.use(piece, block, grids, readers, mapped.leaving)
        most = {r: max(n, used[r]) for r, n in most.items()}
    return most


def _too_much(piece: Piece, chip: ChipSpec, resource: str, used: int) -> Problem:
    return problem(
        "SNNC-C013",
        f"%{piece.name}" + (f" ({piece.layer})" if piece.layer else ""),
        f"a core of {chip.name} holds not even one of its neurons: {_NAMES[resource]}",
        got=used,
        limit=core_limits(chip)[resource],
        hint=_OUTGOING_HINT if resource in _OUTGOING else "fewer input channels or a smaller input map",
    )


def _too_many_cores(mapped: Mapped, chip: ChipSpec, grids: Grids) -> Iterator[Problem]:
    assert chip.mesh is not None
    used, most = sum(g.tiles for g in grids.values()), chip.mesh.cores
    if used <= most:
        return
    largest = sorted(mapped.on_chip, key=lambda p: -grids[p.name].tiles)[:3]
    yield problem(
        "SNNC-C014",
        f"network on {chip.name}",
        "its blocks are more than the system has cores (most by "
        + ", ".join(f"%{p.name}: {grids[p.name].tiles}" for p in largest)
        + ")",
        got=f"{used} cores",
        limit=f"{most} cores ({chip.mesh.chips} chips)",
        hint="fewer channels or smaller maps in these layers",
    )


def tiles_of(mapped: Mapped, grids: Grids) -> tuple[Tile, ...]:
    """Blocks of all pieces on cores 0, 1, 2, ... in row-major order."""
    blocks = ((p.name, b) for p in mapped.on_chip for b in grids[p.name].blocks())
    return tuple(Tile(piece=name, core=i, low=b.low, high=b.high) for i, (name, b) in enumerate(blocks))
