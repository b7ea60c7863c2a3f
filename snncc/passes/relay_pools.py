"""relay-pools: a maximum reads whole numbers or single trains, never sums in the making."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.ir import (
    Current,
    Family,
    Graph,
    HostRegion,
    Input,
    IntegerNeuron,
    MaxPool2d,
    Node,
)
from snncc.ir.node import INTEGER_ONLY, describe
from snncc.passes.base import Semantics
from snncc.passes.identity import identity
from snncc.passes.relays import relay


@dataclass(frozen=True)
class RelayPools:
    """Puts relays in front of the maxima of an integer graph that cannot be taken spike by spike.

    The maximum of aligned trains is an OR in each micro-step, for each train is a run of ones
    (docs/semantics.md#pools). That of currents, or of several trains added up, is not: micro-step by
    micro-step 1 + 1 and 2 + 0 have the maxima 2 and 1, which is one too many. There a relay adds the
    sum up and sends it as one event.
    """

    name: ClassVar[str] = "relay-pools"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        nodes: list[Node] = []
        relayed: set[str] = set()
        for node in graph.nodes:
            read = node.inputs[0] if isinstance(node, MaxPool2d) else ""
            if not read or isinstance(graph.by_name[read], Input | HostRegion | IntegerNeuron):
                nodes.append(node)
                continue
            if read not in relayed:
                nodes += _relays(graph, read)
                relayed.add(read)
            nodes.append(replace(node, inputs=(relay_name(read),)))
        return replace(graph, nodes=tuple(nodes))


def relay_name(name: str) -> str:
    """Of the relay in front of the maxima of a value."""
    return f"{name}.to-max"


def _relays(graph: Graph, name: str) -> tuple[Node, ...]:
    node, kind = graph.by_name[name], graph.types[name]
    if isinstance(kind, Current):
        return (relay(relay_name(name), name, node.source),)
    summed = identity(f"{name}.summed", name, kind.shape, node.source)
    return summed, relay(relay_name(name), summed.name, node.source)


def pool_notes(graph: Graph) -> tuple[str, ...]:
    """What a user should know of the maxima in a legalised integer graph, for its certificate."""
    return tuple(
        f"{describe(node)}: the maximum is taken of sums, which a relay adds up and sends as signed events"
        for node in graph.nodes
        if isinstance(node, MaxPool2d) and _is_relay(graph.by_name[node.inputs[0]])
    )


def _is_relay(node: Node) -> bool:
    return isinstance(node, IntegerNeuron) and bool(node.cell.signed)
