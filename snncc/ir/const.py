"""Constant arrays of a graph: private read-only copies, compared by digest."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationInfo
from pydantic_core import CoreSchema, core_schema

from snncc.arrays import Array

DTYPES = ("float32", "int8", "int16", "int32", "int64", "uint8")


class Const:
    """A read-only array that equals another exactly when dtype, shape and bytes do.

    Args:
        array: of one of :data:`DTYPES`.
        copy: False where nobody writes to ``array`` any more: it then becomes read-only itself.

    Attributes:
        array: C-contiguous read-only copy.
    """

    __slots__ = ("_digest", "array")

    array: NDArray[Any]
    _digest: str | None

    def __init__(self, array: Any, *, copy: bool = True) -> None:
        kept = np.array(array, order="C") if copy else np.asarray(array, order="C")
        if kept.dtype.name not in DTYPES:
            raise TypeError(f"a constant has dtype {kept.dtype}, expected one of {', '.join(DTYPES)}")
        kept.flags.writeable = False
        self.array = kept
        self._digest = None

    @property
    def digest(self) -> str:
        """First 16 hex digits of SHA-256 over dtype, shape and bytes (little endian)."""
        if self._digest is None:  # not before it is asked for: most constants never are
            head = f"{self.array.dtype.name}:{'x'.join(map(str, self.array.shape))}:".encode()
            little = self.array.astype(self.array.dtype.newbyteorder("<"), copy=False)
            self._digest = hashlib.sha256(head + little.tobytes()).hexdigest()[:16]
        return self._digest

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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """In JSON a constant is its digest; the arrays are the validation's context, by digest."""
        return core_schema.with_info_plain_validator_function(
            _by_digest,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.digest),
        )


def _by_digest(value: object, info: ValidationInfo) -> Const:
    if isinstance(value, Const):
        return value
    array = (info.context or {}).get(value) if isinstance(value, str) else None
    if array is None:
        raise ValueError(f"no array with digest {value!r}")
    return Const(array)


Integer = int | Const
Number = int | float | Const


def values_of(value: Number) -> NDArray[Any]:
    """The one number of a layer, [], or those of its channels, [C]."""
    return value.array if isinstance(value, Const) else np.asarray(value)


def each_channel(value: Integer, channels: int) -> NDArray[np.int64]:
    """``value`` as int64 [C]."""
    return np.asarray(np.zeros(channels, np.int64) + values_of(value))


def number_array(value: Number, rank: int) -> Any:
    """``value`` ready to broadcast over ``[N, C, ...]`` arrays of ``rank`` dimensions.

    A per-channel constant of shape [C] is aligned with axis 1.
    """
    if not isinstance(value, Const):
        return value
    return value.array.reshape((1, -1) + (1,) * (rank - 2))


def narrow(values: Array) -> Array:
    """Whole numbers of 32 bits at most in the narrowest signed dtype that holds them and their negatives."""
    return values.astype(holding(max(int(values.max(initial=0)), -int(values.min(initial=0)))))


def holding(most: int) -> Any:
    """The narrowest signed dtype of 32 bits at most that holds ``most`` and its negative."""
    return next(d for d in (np.int8, np.int16, np.int32) if most <= np.iinfo(d).max)
