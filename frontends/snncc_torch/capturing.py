"""Capture: a trained PyTorch module becomes a float graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snncc.errors import Problem, fail, problem, raise_all
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
from snncc_torch.comparing.lockstep import Traced, compare
from snncc_torch.neurons.recognise import find_neurons, qualified_name, unrecognised
from snncc_torch.neurons.sites import SiteInfo
from snncc_torch.operations.aten import Importer, import_nodes, repeated_paths
from snncc_torch.operations.handlers import HANDLERS
from snncc_torch.operations.layout import Value
from snncc_torch.tracing.failures import leftover_notes, timeless, varying_shapes
from snncc_torch.tracing.forms import Form, form_of
from snncc_torch.tracing.program import placeholders, traced_program
from snncc_torch.tracing.working import Watch, private_copy, working_copy

# No intermediate tensor of one sample may have more elements than this (1 GiB of float32).
MAX_ELEMENTS = 2**28


def capture(
    module: nn.Module, example_input: Tensor, timesteps: int | None = None, *, input_levels: int = 0
) -> Model:
    """The float graph of a trained module, compared with it layer by layer.

    The module is copied, never changed, and its copy is traced at batch 1.

    Args:
        module: in evaluation mode.
        example_input: as the module takes it: [B, *shape], or [T, B, *shape] or [B, T, *shape]
            where it takes time, or sinabs' [T, *shape] (one sample). With ``timesteps`` T > 1 and
            another size than T it is one [B, *shape] that the module itself repeats over time.
            At the end the module runs on it as it is, and the graph must agree.
        timesteps: T; None finds it: in the example of a module that takes time, as its neurons
            or the size of its result show, else by what the neurons of a module that repeats its
            input over time are given in a run. Time behind the batch shows in multi-step and
            sinabs' neurons alone.
        input_levels: largest spike count of the input; 0 for real values.

    Raises:
        ModelError: SNNC-M004 to M008 and M013, with every problem found.
    """
    return modelled(trace(module, example_input, timesteps, input_levels=input_levels))


def modelled(traced: Traced) -> Model:
    """The model of a traced module, if its graph computes what the module does.

    Raises:
        ModelError: SNNC-M005 to M007, see :func:`snncc_torch.comparing.lockstep.compare`.
    """
    comparison, notes = compare(traced.graph, traced)
    notes = (*traced.notes, *notes, *_bitwise(comparison))
    origin = qualified_name(traced.module)
    return Model(traced.graph, comparison=comparison, notes=notes, origin=origin)


def trace(
    module: nn.Module, example_input: Tensor, timesteps: int | None = None, *, input_levels: int = 0
) -> Traced:
    """The float graph of a trained module, not compared with it yet.

    Arguments and errors are those of :func:`capture`.
    """
    if not isinstance(module, nn.Module):
        raise fail("SNNC-U010", "module", "is no torch.nn.Module", got=type(module).__name__)
    raise_all(_state_problems(module))
    pristine = private_copy(module)
    found = find_neurons(pristine)
    if not found.traceable:
        raise_all(found.problems)
    form = form_of(pristine, found.sites, example_input, timesteps)
    raise_all(_input_problems(form))
    first = Input(name="input", shape=form.shape, levels=input_levels)
    imp = Importer(form.steps, found.sites, types={first.name: first.infer(())})
    imp.problems.extend(found.problems)
    given = example_input.detach().to("cpu", torch.float32)
    program = traced_program(pristine, found.modules, form, given, imp.notes)
    raise_all(varying_shapes(program))
    env, result = placeholders(program, form)
    raise_all(_size_problems(program))
    import_nodes(imp, program.graph, env, HANDLERS)
    raise_all(_problems(imp, pristine, form))
    raise_all(timeless(env[result], form.lead, form.steps))
    graph = _graph(imp, re.sub(r"[^\w.\-]", "_", type(module).__name__), env[result], first)
    notes = (
        *_site_notes(found.sites),
        *dict.fromkeys((*_host_notes(graph), *imp.notes)),
        *leftover_notes(module, pristine),
        *_form_notes(form),
    )
    repeated = repeated_paths(program.graph)
    return Traced(
        graph, module, pristine, found.sites, tuple(imp.calls), repeated, form, input_levels, notes, given
    )


# ---- problems -----------------------------------------------------------------------------------


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


def _input_problems(form: Form) -> Iterator[Problem]:
    if form.steps * math.prod(form.shape) > MAX_ELEMENTS:
        got = f"{form.steps} timesteps of {list(form.shape)}"
        limit = f"{MAX_ELEMENTS} elements"
        yield problem("SNNC-S002", "input", "one sample is too large", got=got, limit=limit)


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


def _problems(imp: Importer, module: nn.Module, form: Form) -> list[Problem]:
    """What the import found and, if it found anything, which modules keep state besides."""
    problems = [*imp.problems, *_firing(imp, module)]
    if problems:
        # A module without problems runs anyway, when it is compared.
        named = {p.where for p in problems if p.code == "SNNC-M005"}
        problems.extend(p for p in _keeping(imp, module, form) if p.where not in named)
    # An unrecognised neuron is one problem: the operations it is made of are not named again.
    neurons = {p.where for p in problems if p.code == "SNNC-M005"}
    return [p for p in problems if p.code != "SNNC-M004" or p.where not in neurons]


def _firing(imp: Importer, module: nn.Module) -> Iterator[Problem]:
    """Neurons that nobody recognised, by what they left in the graph."""
    parts = dict(nn.Module.named_modules(module))
    for where, ops in imp.firing.items():
        used = ", ".join(dict.fromkeys(ops))
        yield unrecognised(
            where, parts.get("" if where == "model" else where, "it"), f"fires or rounds ({used})"
        )


def _keeping(imp: Importer, module: nn.Module, form: Form) -> list[Problem]:
    """Neurons that nobody recognised, by state that a run leaves in them."""
    watch = Watch(working_copy(module))
    with torch.no_grad():
        watch.root(form.example)
    return watch.problems({site.path for site in imp.sites})


# ---- the graph ----------------------------------------------------------------------------------


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


# ---- notes --------------------------------------------------------------------------------------


def _form_notes(form: Form) -> Iterator[str]:
    if form.steps > 1 and form.lead == ("B",):
        yield f"the module repeats a static input over {form.steps} timesteps: feed the same input at each"
    if form.note:
        yield form.note


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


def _bitwise(made: Comparison) -> Iterator[str]:
    if made.values:
        yield f"{made.equal} of {made.values} compared values are bitwise those of the module"
