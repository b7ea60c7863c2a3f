"""Reference semantics of clocked spike graphs, micro-step by micro-step.

Most neurons are silent in most micro-steps, for each fires in its own windows only. What is silent is
not computed: zeros in, zeros out holds for every node between neurons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir.cell import CellState
from snncc.ir.const import number_array
from snncc.ir.evaluation import evaluate
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.layers import Bilinear
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


class _Sent(dict[str, Array]):
    """Values of one micro-step, [N, *shape] by name; those that are all zero are made when they are read."""

    def __init__(self, graph: Graph, samples: int) -> None:
        super().__init__()
        self.graph, self.samples = graph, samples

    def __missing__(self, name: str) -> Array:
        return np.zeros((self.samples, *self.graph.types[name].shape), np.int64)


@dataclass
class _Neuron:
    """A window neuron at work, arrays [N, *shape]. None: nothing collected, at rest, no window.

    Attributes:
        a: the accumulator.
        state: its cell's.
        n: the counts of its window so far.
    """

    node: WindowNeuron
    shape: tuple[int, ...]
    a: Array | None = None
    state: CellState | None = None
    n: Array | None = None

    @property
    def precharge(self) -> Any:
        """Of every neuron that there is, ready to broadcast."""
        return number_array(self.node.cell.precharge, len(self.shape)) * self.node.where

    def collected(self) -> Array:
        """The accumulator, which is then empty."""
        found, self.a = self.a, None
        return np.zeros(self.shape, np.int64) if found is None else found

    def membrane(self) -> CellState:
        """The cell's state, at rest before the first window."""
        return self.node.cell.start(self.shape) if self.state is None else self.state


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
    _lines: dict[str, deque[Array | None]] = field(init=False)
    _held: dict[str, Array | None] = field(init=False, default_factory=dict)
    _open: dict[str, Bitmap] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        nodes, types = self.graph.nodes, self.graph.types
        self._neurons = {
            n.name: _Neuron(n, (self.samples, *types[n.name].shape))
            for n in nodes
            if isinstance(n, WindowNeuron)
        }
        self._lines = {n.name: deque(maxlen=n.steps) for n in nodes if isinstance(n, Delay)}
        self.counts = {
            name: np.zeros((self.samples, self.graph.steps, *s.shape[1:]), np.int64)
            for name, s in self._neurons.items()
        }

    @property
    def samples(self) -> int:
        """N, at work together."""
        return len(self.per_step[self.graph.input.name])

    @property
    def micro_steps(self) -> int:
        """Of a sample, from its first input to the end of the last window."""
        last = max((s.node.phase for s in self._neurons.values()), default=0)
        return last + self.graph.steps * self.graph.micro_steps

    def step(self) -> Mapping[str, Array]:
        """What every node sends in the next micro-step, [N, *shape] by name."""
        env = _Sent(self.graph, self.samples)
        for node in self.graph.nodes:
            if node.name not in self.per_step and not isinstance(node, Output | HostRegion):
                value = self._value(node, env)
                if value is not None:
                    env[node.name] = value
        for name, line in self._lines.items():
            line.append(env.get(self.graph.by_name[name].inputs[0]))
        for s in self._neurons.values():
            arrived = env.get(s.node.inputs[0])
            if arrived is not None:
                s.a = arrived if s.a is None else s.a + arrived
        self.k += 1
        return env

    def _value(self, node: Node, env: _Sent) -> Array | None:
        """What a node sends, [N, *shape]; None where that is all zeros."""
        match node:
            case Encode():
                return _sounding(self._train(self.per_step[node.inputs[0]], node.graded))
            case WindowNeuron(release=Release.STREAM):
                return self._stream(self._neurons[node.name])
            case WindowNeuron():
                return self._window(self._neurons[node.name])
            case Delay():
                line = self._lines[node.name]
                return line[0] if len(line) == node.steps else None
            case Hold():
                if self.k % self.graph.micro_steps == 0:
                    self._held[node.name] = env.get(node.inputs[0])
                return self._held[node.name]
            case CentreGate():
                return self._gate(node, env)
            case _:
                # A bias is a constant current of the timestep, which the window neuron holds.
                silent = [name not in env for name in node.inputs]
                if all(silent) or (isinstance(node, Bilinear) and any(silent)):
                    return None
                return evaluate(node, [env[name] for name in node.inputs])

    def _gate(self, node: CentreGate, env: _Sent) -> Array | None:
        """A train is a prefix of ones: whoever fires in a window fires in its first micro-step."""
        sums, spikes = node.inputs
        first = self.k % self.graph.micro_steps == 0
        if first:
            self._open[node.name] = fired_centres(node, env[spikes])
        elif sums not in env:
            return None
        return _sounding(latched(node, env[sums], self._open[node.name], first))

    def _train(self, counts: Array, graded: bool) -> Array | None:
        """What counts [N, T, *shape] send in this micro-step."""
        t, d = divmod(self.k, self.graph.micro_steps)
        if t >= self.graph.steps or (graded and d > 0):
            return None
        return np.asarray(counts[:, t] if graded else counts[:, t] > d, np.int64)

    def _window(self, s: _Neuron) -> Array | None:
        t, d = divmod(self.k - s.node.phase, self.graph.micro_steps)
        if not 0 <= t < self.graph.steps:
            return None
        if d == 0:
            self._charge(s, t)
        if s.node.is_readout:
            return s.membrane().v
        spikes = self._fired(s, d)
        if d == self.graph.micro_steps - 1:
            self._close(s, last=t == self.graph.steps - 1)
        return _sounding(spikes)

    def _charge(self, s: _Neuron, t: int) -> None:
        """Begin the window of timestep ``t``; its counts are those of the result from here on."""
        cell, n = s.node.cell, self.counts[s.node.name][:, t]
        charged = cell.charge(s.collected(), s.membrane())
        s.state, s.n = charged._replace(v=charged.v * s.node.where + s.precharge), n
        if cell.is_readout:
            n[...] = s.state.v

    def _fired(self, s: _Neuron, d: int) -> Array | None:
        """Spikes of micro-step ``d`` of a window, or its whole count; their thresholds are taken off."""
        cell, state = s.node.cell, s.membrane()
        if d >= (1 if s.node.graded else cell.max_spikes):
            return None
        assert s.n is not None
        threshold = number_array(cell.threshold, s.n.ndim)
        spikes = cell.counts(state.v) if s.node.graded else np.asarray(state.v >= threshold, np.int64)
        s.state = state._replace(v=state.v - spikes * threshold)
        s.n += spikes
        return spikes

    def _close(self, s: _Neuron, last: bool) -> None:
        """End a window; behind the last one a neuron keeps nothing."""
        cell, state, n = s.node.cell, s.membrane(), s.n
        assert n is not None
        kept = None if last else cell.settled(state.v - s.precharge, n) * s.node.where
        s.state, s.n = None if kept is None else state._replace(v=kept), None

    def _stream(self, s: _Neuron) -> Array | None:
        """A neuron of the clocked free schedule, which knows one timestep."""
        cell, n = s.node.cell, self.counts[s.node.name][:, 0]
        if self.k < s.node.phase:
            return None
        state, rank = s.membrane(), n.ndim
        v = state.v + number_array(cell.gain, rank) * s.collected()
        if self.k == s.node.phase:
            v = (v + number_array(cell.bias, rank)) * s.node.where + s.precharge
        if cell.is_readout:
            s.state, n[...] = state._replace(v=v), v
            return np.asarray(v)
        threshold = number_array(cell.threshold, rank)
        may = n < cell.max_spikes if s.node.capped else True
        spikes: Array = ((v >= threshold) & may).astype(np.int64)
        s.state = state._replace(v=v - spikes * threshold)
        n += spikes
        return _sounding(spikes)


def _sounding(value: Array | None) -> Array | None:
    """``value``, or None if it is all zeros."""
    return value if value is not None and value.any() else None
