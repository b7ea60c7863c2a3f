"""split-host: what stands before the first spike becomes a part that the host computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from snncc.errors import fail
from snncc.ir import Current, Family, Graph, HostRegion, Input, Neuron, Node, Output
from snncc.ir.node import FLOAT_ONLY
from snncc.passes.base import Semantics, describe

_SPIKES_HINT = "a neuron in front of the first weights, or input_levels where the inputs are spikes already"


@dataclass(frozen=True)
class SplitHost:
    """Moves the analog stem, up to and with the first neuron, into a host region.

    Nothing changes if the network's input is spikes already.
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
        stem, encoder = _stem(graph)
        head = f"{encoder.name}.out"
        body = Graph(
            f"{graph.name}.host",
            graph.family,
            (*stem, encoder, Output(name=head, inputs=(encoder.name,))),
            graph.steps,
        )
        host = HostRegion(name=encoder.name, inputs=(graph.input.name,), source=encoder.source, body=body)
        inside = {n.name for n in stem} | {encoder.name}
        nodes: list[Node] = [graph.input, host]
        nodes += [n for n in graph.nodes if n.name not in inside and not isinstance(n, Input)]
        if not any(isinstance(n, Neuron) for n in nodes):
            raise fail(
                "SNNC-M018",
                describe(encoder),
                "the host computes the whole network: its only neurons make spikes of real values",
                hint=_SPIKES_HINT,
            )
        return replace(graph, nodes=tuple(nodes))


def _stem(graph: Graph) -> tuple[list[Node], Neuron]:
    """Nodes that see real values (the input among them), and the one neuron that ends them."""
    analog = {graph.input.name}
    stem: list[Node] = [graph.input]
    encoders: list[Neuron] = []
    for node in graph.nodes:
        touched = [name for name in node.inputs if name in analog]
        if not touched:
            continue
        if isinstance(node, Output):
            raise fail(
                "SNNC-M018",
                describe(node),
                "the whole network is analog: no neuron stands between input and output",
                hint=_SPIKES_HINT,
            )
        if len(touched) < len(node.inputs):
            raise fail(
                "SNNC-M018",
                describe(node),
                "mixes the analog stem with spikes",
                got=", ".join(f"%{n}" for n in node.inputs),
            )
        if isinstance(node, Neuron):
            encoders.append(node)
        else:
            analog.add(node.name)
            stem.append(node)
    if len(encoders) != 1:
        names = ", ".join(describe(n) for n in encoders)
        raise fail(
            "SNNC-M018",
            describe(graph.input),
            "the analog stem ends in several neurons",
            got=names,
            limit="1",
            hint="one neuron layer behind the stem",
        )
    if encoders[0].is_readout:
        raise fail(
            "SNNC-M018",
            describe(encoders[0]),
            "the whole network is analog: no neuron stands between input and output",
            hint=_SPIKES_HINT,
        )
    return stem, encoders[0]
