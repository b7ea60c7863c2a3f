"""Constant arrays of a graph: private read-only copies, compared by digest."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = ("float32", "int8", "int16", "int32", "int64", "uint8")


class Const:
    """A read-only array that equals another exactly when dtype, shape and bytes do.

    Attributes:
        array: C-contiguous read-only copy.
        digest: first 16 hex digits of SHA-256 over dtype, shape and bytes (little endian).
    """

    __slots__ = ("array", "digest")

    array: NDArray[Any]
    digest: str

    def __init__(self, array: Any) -> None:
        copy = np.array(array, order="C", copy=True)
        if copy.dtype.name not in DTYPES:
            raise TypeError(f"a constant has dtype {copy.dtype}, expected one of {', '.join(DTYPES)}")
        copy.flags.writeable = False
        head = f"{copy.dtype.name}:{'x'.join(map(str, copy.shape))}:".encode()
        little = copy.astype(copy.dtype.newbyteorder("<"), copy=False)
        self.array = copy
        self.digest = hashlib.sha256(head + little.tobytes()).hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def is_integer(self) -> bool:
        """Whether the dtype is an integer type."""
        return bool(np.issubdtype(self.array.dtype, np.integer))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Const(#{self.digest} {self.array.dtype}{list(self.shape)})"


Number = int | float | Const


def number_array(value: Number, rank: int) -> Any:
    """``value`` ready to broadcast over ``[N, C, ...]`` arrays of ``rank`` dimensions.

    A per-channel constant of shape [C] is aligned with axis 1.
    """
    if not isinstance(value, Const):
        return value
    return value.array.reshape((1, -1) + (1,) * (rank - 2))
