"""Which axes of a traced tensor are time and batch; the IR has neither.

A traced tensor is [*lead, *features]. ``lead`` labels its leading axes: ``T`` time, ``B`` batch
(always of size 1 here), ``TB`` both in one (time-major), ``1`` an axis of size 1 that holds none.
The functions compute the labels behind an operation that moves axes, or refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """

    name: str
    lead: tuple[str, ...]
    shape: Shape
    reduced: OverTime = OverTime.NONE


def lead_sizes(lead: tuple[str, ...], steps: int) -> Shape:
    """Sizes of the leading axes at batch 1."""
    return tuple(steps if label in ("T", "TB") else 1 for label in lead)


def merged(labels: tuple[str, ...], steps: int) -> str:
    """Label of several leading axes flattened into one."""
    kept = tuple(label for label in labels if label != "1")
    if kept in (("T", "B"), ("TB",)):
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

    Sizes alone can be ambiguous where some are 1; features that stay as they are decide first,
    an unchanged number of leading axes second.
    """
    size = math.prod(lead_sizes(value.lead, steps))
    fits = [n for n in (1, 2) if n < len(out) + 1 and math.prod(out[:n]) == size]
    best = [n for n in fits if out[n:] == value.shape] or [n for n in fits if n == len(value.lead)] or fits
    if not best:
        raise Unsupported("mixes batch or time with the features", got=list(out))
    depth = best[0]
    if depth == len(value.lead):
        if out[:depth] != lead_sizes(value.lead, steps):
            raise Unsupported("moves the time axis", got=list(out))
        return value.lead, out[depth:]
    if depth == 1:
        return (merged(value.lead, steps),), out[1:]
    if size == 1 and value.lead == ("B",):
        # At T = 1 the new axis is time; a static input gets it by repeat() later.
        return ("T" if steps == 1 else "1", "B"), out[2:]
    if out[:2] != (steps, 1):
        raise Unsupported("time is not the leading axis", got=list(out), limit=f"[{steps}, 1, ...]")
    return ("T", "B"), out[2:]


def permute(value: Value, order: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Labels and the order of the feature axes behind a permutation of all axes."""
    depth = len(value.lead)
    if any(axis >= depth for axis in order[:depth]):
        raise Unsupported("moves a feature axis before batch or time", got=list(order))
    return tuple(value.lead[a] for a in order[:depth]), tuple(a - depth for a in order[depth:])


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
        if axis >= len(lead) or lead[axis] != "1" or n != steps:
            raise Unsupported("repeats something else than a static input over time", got=list(times))
        result[axis] = "T"
    return tuple(result)
