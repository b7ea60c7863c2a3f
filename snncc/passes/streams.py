"""stream-readers: weights that read a sum of currents read its branches, or what a relay makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, problem, raise_all
from snncc.ir import (
    Add,
    Current,
    Family,
    Graph,
    Linear,
    Neuron,
    Node,
    Reshape,
    Rounding,
    Spikes,
    SumPool2d,
)
from snncc.ir.batches import in_chunks
from snncc.ir.node import FLOAT_ONLY, Pair
from snncc.ir.synapses import Weighted
from snncc.ir.types import ValueType
from snncc.passes.base import Semantics, describe
from snncc.passes.chains import computed_by_host
from snncc.passes.compose import Kernel, Refused, as_node, compose, kernel_of, outline
from snncc.passes.drop_clip import UNBOUNDED

_PROBED = 8  # samples on which events are counted for the choice
_LEVEL_BITS = 16  # of what a relay sends on the calibration inputs, its sign included


@dataclass(frozen=True)
class StreamReaders:
    """Lowers weights and pools that read a sum of currents (the stream of membrane shortcuts).

    Such a sum is a membrane's, and no event. Being linear, the reader may stand behind each branch of
    the sum instead (*push*: exact, composed in float64), which multiplies kernels; or a relay sends the
    sum, rounded to levels of 16 bits on the calibration inputs, and the reader's weights take its counts
    (approximate). The fewer synaptic operations and neuron updates decide, estimated on calibration
    inputs; where the branches cannot take the reader, or chips cannot relay, there is no choice. A relay
    that a host computes takes its readers there, so that it is for readers which nothing else takes.

    Attributes:
        calibration: inputs [N, T, *shape].
        relays: whether events may carry sums, and weights stand before powers of two.
        hosted: whether a host may relay what the chip cannot.
        told: what was chosen, for people; filled by :meth:`run`.
    """

    name: ClassVar[str] = "stream-readers"
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-scale",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    calibration: Array = field(compare=False)
    relays: bool = False
    hosted: bool = False
    told: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def preserves(self) -> Semantics:
        """EXACT where no sum may be relayed."""
        return Semantics.APPROXIMATE if self.relays or self.hosted else Semantics.EXACT

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        readers = tuple(stream_readers(graph))
        if not readers:
            return graph
        rewriting = _Rewriting(graph, self, _activity(graph, readers, self.calibration))
        nodes = rewriting.run({n.name for n in readers})
        self.told[:] = [str(choice) for choice in rewriting.choices if choice.name in {n.name for n in nodes}]
        return replace(graph, nodes=nodes)


Reader = Weighted | SumPool2d


def stream_readers(graph: Graph) -> Iterator[Reader]:
    """Weights and pools that read currents of spikes, in order."""
    analog = computed_by_host(graph)
    for node in graph.nodes:
        reads = isinstance(node, Reader) and isinstance(graph.types[node.inputs[0]], Current)
        if reads and node.name not in analog:
            assert isinstance(node, Reader)
            yield node


@dataclass(frozen=True)
class _Activity:
    """Events a sample of each value, and its largest size, on the calibration inputs."""

    events: dict[str, float]
    largest: dict[str, float]


def _activity(graph: Graph, readers: tuple[Reader, ...], calibration: Array) -> _Activity:
    read = {n.inputs[0] for n in readers}
    read |= {graph.by_name[i].inputs[0] for i in read if isinstance(graph.by_name[i], Reshape)}
    spikes = {name: kind for name, kind in graph.types.items() if isinstance(kind, Spikes)}
    kept = (*spikes, *read) if len(calibration) <= _PROBED else tuple(spikes)
    few = in_chunks(graph, calibration[:_PROBED], kept).values
    all_ = few if len(calibration) <= _PROBED else in_chunks(graph, calibration, tuple(read)).values
    # What a relay sends is one event, whatever its sign and size.
    sent = {name: v != 0 if spikes[name].signed else v for name, v in few.items() if name in spikes}
    events = {name: float(v.sum()) / len(v) for name, v in sent.items()}
    events |= {name: float(np.count_nonzero(all_[name])) / len(calibration) for name in read}
    return _Activity(events, {name: float(np.abs(all_[name]).max(initial=0)) for name in read})


@dataclass(frozen=True)
class _Choice:
    """Both lowerings of a reader: operations a sample, and neurons; None where one cannot be."""

    name: str
    where: str
    push: int | None
    relay: int | None
    neurons: int

    @property
    def relayed(self) -> bool:
        """Whether the relay is chosen: where it takes less, or where nothing else is possible."""
        if self.push is None or self.relay is None:
            return self.push is None
        return self.relay + self.neurons < self.push

    def __str__(self) -> str:
        push = "is not possible" if self.push is None else f"takes {self.push:,} synaptic operations a sample"
        relay = "is not possible"
        if self.relay is not None:
            relay = f"{self.relay:,} and {self.neurons:,} neurons"
        chosen = "relay (approximate)" if self.relayed else "push"
        return f"{self.where} reads a sum of currents: push {push}, relay {relay}; chosen: {chosen}"


class _Rewriting:
    """One run: new nodes in order, with their types."""

    def __init__(self, graph: Graph, options: StreamReaders, activity: _Activity) -> None:
        self.graph = graph
        self.options = options
        self.activity = activity
        self.analog = computed_by_host(graph)
        self.nodes: dict[str, Node] = {}
        self.types: dict[str, ValueType] = {}
        self.choices: list[_Choice] = []
        self.problems: list[Problem] = []
        self.inner: set[str] = set()

    def run(self, readers: set[str]) -> tuple[Node, ...]:
        self.inner = {name for name in readers if self._only_before(name, readers)}
        for node in self.graph.nodes:
            if node.name in self.inner:
                continue
            if node.name in readers:
                assert isinstance(node, Reader)
                self._lower(node)
            elif all(i in self.types for i in node.inputs):
                self._keep(node)
        raise_all(self.problems)
        return tuple(_alive(self.nodes))

    def _only_before(self, name: str, readers: set[str]) -> bool:
        """Whether a pool is read by readers alone, which then take it in."""
        node, behind = self.graph.by_name[name], list[Node]()
        for reader in self.graph.readers[name]:
            behind += self.graph.readers[reader.name] if isinstance(reader, Reshape) else (reader,)
        return isinstance(node, SumPool2d) and all(n.name in readers for n in behind)

    def _keep(self, node: Node) -> None:
        self.nodes[node.name] = node
        self.types[node.name] = node.infer(tuple(self.types[i] for i in node.inputs))

    def _lower(self, node: Reader) -> None:
        value, kernel = self._kernel(node)
        choice = self._choice(node, value, kernel)
        if choice.push is None and not (self.options.relays or self.options.hosted):
            what, hint = "its sums cannot be taken into the branches", "--target sim, whose events carry sums"
            self.problems.append(problem("SNNC-M018", describe(node), what, got=f"%{value}", hint=hint))
            return
        self.choices.append(choice)
        if choice.relayed:
            unit = np.float64(self._relay(value))
            parts: list[Node] = [
                as_node(replace(kernel, weight=kernel.weight * unit), node, (f"{value}.levels",))
            ]
        else:
            parts = self._pushed(node, kernel, value, f"{node.name}.of")
        for part in parts[:-1]:
            self._keep(part)
        self._finish(node, parts[-1])

    def _finish(self, node: Reader, last: Node) -> None:
        """The last node under the reader's name, and in its shape."""
        shape = self.graph.types[node.name].shape
        made = last.infer(tuple(self.types[i] for i in last.inputs)).shape
        if made == shape:
            self._keep(replace(last, name=node.name))
            return
        inner = f"{node.name}.map"
        self._keep(replace(last, name=inner))
        self._keep(Reshape(name=node.name, inputs=(inner,), source=node.source, shape=shape))

    def _kernel(self, node: Reader) -> tuple[str, Kernel]:
        """The value that a reader reads, views and pools skipped, and what it computes of it."""
        value = node.inputs[0]
        if isinstance(node, SumPool2d):
            return value, _pooling(node, self.graph.types[value].shape[0])
        kernel = kernel_of(node, self.graph.types[value].shape)
        before = self.graph.by_name[value]
        if isinstance(node, Linear) and isinstance(before, Reshape):
            shape = self.graph.types[before.inputs[0]].shape
            if len(shape) == 3:
                kernel = replace(kernel, weight=kernel.weight.reshape(-1, *shape), vector=False)
                value, before = before.inputs[0], self.graph.by_name[before.inputs[0]]
        if value in self.inner:
            assert isinstance(before, SumPool2d)
            _, rows, columns = self.graph.types[before.inputs[0]].shape
            both = compose(_pooling(before, kernel.weight.shape[1] * kernel.groups), kernel, (rows, columns))
            assert isinstance(both, Kernel), "a pool pads nothing and has no bias"
            return before.inputs[0], both
        return value, kernel

    def _pushed(self, node: Reader, kernel: Kernel, value: str, name: str) -> list[Node]:
        """Nodes that compute ``kernel`` of a value from its branches, which take it; the result last."""
        before = self.nodes[value]
        if value in self.analog:
            return [replace(as_node(kernel, node, (value,)), name=name)]
        if isinstance(before, Weighted):
            first, size = self._first(before)
            both = compose(first, kernel, size)
            assert isinstance(both, Kernel), "its outline was not refused"
            return [replace(as_node(both, node, before.inputs), name=name)]
        made: list[Node] = []
        ends: list[str] = []
        for i, branch in enumerate(before.inputs):
            own = kernel if i == 0 else replace(kernel, bias=np.zeros_like(kernel.bias))
            made += self._pushed(node, own, branch, f"{name}.{i}")
            ends.append(made[-1].name)
        return [*made, Add(name=name, inputs=tuple(ends), source=node.source)]

    def _push_cost(self, kernel: Kernel, value: str) -> int | None:
        """Synaptic operations a sample of :meth:`_pushed`; None where a branch takes no kernel.

        From outlines: composed kernels can be far larger than both, so that only chosen ones are made.
        """
        before = self.nodes[value]
        if value in self.analog:
            return 0
        if isinstance(before, Weighted):
            first, size = self._first(before)
            both, source = outline(first, kernel, size), before.inputs[0]
            rows = isinstance(before, Linear) and len(self.types[source].shape) != 1
            return None if rows or isinstance(both, Refused) else self._operations(source, both, size)
        if not isinstance(before, Add):
            return None
        costs = [self._push_cost(kernel, branch) for branch in before.inputs]
        return None if None in costs else sum(c for c in costs if c is not None)

    def _first(self, before: Weighted) -> tuple[Kernel, Pair]:
        """What weights compute, and rows and columns of what they read."""
        shape = self.types[before.inputs[0]].shape
        return kernel_of(before, shape), (shape[1], shape[2]) if len(shape) == 3 else (1, 1)

    def _choice(self, node: Reader, value: str, kernel: Kernel) -> _Choice:
        elements, push = math.prod(self.types[value].shape), self._push_cost(kernel, value)
        relay = None
        if self.options.relays or push is None:
            events = self.activity.events.get(value, float(elements * self.graph.steps))
            outputs = math.prod(self.graph.types[node.name].shape[1:] or (1,))
            relay = round(events * kernel.weight.size * outputs / elements)
        neurons = 0 if f"{value}.levels" in self.nodes else elements
        return _Choice(node.name, describe(node), push, relay, neurons)

    def _operations(self, source: str, kernel: Kernel, size: Pair) -> int:
        """Synaptic operations a sample: events times the mean number of outputs that one reaches."""
        if source not in self.activity.events or source in self.analog:
            return 0
        dense = kernel.groups if kernel.vector else 1  # a linear layer holds the zeros between groups, too
        each = dense * kernel.macs(size) / math.prod(self.types[source].shape)
        return round(self.activity.events[source] * each)

    def _relay(self, value: str) -> float:
        """What one count of the value's relay is worth; the relay is made where there is none."""
        largest = self.activity.largest.get(value, 0.0)
        unit = float(np.float32(largest / (2 ** (_LEVEL_BITS - 1) - 1))) or 1.0
        if f"{value}.levels" not in self.nodes:
            self._keep(
                Neuron(
                    name=f"{value}.levels",
                    inputs=(value,),
                    source=self.nodes[value].source,
                    threshold=unit,
                    max_spikes=UNBOUNDED,
                    signed=True,
                    rounding=Rounding.HALF_EVEN,
                )
            )
        return unit


def _pooling(node: SumPool2d, channels: int) -> Kernel:
    ones = np.ones((channels, 1, *node.kernel))
    return Kernel(ones, np.zeros(channels), node.stride, node.padding, groups=channels)


def _alive(nodes: dict[str, Node]) -> Iterator[Node]:
    """Nodes that the last one depends on, in order."""
    wanted = {list(nodes)[-1]}
    for node in reversed(list(nodes.values())):
        if node.name in wanted:
            wanted |= set(node.inputs)
    return (n for n in nodes.values() if n.name in wanted or not n.inputs)
