"""Independent checker of tiles: every neuron on one core of the mesh, every core with one tile.

Shares no code with what made them; a violation found here is our bug, not the user's. What a core
holds is the backend's to check, which knows how it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from snncc.errors import Problem, problem
from snncc.hw.spec import ChipSpec
from snncc.mapping.mapped import Mapped, Piece, Tile


def tile_violations(mapped: Mapped, chip: ChipSpec) -> Iterator[Problem]:
    """Every broken rule (SNNC-X001); nothing for a good mapping, nor for a chip without a mesh."""
    if chip.mesh is None:
        if mapped.tiles:
            yield _bad(mapped.target, "has tiles, but the chip has no mesh of cores", got=len(mapped.tiles))
        return
    shapes = {p.name: p.shape for p in mapped.pieces}
    of_piece: dict[str, list[Tile]] = {name: [] for name in shapes}
    for tile in mapped.tiles:
        if tile.piece not in of_piece:
            yield _bad(tile.piece, "a tile names no piece")
        else:
            of_piece[tile.piece].append(tile)
    for piece in mapped.pieces:
        if piece.core is not None:
            yield _bad(piece.name, "stands on a core of its own beside its tiles", got=piece.core)
        yield from _cover_problems(piece, of_piece[piece.name])
    yield from _core_problems(mapped, chip.mesh.chips * chip.mesh.cores_per_chip)


def _bad(where: str, what: str, got: object = None, limit: object = None) -> Problem:
    return problem("SNNC-X001", f"mapping of {where}", what, got=got, limit=limit)


def _cover_problems(piece: Piece, tiles: list[Tile]) -> Iterator[Problem]:
    holders = np.zeros(piece.shape, np.int32)
    for tile in tiles:
        spans = list(zip(tile.low, tile.high, piece.shape, strict=True))
        if not all(0 <= low < high <= size for low, high, size in spans):
            yield _bad(
                piece.name, "a tile is empty or leaves its map", got=(tile.low, tile.high), limit=piece.shape
            )
            continue
        holders[tuple(slice(low, high) for low, high, _ in spans)] += 1
    if (holders == 0).any():
        yield _bad(piece.name, "neurons stand on no core", got=int((holders == 0).sum()), limit=0)
    if (holders > 1).any():
        yield _bad(piece.name, "neurons stand on several cores", got=int((holders > 1).sum()), limit=0)


def _core_problems(mapped: Mapped, cores: int) -> Iterator[Problem]:
    used = Counter(t.core for t in mapped.tiles)
    for core in sorted(c for c, times in used.items() if times > 1):
        yield _bad(mapped.target, f"several tiles stand on core {core}", got=used[core], limit=1)
    for core in sorted(c for c in used if not 0 <= c < cores):
        yield _bad(
            mapped.target, "a tile stands on a core that the system has not", got=core, limit=cores - 1
        )
