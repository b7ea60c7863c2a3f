"""Integer neurons in the graph of a ``.pt2`` file, found by what they compute.

A file of ``torch.export`` holds no neurons any more. A stateless integer neuron leaves a chain of
operations on one tensor behind: scaled, clamped, rounded, divided. Such a chain is a hypothesis for
a canonical neuron; it becomes a module again that runs the very operations of the file, so that
``capture`` verifies it and compares layer by layer as with any other module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from snncc.errors import Problem, fail, problem, raise_all
from snncc.model import Model
from snncc.plugins import LoadOptions
from snncc.safeio import shown
from snncc_torch.capturing import capture
from snncc_torch.files.pt2file import Archive
from snncc_torch.files.pt2graph import CLAMPS, MODEL, ROUNDING, STACK, Program, build, exploded, export_hint
from snncc_torch.neurons.recognise import verify
from snncc_torch.operations.aten import module_of, op_name
from snncc_torch.operations.handlers import HANDLERS
from snncc_torch.registry import NeuronSpec, register_neuron

MAX_LEVELS = 2**16
# Links on either side of a rounding.
_REACH = 8


def load_program(archive: Archive, options: LoadOptions) -> Model:
    """Model of an archive of ``torch.export``, compared with a run of its own operations.

    Raises:
        ModelError: SNNC-M001 to M007 and M013, with every problem found.
        UsageError: SNNC-U005 for options that do not fit the file.
        UnsafeFileError: SNNC-S002 if a tensor would be too large.
    """
    program = build(archive)
    raise_all(_tensor_problems(archive))
    steps, batch, features = _axes(program, options)
    if options.input_shape not in (None, features):
        what = "is another shape than the file's"
        raise fail("SNNC-U005", "--input-shape", what, got=options.input_shape, limit=features)
    if batch != 1:
        hint = f"torch.export.export(module, (torch.zeros(1, {', '.join(map(str, features))}),))"
        if program.shape[1:2] == (1,):
            hint = f"--timesteps {batch}, if the first axis is time; else {hint}"
        raise fail("SNNC-M004", archive.where, "was traced for one batch size", got=batch, limit=1, hint=hint)
    module = replayed(program)
    # Said at each load, for users may clear what they registered.
    register_neuron(Activation, lambda site: site.spec)
    model = capture(module, torch.zeros(program.shape), steps, input_levels=options.input_levels or 0)
    return replace(model, graph=replace(model.graph, name=_root_class(program)), origin=archive.where)


def _axes(program: Program, options: LoadOptions) -> tuple[int, int, tuple[int, ...]]:
    """Timesteps, batch and features of the input."""
    steps, shape = options.timesteps or 1, program.shape
    timed = steps > 1 and len(shape) > 2 and shape[0] == steps
    return (steps, shape[1], shape[2:]) if timed else (steps, shape[0], shape[1:])


def _tensor_problems(archive: Archive) -> Iterator[Problem]:
    """Weights that are no finite float32, as ``capture`` says it of a module's."""
    for name, tensor in {**archive.state, **archive.constants}.items():
        if not tensor.is_floating_point():
            continue
        if tensor.dtype is not torch.float32:
            yield problem("SNNC-M004", shown(name), "is not float32", got=tensor.dtype, hint="module.float()")
        elif not bool(torch.isfinite(tensor).all()):
            got = f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()} values NaN or infinite"
            yield problem("SNNC-M007", shown(name), "is not finite", got=got)


def _root_class(program: Program) -> str:
    for node in program.graph.nodes:
        stack = node.meta.get(STACK, {})
        if MODEL in stack:
            return re.sub(r"\W", "_", stack[MODEL][1].rpartition(".")[2]) or "model"
    return "model"


# ---- chains -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Link:
    """One operation of a chain: ``x·factor + offset``, then clamped to [low, high]."""

    node: fx.Node
    source: fx.Node
    factor: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Chain:
    """Operations that together are an integer neuron.

    Attributes:
        nodes: in order; the first reads ``source``.
        rounding: the one that rounds.
        source: what drives the neuron.
        spec: the canonical neuron.
    """

    nodes: tuple[fx.Node, ...]
    rounding: fx.Node
    source: fx.Node
    spec: NeuronSpec


def chains(program: Program) -> list[Chain]:
    """Every chain of operations that an integer neuron would leave."""
    found: list[Chain] = []
    used: set[fx.Node] = set()
    for node in program.graph.nodes:
        if str(node.target) in ("aten.round.default", "aten.floor.default"):
            chain = _chain(node, program.tensors, used)
            if chain is not None:
                used.update(chain.nodes)
                found.append(chain)
    return found


def _chain(rounding: fx.Node, tensors: dict[str, Tensor], used: set[fx.Node]) -> Chain | None:
    """The shortest chain around a rounding that is a neuron, with what else is the neuron's own.

    Links of the rounding's own module come before any of another: those are the next neuron's.
    """
    before, after = _before(rounding, tensors, used), _after(rounding, tensors)
    home = module_of(rounding)[0]
    fits: list[tuple[int, int, int, int]] = []
    for i in range(len(before) + 1):
        for j in range(len(after) + 1):
            links = (*before[len(before) - i :], *after[:j])
            if _neuron(before[len(before) - i :], op_name(rounding), after[:j]) is not None:
                fits.append((sum(module_of(k.node)[0] != home for k in links), i + j, j, i))
    if not fits:
        return None
    _, _, j, i = min(fits)
    i, j = _widened(before, op_name(rounding), after, home, (i, j))
    front, back = before[len(before) - i :], after[:j]
    spec = _neuron(front, op_name(rounding), back)
    source = front[0].source if front else rounding.args[0]
    assert spec is not None
    assert isinstance(source, fx.Node)
    return Chain((*(k.node for k in front), rounding, *(k.node for k in back)), rounding, source, spec)


def _widened(
    before: list[_Link], rule: str, after: list[_Link], home: str, ends: tuple[int, int]
) -> tuple[int, int]:
    """``ends`` of a chain with further links of the same module: a final division, ``+ 0.5``, ``4·x``.

    A factor in front is taken in where it is a power of two, for then it moves no tie.
    """
    i, j = ends
    while j < len(after) and module_of(after[j].node)[0] == home and after[j].factor != 1:
        if _neuron(before[len(before) - i :], rule, after[: j + 1]) is None:
            break
        j += 1
    while i < len(before):
        link = before[len(before) - i - 1]
        exact = math.frexp(link.factor)[0] == 0.5 and math.isinf(link.high) and math.isinf(link.low)
        own = module_of(link.node)[0] == home and (home != "" or link.offset != 0)
        if not (exact and own) or _neuron(before[len(before) - i - 1 :], rule, after[:j]) is None:
            break
        i += 1
    return i, j


def _before(rounding: fx.Node, tensors: dict[str, Tensor], used: set[fx.Node]) -> list[_Link]:
    links: list[_Link] = []
    node = rounding.args[0]
    while isinstance(node, fx.Node) and len(node.users) == 1 and node not in used and len(links) < _REACH:
        link = _link(node, tensors)
        if link is None:
            break
        links.insert(0, link)
        node = link.source
    return links


def _after(rounding: fx.Node, tensors: dict[str, Tensor]) -> list[_Link]:
    links: list[_Link] = []
    node = rounding
    while len(node.users) == 1 and len(links) < _REACH:
        (user,) = node.users
        link = _link(user, tensors)
        if link is None or link.source is not node or link.offset:
            break
        links.append(link)
        node = user
    return links


def _link(node: fx.Node, tensors: dict[str, Tensor]) -> _Link | None:
    """An operation of one tensor and numbers, or None."""
    if node.op != "call_function" or op_name(node) not in CLAMPS | {"mul", "div", "add"}:
        return None
    moved = [n for n in node.all_input_nodes if n.name not in tensors]
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = {a.name: v for a, v in zip(schema, node.args, strict=False)} | dict(node.kwargs)
    numbers = {key: _number(value, tensors) for key, value in given.items() if value not in moved}
    if len(moved) != 1 or any(n is None for key, n in numbers.items() if given[key] is not None):
        return None
    x, name = moved[0], op_name(node)
    if name in CLAMPS:
        low, high = _bounds(name, given, numbers)
        return _Link(node, x, low=low, high=high)
    number = numbers.get("other", numbers.get("self"))
    if number is None or given.get("rounding_mode") is not None or numbers.get("alpha", 1) != 1:
        return None
    if name == "add":
        return _Link(node, x, offset=number)
    if number <= 0 or not math.isfinite(number) or (name == "div" and given.get("self") is not x):
        return None
    return _Link(node, x, factor=number if name == "mul" else 1 / number)


def _number(value: Any, tensors: dict[str, Tensor]) -> float | None:
    """A constant of one element."""
    if isinstance(value, fx.Node) and value.name in tensors and tensors[value.name].numel() == 1:
        return float(tensors[value.name])
    return float(value) if isinstance(value, int | float) else None


def _bounds(name: str, given: dict[str, Any], numbers: dict[str, float | None]) -> tuple[float, float]:
    if name == "relu":
        return 0.0, math.inf
    low, high = (numbers.get(a, numbers.get(b)) for a, b in (("min", "min_val"), ("max", "max_val")))
    if name == "hardtanh":
        low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _neuron(front: list[_Link], rounding: str, back: list[_Link]) -> NeuronSpec | None:
    """The neuron ``clip(round(x/θ), 0, D)·scale`` that a chain is, or None.

    All links are monotone, so a clamp before the rounding is one of whole numbers behind it.
    """
    threshold, offset, low, high = 1.0, 0.0, -math.inf, math.inf
    for link in front:
        threshold /= link.factor
        offset, low, high = (v * link.factor + link.offset for v in (offset, low, high))
        low, high = (min(max(v, link.low), link.high) for v in (low, high))
    rule = {("round", 0.0): "half_even", ("floor", 0.5): "half_up", ("floor", 0.0): "floor"}.get(
        (rounding, offset)
    )
    whole = round if rounding == "round" else math.floor
    low, high = (whole(v) if math.isfinite(v) else v for v in (low, high))
    scale = 1.0
    for link in back:
        scale *= link.factor
        low, high = (min(max(v, link.low / scale), link.high / scale) for v in (low, high))
    if rule is None or low != 0 or not 1 <= high <= MAX_LEVELS or high != int(high):
        return None
    what = "found by what its operations compute"
    return NeuronSpec(
        layout="none", threshold=threshold, max_spikes=int(high), rounding=rule, output_scale=scale, note=what
    )


# ---- modules ------------------------------------------------------------------------------------


class _X:
    """Stands for the moving tensor among the arguments of a call."""


class Activation(nn.Module):
    """A chain of operations of the file: an integer neuron again."""

    def __init__(self, chain: Chain, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.spec = chain.spec
        self.calls: list[tuple[Any, Any, Any]] = []
        before = chain.source
        for node in chain.nodes:

            def constant(n: fx.Node, x: fx.Node = before) -> Any:
                return _X if n is x else tensors[n.name]

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), constant)
            self.calls.append((node.target, args, kwargs))
            before = node
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Counts times the output scale, of the same shape as ``x``."""
        for target, args, kwargs in self.calls:
            named = {key: x if a is _X else a for key, a in kwargs.items()}
            x = target(*(x if a is _X else a for a in args), **named)
        return x


class _Interpreter(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        with fx.traceback.set_current_meta(n):
            return super().run_node(n)


class _Shared:
    """A graph that all copies of a module share."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class Replayed(nn.Module):
    """Runs the operations of a file node by node; no code is made of them."""

    def __init__(self, graph: fx.Graph, tensors: dict[str, Tensor], sites: dict[str, Activation]) -> None:
        super().__init__()
        self._shared = _Shared(graph)
        for path, site in sites.items():
            parent: nn.Module = self
            *above, last = path.split(".")
            for part in above:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent._modules[part]  # type: ignore[assignment]
            parent.add_module(last, site)
        self._names = [f"_tensor_{i}" for i in range(len(tensors))]
        for name, tensor in zip(self._names, tensors.values(), strict=True):
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """The result of the graph."""
        tensors = (getattr(self, name) for name in self._names)
        with fx.traceback.preserve_node_meta():
            return _Interpreter(self, graph=self._shared.graph).run(*tensors, x)


def replayed(program: Program) -> Replayed:
    """A module that runs a program, with its integer neurons as modules; ``program.graph`` is changed.

    Raises:
        ModelError: SNNC-M004 and SNNC-M005 naming every rounding and clamp that belongs to no neuron.
    """
    graph, sites = program.graph, {}
    found = chains(program)
    mine = {node for chain in found for node in chain.nodes}
    names = _Names({_own_path(n) for n in graph.nodes if n.op == "call_function" and n not in mine})
    made = [(chain, Activation(chain, program.tensors)) for chain in found]
    calls: dict[fx.Node, fx.Node] = {}
    for chain, site in made:
        if any(verify("", chain.spec, site)):
            continue  # the operations stay, and are refused below
        path = names.take(_own_path(chain.rounding))
        sites[path], last = site, chain.nodes[-1]
        with graph.inserting_after(last):
            calls[last] = graph.call_module(path, (calls.get(chain.source, chain.source),))
        calls[last].meta[STACK] = last.meta[STACK]
        last.replace_all_uses_with(calls[last])
        for node in reversed(chain.nodes):
            graph.erase_node(node)
    raise_all(_left_over(program))
    tensors = {}
    for node in list(graph.nodes):
        node.meta = {STACK: node.meta[STACK]} if STACK in node.meta else {}
        if node.name in program.tensors and not node.users:
            graph.erase_node(node)
        elif node.name in program.tensors:
            tensors[node.name] = program.tensors[node.name]
    return Replayed(graph, tensors, sites)


def _own_path(node: fx.Node) -> str:
    """Path of the node's module, of parts that a module may have as names."""
    parts = [re.sub(r"\W", "_", part) for part in module_of(node)[0].split(".") if part]
    return ".".join(f"{part}_" if hasattr(nn.Module, part) else part for part in parts)


@dataclass
class _Names:
    """Paths of neurons: none is twice there, and none stands inside another's.

    Attributes:
        others: paths of modules that do something else too.
    """

    others: set[str]
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.others = {above for path in self.others for above in _ancestors(path)}

    def take(self, path: str) -> str:
        """A path for a neuron of the module at ``path``."""
        if path in self.others or not path:
            path = f"{path}.activation" if path else "activation"
        if not self.taken.isdisjoint(_ancestors(path)[:-1]):
            path = path.replace(".", "_")
        name, n = path, 1
        while name in self.taken or name in self.others:
            name, n = f"{path}_{n}", n + 1
        self.taken.add(name)
        self.others.update(_ancestors(name)[:-1])
        return name


def _ancestors(path: str) -> list[str]:
    """``a``, ``a.b``, ``a.b.c`` of ``a.b.c``."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _left_over(program: Program) -> Iterator[Problem]:
    """Rounding that is no neuron, and clamps without any."""
    hint = export_hint(program.shape)
    moved: set[fx.Node] = set()
    firing: dict[tuple[str, str], dict[str, None]] = {}
    clamps: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name not in program.tensors:
            moved.add(node)
        if moved.isdisjoint(node.all_input_nodes):
            continue
        moved.add(node)
        if node.op != "call_function":
            continue
        (path, cls), name = module_of(node), op_name(node)
        if name in ROUNDING:
            firing.setdefault((path or "model", cls), {})[name] = None
        elif name in CLAMPS and name not in HANDLERS:
            clamps[path or "model"] = name
    for (path, cls), ops in firing.items():
        clamps.pop(path, None)
        yield exploded(path, cls, tuple(ops), hint)
    for path, name in clamps.items():
        yield problem("SNNC-M004", path, f"operation {name} is not supported")
