"""Reference semantics: executes float, integer and spike graphs in numpy.

This module *defines* what a graph means; engines are compared with it. It is written to be read,
not to be fast. Nodes without state stand in :mod:`snncc.ir.evaluation`, the neurons' updates in
:mod:`snncc.ir.membrane` (float) and :mod:`snncc.ir.cell` (integers), clocked windows in
:mod:`snncc.ir.windows` and free-running events in :mod:`snncc.ir.free`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.cell import CellState
from snncc.ir.evaluation import evaluate as evaluate
from snncc.ir.free import run_free
from snncc.ir.graph import Graph, HostRegion
from snncc.ir.membrane import Membrane, neuron_step
from snncc.ir.neurons import Delay, IntegerNeuron, Neuron, WindowNeuron
from snncc.ir.node import Decode, Node, OverTime
from snncc.ir.ports import Input, Output
from snncc.ir.schedule import Release
from snncc.ir.types import Current, Family
from snncc.ir.windows import run_windows


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


def values_from(graph: Graph, names: tuple[str, ...], known: Mapping[str, Array]) -> dict[str, Array]:
    """Values [N, T, *shape] of nodes of an integer or float graph, from others that are known.

    Only what leads from the known values to the wanted ones is evaluated.

    Args:
        graph: in which both stand.
        names: the wanted values.
        known: values [N, T, *shape] by name, at least those that the wanted ones follow from.
    """
    samples = len(next(iter(known.values())))
    unused = np.zeros((samples, graph.steps, 0), np.int64)  # the input is known, or nothing reads it
    return _run_steps(graph, unused, names, known, _leading(graph, names, known))


def _leading(graph: Graph, names: tuple[str, ...], known: Mapping[str, Array]) -> frozenset[str]:
    """Nodes on the way to the wanted values, the nearest known ones included."""
    found, pending = set[str](), list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += () if name in known else graph.by_name[name].inputs
    return frozenset(found)


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
    """What one node keeps: a neuron's membrane, a delay's line, a host region's inner states."""

    membrane: Membrane = field(default_factory=Membrane)
    cell: CellState | None = None
    line: list[Array] = field(default_factory=list)
    inner: dict[str, _State] = field(default_factory=dict)


def _run_steps(
    graph: Graph,
    x: Array,
    names: tuple[str, ...],
    host: Mapping[str, Array],
    only: frozenset[str] | None = None,
) -> dict[str, Array]:
    state = {n.name: _State() for n in graph.nodes}
    inside = _inside_host(graph, host) if only is None else {n.name for n in graph.nodes} - only
    kept: dict[str, list[Array]] = {name: [] for name in names}
    wanted = {*names, *(n.inputs[0] for n in graph.nodes if isinstance(n, Delay))}
    last_reader = {name: n.name for n in graph.nodes for name in n.inputs if name not in wanted}
    for t in range(graph.steps):
        env: dict[str, Array] = {}
        for node in graph.nodes:
            if node.name in inside:
                continue
            known = host.get(node.name)
            env[node.name] = (
                _step(node, graph, env, x[:, t], state[node.name]) if known is None else known[:, t]
            )
            for name in {i for i in node.inputs if last_reader.get(i) == node.name}:
                env.pop(name, None)  # a large network's values do not all fit at once
        for node in graph.nodes:
            if isinstance(node, Delay) and node.name not in inside:
                state[node.name].line.append(env[node.inputs[0]])
        for name in names:
            kept[name].append(env[name])
    return {name: np.stack(parts, axis=1) for name, parts in kept.items()}


def _inside_host(graph: Graph, host: Mapping[str, Array]) -> set[str]:
    """Host regions whose values only regions read whose own are known already."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        known = all(r.name in host or r.name in found for r in graph.readers[node.name])
        if isinstance(node, HostRegion) and node.name not in host and known:
            found.add(node.name)
    return found


def _step(node: Node, graph: Graph, env: dict[str, Array], x: Array, state: _State) -> Array:
    match node:
        case Input():
            real = graph.family is Family.FLOAT or isinstance(graph.types[node.name], Current)
            return x.astype(np.float32 if real else np.int64)
        case Neuron():
            return neuron_step(node, env[node.inputs[0]], state.membrane)
        case IntegerNeuron():
            drive = env[node.inputs[0]]
            result, state.cell = node.cell.step(drive, state.cell or node.cell.start(drive.shape))
            return result
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
    return out if family is Family.FLOAT else _delivered(node, out)


# ---- spike graphs ---------------------------------------------------------------------------------


def _run_spikes(
    graph: Graph, x: Array, names: tuple[str, ...], host: Mapping[str, Array]
) -> dict[str, Array]:
    per_step = {graph.input.name: x, **host} if host else host_values(graph, x)
    free = any(isinstance(n, WindowNeuron) and n.release is Release.FREE for n in graph.nodes)
    values = run_free(graph, per_step, evaluate) if free else run_windows(graph, per_step)
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
    """Values [N, T, *shape], one a timestep, of the input and the host regions."""
    values = {graph.input.name: x}
    for node in graph.nodes:
        if isinstance(node, HostRegion):
            out = run(node.body, values[node.inputs[0]], ()).values[node.body.output.name]
            values[node.name] = _delivered(node, out)
    return values


def _delivered(node: HostRegion, out: Array) -> Array:
    """What a region gives to integer and spike graphs: whole counts, or real values for other regions."""
    real = isinstance(node.body.types[node.body.output.name], Current)
    return out if real else np.rint(out).astype(np.int64)
