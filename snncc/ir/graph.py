"""Immutable graphs: nodes in an order of evaluation, verified and typed when built."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from snncc.errors import Problem, SnnccError, problem, raise_all
from snncc.ir.const import Const
from snncc.ir.layers import AnyNeuron, Layer, layers_of
from snncc.ir.neurons import Delay, numbers
from snncc.ir.node import Node, Trait, only, want
from snncc.ir.ports import Input, Output
from snncc.ir.types import Current, Family, Spikes, ValueType


@dataclass(frozen=True)
class Graph:
    """A network of one family.

    Attributes:
        name: for messages and files.
        family: what the nodes mean.
        nodes: in an order in which every input but a delay's stands before its reader; one
            :class:`Input`, and one :class:`Output`, which stands last.
        steps: timesteps T of one sample.
        micro_steps: period of a timestep in micro-steps (spike graphs; 0 elsewhere).

    Raises:
        ModelError: SNNC-M010, with every broken rule.
    """

    name: str
    family: Family
    nodes: tuple[Node, ...]
    steps: int = 1
    micro_steps: int = 0

    def __post_init__(self) -> None:
        raise_all(_structure_problems(self))
        raise_all(_type_problems(self))

    @cached_property
    def by_name(self) -> MappingProxyType[str, Node]:
        """Nodes by name."""
        return MappingProxyType({n.name: n for n in self.nodes})

    @cached_property
    def types(self) -> MappingProxyType[str, ValueType]:
        """Type of every value."""
        found: dict[str, ValueType] = {}
        for node in self.nodes:
            args = () if isinstance(node, Delay) else tuple(found[i] for i in node.inputs)
            found[node.name] = node.infer(args)
        return MappingProxyType(found)

    @cached_property
    def readers(self) -> MappingProxyType[str, tuple[Node, ...]]:
        """Nodes that read each value."""
        found: dict[str, list[Node]] = {n.name: [] for n in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return MappingProxyType({k: tuple(v) for k, v in found.items()})

    @property
    def input(self) -> Input:
        """The input node."""
        return next(n for n in self.nodes if isinstance(n, Input))

    @property
    def output(self) -> Output:
        """The output node."""
        last = self.nodes[-1]
        assert isinstance(last, Output)
        return last

    @cached_property
    def layers(self) -> MappingProxyType[str, Layer]:
        """Neurons outside host regions with what drives them, by the neuron's name, in order."""
        return MappingProxyType({layer.neuron.name: layer for layer in layers_of(self.nodes)})

    @property
    def neurons(self) -> tuple[AnyNeuron, ...]:
        """All neuron nodes outside host regions, in order."""
        return tuple(layer.neuron for layer in self.layers.values())

    def rewrite(self, change: Callable[[Node], Node | None]) -> Graph:
        """A new graph in which ``change`` replaced nodes; None leaves a node as it is."""
        return replace(self, nodes=tuple(change(n) or n for n in self.nodes))

    def without(self, removed: dict[str, str]) -> Graph:
        """A new graph without the nodes ``removed``, whose readers read the value given for each."""

        def target(name: str) -> str:
            while name in removed:
                name = removed[name]
            return name

        kept = (n for n in self.nodes if n.name not in removed)
        return replace(self, nodes=tuple(replace(n, inputs=tuple(map(target, n.inputs))) for n in kept))

    def constants(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every constant of the graph and of its host regions, by digest."""
        return {c.digest: c.array for c in _constants(self.nodes)}

    def elements(self, name: str) -> int:
        """Number of elements of a value (one sample, one timestep)."""
        return math.prod(self.types[name].shape)


@dataclass(frozen=True, kw_only=True)
class HostRegion(Node):
    """A node that is a float graph that the host computes: what stands before the first spike.

    ``body`` has one input and one output and keeps its own float semantics in every family. A region
    may give real values: to other regions, so that several share what one computes, and in float
    graphs to anything.
    """

    kind = "host"
    body: Graph

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        """See :class:`Node`."""
        x = only(self, args)
        want(self.body.family is Family.FLOAT, self, "body must be a float graph", self.body.family)
        declared = self.body.types[self.body.input.name]
        want(declared == x, self, "input does not fit the body", x, declared)
        return self.body.types[self.body.output.name]


def _constants(nodes: Iterable[Node]) -> Iterator[Const]:
    for node in nodes:
        for value in numbers(node).values():
            if isinstance(value, Const):
                yield value
        if isinstance(node, HostRegion):
            yield from _constants(node.body.nodes)


_A = {Family.FLOAT: "a float", Family.INTEGER: "an integer", Family.SPIKE: "a spike"}


def _structure_problems(graph: Graph) -> Iterator[Problem]:
    def bad(where: str, what: str, got: object = None) -> Problem:
        return problem("SNNC-M010", where, what, got=got)

    if graph.steps < 1:
        yield bad(graph.name, "steps must be at least 1", graph.steps)
    if (graph.micro_steps > 0) != (graph.family is Family.SPIKE):
        yield bad(graph.name, "micro_steps belong to spike graphs and to them alone", graph.micro_steps)
    if sum(isinstance(n, Input) for n in graph.nodes) != 1:
        yield bad(graph.name, "a graph has exactly one input node")
    outputs = [n for n in graph.nodes if isinstance(n, Output)]
    if len(outputs) != 1 or graph.nodes[-1] is not outputs[0]:
        yield bad(graph.name, "a graph has exactly one output node, and it stands last")
    seen: set[str] = set()
    everything = {n.name for n in graph.nodes}
    for node in graph.nodes:
        if node.name in seen:
            yield bad(f"%{node.name}", "two nodes bear this name")
        if graph.family not in node.families:
            yield bad(f"%{node.name}", f"{_A[graph.family]} graph has no such node", node.kind)
        known = everything if isinstance(node, Delay) else seen
        for name in node.inputs:
            if name not in known:
                yield bad(f"%{node.name}", "reads a value that is not defined before it", f"%{name}")
        seen.add(node.name)


def _type_problems(graph: Graph) -> Iterator[Problem]:
    try:
        types = graph.types
    except SnnccError as error:
        yield from error.problems
        return
    for node in graph.nodes:
        if isinstance(node, Delay) and types[node.inputs[0]] != types[node.name]:
            got, declared = types[node.inputs[0]], types[node.name]
            yield problem(
                "SNNC-M010", f"%{node.name}", "delay: declared type differs", got=got, limit=declared
            )
        if graph.family is not Family.FLOAT and not isinstance(node, Input):
            yield from _integer_problems(
                graph.family, node, [types[i] for i in node.inputs], types[node.name]
            )


def _integer_problems(
    family: Family, node: Node, args: list[ValueType], result: ValueType
) -> Iterator[Problem]:
    """Integer and spike graphs hold integers only, but for the analog input of a host region."""
    where = f"%{node.name}"
    if not isinstance(node, HostRegion):
        for arg in args:
            if isinstance(arg, Current) and arg.dtype != "i32":
                yield problem("SNNC-M010", where, "reads real values outside a host region", got=arg)
    if isinstance(node, Output):
        return
    if family is Family.SPIKE and node.has(Trait.WEIGHTED) and getattr(node, "bias", None) is not None:
        yield problem("SNNC-M010", where, "in a spike graph the neurons hold the biases", hint="bias=none")
    for name, value in numbers(node).items():
        if isinstance(value, float) or (isinstance(value, Const) and not value.is_integer):
            yield problem("SNNC-M010", where, f"{name} must be an integer here", got=value)
    if isinstance(result, Spikes) and result.unit != 1.0:
        yield problem("SNNC-M010", where, "spikes carry whole counts here", got=f"unit {result.unit}")
    if isinstance(result, Current) and result.dtype != "i32" and not isinstance(node, HostRegion):
        yield problem("SNNC-M010", where, "a real-valued current outside the host region", got=result)
