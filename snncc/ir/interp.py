"""Reference semantics: executes float, integer and spike graphs in numpy.

This module *defines* what a graph means; engines are compared with it. It is written to be read,
not to be fast, though convolutions run as matrix products. Integer sums are exact: they are
computed in the narrowest float type that holds every partial sum exactly, never rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import fail
from snncc.ir.const import Const, Number, number_array
from snncc.ir.free import run_free
from snncc.ir.graph import Graph
from snncc.ir.nodes import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Decode,
    Delay,
    Encode,
    HostRegion,
    Input,
    Linear,
    Mean,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Release,
    Reset,
    Reshape,
    Rounding,
    Scale,
    SumPool2d,
    SynapseOrder,
    WindowNeuron,
)
from snncc.ir.types import Current, Family

Array = NDArray[Any]

# Matrix products work on this many elements of unfolded input at a time (64 MiB of float64).
_UNFOLD_ELEMENTS = 8_000_000


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


def run(graph: Graph, x: Array, keep: tuple[str, ...] | None = None) -> Run:
    """Execute ``graph`` on a batch.

    Args:
        graph: of any family.
        x: inputs [N, T, *shape]; whole numbers where the input is spikes.
        keep: names of the values to return; by default all neurons and the output.

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
    values = execute(graph, x, names)
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
    """Membrane, synapse, pending reset or delay line of one node."""

    v: Any = 0
    i: Any = 0
    fired: Any = 0
    line: list[Array] = field(default_factory=list)


def _run_steps(graph: Graph, x: Array, names: tuple[str, ...]) -> dict[str, Array]:
    state = {n.name: _State() for n in graph.nodes}
    kept: dict[str, list[Array]] = {name: [] for name in names}
    for t in range(graph.steps):
        env: dict[str, Array] = {}
        for node in graph.nodes:
            env[node.name] = _step(node, graph, env, x[:, t], state[node.name])
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
    if not state.line:
        state.i = {n.name: _State() for n in node.body.nodes}
    env: dict[str, Array] = {}
    for inner in node.body.nodes:
        env[inner.name] = _step(inner, node.body, env, x, state.i[inner.name])
    state.line = [x]
    out = env[node.body.output.name]
    return out if family is Family.FLOAT else np.rint(out).astype(np.int64)


def neuron_step(node: Neuron, x: Array, state: Any) -> Array:
    """One update of the canonical neuron; ``state`` has ``v``, ``i`` and ``fired``."""

    def num(value: Number) -> Any:
        return number_array(value, x.ndim)

    if np.isscalar(state.v):
        state.v = np.zeros_like(x) + num(node.v_init)
    threshold = num(node.threshold)
    u = (
        _decay(node, state.v, num(node.decay))
        + _synapse(node, x, state, num) * num(node.gain)
        + num(node.bias)
    )
    if node.is_readout:
        state.v = u
        return np.asarray(u)
    if node.reset_next:
        u = _reset(node, u, state.fired, num)
    n = np.clip(_round(node, u, threshold), 0, node.max_spikes)
    state.fired = n
    v = u if node.reset_next else _reset(node, u, n, num)
    state.v = v if node.v_min is None else np.maximum(v, num(node.v_min))
    return n * np.float32(node.output_scale) if node.output_scale != 1 else n


def _decay(node: Neuron | WindowNeuron, v: Array, decay: Any) -> Array:
    if not np.issubdtype(v.dtype, np.integer):
        return np.asarray(decay * v)
    return np.asarray(np.sign(v) * ((np.abs(v) * decay) >> node.decay_bits))


def _synapse(node: Neuron, x: Array, state: Any, num: Callable[[Number], Any]) -> Array:
    if node.synapse_decay is None:
        return x
    d, i = num(node.synapse_decay), state.i
    match node.synapse_order:
        case SynapseOrder.ADD_READ_DECAY:
            read = i + x
            state.i = read * d
        case SynapseOrder.DECAY_ADD_READ:
            read = state.i = d * i + x
        case SynapseOrder.ADD_DECAY_READ:
            read = state.i = d * (i + x)
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


# ---- memoryless nodes, shared by all families ---------------------------------------------------


def evaluate(node: Node, args: list[Array]) -> Array:
    """Result [N, *shape] of a node without state."""
    x = args[0]
    match node:
        case Linear():
            return _add_bias(exact_product(x, node.weight.array.T, node.weight), node.bias)
        case Conv2d():
            return _add_bias(_conv2d(node, x), node.bias, axis=1)
        case BatchNorm():
            mean, var, gamma, beta = (
                number_array(c, x.ndim) for c in (node.mean, node.var, node.gamma, node.beta)
            )
            return np.asarray((x - mean) / np.sqrt(var + np.float32(node.eps)) * gamma + beta)
        case Scale():
            return np.asarray(x * number_array(node.factor, x.ndim))
        case Add():
            return np.asarray(sum(args[1:], x))
        case AvgPool2d():
            return np.asarray(_sum_windows(node, x) / np.float32(node.kernel[0] * node.kernel[1]))
        case SumPool2d():
            return _sum_windows(node, x)
        case Mean():
            mean = x.mean(axis=(2, 3), keepdims=True, dtype=x.dtype)
            return np.asarray(mean if node.keepdim else mean[:, :, 0, 0])
        case Reshape():
            return x.reshape(x.shape[0], *node.shape)
        case Permute():
            return x.transpose(0, *(a + 1 for a in node.axes))
        case _:
            raise AssertionError(f"{node.kind} has state")


def _add_bias(y: Array, bias: Const | None, axis: int = -1) -> Array:
    if bias is None:
        return y
    shape = [1] * y.ndim
    shape[axis] = -1
    return np.asarray(y + bias.array.reshape(shape).astype(y.dtype))


def exact_product(x: Array, matrix: Array, weight: Const) -> Array:
    """``x @ matrix``; for integers without any rounding.

    ``weight`` is the constant that ``matrix`` was made of; its first axis is the output.
    """
    if not weight.is_integer:
        return np.asarray(x @ matrix)
    flat = weight.array.reshape(weight.shape[0], -1).astype(np.int64)
    largest = int(np.abs(x).max(initial=0)) * int(np.abs(flat).sum(axis=1).max(initial=0))
    # Every partial sum is a whole number below 2^24 (2^53), which the float type holds exactly.
    dtype = np.float32 if largest < 2**24 else np.float64 if largest < 2**53 else np.int64
    return np.asarray(x.astype(dtype) @ matrix.astype(dtype)).astype(np.int64)


def _windows(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Array:
    """View [N, C, OH, OW, kh, kw] of the padded input's receptive fields."""
    (ph, pw), (kh, kw), (dh, dw) = padding, kernel, dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))) if ph or pw else x
    span = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return np.asarray(view[:, :, :: stride[0], :: stride[1], ::dh, ::dw])


def _conv2d(node: Conv2d, x: Array) -> Array:
    out, inner, kh, kw = node.weight.shape
    groups = node.groups
    per_sample = max(1, x[0].size * kh * kw) if len(x) else 1
    chunk = max(1, _UNFOLD_ELEMENTS // per_sample)
    weight = node.weight.array.reshape(groups, out // groups, inner * kh * kw)
    parts = []
    for start in range(0, max(len(x), 1), chunk):
        view = _windows(x[start : start + chunk], (kh, kw), node.stride, node.padding, node.dilation)
        n, _, oh, ow = view.shape[:4]
        columns = view.reshape(n, groups, inner, oh, ow, kh, kw).transpose(0, 1, 3, 4, 2, 5, 6)
        columns = columns.reshape(n, groups, oh * ow, inner * kh * kw)
        y = exact_product(columns, weight.transpose(0, 2, 1), node.weight)
        parts.append(y.transpose(0, 1, 3, 2).reshape(n, out, oh, ow))
    return np.concatenate(parts)


def _sum_windows(node: AvgPool2d | SumPool2d, x: Array) -> Array:
    return np.asarray(_windows(x, node.kernel, node.stride, node.padding).sum(axis=(4, 5), dtype=x.dtype))


# ---- spike graphs ---------------------------------------------------------------------------------


def _run_spikes(graph: Graph, x: Array, names: tuple[str, ...]) -> dict[str, Array]:
    free = any(isinstance(n, WindowNeuron) and n.release is Release.FREE for n in graph.nodes)
    return run_free(graph, x, names, evaluate, host_values) if free else _run_windows(graph, x, names)


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
    """A window neuron's membrane ``v``, second accumulator ``a`` and count ``n`` of this window."""

    v: Array
    a: Array
    n: Array


def _run_windows(graph: Graph, x: Array, names: tuple[str, ...]) -> dict[str, Array]:
    """Clocked micro-steps: every neuron fires inside its own window only."""
    period, steps, samples = graph.micro_steps, graph.steps, x.shape[0]
    per_step = host_values(graph, x)
    windows = [n for n in graph.nodes if isinstance(n, WindowNeuron)]
    state = {}
    for node in windows:
        shape = (samples, *graph.types[node.name].shape)
        v = np.zeros(shape, np.int64) + number_array(node.v_init, len(shape))
        state[node.name] = _Window(v, np.zeros(shape, np.int64), np.zeros(shape, np.int64))
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
    per_step |= counts
    output = graph.output
    per_step[output.name] = per_step[output.inputs[0]]
    return {name: per_step[name] for name in names}


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
            (n[:, t] > d).astype(np.int64) if t < graph.steps else np.zeros_like(n[:, 0], np.int64)
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


def _window_step(node: WindowNeuron, k: int, graph: Graph, s: _Window, counts: Array) -> Array:
    t, d = divmod(k - node.phase, graph.micro_steps)
    if not 0 <= t < graph.steps:
        return np.zeros_like(s.v)
    if d == 0:
        bias = number_array(node.bias, s.v.ndim)
        s.v = _decay(node, s.v, node.decay) + s.a + bias + node.precharge
        s.a = np.zeros_like(s.a)
        s.n = np.zeros_like(s.n)
    if node.is_readout:
        counts[:, t] = s.v
        return s.v
    fires = (s.v >= node.threshold) & (d < node.window)
    spikes: Array = fires.astype(np.int64)
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
