"""Importer of an exported ATen graph: walks its nodes and emits nodes of the IR.

Which operations there are stands in :data:`snncc_torch.operations.handlers.HANDLERS`; here are names,
sources, constants, the call of a handler and the collection of every problem.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from snncc.errors import ModelError, Problem, problem
from snncc.ir import Const, Current, Node, ValueType
from snncc_torch.neurons.sites import SiteCall, SiteInfo
from snncc_torch.operations.layout import Unsupported, Value, full_shape, labels, time_hint

# A module that leaves these behind in the graph fires, rounds or compares: it is a neuron that
# nobody recognised. They are named as one problem a module, not one an operation.
DISCONTINUOUS = frozenset({
    "round", "floor", "ceil", "trunc", "sign", "heaviside", "ge", "gt", "le", "lt", "eq", "ne", "where",
    "_to_copy", "to", "bernoulli", "masked_fill", "sgn", "remainder", "fmod",
})  # fmt: skip


# What the tracer adds to check itself; nothing reads it.
CHECKS = frozenset({"_assert_tensor_metadata", "sym_size", "_assert_scalar", "sym_constrain_range_for_size"})

# Modules of these make one node each, which bears the module's path without more.
LIBRARIES = ("torch.nn.modules.", "snncc_torch.ops.", "spikingjelly.activation_based.layer.")


# A list for an operation of several results; a constant where the result does not depend on the input.
Handler = Callable[["Call"], "Value | Tensor | list[Value]"]


@dataclass
class Importer:
    """State of one import.

    Attributes:
        steps: timesteps T.
        sites: recognised neurons by number.
        nodes: IR nodes so far.
        calls: calls of recognised neurons.
        problems: everything that is wrong.
        notes: for people.
        types: of every value so far, the input's among them.
    """

    steps: int
    sites: tuple[SiteInfo, ...]
    nodes: list[Node] = field(default_factory=list)
    calls: list[SiteCall] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    types: dict[str, ValueType] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: {"input", "output"})
    firing: dict[str, list[str]] = field(default_factory=dict)

    def name(self, path: str, op: str, leaf: bool) -> str:
        """A new readable name: the module's path, with the operation where it does several."""
        stem = path if leaf and path else f"{path}.{op}" if path else op
        stem = re.sub(r"[^\w.\-]", "_", stem)
        name, n = stem, 1
        while name in self.taken:
            name, n = f"{stem}_{n}", n + 1
        self.taken.add(name)
        return name

    def emit(self, node: Node) -> str:
        """Append ``node``, with its type, and return its name."""
        try:
            self.types[node.name] = node.infer(tuple(self.types[name] for name in node.inputs))
        except ModelError as error:
            first = error.problems[0]
            raise Unsupported(first.what.removeprefix(f"{node.kind}: "), first.got, first.limit) from None
        self.nodes.append(node)
        return node.name


@dataclass(frozen=True)
class Call:
    """One operation that is being imported.

    Attributes:
        imp: the import it belongs to.
        op: ATen name without overload.
        path: path of the module that calls it.
        leaf: whether that module is one of torch's own layers or a neuron.
        args: arguments by name, defaults included; tensors are Value, constants are Tensor.
        out: full shape of the result.
    """

    imp: Importer
    op: str
    path: str
    leaf: bool
    args: Mapping[str, Any]
    out: tuple[int, ...]

    def moved(self, key: str) -> Value:
        """An argument that depends on the input; features may stand before batch or time."""
        found = self.args[key]
        if not isinstance(found, Value):
            raise Unsupported(f"argument {key} must depend on the input", got=type(found).__name__)
        return found

    def value(self, key: str) -> Value:
        """An argument that depends on the input, [*lead, *features]."""
        return settled(self.moved(key))

    def kind_of(self, value: Value) -> ValueType:
        """Type of a value in the IR."""
        return self.imp.types[value.name]

    def put(self, cls: type[Node], first: Value, *others: Value, beside: str = "", **fields: Any) -> Value:
        """A new node that reads the values given; its value, with the leading axes of the first.

        ``beside`` names a node that stands beside the one that the operation becomes.
        """
        name = self.imp.name(self.path, beside, False) if beside else self.new_name()
        inputs = (first.name, *(v.name for v in others))
        self.imp.emit(cls(name=name, inputs=inputs, source=self.path, **fields))
        shape = self.imp.types[name].shape
        return Value(name, first.lead, shape, first.reduced)

    def const(self, key: str) -> Const | None:
        """A constant argument as float32, or None."""
        found = self.args[key]
        if isinstance(found, Value):
            raise Unsupported(f"argument {key} depends on the input and must not")
        return None if found is None else float_const(found)

    def new_name(self) -> str:
        """Name for the node that the operation becomes."""
        return self.imp.name(self.path, self.op, self.leaf)


def settled(value: Value) -> Value:
    """``value``, unless a feature axis stands before batch or time."""
    if "f" in value.lead:
        what = "a feature axis stands before batch or time"
        raise Unsupported(what, got=[*labels(value)], hint=time_hint(value))
    return value


def float_const(tensor: Tensor) -> Const:
    """A constant of the IR, of a tensor that is capture's own: its storage is not copied."""
    return Const(tensor.detach().cpu().numpy().astype(np.float32, copy=False), copy=False)


def module_of(node: fx.Node) -> tuple[str, str]:
    """(path, class) of the innermost module that a traced node comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    path, cls = list(stack.values())[-1]
    name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
    return _own_path(path), name


def _own_path(path: str) -> str:
    # The traced root wraps the model as its child `model`; the user knows nothing of it.
    return re.sub(r"@\d+", "", path).removeprefix("model").removeprefix(".")


def repeated_paths(traced: fx.Graph) -> frozenset[str]:
    """Paths of the modules that run more than once: the tracer numbers their calls ``key@1`` and so on."""
    entries = {
        (key, path)
        for node in traced.nodes
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items()
    }
    return frozenset(_own_path(path) for key, path in entries if "@" in key + path)


def op_name(node: fx.Node) -> str:
    """ATen name without namespace, overload and the in-place underscore; ``neuron`` for a site."""
    if node.target is operator.getitem:
        return "getitem"
    if not hasattr(node.target, "_schema"):
        return str(getattr(node.target, "__name__", node.target))
    name = str(node.target)
    return name.split(".")[1] if name.startswith(("aten.", "snncc.")) else name


def bound_arguments(node: fx.Node, env: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """Arguments of a traced call by name, with defaults, and values in the place of nodes."""

    def resolve(arg: Any) -> Any:
        if isinstance(arg, fx.Node):
            return env[arg]
        if isinstance(arg, list | tuple):
            return [resolve(a) for a in arg]
        return arg

    if node.target is operator.getitem:
        return {"self": resolve(node.args[0]), "index": node.args[1]}
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # no operation but a piece of Python or a graph inside the graph
        return {str(i): env.get(n) for i, n in enumerate(node.all_input_nodes)}
    found = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    for arg, given in zip(schema.arguments, node.args, strict=False):
        found[arg.name] = resolve(given)
    found.update({key: resolve(given) for key, given in node.kwargs.items()})
    return found


def depends(value: Any) -> bool:
    """Whether an argument holds anything that depends on the input."""
    if isinstance(value, list | tuple):
        return any(depends(v) for v in value)
    return isinstance(value, Value)


def result_shape(node: fx.Node) -> tuple[int, ...]:
    """Full shape of the (first) result of a traced node."""
    meta = node.meta.get("val")
    first = meta[0] if isinstance(meta, list | tuple) and meta else meta
    return tuple(int(n) for n in first.shape) if isinstance(first, Tensor) else ()


def import_nodes(
    imp: Importer, traced: fx.Graph, env: dict[fx.Node, Any], handlers: Mapping[str, Handler]
) -> None:
    """Import every call of ``traced``; ``env`` holds the placeholders and receives the results."""
    for node in traced.nodes:
        unread = node.target is operator.getitem and not node.users
        if node.op == "call_function" and op_name(node) not in CHECKS and not unread:
            env[node] = _import_node(imp, node, env, handlers)


def _import_node(
    imp: Importer, node: fx.Node, env: Mapping[fx.Node, Any], handlers: Mapping[str, Handler]
) -> Any:
    args = bound_arguments(node, env)
    if not depends(list(args.values())) and op_name(node) != "neuron":
        return _fold(node, env)
    path, cls = module_of(node)
    leaf = cls.startswith(LIBRARIES)
    call = Call(imp, op_name(node), path, leaf, args, result_shape(node))
    try:
        handler = handlers.get(call.op)
        if handler is None:
            raise Unsupported(f"operation {call.op} is not supported", got=_short(cls))
        return _followed(call, handler(call))
    except Unsupported as error:
        _note(imp, call, error, known=handler is not None)
        return _stand_in(call)


def _followed(call: Call, result: Any) -> Any:
    """The result, unless its axes are not those of the traced tensor."""
    if isinstance(result, Value) and full_shape(result, call.imp.steps) != call.out:
        raise Unsupported(
            "its axes cannot be followed", got=list(full_shape(result, call.imp.steps)), limit=list(call.out)
        )
    return result


def _fold(node: fx.Node, env: Mapping[fx.Node, Any]) -> Any:
    """An operation on constants alone is computed at once."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _short(cls: str) -> str | None:
    return cls.rpartition(".")[2] or None


def _note(imp: Importer, call: Call, error: Unsupported, known: bool) -> None:
    where = call.path or "model"
    if not known and call.op in DISCONTINUOUS:
        imp.firing.setdefault(where, []).append(call.op)
        return
    what = error.what if not known else f"{call.op}: {error.what}"
    made = problem("SNNC-M004", where, what, got=error.got, limit=error.limit, hint=error.hint)
    if made not in imp.problems:
        imp.problems.append(made)


def _stand_in(call: Call) -> Value | None:
    """A value in the place of a refused one, so that the rest of the model is checked too."""
    values = [a for arg in call.args.values() for a in (arg if isinstance(arg, list) else [arg])]
    first = next((a for a in values if isinstance(a, Value)), None)
    if first is None:
        return None
    depth = max(0, min(len(first.lead), len(call.out) - len(first.shape)))
    lead = tuple("1" if label == "f" else label for label in first.lead[len(first.lead) - depth :])
    name = call.imp.name("refused", call.op, False)
    call.imp.types[name] = Current(call.out[depth:])
    return Value(name, lead, call.out[depth:], first.reduced)
