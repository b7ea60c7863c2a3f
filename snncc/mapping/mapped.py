"""The mapped network: pieces, their tiles on cores, connections, the schedule. Stored as ``mapped.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from snncc.ir.cell import Cell
from snncc.ir.nodes import Decode, OverTime
from snncc.ir.schedule import Engine, Schedule
from snncc.mapping.address import VSC, Pair, Shape3, unpacked
from snncc.mapping.pool import MaxOver
from snncc.mapping.product import Product

INPUT = "input"  # the name of a network's port where it has one alone


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Sites(_Model):
    """Output sites that a connection updates: with its address function, a spike sparse convolution.

    Attributes:
        bitmap: digest of uint8 [⌈H·W/8⌉], a bit a site of the piece, 1 where it may be open.
        centre: empty, or the name of the gate whose sites are open only where a spike stood at their
            centre (docs/semantics.md#spike-sparse-convolution); connections of a piece that share it open
            them together.
        bias: digest of int32 [O], what the neurons of a site get once a window, as its centre opens it.
    """

    bitmap: str
    centre: str = ""
    bias: str | None = None


class Connection(_Model):
    """Synapses from one source into a piece.

    Attributes:
        source: name of a piece or an input port.
        weight: digest of an array [O, C/groups, kh, kw] of int8; of int16 or int32 for wider weights.
        exponent: what stands in it is times 2^exponent.
        address: which of them an event uses.
        delay: micro-steps that the spikes wait (clocked engine; 0 elsewhere).
        sites: output sites that they update; None for all.
    """

    source: str
    weight: str
    address: VSC
    delay: int = 0
    exponent: int = 0
    sites: Sites | None = None


class Gate(_Model):
    """Release of a layer by host control events (docs/semantics.md#gated-schedule).

    The membrane starts ``lift`` lower, so that it cannot fire while it integrates; then
    ``rounds`` control events per output site, each adding ``step`` ≤ θ through one tap of one
    extra input feature, lift it back: ``lift = rounds·step``.

    Attributes:
        feature: index of the extra input feature.
        tap: kernel position (y, x) that holds ``step`` for every output feature.
    """

    feature: int
    tap: Pair
    step: int
    rounds: int

    @property
    def lift(self) -> int:
        """What all control events of a neuron add."""
        return self.step * self.rounds


class Piece(_Model):
    """A population of neurons of one kind, and when they may fire; its tiles say which cores hold it.

    Attributes:
        name: the neuron node's name in the spike graph.
        layer: path of the module it came from.
        connections: what it hears through weights.
        products: what it hears of pairs of events.
        pools: what it hears of the largest among several addresses.
        cell: what every neuron computes; in JSON its constants are digests.
        capped: whether the chip holds a neuron back after ``cell.max_spikes``.
        graded: fires once a window, at its first micro-step, one event that carries the count.
        streams: integrates and fires in every micro-step of its window (the clocked free schedule).
        phase: first micro-step of its first window.
        state_bits: width of the membrane in bits, two's complement.
        admitted: range of input sums for which the program is made: of one micro-step (clocked
            engine), or over any order of events; a sample that leaves it is an excursion. None where
            nothing depends on it.
        sites: digest of uint8 [⌈H·W/8⌉], a bit a site, 0 where there are no neurons; None: everywhere.
        on_host: computed by the host between micro-steps, from the same numbers
            (docs/semantics.md#host-and-chip).
    """

    name: str
    layer: str
    shape: Shape3
    connections: tuple[Connection, ...]
    products: tuple[Product, ...] = ()
    pools: tuple[MaxOver, ...] = ()
    cell: Cell
    capped: bool
    graded: bool = False
    streams: bool = False
    phase: int = 0
    state_bits: int = 32
    admitted: tuple[int, int] | None = None
    gate: Gate | None = None
    sites: str | None = None
    on_host: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """What it reads, in order, each once."""
        heard = [*(c.source for c in self.connections), *(pool.source for pool in self.pools)]
        return tuple(dict.fromkeys((*heard, *(s for p in self.products for s in (p.held, p.stream)))))

    @property
    def is_readout(self) -> bool:
        """Whether it delivers its membrane potential in place of spikes."""
        return self.cell.is_readout


class Tile(_Model):
    """A block of a piece's neurons that one core holds: all of them, where layers are not split.

    Attributes:
        piece: its name.
        core: number of the core; on a mesh counted over all chips: chip = core // cores of a chip.
        low, high: first (channel, y, x), and the one behind the last along each axis.
    """

    piece: str
    core: int
    low: Shape3
    high: Shape3

    @property
    def shape(self) -> Shape3:
        """(C, H, W) of the block."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1], self.high[2] - self.low[2]


class InputPort(_Model):
    """What arrives: spike counts 0..levels of a map; (C,) features are (C, 1, 1).

    Attributes:
        name: by which connections refer to its events; no piece bears it.
        graded: a count arrives as one event that carries it, at the window's first micro-step, not
            as single events in its first micro-steps.
        signed: counts from -levels: a current that the host adds to a stream; graded only.
        phase: micro-step at which its first window begins; 0 but for segments of a network.
    """

    name: str = INPUT
    shape: Shape3
    levels: int
    graded: bool = False
    signed: bool = False
    phase: int = 0

    @property
    def least(self) -> int:
        """Smallest count."""
        return -self.levels if self.signed else 0


class OutputPort(_Model):
    """Where and how the result is read.

    Attributes:
        shape: of the result of one timestep.
        order: digest of the flat index, into the piece's map [C, H, W], of each of its elements;
            None if they stand in that order.
    """

    piece: str
    decode: Decode
    over_time: OverTime
    scale: float
    shape: tuple[int, ...]
    order: str | None = None


class Part(_Model):
    """Pieces that the chip, or the host, computes before anything that they wait for comes from the other.

    ``name``: ``chip.0``, ``host.0`` and so on, each counted by itself.
    """

    name: str
    on_host: bool
    pieces: tuple[str, ...]


class Mapped(_Model):
    """A network laid out for a target; pieces stand in topological order.

    Attributes:
        version: of the format; 1 had one input port without a name.
        inputs: ports, at least one.
        micro_steps: period of a timestep in micro-steps.
        parts: of a network that a host takes part in, in the order of their data; none else.
        tiles: where the pieces' neurons stand, every neuron in one tile; none on a chip without cores.
        order: order in which input events are played.
    """

    version: Literal[2] = 2
    target: str
    schedule: Schedule
    steps: int
    micro_steps: int
    inputs: tuple[InputPort, ...]
    pieces: tuple[Piece, ...]
    output: OutputPort
    tiles: tuple[Tile, ...] = ()
    parts: tuple[Part, ...] = ()
    order: Literal["micro-step, y, x, channel"] = "micro-step, y, x, channel"

    @property
    def engine(self) -> Engine:
        """How the pieces run."""
        return self.schedule.engine

    @property
    def on_chip(self) -> tuple[Piece, ...]:
        """Pieces that the chip computes."""
        return tuple(p for p in self.pieces if not p.on_host)

    @property
    def on_host(self) -> tuple[Piece, ...]:
        """Pieces that the host computes while the chip runs."""
        return tuple(p for p in self.pieces if p.on_host)

    @property
    def leaving(self) -> frozenset[str]:
        """Pieces of the chip whose events leave it: an island of the host reads them, or the result does."""
        read = {source for piece in self.on_host for source in piece.sources}
        return frozenset(p.name for p in self.on_chip if p.name in read or p.name == self.output.piece)

    @property
    def ports(self) -> dict[str, InputPort]:
        """Input ports by name, in order."""
        return {port.name: port for port in self.inputs}

    @property
    def senders(self) -> dict[str, InputPort | Piece]:
        """Whatever sends events, by name: ports, then pieces, in order."""
        found: dict[str, InputPort | Piece] = {port.name: port for port in self.inputs}
        return found | {piece.name: piece for piece in self.pieces}

    @property
    def graded(self) -> bool:
        """Whether any event carries a number."""
        return any(sender.graded for sender in self.senders.values())

    def cores_of(self, piece: str) -> tuple[int, ...]:
        """Numbers of the cores that hold a piece, in order; none without cores."""
        return tuple(sorted(t.core for t in self.tiles if t.piece == piece))


def neurons_of(piece: Piece, tensors: Mapping[str, NDArray[Any]]) -> int:
    """Neurons of a piece: those of its open sites, where ``tensors`` hold its bitmap."""
    channels, height, width = piece.shape
    if piece.sites is None or piece.sites not in tensors:
        return channels * height * width
    return channels * int(unpacked(tensors[piece.sites], piece.shape).sum())
