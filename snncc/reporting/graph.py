"""Tables about a graph: every node with its type, neuron parameters, operations and module."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from snncc.analysis.operations import NodeCost, Operand, node_costs
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.layers import AnyNeuron
from snncc.ir.node import Node
from snncc.ir.text import attributes
from snncc.reporting.numbers import count
from snncc.reporting.tables import Table, columns


def node_table(graph: Graph) -> Table:
    """Every node: what it reads, the type it delivers, parameters, dense operations, module."""
    costs = {c.name: c for c in node_costs(graph)}
    rows = tuple(_row(graph, node, costs.get(node.name)) for node in graph.nodes)
    total = (
        "total", "", "", "", "",
        count(sum(c.parameters for c in costs.values())),
        count(sum(c.operations for c in costs.values())),
        "", "",
    )  # fmt: skip
    heads = columns(
        "value", "kind", "reads", "type", "neuron", "#parameters", "#operations", "operand", "module"
    )
    notes = (
        "operations: dense, a sample with all timesteps, padding taps included; on real values each is a "
        "multiply-accumulate, on spikes an accumulate for every spike.",
    )
    return Table(
        f"{graph.family} graph {graph.name}, {graph.steps} timestep{'s' if graph.steps > 1 else ''}",
        heads,
        rows,
        total=total,
        notes=notes,
    )


def _row(graph: Graph, node: Node, cost: NodeCost | None) -> tuple[str, ...]:
    operations = "" if cost is None or not cost.operations else count(cost.operations)
    parameters = "" if cost is None or not cost.parameters else count(cost.parameters)
    operand = "" if cost is None or cost.operand is None else str(cost.operand)
    return (
        node.name, node.kind, " ".join(node.inputs), str(graph.types[node.name]), neuron_text(node),
        parameters, operations, operand, node.source,
    )  # fmt: skip


def neuron_text(node: Node) -> str:
    """Parameters of a neuron that are not at their default, as the text form has them."""
    if not isinstance(node, AnyNeuron):
        return f"{len(node.body.nodes)} nodes on the host" if isinstance(node, HostRegion) else ""
    return ", ".join(f"{k}={v}" for k, v in attributes(node).items() if k != "source")


def real_edges(graph: Graph) -> list[NodeCost]:
    """Weighted nodes that see real values: the multiply-accumulates of the network."""
    return [c for c in node_costs(graph) if c.operand is Operand.REAL]


def real_edge_notes(graph: Graph) -> list[str]:
    """One line a weighted node that real values reach, for ``snncc check``."""
    return [
        f"%{c.name}{f' ({c.source})' if c.source else ''}: {count(c.operations)} operations on real values"
        + (", on the host" if c.on_host else "")
        for c in real_edges(graph)
    ]


def node_documents(graph: Graph) -> list[dict[str, Any]]:
    """Nodes as plain JSON values."""
    costs = {c.name: c for c in node_costs(graph)}
    found = []
    for node in graph.nodes:
        kind = graph.types[node.name]
        entry: dict[str, Any] = {
            "name": node.name,
            "kind": node.kind,
            "inputs": list(node.inputs),
            "type": str(kind),
            "shape": list(kind.shape),
            "levels": getattr(kind, "levels", None),
            "source": node.source,
            "attributes": {k: v for k, v in attributes(node).items() if k != "source"},
        }
        cost = costs.get(node.name)
        if cost is not None:
            entry |= {k: v for k, v in asdict(cost).items() if k not in ("name", "source")}
        found.append(entry)
    return found
