"""Passes and pipelines: a pass is a frozen dataclass whose fields are its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol

import numpy as np

from snncc.errors import SnnccError, raise_all
from snncc.ir.graph import Graph
from snncc.ir.node import describe as describe
from snncc.passes.lowerable import unlowerable


class Semantics(StrEnum):
    """What a pass preserves (DESIGN §5)."""

    EXACT = "exact"
    APPROXIMATE = "approximate"


class Pass(Protocol):
    """A rewrite of a graph; it returns a new one."""

    @property
    def name(self) -> str:
        """As pipelines and messages call it."""
        ...

    @property
    def preserves(self) -> Semantics:
        """What it declares."""
        ...

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph.

        Raises:
            ModelError: SNNC-M012 where no exact rewriting exists, M014 where integers cannot hold it.
        """
        ...


Observer = Callable[[Pass, Graph, Graph], None]


def spec(one: Pass) -> str:
    """``name{option=value}``; options that are arrays or None are left out."""
    shown = [
        f"{f.name}={getattr(one, f.name)}"
        for f in fields(one)  # type: ignore[arg-type]
        if not isinstance(getattr(one, f.name), np.ndarray | None)
    ]
    return one.name + (f"{{{', '.join(shown)}}}" if shown else "")


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. Graphs verify and type themselves when built, so every pass's result is checked.

    Attributes:
        passes: what runs.
        observe: called after each pass with its graph before and after.
    """

    passes: tuple[Pass, ...]
    observe: Observer | None = None

    def run(self, graph: Graph) -> Graph:
        """Result of all passes.

        Raises:
            ModelError: SNNC-M012 for every node that no pass lowers.
            SnnccError: of the failing pass, with a note that names it and those before it.
        """
        raise_all(unlowerable(graph))
        done: list[str] = []
        for one in self.passes:
            try:
                after = one.run(graph)
            except SnnccError as error:
                before = f" after {', '.join(done)}" if done else ""
                error.add_note(f"in pass {one.name}{before}")
                raise
            if self.observe is not None:
                self.observe(one, graph, after)
            graph = after
            done.append(one.name)
        return graph
