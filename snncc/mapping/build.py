"""From a spike graph to logical pieces: one a neuron node, with address functions for its inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from snncc.arrays import Array
from snncc.errors import Problem, SnnccError, fail, raise_all
from snncc.ir import (
    Add,
    Concat,
    Const,
    Conv2d,
    Delay,
    Encode,
    Graph,
    Node,
    Release,
    Spikes,
    SumPool2d,
    Upsample,
    WindowNeuron,
)
from snncc.ir.interp import evaluate
from snncc.ir.layers import Bilinear, Layer
from snncc.ir.node import Trait
from snncc.ir.schedule import Schedule
from snncc.ir.sites import CentreGate, SiteGate, offset_of, through
from snncc.ir.synapses import Weighted
from snncc.mapping.address import VSC, Pair, Shape3, packed
from snncc.mapping.build_products import products_of
from snncc.mapping.mapped import INPUT, Connection, InputPort, Mapped, OutputPort, Piece, Sites
from snncc.mapping.pool import MaxOver
from snncc.mapping.product import Product
from snncc.mapping.words import words

Gates = tuple[SiteGate, ...]


@dataclass(frozen=True)
class _Step:
    """A node on a way, and which of its inputs the way comes through."""

    node: Node
    through: int = 0


@dataclass(frozen=True)
class _Way:
    """From a source of spikes to a weighted node: what lies between, in order of flow."""

    source: Node
    between: tuple[_Step, ...]


def map_graph(
    graph: Graph,
    *,
    target: str,
    schedule: Schedule,
    state_bits: int,
    poolings: tuple[int, ...] = (),
    weight_bits: int = 8,
) -> tuple[Mapped, dict[str, Array]]:
    """Pieces of a spike graph and the arrays they name by digest.

    Args:
        graph: spike graph.
        target: name of the chip.
        schedule: recorded in the result.
        state_bits: width of the chip's membranes.
        poolings: pooling sizes that the chip's routes can apply; empty for any. Another pooling in
            front of a linear layer is absorbed into its weights.
        weight_bits: of a weight's word; a node whose weights are larger gets a power of two before them.

    Raises:
        ModelError: SNNC-M022, with every connection that has no address function.
    """
    tensors: dict[str, Array] = {}
    problems: list[Problem] = []
    pieces: list[Piece] = []
    for neuron in graph.neurons:
        assert isinstance(neuron, WindowNeuron)
        try:
            connections = tuple(_connections(graph, neuron, tensors, poolings, weight_bits))
            products = tuple(products_of(graph, neuron, port_names(graph)))
            pieces.append(piece_of(graph, neuron, connections, state_bits, tensors, products))
        except SnnccError as error:
            problems.extend(error.problems)
    raise_all(problems)
    mapped = Mapped(
        target=target,
        schedule=schedule,
        steps=graph.steps,
        micro_steps=graph.micro_steps,
        inputs=input_ports(graph),
        pieces=tuple(pieces),
        output=output_port(graph, tensors),
    )
    return mapped, tensors


def piece_of(
    graph: Graph,
    node: WindowNeuron,
    connections: tuple[Connection, ...],
    state_bits: int,
    tensors: dict[str, Array],
    products: tuple[Product, ...] = (),
) -> Piece:
    """The piece of a neuron that hears ``connections`` and ``products``; its arrays go to ``tensors``."""
    tensors |= {const.digest: const.array for const in node.cell.constants()}
    sites = None if node.sites is None else _stored(packed(node.sites.array), tensors)
    return Piece(
        name=node.name,
        layer=node.source,
        shape=as_map(graph.types[node.name].shape, node),
        connections=connections,
        products=products,
        pools=tuple(_pools(graph, node)),
        cell=node.cell,
        capped=node.capped,
        graded=node.graded,
        streams=node.release is Release.STREAM,
        phase=node.phase,
        state_bits=state_bits,
        sites=sites,
    )


def _stored(array: Array, tensors: dict[str, Array]) -> str:
    """Digest of an array that now stands among ``tensors``."""
    const = Const(array)
    tensors[const.digest] = const.array
    return const.digest


def as_map(shape: tuple[int, ...], node: Node) -> Shape3:
    """(C, H, W) of a feature shape; (C,) is (C, 1, 1).

    Raises:
        ModelError: SNNC-M022 for shapes of another rank.
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 1:
        return shape[0], 1, 1
    raise fail("SNNC-M022", _where(node), "neurons stand in maps [C, H, W] or vectors [C]", got=list(shape))


def _where(node: Node) -> str:
    return f"%{node.name}" + (f" ({node.source})" if node.source else "")


def input_ports(graph: Graph) -> tuple[InputPort, ...]:
    """What comes into a spike graph, in order."""
    names = port_names(graph)
    return tuple(_port(graph, n, names[n.name]) for n in graph.nodes if isinstance(n, Encode))


def port_names(graph: Graph) -> dict[str, str]:
    """Names of the ports by that of the node that encodes their counts.

    A port of several bears the name of the input or host region that it brings the counts of.
    """
    found = {n.name: n.inputs[0] for n in graph.nodes if isinstance(n, Encode)}
    return found if len(found) > 1 else dict.fromkeys(found, INPUT)


def _port(graph: Graph, encode: Encode, name: str) -> InputPort:
    kind = graph.types[encode.inputs[0]]
    assert isinstance(kind, Spikes)
    shape = as_map(kind.shape, encode)
    return InputPort(name=name, shape=shape, levels=kind.levels, graded=encode.graded, signed=kind.signed)


def output_port(graph: Graph, tensors: dict[str, Array]) -> OutputPort:
    """How the result of a spike graph is read; an order other than the map's goes to ``tensors``."""
    output, views = graph.output, list[_Step]()
    last = graph.by_name[output.inputs[0]]
    while not isinstance(last, WindowNeuron):
        views.insert(0, _Step(last))
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
    graph: Graph,
    neuron: WindowNeuron,
    tensors: dict[str, Array],
    poolings: tuple[int, ...],
    weight_bits: int,
) -> Iterator[Connection]:
    layer = graph.layers[neuron.name]
    weighted = {n.name for n in layer.weighted}
    for node in layer.path:
        # What stands behind products alone may move their sums: products have addresses of their own.
        if node.name not in weighted and not weighted & set(node.inputs):
            continue
        weighted.add(node.name)
        identity = isinstance(node, Add | Weighted | SiteGate) or _keeps_order(graph, node)
        if not identity:
            raise fail(
                "SNNC-M022",
                _where(node),
                f"{node.kind} between weights and neurons has no address function",
                hint="pooling behind the neuron",
            )
    behind, ports = _gates_behind(layer, neuron.inputs[0]), port_names(graph)
    for node in layer.weighted:
        stored, exponent = words(node.weight.array, weight_bits)
        node = replace(node, weight=Const(stored))
        ways = tuple(_ways(graph, node.inputs[0], ()))
        for gates, times in behind[node.name].items():
            sites = _sites(node, gates, tensors)
            # Sums that meet again, x + (x + y), bring what they share twice.
            for way in times * ways:
                address, weight = _address(graph, node, way, poolings)
                if sites is not None and sites.centre and address.spread != (1, 1):
                    what = "a gate that spikes open reads maps as neurons stand in, not upsampled ones"
                    raise fail("SNNC-M022", _where(node), what, got=address.spread)
                digest = _stored(weight, tensors)
                source = ports.get(way.source.name, way.source.name)
                delay = sum(step.node.steps for step in way.between if isinstance(step.node, Delay))
                yield Connection(
                    source=source,
                    weight=digest,
                    address=address,
                    delay=delay,
                    exponent=exponent,
                    sites=sites,
                )


def _gates_behind(layer: Layer, end: str) -> Mapping[str, Counter[Gates]]:
    """How often each value of a layer's path reaches its end, by the gates in between, in order of flow."""
    found: dict[str, Counter[Gates]] = {n.name: Counter() for n in layer.path}
    found[end] = Counter({(): 1})
    ends = {node.name for node in layer.ends}
    for node in reversed(layer.path):
        if node.name in ends:
            continue
        own = (node,) if isinstance(node, SiteGate) else ()
        for name in through(node):
            found[name].update({own + gates: n for gates, n in found[node.name].items()})
    return found


def _sites(node: Weighted, gates: Gates, tensors: dict[str, Array]) -> Sites | None:
    """What the gates behind a node leave open of its map."""
    if not gates:
        return None
    bitmap = np.logical_and.reduce([gate.bitmap for gate in gates])
    last = next((gate for gate in gates if isinstance(gate, CentreGate)), None)
    if last is None:
        return Sites(bitmap=_stored(packed(bitmap), tensors))
    _of_centres(node, gates)
    bias = None if last.bias is None else _stored(last.bias.array, tensors)
    return Sites(bitmap=_stored(packed(bitmap), tensors), centre=last.name, bias=bias)


def _of_centres(node: Weighted, gates: Gates) -> None:
    """Raise unless the one gate that spikes open stands right behind its own convolution."""
    first = gates[0]
    own = False
    if isinstance(node, Conv2d) and isinstance(first, CentreGate):
        kernel = (node.weight.shape[2], node.weight.shape[3])
        centres = (node.stride, offset_of(kernel, node.padding, node.dilation))
        own = first.inputs == (node.name, *node.inputs) and (first.stride, first.offset) == centres
    if not own or any(isinstance(gate, CentreGate) for gate in gates[1:]):
        gate = next(gate for gate in gates if isinstance(gate, CentreGate))
        what = "a gate that spikes open stands right behind the convolution whose centres they are"
        raise fail("SNNC-M022", _where(gate), what, got=", ".join(f"%{i}" for i in gate.inputs))


def _pools(graph: Graph, neuron: WindowNeuron) -> Iterator[MaxOver]:
    """The maxima that a neuron integrates, each of one source's map."""
    layer = graph.layers[neuron.name]
    behind, ports = _gates_behind(layer, neuron.inputs[0]), port_names(graph)
    for node in layer.pools:
        if any(behind[node.name]):
            what = "a gate of output sites behind a maximum has no address function"
            raise fail("SNNC-M022", _where(node), what, hint="the gate behind the weights in front of it")
        read = graph.by_name[node.inputs[0]]
        delay = read.steps if isinstance(read, Delay) else 0
        source = graph.by_name[read.inputs[0]] if isinstance(read, Delay) else read
        if not isinstance(source, Encode | WindowNeuron):
            what = "a maximum of something other than one source's spikes has no address function"
            raise fail("SNNC-M022", _where(node), what, got=f"%{source.name}, {source.kind}")
        pool = MaxOver(
            source=ports.get(source.name, source.name),
            delay=delay,
            kernel=node.kernel,
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
        )
        yield from behind[node.name][()] * (pool,)


def _keeps_order(graph: Graph, node: Node) -> bool:
    if not node.has(Trait.VIEW):
        return False
    return bool(
        (
            _flat_order(graph, (_Step(node),), graph.types[node.inputs[0]].shape)
            == np.arange(graph.elements(node.name))
        ).all()
    )


def _ways(graph: Graph, name: str, behind: tuple[_Step, ...]) -> Iterator[_Way]:
    node = graph.by_name[name]
    if isinstance(node, Encode | WindowNeuron):
        yield _Way(node, behind)
        return
    if isinstance(node, Bilinear):
        what = "weights that read a product have no address function"
        raise fail("SNNC-M022", _where(node), what, hint="the pass lower-products first")
    if isinstance(node, Concat) and node.axis != 0:
        what = "spikes joined along another axis than the channels have no address function"
        raise fail("SNNC-M022", _where(node), what, got=f"axis {node.axis}", limit="axis 0")
    for i, source in enumerate(node.inputs):
        step = () if isinstance(node, Add) else (_Step(node, i),)
        yield from _ways(graph, source, step + behind)


def _flat_order(graph: Graph, views: tuple[_Step, ...], shape: tuple[int, ...]) -> Array:
    """Flat source index of each element behind a chain of views; -1 where it comes another way."""
    index = np.arange(math.prod(shape)).reshape(1, *shape)
    for step in views:
        # Beside what comes through stand channels of other sources, on maps of the same size.
        args = [
            np.full((1, graph.types[name].shape[0], *index.shape[2:]), -1) if i != step.through else index
            for i, name in enumerate(step.node.inputs)
        ]
        index = evaluate(step.node, args)
    return index.ravel()


def _address(graph: Graph, node: Weighted, way: _Way, poolings: tuple[int, ...]) -> tuple[VSC, Array]:
    """Address function of one way, and the weights [O, C/groups, kh, kw] it points into."""
    pool, spread, views = _split(way)
    c, h, w = as_map(graph.types[way.source.name].shape, way.source)
    seen = (c, h // pool[0] * spread[0], w // pool[1] * spread[1])
    views_from = seen if len(graph.types[way.source.name].shape) == 3 else (c,)
    order = _flat_order(graph, views, views_from)
    if isinstance(node, Conv2d):
        groups, weight = _of_channels(node, _first_channel(graph, node, order, seen), c)
        address = VSC(
            source_shape=(c, h, w),
            target_shape=as_map(graph.types[node.name].shape, node),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
            groups=groups,
            pool=pool,
            spread=spread,
        )
        return address, weight
    if len(graph.types[node.inputs[0]].shape) != 1:
        raise fail(
            "SNNC-M022",
            _where(node),
            "a linear layer over several rows has no address function yet",
            got=list(graph.types[node.inputs[0]].shape),
        )
    weight = np.zeros((len(node.weight.array), math.prod(seen)), node.weight.array.dtype)
    weight[:, order[order >= 0]] = node.weight.array[:, order >= 0]
    weight = weight.reshape(-1, *seen)
    routed = pool[0] == pool[1] and pool[0] in poolings and h % pool[0] == w % pool[1] == 0
    if poolings and not routed and spread == (1, 1) and not isinstance(way.source, Encode):
        # The chip cannot pool so; a weight for every unpooled position does the same.
        weight = weight.repeat(pool[0], axis=2).repeat(pool[1], axis=3)
        weight = np.pad(weight, ((0, 0), (0, 0), (0, h - weight.shape[2]), (0, w - weight.shape[3])))
        pool = (1, 1)
    kernel = (weight.shape[2], weight.shape[3])
    target = (weight.shape[0], 1, 1)
    address = VSC(source_shape=(c, h, w), target_shape=target, kernel=kernel, pool=pool, spread=spread)
    return address, weight


def _first_channel(graph: Graph, node: Conv2d, order: Array, pooled: Shape3) -> int:
    """The input channel at which a source's map stands whole and in order among those a convolution reads."""
    shape = graph.types[node.inputs[0]].shape
    found = np.flatnonzero(order >= 0)
    straight = shape[1:] == pooled[1:] and np.array_equal(order[found], np.arange(math.prod(pooled)))
    if not straight or found[-1] - found[0] + 1 != found.size:
        raise fail(
            "SNNC-M022",
            _where(node),
            "a convolution behind a change of layout has no affine address function",
            hint="the layout of the neurons in front of it",
        )
    return int(found[0]) // math.prod(shape[1:])


def _of_channels(node: Conv2d, first: int, count: int) -> tuple[int, Array]:
    """Groups and weights of a convolution for ``count`` of its input channels from ``first`` on."""
    weight, groups = node.weight.array, node.groups
    out, inner = weight.shape[:2]
    if count == inner * groups:
        return groups, weight
    # Channels of several sources may share a group: each source gets the whole kernel's part of its own.
    full = np.zeros((out, inner * groups, *weight.shape[2:]), weight.dtype)
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        full[rows, g * inner : (g + 1) * inner] = weight[rows]
    return 1, full[:, first : first + count]


def _split(way: _Way) -> tuple[Pair, Pair, tuple[_Step, ...]]:
    """Pooling factor, upsampling factor and views of a way.

    Pools come first, then upsamplings; both may stand behind what only adds channels.
    """
    pool, spread, views = (1, 1), (1, 1), list[_Step]()
    for step in way.between:
        node = step.node
        if isinstance(node, Delay):
            continue
        moved = not all(isinstance(view.node, Concat) for view in views)
        if isinstance(node, Upsample) and not moved:
            spread = (spread[0] * node.factor[0], spread[1] * node.factor[1])
        elif isinstance(node, Upsample):
            what = "only upsampling of a neuron's own map, or of joined channels, has an address function"
            raise fail("SNNC-M022", _where(node), what, hint="upsampling right behind neurons")
        elif not isinstance(node, SumPool2d):
            views.append(step)
        elif moved or spread != (1, 1) or node.kernel != node.stride or node.padding != (0, 0):
            raise fail(
                "SNNC-M022",
                _where(node),
                "only pooling with stride = kernel, unpadded, right behind neurons has an address function",
                got=f"kernel {node.kernel}, stride {node.stride}, padding {node.padding}",
            )
        else:
            pool = (pool[0] * node.kernel[0], pool[1] * node.kernel[1])
    return pool, spread, tuple(views)
