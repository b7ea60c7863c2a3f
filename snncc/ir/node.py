"""What every node is: its name and inputs, and the vocabulary of its attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from snncc.errors import fail
from snncc.ir.types import Family, ValueType

ALL = frozenset(Family)
FLOAT_ONLY = frozenset({Family.FLOAT})
INTEGER_ONLY = frozenset({Family.INTEGER})
SPIKE_ONLY = frozenset({Family.SPIKE})

Pair = tuple[int, int]


class Trait(StrEnum):
    """What passes and analyses ask of a node kind in place of its name; see the test of each."""

    WEIGHTED = "weighted"  # multiplies by stored weights
    VIEW = "view"  # only rearranges its input's elements
    MONOTONE = "monotone"  # no larger input makes a smaller result
    LINEAR = "linear"  # biases apart, the result of a sum is the sum of the results: acts on single spikes


class Rounding(StrEnum):
    """How the membrane over the threshold becomes a spike count."""

    FLOOR = "floor"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class Reset(StrEnum):
    """What a spike does to the membrane potential."""

    SUBTRACT = "subtract"
    VALUE = "value"
    NONE = "none"


class SynapseOrder(StrEnum):
    """Order of update of a one-pole synapse with current ``i`` and drive ``x``."""

    ADD_READ_DECAY = "add_read_decay"  # i += x; I = i; i *= d        (norse)
    DECAY_ADD_READ = "decay_add_read"  # i = d*i + x; I = i            (snntorch Synaptic)
    ADD_DECAY_READ = "add_decay_read"  # i = d*(i + x); I = i          (sinabs, rockpool)


class Decode(StrEnum):
    """What the network's result is."""

    COUNT = "count"  # spikes of the last layer, counted over its window
    MEMBRANE = "membrane"  # the last layer's final membrane potential
    VALUE = "value"  # a float graph's real value


class OverTime(StrEnum):
    """How the result of T timesteps becomes one."""

    NONE = "none"
    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
        name: unique in its graph.
        inputs: names of the values it reads.
        source: path of the module it came from, for messages.
    """

    kind: ClassVar[str]
    families: ClassVar[frozenset[Family]] = ALL
    traits: ClassVar[frozenset[Trait]] = frozenset()

    name: str
    inputs: tuple[str, ...] = ()
    source: str = field(default="", compare=False)

    def has(self, trait: Trait) -> bool:
        """Whether its kind has a trait."""
        return trait in self.traits

    def infer(self, args: tuple[ValueType, ...]) -> ValueType:
        """Type of the result, from the types of the inputs.

        Raises:
            ModelError: SNNC-M010 if the inputs do not fit.
        """
        raise NotImplementedError


def describe(node: Node) -> str:
    """A node's place for error messages: its name and the module it came from."""
    return f"%{node.name}" + (f" ({node.source})" if node.source else "")


def ill_formed(node: Node, what: str, got: Any = None, limit: Any = None) -> Exception:
    """The error for a node that its inputs or attributes do not fit."""
    return fail("SNNC-M010", describe(node), f"{node.kind}: {what}", got=got, limit=limit)


def want(ok: bool, node: Node, what: str, got: Any = None, limit: Any = None) -> None:
    """Raise :func:`ill_formed` unless ``ok``."""
    if not ok:
        raise ill_formed(node, what, got, limit)


def only(node: Node, args: tuple[ValueType, ...]) -> ValueType:
    """The one input of a node that takes one."""
    want(len(args) == 1, node, "takes one input", len(args))
    return args[0]


def two(node: Node, args: tuple[ValueType, ...]) -> tuple[ValueType, ValueType]:
    """The two inputs of a node that takes two."""
    want(len(args) == 2, node, "takes two inputs", len(args))
    return args[0], args[1]


def feature_axes(node: Node, axes: tuple[int, ...], x: ValueType) -> None:
    """Raise unless ``axes`` are different feature axes of ``x``."""
    ok = bool(axes) and len(set(axes)) == len(axes) and all(0 <= a < len(x.shape) for a in axes)
    want(ok, node, "axes must be different feature axes", axes, f"0..{len(x.shape) - 1}")
