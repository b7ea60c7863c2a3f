"""Placement of pieces on cores that differ: bipartite matching, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from snncc.errors import Problem, problem
from snncc.hw.spec import CoreKind

Needs = Mapping[str, Mapping[str, int]]
Cores = Mapping[int, CoreKind]


def place(needs: Needs, cores: Cores, avoid: frozenset[int] = frozenset()) -> Mapping[str, int] | Problem:
    """A core for every piece, or the problem that names the pieces which compete.

    Cores in ``avoid`` are used only if there is no placement without them. Among several
    matchings the one of networkx's Hopcroft-Karp is taken; it is deterministic.

    Args:
        needs: what each piece takes of its core, by resource.
        cores: by number.
        avoid: numbers.
    """
    matched: dict[str, int] = {}
    for allowed in ({i: c for i, c in cores.items() if i not in avoid}, cores):
        matched = _matching(needs, allowed)
        if len(matched) == len(needs):
            return matched
    return _explain(needs, cores, matched)


def _fits(need: Mapping[str, int], core: CoreKind) -> bool:
    return all(used <= core.resources[resource].limit for resource, used in need.items())


def _matching(needs: Needs, cores: Cores) -> dict[str, int]:
    # Pieces are numbered -1, -2, ...: networkx walks sets, and the order of a set of names is
    # another in every process, hence so would be the matching.
    pieces = {-1 - i: piece for i, piece in enumerate(needs)}
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(pieces)
    graph.add_edges_from((n, i) for n, p in pieces.items() for i, c in cores.items() if _fits(needs[p], c))
    pairs = nx.bipartite.hopcroft_karp_matching(graph, top_nodes=pieces)
    return {piece: pairs[n] for n, piece in pieces.items() if n in pairs}


def _explain(needs: Needs, cores: Cores, matched: Mapping[str, int]) -> Problem:
    """Hall's theorem: an unmatched piece and all that alternating paths reach compete for too few cores."""
    holder = {core: piece for piece, core in matched.items()}
    competing = [next(piece for piece in needs if piece not in matched)]
    wanted: set[int] = set()
    for piece in competing:  # grows while it is walked
        for core in (i for i, c in cores.items() if _fits(needs[piece], c)):
            wanted.add(core)
            other = holder.get(core)
            if other is not None and other not in competing:
                competing.append(other)
    return problem(
        "SNNC-C004",
        ", ".join(f"%{piece} ({_words(needs[piece])})" for piece in competing),
        "these layers compete for the same cores, the only ones whose memories hold them",
        got=f"{len(competing)} layers",
        limit=f"{len(wanted)} cores ({', '.join(map(str, sorted(wanted)))})",
        hint="fewer channels or smaller maps in one of them",
    )


def _words(need: Mapping[str, int]) -> str:
    return ", ".join(f"{used:,} {resource.replace('_', ' ')}" for resource, used in need.items())
