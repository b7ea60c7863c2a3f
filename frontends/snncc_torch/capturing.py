"""Capture: a trained PyTorch module becomes a float graph."""

from __future__ import annotations

import copy
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from snncc.errors import Problem, SnnccError, fail, problem, raise_all
from snncc.ir import (
    Current,
    Decode,
    Family,
    Function,
    Graph,
    Input,
    LayerNorm,
    MatMul,
    Mul,
    Node,
    Output,
    Spikes,
)
from snncc.model import Comparison, Model
from snncc_torch import fallback, sinabs_neurons
from snncc_torch.aten import Importer, SiteInfo, import_nodes
from snncc_torch.batching import batch_note
from snncc_torch.comparing import compare, working_copy
from snncc_torch.handlers import HANDLERS
from snncc_torch.layout import Value
from snncc_torch.ops import swap
from snncc_torch.recognise import find_neurons, refusals, reset_state, unrecognised

# No intermediate tensor of one sample may have more elements than this (1 GiB of float32).
MAX_ELEMENTS = 2**28


def capture(
    module: nn.Module, example_input: Tensor, timesteps: int | None = None, *, input_levels: int = 0
) -> Model:
    """The float graph of a trained module, compared with it layer by layer.

    The module is copied, never changed, and its copy is traced at batch 1.

    Args:
        module: in evaluation mode.
        example_input: as the module takes it: [B, *shape], or [T, B, *shape] where the module
            has multi-step neurons, or sinabs' [B, T, *shape] and [T, *shape] (one sample).
            With ``timesteps`` T > 1 and another first size than T it is one [B, *shape] that the
            module itself repeats over time.
        timesteps: T; None reads it from the example of a multi-step model, else 1.
        input_levels: largest spike count of the input; 0 for real values.

    Raises:
        ModelError: SNNC-M004 to M008 and M013, with every problem found.
    """
    if not isinstance(module, nn.Module):
        raise fail("SNNC-U010", "module", "is no torch.nn.Module", got=type(module).__name__)
    raise_all(_state_problems(module))
    pristine = _copy(module)
    found = find_neurons(pristine)
    if not found.traceable:
        raise_all(found.problems)
    form = _form(pristine, found.sites, example_input, timesteps)
    first = Input(name="input", shape=form.shape, levels=input_levels)
    imp = Importer(form.steps, found.sites, types={first.name: first.infer(())})
    imp.problems.extend(found.problems)
    traced = _export(pristine, found.modules, form, imp.notes)
    env, result = _placeholders(traced, form)
    raise_all(_size_problems(traced))
    import_nodes(imp, traced.graph, env, HANDLERS)
    imp.problems.extend(_loose_ends(imp, pristine, found.modules, form))
    raise_all(_without_echoes(imp.problems))
    graph = _graph(imp, _name(module), env[result], first)
    comparison, notes = _compared(graph, pristine, imp, form, input_levels)
    notes = (*_site_notes(found.sites), *dict.fromkeys((*_host_notes(graph), *imp.notes)), *notes)
    origin = f"{type(module).__module__}.{type(module).__qualname__}"
    return Model(graph, comparison=comparison, notes=notes, origin=origin)


# ---- before tracing -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How the module takes its input.

    Attributes:
        steps: timesteps T.
        lead: labels of the input's leading axes.
        shape: features of one sample at one timestep.
        example: zeros at batch 1, as the module takes them.
    """

    steps: int
    lead: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def example(self) -> Tensor:
        """Zeros at batch 1, as the module takes them."""
        sizes = {"T": self.steps, "TB": self.steps, "B": 1}
        return torch.zeros(*(sizes[label] for label in self.lead), *self.shape)


def _state_problems(module: nn.Module) -> Iterator[Problem]:
    training = [path or "model" for path, m in nn.Module.named_modules(module) if m.training]
    if training:
        yield problem(
            "SNNC-M008",
            training[0],
            "is in training mode",
            got=f"{len(training)} modules",
            hint="module.eval()",
        )
    tensors = {**dict(nn.Module.named_parameters(module)), **dict(nn.Module.named_buffers(module))}
    for path, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if tensor.dtype is not torch.float32:
            yield problem("SNNC-M004", path, "is not float32", got=tensor.dtype, hint="module.float()")
        elif not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            yield problem(
                "SNNC-M007", path, "is not finite", got=f"{bad} of {tensor.numel()} values NaN or infinite"
            )


def _copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU, with the state of every known neuron at rest."""
    memo: dict[int, Any] = {}
    for part in nn.Module.modules(module):
        # After a run a membrane is the result of a computation, which deepcopy refuses.
        for kept in (vars(part), part._buffers, getattr(part, "_memories", None) or {}):
            for value in kept.values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
    try:
        fresh = copy.deepcopy(module, memo).cpu()
    except Exception as error:  # user code: whatever it raises, there is no copy to work on
        raise_all(refusals(module))
        raise fail("SNNC-M013", "model", "cannot be copied", got=_first_line(error)) from None
    reset_state(fresh)
    return fresh


def _form(module: nn.Module, sites: tuple[SiteInfo, ...], example: Tensor, timesteps: int | None) -> Form:
    if not isinstance(example, Tensor) or example.dim() < 2:
        got = f"{list(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise fail("SNNC-U005", "example_input", "must be a tensor [B, ...] or [T, B, ...]", got=got)
    layouts = {site.time for site in sites}
    if layouts & {"batch_first", "squeezed"}:
        return _batch_major(layouts, example, timesteps)
    multi = "multi" in layouts or any(getattr(m, "step_mode", None) == "m" for m in nn.Module.modules(module))
    steps = timesteps if timesteps is not None else (int(example.shape[0]) if multi else 1)
    if steps < 1:
        raise fail("SNNC-U005", "timesteps", "must be at least 1", got=steps)
    timed = example.shape[0] == steps and (steps > 1 or multi)
    if timed and example.dim() < 3:
        raise fail("SNNC-U005", "example_input", "must be [T, B, ...]", got=list(example.shape))
    lead = ("T", "B") if timed else ("B",)
    if (steps * math.prod(example.shape[len(lead) :])) > MAX_ELEMENTS:
        got = f"{steps} timesteps of {list(example.shape[len(lead) :])}"
        raise fail("SNNC-S002", "input", "one sample is too large", got=got, limit=f"{MAX_ELEMENTS} elements")
    return Form(steps, lead, tuple(int(n) for n in example.shape[len(lead) :]))


def _batch_major(layouts: set[str], example: Tensor, timesteps: int | None) -> Form:
    """Sinabs takes [B, T, ...], or [B·T, ...], of which the example is one sample unless T is given."""
    first = "batch_first" in layouts and "squeezed" not in layouts
    axis = 1 if first else 0
    steps = int(example.shape[axis]) if timesteps is None else timesteps
    wrong = example.shape[axis] != steps if first else steps < 1 or example.shape[0] % steps
    if steps < 1 or wrong:
        got, limit = f"{steps} timesteps", f"an example of {list(example.shape)}"
        raise fail("SNNC-U005", "timesteps", "does not fit the example", got=got, limit=limit)
    lead = ("B", "T") if first else ("TB",)
    return Form(steps, lead, tuple(int(n) for n in example.shape[len(lead) :]))


# ---- tracing ------------------------------------------------------------------------------------


def _export(module: nn.Module, neurons: tuple[nn.Module, ...], form: Form, notes: list[str]) -> Any:
    """The exported program of a copy in which neurons are opaque."""

    def opaque() -> nn.Module:
        memo: dict[int, Any] = {}
        fresh = working_copy(module, memo)
        sinabs_neurons.simplify(fresh)
        return _Root(swap(fresh, {id(memo[id(n)]): i for i, n in enumerate(neurons)}))

    try:
        with _quiet(), torch.no_grad():
            program = _traced(opaque, form.example, notes)
            if any(_mutates(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
    except Exception as error:  # whatever user code or the tracer raises, the user gets one sentence
        raise _export_failure(module, form, error) from None
    return program


def _traced(opaque: Callable[[], nn.Module], example: Tensor, notes: list[str]) -> Any:
    try:
        return torch.export.export(opaque(), (example,), strict=False)
    except Exception as error:
        try:
            program = fallback.trace(opaque(), example)
        except Exception:
            raise error from None  # what torch.export says is clearer
        notes.append(f"traced by make_fx, for torch.export failed: {_first_line(error)}")
        return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The tracer logs and warns about what the user is told in one sentence anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Root(nn.Module):
    """Gives the model a parent, so that a model that is itself a neuron can be swapped too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return result


def _mutates(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _export_failure(module: nn.Module, form: Form, error: Exception) -> SnnccError:
    """Name the module that fails: by running the model once, else as far as the tracer tells."""
    running: list[str] = []
    fresh = copy.deepcopy(module)
    reset_state(fresh)
    for path, part in nn.Module.named_modules(fresh):
        part.register_forward_pre_hook(lambda _m, _a, path=path: running.append(path))
        part.register_forward_hook(lambda _m, _a, _o: running.pop() and None)
    try:
        with torch.no_grad():
            fresh(form.example)
    except Exception as own:
        where = running[-1] if running and running[-1] else "model"
        what = f"the module fails on an input of shape {list(form.example.shape)}"
        return fail("SNNC-M013", where, what, got=_first_line(own))
    hint = "control flow that does not depend on the data, or snncc_torch.nn's layers"
    return fail(
        "SNNC-M013", "model", "torch.export cannot trace the module", got=_first_line(error), hint=hint
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")


def _placeholders(program: Any, form: Form) -> tuple[dict[fx.Node, Any], fx.Node]:
    """Values of the placeholders, and the node of the result."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    env: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            target = names[node.name]
            env[node] = (
                program.state_dict[target] if target in program.state_dict else program.constants[target]
            )
        elif node.op == "placeholder":
            env[node] = Value("input", form.lead, form.shape)
    outputs = list(signature.user_outputs)
    by_name = {n.name: n for n in program.graph.nodes}
    if len(outputs) != 1 or outputs[0] not in by_name:
        hint = "a forward that returns one tensor"
        raise fail("SNNC-M004", "model", "must return one tensor", got=f"{len(outputs)} results", hint=hint)
    return env, by_name[outputs[0]]


def _size_problems(program: Any) -> Iterator[Problem]:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.numel() > MAX_ELEMENTS:
            yield problem(
                "SNNC-S002",
                node.name,
                "an intermediate tensor is too large",
                got=f"{value.numel()} elements",
                limit=MAX_ELEMENTS,
            )
            return


def _loose_ends(
    imp: Importer, module: nn.Module, neurons: tuple[nn.Module, ...], form: Form
) -> Iterator[Problem]:
    """Neurons that nobody recognised: by what they left in the graph, or by state they keep."""
    parts = dict(nn.Module.named_modules(module))
    named: set[str] = set()
    for where, ops in imp.firing.items():
        named.add(where)
        path = "" if where == "model" else where
        used = ", ".join(dict.fromkeys(ops))
        yield unrecognised(where, parts.get(path, "it"), f"fires or rounds ({used})")
    for path, what in _changed_by_a_run(module, neurons, form):
        if (path or "model") not in named:
            named.add(path or "model")
            yield unrecognised(path, parts[path], f"holds state ({what})")


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """An unrecognised neuron is one problem: the operations it is made of are not named again."""
    neurons = {p.where for p in problems if p.code == "SNNC-M005"}
    return [p for p in problems if p.code != "SNNC-M004" or p.where not in neurons]


def _changed_by_a_run(
    module: nn.Module, neurons: tuple[nn.Module, ...], form: Form
) -> Iterator[tuple[str, str]]:
    """Tensors that a run leaves in modules other than the recognised neurons.

    torch.export drops such assignments without a word, so that only a run shows them.
    """
    memo: dict[int, Any] = {}
    fresh = working_copy(module, memo)
    known = {id(part) for n in neurons for part in nn.Module.modules(memo[id(n)])}
    before = {id(m): _tensors_of(m) for m in nn.Module.modules(fresh)}
    with torch.no_grad():
        fresh(form.example)
    for path, part in nn.Module.named_modules(fresh):
        if id(part) in known:
            continue
        for key, (now, version) in _tensors_of(part).items():
            old, old_version = before[id(part)].get(key, (None, 0))
            if old is not now or old_version != version:
                yield path, key


def _tensors_of(module: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Every tensor that a module holds itself, and how often it was written to."""
    held = {**vars(module), **module._buffers}
    return {key: (t, t._version) for key, t in held.items() if isinstance(t, Tensor)}


# ---- the graph ----------------------------------------------------------------------------------


def _name(module: nn.Module) -> str:
    return re.sub(r"[^\w.\-]", "_", type(module).__name__)


def _graph(imp: Importer, name: str, result: Any, first: Input) -> Graph:
    if not isinstance(result, Value):
        raise fail("SNNC-M004", "model", "the result does not depend on the input")
    if "f" in result.lead:
        raise fail("SNNC-M004", "model", "a feature axis stands before batch or time in the result")
    nodes = _reachable((first, *imp.nodes), result.name)
    spikes = isinstance(imp.types[result.name], Spikes) and result.name != first.name
    last = Output(
        name="output",
        inputs=(result.name,),
        decode=Decode.COUNT if spikes else Decode.VALUE,
        over_time=result.reduced,
    )
    return Graph(name, Family.FLOAT, (*nodes, last), steps=imp.steps)


def _reachable(nodes: tuple[Node, ...], result: str) -> tuple[Node, ...]:
    wanted = {result, "input"}
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return tuple(n for n in nodes if n.name in wanted)


def _compared(
    graph: Graph, module: nn.Module, imp: Importer, form: Form, levels: int
) -> tuple[Comparison, tuple[str, ...]]:
    """Compare on two fresh random inputs; note the layers that never fired there."""
    rng = np.random.default_rng(7)
    kept = {n.name for n in graph.nodes}
    times = 1 if form.lead == ("B",) else form.steps
    inputs = []
    for _ in range(2):
        x = _drawn(rng, (times, *form.shape), levels)
        given = torch.from_numpy(x.reshape(form.example.shape))
        inputs.append((given, np.broadcast_to(x, (form.steps, *form.shape))))
    comparison, silent = compare(graph, module, tuple(c for c in imp.calls if c.node in kept), tuple(inputs))
    return comparison, (
        *_form_notes(form),
        *_batch_notes(module, form, levels),
        *(f"{path}: never fired on the two test inputs" for path in silent),
    )


def _drawn(rng: np.random.Generator, size: tuple[int, ...], levels: int) -> NDArray[np.float32]:
    if levels:
        return rng.integers(0, levels + 1, size).astype(np.float32)
    return rng.normal(0, 1, size).astype(np.float32)


def _form_notes(form: Form) -> Iterator[str]:
    if form.steps > 1 and form.lead == ("B",):
        yield f"the module repeats a static input over {form.steps} timesteps: feed the same input at each"


def _batch_notes(module: nn.Module, form: Form, levels: int) -> Iterator[str]:
    """A note if the module mixes the samples of a batch, or cannot take two."""
    if "B" not in form.lead:
        return
    axis = form.lead.index("B")
    shape = list(form.example.shape)
    shape[axis] = 2
    pair = torch.from_numpy(_drawn(np.random.default_rng(8), tuple(shape), levels))
    note = batch_note(module, pair, axis)
    if note is not None:
        yield note


def _host_notes(graph: Graph) -> Iterator[str]:
    """What no spikes compute, by module."""
    for node in graph.nodes:
        real = all(isinstance(graph.types[name], Current) for name in node.inputs)
        if isinstance(node, Function | LayerNorm) or (isinstance(node, MatMul | Mul) and real):
            what = node.op if isinstance(node, Function) else node.kind
            yield f"{node.source or 'model'}: {what} of real values is left to the host"


def _site_notes(sites: tuple[SiteInfo, ...]) -> Iterator[str]:
    for site in sites:
        n = site.neuron
        kind = (
            f"integer neuron 0..{n.max_spikes}"
            if n.is_stateless
            else f"readout of the membrane, decay={n.decay}"
            if n.is_readout
            else f"θ={n.threshold}, decay={n.decay}, reset {n.reset}"
        )
        yield f"{site.path or 'model'}: {kind}" + (f"; {site.note}" if site.note else "")
