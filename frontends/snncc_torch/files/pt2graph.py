"""The graph of a ``.pt2`` file as an fx graph whose every call is on an allow-list.

Only overloads of ``torch.ops.aten`` are resolved, and of those only what the importer has handlers
for, what makes constants, and what integer neurons are made of. Each call is first computed on
shapes alone, so that every size is known before anything of it is allocated.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from snncc.errors import Problem, fail, problem, raise_all
from snncc.safeio import shown
from snncc_torch.capturing import MAX_ELEMENTS
from snncc_torch.files.pt2file import DTYPES, Archive, Damaged, damaged, field, records, whole_number
from snncc_torch.operations.aten import DISCONTINUOUS, module_of
from snncc_torch.operations.handlers import HANDLERS

MAX_NODES = 50_000
ROUNDING = frozenset({"round", "floor"})
CLAMPS = frozenset({"clamp", "clamp_min", "clamp_max", "relu", "hardtanh"})
_CONSTANTS = frozenset({"zeros", "ones", "full", "scalar_tensor", "_assert_tensor_metadata"})
ALLOWED = frozenset(HANDLERS) - {"neuron", "centre_gate", "getitem"} | ROUNDING | CLAMPS | _CONSTANTS
# These return their input itself, which their schemas do not say.
_SILENT_ALIASES = frozenset({"dropout", "feature_dropout"})

_MEMORY = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
STACK = "nn_module_stack"
# A graph in the graph: what stands under torch.no_grad() in the module.
_NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
_MAX_DEPTH = 20
# capture() takes the root for a wrapper with the model as its child of this name.
MODEL = "model"


@dataclass(frozen=True)
class Program:
    """A graph that may be run.

    Attributes:
        graph: placeholders of tensors, then the input's; allowed calls; an output.
        tensors: of the placeholders, by the name of the fx node.
        shape: of the input, with the batch that the file was written with.
    """

    graph: fx.Graph
    tensors: dict[str, Tensor]
    shape: tuple[int, ...]


@dataclass
class _Builder:
    graph: fx.Graph
    mode: FakeTensorMode
    declared: dict[str, Any]
    env: dict[str, fx.Node] = dataclasses.field(default_factory=dict)
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    # What shares memory with something else, and must not be written to.
    aliased: set[fx.Node] = dataclasses.field(default_factory=set)

    def read(self, name: str) -> fx.Node:
        if name not in self.env:
            raise Damaged(f"{name} is used before it is computed")
        return self.env[name]

    def bind(self, name: str, node: fx.Node) -> None:
        if name in self.env:
            raise Damaged(f"{name} is computed twice")
        self.env[name] = node


def export_hint(shape: tuple[int, ...]) -> str:
    """The line for the training script, with an input as the file has it."""
    example = f"torch.zeros({', '.join(map(str, shape))})"
    return f"snncc.export(module, {example}, 'model.snnc') in the training script"


def build(archive: Archive) -> Program:
    """The graph of an archive.

    Raises:
        ModelError: SNNC-M001 if its description is damaged, SNNC-M004 and SNNC-M005 naming every
            operation that is not allowed.
        UnsafeFileError: SNNC-S002 if a tensor would be too large.
    """
    try:
        return _build(archive)
    except Damaged as error:
        raise damaged(archive.where, error) from None


def _build(archive: Archive) -> Program:
    nodes = records(archive.graph, "nodes")
    every = list(_every(nodes))
    if len(every) > MAX_NODES:
        raise fail("SNNC-S002", archive.where, "has too many operations", got=len(every), limit=MAX_NODES)
    name, shape = _input(archive)
    raise_all([*_output_problems(archive), *_target_problems(every, export_hint(shape))])
    with FakeTensorMode() as mode, torch.no_grad():
        builder = _Builder(fx.Graph(), mode, field(archive.graph, "tensor_values", dict))
        _placeholders(builder, archive)
        given = builder.graph.placeholder("input")
        given.meta["val"] = torch.empty(shape)
        builder.bind(name, given)
        for node in nodes:
            _add(builder, node)
    output = field(records(archive.signature, "output_specs")[0], "user_output", dict)
    builder.graph.output(builder.read(_tensor_name(field(output, "arg", dict))))
    return Program(builder.graph, builder.tensors, shape)


# ---- inputs and outputs -------------------------------------------------------------------------


def _tensor_name(arg: Any) -> str:
    return str(field(field(arg, "as_tensor", dict), "name", str))


def _input(archive: Archive) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the one input."""
    specs = records(archive.signature, "input_specs")
    given = [spec for spec in specs if {"parameter", "buffer", "tensor_constant"}.isdisjoint(spec)]
    if len(given) != 1 or "as_tensor" not in field(field(given[0], "user_input", dict), "arg", dict):
        hint = "a forward that takes one tensor"
        raise fail("SNNC-M004", archive.where, "must take one tensor", got=f"{len(given)} inputs", hint=hint)
    name = _tensor_name(given[0]["user_input"]["arg"])
    meta = field(field(archive.graph, "tensor_values", dict), name, dict)
    sizes = field(meta, "sizes", list)
    symbols = [
        n["as_expr"].get("expr_str") for n in sizes if isinstance(n, dict) and type(n.get("as_expr")) is dict
    ]
    if symbols or field(archive.graph, "sym_int_values", dict):
        what, hint = "has sizes that are no numbers", "torch.export.export without dynamic_shapes"
        raise fail("SNNC-M004", archive.where, what, got=shown(", ".join(map(str, symbols))), hint=hint)
    shape = tuple(map(whole_number, sizes))
    if field(meta, "dtype", int) not in DTYPES or DTYPES[meta["dtype"]] is not torch.float32:
        raise fail(
            "SNNC-M004", archive.where, "must take float32", got=DTYPES.get(meta["dtype"], "another type")
        )
    if len(shape) > 8 or min(shape, default=0) < 1 or math.prod(shape) > MAX_ELEMENTS:
        limit = f"{MAX_ELEMENTS} elements"
        raise fail("SNNC-S002", archive.where, "one input has no fitting size", got=list(shape), limit=limit)
    return name, shape


def _output_problems(archive: Archive) -> Iterator[Problem]:
    specs = records(archive.signature, "output_specs")
    kinds = [next(iter(spec), "") for spec in specs]
    for kind, spec in zip(kinds, specs, strict=True):
        if kind.endswith("_mutation"):
            name = next((str(v) for k, v in field(spec, kind, dict).items() if k.endswith("_name")), "")
            yield problem("SNNC-M005", archive.where, "holds state: a run changes a tensor", got=shown(name))
    if kinds.count("user_output") != 1 or (len(kinds) != 1 and all(k == "user_output" for k in kinds)):
        hint = "a forward that returns one tensor"
        yield problem(
            "SNNC-M004", archive.where, "must return one tensor", got=f"{len(kinds)} results", hint=hint
        )


def _placeholders(b: _Builder, archive: Archive) -> None:
    """A placeholder of every tensor of the file, computed on as float32 only."""
    for spec in records(archive.signature, "input_specs"):
        (kind,) = spec if len(spec) == 1 else ("",)
        if kind == "user_input":
            continue
        entry = field(spec, kind, dict)
        name = field(field(entry, "arg", dict), "name", str)
        key = field(entry, f"{'tensor_constant' if kind == 'tensor_constant' else kind}_name", str)
        tensor = archive.state.get(key, archive.constants.get(key))
        if tensor is None:
            raise Damaged(f"the tensor {key} is missing")
        node = b.graph.placeholder("tensor")
        node.meta["val"] = b.mode.from_tensor(tensor)
        b.bind(name, node)
        b.tensors[node.name] = tensor


# ---- operations ---------------------------------------------------------------------------------

_TARGET = re.compile(r"torch\.ops\.aten\.([a-z0-9_]{1,60})\.([A-Za-z0-9_]{1,60})")


def _base(name: str) -> str:
    """Name of an operation without the underscore of its in-place form."""
    return name[:-1] if name.endswith("_") else name


def _target_problems(nodes: list[Any], hint: str) -> Iterator[Problem]:
    """Operations that are not allowed; those of a neuron as one problem a module."""
    firing: dict[tuple[str, str], dict[str, None]] = {}
    for node in nodes:
        target = field(node, "target", str)
        match = _TARGET.fullmatch(target)
        if match and _base(match[1]) in ALLOWED:
            continue
        path, cls = _where(node)
        if match and _base(match[1]) in DISCONTINUOUS:
            firing.setdefault((path, cls), {})[_base(match[1])] = None
        else:
            name = match[1] if match else shown(target)
            what = f"operation {name} is not supported"
            yield problem(
                "SNNC-M004", path, what, got=cls.rpartition(".")[2] or None, hint=None if match else hint
            )
    for (path, cls), ops in firing.items():
        yield exploded(path, cls, tuple(ops), hint)


def exploded(path: str, cls: str, ops: tuple[str, ...], hint: str) -> Problem:
    """The problem of a neuron of which the file holds the operations and no more."""
    what = f"{cls.rpartition('.')[2] or 'it'} stands in the file as loose operations, no longer as a neuron"
    return problem("SNNC-M005", path, what, got=", ".join(ops), hint=hint)


def _where(node: Any) -> tuple[str, str]:
    """Path and class of the innermost module of an operation, for messages."""
    probe = fx.Graph().placeholder("x")
    probe.meta[STACK] = _stack(node)
    path, cls = module_of(probe)
    return path or "model", cls


def _stack(node: Any) -> dict[str, tuple[str, str]]:
    """Modules that an operation stands in, outermost first: what lies in the file as ``key,path,class;…``."""
    metadata = node.get("metadata")
    text = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    found = {"": ("", "snncc_torch.capturing._Root")}
    for entry in text.split(";") if isinstance(text, str) else ():
        path, _, cls = entry.partition(",")[2].rpartition(",")
        path = path.removeprefix("_export_root").removeprefix(".")  # so strict tracing calls the model
        full = f"{MODEL}.{shown(path)}" if path else MODEL
        found[full] = (full, shown(cls))
    return found


def _every(nodes: list[Any], depth: int = 0) -> Iterator[Any]:
    """All operations, those of inner graphs in the place of the call."""
    for node in nodes:
        if field(node, "target", str) != _NO_GRAD:
            yield node
        elif depth == _MAX_DEPTH:
            raise Damaged("graphs are nested too deep")
        else:
            yield from _every(records(_inner(node)[0], "nodes"), depth + 1)


def _inner(node: Any) -> tuple[dict[str, Any], list[str]]:
    """The graph of a no_grad call, and what it is given."""
    arguments = [field(a, "arg", dict) for a in records(node, "inputs")]
    if len(arguments) < 2:
        raise Damaged("a graph without arguments")
    graph = field(field(arguments[1], "as_graph", dict), "graph", dict)
    return graph, [_tensor_name(a) for a in arguments[2:]]


def _add_inner(b: _Builder, node: Any) -> None:
    """The operations of an inner graph, which has names of its own."""
    graph, given = _inner(node)
    outer = b.env, b.declared
    formal, results = ([_tensor_name(a) for a in records(graph, key)] for key in ("inputs", "outputs"))
    names = [_tensor_name(a) for a in records(node, "outputs")]
    if len(formal) != len(given) or len(results) != len(names):
        raise Damaged("an inner graph has other arguments or results than its call")
    b.env, b.declared = (
        dict(zip(formal, map(b.read, given), strict=True)),
        field(graph, "tensor_values", dict),
    )
    # What the inner graph writes to, the outer one may look at.
    b.aliased.update(b.env.values())
    for inside in records(graph, "nodes"):
        _add(b, inside)
    found = [b.read(name) for name in results]
    b.env, b.declared = outer
    for name, result in zip(names, found, strict=True):
        b.bind(name, result)


def _add(b: _Builder, node: Any) -> None:
    """One operation, computed on shapes."""
    if node["target"] == _NO_GRAD:
        _add_inner(b, node)
        return
    match = _TARGET.fullmatch(node["target"])
    assert match is not None
    packet = getattr(torch.ops.aten, _base(match[1]), None)
    if packet is None or match[2] not in packet.overloads():
        raise Damaged(f"there is no {match[0]}")
    target = getattr(packet, match[2])
    if target._schema.is_mutable:
        raise Damaged(f"{match[0]} writes to its arguments")
    args, kwargs = _arguments(b, node, target)
    made = b.graph.call_function(target, args, kwargs)
    made.meta[STACK] = _stack(node)
    made.meta["val"] = _computed(made)
    if _base(match[1]) != match[1]:
        _written(b, args[0] if args else None, made)
    elif any(r.alias_info is not None for r in target._schema.returns) or _base(match[1]) in _SILENT_ALIASES:
        b.aliased.update([made, *made.all_input_nodes])
    _name_results(b, node, made)


def _arguments(b: _Builder, node: Any, target: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments in the order of the schema, those behind an absent one by name."""
    given = {field(a, "name", str): _value(b, field(a, "arg", dict)) for a in records(node, "inputs")}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for wanted in target._schema.arguments:
        if wanted.name not in given:
            continue
        value = given.pop(wanted.name)
        before = len(args) == target._schema.arguments.index(wanted) and not wanted.kwarg_only
        if before:
            args.append(value)
        else:
            kwargs[wanted.name] = value
    if given:
        raise Damaged(f"{target} takes no {next(iter(given))}")
    return tuple(args), kwargs


_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def _float(value: Any) -> float:
    if type(value) is str and value in _INFINITE:
        return _INFINITE[value]
    if type(value) not in (int, float):
        raise Damaged("an argument is no number")
    return float(value)


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind or (isinstance(value, str) and len(value) > 40):
        raise Damaged(f"an argument is no {kind.__name__}")
    return value


def _among(table: dict[int, Any], value: Any) -> Any:
    if type(value) is not int or value not in table:
        raise Damaged("an argument has a type or a layout that is not read")
    return table[value]


def _value(b: _Builder, arg: dict[str, Any]) -> Any:
    """An argument of a call; a device becomes the CPU."""
    if len(arg) != 1:
        raise Damaged("an argument is ill-described")
    ((kind, value),) = arg.items()
    if kind.endswith("s") and kind not in ("as_tensors", "as_optional_tensors", "as_sym_ints"):
        return [_value(b, {kind[:-1]: item}) for item in _checked(value, list)]
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return b.read(field(value, "name", str))
        case "as_tensors":
            return [b.read(field(item, "name", str)) for item in _checked(value, list)]
        case "as_optional_tensors":
            return [_value(b, _checked(item, dict)) for item in _checked(value, list)]
        case "as_int" | "as_bool" | "as_string":
            return _checked(value, {"as_int": int, "as_bool": bool, "as_string": str}[kind])
        case "as_float":
            return _float(value)
        case "as_sym_int":
            return whole_number(value)
        case "as_sym_ints":
            return [whole_number(item) for item in _checked(value, list)]
        case "as_scalar_type":
            return _among(DTYPES, value)
        case "as_memory_format":
            return _among(_MEMORY, value)
        case "as_layout":
            return _among({7: torch.strided}, value)
        case "as_device":
            return torch.device("cpu")
    raise Damaged(f"an argument of the kind {kind}")


def _computed(node: fx.Node) -> Any:
    """What a call makes of the shapes of its arguments."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    try:
        value = node.target(*args, **kwargs)  # type: ignore[operator]
    except Exception as error:  # torch raises almost anything here
        line = " ".join(str(error).split())[:200]
        raise Damaged(
            f"{node.target} at {module_of(node)[0] or 'model'} cannot be computed: {line}"
        ) from None
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, Tensor) and part.numel() > MAX_ELEMENTS:
            where, got = module_of(node)[0] or "model", f"{part.numel()} elements"
            raise fail("SNNC-S002", where, "an intermediate tensor is too large", got=got, limit=MAX_ELEMENTS)
    return value


def _written(b: _Builder, old: Any, new: fx.Node) -> None:
    """``new`` takes the place of a tensor that the file writes to, if nothing else looks at its memory."""
    if not isinstance(old, fx.Node) or old.op == "placeholder" or old in b.aliased:
        where, what = module_of(new)[0] or "model", "changes a tensor in place that is used elsewhere"
        raise fail("SNNC-M004", where, what, hint="torch.export.save(program.run_decompositions({}), path)")
    b.env.update({name: new for name, node in b.env.items() if node is old})


def _name_results(b: _Builder, node: Any, made: fx.Node) -> None:
    """Bind the file's names to the results of a call, of several through a getitem each."""
    outputs, value = records(node, "outputs"), made.meta["val"]
    if outputs and isinstance(outputs[0], dict) and "as_tensors" in outputs[0]:
        names = [field(item, "name", str) for item in field(outputs[0], "as_tensors", list)]
    else:
        names = [_tensor_name(out) for out in outputs if "as_none" not in _checked(out, dict)]
    results = list(value) if isinstance(value, list | tuple) else [value] if isinstance(value, Tensor) else []
    if len(names) != len(results):
        raise Damaged(f"{made.target} has {len(names)} results in the file")
    for i, (name, result) in enumerate(zip(names, results, strict=True)):
        part = made
        if value is not result:
            part = b.graph.call_function(operator.getitem, (made, i))
            part.meta.update({STACK: made.meta[STACK], "val": result})
            b.aliased.update({part} if made in b.aliased else ())
        _check_declared(b, name, result)
        b.bind(name, part)


def _check_declared(b: _Builder, name: str, value: Tensor) -> None:
    meta = field(b.declared, name, dict)
    size = tuple(map(whole_number, field(meta, "sizes", list)))
    if size != tuple(value.shape) or DTYPES.get(field(meta, "dtype", int)) is not value.dtype:
        raise Damaged(f"{name} is declared as {list(size)} and computed as {list(value.shape)}")
