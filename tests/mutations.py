"""One change at a time to the files of an artifact, for tests that no such change may pass verification."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Mutation:
    """A change of one file; ``what`` names the field."""

    file: str
    what: str
    change: Change


def mutations(folder: Path, file: str) -> Iterator[Mutation]:
    """One change or two for every class of field in a file."""
    data = (folder / file).read_bytes()
    if file.endswith(".json"):
        found: Iterator[tuple[str, Change]] = _of_document(json.loads(data))
    elif file.endswith(".snn"):
        found = _of_text(data.decode())
    else:
        found = iter([("byte", lambda whole: _flipped(whole, len(whole) // 2))])
    return (Mutation(file, what, change) for what, change in found)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# ---- JSON -------------------------------------------------------------------------------------------


def _of_document(document: Any) -> Iterator[tuple[str, Change]]:
    """The first and the last leaf of each class of paths that differ in list positions and core ids alone."""
    classes: dict[str, list[tuple[Any, ...]]] = {}
    for path, _ in _leaves(document, ()):
        name = ".".join("*" if isinstance(p, int) or str(p).isdigit() else p for p in path)
        classes.setdefault(name, []).append(path)
    for name, paths in classes.items():
        for path in dict.fromkeys((paths[0], paths[-1])):
            for value in _others(_at(document, path)):
                yield f"{name} = {value!r}", lambda data, path=path, value=value: _replaced(data, path, value)


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _replaced(data: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    document = json.loads(data)
    _at(document, path[:-1])[path[-1]] = value
    return json.dumps(document).encode()


_WORDS = (
    ("clocked", "gated", "event"), ("exact", "free"), ("subtract", "value", "none"),
    ("count", "membrane", "value"), ("none", "sum", "mean"), ("conv", "dense", "tapconv"),
)  # fmt: skip


def _others(value: Any) -> list[Any]:
    """Other values of the same kind, and some that the field may have as well."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1, -value] if value else [1, -1]
        case float():
            return [-value, value * 2]
        case str():
            return [f"{value}x", *(w for words in _WORDS if value in words for w in words if w != value)]
        case None:
            return [1, [0, 1]]
        case _:
            return [None]


# ---- text form --------------------------------------------------------------------------------------


def _of_text(text: str) -> Iterator[tuple[str, Change]]:
    """Every number and word of the attributes, once for each kind of node."""
    seen: set[str] = set()
    for line in re.finditer(r"[^\n]+", text):
        kind = re.search(r"= (\w+)", line.group())
        for found in re.finditer(r"(\w+)=(\[[^\]]*\]|[^,}\s]+)", line.group()):
            name = f"{kind.group(1) if kind else 'graph'}.{found.group(1)}"
            if name in seen:
                continue
            seen.add(name)
            at = line.start() + found.start(2)
            old = found.group(2)
            for other in _other_words(old):
                yield (
                    f"{name} = {other}",
                    lambda data, at=at, old=old, new=other: _spliced(data, at, old, new),
                )


def _spliced(data: bytes, at: int, old: str, new: str) -> bytes:
    text = data.decode()
    assert text[at : at + len(old)] == old
    return (text[:at] + new + text[at + len(old) :]).encode()


def _other_words(value: str) -> list[str]:
    if value.startswith("["):
        return [re.sub(r"-?\d+", lambda m: str(int(m[0]) + 1), value, count=1)]
    if re.fullmatch(r"-?\d+", value):
        return [str(v) for v in _others(int(value))]
    if re.fullmatch(r"-?\d+\.\d*", value):
        return [str(v) for v in _others(float(value))]
    if value in ("true", "false"):
        return ["false" if value == "true" else "true"]
    words = ("floor", "half_up", "half_even", "window", "stream", "free", *sum(_WORDS, ()))
    return [w for w in dict.fromkeys(words) if w != value] if value in words else ["#" + "0" * 16]
