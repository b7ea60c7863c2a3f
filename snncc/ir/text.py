"""The text form of a graph: prints, and parses back to an equal graph.

    snn float @net {steps=1} {
      %x = input {shape=[1, 28, 28], levels=4} : spikes<1x28x28, 4>
      %c = conv2d %x {weight=#07d9c21fdb1d5a00, stride=[2, 2]} : current<16x14x14, f32>
      %s = neuron %c {max_spikes=4, rounding=half_even} : spikes<16x14x14, 4>
      %out = output %s {decode=count} : spikes<16x14x14, 4>
    }

Attributes at their default are left out. Arrays appear by digest; their bytes live beside the
text. The types behind the colons are for the reader: the parser infers them anew and refuses a
text that claims another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn, get_args, get_type_hints

import numpy as np

from snncc.errors import fail
from snncc.ir.cell import Cell
from snncc.ir.const import Const
from snncc.ir.graph import Graph
from snncc.ir.neurons import numbers
from snncc.ir.nodes import KINDS, HostRegion, Node
from snncc.ir.types import Family

_SKIPPED = ("name", "inputs", "body")
_OF_CELL = {f.name for f in fields(Cell)}


def to_text(graph: Graph) -> str:
    """The text form of ``graph``; ends with a newline."""
    return "\n".join(_graph_lines(graph, "")) + "\n"


def _graph_lines(graph: Graph, indent: str) -> list[str]:
    head = f"steps={graph.steps}" + (f", micro_steps={graph.micro_steps}" if graph.micro_steps else "")
    lines = [f"{indent}snn {graph.family} @{graph.name} {{{head}}} {{"]
    for node in graph.nodes:
        reads = "".join(f" %{name}" for name in node.inputs)
        lines.append(
            f"{indent}  %{node.name} = {node.kind}{reads}{_attributes(node)} : {graph.types[node.name]}"
        )
        if isinstance(node, HostRegion):
            lines.extend(_graph_lines(node.body, indent + "    "))
    return [*lines, indent + "}"]


def _attributes(node: Node) -> str:
    shown = [f"{key}={text}" for key, text in attributes(node).items()]
    return f" {{{', '.join(shown)}}}" if shown else ""


def attributes(node: Node) -> dict[str, str]:
    """Literals of the attributes that are not at their default, in order."""
    values = numbers(node)
    return {
        f.name: _literal(values[f.name])
        for f in _fields(type(node))
        if f.default is MISSING or not _same(values[f.name], f.default)
    }


def _fields(cls: type[Node]) -> list[Field[Any]]:
    """Attributes of a node kind that the text shows; those of a cell stand beside the node's own."""
    found = [f for f in fields(cls) if f.name not in _SKIPPED]
    return [g for f in found for g in (fields(Cell) if f.name == "cell" else (f,))]


def _same(value: Any, default: Any) -> bool:
    # 1 == 1.0 == True in Python, but the text form must give back the very type.
    return type(value) is type(default) and bool(value == default)


def _literal(value: Any) -> str:
    if isinstance(value, Const):
        return f"#{value.digest}"
    if isinstance(value, StrEnum):
        return value.value
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*)
      | (?P<number>-?(?:inf|nan|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.]))
      | (?P<value>%[\w.\-]+)
      | (?P<symbol>@[\w.\-]+)
      | (?P<digest>\#[0-9a-f]{16})
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<type>:[ ]*(?:spikes|current)<[^>\n]*>)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>[{}\[\]=,])""",
    re.VERBOSE,
)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.text = text
        self.constants = constants
        self.position = 0
        self.kind = self.token = ""
        self.start = 0
        self.advance()

    def fail(
        self, what: str, at: int | None = None, *, got: Any = None, limit: Any = None, hint: str | None = None
    ) -> NoReturn:
        offset = self.start if at is None else at
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        raise fail("SNNC-M011", f"line {line}, column {column}", what, got=got, limit=limit, hint=hint)

    def advance(self) -> str:
        """Step to the next token and return the one that was current."""
        old = self.token
        while True:
            self.start = self.position
            if self.position == len(self.text):
                self.kind, self.token = "end", ""
                return old
            match = _TOKEN.match(self.text, self.position)
            if match is None:
                self.fail("no word or number starts here", got=repr(self.text[self.position]))
            self.position = match.end()
            self.kind, self.token = match.lastgroup or "", match.group()
            if self.kind != "space":
                return old

    def expect(self, kind: str, token: str | None = None) -> str:
        if self.kind != kind or (token is not None and self.token != token):
            self.fail(f"expected {token or kind}", got=self.token or "end of text")
        return self.advance()

    def accept(self, token: str) -> bool:
        if self.kind == "mark" and self.token == token:
            self.advance()
            return True
        return False

    def graph(self) -> Graph:
        self.expect("word", "snn")
        at = self.start
        family = self.expect("word")
        if family not in set(Family):
            self.fail("unknown family", at, got=family, limit=", ".join(Family))
        name = self.expect("symbol")[1:]
        head = self.attributes({"steps": int, "micro_steps": int})
        self.expect("mark", "{")
        nodes: list[Node] = []
        types: list[tuple[str, int]] = []
        while not self.accept("}"):
            nodes.append(self.node(types))
        graph = Graph(name, Family(family), tuple(nodes), **head)
        for node, (claimed, offset) in zip(nodes, types, strict=True):
            if claimed != str(graph.types[node.name]):
                self.fail(f"%{node.name} has another type", offset, got=claimed, limit=graph.types[node.name])
        return graph

    def node(self, types: list[tuple[str, int]]) -> Node:
        at = self.start
        name = self.expect("value")[1:]
        self.expect("mark", "=")
        kind_at = self.start
        kind = self.expect("word")
        if kind not in KINDS:
            self.fail("unknown node kind", kind_at, got=kind, hint=_like(kind, KINDS))
        reads: list[str] = []
        while self.kind == "value":
            reads.append(self.advance()[1:])
        hints = _field_types(KINDS[kind])
        values: dict[str, Any] = self.attributes(hints) if self.token == "{" else {}
        type_at = self.start
        types.append((self.expect("type")[1:].strip(), type_at))
        if kind == HostRegion.kind:
            values["body"] = self.graph()
        missing = [f.name for f in _fields(KINDS[kind]) if f.default is MISSING and f.name not in values]
        if missing:
            self.fail(f"{kind} lacks {', '.join(missing)}", at, hint=f"{missing[0]}=…")
        if any(f.name == "cell" for f in fields(KINDS[kind])):
            own = {key: value for key, value in values.items() if key not in _OF_CELL}
            values = own | {"cell": Cell(**{k: v for k, v in values.items() if k in _OF_CELL})}
        return KINDS[kind](name=name, inputs=tuple(reads), **values)

    def attributes(self, hints: Mapping[str, Any]) -> dict[str, Any]:
        self.expect("mark", "{")
        found: dict[str, Any] = {}
        while not self.accept("}"):
            at = self.start
            key = self.expect("word")
            if key not in hints:
                self.fail("unknown attribute", at, got=key, hint=_like(key, hints))
            if key in found:
                self.fail("an attribute stands twice", at, got=key)
            self.expect("mark", "=")
            at = self.start
            value = self.literal(hints[key])
            if not _fits(value, hints[key]):
                self.fail(f"{key} cannot be this", at, got=value)
            found[key] = value
            if self.token != "}":
                self.expect("mark", ",")
        return found

    def literal(self, hint: Any) -> Any:
        if self.kind == "number":
            token = self.advance()
            return int(token) if re.fullmatch(r"-?\d+", token) else float(token)
        if self.kind == "string":
            return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], self.advance()[1:-1])
        if self.kind == "digest":
            return self.constant()
        if self.accept("["):
            items: list[Any] = []
            while not self.accept("]"):
                items.append(self.literal(hint))
                if self.token != "]":
                    self.expect("mark", ",")
            return tuple(items)
        at = self.start
        word = self.expect("word")
        if word in ("true", "false", "none", "inf", "nan"):
            return {"true": True, "false": False, "none": None, "inf": np.inf, "nan": np.nan}[word]
        enum = next(
            (t for t in (hint, *get_args(hint)) if isinstance(t, type) and issubclass(t, StrEnum)), None
        )
        if enum is None or word not in set(enum):
            self.fail("unexpected word", at, got=word, limit=enum and ", ".join(enum))
        return enum(word)

    def constant(self) -> Const:
        at = self.start
        digest = self.advance()[1:]
        if digest not in self.constants:
            self.fail("no array has this digest", at, got=f"#{digest}")
        const = Const(self.constants[digest])
        if const.digest != digest:
            self.fail("the array has another digest", at, got=f"#{const.digest}", limit=f"#{digest}")
        return const


def _like(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` may be meant to be."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


def _field_types(cls: type[Node]) -> dict[str, Any]:
    hints = get_type_hints(Cell) | get_type_hints(cls)
    return {f.name: hints[f.name] for f in _fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a parsed literal has the type that the field declares."""
    if getattr(hint, "__origin__", None) is tuple:
        args = get_args(hint)
        if not isinstance(value, tuple):
            return False
        sized = len(value) == len(args) or args[1:] == (Ellipsis,)
        return sized and all(type(v) is int for v in value)
    options = get_args(hint) or (hint,)
    return any(type(value) is o for o in options)


def parse(text: str, constants: Mapping[str, np.ndarray[Any, Any]]) -> Graph:
    """Graph of a text form.

    Args:
        text: what :func:`to_text` printed, possibly edited.
        constants: arrays by digest.

    Raises:
        ModelError: SNNC-M011 with line and column for a syntax error, an array that is missing,
            or a type that differs from the inferred one; SNNC-M010 for an ill-formed graph.
    """
    parser = _Parser(text, constants)
    try:
        graph = parser.graph()
    except RecursionError:
        raise fail("SNNC-M011", "text", "host regions stand too deep", hint="one inside none") from None
    if parser.kind != "end":
        parser.fail("something stands behind the graph", got=parser.token)
    return graph
