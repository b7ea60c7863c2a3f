"""Powers of two before the weights of a convolution: Loihi's convolutions have none, its linear layers do."""

from __future__ import annotations

from snncc.mapping.mapped import Connection, Mapped
from snncc_loihi.resources import is_dense


def without_exponents(mapped: Mapped) -> Mapped:
    """The same network with 2^e equal convolutions in the place of one whose weights stand before 2^e.

    Neither Lava's models of a convolution nor Intel's for the chip take up the exponent (lava-nc,
    issue 803); their sums are those of the copies, and each copy takes its words and axons. What the host
    computes stays as it is.
    """
    pieces = tuple(
        p if p.on_host else p.model_copy(update={"connections": tuple(_copied(p.connections))})
        for p in mapped.pieces
    )
    return mapped.model_copy(update={"pieces": pieces})


def _copied(connections: tuple[Connection, ...]) -> list[Connection]:
    found: list[Connection] = []
    for c in connections:
        if c.exponent == 0 or is_dense(c.address):
            found.append(c)
            continue
        found += [c.model_copy(update={"exponent": 0})] * 2**c.exponent
    return found
