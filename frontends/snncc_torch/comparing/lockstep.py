"""Comparison of a graph with the module it was captured from, layer by layer on the module's own spikes.

The module runs, and with it the graph: whenever a neuron of the module has fired, the graph's nodes
up to that neuron are evaluated and compared, and the graph goes on with the module's spikes. So an
error of one layer is found in that layer, and a flipped spike does not grow through the next ones.
Results of submodules that are one node each (a convolution, a normalisation) are compared as well: on
the first input the graph goes on with its own, which makes a run from end to end while no spike
flips, and on the second with the module's. No more is kept than what the graph has still to read.
At last both run on the user's own example as it was given, which shows whether time and batch stand
in it where capture took them to be.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snncc.analysis.magnitude import magnitude
from snncc.arrays import Array
from snncc.errors import Problem, SnnccError, problem, raise_all
from snncc.ir import Graph, Input, Neuron, Node, Output
from snncc.ir.interp import decode, evaluate, run
from snncc.model import Comparison
from snncc_torch.comparing.batching import batch_note, mixed
from snncc_torch.comparing.neuroncheck import neuron_problems
from snncc_torch.neurons.following import RELATIVE, Followed, follow
from snncc_torch.neurons.sites import SiteCall, SiteInfo
from snncc_torch.tracing.failures import first_line
from snncc_torch.tracing.forms import Form
from snncc_torch.tracing.working import Watch, overwritten, working_copy


@dataclass(frozen=True)
class Traced:
    """A traced module with its graph: all that a comparison needs.

    Attributes:
        graph: captured float graph.
        original: as the user gave it; it never runs.
        module: a copy of it, at rest; only copies of that run, which share its parameters.
        sites: its recognised neurons.
        calls: every call of a neuron in the order of execution, those that the graph dropped too.
        repeated: paths of modules that run more than once: no one node has their result.
        form: how it takes its input.
        levels: largest spike count of the input; 0 for real values.
        notes: for people, from tracing.
        example: the user's, as it was given.
    """

    graph: Graph
    original: nn.Module
    module: nn.Module
    sites: tuple[SiteInfo, ...]
    calls: tuple[SiteCall, ...]
    repeated: frozenset[str]
    form: Form
    levels: int = 0
    notes: tuple[str, ...] = ()
    example: Tensor | None = None


@dataclass
class _Tally:
    worst: float = 0.0
    flips: int = 0
    values: int = 0
    equal: int = 0
    fired: set[str] = field(default_factory=set)


def compare(graph: Graph, traced: Traced) -> tuple[Comparison, tuple[str, ...]]:
    """Compare ``graph`` with the module of ``traced``, on two random inputs.

    Every neuron of the graph that is not the one verified for its module is driven against it as
    well, on ties (:mod:`snncc_torch.comparing.neuroncheck`).

    Args:
        graph: ``traced.graph``, or one with nodes of the same names in its place.
        traced: the module.

    Returns:
        The comparison, on the random inputs, and notes for people.

    Raises:
        ModelError: SNNC-M006 naming every layer that differs, SNNC-M005 for a module that keeps state,
            SNNC-M013 for one that fails on its own example.
    """
    problems = list(neuron_problems(graph, traced.module, traced.calls, traced.sites))
    given = random_inputs(traced.form, traced.levels)
    first = _Lockstep(graph, traced, alone=True)
    result = _run_both(traced, first, given[0])
    second, notes = _second(graph, traced, given, result)
    raise_all(overwritten(traced.original, traced.module))
    problems += [*first.problems, *second.problems]
    problems = problems or _example_problems(graph, traced, mixes=bool(notes))
    raise_all({p.where: p for p in reversed(problems)}.values())
    end_to_end = first.end_to_end
    if not first.alone:
        mine = run(graph, _at_each(first.x, graph.steps)[None], keep=()).result
        end_to_end = float(np.abs(mine.reshape(result.shape) - result).max(initial=0.0))
    one, two = first.tally, second.tally
    neurons = [n.source or n.name for n in graph.nodes if isinstance(n, Neuron)]
    made = Comparison(
        len(given), len(neurons) + 1, max(one.worst, two.worst), one.flips + two.flips, end_to_end,
        one.values + two.values, one.equal + two.equal,
    )  # fmt: skip
    silent = [path for path in dict.fromkeys(neurons) if path not in one.fired | two.fired]
    return made, (*notes, *(f"{path}: never fired on the two test inputs" for path in silent))


def _second(
    graph: Graph, traced: Traced, given: tuple[Tensor, Tensor], result: Array
) -> tuple[_Lockstep, Iterable[str]]:
    """The second input, in one batch with the first, of which ``result`` is what the module made alone.

    So one run shows too that samples do not see each other. If anything differs, the second runs alone.
    """
    if "B" not in traced.form.lead:
        alone = _Lockstep(graph, traced)
        _run_both(traced, alone, given[1])
        return alone, ()
    axis = traced.form.lead.index("B")
    both = _Lockstep(graph, traced, samples=2)
    with contextlib.suppress(Exception):  # user code with batch 1 written into it
        together = _run_both(traced, both, torch.cat(given[::-1], axis))
        if not both.problems and not mixed(together, (None, result)):
            return both, ()
    alone = _Lockstep(graph, traced)
    results = (result, _run_both(traced, alone, given[1]))
    note = batch_note(traced.module, given, results, axis)
    return alone, () if note is None else (note,)


def _example_problems(graph: Graph, traced: Traced, mixes: bool) -> list[Problem]:
    """What differs on the example as it was given.

    Its last sample is compared, alone and in the batch, where it may see all others.

    Args:
        graph: that agrees with the module on random inputs of batch 1.
        traced: the module.
        mixes: whether the user is told that the batch is none of independent samples.
    """
    form, x = traced.form, traced.example
    if x is None or not x.numel():
        return []
    if "B" not in form.lead:
        x = x[: form.steps]
    axis = form.lead.index("B") if "B" in form.lead else 0
    samples = x.shape[axis] if "B" in form.lead else 1
    if samples == 1 and bool((x == x.flatten()[0]).all()):
        return []  # no numbers that random ones are not better than
    timeless = form.steps == 1 and all(site.time != "multi" for site in traced.sites)
    one = x.narrow(axis, samples - 1, 1) if samples > 1 else x
    try:
        first = _Lockstep(graph, traced)
        alone = _run_both(traced, first, one)
        if first.problems or samples == 1 or (mixes and not timeless):
            return [replace(p, what=f"{p.what} on the example") for p in first.problems]
        whole = _Lockstep(graph, traced, samples=samples, sample=samples - 1)
        together = _run_both(traced, whole, x)
    except SnnccError:
        raise
    except Exception as error:  # user code
        return [problem("SNNC-M013", "example_input", "the module fails on it", got=first_line(error))]
    if together.size == samples * alone.size and not mixed(together, [None] * (samples - 1) + [alone]):
        return []  # whatever order of time and batch it has inside
    hint = f"timesteps={x.shape[0]}, if the first axis of the example is time" if timeless else None
    return [replace(p, what=f"{p.what} on the example", hint=hint) for p in whole.problems]


def _parents(path: str) -> Iterable[str]:
    """Paths of the modules around the module at ``path``."""
    return accumulate(path.split(".")[:-1], "{}.{}".format)


def random_inputs(form: Form, levels: int) -> tuple[Tensor, Tensor]:
    """Two random inputs of batch 1 as the module takes them: counts 0..levels, else normal numbers."""
    rng = np.random.default_rng(7)
    size = tuple(form.example.shape)
    drawn = [
        rng.integers(0, levels + 1, size).astype(np.float32) if levels else rng.normal(0, 1, size)
        for _ in range(2)
    ]
    first, second = (torch.from_numpy(x.astype(np.float32)) for x in drawn)
    return first, second


# ---- one input ----------------------------------------------------------------------------------


def _run_both(traced: Traced, lockstep: _Lockstep, given: Tensor) -> Array:
    """Run the module, and with it the graph; what the module makes of the input."""
    lockstep.start(given)
    fresh = working_copy(traced.module)
    for path, part in nn.Module.named_modules(fresh):
        if path in lockstep.neurons:
            part.register_forward_hook(lockstep.neuron_ran(path))
        elif path in lockstep.layers and not isinstance(part, torch.jit.ScriptModule):
            part.register_forward_hook(lockstep.layer_ran(path))
    watch = Watch(fresh)
    with torch.no_grad():
        result = _array(fresh(given.clone()))
    raise_all(watch.problems({site.path for site in traced.sites}))
    lockstep.finish(result)
    return result


class _Lockstep:
    """Evaluates a graph while its module runs, as far as the module has come.

    Attributes:
        x: the graph's sample of the input, [T, *shape], or [1, *shape] where the module repeats it.
        samples: in the batch that the module gets.
        sample: which of them the graph gets.
        alone: whether the graph goes on with its own results where they agree with the module's, as
            if no module were there; else with the module's, so that each layer is judged alone.
        end_to_end: largest |difference| of the results, if it ran ``alone`` up to there.
        neurons: nodes of the calls of every neuron that are still to come, by module path; None for
            a call that the graph does not need.
        layers: modules that run once and are one node.
        heard: what the module computed, by the node that it belongs to: the input of a neuron and
            its result, or the result.
        values: results that nodes to come will read, [T, *shape]; [1, *shape] as long as they are the
            same at every timestep.
        sizes: their magnitudes.
    """

    def __init__(
        self, graph: Graph, traced: Traced, *, samples: int = 1, sample: int = 0, alone: bool = False
    ) -> None:
        self.graph, self.samples, self.sample, self.alone = graph, samples, sample, alone
        self.batch_major = traced.form.lead == ("B", "T")
        self.tally = _Tally()
        self.end_to_end = 0.0
        self.neurons: dict[str, deque[str | None]] = {site.path: deque() for site in traced.sites}
        for call in traced.calls:
            self.neurons[call.path].append(call.node if call.node in graph.by_name else None)
        # A module with layers inside it delivers what the last of them makes of its own node's result.
        outer = {path for n in graph.nodes for path in _parents(n.source)}
        self.layers = frozenset(
            n.name
            for n in graph.nodes
            if n.name == n.source and n.name not in traced.repeated and n.name not in outer
        )
        self.left = deque(graph.nodes)
        self.last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
        self.heard: dict[str, list[Array]] = {}
        self.values: dict[str, Array] = {}
        self.sizes: dict[str, Array] = {}
        self.problems: list[Problem] = []

    def start(self, given: Tensor) -> None:
        """The module is about to run on ``given``."""
        self.x = np.array(self._own(given.numpy(), self.graph.input.shape))

    def _own(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The sample's part of what the module computed, [T, *shape] or [1, *shape]."""
        one = math.prod(shape)
        batched = x.size in (self.samples * one, self.samples * one * self.graph.steps)
        n, i = (self.samples, self.sample) if batched else (1, 0)
        return x.reshape(n, -1, *shape)[i] if self.batch_major else x.reshape(-1, n, *shape)[:, i]

    def neuron_ran(self, path: str) -> Any:
        """Forward hook of a neuron."""

        def hook(_module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            waiting = self.neurons[path]
            name = waiting.popleft() if waiting else None
            if name is not None:
                self._hear(name, args[0], out)

        return hook

    def layer_ran(self, path: str) -> Any:
        """Forward hook of a layer."""

        def hook(_module: nn.Module, _args: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                self._hear(path, out)

        return hook

    def finish(self, result: Array) -> None:
        """The module has run."""
        self.heard[self.graph.output.name] = [result]
        self._go_on(waits=False)

    def _hear(self, name: str, *tensors: Tensor) -> None:
        self.heard[name] = [x.detach().cpu().numpy() for x in tensors]
        self._go_on()
        if name in self.heard:  # until it is needed, something may write to it in place
            self.heard[name] = [np.array(x) for x in self.heard[name]]

    def _go_on(self, waits: bool = True) -> None:
        """Evaluate up to the next node whose result the module has still to deliver."""
        while self.left:
            node = self.left[0]
            if waits and node.name not in self.heard and self._is_heard(node):
                return
            self.left.popleft()
            self._take(node)
            for name in {n for n in node.inputs if self.last_reader[n] == node.name}:
                del self.values[name], self.sizes[name]

    def _is_heard(self, node: Node) -> bool:
        return isinstance(node, Neuron | Output) or node.name in self.layers

    def _take(self, node: Node) -> None:
        match node:
            case Input():
                self._put(node, self.x.astype(np.float32))
            case Neuron():
                self._take_neuron(node)
            case Output():
                self._take_result(node, self.heard.pop(node.name)[0])
            case _:
                steps = max(len(self.values[i]) for i in node.inputs)
                args, bounds = (
                    [_at_each(kept[i], steps) for i in node.inputs] for kept in (self.values, self.sizes)
                )
                mine = evaluate(node, args)
                self._take_layer(node, mine, magnitude(node, args, bounds, mine))

    def _take_layer(self, node: Node, mine: Array, size: Array) -> None:
        theirs = self._layer_result(node, mine)
        if theirs is not None:
            expected = (_at_each(a, len(theirs)) for a in (mine, size))
            self.alone &= not self._differs(node.source or node.name, "result", theirs, *expected)
        if theirs is None or self.alone:
            self._put(node, mine, size)
        else:
            # From here on with the module's own: each layer is judged by what it does alone.
            self._put(node, np.array(theirs))

    def _put(self, node: Node, value: Array, size: Array | None = None) -> None:
        self.values[node.name] = value
        known = size is not None or not value.size or value.min() >= 0
        self.sizes[node.name] = (value if size is None else size) if known else np.abs(value)

    def _take_neuron(self, node: Neuron) -> None:
        where, shape = node.source or node.name, self.graph.types[node.name].shape
        drive, fired = (_at_each(self._own(a, shape), self.graph.steps) for a in self.heard.pop(node.name))
        mine, size = (_at_each(kept[node.inputs[0]], self.graph.steps) for kept in (self.values, self.sizes))
        self.alone &= not self._differs(where, "input", drive, mine, size)
        followed = follow(node, mine, fired=fired, size=size)
        self.alone &= followed == Followed(0, 0) and not node.is_readout
        self.tally.flips += followed.flips
        if fired.any():
            self.tally.fired.add(where)
        if followed.wrong:
            what = "spikes differ from the module's away from the threshold"
            self.problems.append(problem("SNNC-M006", where, what, got=f"{followed.wrong} of {fired.size}"))
        self._put(node, np.array(fired))

    def _layer_result(self, node: Node, mine: Array) -> Array | None:
        """What the module computed whose only node this is, if it delivers the same elements."""
        if node.name not in self.heard:
            return None
        found, shape = self.heard.pop(node.name)[0], mine.shape[1:]
        if found.size not in (n * self.samples * math.prod(shape) for n in (1, self.graph.steps)):
            return None
        theirs = self._own(found, shape)
        if len(mine) == 1:
            return theirs[:1] if bool((theirs == theirs[:1]).all()) else theirs
        if len(theirs) == 1 and bool((mine != mine[:1]).any()):
            return None  # it stands behind the reduction over time, which the graph has at its end
        return _at_each(theirs, len(mine))

    def _take_result(self, node: Output, result: Array) -> None:
        name, steps = node.inputs[0], self.graph.steps
        mine, size = (decode(node, _at_each(kept[name], steps)[None]) for kept in (self.values, self.sizes))
        if mine.size * self.samples != result.size:
            got = [self.samples, *mine.shape[1:]]
            made = problem("SNNC-M006", "result", "has another shape", got=got, limit=list(result.shape))
            self.problems.append(made)
            self.alone = False
            return
        if self.samples > 1:
            result = self._own(result, self.graph.types[name].shape)
        theirs = result.reshape(mine.shape)
        self.alone &= not self._differs("result", "value", theirs, mine, np.abs(size))
        self.end_to_end = float(np.abs(mine - theirs).max(initial=0.0))

    def _differs(self, where: str, which: str, theirs: Array, mine: Array, size: Array) -> bool:
        """Whether the difference exceeds RELATIVE of the magnitude ``size``; a problem if so."""
        equal, worst, at = _worst(*(np.ravel(a) for a in (mine, theirs, size)))
        self.tally.values += mine.size
        self.tally.equal += equal
        if not math.isfinite(worst) and not np.all(np.isfinite(theirs)):
            what = f"{which} of the module is NaN or infinite on a test input"
            self.problems.append(problem("SNNC-M007", where, what))
            return True
        self.tally.worst = max(self.tally.worst, worst)
        if worst <= 1:
            return False
        got = f"{float(mine.flat[at]):.6g} for {float(theirs.flat[at]):.6g}"
        limit = f"difference {RELATIVE * float(size.flat[at]):.2g}"
        what = f"{which} differs from the module's"
        self.problems.append(problem("SNNC-M006", where, what, got=got, limit=limit))
        return True


# Elements compared at a time: all of them stay in the processor's cache.
_CHUNK = 2**15


def _worst(mine: Array, theirs: Array, size: Array) -> tuple[int, float, int]:
    """(number of equal values, largest difference over RELATIVE·size, its index) of flat arrays."""
    equal, worst, at = 0, 0.0, 0
    for start in range(0, len(mine), _CHUNK):
        part = slice(start, start + _CHUNK)
        ratio = np.abs(mine[part] - theirs[part])
        equal += len(ratio) - int(np.count_nonzero(ratio))
        ratio /= np.maximum(size[part], np.finfo(np.float32).tiny / RELATIVE)
        largest = float(ratio.max()) / RELATIVE
        if not largest <= worst:
            worst, at = largest, start + int(ratio.argmax())
        if not math.isfinite(worst):
            break
    return equal, worst, at


def _at_each(x: Array, steps: int) -> Array:
    """``x`` as [steps, *shape]; what a static input feeds has one row for all of them."""
    return x if len(x) == steps else np.broadcast_to(x, (steps, *x.shape[1:]))


def _array(x: Tensor) -> Array:
    return np.array(x.detach().cpu().numpy())
