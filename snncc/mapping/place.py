"""Placement of pieces on cores that differ: bipartite matching, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from snncc.errors import Problem, problem
from snncc.hw.spec import CoreSpec


@dataclass(frozen=True)
class Need:
    """Memory words that one piece asks of a core."""

    piece: str
    kernel_words: int
    neuron_words: int

    def fits(self, core: CoreSpec) -> bool:
        """Whether the core holds both."""
        return self.kernel_words <= core.kernel_words and self.neuron_words <= core.neuron_words


def place(
    needs: Sequence[Need], cores: Sequence[CoreSpec], avoid: frozenset[int] = frozenset()
) -> Mapping[str, int] | Problem:
    """A core for every piece, or the problem that names the pieces which compete.

    Cores in ``avoid`` are used only if there is no placement without them. Among several
    matchings the one of networkx's Hopcroft-Karp is taken; it is deterministic.
    """
    matched: dict[str, int] = {}
    for allowed in ([c for c in cores if c.id not in avoid], list(cores)):
        matched = _matching(needs, allowed)
        if len(matched) == len(needs):
            return matched
    return _explain(needs, cores, matched)


def _matching(needs: Sequence[Need], cores: Sequence[CoreSpec]) -> dict[str, int]:
    # Pieces are numbered -1, -2, ...: networkx walks sets, and the order of a set of names is
    # another in every process, hence so would be the matching.
    pieces = [-1 - i for i in range(len(needs))]
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(pieces)
    graph.add_edges_from((i, c.id) for i, n in zip(pieces, needs, strict=True) for c in cores if n.fits(c))
    pairs = nx.bipartite.hopcroft_karp_matching(graph, top_nodes=pieces)
    return {n.piece: pairs[i] for i, n in zip(pieces, needs, strict=True) if i in pairs}


def _explain(needs: Sequence[Need], cores: Sequence[CoreSpec], matched: Mapping[str, int]) -> Problem:
    """Hall's theorem: an unmatched piece and all that alternating paths reach compete for too few cores."""
    holder = {core: piece for piece, core in matched.items()}
    by_name = {n.piece: n for n in needs}
    competing = [next(n.piece for n in needs if n.piece not in matched)]
    wanted: set[int] = set()
    for name in competing:  # grows while it is walked
        for core in (c for c in cores if by_name[name].fits(c)):
            wanted.add(core.id)
            other = holder.get(core.id)
            if other is not None and other not in competing:
                competing.append(other)
    layers = ", ".join(
        f"%{n} ({by_name[n].kernel_words:,} kernel and {by_name[n].neuron_words:,} neuron words)"
        for n in competing
    )
    return problem(
        "SNNC-C004",
        layers,
        "these layers compete for the same cores, the only ones whose memories hold them",
        got=f"{len(competing)} layers",
        limit=f"{len(wanted)} cores ({', '.join(map(str, sorted(wanted)))})",
        hint="fewer channels or smaller maps in one of them",
    )
