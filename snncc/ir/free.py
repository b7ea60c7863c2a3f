"""Reference semantics of free-running spike graphs: one event after the other.

The definition that event-ordered engines are compared with, for small networks. Input events are
played by (micro-step, y, x, channel); each settles before the next. A neuron node drains its
queue before the nodes behind it; an event acts on the reached neurons in order (y, x, channel),
through one synapse node (linear or conv2d) after the other, and a neuron that an update leaves at
or over its threshold fires once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from snncc.arrays import Array
from snncc.ir.const import Const, Integer, number_array
from snncc.ir.graph import Graph
from snncc.ir.nodes import Encode, Node, WindowNeuron
from snncc.ir.synapses import Weighted

Evaluate = Callable[[Node, list[Array]], Array]


@dataclass(frozen=True)
class _Synapse:
    """Way from a source of spikes through one weighted node to a neuron."""

    source: str
    weighted: Weighted
    neuron: WindowNeuron


def run_free(graph: Graph, per_step: dict[str, Array], evaluate: Evaluate) -> dict[str, Array]:
    """Counts (readouts: membranes) [N, 1, *shape] of every neuron node, sample by sample.

    ``per_step`` holds the values of the input and the host region.
    """
    machine = _Machine(graph, evaluate)
    samples = [machine.play(counts[0]) for counts in per_step[machine.encode.inputs[0]]]
    return {name: np.stack([s[name] for s in samples])[:, None] for name in machine.neurons}


def event_order(counts: Array) -> Iterator[int]:
    """Flat indices of a count map's events by (micro-step, y, x, channel)."""
    shape = counts.shape if counts.ndim == 3 else (counts.size, 1, 1)
    by_site = np.arange(counts.size).reshape(shape).transpose(1, 2, 0).ravel()
    flat = counts.ravel()[by_site]
    for d in range(int(flat.max(initial=0))):
        yield from by_site[flat > d]


def _per_neuron(value: Integer, like: Array) -> Array:
    """A cell's number for every neuron of a map, flat."""
    return np.broadcast_to(number_array(value, like.ndim + 1), (1, *like.shape)).reshape(-1)


class _Machine:
    def __init__(self, graph: Graph, evaluate: Evaluate) -> None:
        self.graph = graph
        self.evaluate = evaluate
        (self.encode,) = (n for n in graph.nodes if isinstance(n, Encode))  # one order of events
        self.neurons = {n.name: n for n in graph.nodes if isinstance(n, WindowNeuron)}
        self.sources = (self.encode.name, *self.neurons)
        self.synapses = list(self._synapses())
        self.cache: dict[tuple[str, str, str, int], tuple[Array, Array]] = {}

    def _synapses(self) -> Iterator[_Synapse]:
        """Every (source, weighted node, neuron) whose path exists, in graph order."""
        reach = {name: {name} for name in self.sources}
        weighted: dict[str, set[str]] = {}
        for node in self.graph.nodes:
            if node.name in reach or node.name == self.graph.input.name:
                continue
            reach[node.name] = set().union(*(reach.get(i, set()) for i in node.inputs))
            weighted[node.name] = set().union(*(weighted.get(i, set()) for i in node.inputs))
            if isinstance(node, Weighted):
                weighted[node.name] = {node.name}
        for neuron in self.neurons.values():
            through = weighted.get(neuron.inputs[0], set())
            for node in self.graph.nodes:
                if node.name in through and isinstance(node, Weighted):
                    for source in self.sources:
                        if source in reach[node.name]:
                            yield _Synapse(source, node, neuron)

    def play(self, counts: Array) -> dict[str, Array]:
        """Final counts (readouts: membranes) of every neuron node for one sample."""
        v = {}
        for name, node in self.neurons.items():
            shape = self.graph.types[name].shape
            start = np.zeros((1, *shape), np.int64)
            for part in (node.cell.v_init, node.cell.bias, node.cell.precharge):
                start = start + number_array(part, start.ndim)
            v[name] = start[0] * node.where
        fired = {name: np.zeros_like(state) for name, state in v.items()}
        for index in event_order(counts):
            queue: dict[str, list[tuple[str, int]]] = {name: [] for name in self.neurons}
            self._post(self.encode.name, [int(index)], queue)
            for name, node in self.neurons.items():
                emitted: list[int] = []
                for source, event in queue[name]:
                    for synapse in self.synapses:
                        if synapse.neuron is node and synapse.source == source:
                            emitted += self._deliver(synapse, event, v[name], fired[name])
                self._post(name, emitted, queue)
        return {name: v[name] if self.neurons[name].is_readout else fired[name] for name in v}

    def _post(self, source: str, events: list[int], queue: dict[str, list[tuple[str, int]]]) -> None:
        readers = dict.fromkeys(s.neuron.name for s in self.synapses if s.source == source)
        for name in readers:
            queue[name].extend((source, event) for event in events)

    def _deliver(self, synapse: _Synapse, event: int, v: Array, fired: Array) -> Iterator[int]:
        node, cell = synapse.neuron, synapse.neuron.cell
        weights, reached = self._response(synapse, event)
        flat_v, flat_n = v.reshape(-1), fired.reshape(-1)
        threshold = _per_neuron(cell.threshold, v)
        v_min = None if cell.v_min is None else _per_neuron(cell.v_min, v)
        for i in reached:
            flat_v[i] += weights[i]
            if v_min is not None:
                flat_v[i] = max(flat_v[i], v_min[i])
            full = node.capped and flat_n[i] >= cell.max_spikes
            if node.is_readout or flat_v[i] < threshold[i] or full:
                continue
            flat_v[i] -= threshold[i]
            flat_n[i] += 1
            yield int(i)

    def _response(self, synapse: _Synapse, event: int) -> tuple[Array, Array]:
        """Weight per neuron, and the reached neurons in order (y, x, channel), of one event."""
        key = (synapse.source, synapse.weighted.name, synapse.neuron.name, event)
        if key not in self.cache:
            ones = Const(np.ones_like(synapse.weighted.weight.array))
            weights = self._impulse(synapse, event, replace(synapse.weighted, bias=None))
            reach = self._impulse(synapse, event, replace(synapse.weighted, weight=ones, bias=None))
            shape = reach.shape if reach.ndim == 3 else (reach.size, 1, 1)
            by_site = np.arange(reach.size).reshape(shape).transpose(1, 2, 0).ravel()
            self.cache[key] = (weights.ravel(), by_site[reach.ravel()[by_site] > 0])
        return self.cache[key]

    def _impulse(self, synapse: _Synapse, event: int, weighted: Weighted) -> Array:
        """What the neuron node receives when one event of the source goes through ``weighted`` alone."""
        env: dict[str, Array] = {}
        for node in self.graph.nodes:
            shape = (1, *self.graph.types[node.name].shape)
            if node.name == synapse.source:
                env[node.name] = np.zeros(shape, np.int64)
                env[node.name].reshape(-1)[event] = 1
            elif node.name == weighted.name:
                env[node.name] = self.evaluate(weighted, [env[i] for i in node.inputs])
            elif node.name in self.sources or isinstance(node, Weighted):
                env[node.name] = np.zeros(shape, np.int64)
            elif all(i in env for i in node.inputs) and node.inputs:
                if node.name == self.graph.output.name:
                    break
                env[node.name] = self.evaluate(node, [env[i] for i in node.inputs])
            if node.name == synapse.neuron.inputs[0]:
                return np.asarray(env[node.name][0])
        raise AssertionError("the synapse does not reach its neuron")
