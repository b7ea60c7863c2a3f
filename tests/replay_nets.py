"""Fixed networks: what their artifacts compute is recorded in tests/golden/replay.json. And the examples'.

Nothing here may change: another draw is another network, for which nothing is recorded. Each is drawn
from its number, from ``Generator.random`` alone, so that the stream does not depend on numpy's distributions.

Maps are asymmetric (C, H and W differ). Four of five networks have dyadic weights, factors and units,
with which float32 sums are exact in every order, whatever the processor; one of five has not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import snncc
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
    ValueType,
)
from snncc.model import Model

CALIBRATION, SAMPLES = 4, 4
_SEED = 20261127
_EXAMPLES = Path(__file__).parents[1] / "examples"

Array = NDArray[Any]


@dataclass
class Net:
    """A graph under construction; ``grain`` is the unit of its weights, 0 for any real number."""

    rng: np.random.Generator
    steps: int = 1
    grain: float = 0
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, ValueType] = field(default_factory=dict)

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.types[self.last].shape

    def choose(self, *options: Any) -> Any:
        return options[int(self.rng.random() * len(options))]

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def put(self, node: Node) -> str:
        self.types[node.name] = node.infer(tuple(self.types[i] for i in node.inputs))
        self.nodes.append(node)
        return node.name

    def exact(self, factor: int) -> bool:
        """Whether a division by ``factor`` keeps float32 sums exact, or need not."""
        return not self.grain or factor.bit_count() == 1

    def numbers(self, *shape: int, low: float, high: float) -> Const:
        drawn = low + (high - low) * self.rng.random(shape)
        return Const((np.rint(drawn / self.grain) * self.grain if self.grain else drawn).astype(np.float32))

    def weights(self, *shape: int) -> Const:
        """Of variance 2.56 over the fan-in, so that every layer spikes."""
        reach = 1.6 * math.sqrt(3 / math.prod(shape[1:]))
        return self.numbers(*shape, low=-reach, high=reach)

    def bias(self, size: int, wanted: bool) -> Const | None:
        return self.numbers(size, low=-0.5, high=0.75) if wanted else None

    def conv(
        self, name: str, out: int, kernel: tuple[int, int], source: str, bias: bool = True, **geometry: Any
    ) -> str:
        inner = self.types[source].shape[0] // geometry.get("groups", 1)
        weight, own = self.weights(out, inner, *kernel), self.bias(out, bias)
        return self.put(Conv2d(name=name, inputs=(source,), source=name, weight=weight, bias=own, **geometry))

    def linear(self, name: str, out: int, source: str, bias: bool = True) -> str:
        weight, own = self.weights(out, self.types[source].shape[0]), self.bias(out, bias)
        return self.put(Linear(name=name, inputs=(source,), source=name, weight=weight, bias=own))

    def same(self, name: str, source: str, bias: bool = True) -> str:
        """Weights that keep the shape: a convolution of a map, grouped or not; else a linear layer."""
        shape = self.types[source].shape
        if len(shape) == 1:
            return self.linear(name, shape[0], source, bias)
        kernel = self.choose((3, 3), (3, 3), (1, 3), (3, 1), (1, 1))
        padding, groups = (kernel[0] // 2, kernel[1] // 2), self.choose(1, 1, shape[0], math.gcd(2, shape[0]))
        return self.conv(name, shape[0], kernel, source, bias, padding=padding, groups=groups)

    def batch_norm(self, name: str) -> str:
        size = self.shape[0]
        var = self.numbers(size, low=0.3, high=2.0)
        if self.grain:
            var = Const(np.array([self.choose(0.25, 1, 4) for _ in range(size)], np.float32))
        return self.put(
            BatchNorm(
                name=name,
                inputs=(self.last,),
                gamma=self.numbers(size, low=0.6, high=1.6),
                beta=self.numbers(size, low=-0.3, high=0.5),
                mean=self.numbers(size, low=-0.3, high=0.3),
                var=var,
                eps=0.0 if self.grain else 1e-3,
            )
        )

    def neuron(self, name: str, fields: dict[str, Any]) -> str:
        return self.put(Neuron(name=name, inputs=(self.last,), source=name, **fields))

    def add(self, name: str, *inputs: str) -> str:
        return self.put(Add(name=name, inputs=inputs))

    def pool(self, name: str, kernel: tuple[int, int]) -> None:
        if self.exact(math.prod(kernel)) and kernel[0] <= self.shape[1] and kernel[1] <= self.shape[2]:
            self.put(AvgPool2d(name=name, inputs=(self.last,), kernel=kernel, stride=kernel))


Kind = Callable[[Net], dict[str, Any]]  # draws the numbers of one layer's neurons


# ---- neurons ----------------------------------------------------------------------------------------


def _sfa(net: Net, levels: int) -> Kind:
    fields = {
        "max_spikes": levels,
        "rounding": net.choose(Rounding.HALF_EVEN, Rounding.HALF_EVEN, Rounding.HALF_UP),
        "output_scale": 1 / levels if net.exact(levels) and net.chance() else 1.0,
        "threshold": net.choose(1.0, 1.0, 0.5),
    }
    return lambda _: fields


def _stateful(net: Net) -> dict[str, Any]:
    """Integrate-and-fire, leaky or not; a number of it in four is one per channel."""
    reset = net.choose(Reset.SUBTRACT, Reset.VALUE)
    strict = net.chance()
    v_init = net.choose(0, 0, 0.5, net.numbers(net.shape[0], low=-0.25, high=0.5))
    return {
        "max_spikes": net.choose(1, 1, 2, 3),
        "threshold": net.choose(1.0, 0.5, 1.5),
        "decay": net.choose(0.5, 1.0, 0.875, 0.9),
        "gain": net.choose(1.0, 0.5),
        "bias": net.choose(0, 0, 0.25, net.numbers(net.shape[0], low=-0.25, high=0.25)),
        "reset": reset,
        "reset_to": net.choose(0, 0, 0.25, -0.25) if reset is Reset.VALUE else 0,
        "rounding": Rounding.FLOOR if strict else net.choose(Rounding.FLOOR, Rounding.HALF_UP),
        "strict": strict,
        "v_min": net.choose(None, None, -0.5),
        "v_init": v_init,
    }


def _leaky(net: Net) -> dict[str, Any]:
    """Binary neurons with reset to zero: what Loihi has."""
    return {"decay": net.choose(0, 0.5, 1.0, 0.875), "reset": Reset.VALUE, "strict": net.chance()}


def _fading(net: Net) -> dict[str, Any]:
    """The same, some with a synaptic current."""
    synapse = {
        "synapse_decay": net.choose(None, 0.25, 0.75),
        "synapse_order": net.choose(*SynapseOrder),
    }
    return _leaky(net) | synapse


# ---- parts of networks --------------------------------------------------------------------------------


def _layer(net: Net, name: str, kind: Kind, source: str) -> str:
    """Weights that keep the shape, batch norm or none, and neurons."""
    fields = kind(net)
    biased = fields.get("synapse_decay") is None  # in front of a synapse with memory it has no integer form
    net.same(f"{name}.w", source, bias=biased and net.chance())
    if biased and len(net.shape) == 3 and net.chance():
        net.batch_norm(f"{name}.bn")
    return net.neuron(name, fields)


def _block(net: Net, name: str, kind: Kind) -> None:
    """A layer, and one of the ways in which what went in joins what comes out."""
    before = net.last
    way = net.choose("none", "spikes", "spikes", "spikes over two", "projection")
    if way == "projection":
        net.add(f"{name}.sum", net.same(f"{name}.p", before, False), net.same(f"{name}.w", before, False))
        net.neuron(name, kind(net))
        return
    after = _layer(net, name, kind, before)
    if way == "spikes over two":
        after = _layer(net, f"{name}.2", kind, after)
    if way != "none":
        net.add(f"{name}.out", before, after)


def _flat(net: Net) -> None:
    if len(net.shape) == 1:
        return
    if net.chance(0.3):
        net.put(Permute(name="channels_last", inputs=(net.last,), axes=(1, 2, 0)))
    net.put(Reshape(name="flat", inputs=(net.last,), shape=(math.prod(net.shape),)))


def _features(net: Net) -> None:
    """One vector of a map: its means, or all of it behind a pooling or none."""
    if len(net.shape) == 3 and net.exact(math.prod(net.shape[1:])) and net.chance(0.3):
        net.put(Mean(name="mean", inputs=(net.last,)))
        return
    if len(net.shape) == 3 and net.chance():
        net.pool("pool", net.choose((2, 2), (1, 2), (3, 2)))
    _flat(net)


def _end(net: Net, kind: Kind) -> Output:
    """A classifier: its currents, its spikes, or the membrane of its neurons; or the last map's spikes."""
    over = net.choose(OverTime.SUM, OverTime.MEAN)
    if isinstance(net.nodes[-1], Neuron) and net.chance(0.15):
        return Output(name="out", inputs=(net.last,), decode=Decode.COUNT, over_time=over)
    _features(net)
    ending = net.choose("current", "spikes", "membrane")
    net.linear("fc", 5, net.last, bias=ending == "current")
    if ending == "current":
        return Output(name="out", inputs=("fc",), over_time=over)
    if ending == "membrane":
        net.neuron("last", {"max_spikes": 0, "decay": net.choose(1.0, 0.875)})
        return Output(name="out", inputs=("last",), decode=Decode.MEMBRANE)
    net.neuron("last", kind(net))
    every = net.choose(OverTime.NONE, over)
    return Output(name="out", inputs=("last",), decode=Decode.COUNT, over_time=every)


def _blocks(net: Net, kind: Kind) -> None:
    for i in range(net.choose(0, 1, 2, 3, 3)):
        _block(net, f"b{i}", kind)
    if net.chance(0.1):
        net.add("twice", net.last, net.last)
    if net.chance(0.2):
        net.put(Scale(name="half", inputs=(net.last,), factor=0.5))


# ---- families -----------------------------------------------------------------------------------------


def _maps(net: Net) -> Output:
    """Integers over one timestep through convolutions of every geometry."""
    levels = net.choose(*range(1, 9))
    size = net.choose((1, 6, 9), (2, 8, 6), (3, 7, 5), (2, 5, 8))
    net.put(Input(name="x", shape=size, levels=net.choose(1, levels)))
    kind, kernel = _sfa(net, levels), net.choose((3, 3), (1, 3), (3, 1), (2, 2), (3, 2))
    geometry = {
        "stride": net.choose((1, 1), (1, 1), (2, 1), (1, 2)),
        "padding": net.choose((0, 0), (1, 1), (0, 1)),
        "dilation": net.choose((1, 1), (1, 1), (2, 1), (1, 2)),
    }
    net.conv("n0.w", 4, kernel, "x", groups=size[0] if net.chance(0.3) and size[0] != 3 else 1, **geometry)
    net.neuron("n0", kind(net))
    _blocks(net, kind)
    return _end(net, kind)


def _chip_maps(net: Net) -> Output:
    """Integers over one timestep in sizes that Speck takes: square kernels, poolings without a rest."""
    levels = net.choose(1, 2, 3, 4, 6, 8)
    size = net.choose((1, 4, 8), (2, 8, 4), (3, 4, 8))
    net.put(Input(name="x", shape=size, levels=net.choose(1, levels)))
    kind = _sfa(net, levels)
    if net.chance(0.3):
        net.pool("before", (2, 2))
    net.conv("n0.w", 6, (3, 3), net.last, padding=(1, 1), groups=2 if size[0] == 2 and net.chance() else 1)
    if net.chance():
        net.batch_norm("n0.bn")
    net.neuron("n0", kind(net))
    _block(net, "b0", kind)
    if net.chance():
        net.pool("pool.b0", (2, 2))
    if net.chance():
        net.conv("n1.w", 5, (1, 1), net.last, stride=net.choose((1, 1), (1, 2)))
        net.neuron("n1", kind(net))
    return _end(net, kind)


def _over_time(net: Net) -> Output:
    """Neurons that keep their membrane over one to four timesteps."""
    net.steps = net.choose(1, 2, 3, 4)
    net.put(Input(name="x", shape=net.choose((1, 4, 6), (2, 5, 3), (3, 4, 5)), levels=net.choose(1, 1, 2)))
    net.conv("n0.w", 3, (3, 3), "x", padding=(1, 1), stride=net.choose((1, 1), (2, 1)))
    net.neuron("n0", _stateful(net))
    _blocks(net, _stateful)
    return _end(net, _stateful)


def _leaky_maps(net: Net) -> Output:
    """What Loihi 1 computes: binary events, one update a timestep."""
    net.steps = net.choose(1, 2, 3, 4)
    net.put(Input(name="x", shape=net.choose((1, 4, 6), (2, 5, 3), (3, 4, 5)), levels=1))
    kind = net.choose(_leaky, _fading)
    net.conv("n0.w", 4, (3, 3), "x", bias=False, padding=(1, 1), stride=net.choose((1, 1), (1, 2)))
    net.neuron("n0", kind(net))
    _blocks(net, kind)
    return _end(net, kind)


def _streams(net: Net) -> Output:
    """Membrane shortcuts: blocks over a running sum of currents, of maps and then of features."""
    net.steps = net.choose(1, 1, 2, 3)
    levels = net.choose(1, 2, 3, 4)
    kind = _sfa(net, levels) if net.steps == 1 else _stateful
    net.put(Input(name="x", shape=net.choose((2, 5, 4), (1, 4, 6), (4, 3, 5)), levels=net.choose(1, levels)))
    total = net.conv("stem", 3, (3, 3), "x", padding=(1, 1))
    for i in range(net.choose(1, 2, 3, 4)):
        net.neuron(f"s{i}", kind(net))
        total = net.add(f"x{i}", total, net.same(f"c{i}", f"s{i}"))
    net.neuron("end", kind(net))
    _flat(net)
    if net.chance(0.3):
        total = net.linear("in", 7, net.last)
        for i in range(2):
            net.neuron(f"t{i}", kind(net))
            total = net.add(f"y{i}", total, net.same(f"l{i}", f"t{i}"))
        net.neuron("features", kind(net))
    return _end(net, kind)


def _analog(net: Net) -> Output:
    """Real values into a stem that the host computes, up to its first neurons."""
    net.steps = net.choose(1, 1, 2, 3)
    levels = net.choose(1, 2, 4, 5)
    kind = _sfa(net, levels) if net.steps == 1 else _stateful
    net.put(Input(name="x", shape=net.choose((1, 6, 8), (2, 4, 6), (3, 8, 4))))
    net.conv("stem", 4, (3, 3), "x", padding=(1, 1), stride=net.choose((1, 1), (2, 1)))
    if net.chance():
        net.batch_norm("stem.bn")
    net.neuron("encoder", kind(net))
    _layer(net, "n0", kind, "encoder")
    _blocks(net, kind)
    return _end(net, kind)


def _rows(net: Net) -> Output:
    """Linear layers from the input on."""
    net.steps = net.choose(1, 1, 2, 4)
    levels = net.choose(1, 3, 4, 7)
    kind = net.choose(_sfa(net, levels) if net.steps == 1 else _stateful, _leaky, _fading)
    net.put(Input(name="x", shape=(9,), levels=1 if kind in (_leaky, _fading) else levels))
    net.linear("n0.w", 6, "x", bias=False)
    net.neuron("n0", kind(net))
    _blocks(net, kind)
    return _end(net, kind)


FAMILIES: dict[str, Callable[[Net], Output]] = {
    "maps": _maps,
    "chip-maps": _chip_maps,
    "over-time": _over_time,
    "leaky": _leaky_maps,
    "streams": _streams,
    "analog": _analog,
    "rows": _rows,
}


RANDOM = tuple(f"{i:03}-{list(FAMILIES)[i % len(FAMILIES)]}" for i in range(300))
NAMES = (*RANDOM, "mnist_sfa", "loihi_lif")


def subject(name: str) -> tuple[Model, Array]:
    """A network with its calibration inputs, and inputs [N, T, *shape] to run it on; the same in every run."""
    return _random(name) if name in RANDOM else _example(name)


def _random(name: str) -> tuple[Model, Array]:
    number, family = name.split("-", 1)
    net = Net(np.random.default_rng([_SEED, int(number)]))
    net.grain = net.choose(1 / 64, 1 / 64, 1 / 64, 1 / 4, 0)
    output = FAMILIES[family](net)
    graph = Graph(name, Family.FLOAT, (*net.nodes, output), net.steps)
    calibration, x = (_inputs(net.rng, graph, samples) for samples in (CALIBRATION, SAMPLES))
    x[-1] = graph.input.levels or 1  # the largest input everywhere, which leaves ranges that are not proven
    return Model(graph, calibration), x


def _inputs(rng: np.random.Generator, graph: Graph, samples: int) -> Array:
    """Inputs with a share of silence."""
    shape = (samples, graph.steps, *graph.input.shape)
    drawn, kept, levels = rng.random(shape), rng.random(shape) < 0.6, graph.input.levels
    if not levels:
        return (np.rint(16 * drawn - 8) / 8 * kept).astype(np.float32)
    return np.floor(drawn * (levels + 1)).astype(np.int64) * kept


def _example(name: str) -> tuple[Model, Array]:
    sys.path += [str(_EXAMPLES / folder) for folder in ("mnist_sfa", "loihi_lif")]
    from data import digits
    from events import events

    _, (images, _) = digits()
    few = images[:SAMPLES]
    x = few[:, None] if name == "mnist_sfa" else events(few)
    return snncc.load_model(_EXAMPLES / name / "model.pt"), x.astype(np.int64)
