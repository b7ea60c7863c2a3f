"""Small networks by hand, lowered to speck2f."""

from __future__ import annotations

from typing import Any

import numpy as np

from cells import renumbered
from snncc.compilation import Lowered, Options
from snncc.hw.spec import ChipSpec
from snncc.ir import Const, Conv2d, Family, Graph, Input, Neuron, Node, Output, Rounding
from snncc.mapping.check import check_mapped
from snncc.mapping.mapped import Mapped, Piece, Tile
from snncc.model import Model
from snncc_speck import SPECK2F

SFA = {"max_spikes": 4, "rounding": Rounding.HALF_EVEN}


def conv(
    name: str,
    source: str,
    out: int,
    inner: int,
    kernel: tuple[int, int] = (3, 3),
    seed: int = 0,
    **geometry: object,
) -> Conv2d:
    weight = np.random.default_rng(seed).normal(size=(out, inner, *kernel)) / np.sqrt(
        inner * kernel[0] * kernel[1]
    )
    return Conv2d(
        name=name, inputs=(source,), source=name, weight=Const(weight.astype(np.float32)), **geometry
    )  # type: ignore[arg-type]


def spiking(name: str, source: str) -> Neuron:
    return Neuron(name=name, inputs=(source,), source=name, **SFA)  # type: ignore[arg-type]


def network(*nodes: Node) -> Graph:
    return Graph("net", Family.FLOAT, (*nodes, Output(name="out", inputs=(nodes[-1].name,))))


def lower(*nodes: Node) -> Lowered:
    graph = network(*nodes)
    x = np.random.default_rng(1).integers(0, 5, (2, 1, *graph.input.shape))
    lowered = SPECK2F.lower(Model(graph), x, Options())
    check_mapped(lowered.mapped, lowered.tensors, SPECK2F.chip, SPECK2F.checker)
    return lowered


def example() -> Lowered:
    """Two layers: n1 on core 2, n2 on core 3."""
    return lower(
        Input(name="x", shape=(2, 6, 4), levels=4),
        conv("c1", "x", 3, 2, padding=(1, 1)),
        spiking("n1", "c1"),
        conv("c2", "n1", 5, 3, padding=(1, 1)),
        spiking("n2", "c2"),
    )


def changed(mapped: Mapped, index: int, **updates: Any) -> Mapped:
    """``mapped`` with other fields of one piece."""
    pieces: list[Piece] = list(mapped.pieces)
    pieces[index] = renumbered(pieces[index], **updates)
    return mapped.model_copy(update={"pieces": tuple(pieces)})


def moved(mapped: Mapped, index: int, **updates: Any) -> Mapped:
    """``mapped`` with other fields of one tile."""
    tiles: list[Tile] = list(mapped.tiles)
    tiles[index] = tiles[index].model_copy(update=updates)
    return mapped.model_copy(update={"tiles": tuple(tiles)})


def resized(chip: ChipSpec, core: int, **limits: int) -> ChipSpec:
    """``chip`` with other resources of one core."""
    kinds = []
    for i, kind in chip.cores.items():
        held = {
            r: bound.model_copy(update={"limit": limits.get(r, bound.limit) if i == core else bound.limit})
            for r, bound in kind.resources.items()
        }
        kinds.append(kind.model_copy(update={"ids": (i,), "resources": held}))
    return chip.model_copy(update={"core_kinds": tuple(kinds)})
