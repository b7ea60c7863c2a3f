"""What a network takes of the cores of a chip, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from snncc.hw.spec import ChipSpec, CoreKind
from snncc.mapping.address import Shape3
from snncc.mapping.check import TileUse
from snncc.mapping.mapped import Mapped, Piece


@dataclass(frozen=True)
class Use:
    """How much of a resource of one core is used, and how much of it the core has."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """The fraction that is used."""
        return self.used / self.limit


@dataclass(frozen=True)
class UtilisationRow:
    """What the tiles of one layer take of their cores.

    Attributes:
        piece: the population of neurons.
        largest: (C, H, W) of its largest tile; of its map, where there are no cores.
        cores: that hold it.
        most: use of each resource on the core where it is fullest.
    """

    piece: Piece
    largest: Shape3
    cores: tuple[int, ...]
    most: Mapping[str, Use]


@dataclass(frozen=True)
class Utilisation:
    """A network's use of a chip.

    Attributes:
        rows: one a layer, in order of flow.
        cores: cores that are used; ``cores_available``: that there are, 0 on an ideal chip.
        chips: chips that are used.
    """

    rows: tuple[UtilisationRow, ...]
    cores: int
    cores_available: int
    chips: int


def utilisation_of(mapped: Mapped, chip: ChipSpec, use: TileUse) -> Utilisation:
    """Table of a placed network; ``use``: what each tile takes, as the backend's checker counts it."""
    cores = chip.cores
    rows = tuple(_row(mapped, piece, cores, use) for piece in mapped.on_chip)
    chips = 1 if chip.mesh is None else len({t.core // chip.mesh.cores_per_chip for t in mapped.tiles})
    return Utilisation(rows, len(mapped.tiles), len(cores), chips)


def _row(mapped: Mapped, piece: Piece, cores: Mapping[int, CoreKind], use: TileUse) -> UtilisationRow:
    tiles = [t for t in mapped.tiles if t.piece == piece.name]
    most: dict[str, Use] = {}
    for tile in tiles:
        counted = use.get(tile, {})
        for resource, bound in cores[tile.core].resources.items():
            if resource in counted:
                found = Use(counted[resource], bound.limit)
                most[resource] = max(most.get(resource, found), found, key=lambda u: u.share)
    largest = max((t.shape for t in tiles), key=math.prod, default=piece.shape)
    return UtilisationRow(piece, largest, mapped.cores_of(piece.name), most)
