"""Random spike networks, built twice in parallel: as a spike graph and as a mapped network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cells import split
from snncc.ir.const import Const, values_of
from snncc.ir.graph import Graph
from snncc.ir.nodes import (
    Add,
    Conv2d,
    Decode,
    Delay,
    Encode,
    Input,
    Linear,
    Node,
    Output,
    OverTime,
    Release,
    Reshape,
    SumPool2d,
    WindowNeuron,
    window_count,
)
from snncc.ir.schedule import Engine, Schedule
from snncc.ir.types import Family
from snncc.mapping.address import VSC
from snncc.mapping.mapped import INPUT, Connection, Gate, InputPort, Mapped, OutputPort, Piece


@dataclass(frozen=True)
class Way:
    """One connection to make: a convolution, or a linear layer if ``outputs`` stands alone."""

    source: str = INPUT
    kernel: tuple[int, int] | None = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: tuple[int, int] = (1, 1)
    delay: int = 0
    weight: Any = None


@dataclass
class Net:
    """A network under construction."""

    shape: tuple[int, int, int]
    levels: int = 3
    steps: int = 1
    period: int = 4
    engine: Engine = Engine.CLOCKED
    seed: int = 0
    weight_range: tuple[int, int] = (-9, 11)
    nodes: list[Node] = field(default_factory=list, repr=False)
    pieces: list[Piece] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.nodes = [
            Input(name="x", shape=self.shape, levels=self.levels),
            Encode(name="enc", inputs=("x",)),
        ]
        self.shapes = {INPUT: self.shape}

    def _value(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def output_size(self, way: Way) -> tuple[int, int]:
        _, h, w = self.shapes[way.source]
        h, w = h // way.pool[0], w // way.pool[1]
        kernel = way.kernel or (h, w)
        pairs = zip((h, w), kernel, way.stride, way.padding, way.dilation, strict=True)
        sizes = tuple(window_count(*p) for p in pairs)
        return sizes[0], sizes[1]

    def layer(self, name: str, channels: int, *ways: Way, **neuron: Any) -> None:
        """A population of neurons that reads through ``ways``."""
        currents, connections = [], []
        size = self.output_size(ways[0])
        for i, way in enumerate(ways):
            current, connection = self._way(f"{name}_{i}", channels, size, way)
            currents.append(current)
            connections.append(connection)
        drive = currents[0]
        if len(currents) > 1:
            drive = self._value(Add(name=f"{name}_add", inputs=tuple(currents)))
        cell, fields = split({"threshold": 20, "max_spikes": 0, **neuron})
        release = schedule(self.engine).release
        timing = {k: v for k, v in fields.items() if k not in ("state_bits", "gate")}
        self._value(WindowNeuron(name=name, inputs=(drive,), release=release, cell=cell, **timing))
        self.tensors |= {c.digest: c.array for c in cell.constants()}
        fields = {"capped": True, "cell": cell, **fields}
        shape = (channels, *size)
        self.shapes[name] = shape
        self.pieces.append(
            Piece(name=name, layer=name, shape=shape, connections=tuple(connections), **fields)
        )

    def _way(self, name: str, channels: int, size: tuple[int, int], way: Way) -> tuple[str, Connection]:
        source_shape = self.shapes[way.source]
        c, h, w = source_shape
        value = "enc" if way.source == INPUT else way.source
        linear_source = len(self._node_shape(way.source)) == 1
        if way.delay:
            shape = self._node_shape(way.source)
            value = self._value(Delay(name=f"{name}_delay", inputs=(value,), steps=way.delay, shape=shape))
        if way.pool != (1, 1):
            value = self._value(
                SumPool2d(name=f"{name}_pool", inputs=(value,), kernel=way.pool, stride=way.pool)
            )
        h, w = h // way.pool[0], w // way.pool[1]
        kernel = way.kernel or (h, w)
        weight = way.weight
        if weight is None:
            low, high = self.weight_range
            weight = self.rng.integers(low, high, (channels, c // way.groups, *kernel))
        weight = np.asarray(weight, np.int8)
        address = VSC(
            source_shape=source_shape,
            target_shape=(channels, *size),
            kernel=kernel,
            stride=way.stride,
            padding=way.padding,
            dilation=way.dilation,
            groups=way.groups,
            pool=way.pool,
        )
        if way.kernel is None:
            if not linear_source:
                value = self._value(Reshape(name=f"{name}_flat", inputs=(value,), shape=(c * h * w,)))
            node: Node = Linear(name=name, inputs=(value,), weight=Const(weight.reshape(channels, -1)))
        else:
            node = Conv2d(
                name=name,
                inputs=(value,),
                weight=Const(weight),
                stride=way.stride,
                padding=way.padding,
                dilation=way.dilation,
                groups=way.groups,
            )
        digest = Const(weight).digest
        self.tensors[digest] = weight
        connection = Connection(source=way.source, weight=digest, address=address, delay=way.delay)
        return self._value(node), connection

    def _node_shape(self, source: str) -> tuple[int, ...]:
        if source == INPUT:
            return self.shape
        made = next(n for n in self.nodes if n.name == source)
        drive = next(n for n in self.nodes if n.name == made.inputs[0])
        first = drive
        while isinstance(first, Add):
            first = next(n for n in self.nodes if n.name == drive.inputs[0])
        return self.shapes[source][:1] if isinstance(first, Linear) else self.shapes[source]

    def _decode(self) -> tuple[Decode, OverTime]:
        readout = self.pieces[-1].is_readout
        over = OverTime.SUM if self.steps > 1 and not readout else OverTime.NONE
        return (Decode.MEMBRANE if readout else Decode.COUNT), over

    def graph(self) -> Graph:
        """The spike graph."""
        decode, over = self._decode()
        out = Output(name="out", inputs=(self.pieces[-1].name,), decode=decode, over_time=over, scale=0.5)
        return Graph("net", Family.SPIKE, (*self.nodes, out), self.steps, self.period)

    def mapped(self) -> Mapped:
        """The mapped network."""
        decode, over = self._decode()
        return Mapped(
            target="sim",
            schedule=schedule(self.engine),
            steps=self.steps,
            micro_steps=self.period,
            inputs=(InputPort(shape=self.shape, levels=self.levels),),
            pieces=tuple(self.pieces),
            output=OutputPort(
                piece=self.pieces[-1].name,
                decode=decode,
                over_time=over,
                scale=0.5,
                shape=self.graph().types["out"].shape,
            ),
        )

    def data(self, samples: int = 3, density: float = 0.5) -> Any:
        """Random input counts [N, T, C, H, W]."""
        shape = (samples, self.steps, *self.shape)
        return self.rng.integers(0, self.levels + 1, shape) * (self.rng.random(shape) < density)


def schedule(engine: Engine) -> Schedule:
    """Windows, or what an event-driven network does by itself."""
    exact = engine is not Engine.EVENT
    return Schedule(
        name="exact" if exact else "free",
        promises=exact,
        claim="",
        engine=engine,
        release=Release.WINDOW if exact else Release.FREE,
    )


def conv_chain(engine: Engine, seed: int = 0, **net: Any) -> Net:
    """Two convolutions (the second behind a pooling), a hidden linear layer and a readout."""
    made = Net((2, 7, 6), seed=seed, engine=engine, **net)
    made.layer("a", 4, Way(padding=(1, 0)), threshold=23, max_spikes=3, phase=4, precharge=11)
    made.layer("b", 5, Way("a", kernel=(2, 3), pool=(2, 1)), threshold=17, max_spikes=3, phase=8, precharge=8)
    made.layer("c", 6, Way("b", kernel=None), threshold=19, max_spikes=3, phase=12, precharge=9)
    made.layer("r", 3, Way("c", kernel=None), threshold=1, max_spikes=0, phase=16)
    return made


def gate_pieces(mapped: Mapped, low: int, high: int) -> Mapped:
    """``mapped`` with a gate for sums of low..high on every spiking piece (tap: kernel middle)."""
    pieces = []
    for piece in mapped.pieces:
        if piece.is_readout:
            pieces.append(piece)
            continue
        a = piece.connections[0].address
        step = min(127, int(values_of(piece.cell.threshold).min()))
        rounds = -(-(high + 1) // step)
        tap = tuple(a.padding) if max(a.padding) else (0, 0)
        gate = Gate(
            feature=a.source_shape[0],
            tap=(tap[0], tap[1]),
            step=step,
            rounds=rounds,
        )
        pieces.append(piece.model_copy(update={"gate": gate, "admitted": (low, high)}))
    return mapped.model_copy(update={"pieces": tuple(pieces), "schedule": schedule(Engine.GATED)})


def each(draw: st.DrawFn, low: int, high: int, channels: int) -> Any:
    """A number from ``low`` to ``high`` for a layer, or one for each of its channels."""
    if draw(st.booleans()):
        return draw(st.integers(low, high))
    seed = draw(st.integers(0, 10**6))
    return np.random.default_rng(seed).integers(low, high + 1, channels).astype(np.int32)


def recolour(piece: Piece, **update: Any) -> Piece:
    """A copy of a piece with other fields."""
    return piece.model_copy(update=update)


__all__ = ["Net", "Way", "conv_chain", "each", "gate_pieces", "recolour", "replace"]
