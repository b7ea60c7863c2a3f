"""Numbers of the code itself: lengths, docstrings, error texts, tests against source.

Run: ``python bench/house_numbers.py``. A line of code holds something other than a comment or a
docstring. Public are functions and methods whose names, and those of what they stand in, begin
without underscore; a method that overrides a documented one of its base counts as documented.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("snncc", "frontends", "backends", "simulators")
Def = ast.FunctionDef | ast.AsyncFunctionDef

_BLANK = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_ARRAYS = re.compile(r"\b(Array|NDArray|ndarray|Tensor)\b")
# Arrays by name have no one shape.
_STORES = re.compile(r"\b(Mapping|dict)\[[^\[\]]*(\[[^\[\]]*\])?[^\[\]]*\]")
_SHAPE = re.compile(r"\[[^\[\]]*[A-Za-z*][^\[\]]*\]")
_UNIT = re.compile(r"\b(pJ|nJ|mJ|mW|ns|us|ms|Hz|bytes|bits|micro-steps?|timesteps?|units? of|int\d+)\b")


@dataclass(frozen=True)
class Function:
    """A function or method.

    Attributes:
        place: file and name.
        lines: of code in its body, what is defined inside included.
        doc: its docstring, or that of the method it overrides; empty if there is none.
        arrays: whether it takes or returns arrays, by its annotations.
    """

    place: str
    lines: int
    public: bool
    doc: str
    arrays: bool

    @property
    def sized(self) -> bool:
        """Whether the docstring says a shape or a unit."""
        return bool(_SHAPE.search(self.doc) or _UNIT.search(self.doc))


@dataclass(frozen=True)
class ErrorText:
    """A call that makes an error for users; ``carries``: of ``got``, ``limit`` and ``hint`` what it gives."""

    place: str
    carries: frozenset[str]


def files(*folders: str) -> tuple[Path, ...]:
    """Python files below folders of the repository."""
    return tuple(sorted(p for f in folders for p in (ROOT / f).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def code_lines(path: Path) -> frozenset[int]:
    """Numbers of the lines that hold code."""
    text = path.read_text(encoding="utf-8")
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _BLANK:
            found |= set(range(token.start[0], token.end[0] + 1))
    return frozenset(found - {line for doc in _docstrings(tree(path)) for line in doc})


def _docstrings(module: ast.Module) -> Iterator[range]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | Def) and ast.get_docstring(node, clean=False):
            yield range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)


def functions(*folders: str) -> tuple[Function, ...]:
    """Every function and method below ``folders``."""
    documented = _methods(folders)
    return tuple(f for path in files(*folders) for f in _functions_of(path, documented))


def _methods(folders: tuple[str, ...]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Of every class its bases, and its methods' docstrings."""
    found = {}
    for node in (n for path in files(*folders) for n in ast.walk(tree(path)) if isinstance(n, ast.ClassDef)):
        bases = [ast.unparse(b).rpartition(".")[2] for b in node.bases]
        methods = {m.name: ast.get_docstring(m) or "" for m in node.body if isinstance(m, Def)}
        found[node.name] = (bases, methods)
    return found


def _functions_of(path: Path, documented: dict[str, tuple[list[str], dict[str, str]]]) -> Iterator[Function]:
    where, lines = path.relative_to(ROOT).as_posix(), code_lines(path)

    def walk(body: list[ast.stmt], names: tuple[str, ...], inside: str | None) -> Iterator[Function]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, (*names, node.name), node.name)
            elif isinstance(node, Def) and not _is_overload(node):
                doc = ast.get_docstring(node) or _inherited(node.name, inside, documented)
                own = (*names, node.name)
                yield Function(
                    place=f"{where}: {'.'.join(own)}",
                    lines=len(lines & set(range(node.body[0].lineno, (node.end_lineno or 0) + 1))),
                    public=not any(name.startswith("_") for name in own),
                    doc=doc,
                    arrays=_has_arrays(node),
                )
                # What is defined inside is nobody's to call.
                yield from walk(node.body, (*own, "_"), None)

    return walk(tree(path).body, (), None)


def _is_overload(node: Def) -> bool:
    return any(ast.unparse(d).rpartition(".")[2] == "overload" for d in node.decorator_list)


def _has_arrays(node: Def) -> bool:
    notes = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)]
    texts = (_STORES.sub("", ast.unparse(note)) for note in (*notes, node.returns) if note)
    return any(_ARRAYS.search(text) for text in texts)


def _inherited(name: str, cls: str | None, known: dict[str, tuple[list[str], dict[str, str]]]) -> str:
    """Docstring of the method that a method overrides."""
    bases, docs = known.get(cls or "", ([], {}))
    if docs.get(name):
        return docs[name]
    return next((found for base in bases if (found := _inherited(name, base, known))), "")


def error_texts(*folders: str) -> tuple[ErrorText, ...]:
    """Calls of ``problem`` and ``fail`` for users: all but those for our own bugs."""
    found = []
    for path in files(*folders):
        calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
        for call in sorted(calls, key=lambda n: (n.lineno, n.col_offset)):
            if ast.unparse(call.func).rpartition(".")[2] not in ("problem", "fail") or not call.args:
                continue
            if ast.unparse(call.args[0]) == "'SNNC-X001'":
                continue
            given = {k.arg for k in call.keywords if k.arg and ast.unparse(k.value) != "None"}
            place = f"{path.relative_to(ROOT).as_posix()}:{call.lineno}"
            found.append(ErrorText(place, frozenset(given & {"got", "limit", "hint"})))
    return tuple(found)


def share(part: int, whole: int) -> float:
    """``part`` of ``whole``; 1 of nothing."""
    return part / whole if whole else 1.0


def ratio() -> float:
    """Lines of test code a line of source."""
    tests, source = (sum(len(code_lines(p)) for p in files(*f)) for f in (("tests",), SOURCE))
    return tests / source


def percentile(values: list[int], percent: int) -> int:
    """The smallest of ``values`` that is not below ``percent`` of them."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def report() -> Iterator[str]:
    """The numbers, a line each, and then the places that miss what is asked."""
    every, texts = functions(*SOURCE), error_texts(*SOURCE)
    lengths = [f.lines for f in every]
    public = [f for f in every if f.public]
    arrays = [f for f in public if f.arrays]
    longest = max(every, key=lambda f: f.lines)
    missing = {
        "public functions without docstring": [f.place for f in public if not f.doc],
        "arrays without a shape or unit": [f.place for f in arrays if not f.sized],
        "error texts without got, limit and hint": [t.place for t in texts if not t.carries],
    }
    middle = statistics.median(lengths)
    yield f"functions: {len(every):,}, lines median {middle:g}, p90 {percentile(lengths, 90)}"
    yield f"longest: {longest.lines} lines, {longest.place}"
    yield f"source: {sum(len(code_lines(p)) for p in files(*SOURCE)):,} lines; tests / source {ratio():.3f}"
    for (title, places), whole in zip(missing.items(), (public, arrays, texts), strict=True):
        yield f"{title}: {len(places)} of {len(whole)} ({share(len(places), len(whole)):.1%})"
    for name in ("got", "limit", "hint"):
        yield f"error texts with {name}: {share(sum(name in t.carries for t in texts), len(texts)):.1%}"
    for title, places in missing.items():
        yield "\n".join(("", f"{title}:", *places))


if __name__ == "__main__":
    print("\n".join(report()))
