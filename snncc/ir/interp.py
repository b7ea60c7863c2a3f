"""Reference semantics: executes float, integer and spike graphs in numpy.

This module *defines* what a graph means; engines are compared with it. It is written to be read,
not to be fast. Nodes without state stand in :mod:`snncc.ir.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import fail
from snncc.ir.const import Number, number_array
from snncc.ir.evaluation import evaluate as evaluate
from snncc.ir.free import run_free
from snncc.ir.graph import Graph
from snncc.ir.nodes import (
    Decode,
    Delay,
    Encode,
    HostRegion,
    Input,
    Neuron,
    Node,
    Output,
    OverTime,
    Release,
    Reset,
    Rounding,
    SynapseOrder,
    WindowNeuron,
)
from snncc.ir.types import Current, Family

Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """What a graph computed.

    Attributes:
        values: per kept node an array [N, T, *shape]: spike values, counts of a window, or
            currents; a readout's membrane potential after each timestep.
        result: decoded result [N, ...], real-valued, in the units of the trained network.
    """

    values: dict[str, Array]
    result: Array


def run(
    graph: Graph, x: Array, keep: tuple[str, ...] | None = None, host: Mapping[str, Array] | None = None
) -> Run:
    """Execute ``graph`` on a batch.

    Args:
        graph: of any family.
        x: inputs [N, T, *shape]; whole numbers where the input is spikes.
        keep: names of the values to return; by default all neurons and the output.
        host: what the host regions delivered, [N, T, *shape] by name, where that is known already.

    Returns:
        The values and the decoded result.

    Raises:
        DataError: SNNC-D004 if ``x`` has another shape.
    """
    if x.shape[1:] != (graph.steps, *graph.input.shape):
        raise fail(
            "SNNC-D004",
            "input",
            "shape differs from the graph's",
            got=list(x.shape),
            limit=f"[N, {graph.steps}, {', '.join(map(str, graph.input.shape))}]",
        )
    names = keep if keep is not None else tuple(n.name for n in graph.neurons)
    names = tuple(dict.fromkeys((*names, graph.output.name)))
    execute = _run_spikes if graph.family is Family.SPIKE else _run_steps
    values = execute(graph, x, names, host or {})
    return Run(values, decode(graph.output, values[graph.output.name]))


def decode(output: Output, value: Array) -> Array:
    """Decoded result [N, ...] of the output node's values [N, T, *shape]."""
    if output.decode is Decode.MEMBRANE:
        raw = value[:, -1]
    elif output.over_time is OverTime.NONE:
        raw = value[:, 0] if value.shape[1] == 1 else value
    else:
        raw = value.sum(axis=1)
        if output.over_time is OverTime.MEAN:
            raw = raw / np.float32(value.shape[1])
    return raw * np.float32(output.scale) if output.scale != 1 else raw


# ---- float and integer graphs: one update a timestep ------------------------------------------


@dataclass
class _State:
    """Membrane, synapse, pending reset, delay line or (host regions) inner states of one node."""

    v: Any = 0
    i: Any = 0
    fired: Any = 0
    line: list[Array] = field(default_factory=list)
    inner: dict[str, _State] = field(default_factory=dict)


def _run_steps(graph: Graph, x: Array, names: tuple[str, ...], host: Mapping[str, Array]) -> dict[str, Array]:
    state = {n.name: _State() for n in graph.nodes}
    kept: dict[str, list[Array]] = {name: [] for name in names}
    wanted = {*names, *(n.inputs[0] for n in graph.nodes if isinstance(n, Delay))}
    last_reader = {name: n.name for n in graph.nodes for name in n.inputs if name not in wanted}
    for t in range(graph.steps):
        env: dict[str, Array] = {}
        for node in graph.nodes:
            known = host.get(node.name)
            env[node.name] = (
                _step(node, graph, env, x[:, t], state[node.name]) if known is None else known[:, t]
            )
            for name in {i for i in node.inputs if last_reader.get(i) == node.name}:
                del env[name]  # a large network's values do not all fit at once
        for node in graph.nodes:
            if isinstance(node, Delay):
                state[node.name].line.append(env[node.inputs[0]])
        for name in names:
            kept[name].append(env[name])
    return {name: np.stack(parts, axis=1) for name, parts in kept.items()}


def _step(node: Node, graph: Graph, env: dict[str, Array], x: Array, state: _State) -> Array:
    match node:
        case Input():
            real = graph.family is Family.FLOAT or isinstance(graph.types[node.name], Current)
            return x.astype(np.float32 if real else np.int64)
        case Neuron():
            return neuron_step(node, env[node.inputs[0]], state)
        case Delay():
            if len(state.line) < node.steps:
                return np.zeros(
                    (x.shape[0], *node.shape), np.float32 if graph.family is Family.FLOAT else np.int64
                )
            return state.line[-node.steps]
        case HostRegion():
            return _host_step(node, env[node.inputs[0]], graph.family, state)
        case Output():
            return env[node.inputs[0]]
        case _:
            return evaluate(node, [env[name] for name in node.inputs])


def _host_step(node: HostRegion, x: Array, family: Family, state: _State) -> Array:
    """One timestep of the host's body; its neurons keep their state from step to step."""
    env: dict[str, Array] = {}
    for inner in node.body.nodes:
        own = state.inner.setdefault(inner.name, _State())
        env[inner.name] = _step(inner, node.body, env, x, own)
    out = env[node.body.output.name]
    return out if family is Family.FLOAT else np.rint(out).astype(np.int64)


def neuron_step(node: Neuron, x: Array, state: Any) -> Array:
    """One update of the canonical neuron; ``state`` has ``v``, ``i`` and ``fired``."""

    def num(value: Number) -> Any:
        return number_array(value, x.ndim)

    if np.isscalar(state.v):
        state.v = np.zeros_like(x) + num(node.v_init)
    threshold = num(node.threshold)
    if np.issubdtype(x.dtype, np.integer):
        drive = _synapse(node, x * node.gain, state, num)
    else:
        drive = _synapse(node, x, state, num) * num(node.gain)
    u = _decay(node, state.v, num(node.decay)) + drive + num(node.bias)
    if node.is_readout:
        state.v = u
        return np.asarray(u)
    if node.reset_next:
        u = _reset(node, u, state.fired, num)
    n = np.clip(_round(node, u, threshold), -node.max_spikes if node.signed else 0, node.max_spikes)
    state.fired = n
    v = u if node.reset_next else _reset(node, u, n, num)
    state.v = v if node.v_min is None else np.maximum(v, num(node.v_min))
    return n * np.float32(node.output_scale) if node.output_scale != 1 else n


def _decay(node: Neuron | WindowNeuron, v: Array, decay: Any) -> Array:
    return _leak(v, decay, node.decay_bits)


def _leak(v: Array, factor: Any, bits: int) -> Array:
    """``factor·v``; of integers the fixed-point product, rounded toward zero."""
    if not np.issubdtype(v.dtype, np.integer):
        return np.asarray(factor * v)
    return np.asarray(np.sign(v) * ((np.abs(v) * factor) >> bits))


def _synapse(node: Neuron, x: Array, state: Any, num: Callable[[Number], Any]) -> Array:
    if node.synapse_decay is None:
        return x
    d, bits = num(node.synapse_decay), node.synapse_bits
    i = np.zeros_like(x) if np.isscalar(state.i) else state.i
    match node.synapse_order:
        case SynapseOrder.ADD_READ_DECAY:
            read = i + x
            state.i = _leak(read, d, bits)
        case SynapseOrder.DECAY_ADD_READ:
            read = state.i = _leak(i, d, bits) + x
        case SynapseOrder.ADD_DECAY_READ:
            read = state.i = _leak(i + x, d, bits)
    return np.asarray(read)


def _round(node: Neuron, u: Array, threshold: Any) -> Array:
    if np.issubdtype(u.dtype, np.integer):
        return _round_integer(node, u, threshold)
    if node.max_spikes == 1 and node.rounding is Rounding.FLOOR:
        return np.where(u > threshold if node.strict else u >= threshold, 1, 0).astype(u.dtype)
    ratio = u / threshold if isinstance(threshold, np.ndarray) or threshold != 1 else u
    match node.rounding:
        case Rounding.FLOOR:
            return np.asarray(np.ceil(ratio) - 1 if node.strict else np.floor(ratio))
        case Rounding.HALF_UP:
            return np.asarray(np.floor(ratio + np.float32(0.5)))
        case Rounding.HALF_EVEN:
            return np.asarray(np.rint(ratio))


def _round_integer(node: Neuron, u: Array, threshold: Any) -> Array:
    if node.rounding is Rounding.FLOOR:
        return np.asarray((u - 1 if node.strict else u) // threshold)
    n = (2 * u + threshold) // (2 * threshold)
    if node.rounding is Rounding.HALF_EVEN:
        tie = (2 * u + threshold) % (2 * threshold) == 0
        n = n - (tie & (n % 2 == 1))
    return np.asarray(n)


def _reset(node: Neuron, u: Array, n: Any, num: Callable[[Number], Any]) -> Array:
    match node.reset:
        case Reset.SUBTRACT:
            return np.asarray(u - n * num(node.threshold if node.reset_by is None else node.reset_by))
        case Reset.VALUE:
            return np.where(np.asarray(n) > 0, num(node.reset_to), u).astype(u.dtype)
        case Reset.NONE:
            return u


# ---- spike graphs ---------------------------------------------------------------------------------


def _run_spikes(
    graph: Graph, x: Array, names: tuple[str, ...], host: Mapping[str, Array]
) -> dict[str, Array]:
    per_step = {graph.input.name: x, **host} if host else host_values(graph, x)
    free = any(isinstance(n, WindowNeuron) and n.release is Release.FREE for n in graph.nodes)
    values = run_free(graph, per_step, evaluate) if free else _run_windows(graph, per_step)
    values |= per_step
    for node in graph.nodes:
        # What stands behind the last neuron only rearranges its counts.
        if node.name not in values and node.name in _ending(graph):
            parts = values[node.inputs[0]]
            shape = (*parts.shape[:2], *graph.types[node.name].shape)
            flat = parts.reshape(-1, *parts.shape[2:])
            values[node.name] = (
                flat.reshape(shape) if isinstance(node, Output) else evaluate(node, [flat]).reshape(shape)
            )
    return {name: values[name] for name in names}


def _ending(graph: Graph) -> set[str]:
    """The output and the views between it and the last neuron."""
    node: Node = graph.output
    found = set()
    while not isinstance(node, WindowNeuron):
        found.add(node.name)
        node = graph.by_name[node.inputs[0]]
    return found


def host_values(graph: Graph, x: Array) -> dict[str, Array]:
    """Values [N, T, *shape], one a timestep, of the input and the host region."""
    values = {graph.input.name: x}
    for node in graph.nodes:
        if isinstance(node, HostRegion):
            counts = run(node.body, values[node.inputs[0]]).values[node.body.output.name]
            values[node.name] = np.rint(counts).astype(np.int64)
    return values


@dataclass
class _Window:
    """A window neuron's membrane ``v``, accumulator ``a``, synaptic current ``i``, count ``n`` so far."""

    v: Array
    a: Array
    i: Array
    n: Array


def _run_windows(graph: Graph, per_step: dict[str, Array]) -> dict[str, Array]:
    """Clocked micro-steps: every neuron fires inside its own window only. Counts [N, T, *shape]."""
    period, steps, samples = graph.micro_steps, graph.steps, len(per_step[graph.input.name])
    windows = [n for n in graph.nodes if isinstance(n, WindowNeuron)]
    state = {}
    for node in windows:
        shape = (samples, *graph.types[node.name].shape)
        v = np.zeros(shape, np.int64) + number_array(node.v_init, len(shape))
        state[node.name] = _Window(v, *(np.zeros(shape, np.int64) for _ in range(3)))
    lines: dict[str, list[Array]] = {n.name: [] for n in graph.nodes if isinstance(n, Delay)}
    counts = {n.name: np.zeros((samples, steps, *graph.types[n.name].shape), np.int64) for n in windows}
    for k in range(max((n.phase for n in windows), default=0) + steps * period):
        env: dict[str, Array] = {}
        for each in graph.nodes:
            _micro_step(each, graph, k, env, per_step, state, counts, lines)
        for name, line in lines.items():
            source = graph.by_name[name].inputs[0]
            line.append(env[source])
        for node in windows:
            state[node.name].a += env[node.inputs[0]]
    return counts


def _micro_step(
    node: Node,
    graph: Graph,
    k: int,
    env: dict[str, Array],
    per_step: dict[str, Array],
    state: dict[str, _Window],
    counts: dict[str, Array],
    lines: dict[str, list[Array]],
) -> None:
    if node.name in per_step or isinstance(node, Output):
        return
    if isinstance(node, Encode):
        t, d = divmod(k, graph.micro_steps)
        n = per_step[node.inputs[0]]
        env[node.name] = (
            _train(n[:, t], d, node.graded) if t < graph.steps else np.zeros_like(n[:, 0], np.int64)
        )
    elif isinstance(node, WindowNeuron):
        env[node.name] = _window_step(node, k, graph, state[node.name], counts[node.name])
    elif isinstance(node, Delay):
        line = lines[node.name]
        shape = (next(iter(per_step.values())).shape[0], *node.shape)
        env[node.name] = line[k - node.steps] if k >= node.steps else np.zeros(shape, np.int64)
    else:
        # A bias is a constant current of the timestep, which the window neuron holds.
        env[node.name] = evaluate(node, [env[name] for name in node.inputs])


def _train(n: Array, d: int, graded: bool) -> Array:
    """What a count sends in micro-step ``d`` of its window."""
    if graded:
        return np.asarray(n if d == 0 else np.zeros_like(n), np.int64)
    return np.asarray(n > d, np.int64)


def _window_step(node: WindowNeuron, k: int, graph: Graph, s: _Window, counts: Array) -> Array:
    if node.release is Release.STREAM:
        return _stream_step(node, k, s, counts[:, 0])
    t, d = divmod(k - node.phase, graph.micro_steps)
    if not 0 <= t < graph.steps:
        return np.zeros_like(s.v)
    if d == 0:
        bias = number_array(node.bias, s.v.ndim)
        s.i = _leak(s.i, node.synapse_decay, node.synapse_bits) + node.gain * s.a
        s.v = _decay(node, s.v, node.decay) + s.i + bias + node.precharge
        s.a = np.zeros_like(s.a)
        s.n = np.zeros_like(s.n)
    if node.is_readout:
        counts[:, t] = s.v
        return s.v
    spikes: Array
    if node.graded:
        least = -node.window if node.signed else 0
        spikes = np.clip(s.v // node.threshold, least, node.window) * (d == 0)
    else:
        spikes = ((s.v >= node.threshold) & (d < node.window)).astype(np.int64)
    s.v = s.v - spikes * node.threshold if node.reset is not Reset.NONE else s.v
    s.n = s.n + spikes
    counts[:, t] += spikes
    if d == graph.micro_steps - 1:
        s.v = s.v - node.precharge
        if node.reset is Reset.VALUE:
            s.v = np.where(s.n > 0, node.reset_to, s.v)
        if node.v_min is not None:
            s.v = np.maximum(s.v, node.v_min)
    return spikes


def _stream_step(node: WindowNeuron, k: int, s: _Window, counts: Array) -> Array:
    """A neuron of the clocked free schedule; ``counts`` [N, *shape] of the only timestep."""
    if k < node.phase:
        return np.zeros_like(s.v)
    if k == node.phase:
        s.v = s.v + number_array(node.bias, s.v.ndim) + node.precharge
    s.v = s.v + node.gain * s.a
    s.a = np.zeros_like(s.a)
    if node.is_readout:
        counts[...] = s.v
        return s.v
    may = s.n < node.window if node.capped else True
    spikes: Array = ((s.v >= node.threshold) & may).astype(np.int64)
    s.v = s.v - spikes * node.threshold
    s.n = s.n + spikes
    counts += spikes
    return spikes
