"""Which axes of a traced tensor are time and batch; the IR has neither.

A traced tensor is [*lead, *features]. ``lead`` labels its leading axes: ``T`` time, ``B`` batch
(always of size 1 here), ``TB`` both in one, ``1`` an axis of size 1 that holds none, and ``f`` a
feature axis that stands before one of those for a while (between a permutation and a selection).
The functions compute the labels behind an operation that moves axes, or refuse it.

Only the place of T is a matter of meaning, and it is always known: nothing but axes of size 1
stands before it in memory. Which of several axes of size 1 is the batch is a matter of taste.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snncc.ir.nodes import OverTime

Shape = tuple[int, ...]


class Unsupported(Exception):  # noqa: N818 - caught inside the frontend, which makes the error of it
    """An operation that the IR cannot express.

    Attributes:
        what: what is wrong with it.
        got: value found.
        limit: value allowed.
        hint: what the user can do.
    """

    def __init__(self, what: str, got: object = None, limit: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.got, self.limit, self.hint = what, got, limit, hint


@dataclass(frozen=True)
class Value:
    """A traced tensor that depends on the input.

    Attributes:
        name: of the value in the IR.
        lead: labels of the leading axes.
        shape: of the features.
        reduced: the reduction over time that stands before it in the module. The IR has it at
            the output only, so what follows must commute with it.
        complement: the value x if this is 1 - x.
        frame: constants around its data, where it has some.
    """

    name: str
    lead: tuple[str, ...]
    shape: Shape
    reduced: OverTime = OverTime.NONE
    complement: Value | None = None
    frame: Frame | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """What is known of a value that has constants around its data.

    Attributes:
        inner: the data; None where the value is a part of a framed one.
        before: elements in front of the data, on each feature axis.
        border: all features [*shape]; NaN where the data are.
    """

    inner: Value | None
    before: Shape
    border: NDArray[np.float32]


def time_hint(value: Value) -> str | None:
    """What may help where nothing is known of time."""
    known = {"T", "TB"} & set(value.lead)
    return None if known else "timesteps=T, if one of the first two axes of the example is time"


def labels(value: Value) -> tuple[str, ...]:
    """One label for every axis of the traced tensor; ``f`` for features."""
    ahead = sum(label == "f" for label in value.lead)
    return value.lead + ("f",) * (len(value.shape) - ahead)


def lead_of(axes: tuple[str, ...]) -> tuple[str, ...]:
    """The leading labels of a tensor with these axes: all up to the last that is no feature."""
    last = max((i for i, label in enumerate(axes) if label != "f"), default=-1)
    return axes[: last + 1]


def full_shape(value: Value, steps: int) -> Shape:
    """Shape of the traced tensor at batch 1."""
    features = iter(value.shape)
    return tuple(
        next(features) if label == "f" else lead_sizes((label,), steps)[0] for label in labels(value)
    )


def feature_axis(value: Value, axis: int) -> int | None:
    """Index among the features of an axis of the traced tensor; None if it is a leading one."""
    axes = labels(value)
    return None if axes[axis] != "f" else sum(label == "f" for label in axes[:axis])


def lead_sizes(lead: tuple[str, ...], steps: int) -> Shape:
    """Sizes of the leading axes at batch 1."""
    return tuple(steps if label in ("T", "TB") else 1 for label in lead)


def merged(labels: tuple[str, ...], steps: int) -> str:
    """Label of several leading axes flattened into one."""
    kept = tuple(label for label in labels if label != "1")
    # At batch 1 it is all the same which of the two is the outer one.
    if kept in (("T", "B"), ("B", "T"), ("TB",)):
        return "TB"
    if len(kept) <= 1:
        return kept[0] if kept else "1"
    if steps == 1:
        return "TB"
    raise Unsupported("time is not the leading axis", got=" × ".join(labels), limit="T × B")


def flatten(value: Value, start: int, end: int, steps: int) -> tuple[tuple[str, ...], Shape]:
    """Labels and features behind ``flatten(start, end)``, axes not negative."""
    depth = len(value.lead)
    if start >= depth:
        s, e = start - depth, end - depth
        joined = math.prod(value.shape[s : e + 1])
        return value.lead, (*value.shape[:s], joined, *value.shape[e + 1 :])
    if end < depth:
        label = merged(value.lead[start : end + 1], steps)
        return (*value.lead[:start], label, *value.lead[end + 1 :]), value.shape
    raise Unsupported(
        "mixes batch or time with the features", hint="flatten(start_dim=1), or 2 behind a time axis"
    )


def reshape(value: Value, out: Shape, steps: int) -> tuple[tuple[str, ...], Shape]:
    """Labels and features behind a view to the full shape ``out``.

    Time comes first in memory, so the first axis of another size than 1 must be time alone. Axes
    of size 1 beside it may be leading or features: the choice that leaves the features as they
    are comes first, then [T, B] out of both in one, then an unchanged number of leading axes.
    """
    timed = steps > 1 and bool({"T", "TB"} & set(value.lead))
    start = next((i for i, n in enumerate(out) if n != 1), len(out)) if timed else 0
    if start >= len(out) or out[start] != (steps if timed else 1):
        raise Unsupported("mixes batch or time with the features", got=list(out), hint=time_hint(value))
    ones = next((i for i, n in enumerate(out[start + 1 :]) if n != 1), len(out) - start - 1)
    fits = range(start + 1, start + 2 + ones)
    depth = _leading_axes(value, out, fits)
    if depth == len(value.lead) and out[:depth] == lead_sizes(value.lead, steps):
        return value.lead, out[depth:]
    return _fresh_lead(value, start, depth, timed or steps == 1), out[depth:]


def _leading_axes(value: Value, out: Shape, fits: range) -> int:
    same = [n for n in fits if out[n:] == value.shape]
    if same:
        return same[0]
    if value.lead == ("TB",) and 2 in fits:
        return 2
    return len(value.lead) if len(value.lead) in fits else fits[0]


def _fresh_lead(value: Value, time: int, depth: int, timed: bool) -> tuple[str, ...]:
    """Labels of ``depth`` leading axes, of which axis ``time`` holds time if ``timed``."""
    if depth == 1:
        known = {label for label in value.lead if label != "1"}
        return ("B",) if known <= {"B"} else ("TB",)
    if not timed:
        return ("1",) * (depth - 1) + ("B",)
    batch = time + 1 if time + 1 < depth else time - 1
    return tuple("T" if i == time else "B" if i == batch else "1" for i in range(depth))


def relabelled(value: Value, depth: int, steps: int) -> Value | None:
    """``value`` with ``depth`` leading axes, where only axes of size 1 change sides; else None.

    The name stays: the caller reshapes where the features change.
    """
    axes, full = value.lead, full_shape(value, steps)
    if "f" in axes or depth < 1 or depth > len(full):
        return None
    if depth < len(axes):
        moved = axes[depth:]
        if any(n != 1 for n in lead_sizes(moved, steps)):
            return None
        kept = axes[:depth]
        kept = tuple("TB" if label == "T" and "B" in moved else label for label in kept)
        return replace(value, lead=kept, shape=full[depth:])
    if any(n != 1 for n in full[len(axes) : depth]):
        return None
    return replace(value, lead=axes + ("1",) * (depth - len(axes)), shape=full[depth:])


def permute(value: Value, order: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Labels and the order of the feature axes behind a permutation of all axes."""
    axes = labels(value)
    features = tuple(f for a in order if (f := feature_axis(value, a)) is not None)
    return lead_of(tuple(axes[a] for a in order)), features


def insert(value: Value, axis: int, steps: int) -> tuple[tuple[str, ...], Shape]:
    """Labels and features behind ``unsqueeze(axis)``."""
    depth = len(value.lead)
    if axis < depth:
        label = "T" if steps == 1 and not {"T", "TB"} & set(value.lead) else "1"
        return (*value.lead[:axis], label, *value.lead[axis:]), value.shape
    at = axis - depth
    return value.lead, (*value.shape[:at], 1, *value.shape[at:])


def remove(value: Value, axes: tuple[int, ...], steps: int) -> tuple[tuple[str, ...], Shape]:
    """Labels and features behind a squeeze of ``axes`` (those of another size than 1 stay)."""
    sizes = (*lead_sizes(value.lead, steps), *value.shape)
    gone = {a for a in axes if sizes[a] == 1}
    depth = len(value.lead)
    lead = tuple(label for a, label in enumerate(value.lead) if a not in gone)
    if any(value.lead[a] in ("B", "TB") for a in gone if a < depth):
        raise Unsupported("removes the batch axis", hint="squeeze(dim) of one feature axis")
    return lead, tuple(n for a, n in enumerate(value.shape) if a + depth not in gone)


def repeat(value: Value, times: Shape, steps: int) -> tuple[str, ...]:
    """Labels behind ``repeat(times)``: only a static input may be repeated, over time."""
    extra = len(times) - len(value.lead) - len(value.shape)
    lead = ("1",) * extra + value.lead
    if extra == 1 and times[0] == 1 and steps == 1 and "T" not in value.lead:
        lead = ("T", *value.lead)
    result = list(lead)
    for axis, n in enumerate(times):
        if n == 1:
            continue
        static = not {"T", "TB"} & set(result)
        if axis >= len(lead) or lead[axis] not in ("1", "B") or n != steps or not static:
            raise Unsupported(
                "repeats something else than a static input over time",
                got=list(times),
                limit=f"{steps} timesteps",
                hint=f"timesteps={n}, if the module makes so many" if static and axis < len(lead) else None,
            )
        result[axis] = "T" if lead[axis] == "1" else "TB"
    return tuple(result)
