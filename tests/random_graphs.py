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
    SumPool2d,
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


@st.composite
def chain_graphs(draw: st.DrawFn, rests: bool = True) -> Graph:
    """Two to four features in a row over one to four timesteps, as residual networks have them.

    Spike shortcuts one behind the other, nested and around a pooling; currents that are added up.
    ``rests``: whether a pooling may leave a rest of its map.
    """
    steps = draw(st.integers(1, 4))
    levels = draw(st.sampled_from([1, 2, 4])) if steps == 1 else 1
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        draw(st.sampled_from([(1, 4, 8), (2, 8, 4), *([(2, 5, 3)] if rests else [])])),
        levels,
        steps=steps,
        dyadic=draw(st.booleans()),
    )
    neuron: dict[str, object] = {"max_spikes": levels, "rounding": Rounding.HALF_EVEN}
    if steps > 1:
        neuron = {
            "max_spikes": draw(st.sampled_from([1, 2])),
            "decay": draw(st.sampled_from([0, 0.5, 1.0])),
            "reset": draw(st.sampled_from([Reset.SUBTRACT, Reset.VALUE])),
        }
    _layer(b, "stem", neuron)
    for i in range(draw(st.integers(2, 4))):
        draw(st.sampled_from(FEATURES))(b, f"b{i}", neuron)
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), weight=b.weights(4, b.shape[0])))
    if steps > 1:
        b.add(Neuron(name="last", inputs=("fc",), decay=1.0))
    return b.graph()


def _layer(b: Builder, name: str, neuron: dict[str, object]) -> str:
    """A convolution and the neurons that it drives."""
    conv = b.conv(f"{name}.conv", b.last, 3, (3, 3), padding=(1, 1))
    return b.add(Neuron(name=f"{name}.n", inputs=(conv,), source=name, **neuron))  # type: ignore[arg-type]


def _spike_shortcut(b: Builder, name: str, neuron: dict[str, object]) -> None:
    skip = b.last
    b.add(Add(name=f"{name}.add", inputs=(skip, _layer(b, name, neuron))))


def _nested_shortcuts(b: Builder, name: str, neuron: dict[str, object]) -> None:
    skip = b.last
    _spike_shortcut(b, f"{name}.0", neuron)
    _spike_shortcut(b, f"{name}.1", neuron)
    b.add(Add(name=f"{name}.add", inputs=(skip, b.last)))


def _shortcut_around_pooling(b: Builder, name: str, neuron: dict[str, object]) -> None:
    skip, kernel = b.last, (2, 2) if min(b.shape[1:]) >= 2 else (1, 1)
    layer = _layer(b, name, neuron)
    b.add(SumPool2d(name=f"{name}.pool", inputs=(layer,), kernel=kernel, stride=kernel))
    pooled = b.last
    b.add(SumPool2d(name=f"{name}.skip", inputs=(skip,), kernel=kernel, stride=kernel))
    b.add(Add(name=f"{name}.add", inputs=(b.last, pooled)))


def _membrane_shortcut(b: Builder, name: str, neuron: dict[str, object]) -> None:
    total = b.conv(f"{name}.in", b.last, 3, (1, 1))
    b.add(Neuron(name=f"{name}.s", inputs=(total,), **neuron))  # type: ignore[arg-type]
    inner = b.conv(f"{name}.conv", b.last, 3, (3, 3), padding=(1, 1))
    summed = b.add(Add(name=f"{name}.add", inputs=(total, inner)))
    b.add(Neuron(name=f"{name}.n", inputs=(summed,), **neuron))  # type: ignore[arg-type]


FEATURES = (_layer, _spike_shortcut, _nested_shortcuts, _shortcut_around_pooling, _membrane_shortcut)


@st.composite
def small_map_graphs(draw: st.DrawFn) -> Graph:
    """Layers whose kernels reach further than their map: much of what they cover is padding."""
    levels = draw(st.sampled_from([1, 2, 4]))
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        draw(st.sampled_from([(2, 1, 3), (3, 2, 2), (1, 3, 1), (40, 1, 2)])),
        levels,
        dyadic=draw(st.booleans()),
    )
    for i in range(draw(st.integers(1, 3))):
        dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        least = [max(0, -(-(e - n) // 2)) for e, n in zip(extent, b.shape[1:], strict=True)]
        groups = draw(st.sampled_from([1, b.shape[0]]))
        b.conv(
            f"c{i}",
            b.last,
            groups * draw(st.integers(1, 2)) if groups < 10 else groups,
            kernel,
            stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
            padding=(least[0] + draw(st.integers(0, 1)), least[1] + draw(st.integers(0, 1))),
            dilation=dilation,
            groups=groups,
        )
        b.sfa(f"n{i}", levels, normalized=True)
    b.add(Reshape(name="flat", inputs=(b.last,), shape=(int(np.prod(b.shape)),)))
    b.add(Linear(name="fc", inputs=(b.last,), weight=b.weights(4, b.shape[0])))
    return b.graph()


def random_inputs(graph: Graph, samples: int, seed: int) -> np.ndarray:
    """Spike counts [N, T, *shape] with a share of silence."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, graph.input.levels + 1, (samples, graph.steps, *graph.input.shape))
    return x * (rng.random(x.shape) < 0.6)
