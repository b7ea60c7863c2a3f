"""Passes and pipelines: a pass is a frozen dataclass whose fields are its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol

import numpy as np

from snncc.errors import Problem, SnnccError, fail, problem, raise_all
from snncc.ir import AddConst, Family, Function, Graph, LayerNorm, MatMul, Node
from snncc.ir.node import describe as describe


class Semantics(StrEnum):
    """What a pass preserves (docs/semantics.md#equivalence)."""

    EXACT = "exact"
    APPROXIMATE = "approximate"


class Pass(Protocol):
    """A rewrite of a graph; it returns a new one.

    What it declares is checked by :class:`Pipeline` before anything runs; ``run`` itself trusts it.
    """

    @property
    def name(self) -> str:
        """As pipelines and messages call it."""
        ...

    @property
    def preserves(self) -> Semantics:
        """Whether its result computes what its graph did."""
        ...

    @property
    def takes(self) -> frozenset[Family]:
        """Families of the graphs that it rewrites."""
        ...

    @property
    def gives(self) -> Family | None:
        """Family of its result; None for that of the graph it got."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the passes whose work it builds on."""
        ...

    @property
    def lowers(self) -> frozenset[type[Node]]:
        """Node kinds that it rewrites as others or, where it gives another family, carries into it."""
        ...

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph.

        Raises:
            ModelError: SNNC-M012, M014, M018 to M024, with what stands against an exact rewriting.
        """
        ...


Observer = Callable[[Pass, Graph, Graph], None]


def spec(one: Pass) -> str:
    """``name{option=value}``; options that are arrays or None are left out."""
    shown = [
        f"{f.name}={getattr(one, f.name)}"
        for f in fields(one)  # type: ignore[arg-type]
        if f.compare and not isinstance(getattr(one, f.name), np.ndarray | None)
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

    def run(self, graph: Graph, first: int = 0, last: int | None = None) -> Graph:
        """Result of all passes, or of those from ``first`` up to ``last``.

        Args:
            graph: what the passes before ``first`` made.
            first: place of the first that runs.
            last: place behind the last that runs.

        Raises:
            UsageError: SNNC-U011 for every pass that cannot stand where it does; nothing has run then.
            ModelError: SNNC-M012 or M017 for every node that none of the passes takes.
            SnnccError: of the failing pass, with a note that names it and those before it.
        """
        passes, family = self.passes, graph.family
        raise_all(p for i, one in enumerate(passes) for p in _lacks(one, passes[:i], family) if i >= first)
        raise_all(not_taken(graph, _until_next_family(passes[first:], family)))
        done = [one.name for one in passes[:first]]
        for one in passes[first:last]:
            try:
                after = _applied(one, graph)
            except SnnccError as error:
                error.add_note(f"in pass {one.name}{_behind(done)}")
                raise
            if self.observe is not None:
                self.observe(one, graph, after)
            graph = after
            done.append(one.name)
        return graph


def placed(passes: Sequence[Pass], own: Sequence[Pass], family: Family = Family.FLOAT) -> tuple[Pass, ...]:
    """``passes``, with each of ``own`` as soon as its family is there and what it comes after has run.

    What nothing makes room for stands last, where :class:`Pipeline` says what it lacks.

    Args:
        passes: of a pipeline, in order.
        own: a backend's or a package's; in this order where several could be next.
        family: of the graph that the pipeline starts from.
    """
    order: list[Pass] = []
    rest, waiting = list(passes), list(own)
    while rest or waiting:
        ready = next((i for i, one in enumerate(waiting) if not any(_lacks(one, order, family))), None)
        if ready is None and not rest:
            return (*order, *waiting)
        order.append(rest.pop(0) if ready is None else waiting.pop(ready))
    return tuple(order)


def _lacks(one: Pass, before: Sequence[Pass], family: Family) -> Iterator[Problem]:
    """What ``one`` needs and would not find behind the passes ``before``, which start from ``family``."""
    for other in before:
        family = other.gives or family
    ran = [other.name for other in before]
    if family not in one.takes:
        wanted = " or ".join(sorted(one.takes))
        yield problem(
            "SNNC-U011",
            f"pass {one.name}",
            f"takes {wanted} graphs",
            got=f"a graph of the {family} family{_behind(ran) or ', and no pass before it'}",
            hint=f"a pass before it that gives {wanted} graphs",
        )
    missing = [name for name in one.after if name not in ran]
    if missing:
        yield problem(
            "SNNC-U011",
            f"pass {one.name}",
            f"builds on {', '.join(one.after)}",
            got=", ".join(ran) or "no pass before it",
            hint=f"{', '.join(missing)} before it",
        )


def _behind(done: Sequence[str]) -> str:
    return f" after {', '.join(done)}" if done else ""


def _until_next_family(passes: Sequence[Pass], family: Family) -> Sequence[Pass]:
    """The passes up to the first that gives another family, this included; none if no pass does."""
    changes = (i for i, one in enumerate(passes) if one.gives not in (None, family))
    return passes[: next(changes, -1) + 1]


def not_taken(graph: Graph, passes: Sequence[Pass]) -> Iterator[Problem]:
    """One problem, SNNC-M012 or M017, for every node that no pass lowers; none where there is no pass."""
    lowered = {kind for one in passes for kind in one.lowers}
    for node in graph.nodes:
        if passes and type(node) not in lowered:
            yield _unlowerable(node)


_WAYS_OUT = {
    MatMul.kind: "a network without attention products",
    AddConst.kind: "the constant as a bias of the weights before it; in 1 - x, counts of n/D as x",
}


def _unlowerable(node: Node) -> Problem:
    if isinstance(node, Function | LayerNorm):
        name = node.op if isinstance(node, Function) else node.kind
        hint = "a neuron in its place, or keep it outside the exported module"
        return problem("SNNC-M017", describe(node), f"{name} is real-valued: no spikes compute it", hint=hint)
    what = f"no pass lowers {node.kind} to spikes yet"
    return problem("SNNC-M012", describe(node), what, hint=_WAYS_OUT.get(node.kind))


def _applied(one: Pass, graph: Graph) -> Graph:
    """The pass's result, of the family that it declares."""
    result = one.run(graph)
    declared = one.gives or graph.family
    if result.family is not declared:
        what = f"says that it gives a graph of the {declared} family"
        raise fail("SNNC-U011", f"pass {one.name}", what, got=result.family)
    return result
