"""The utilisation table of a placed network, counted from its tiles."""

from __future__ import annotations

import math

from snncc.hw.spec import ChipSpec
from snncc.mapping.mapped import Mapped
from snncc.mapping.utilisation import Utilisation, UtilisationRow
from snncc_loihi.check import core_use
from snncc_loihi.partition import NAMES, core_limits
from snncc_loihi.resources import is_dense


def counted(mapped: Mapped, chip: ChipSpec) -> Utilisation:
    """Table of the most that a tile of each layer takes, from the tiles alone."""
    assert chip.mesh is not None
    use = core_use(mapped, chip)
    limits = core_limits(chip)
    rows = []
    for p in mapped.pieces:
        mine = {t: n for t, n in use.items() if t.piece == p.name}
        most = {r: max(n[r] for n in mine.values()) for r in limits}
        block = max((t.shape for t in mine), key=math.prod)
        shared = not all(is_dense(c.address) for c in p.connections)
        rows.append(UtilisationRow(p.name, p.layer, block, shared, len(mine), most))
    cores = len(mapped.tiles)
    chips = len({t.core // chip.mesh.cores_per_chip for t in mapped.tiles})
    available = chip.mesh.chips * chip.mesh.cores_per_chip
    headings = {r: NAMES[r][0] for r in limits}
    return Utilisation(tuple(rows), limits, headings, cores, available, chips)
