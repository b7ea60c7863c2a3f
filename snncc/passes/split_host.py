"""split-host: what stands before the first spike becomes parts that the host computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.analysis.sites import open_maps
from snncc.errors import Problem, fail, problem, raise_all
from snncc.ir import Add, Current, Family, Graph, HostRegion, Input, Neuron, Node, Output
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics, describe
from snncc.passes.identity import identity, kept_closed

_SPIKES_HINT = "a neuron in front of the first weights, or input_levels where the inputs are spikes already"
_ANALOG = "the whole network is analog: no neuron stands between input and output"


@dataclass(frozen=True)
class SplitHost:
    """Moves the analog stem, up to and with its first neurons, into host regions.

    Mostly one neuron ends the stem, and one region holds both. Where several do, or where the stem adds
    a current to sums of spikes (a membrane shortcut), each gets a region of its own, and what they share
    is one more, computed once. Such a current stays real here, behind weights of one; quantize turns it
    into signed counts at the scale of the sum. Nothing changes if the network's input is spikes already.
    """

    name: ClassVar[str] = "split-host"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ("fold-scale",)
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        if not isinstance(graph.types[graph.input.name], Current):
            return graph
        stem = _stem_of(graph)
        raise_all(_problems(graph, stem))
        nodes = [*_regions(graph, stem), *_behind(graph, stem)]
        if not any(isinstance(n, Neuron) for n in nodes):
            raise fail(
                "SNNC-M018",
                describe(stem.encoders[0]),
                "the host computes the whole network: its only neurons make spikes of real values",
                hint=_SPIKES_HINT,
            )
        return replace(graph, nodes=(graph.input, *nodes))


@dataclass(frozen=True)
class _Stem:
    """What sees real values.

    Attributes:
        analog: the input and what is computed of it before any neuron, in order, by name.
        encoders: the neurons behind it.
        mixers: what else reads it: sums of spikes, the output.
    """

    analog: Mapping[str, Node]
    encoders: tuple[Neuron, ...]
    mixers: tuple[Node, ...]

    @property
    def currents(self) -> dict[str, Node]:
        """Analog values that are added to sums of spikes."""
        read = {name for node in self.mixers for name in node.inputs}
        return {name: node for name, node in self.analog.items() if name in read}


def _stem_of(graph: Graph) -> _Stem:
    analog: dict[str, Node] = {graph.input.name: graph.input}
    encoders: list[Neuron] = []
    mixers: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Input) or not any(name in analog for name in node.inputs):
            continue
        if isinstance(node, Neuron):
            encoders.append(node)
        elif isinstance(node, Output) or not all(name in analog for name in node.inputs):
            mixers.append(node)
        else:
            analog[node.name] = node
    return _Stem(analog, tuple(encoders), tuple(mixers))


def _problems(graph: Graph, stem: _Stem) -> Iterator[Problem]:
    for node in (*stem.mixers, *stem.encoders):
        if isinstance(node, Output) or (isinstance(node, Neuron) and node.is_readout):
            yield problem("SNNC-M018", describe(node), _ANALOG, hint=_SPIKES_HINT)
        elif not isinstance(node, Neuron | Add):
            got = ", ".join(f"%{n}" for n in node.inputs)
            what, hint = "mixes the analog stem with spikes", "a neuron behind the stem, or a sum"
            yield problem("SNNC-M018", describe(node), what, got=got, hint=hint)
    if graph.input.name in stem.currents:
        what = "the network's input is added to sums of spikes"
        yield problem("SNNC-M018", describe(graph.input), what, hint="weights or a neuron in between")


def _regions(graph: Graph, stem: _Stem) -> Iterator[HostRegion]:
    """Host regions in order: currents and what several regions share, then a region an encoder."""
    ends = (*stem.currents.values(), *stem.encoders)
    cuts = {n.name for n in ends} | (_shared(graph, stem) if len(ends) > 1 else set())
    for node in (*stem.analog.values(), *stem.encoders):
        if node.name in cuts:
            yield _region(graph, node, stem, cuts - {node.name})


def _shared(graph: Graph, stem: _Stem) -> set[str]:
    """Computed analog values that several nodes read."""
    return {n for n in stem.analog if len(graph.readers[n]) > 1 and n != graph.input.name}


def _region(graph: Graph, end: Node, stem: _Stem, cuts: set[str]) -> HostRegion:
    """The region that gives ``end``; it reads another's values, or the network's input where it needs two."""
    inside, starts = _ancestors(end, stem, {*cuts, graph.input.name})
    if len(starts) > 1:
        inside, starts = _ancestors(end, stem, {graph.input.name})
    (start,) = starts
    begin = graph.input if start == graph.input.name else Input(name=start, shape=graph.types[start].shape)
    order = [n for n in graph.nodes if n.name in inside]
    body = (begin, *order, Output(name=f"{end.name}.out", inputs=(end.name,)))
    own = Graph(f"{graph.name}.host", graph.family, body, graph.steps)
    return HostRegion(name=end.name, inputs=(start,), source=end.source, body=own)


def _ancestors(end: Node, stem: _Stem, stops: set[str]) -> tuple[set[str], set[str]]:
    """Names of the nodes from ``end`` back to ``stops``, and of the stops."""
    inside, starts, waiting = {end.name}, set[str](), [*end.inputs]
    while waiting:
        name = waiting.pop()
        if name in stops:
            starts.add(name)
        elif name not in inside:
            inside.add(name)
            waiting += stem.analog[name].inputs
    return inside, starts


def _behind(graph: Graph, stem: _Stem) -> Iterator[Node]:
    """The rest of the network; sums read currents of the host through weights of one."""
    gone = {*stem.analog, *(n.name for n in stem.encoders)}
    mixers, maps = {n.name for n in stem.mixers}, open_maps(graph)
    for node in graph.nodes:
        if node.name in gone:
            continue
        if node.name not in mixers:
            yield node
            continue
        names = {i: f"{node.name}.from.{i}" for i in node.inputs if i in stem.analog}
        for i, name in names.items():
            weights = identity(name, i, graph.types[i].shape, node.source, np.float32)
            passed = kept_closed(weights, maps[i])
            yield from passed
            names[i] = passed[-1].name
        yield replace(node, inputs=tuple(names.get(i, i) for i in node.inputs))
