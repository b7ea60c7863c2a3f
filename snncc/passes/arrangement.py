"""Arrangements: a value of one graph as the elements of a value of another, in another order and shape.

Reshapes and permutations are kept as *atoms*: factors of a map [C, H, W] (or of a vector [C]) in
row-major order, and the order in which a value has them. A reshape that cuts atoms splits them; only
where its cuts and theirs do not nest is there no such form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from snncc.arrays import Array

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Atom:
    """A factor of a map, larger than one.

    Attributes:
        size: elements.
        axis: of the map that it is a factor of: 0 channels, 1 rows, 2 columns.
    """

    size: int
    axis: int


@dataclass(frozen=True)
class Arranged:
    """A value that a node holds in one order of its map's atoms and that another graph has in its own.

    Attributes:
        name: the node that holds it.
        atoms: of the map, its *home*, in row-major order.
        held: order in which the node has them.
        held_shape: the node's shape.
        order: order in which the other graph has them.
        shape: the other graph's shape.
        rank: of the home: 3 for [C, H, W], 1 for [C].
    """

    name: str
    atoms: tuple[Atom, ...]
    held: tuple[int, ...]
    held_shape: Shape
    order: tuple[int, ...]
    shape: Shape
    rank: int

    @property
    def home(self) -> Shape:
        """Shape of the map."""
        return tuple(math.prod(a.size for a in self.atoms if a.axis == i) for i in range(self.rank))

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """Atoms of each axis of ``shape``."""
        found, rest = list[tuple[int, ...]](), list(self.order)
        for size in self.shape:
            run: list[int] = []
            while math.prod(self.atoms[i].size for i in run) < size:
                run.append(rest.pop(0))
            found.append(tuple(run))
        return tuple(found)

    @property
    def channels(self) -> tuple[int, ...]:
        """Atoms of the channels."""
        return tuple(i for i, a in enumerate(self.atoms) if a.axis == 0)

    @property
    def straight(self) -> tuple[int, ...]:
        """The home's own order."""
        return tuple(range(len(self.atoms)))

    @property
    def is_home(self) -> bool:
        """Whether the other graph has the map itself."""
        return self.order == self.straight and self.shape == self.home

    def at_home(self, name: str) -> Arranged:
        """The same arrangement of a node that holds the map itself."""
        return replace(self, name=name, held=self.straight, held_shape=self.home)

    def as_it_stands(self, name: str) -> Arranged:
        """The same arrangement of a node that holds the value as the other graph has it."""
        return replace(self, name=name, held=self.order, held_shape=self.shape)

    def permuted(self, axes: Sequence[int]) -> Arranged:
        """The other graph's value with its axes reordered."""
        runs = self.runs
        order = tuple(i for a in axes for i in runs[a])
        return replace(self, order=order, shape=tuple(self.shape[a] for a in axes))

    def reshaped(self, shape: Shape) -> Arranged | None:
        """The other graph's value with another shape; None where it cuts across atoms."""
        cut = self.cut(_inner(shape))
        return cut and replace(cut, shape=shape)

    def cut(self, inner: Sequence[int]) -> Arranged | None:
        """The same with atoms that end wherever ``inner`` elements follow, in the other graph's order."""
        sizes = [self.atoms[i].size for i in self.order]
        ends = sorted({*_inner(sizes), *inner, math.prod(sizes)}, reverse=True)
        if any(a % b for a, b in pairwise(ends)):
            return None
        parts: dict[int, list[int]] = {}
        for i, right, size in zip(self.order, _inner(sizes), sizes, strict=True):
            inside = [e for e in ends if right <= e <= right * size]
            parts[i] = [a // b for a, b in pairwise(inside)]
        return self._split(parts)

    def _split(self, parts: dict[int, list[int]]) -> Arranged:
        """The same with atom ``i`` as the factors ``parts[i]``."""
        first = np.cumsum([0, *(len(parts[i]) for i in self.straight)])
        new = {i: tuple(range(first[i], first[i + 1])) for i in self.straight}
        atoms = tuple(Atom(size, a.axis) for i, a in enumerate(self.atoms) for size in parts[i])
        held, order = (tuple(k for i in old for k in new[i]) for old in (self.held, self.order))
        return replace(self, atoms=atoms, held=held, order=order)

    def replaced(self, along: int, size: int, shape: Shape, name: str) -> Arranged:
        """Behind a node that holds the map with ``size`` elements in place of the channels' along one axis.

        The axis ``along`` of the other graph holds neighbouring channel atoms and nothing else.
        """
        runs = self.runs
        old = runs[along]
        place = min(old, default=0)
        atoms = (*self.atoms[:place], Atom(size, 0), *self.atoms[place + len(old) :])
        moved = [[i if i < place else i + 1 - len(old) for i in run] for run in runs]
        moved[along] = [place]
        order = tuple(i for run in moved for i in run)
        grown = replace(self, atoms=atoms, order=order)
        return grown.only([i for i, a in enumerate(atoms) if a.size > 1], shape, self.rank, name)

    def only(self, keep: Sequence[int], shape: Shape, rank: int, name: str) -> Arranged:
        """Behind a node that holds a map of the atoms ``keep`` alone."""
        number = {i: n for n, i in enumerate(sorted(keep))}
        atoms = tuple(self.atoms[i] for i in sorted(keep))
        order = tuple(number[i] for i in self.order if i in number)
        bare = Arranged(name, atoms, (), (), order, shape, rank)
        return bare.at_home(name)

    def per_channel(self, values: Array) -> Array | None:
        """Numbers [n] along the other graph's first axis as those of channels, [C]; None if they are not."""
        run, channels = self.runs[0], self.channels
        if not set(run) <= set(channels):
            return None
        grid = values.reshape([self.atoms[i].size for i in run])
        grid = grid.transpose(np.argsort(np.array(run, int)))
        grid = grid.reshape([self.atoms[i].size if i in run else 1 for i in channels])
        return np.broadcast_to(grid, [self.atoms[i].size for i in channels]).reshape(self.home[0])

    def columns(self, weight: Array) -> Array:
        """Weights [O, I] of the other graph's last axis, which has all channels, as weights [O, C]."""
        run = self.runs[-1]
        grid = weight.reshape(len(weight), *(self.atoms[i].size for i in run))
        return grid.transpose(0, *(1 + np.argsort(np.array(run, int)))).reshape(len(weight), -1)

    def as_map(self, values: Array) -> Array:
        """Numbers that broadcast over the other graph's shape, over the home; axes without change are 1."""
        whole = np.broadcast_to(values, self.shape).reshape([self.atoms[i].size for i in self.order])
        whole = whole.transpose(np.argsort(np.array(self.order, int))).reshape(self.home)
        for axis in range(whole.ndim):
            first = whole.take([0], axis)
            whole = first if (whole == first).all() else whole
        return whole

    def brought(self, values: Array) -> Array:
        """Values [N, T, *shape] of the other graph as the node holds them, [N, T, *held_shape]."""
        lead = values.shape[:2]
        split = values.reshape(*lead, *(self.atoms[i].size for i in self.order))
        axes = (self.order.index(i) for i in self.held)
        return split.transpose(0, 1, *(2 + a for a in axes)).reshape(*lead, *self.held_shape)

    def moves(self, order: tuple[int, ...], shape: Shape) -> list[tuple[str, Shape]]:
        """The fewest reshapes and permutations that make ``order`` and ``shape`` of what is held."""
        if order == self.held:
            return [] if shape == self.held_shape else [("reshape", shape)]
        blocks = _blocks(self.held, order)
        sizes = tuple(math.prod(self.atoms[i].size for i in block) for block in blocks)
        axes = tuple(sorted(range(len(blocks)), key=lambda b: order.index(blocks[b][0])))
        first = [("reshape", sizes)] if sizes != self.held_shape else []
        last = [("reshape", shape)] if tuple(sizes[a] for a in axes) != shape else []
        return [*first, ("permute", axes), *last]


def arranged(name: str, home: Shape, shape: Shape) -> Arranged:
    """A node that holds a map [C, H, W] or a vector [C], which the other graph has as ``shape``."""
    atoms = tuple(Atom(n, axis) for axis, n in enumerate(home) if n > 1)
    straight = tuple(range(len(atoms)))
    found = Arranged(name, atoms, straight, home, straight, home, len(home)).reshaped(shape)
    assert found is not None, "a map's cuts are cuts of any shape that keeps them"
    return found


def labelled(name: str, shape: Shape, axes: Sequence[Sequence[tuple[Atom, int]]]) -> Arranged:
    """A node in the other graph's own layout, from the atoms along each axis and their places at home."""
    along = [entry for axis in axes for entry in axis]
    flat = [(atom.axis, place, position, atom) for position, (atom, place) in enumerate(along)]
    ordered = sorted(flat, key=lambda entry: entry[:3])
    number = {position: n for n, (_, _, position, _) in enumerate(ordered)}
    order = tuple(number[p] for p in range(len(flat)))
    return Arranged(name, tuple(e[3] for e in ordered), order, shape, order, shape, 3)


def aligned(one: Arranged, other: Arranged) -> tuple[Arranged, Arranged, tuple[int, ...], Shape] | None:
    """Two values that are combined element by element, ``other`` over axes of size one too.

    Returns:
        Both, cut alike, and order and shape in which ``other`` fits the home of ``one``; None where it
        has no such form.
    """
    sizes = tuple(zip(one.shape, other.shape, strict=False))
    if len(one.shape) != len(other.shape) or any(m not in (1, n) for n, m in sizes):
        return None
    for axis, (_, size) in enumerate(sizes):
        ends = {*_ends(one, axis), *_ends(other, axis)} if size > 1 else ()
        a, b = _cut_along(one, axis, ends), _cut_along(other, axis, ends)
        if a is None or b is None:
            return None
        one, other = a, b
    both = zip(one.runs, other.runs, strict=True)
    partner = {i: j for a, b in both if b for i, j in zip(a, b, strict=True)}
    shape = tuple(
        math.prod(a.size for i, a in enumerate(one.atoms) if a.axis == axis and i in partner)
        for axis in range(one.rank)
    )
    if any(m not in (1, n) for n, m in zip(one.home, shape, strict=True)):
        return None
    return one, other, tuple(partner[i] for i in one.straight if i in partner), shape


def _ends(value: Arranged, axis: int) -> list[int]:
    """Elements of an axis that follow each of its atoms."""
    return _inner([value.atoms[i].size for i in value.runs[axis]])


def _cut_along(value: Arranged, axis: int, ends: Iterable[int]) -> Arranged | None:
    after = math.prod(value.shape[axis + 1 :])
    return value.cut([end * after for end in ends])


def _inner(sizes: Sequence[int]) -> list[int]:
    """Elements that follow each of the factors ``sizes``."""
    return [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]


def _blocks(held: tuple[int, ...], order: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Atoms as they are held, those together that stay neighbours."""
    follows = set(pairwise(order))
    blocks: list[tuple[int, ...]] = []
    for i in held:
        together = blocks and (blocks[-1][-1], i) in follows
        blocks = [*blocks[:-1], (*blocks[-1], i)] if together else [*blocks, (i,)]
    return blocks
