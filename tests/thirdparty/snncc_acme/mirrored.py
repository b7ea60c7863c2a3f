"""mirrored: a transposed convolution of stride one is the convolution with the mirrored kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snncc.errors import Problem, problem, raise_all
from snncc.ir import Const, Conv2d, ConvTranspose2d, Family, Graph, Node
from snncc.ir.node import FLOAT_ONLY, describe
from snncc.passes.base import Semantics


@dataclass(frozen=True)
class Mirrored:
    """Lowers transposed convolutions, which the core does not."""

    name: ClassVar[str] = "mirrored"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({ConvTranspose2d})

    def run(self, graph: Graph) -> Graph:
        """See the class.

        Raises:
            ModelError: ACME-M001 for strides other than one.
        """
        raise_all(_strided(graph))
        return graph.rewrite(lambda node: _turned(node) if isinstance(node, ConvTranspose2d) else None)


def _strided(graph: Graph) -> Iterator[Problem]:
    for node in graph.nodes:
        if isinstance(node, ConvTranspose2d) and node.stride != (1, 1):
            hint = "upsampling and a convolution in its place"
            yield problem("ACME-M001", describe(node), "spreads with a stride", got=node.stride, hint=hint)


def _turned(node: ConvTranspose2d) -> Conv2d:
    inner, per_group, high, wide = node.weight.shape
    groups = node.groups
    split = node.weight.array.reshape(groups, inner // groups, per_group, high, wide)
    weight = np.flip(split.swapaxes(1, 2), axis=(3, 4)).reshape(groups * per_group, -1, high, wide)
    (down, right), (dy, dx) = node.padding, node.dilation
    return Conv2d(
        name=node.name,
        inputs=node.inputs,
        source=node.source,
        weight=Const(np.ascontiguousarray(weight)),
        bias=node.bias,
        padding=(dy * (high - 1) - down, dx * (wide - 1) - right),
        dilation=node.dilation,
        groups=groups,
    )
