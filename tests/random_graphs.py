"""Random float graphs as a captured model would be, for property tests.

Maps are asymmetric (C, H and W differ), weights are drawn so that every layer spikes, and a share
of the drives lies on ties and thresholds (dyadic weights).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st

from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Mean,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reset,
    Reshape,
    Rounding,
    Scale,
    SynapseOrder,
)


@dataclass
class Builder:
    """Grows a graph node by node; knows the shape of the last value."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    levels: int
    steps: int = 1
    dyadic: bool = False
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes.append(Input(name="x", shape=self.shape, levels=self.levels))

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        self.shape = (
            Graph("p", Family.FLOAT, (*self.nodes, Output(name="o", inputs=(node.name,))), self.steps)
            .types[node.name]
            .shape
        )
        return node.name

    def weights(self, *shape: int) -> Const:
        fan_in = int(np.prod(shape[1:]))
        w = self.rng.normal(size=shape) * 1.6 / np.sqrt(fan_in)
        return Const((np.rint(w * 4) / 4 if self.dyadic else w).astype(np.float32))

    def vector(self, n: int, low: float, high: float) -> Const:
        v = self.rng.uniform(low, high, n)
        return Const((np.rint(v * 4) / 4 if self.dyadic else v).astype(np.float32))

    def conv(self, name: str, source: str, out: int, kernel: tuple[int, int], **geometry: object) -> str:
        groups = int(geometry.get("groups", 1))  # type: ignore[call-overload]
        weight = self.weights(out, self.shape[0] // groups, *kernel)
        return self.add(
            Conv2d(
                name=name,
                inputs=(source,),
                source=name,
                weight=weight,
                bias=self.vector(out, -0.5, 0.75),
                **geometry,
            )
        )  # type: ignore[arg-type]

    def batchnorm(self, name: str) -> str:
        c = self.shape[0]
        one = Const(np.ones(c, np.float32))
        gamma = one if self.dyadic else self.vector(c, 0.6, 1.6)
        var = one if self.dyadic else self.vector(c, 0.3, 2.0)
        return self.add(
            BatchNorm(
                name=name,
                inputs=(self.last,),
                gamma=gamma,
                beta=self.vector(c, -0.3, 0.5),
                mean=self.vector(c, -0.3, 0.3),
                var=var,
                eps=0.0 if self.dyadic else 1e-3,
            )
        )

    def sfa(self, name: str, levels: int, normalized: bool) -> str:
        return self.add(
            Neuron(
                name=name,
                inputs=(self.last,),
                source=name,
                max_spikes=levels,
                rounding=Rounding.HALF_EVEN,
                output_scale=1 / levels if normalized else 1.0,
            )
        )

    def graph(self) -> Graph:
        kind = Decode.COUNT if isinstance(self.nodes[-1], Neuron) else Decode.VALUE
        return Graph(
            "random",
            Family.FLOAT,
            (*self.nodes, Output(name="out", inputs=(self.last,), decode=kind)),
            self.steps,
        )


@st.composite
def sfa_graphs(draw: st.DrawFn, groups: bool = True) -> Graph:
    """Small SFA networks of one timestep: conv, BN, pooling, residual adds, a linear end."""
    size = draw(st.sampled_from([(1, 6, 9), (2, 8, 6), (3, 7, 5), (2, 5, 8)]))
    d = draw(st.sampled_from([1, 2, 4, 8]))
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        size,
        draw(st.sampled_from([1, d])),
        dyadic=draw(st.booleans()),
    )
    normalized = draw(st.booleans())
    stride = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    kernel = draw(st.sampled_from([(3, 3), (1, 3), (3, 1), (2, 2)]))
    padding = draw(st.sampled_from([(0, 0), (1, 1), (0, 1)])) if min(kernel) > 1 else (0, 0)
    b.conv("c1", b.last, 4, kernel, stride=stride, padding=padding)
    if draw(st.booleans()):
        b.batchnorm("bn1")
    b.sfa("n1", d, normalized)
    skip, shape = b.last, b.shape
    grouped = groups and draw(st.booleans())
    b.conv("c2", skip, 4, (3, 3), padding=(1, 1), groups=2 if grouped else 1)
    b.sfa("n2", d, normalized)
    if draw(st.booleans()):
        assert b.shape == shape
        b.add(Add(name="res", inputs=(skip, b.last)))
    if draw(st.booleans()):
        b.add(Scale(name="scale", inputs=(b.last,), factor=0.5))
    if draw(st.booleans()) and min(b.shape[1:]) >= 2:
        b.add(AvgPool2d(name="pool", inputs=(b.last,), kernel=(2, 2), stride=(2, 2)))
    if draw(st.booleans()) and min(b.shape[1:]) >= 3:
        b.conv("c3", b.last, 3, (2, 2), dilation=(2, 1) if b.shape[1] >= 3 else (1, 1))
        b.sfa("n3", d, normalized)
    if draw(st.booleans()):
        b.add(Mean(name="mean", inputs=(b.last,)))
    else:
        if draw(st.booleans()):
            b.add(Permute(name="channels_last", inputs=(b.last,), axes=(1, 2, 0)))
        b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(
        Linear(
            name="fc",
            inputs=(b.last,),
            source="fc",
            weight=b.weights(5, b.shape[0]),
            bias=b.vector(5, -0.5, 0.5),
        )
    )
    if draw(st.booleans()):
        b.sfa("n4", d, normalized)
    return b.graph()


@st.composite
def speck_graphs(draw: st.DrawFn) -> Graph:
    """SFA networks that speck2f can hold: square kernels, small padding, poolings that leave no rest."""
    size = draw(st.sampled_from([(1, 4, 8), (2, 8, 4), (3, 4, 4)]))
    d = draw(st.sampled_from([1, 2, 4, 8]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b = Builder(rng, size, draw(st.sampled_from([1, d])), dyadic=draw(st.booleans()))
    normalized = draw(st.booleans())
    if draw(st.booleans()):
        b.add(AvgPool2d(name="before", inputs=(b.last,), kernel=(2, 2), stride=(2, 2)))
    b.conv(
        "c1",
        b.last,
        4,
        (3, 3),
        padding=(1, 1),
        groups=draw(st.sampled_from([1, size[0]])) if size[0] == 2 else 1,
    )
    b.sfa("n1", d, normalized)
    skip = b.last
    b.conv("c2", skip, 4, (3, 3), padding=(1, 1), groups=draw(st.sampled_from([1, 2])))
    b.sfa("n2", d, normalized)
    with_what = draw(st.sampled_from(["nothing", "shortcut", "itself"]))
    if with_what != "nothing":
        b.add(Add(name="res", inputs=(skip if with_what == "shortcut" else b.last, b.last)))
    if draw(st.booleans()):
        b.add(AvgPool2d(name="pool", inputs=(b.last,), kernel=(2, 2), stride=(2, 2)))
    if draw(st.booleans()):
        b.conv("c3", b.last, 3, (1, 1), stride=draw(st.sampled_from([(1, 1), (1, 2)])))
        b.sfa("n3", d, normalized)
    if draw(st.booleans()):
        b.add(Permute(name="channels_last", inputs=(b.last,), axes=(1, 2, 0)))
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    end = draw(st.sampled_from(["linear", "spiking", "map"]))
    if end != "map":
        weight = b.weights(5, b.shape[0])
        b.add(Linear(name="fc", inputs=(b.last,), source="fc", weight=weight, bias=b.vector(5, -0.5, 0.5)))
    elif not isinstance(next(n for n in reversed(b.nodes) if not isinstance(n, Permute | Reshape)), Neuron):
        # A result is counted at neurons; sums of several need weights behind them.
        b.add(Linear(name="fc", inputs=(b.last,), source="fc", weight=b.weights(5, b.shape[0])))
    if end == "spiking":
        b.sfa("n4", d, normalized)
    return b.graph()


@st.composite
def stateful_graphs(draw: st.DrawFn) -> Graph:
    """Small networks of IF and LIF neurons over one to three timesteps."""
    size = draw(st.sampled_from([(1, 4, 6), (2, 5, 3)]))
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        size,
        1,
        steps=draw(st.sampled_from([1, 2, 3])),
        dyadic=draw(st.booleans()),
    )
    for i in range(draw(st.integers(1, 2))):
        b.conv(f"c{i}", b.last, 3, (3, 3), padding=(1, 1))
        b.add(
            Neuron(
                name=f"n{i}",
                inputs=(b.last,),
                max_spikes=draw(st.sampled_from([1, 2])),
                decay=draw(st.sampled_from([0.5, 1.0, 0.875])),
                gain=draw(st.sampled_from([1.0, 0.5])),
                reset=draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
                strict=draw(st.booleans()),
                v_min=draw(st.sampled_from([None, -0.5])),
                v_init=draw(st.sampled_from([0, 0.5])),
            )
        )
        if draw(st.booleans()) and i:
            b.add(Add(name=f"res{i}", inputs=("n0", b.last)))
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), weight=b.weights(4, b.shape[0])))
    b.add(Neuron(name="last", inputs=("fc",), decay=1.0))
    return b.graph()


@st.composite
def lif_graphs(draw: st.DrawFn) -> Graph:
    """Binary neurons with reset to zero, leak and synaptic current: what Loihi's own neuron computes."""
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        draw(st.sampled_from([(1, 4, 6), (2, 5, 3)])),
        1,
        steps=draw(st.integers(1, 5)),
        dyadic=draw(st.booleans()),
    )
    layers = draw(st.integers(1, 3))
    for i in range(layers):
        fade = draw(st.sampled_from([None, None, 0.25, 0.75]))
        b.conv(f"c{i}", b.last, 3, (3, 3), padding=(1, 1))
        if fade is not None:
            # A bias in front of a synapse with memory has no integer form.
            b.nodes[-1] = replace(b.nodes[-1], bias=None)  # type: ignore[call-arg]
        b.add(
            Neuron(
                name=f"n{i}",
                inputs=(b.last,),
                decay=draw(st.sampled_from([0, 0.5, 1.0, 0.875])),
                synapse_decay=fade,
                synapse_order=draw(st.sampled_from(list(SynapseOrder))),
                reset=Reset.VALUE,
                strict=draw(st.booleans()),
            )
        )
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), weight=b.weights(4, b.shape[0])))
    if draw(st.booleans()):
        b.add(Neuron(name="last", inputs=("fc",), decay=0.75, reset=Reset.VALUE))
        return b.graph()
    graph = b.graph()
    return graph.rewrite(lambda n: replace(n, over_time=OverTime.SUM) if isinstance(n, Output) else None)


def random_inputs(graph: Graph, samples: int, seed: int) -> np.ndarray:
    """Spike counts [N, T, *shape] with a share of silence."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, graph.input.levels + 1, (samples, graph.steps, *graph.input.shape))
    return x * (rng.random(x.shape) < 0.6)
