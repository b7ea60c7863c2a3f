"""From a spike graph to logical pieces: one a neuron node, with address functions for its inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import Problem, SnnccError, fail, raise_all
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Delay,
    Encode,
    Graph,
    Node,
    Release,
    Spikes,
    SumPool2d,
    WindowNeuron,
)
from snncc.ir.interp import evaluate
from snncc.ir.node import Trait
from snncc.ir.synapses import Weighted
from snncc.mapping.address import VSC, Shape3
from snncc.mapping.mapped import INPUT, Connection, Engine, InputPort, Mapped, OutputPort, Piece, Schedule

Array = NDArray[Any]


@dataclass(frozen=True)
class _Way:
    """From a source of spikes to a weighted node: what lies between, in order of flow."""

    source: Node
    between: tuple[Node, ...]


def map_graph(
    graph: Graph,
    *,
    target: str,
    schedule: Schedule,
    engine: Engine,
    state_bits: int,
    poolings: tuple[int, ...] = (),
) -> tuple[Mapped, dict[str, Array]]:
    """Pieces of a spike graph and the arrays they name by digest.

    Args:
        graph: spike graph.
        target: name of the chip.
        schedule: recorded in the result.
        engine: recorded in the result.
        state_bits: width of the chip's membranes.
        poolings: pooling sizes that the chip's routes can apply; empty for any. Another pooling in
            front of a linear layer is absorbed into its weights.

    Raises:
        ModelError: SNNC-M012, with every connection that has no address function.
    """
    tensors: dict[str, Array] = {}
    problems: list[Problem] = []
    pieces: list[Piece] = []
    for neuron in graph.neurons:
        assert isinstance(neuron, WindowNeuron)
        try:
            connections = tuple(_connections(graph, neuron, tensors, poolings))
        except SnnccError as error:
            problems.extend(error.problems)
            continue
        pieces.append(_piece(graph, neuron, connections, state_bits, tensors))
    raise_all(problems)
    mapped = Mapped(
        target=target,
        schedule=schedule,
        engine=engine,
        steps=graph.steps,
        micro_steps=graph.micro_steps,
        input=_input_port(graph),
        pieces=tuple(pieces),
        output=_output_port(graph, tensors),
    )
    return mapped, tensors


def _piece(
    graph: Graph,
    node: WindowNeuron,
    connections: tuple[Connection, ...],
    state_bits: int,
    tensors: dict[str, Array],
) -> Piece:
    tensors |= {const.digest: const.array for const in node.cell.constants()}
    return Piece(
        name=node.name,
        layer=node.source,
        core=None,
        shape=as_map(graph.types[node.name].shape, node),
        connections=connections,
        cell=node.cell,
        capped=node.capped,
        graded=node.graded,
        streams=node.release is Release.STREAM,
        phase=node.phase,
        state_bits=state_bits,
    )


def as_map(shape: tuple[int, ...], node: Node) -> Shape3:
    """(C, H, W) of a feature shape; (C,) is (C, 1, 1).

    Raises:
        ModelError: SNNC-M012 for shapes of another rank.
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 1:
        return shape[0], 1, 1
    raise fail("SNNC-M012", _where(node), "neurons stand in maps [C, H, W] or vectors [C]", got=list(shape))


def _where(node: Node) -> str:
    return f"%{node.name}" + (f" ({node.source})" if node.source else "")


def _input_port(graph: Graph) -> InputPort:
    encode = next(n for n in graph.nodes if isinstance(n, Encode))
    kind = graph.types[encode.inputs[0]]
    assert isinstance(kind, Spikes)
    assert isinstance(encode, Encode)
    return InputPort(shape=as_map(kind.shape, encode), levels=kind.levels, graded=encode.graded)


def _output_port(graph: Graph, tensors: dict[str, Array]) -> OutputPort:
    output, views = graph.output, list[Node]()
    last = graph.by_name[output.inputs[0]]
    while not isinstance(last, WindowNeuron):
        views.insert(0, last)
        last = graph.by_name[last.inputs[0]]
    order = Const(_flat_order(graph, tuple(views), graph.types[last.name].shape).astype(np.int32))
    moved = bool((order.array != np.arange(order.array.size)).any())
    if moved:
        tensors[order.digest] = order.array
    return OutputPort(
        piece=last.name,
        decode=output.decode,
        over_time=output.over_time,
        scale=output.scale,
        shape=graph.types[output.name].shape,
        order=order.digest if moved else None,
    )


def _connections(
    graph: Graph, neuron: WindowNeuron, tensors: dict[str, Array], poolings: tuple[int, ...]
) -> Iterator[Connection]:
    layer = graph.layers[neuron.name]
    for node in layer.path:
        identity = isinstance(node, Add | Weighted) or _keeps_order(graph, node)
        if not identity:
            raise fail(
                "SNNC-M012",
                _where(node),
                f"{node.kind} between weights and neurons has no address function",
                hint="pooling behind the neuron",
            )
    times = Counter([neuron.inputs[0]])
    for node in reversed(layer.path):
        if not isinstance(node, Weighted):
            times.update({i: n * times[node.name] for i, n in Counter(node.inputs).items()})
    for node in layer.weighted:
        # Sums that meet again, x + (x + y), bring what they share twice.
        for way in times[node.name] * tuple(_ways(graph, node.inputs[0], ())):
            address, weight = _address(graph, node, way, poolings)
            const = Const(weight)
            tensors[const.digest] = const.array
            source = INPUT if isinstance(way.source, Encode) else way.source.name
            delay = sum(n.steps for n in way.between if isinstance(n, Delay))
            yield Connection(source=source, weight=const.digest, address=address, delay=delay)


def _keeps_order(graph: Graph, node: Node) -> bool:
    if not node.has(Trait.VIEW):
        return False
    return bool(
        (
            _flat_order(graph, (node,), graph.types[node.inputs[0]].shape)
            == np.arange(graph.elements(node.name))
        ).all()
    )


def _ways(graph: Graph, name: str, behind: tuple[Node, ...]) -> Iterator[_Way]:
    node = graph.by_name[name]
    if isinstance(node, Encode | WindowNeuron):
        yield _Way(node, behind)
        return
    for source in node.inputs:
        step = () if isinstance(node, Add) else (node,)
        yield from _ways(graph, source, step + behind)


def _flat_order(graph: Graph, views: tuple[Node, ...], shape: tuple[int, ...]) -> Array:
    """Flat source index of each element behind a chain of views."""
    index = np.arange(math.prod(shape)).reshape(1, *shape)
    for node in views:
        index = evaluate(node, [index])
    return index.ravel()


def _address(graph: Graph, node: Weighted, way: _Way, poolings: tuple[int, ...]) -> tuple[VSC, Array]:
    """Address function of one way, and the weights [O, C/groups, kh, kw] it points into."""
    pool, views = _split(way, node)
    c, h, w = as_map(graph.types[way.source.name].shape, way.source)
    pooled = (c, h // pool[0], w // pool[1])
    views_from = pooled if len(graph.types[way.source.name].shape) == 3 else (c,)
    order = _flat_order(graph, views, views_from)
    if isinstance(node, Conv2d):
        straight = graph.types[node.inputs[0]].shape == pooled and bool(
            (order == np.arange(order.size)).all()
        )
        if not straight:
            raise fail(
                "SNNC-M012",
                _where(node),
                "a convolution behind a change of layout has no affine address function",
            )
        out = as_map(graph.types[node.name].shape, node)
        weight = node.weight.array
        address = VSC(
            source_shape=(c, h, w),
            target_shape=out,
            kernel=(weight.shape[2], weight.shape[3]),
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
            groups=node.groups,
            pool=pool,
        )
        return address, weight
    if len(graph.types[node.inputs[0]].shape) != 1:
        raise fail(
            "SNNC-M012",
            _where(node),
            "a linear layer over several rows has no address function yet",
            got=list(graph.types[node.inputs[0]].shape),
        )
    weight = np.empty_like(node.weight.array)
    weight[:, order] = node.weight.array
    weight = weight.reshape(-1, *pooled)
    routed = pool[0] == pool[1] and pool[0] in poolings and h % pool[0] == w % pool[1] == 0
    if poolings and not routed and not isinstance(way.source, Encode):
        # The chip cannot pool so; a weight for every unpooled position does the same.
        weight = weight.repeat(pool[0], axis=2).repeat(pool[1], axis=3)
        weight = np.pad(weight, ((0, 0), (0, 0), (0, h - weight.shape[2]), (0, w - weight.shape[3])))
        pool = (1, 1)
    kernel = (weight.shape[2], weight.shape[3])
    return VSC(source_shape=(c, h, w), target_shape=(weight.shape[0], 1, 1), kernel=kernel, pool=pool), weight


def _split(way: _Way, node: Node) -> tuple[tuple[int, int], tuple[Node, ...]]:
    """Pooling factor and views of a way; the pools must come first."""
    pool, views = (1, 1), []
    for step in way.between:
        if isinstance(step, Delay):
            continue
        if not isinstance(step, SumPool2d):
            views.append(step)
        elif views or step.kernel != step.stride or step.padding != (0, 0):
            raise fail(
                "SNNC-M012",
                _where(step),
                "only pooling with stride = kernel, unpadded, right behind neurons has an address function",
                got=f"kernel {step.kernel}, stride {step.stride}, padding {step.padding}",
            )
        else:
            pool = (pool[0] * step.kernel[0], pool[1] * step.kernel[1])
    return pool, tuple(views)
