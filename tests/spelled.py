"""The text form of a graph with its arrays written out, for small ones worked out by hand."""

from __future__ import annotations

from snncc.ir import Graph, to_text


def spelled(graph: Graph) -> str:
    """Text form; in the place of each digest stand the numbers."""
    text = to_text(graph)
    for digest, array in graph.constants().items():
        text = text.replace(f"#{digest}", str(array.tolist()).replace(" ", ""))
    return text
