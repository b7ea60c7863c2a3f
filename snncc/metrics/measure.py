"""Counts what a graph does on data, on its own activations: no chip and no quantization are involved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from snncc.analysis.fan_out import Counts, Synapses, fan_out
from snncc.analysis.operations import NodeCost, node_costs
from snncc.analysis.sites import gate_behind
from snncc.arrays import Array
from snncc.data import Dataset
from snncc.errors import fail
from snncc.ir.batches import chunks
from snncc.ir.graph import Graph
from snncc.ir.interp import run
from snncc.ir.layers import AnyNeuron
from snncc.ir.node import Decode, Node, OverTime
from snncc.ir.nodes import (
    Add,
    And,
    AvgPool2d,
    BatchNorm,
    LayerNorm,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Sum,
    SumPool2d,
)
from snncc.ir.types import Spikes
from snncc.metrics.attention import Term, attention_terms
from snncc.metrics.figures import Figures, LayerFigures, NeuronFigures, Part


def measure(graph: Graph, data: Dataset, progress: Callable[[int], None] | None = None) -> Figures:
    """Figures of a float or integer graph on inputs.

    Args:
        graph: as trained, or legalised.
        data: inputs [N, T, *shape].
        progress: told after each chunk how many samples it held.

    Raises:
        DataError: SNNC-D004 for inputs of another shape.
    """
    layers, terms = static_layers(graph), attention_terms(graph)
    tallies = {layer.name: _Tally(graph, graph.by_name[layer.name]) for layer in layers}
    fired = {n.name: _Fired(graph, n) for n in graph.neurons if not n.is_readout}
    kept = tuple(dict.fromkeys((*(i for t in tallies.values() for i in t.node.inputs), *fired)))
    for some in chunks(graph, len(data)):
        values = run(graph, data.x[some], kept).values
        for tally in tallies.values():
            tally.add(values)
        for neurons in fired.values():
            neurons.add(values)
        if progress is not None:
            progress(len(data.x[some]))
    rates = {n: r for t in tallies.values() for n, r in t.rates(len(data)).items()}
    return Figures(
        graph.name,
        len(data),
        graph.steps,
        tuple(tallies[layer.name].filled(layer, rates, terms.get(layer.name)) for layer in layers),
        tuple(f.figures(len(data)) for f in fired.values()),
        sum(c.parameters for c in node_costs(graph)),
        *_beside(graph),
        bool((data.x == data.x[:, :1]).all()),
    )


def refuse_silence(figures: Figures, data: Dataset) -> None:
    """Raise where there is no spike that could cost anything.

    Raises:
        ModelError: SNNC-M026 if the network has no spiking neuron, or none of them fired.
    """
    if not figures.neurons:
        raise fail(
            "SNNC-M026",
            figures.network,
            "has no spiking neuron, so it has no firing rate",
            hint="`snncc inspect MODEL --table`, which counts the operations of any network",
        )
    if not figures.firing_rate:
        raise fail(
            "SNNC-M026",
            figures.network,
            f"no neuron fires on {data.origin}",
            got=f"{len(data)} inputs from {data.x.min():g} to {data.x.max():g}",
            hint="inputs scaled as in training",
        )


# ---- what the graph alone tells --------------------------------------------------------------------


def static_layers(graph: Graph) -> tuple[LayerFigures, ...]:
    """Every node that multiplies, in order; rates and events are 0 until something is measured."""
    stem, terms = _stem(graph), attention_terms(graph)
    heads = _heads(graph) - stem
    found = []
    for cost in node_costs(graph):
        if not cost.operations or cost.on_host:
            continue
        node = graph.by_name[cost.name]
        part = Part.STEM if node.name in stem else Part.HEAD if node.name in heads else Part.BODY
        found.append(_static(graph, node, cost, part, terms.get(node.name)))
    return tuple(found)


def _static(graph: Graph, node: Node, cost: NodeCost, part: Part, term: Term | None) -> LayerFigures:
    assert cost.operand is not None
    dense = cost.operations // graph.steps
    reads = [graph.types[i] for i in node.inputs]
    spikes = [r for r in reads if isinstance(r, Spikes)]
    bias = getattr(node, "bias", None)
    return LayerFigures(
        name=node.name,
        source=node.source,
        kind=node.kind,
        part=part,
        operand=cost.operand,
        levels=min((s.levels for s in spikes), default=0),
        largest=0,
        parameters=cost.parameters,
        outputs=graph.elements(node.name),
        dense=dense,
        valid=dense if isinstance(node, MatMul) else _valid(graph, node),
        biases=0 if bias is None else graph.elements(node.name),
        rates=(0.0,) * graph.steps,
        others=(0.0,) * graph.steps if len(spikes) == 2 else (),
        is_product=isinstance(node, MatMul),
        term=0 if term is None else term.operations,
        term_rate=0.0,
        events=0,
        nonzero=0,
        unit_events=0,
    )


def _stem(graph: Graph) -> frozenset[str]:
    """Nodes that nothing which fires stands in front of."""
    found = set[str]()
    for node in graph.nodes:
        if not isinstance(node, AnyNeuron) and all(name in found for name in node.inputs):
            found.add(node.name)
    return frozenset(found)


def _heads(graph: Graph) -> frozenset[str]:
    """Weights behind which nothing fires or multiplies, where results are summed or averaged over time."""
    output = graph.output
    if output.over_time is OverTime.NONE or output.decode is Decode.MEMBRANE or graph.steps == 1:
        return frozenset()
    behind, pending = set[str](), list(output.inputs)
    while pending:
        node = graph.by_name[pending.pop()]
        if isinstance(node, Synapses):
            behind.add(node.name)
        elif not isinstance(node, AnyNeuron | Mul | MatMul):  # a product does not commute with a mean
            pending += node.inputs
    return frozenset(n for n in behind if all(_ends(graph, r) for r in graph.readers[n]))


def _ends(graph: Graph, node: Node) -> bool:
    """Whether nothing but the output follows from a node."""
    if isinstance(node, AnyNeuron | Synapses | Mul | MatMul):
        return False
    return all(_ends(graph, r) for r in graph.readers[node.name])


def _reached(graph: Graph, node: Node, nonzero: bool = False) -> Counts:
    assert isinstance(node, Synapses)
    shape, result = graph.types[node.inputs[0]].shape, graph.types[node.name].shape
    return fan_out(node, shape, result, gate_behind(graph, node), nonzero)


def _valid(graph: Graph, node: Node) -> int:
    """Synapses that a dense input uses."""
    return int(np.broadcast_to(_reached(graph, node), graph.types[node.inputs[0]].shape).sum())


def _additions(graph: Graph, node: Node) -> int:
    return (len(node.inputs) - 1) * graph.elements(node.name) if isinstance(node, Add) else 0


def _masks(graph: Graph, node: Node) -> int:
    return graph.elements(node.name) if isinstance(node, Mul | And) else 0


def _pooling(graph: Graph, node: Node) -> int:
    if isinstance(node, AvgPool2d | SumPool2d | MaxPool2d):
        return graph.elements(node.name) * (math.prod(node.kernel) - 1)
    if isinstance(node, Mean | Sum):
        return graph.elements(node.inputs[0]) - graph.elements(node.name)
    return 0


def _norms(graph: Graph, node: Node) -> int:
    return graph.elements(node.name) if isinstance(node, BatchNorm | LayerNorm) else 0


def _beside(graph: Graph) -> tuple[int, int, int, int]:
    """Residual additions, masks, pooling and norms, a sample."""
    additions, masks, pooling, norms = (
        sum(rule(graph, n) for n in graph.nodes) * graph.steps
        for rule in (_additions, _masks, _pooling, _norms)
    )
    return additions, masks, pooling, norms


# ---- what data tell ----------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Sums of one node that multiplies, over the samples so far."""

    graph: Graph
    node: Node
    levels: list[Counts] = field(default_factory=list)  # of every spike operand, sums [T] a chunk
    largest: int = 0
    events: int = 0
    nonzero: int = 0
    units: int = 0

    def __post_init__(self) -> None:
        self.spikes = [i for i in self.node.inputs if isinstance(self.graph.types[i], Spikes)]
        weighted = isinstance(self.node, Synapses)
        self.reached = _reached(self.graph, self.node) if weighted else None
        self.alive = _reached(self.graph, self.node, nonzero=True) if weighted else None

    def add(self, values: Mapping[str, Array]) -> None:
        """Count a chunk: values [N, T, *shape] by name."""
        read = [_levels(self.graph, name, values[name]) for name in self.spikes]
        if not read:
            return
        self.levels.append(np.stack([r.sum(axis=(0, *range(2, r.ndim)), dtype=np.int64) for r in read]))
        self.largest = max(self.largest, int(min(r.max(initial=0) for r in read)))
        if self.reached is None:
            events, units = _pairs(self.graph, self.node, self.spikes, read)
            self.events, self.nonzero = self.events + events, self.nonzero + events
            self.units += units
            return
        at, many = np.count_nonzero(read[0], axis=(0, 1)), read[0].sum(axis=(0, 1), dtype=np.int64)
        self.events += int((at * self.reached).sum())
        self.nonzero += int((at * self.alive).sum())
        self.units += int((many * self.reached).sum())

    def rates(self, samples: int) -> dict[str, tuple[float, ...]]:
        """Mean level of every spike operand by timestep, by its name."""
        sums = np.sum(self.levels, axis=0) if self.levels else ()
        return {
            name: tuple(float(n) / (samples * self.graph.elements(name)) for n in row)
            for name, row in zip(self.spikes, sums, strict=True)
        }

    def filled(
        self, layer: LayerFigures, rates: Mapping[str, tuple[float, ...]], term: Term | None
    ) -> LayerFigures:
        """``layer`` with what was counted; ``rates`` of all values that are read."""
        if not self.spikes:
            return replace(layer, rates=(1.0,) * self.graph.steps)
        means = [sum(rates[f]) / len(rates[f]) for f in (term.factors if term else ()) if f in rates]
        return replace(
            layer,
            rates=rates[self.spikes[0]],
            others=rates[self.spikes[1]] if len(self.spikes) == 2 else (),
            term_rate=min(means, default=0.0),
            largest=self.largest,
            events=self.events,
            nonzero=self.nonzero,
            unit_events=self.units,
        )


def _levels(graph: Graph, name: str, values: Array) -> Counts:
    """Sizes of the counts that values of spikes stand for, int64."""
    kind = graph.types[name]
    assert isinstance(kind, Spikes)
    return np.abs(np.rint(values / kind.unit)).astype(np.int64)


def _pairs(graph: Graph, node: Node, spikes: list[str], read: list[Counts]) -> tuple[int, int]:
    """Events and unit events of a product a @ b.

    Of two spike operands those that meet are counted; of one and a current, each spike's row or column.
    """
    if len(read) == 2:
        a, b = (r.reshape(-1, *r.shape[-2:]) for r in read)
        met = [(x.sum(axis=1) * y.sum(axis=2)).sum() for x, y in ((a != 0, b != 0), (a, b))]
        return int(met[0]), int(met[1])
    left = spikes[0] == node.inputs[0]
    other = graph.types[node.inputs[1 if left else 0]].shape
    fan = other[-1] if left else other[-2]
    return int(np.count_nonzero(read[0])) * fan, int(read[0].sum()) * fan


@dataclass
class _Fired:
    """Spikes of one layer of neurons, over the samples so far."""

    graph: Graph
    node: AnyNeuron
    by_level: Counts | None = None

    def add(self, values: Mapping[str, Array]) -> None:
        """Count a chunk: values [N, T, *shape] by name."""
        counts = _levels(self.graph, self.node.name, values[self.node.name])
        flat = np.moveaxis(counts, 1, 0).reshape(self.graph.steps, -1)
        found = np.stack([np.bincount(row, minlength=self.top + 1)[: self.top + 1] for row in flat])
        reaching = np.cumsum(found[:, ::-1], axis=1)[:, ::-1][:, 1:]
        self.by_level = reaching if self.by_level is None else self.by_level + reaching

    @property
    def top(self) -> int:
        """Largest declared count."""
        kind = self.graph.types[self.node.name]
        assert isinstance(kind, Spikes)
        return kind.levels

    def figures(self, samples: int) -> NeuronFigures:
        """What was counted."""
        assert self.by_level is not None
        return NeuronFigures(
            self.node.name,
            self.node.source,
            self.graph.elements(self.node.name),
            self.top,
            tuple(tuple(int(n) for n in row) for row in self.by_level),
            samples,
        )
