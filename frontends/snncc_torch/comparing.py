"""Comparison of a captured graph with its module, layer by layer on the module's own spikes.

For every neuron the module's true input and output are taken with hooks. The graph's layers
between the module's own earlier spikes and that neuron are evaluated, so that an error of one
layer is found in that layer and a flipped spike does not grow through the next ones. Results of
submodules that are one node each (a convolution, a normalisation) are taken the same way.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snncc.errors import Problem, problem, raise_all
from snncc.ir import Graph, Input, Neuron, Node, Output
from snncc.ir.interp import decode, evaluate, run
from snncc.ir.magnitude import magnitude
from snncc.model import Comparison
from snncc_torch.aten import SiteCall
from snncc_torch.following import RELATIVE, follow
from snncc_torch.recognise import reset_state

Array = NDArray[Any]


@dataclass(frozen=True)
class Recording:
    """What the module computed for one input.

    Attributes:
        result: its result.
        calls: (input, output) of every neuron call, by module path.
        outputs: results of other modules, one a call, by module path.
    """

    result: Array
    calls: dict[str, list[tuple[Array, Array]]]
    outputs: dict[str, list[Array]]


def working_copy(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy to run or to rebuild, with state of its own; it shares the parameters of ``module``."""
    memo = {} if memo is None else memo
    memo.update({id(p): p for p in nn.Module.parameters(module)})
    return copy.deepcopy(module, memo)


def record(module: nn.Module, paths: set[str], x: Tensor, layers: frozenset[str] = frozenset()) -> Recording:
    """Run a fresh copy of ``module`` on ``x`` and record its neurons, and the results of ``layers``."""
    fresh = working_copy(module)
    reset_state(fresh)
    calls: dict[str, list[tuple[Array, Array]]] = {path: [] for path in paths}

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            calls[path].append((_array(args[0]), _array(out)))

        return hook

    outputs: dict[str, list[Array]] = {path: [] for path in layers}

    def keep_output(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                outputs[path].append(_array(out))

        return hook

    for path, part in nn.Module.named_modules(fresh):
        if path in paths:
            part.register_forward_hook(keep(path))
        elif path in layers and not isinstance(part, torch.jit.ScriptModule):
            part.register_forward_hook(keep_output(path))
    with torch.no_grad():
        result = fresh(x.clone())
    return Recording(_array(result), calls, outputs)


def _array(x: Tensor) -> Array:
    # A copy: an in-place operation behind the neuron must not change what was recorded.
    return np.array(x.detach().cpu().numpy())


@dataclass
class _Tally:
    worst: float = 0.0
    flips: int = 0
    end_to_end: float = 0.0
    fired: dict[str, bool] = field(default_factory=dict)


def compare(
    graph: Graph, module: nn.Module, sites: tuple[SiteCall, ...], inputs: tuple[tuple[Tensor, Array], ...]
) -> tuple[Comparison, tuple[str, ...]]:
    """Compare ``graph`` with ``module``.

    Args:
        graph: captured float graph.
        module: in evaluation mode; only copies of it run.
        sites: calls of neurons in the order of execution.
        inputs: each as the module takes it, and as [T, *shape].

    Returns:
        The comparison, and the paths of neurons that stayed silent, of which it says little.

    Raises:
        ModelError: SNNC-M006 naming every layer that differs.
    """
    tally = _Tally()
    problems: list[Problem] = []
    for x, steps in inputs:
        # A module that makes a second node bears its number: its result is not the first one's.
        layers = frozenset(
            n.name for n in graph.nodes if n.name == n.source and f"{n.name}_1" not in graph.by_name
        )
        recording = record(module, {s.path for s in sites}, x, layers)
        problems.extend(_compare_one(graph, sites, recording, steps, tally))
        mine = run(graph, steps[None], keep=()).result
        if mine.size == recording.result.size:
            difference = np.abs(mine.reshape(recording.result.shape) - recording.result)
            tally.end_to_end = max(tally.end_to_end, float(difference.max(initial=0.0)))
    raise_all({p.where: p for p in reversed(problems)}.values())
    neurons = sum(isinstance(n, Neuron) for n in graph.nodes)
    made = Comparison(len(inputs), neurons + 1, tally.worst, tally.flips, tally.end_to_end)
    return made, tuple(path for path, fired in tally.fired.items() if not fired)


def _compare_one(
    graph: Graph, sites: tuple[SiteCall, ...], recording: Recording, x: Array, tally: _Tally
) -> Iterator[Problem]:
    recorded = {s.node: recording.calls[s.path].pop(0) for s in sites}
    values: dict[str, Array] = {}
    sizes: dict[str, Array] = {}
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        where = node.source or node.name
        match node:
            case Input():
                values[node.name], sizes[node.name] = x.astype(np.float32), np.abs(x).astype(np.float32)
            case Neuron():
                shape = graph.types[node.name].shape
                drive, fired = (_per_step(a, graph.steps, shape) for a in recorded.pop(node.name))
                mine, bound = values[node.inputs[0]], RELATIVE * sizes[node.inputs[0]]
                yield from _differs(where, "input", mine, drive, bound, tally)
                followed = follow(node, mine, fired=fired, bound=bound)
                tally.flips += followed.flips
                tally.fired[where] = tally.fired.get(where, False) or bool(fired.any())
                if followed.wrong:
                    what = "spikes differ from the module's away from the threshold"
                    yield problem("SNNC-M006", where, what, got=f"{followed.wrong} of {fired.size}")
                values[node.name], sizes[node.name] = fired, np.abs(fired)
            case Output():
                yield from _compare_result(graph, node, values, sizes, recording.result, tally)
            case _:
                args = [values[i] for i in node.inputs]
                values[node.name] = evaluate(node, args)
                sizes[node.name] = magnitude(node, args, [sizes[i] for i in node.inputs], values[node.name])
                theirs = _layer_result(node, recording, values[node.name])
                if theirs is not None:
                    mine, bound = values[node.name], RELATIVE * sizes[node.name]
                    yield from _differs(where, "result", mine, theirs, bound, tally)
                    # From here on with the module's own: each layer is judged by what it does alone.
                    values[node.name], sizes[node.name] = theirs, np.abs(theirs)
        for name in {n for n in node.inputs if last_reader[n] == node.name}:
            del values[name], sizes[name]


def _layer_result(node: Node, recording: Recording, mine: Array) -> Array | None:
    """What the module computed whose only node this is, if it ran once and delivers the same elements."""
    found = recording.outputs.pop(node.name, [])
    if node.name != node.source or len(found) != 1:
        return None
    once = found[0].size == mine[0].size
    if once and bool((mine != mine[:1]).any()):
        return None  # it stands behind the reduction over time, which the graph has at its end
    return _per_step(found[0], len(mine), mine.shape[1:]) if once or found[0].size == mine.size else None


def _per_step(recorded: Array, steps: int, shape: tuple[int, ...]) -> Array:
    """A recorded tensor as [T, *shape]; what a static input feeds is the same at every step."""
    if recorded.size == math.prod(shape):
        return np.broadcast_to(recorded.reshape(1, *shape), (steps, *shape))
    return recorded.reshape(steps, *shape)


def _compare_result(
    graph: Graph,
    node: Output,
    values: dict[str, Array],
    sizes: dict[str, Array],
    result: Array,
    tally: _Tally,
) -> Iterator[Problem]:
    name = node.inputs[0]
    mine = decode(node, values[name][None])
    bound = RELATIVE * np.abs(decode(node, sizes[name][None]))
    if mine.size != result.size:
        yield problem(
            "SNNC-M006", "result", "has another shape", got=list(mine.shape), limit=list(result.shape)
        )
        return
    yield from _differs("result", "value", mine, result.reshape(mine.shape), bound, tally)


def _differs(
    where: str, which: str, mine: Array, theirs: Array, bound: Array, tally: _Tally
) -> Iterator[Problem]:
    difference = np.abs(mine - theirs)
    ratio = np.where(difference > 0, difference / np.maximum(bound, np.finfo(np.float32).tiny), 0.0)
    if not np.all(np.isfinite(theirs)):
        yield problem("SNNC-M007", where, f"{which} of the module is NaN or infinite on a test input")
        return
    worst = float(ratio.max(initial=0.0))
    tally.worst = max(tally.worst, worst)
    if worst > 1:
        at = np.unravel_index(int(ratio.argmax()), ratio.shape)
        got = f"{float(np.broadcast_to(mine, ratio.shape)[at]):.6g} for {float(theirs[at]):.6g}"
        limit = f"difference {float(np.broadcast_to(bound, ratio.shape)[at]):.2g}"
        yield problem("SNNC-M006", where, f"{which} differs from the module's", got=got, limit=limit)
