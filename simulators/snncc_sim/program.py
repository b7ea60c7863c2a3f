"""Flat numpy tables of a mapped network, as the compiled kernels read them.

Neurons of all pieces stand one piece after the other, each map laid out [y][x][channel]; the address
of an event is its flat index in the map of its source. Weights stay compressed:
[source channel][kernel y][kernel x, last first][outputs of the group], stored once for all
connections that share them. With kernel columns stored last first, the outputs that an event
updates along a row of stride 1 are contiguous, as are their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.const import Const, Integer, each_channel, narrow
from snncc.ir.node import Reset
from snncc.ir.schedule import Engine
from snncc.ir.sites import offset_of
from snncc.mapping.address import VSC, Shape3, unpacked
from snncc.mapping.mapped import Connection, InputPort, Mapped, Piece, Sites
from snncc.mapping.pool import MaxOver
from snncc.mapping.product import Product
from snncc_sim.cells import CELL, NEVER, OF_PIECE, cells_of
from snncc_sim.products import Products, largest_input, product_tables

# Columns of the per-piece statistics of a sample; behind them, the events of each connection.
STATS = 9
EVENTS, SYNOPS, CONTROL_EVENTS, CONTROL_OPS, SATURATIONS, EARLY, OUTSIDE, OVERFLOW, UNITS = range(STATS)

PIECE = np.dtype(
    [
        (name, np.int64)
        for name in (
            *OF_PIECE,
            "start", "channels", "height", "width", "size",  # its neurons
            "cell", "cells",  # its rows of the table of cells: one, or one a channel
            "first", "end",  # its rows of the connection table
            "first_pool", "end_pool",  # and of the table of maxima
            "fire_at", "limit",  # where the first of its channels fires; limit: largest count, enforced
            "phase", "graded", "streams",
            "low", "high", "count_low",  # the word, or the highest floor; whether a clamp there saturates
            "gated", "step", "rounds", "tap_y", "tap_x", "inspected", "sum_low", "sum_high",
            "stride_y", "stride_x", "origin_y", "origin_x",  # control site of output site (0, 0)
            "control_y", "control_x", "control_operations",  # hit tables; operations of one round
        )
    ]
)  # fmt: skip

PORT = np.dtype([(name, np.int64) for name in ("start", "size", "graded")])

CONNECTION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "index",  # position among the piece's connections as mapped
            "source", "delay",  # the ports come first, then the pieces
            "signed",  # whether the source is a relay, or a current of the host
            "weights", "channels", "width", "height", "per_group", "fan", "kernel_y", "kernel_x",
            "y", "x",  # hit tables
            "end_y", "end_x",  # positions behind the last whole pooling window start here
            "run",  # whether the outputs along a row are contiguous
            "reach",  # largest number of neurons that one event updates
            "sites",  # its row of open sites; -1 where all are
            "static", "opening",  # gates that spikes open: the sites that may be, the biases; -1: none
            "pool_y", "pool_x", "stride_y", "stride_x", "offset_y", "offset_x",  # of their centres
        )
    ]
)  # fmt: skip


POOL = np.dtype(
    [
        (name, np.int64)
        for name in (
            "source", "delay",  # as a connection's
            "signed",
            "channels", "height", "width",  # of the source's map
            "kernel_y", "kernel_x", "stride_y", "stride_x",
            "padding_y", "padding_x", "dilation_y", "dilation_x",
        )
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A mapped network as tables.

    Attributes:
        ports: records of :data:`PORT`; their counts stand one port after the other.
        pieces: records of :data:`PIECE`, in topological order.
        cells: records of :data:`CELL`, piece by piece.
        connections: records of :data:`CONNECTION`, those of a piece ordered by source.
        pools: records of :data:`POOL`, piece by piece.
        pointers, outputs, taps: hit tables of all axes: position p of the table at ``o`` reaches
            ``outputs[i]`` through ``taps[i]`` for i in ``pointers[o + p] .. pointers[o + p + 1]``.
        weights: all distinct weight arrays one after the other, of int8 where that holds them.
        sites: uint8, a byte a site, of every gate one after the other; gates that spikes open have a row
            that is written while the network runs.
        openings: int64, what a site gets as spikes open it, one a channel, of every such gate.
        v_init, bias: int64 per neuron.
        neurons: number of neurons.
        depths: per source, micro-steps for which its spikes are kept (1 + its longest delay).
        sizes: per source, number of addresses.
        wide: whether a window's input sum may leave 32 bits.
        products: tables of the products of spikes.
    """

    mapped: Mapped
    ports: Array
    pieces: Array
    cells: Array
    connections: Array
    pools: Array
    pointers: NDArray[np.int64]
    outputs: NDArray[np.int64]
    taps: NDArray[np.int64]
    weights: Array
    sites: NDArray[np.uint8]
    openings: NDArray[np.int64]
    v_init: NDArray[np.int64]
    bias: NDArray[np.int64]
    neurons: int
    depths: NDArray[np.int64]
    sizes: NDArray[np.int64]
    wide: bool
    products: Products

    @property
    def stats_shape(self) -> tuple[int, int]:
        """Shape of a sample's statistics: the kernels' columns a piece, then one a connection and product."""
        most = max((len(p.connections) + len(p.products) for p in self.mapped.pieces), default=0)
        return len(self.mapped.pieces), STATS + most


def build(mapped: Mapped, tensors: Mapping[str, Array]) -> Program:
    """Tables of ``mapped``, whose arrays stand by digest in ``tensors``.

    Raises:
        InternalError: SNNC-X001 if the mapping contradicts itself.
        CapacityError: SNNC-C009, SNNC-C010 or SNNC-C011 if an engine cannot run it.
    """
    _check(mapped)
    builder = _Builder(mapped, tensors)
    return builder.program()


def _broken(where: str, what: str, got: object = None, limit: object = None) -> Exception:
    return fail("SNNC-X001", where, what, got=got, limit=limit)


def _check(mapped: Mapped) -> None:
    seen = {name: port.shape for name, port in mapped.ports.items()}
    event_driven = mapped.engine is not Engine.CLOCKED
    if event_driven and len(seen) != 1:
        what = f"the {mapped.engine} engine plays the events of one input port"
        raise fail("SNNC-C010", mapped.target, what, got=len(seen), limit=1)
    if event_driven and mapped.steps != 1:
        what = f"the {mapped.engine} engine keeps no state between timesteps"
        raise fail("SNNC-C010", mapped.target, what, got=mapped.steps, limit=1)
    for piece in mapped.pieces:
        if piece.name in seen:
            raise _broken(piece.name, "two pieces bear this name")
        if not 2 <= piece.state_bits <= 32:
            raise fail("SNNC-C009", piece.name, "state bits", got=piece.state_bits, limit="2..32")
        if mapped.engine is Engine.GATED and not piece.is_readout and piece.gate is None:
            raise _broken(piece.name, "has no gate in a gated network")
        for what, got, limit in piece.cell.problems(piece.shape[:1]):
            raise _broken(piece.name, what, got, limit)
        if piece.cell.signed and not (piece.graded and not event_driven):
            raise _broken(piece.name, "only graded neurons of a clocked network are signed")
        if event_driven and piece.cell.reset is not Reset.SUBTRACT:
            what = "event-driven neurons reset by subtraction"
            raise fail("SNNC-C010", piece.name, what, got=piece.cell.reset)
        for c in piece.connections:
            shape = seen.get(c.source)
            if shape is None:
                raise _broken(piece.name, "reads a source that does not stand before it", c.source)
            if c.sites is not None:
                _check_sites(piece, c.sites, mapped.engine)
            if shape != c.address.source_shape or piece.shape != c.address.target_shape:
                raise _broken(piece.name, f"address does not fit its connection from {c.source}")
        for product in piece.products:
            _check_product(piece, product, seen)
        if piece.pools and event_driven:
            raise _broken(piece.name, "only neurons of a clocked network take maxima")
        for pool in piece.pools:
            if pool.source not in seen:
                raise _broken(piece.name, "reads a source that does not stand before it", pool.source)
            if seen[pool.source][0] != piece.shape[0]:
                raise _broken(piece.name, f"takes maxima across the channels of {pool.source}")
        seen[piece.name] = piece.shape


def _check_sites(piece: Piece, sites: Sites, engine: Engine) -> None:
    if engine is Engine.GATED or (sites.centre and (engine is not Engine.CLOCKED or piece.streams)):
        raise _broken(piece.name, f"sites that are closed have no form in the {engine} engine", sites.centre)


def _check_product(piece: Piece, product: Product, seen: Mapping[str, Shape3]) -> None:
    a = product.address
    if product.held not in seen or product.stream not in seen:
        names = f"{product.held}, {product.stream}"
        raise _broken(piece.name, "multiplies a source that does not stand before it", names)
    shapes = (seen[product.held], seen[product.stream], piece.shape)
    if shapes != (a.held_shape, a.stream_shape, a.target_shape):
        raise _broken(piece.name, "address does not fit its product", product.held)


def _per_neuron(piece: Piece, value: Integer, sites: NDArray[np.uint8]) -> NDArray[np.int64]:
    """``value`` in every neuron of a piece that stands at one of ``sites`` [H·W], and 0 elsewhere."""
    return np.outer(sites, each_channel(value, piece.shape[0])).reshape(-1)


class _Builder:
    """Collects the tables piece by piece."""

    def __init__(self, mapped: Mapped, tensors: Mapping[str, Array]) -> None:
        self.mapped = mapped
        self.tensors = tensors
        self.senders = mapped.senders
        self.index = {name: i for i, name in enumerate(self.senders)}
        self.pointers: list[int] = []
        self.outputs: list[int] = []
        self.taps: list[int] = []
        self.stored: dict[tuple[str, int, int], int] = {}
        self.parts: list[Array] = []
        self.words = 0
        self.sites: list[NDArray[np.uint8]] = []
        self.openings: list[NDArray[np.int64]] = []
        self.rows: dict[tuple[str, str], int] = {}

    def program(self) -> Program:
        """The finished tables."""
        mapped = self.mapped
        pieces = np.zeros(len(mapped.pieces), PIECE)
        cells = [cells_of(p, mapped.engine is not Engine.CLOCKED) for p in mapped.pieces]
        rows: list[Array] = []
        maxima: list[Array] = []
        neurons, wide = 0, False
        for i, piece in enumerate(mapped.pieces):
            first = len(rows)
            rows += self._connections(piece)
            pieces[i]["cell"] = sum(len(c) for c in cells[:i])
            self._piece(pieces[i], piece, cells[i], neurons, (first, len(rows)))
            pieces[i]["first_pool"] = len(maxima)
            maxima += [self._pool(pool) for pool in piece.pools]
            pieces[i]["end_pool"] = len(maxima)
            neurons += int(np.prod(piece.shape))
            wide |= self._largest_input(piece) >= 2**31
        connections = np.array(rows, CONNECTION) if rows else np.zeros(0, CONNECTION)
        pools = np.array(maxima, POOL) if maxima else np.zeros(0, POOL)
        depths = np.ones(len(self.index), np.int64)
        products = product_tables(mapped, self.index)
        delays = [(row["source"], row["delay"]) for row in (*connections, *pools)]
        for what in ("held", "stream"):
            delays += [(row[what], row[f"{what}_delay"]) for row in products.rows]
        for source, delay in delays:
            depths[source] = max(depths[source], delay + 1)
        shapes = [sender.shape for sender in self.senders.values()]
        return Program(
            mapped,
            self._ports(),
            pieces,
            np.concatenate([np.zeros(0, CELL), *cells]),
            connections,
            pools,
            np.array(self.pointers, np.int64),
            np.array(self.outputs, np.int64),
            np.array(self.taps, np.int64),
            np.concatenate(self.parts) if self.parts else np.zeros(0, np.int8),
            np.concatenate([np.zeros(0, np.uint8), *self.sites]),
            np.concatenate([np.zeros(0, np.int64), *self.openings]),
            np.concatenate([_per_neuron(p, p.cell.v_init, self._populated(p)) for p in mapped.pieces]),
            np.concatenate([_per_neuron(p, p.cell.bias, self._populated(p)) for p in mapped.pieces]),
            neurons,
            depths,
            np.array([np.prod(s) for s in shapes], np.int64),
            wide,
            products,
        )

    def _ports(self) -> Array:
        ports = np.zeros(len(self.mapped.inputs), PORT)
        ports["size"] = [int(np.prod(p.shape)) for p in self.mapped.inputs]
        ports["start"] = np.cumsum(ports["size"]) - ports["size"]
        ports["graded"] = [p.graded for p in self.mapped.inputs]
        return ports

    def _tensor(self, digest: str, where: str) -> Array:
        if digest not in self.tensors:
            raise _broken(where, "names an array that is not there", digest)
        return self.tensors[digest]

    def _populated(self, piece: Piece) -> NDArray[np.uint8]:
        """Whether neurons stand at each site of a piece, [H·W]."""
        return self._bitmap(piece, piece.sites)

    def _bitmap(self, piece: Piece, digest: str | None) -> NDArray[np.uint8]:
        _, height, width = piece.shape
        if digest is None:
            return np.ones(height * width, np.uint8)
        bits = self._tensor(digest, piece.name)
        if bits.dtype != np.uint8 or bits.shape != ((height * width + 7) // 8,):
            got = f"{bits.dtype}{list(bits.shape)}"
            raise _broken(piece.name, "bitmap of sites", got, f"{height * width} bits")
        return unpacked(bits, piece.shape).astype(np.uint8).ravel()

    def _site_row(self, key: tuple[str, str], content: NDArray[np.uint8]) -> int:
        """Offset of a row of the table of sites, stored once."""
        if key not in self.rows:
            self.rows[key] = sum(len(row) for row in self.sites)
            self.sites.append(content)
        return self.rows[key]

    def _gated(self, row: Any, piece: Piece, c: Connection) -> None:
        """The gate of a connection; no gate has a row -1."""
        row["sites"] = row["static"] = row["opening"] = -1
        if c.sites is None:
            return
        bitmap, a = self._bitmap(piece, c.sites.bitmap), c.address
        row["run"] = 0  # outputs are asked for one after the other
        row["sites"] = static = self._site_row((c.sites.bitmap, ""), bitmap)
        if not c.sites.centre:
            return
        row["static"] = static
        row["sites"] = self._site_row((piece.name, c.sites.centre), np.zeros_like(bitmap))
        row["pool_y"], row["pool_x"] = a.pool
        row["stride_y"], row["stride_x"] = a.stride
        row["offset_y"], row["offset_x"] = offset_of(a.kernel, a.padding, a.dilation)
        if c.sites.bias is not None:
            row["opening"] = sum(len(part) for part in self.openings)
            self.openings.append(each_channel(Const(self._tensor(c.sites.bias, piece.name)), piece.shape[0]))

    def _weight(self, c: Connection, where: str) -> Array:
        weight, a = self._tensor(c.weight, where), c.address
        expected = (a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel)
        if weight.shape != expected or weight.dtype.kind != "i":
            got = f"{weight.dtype}{list(weight.shape)}"
            raise _broken(where, "weight array", got, f"int8{list(expected)}")
        return weight.astype(np.int64) << c.exponent

    def _largest_input(self, piece: Piece) -> int:
        """Bound on what one window collects: every synapse delivers in every micro-step."""
        total = 0
        for c in piece.connections:
            magnitude = np.abs(self._weight(c, piece.name)).sum(axis=(1, 2, 3))
            if c.sites is not None and c.sites.bias is not None:
                total += int(np.abs(self._tensor(c.sites.bias, piece.name)).max(initial=0))
            pooled = c.address.pool[0] * c.address.pool[1]
            total += int(magnitude.max(initial=0)) * pooled * self._carried(c.source)
        for p in piece.products:
            total += largest_input(p, self._carried(p.held), self._carried(p.stream))
        total += sum(self._carried(pool.source) for pool in piece.pools)
        return total * max(self.mapped.micro_steps, piece.phase)

    def _carried(self, name: str) -> int:
        """Largest number that one event of a source carries."""
        source = self.senders[name]
        most = source.levels if isinstance(source, InputPort) else source.cell.max_spikes
        return max(1, most) if source.graded else 1

    def _signed(self, c: Connection | MaxOver) -> bool:
        source = self.senders[c.source]
        return source.signed if isinstance(source, InputPort) else source.cell.signed

    def _store(self, c: Connection, where: str) -> int:
        """Offset of the connection's weights in the common array."""
        key = (c.weight, c.exponent, c.address.groups)
        if key not in self.stored:
            weight, groups = self._weight(c, where), c.address.groups
            out, inner, kh, kw = weight.shape
            split = weight.reshape(groups, out // groups, inner, kh, kw).transpose(0, 2, 3, 4, 1)
            flat = narrow(np.ascontiguousarray(split[:, :, :, ::-1]).reshape(-1))
            self.stored[key] = self.words
            self.parts.append(flat)
            self.words += flat.size
        return self.stored[key]

    def _axis(self, address: VSC, axis: int) -> int:
        """Offset of a new hit table; horizontal taps are counted from the last."""
        offset, last = len(self.pointers), address.kernel[axis] - 1
        for position in range(address.source_shape[1 + axis]):
            self.pointers.append(len(self.outputs))
            for out, tap in address.axis_hits(axis, position):
                self.outputs.append(out)
                self.taps.append(last - tap if axis == 1 else tap)
        self.pointers.append(len(self.outputs))
        return offset

    def _pool(self, pool: MaxOver) -> Array:
        row = np.zeros((), POOL)
        row["source"], row["delay"] = self.index[pool.source], pool.delay
        row["signed"] = self._signed(pool)
        row["channels"], row["height"], row["width"] = self.senders[pool.source].shape
        for name in ("kernel", "stride", "padding", "dilation"):
            row[f"{name}_y"], row[f"{name}_x"] = getattr(pool, name)
        return row

    def _connections(self, piece: Piece) -> list[Array]:
        order = sorted(range(len(piece.connections)), key=lambda i: self.index[piece.connections[i].source])
        return [self._connection(piece, i) for i in order]

    def _connection(self, piece: Piece, index: int) -> Array:
        row = np.zeros((), CONNECTION)
        c = piece.connections[index]
        a = c.address
        row["index"], row["source"], row["delay"] = index, self.index[c.source], c.delay
        row["signed"] = self._signed(c)
        row["weights"] = self._store(c, piece.name)
        row["channels"], row["height"], row["width"] = a.source_shape
        row["per_group"], row["fan"] = a.source_shape[0] // a.groups, a.outputs_per_tap
        row["kernel_y"], row["kernel_x"] = a.kernel
        row["y"], row["x"] = self._axis(a, 0), self._axis(a, 1)
        row["end_y"] = a.pooled_shape[1] * a.pool[0]
        row["end_x"] = a.pooled_shape[2] * a.pool[1]
        row["run"] = a.groups == 1 and a.stride[1] == a.dilation[1] == a.spread[1] == 1
        row["reach"] = int(a.fan_out().max(initial=0))
        self._gated(row, piece, c)
        return row

    def _piece(self, row: Any, piece: Piece, cells: Array, start: int, rows: tuple[int, int]) -> None:
        row["start"], (row["first"], row["end"]) = start, rows
        row["channels"], row["height"], row["width"] = piece.shape
        row["size"], row["cells"] = int(np.prod(piece.shape)), len(cells)
        for name in OF_PIECE:
            row[name] = getattr(piece.cell, name)
        row["phase"], row["graded"], row["streams"] = piece.phase, piece.graded, piece.streams
        row["fire_at"], row["low"] = cells["fire_at"].min(), cells["low"].max()
        row["limit"] = piece.cell.max_spikes if piece.capped else NEVER
        word = 1 << (piece.state_bits - 1)
        row["high"], row["count_low"] = word - 1, 1
        if (cells["low"] > -word).any():
            # The gated schedule is made for sums that no floor cuts: reaching one is an excursion.
            row["count_low"] = self.mapped.engine is Engine.GATED
        if self.mapped.engine is not Engine.EVENT and piece.admitted is not None:
            row["inspected"], (row["sum_low"], row["sum_high"]) = 1, piece.admitted
        if self.mapped.engine is Engine.GATED and piece.gate is not None:
            self._gate(row, piece)

    def _gate(self, row: Any, piece: Piece) -> None:
        gate = piece.gate
        assert gate is not None
        if not piece.connections:
            raise _broken(piece.name, "a gated piece needs a connection, whose kernel its gate extends")
        a = piece.connections[0].address
        # Control events come from the host, which addresses the core's own input map: no pooling.
        site = a.model_copy(update={"source_shape": a.pooled_shape, "pool": (1, 1)})
        row["gated"], row["step"], row["rounds"] = 1, gate.step, gate.rounds
        row["tap_y"], row["tap_x"] = gate.tap[0], a.kernel[1] - 1 - gate.tap[1]
        row["stride_y"], row["stride_x"] = a.stride
        row["origin_y"] = gate.tap[0] * a.dilation[0] - a.padding[0]
        row["origin_x"] = gate.tap[1] * a.dilation[1] - a.padding[1]
        row["control_y"], row["control_x"] = self._axis(site, 0), self._axis(site, 1)
        hits = 1
        for axis in (0, 1):
            at = gate.tap[axis] * a.dilation[axis] - a.padding[axis]
            sites = [at + o * a.stride[axis] for o in range(a.target_shape[1 + axis])]
            if min(sites) < 0 or max(sites) >= site.source_shape[1 + axis]:
                raise fail("SNNC-C011", piece.name, "control events cannot reach every site", got=gate.tap)
            hits *= sum(1 for s in sites for _ in site.axis_hits(axis, s))
        row["control_operations"] = hits * a.target_shape[0]
