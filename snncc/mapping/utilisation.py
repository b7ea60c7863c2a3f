"""What a network takes of the cores of a many-core chip, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snncc.mapping.address import Shape3


@dataclass(frozen=True)
class UtilisationRow:
    """What the blocks of one layer take of their cores.

    Attributes:
        piece: name of the population of neurons; ``layer`` is the module's path.
        block: (C, H, W) of its largest block.
        convolution: whether it has inputs through a shared kernel.
        cores: number of its blocks.
        used: the most that one of them takes of each resource.
    """

    piece: str
    layer: str
    block: Shape3
    convolution: bool
    cores: int
    used: Mapping[str, int]


@dataclass(frozen=True)
class Utilisation:
    """A network's use of the chip, in the form of Intel's compile logs.

    Attributes:
        rows: one a layer, in order of flow.
        limits: of one core, by resource, in the order of the columns.
        headings: of the columns, by resource.
        cores, cores_available, chips: what all layers together take.
        hops, hops_row_major: expected packets of a sample times links they cross, as placed and with
            the blocks in row-major order.
    """

    rows: tuple[UtilisationRow, ...]
    limits: Mapping[str, int]
    headings: Mapping[str, str]
    cores: int
    cores_available: int
    chips: int
    hops: float = 0.0
    hops_row_major: float = 0.0

    def shares(self, row: UtilisationRow) -> tuple[float, ...]:
        """The fraction of a core's limit that a row takes of each resource."""
        return tuple(row.used[r] / limit for r, limit in self.limits.items())

    def text(self) -> str:
        """The table as plain text, last layer first as Intel prints it."""
        head = "|" + "|".join(f"{h:^8}" for h in (*(self.headings[r] for r in self.limits), "Cores")) + "|"
        rule = "|" + "-" * (len(head) - 2) + "|"
        lines = [head, rule]
        for row in reversed(self.rows):
            cells = "|".join(f"{share:8.2%}" for share in self.shares(row))
            c, h, w = row.block
            kind = f"Conv({w}, {h}, {c})" if row.convolution else f"Dense({row.block[0]})"
            lines.append(f"|{cells}|{row.cores:8}|{kind} {row.piece}")
        lines += [rule, f"| Total{self.cores:>{len(head) - 8}}|"]
        return "\n".join(lines)
