"""Flat numpy tables of a network's products of spikes, as :mod:`snncc_sim.kernels_products` reads them.

Held values stand in memory in the order of their map, [C, H, W] row by row, as addresses count
them; events come by their place in the kernels' maps, [y][x][channel]. Tables of one number an
address lead from the one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.mapping.address import Shape3
from snncc.mapping.mapped import Mapped
from snncc.mapping.product import Product, ProductAddress

PRODUCT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "piece",  # whose accumulators it adds to
            "index",  # position among the piece's connections and products
            "held", "stream", "held_delay", "stream_delay",  # source 0 is the input, i + 1 is piece i
            "signed",  # whether the stream is a relay
            "memory", "size",  # where the held values stand, and how many
            "order",  # of the held source: from an event's place to the map's order
            "places",  # of the piece: from the map's order to a neuron's place
            "starts",  # per event place of the stream: first held value, first neuron; -1: it meets none
            "turns", "fan",  # the loops that an event walks along: distances, and how many neurons
        )
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Products:
    """The products of a network as tables.

    Attributes:
        rows: records of :data:`PRODUCT`, in the order of their pieces.
        order: places in a map's order, by an event's place, source after source.
        places: places of neurons, by the map's order, piece after piece.
        held_starts, target_starts: by an event's place, product after product.
        held_turns, target_turns: distances of each neuron that an event reaches, product after product.
        memory: number of held values of all products.
    """

    rows: Array
    order: NDArray[np.int64]
    places: NDArray[np.int64]
    held_starts: NDArray[np.int64]
    target_starts: NDArray[np.int64]
    held_turns: NDArray[np.int64]
    target_turns: NDArray[np.int64]
    memory: int

    @property
    def tables(self) -> tuple[Array, ...]:
        """Everything but the rows, as the kernels take it."""
        return (
            self.order,
            self.places,
            self.held_starts,
            self.target_starts,
            self.held_turns,
            self.target_turns,
        )


def product_tables(mapped: Mapped, index: Mapping[str, int]) -> Products:
    """Tables of all products; ``index`` counts the sources, the input first."""
    made = _Tables()
    for number, piece in enumerate(mapped.pieces):
        for position, product in enumerate(piece.products, len(piece.connections)):
            made.add((number, position), product, index, _is_relay(mapped, product.stream))
    return made.finished()


def _is_relay(mapped: Mapped, name: str) -> bool:
    """Whether a source's events each carry a whole sum."""
    return any(p.name == name and p.cell.signed for p in mapped.pieces)


def largest_input(product: Product, held: int, carried: int) -> int:
    """Bound on what one micro-step delivers to a neuron: every pair of events, as large as can be."""
    return product.address.largest_sum * held * carried


def in_places(shape: Shape3) -> NDArray[np.int64]:
    """The place [y][x][channel] of each element of a map [C, H, W], in row-major order."""
    channels, height, width = shape
    return np.arange(channels * height * width).reshape(height, width, channels).transpose(2, 0, 1).ravel()


class _Tables:
    """Collects tables product by product."""

    def __init__(self) -> None:
        self.rows: list[Array] = []
        names = ("order", "places", "held_starts", "target_starts", "held_turns", "target_turns")
        self.parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
        self.memory = 0

    def add(self, place: tuple[int, int], product: Product, index: Mapping[str, int], relayed: bool) -> None:
        row = np.zeros((), PRODUCT)
        a = product.address
        row["piece"], row["index"] = place
        row["held"], row["stream"] = index[product.held], index[product.stream]
        row["held_delay"], row["stream_delay"] = product.held_delay, product.stream_delay
        row["memory"], row["size"] = self.memory, int(np.prod(a.held_shape))
        row["fan"], row["signed"] = a.fan_out, relayed
        row["order"] = self._put("order", np.argsort(in_places(a.held_shape)))
        row["places"] = self._put("places", in_places(a.target_shape))
        held_starts, target_starts = _starts(a)
        row["starts"] = self._put("held_starts", held_starts)
        self._put("target_starts", target_starts)
        row["turns"] = self._put("held_turns", _along(a, walked=False, of="held") - a.held.offset)
        self._put("target_turns", _along(a, walked=False, of="target") - a.target.offset)
        self.memory += int(row["size"])
        self.rows.append(row)

    def _put(self, table: str, values: NDArray[np.int64]) -> int:
        """Offset of the values in their table."""
        offset = sum(part.size for part in self.parts[table])
        self.parts[table].append(np.asarray(values, np.int64))
        return offset

    def finished(self) -> Products:
        joined = {k: np.concatenate([np.zeros(0, np.int64), *v]) for k, v in self.parts.items()}
        rows = np.array(self.rows, PRODUCT) if self.rows else np.zeros(0, PRODUCT)
        return Products(rows=rows, memory=self.memory, **joined)


def _starts(a: ProductAddress) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First held value and first neuron of each place of the stream's map; -1 where an event meets none."""
    size = int(np.prod(a.stream_shape))
    held, target = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
    at = in_places(a.stream_shape)[_along(a, walked=True, of="stream")]
    held[at], target[at] = _along(a, walked=True, of="held"), _along(a, walked=True, of="target")
    return held, target


def _along(a: ProductAddress, walked: bool, of: str) -> NDArray[np.int64]:
    """Indices of ``of`` along the loops that the stream walks along, or along the others."""
    chosen = [i for i, s in enumerate(a.stream.strides) if (s > 0) == walked]
    at = getattr(a, of)
    part = at.model_copy(update={"strides": tuple(at.strides[i] for i in chosen)})
    found: NDArray[np.int64] = part.indices(tuple(a.sizes[i] for i in chosen))
    return found.ravel()
