"""Reference semantics of clocked spike graphs, micro-step by micro-step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir.cell import CellState
from snncc.ir.const import number_array
from snncc.ir.evaluation import evaluate
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.neurons import Delay, Encode, Hold, WindowNeuron
from snncc.ir.node import Node
from snncc.ir.ports import Output
from snncc.ir.schedule import Release
from snncc.ir.sites import Bitmap, CentreGate, fired_centres, latched


def run_windows(graph: Graph, per_step: Mapping[str, Array]) -> dict[str, Array]:
    """Counts (a readout's membranes) [N, T, *shape] of every neuron of a clocked spike graph.

    ``per_step`` holds the values [N, T, *shape] of the input and the host regions.
    """
    machine = Windows(graph, per_step)
    for _ in range(machine.micro_steps):
        machine.step()
    return machine.counts


@dataclass
class _Neuron:
    """A window neuron at work: its cell's state, accumulator ``a`` and count ``n`` so far, [N, *shape]."""

    node: WindowNeuron
    state: CellState
    a: Array
    n: Array

    @property
    def precharge(self) -> Any:
        """Of every neuron that there is, ready to broadcast."""
        return number_array(self.node.cell.precharge, self.n.ndim) * self.node.where


@dataclass
class Windows:
    """A clocked spike graph at work: every neuron fires inside its own windows only.

    Attributes:
        per_step: values [N, T, *shape] of the input and the host regions.
        k: the next micro-step, of ``micro_steps`` in a sample.
        counts: of the windows so far, [N, T, *shape] by neuron; a readout's membranes.
    """

    graph: Graph
    per_step: Mapping[str, Array]
    k: int = 0
    counts: dict[str, Array] = field(init=False)
    _neurons: dict[str, _Neuron] = field(init=False)
    _lines: dict[str, list[Array]] = field(init=False)
    _held: dict[str, Array] = field(init=False, default_factory=dict)
    _open: dict[str, Bitmap] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        samples, nodes = len(self.per_step[self.graph.input.name]), self.graph.nodes
        self._neurons = {n.name: self._rested(n, samples) for n in nodes if isinstance(n, WindowNeuron)}
        self._lines = {n.name: [] for n in nodes if isinstance(n, Delay)}
        self.counts = {
            name: np.zeros((samples, self.graph.steps, *s.n.shape[1:]), np.int64)
            for name, s in self._neurons.items()
        }

    @property
    def micro_steps(self) -> int:
        """Of a sample, from its first input to the end of the last window."""
        last = max((s.node.phase for s in self._neurons.values()), default=0)
        return last + self.graph.steps * self.graph.micro_steps

    def step(self) -> dict[str, Array]:
        """What every node sends in the next micro-step, [N, *shape] by name."""
        env: dict[str, Array] = {}
        for node in self.graph.nodes:
            if node.name not in self.per_step and not isinstance(node, Output | HostRegion):
                env[node.name] = self._value(node, env)
        for name, line in self._lines.items():
            line.append(env[self.graph.by_name[name].inputs[0]])
        for s in self._neurons.values():
            s.a = s.a + env[s.node.inputs[0]]
        self.k += 1
        return env

    def _rested(self, node: WindowNeuron, samples: int) -> _Neuron:
        shape = (samples, *self.graph.types[node.name].shape)
        zeros = np.zeros(shape, np.int64)
        return _Neuron(node, node.cell.start(shape), zeros, zeros)

    def _value(self, node: Node, env: dict[str, Array]) -> Array:
        match node:
            case Encode():
                return self._train(self.per_step[node.inputs[0]], node.graded)
            case WindowNeuron(release=Release.STREAM):
                return self._stream(self._neurons[node.name])
            case WindowNeuron():
                return self._window(self._neurons[node.name])
            case Delay():
                line = self._lines[node.name]
                samples = len(self.per_step[self.graph.input.name])
                silent = np.zeros((samples, *node.shape), np.int64)
                return line[self.k - node.steps] if self.k >= node.steps else silent
            case Hold():
                if self.k % self.graph.micro_steps == 0:
                    self._held[node.name] = env[node.inputs[0]]
                return self._held[node.name]
            case CentreGate():
                return self._gate(node, *(env[name] for name in node.inputs))
            case _:
                # A bias is a constant current of the timestep, which the window neuron holds.
                return evaluate(node, [env[name] for name in node.inputs])

    def _gate(self, node: CentreGate, sums: Array, spikes: Array) -> Array:
        """A train is a prefix of ones: whoever fires in a window fires in its first micro-step."""
        first = self.k % self.graph.micro_steps == 0
        if first:
            self._open[node.name] = fired_centres(node, spikes)
        return latched(node, sums, self._open[node.name], first)

    def _train(self, counts: Array, graded: bool) -> Array:
        """What counts [N, T, *shape] send in this micro-step."""
        t, d = divmod(self.k, self.graph.micro_steps)
        if t >= self.graph.steps or (graded and d > 0):
            return np.zeros_like(counts[:, 0], np.int64)
        return np.asarray(counts[:, t] if graded else counts[:, t] > d, np.int64)

    def _window(self, s: _Neuron) -> Array:
        cell, node = s.node.cell, s.node
        t, d = divmod(self.k - node.phase, self.graph.micro_steps)
        if not 0 <= t < self.graph.steps:
            return np.zeros_like(s.n)
        if d == 0:
            charged = cell.charge(s.a, s.state)
            s.state = charged._replace(v=charged.v * node.where + s.precharge)
            s.a, s.n = np.zeros_like(s.a), np.zeros_like(s.n)
        if cell.is_readout:
            self.counts[node.name][:, t] = s.state.v
            return s.state.v
        spikes = self._fired(s, d)
        self.counts[node.name][:, t] += spikes
        if d == self.graph.micro_steps - 1:
            left = s.state.v - s.precharge
            s.state = s.state._replace(v=cell.settled(left, s.n) * node.where)
        return spikes

    def _fired(self, s: _Neuron, d: int) -> Array:
        """Spikes of micro-step ``d`` of a window, or its whole count; their thresholds are taken off."""
        cell = s.node.cell
        threshold = number_array(cell.threshold, s.n.ndim)
        if s.node.graded:
            spikes = cell.counts(s.state.v) * (d == 0)
        else:
            spikes = ((s.state.v >= threshold) & (d < cell.max_spikes)).astype(np.int64)
        s.state = s.state._replace(v=s.state.v - spikes * threshold)
        s.n = s.n + spikes
        return np.asarray(spikes)

    def _stream(self, s: _Neuron) -> Array:
        """A neuron of the clocked free schedule, which knows one timestep."""
        cell, rank = s.node.cell, s.n.ndim
        if self.k < s.node.phase:
            return np.zeros_like(s.n)
        v = s.state.v + number_array(cell.gain, rank) * s.a
        if self.k == s.node.phase:
            v = (v + number_array(cell.bias, rank)) * s.node.where + s.precharge
        s.a = np.zeros_like(s.a)
        threshold = number_array(cell.threshold, rank)
        may = s.n < cell.max_spikes if s.node.capped else True
        spikes: Array = ((v >= threshold) & may).astype(np.int64) * (not cell.is_readout)
        s.state, s.n = s.state._replace(v=v - spikes * threshold), s.n + spikes
        self.counts[s.node.name][:, 0] = v if cell.is_readout else s.n
        return v if cell.is_readout else spikes
