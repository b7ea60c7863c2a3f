"""From spike graphs to address functions: each connection against unit spikes, each refusal whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc.errors import ModelError
from snncc.ir import (
    Add,
    AvgPool2d,
    Concat,
    Const,
    Conv2d,
    Delay,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reshape,
    Scale,
    SumPool2d,
    WindowNeuron,
)
from snncc.ir.evaluation import evaluate
from snncc.ir.schedule import EXACT
from snncc.mapping.build import map_graph
from snncc.mapping.mapped import INPUT, Mapped
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_readout import LowerReadout
from snncc_speck import SPECK2F

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Const:
    return Const(RNG.integers(-9, 10, shape).astype(np.int8))


def spiking(*nodes: Node, shape: tuple[int, ...], levels: int = 2) -> Graph:
    """The spike graph of integer nodes, the last of which is read."""
    end = Output(name="y", inputs=(nodes[-1].name,))
    inner = Input(name="x", shape=shape, levels=levels)
    return ExpandSFA().run(Graph("g", Family.INTEGER, (inner, *nodes, end)))


def mapped(graph: Graph, *poolings: int) -> tuple[Mapped, dict[str, Any]]:
    return map_graph(graph, target="sim", schedule=EXACT, state_bits=32, poolings=poolings)


def received(graph: Graph, neuron: WindowNeuron, source: str, spikes: Any) -> Any:
    """What a neuron's synapses make of spikes [N, *shape] of one source, by the graph's own nodes."""
    values: dict[str, Any] = {}
    for node in graph.nodes:
        if isinstance(node, Input | Output):
            continue
        if node.name == source:
            values[node.name] = spikes
        elif not node.inputs or isinstance(node, WindowNeuron) or node.kind == "encode":
            values[node.name] = np.zeros((len(spikes), *graph.types[node.name].shape), np.int64)
        elif isinstance(node, Delay):
            values[node.name] = values[node.inputs[0]]
        else:
            values[node.name] = evaluate(node, [values[i] for i in node.inputs])
    return values[neuron.inputs[0]]


def assert_addresses_say_what_the_graph_says(graph: Graph, *poolings: int) -> Mapped:
    """A unit spike at every address of every source reaches the same neurons with the same weights."""
    program, tensors = mapped(graph, *poolings)
    for piece in program.pieces:
        neuron = graph.by_name[piece.name]
        assert isinstance(neuron, WindowNeuron)
        for source in {c.source for c in piece.connections}:
            name = next(n.name for n in graph.nodes if n.kind == "encode") if source == INPUT else source
            shape = graph.types[name].shape
            units = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
            want = received(graph, neuron, name, units).reshape(len(units), -1)
            dense = sum(
                c.address.expand(tensors[c.weight].astype(np.int64))
                for c in piece.connections
                if c.source == source
            )
            np.testing.assert_array_equal(dense.T, want, err_msg=f"{source} -> {piece.name}")  # type: ignore[union-attr]
    return program


def flat(source: str, size: int) -> Reshape:
    return Reshape(name="flat", inputs=(source,), shape=(size,))


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0)])
def test_a_linear_layer_behind_any_order_of_a_map(axes: tuple[int, int, int]) -> None:
    graph = spiking(
        Permute(name="turned", inputs=("x",), axes=axes),
        flat("turned", 24),
        Linear(name="l", inputs=("flat",), weight=weights(5, 24)),
        integer_neuron("n", "l", threshold=9),
        shape=(2, 3, 4),
    )
    program = assert_addresses_say_what_the_graph_says(graph)
    assert program.pieces[0].connections[0].address.kernel == (3, 4)


def pooled(pool: tuple[int, int], shape: tuple[int, int, int]) -> Graph:
    c, h, w = shape
    size = c * (h // pool[0]) * (w // pool[1])
    return spiking(
        Conv2d(name="c", inputs=("x",), weight=weights(c, c, 1, 1)),
        integer_neuron("s", "c", threshold=5),
        SumPool2d(name="p", inputs=("s",), kernel=pool, stride=pool),
        Permute(name="turned", inputs=("p",), axes=(1, 2, 0)),
        flat("turned", size),
        Linear(name="l", inputs=("flat",), weight=weights(3, size)),
        integer_neuron("n", "l", threshold=9),
        shape=shape,
    )


@pytest.mark.parametrize(("pool", "shape", "kept"), [
    ((2, 2), (2, 4, 6), (2, 2)),
    ((3, 3), (2, 6, 3), (1, 1)),  # no such pooling on the chip
    ((2, 2), (2, 5, 6), (1, 1)),  # leaves a row, which the chip would count
    ((2, 2), (2, 4, 7), (1, 1)),
    ((2, 1), (2, 4, 6), (1, 1)),
])  # fmt: skip
def test_poolings_that_a_chip_has_not_are_absorbed_into_linear_layers(
    pool: tuple[int, int], shape: tuple[int, int, int], kept: tuple[int, int]
) -> None:
    graph = pooled(pool, shape)
    on_chip = assert_addresses_say_what_the_graph_says(graph, 1, 2, 4)
    address = on_chip.pieces[1].connections[0].address
    assert (address.pool, address.kernel) == (kept, (shape[1] // kept[0], shape[2] // kept[1]))
    anywhere = assert_addresses_say_what_the_graph_says(graph)
    assert anywhere.pieces[1].connections[0].address.pool == pool


def test_the_host_pools_what_enters_the_chip() -> None:
    graph = spiking(
        SumPool2d(name="p", inputs=("x",), kernel=(3, 1), stride=(3, 1)),
        flat("p", 2 * 2 * 5),
        Linear(name="l", inputs=("flat",), weight=weights(3, 20)),
        integer_neuron("n", "l", threshold=9),
        shape=(2, 7, 5),
    )
    program = assert_addresses_say_what_the_graph_says(graph, 1, 2, 4)
    assert program.pieces[0].connections[0].address.pool == (3, 1)


def test_poolings_in_a_row_multiply() -> None:
    graph = spiking(
        SumPool2d(name="p", inputs=("x",), kernel=(2, 1), stride=(2, 1)),
        SumPool2d(name="q", inputs=("p",), kernel=(2, 3), stride=(2, 3)),
        Conv2d(name="c", inputs=("q",), weight=weights(3, 2, 2, 1), padding=(1, 0)),
        integer_neuron("n", "c", threshold=9),
        shape=(2, 9, 7),
    )
    program = assert_addresses_say_what_the_graph_says(graph)
    assert program.pieces[0].connections[0].address.pool == (4, 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_of_every_attribute(groups: int) -> None:
    geometry = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": groups}
    graph = spiking(
        Conv2d(name="c", inputs=("x",), weight=weights(4, 4 // groups, 3, 2), **geometry),  # type: ignore[arg-type]
        integer_neuron("n", "c", threshold=9),
        shape=(4, 5, 6),
    )
    address = assert_addresses_say_what_the_graph_says(graph).pieces[0].connections[0].address
    assert (address.stride, address.padding, address.dilation) == ((2, 1), (1, 2), (1, 2))
    assert address.groups == groups


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_of_two_sources_through_one_convolution(groups: int) -> None:
    """Each source gets the kernels of its own channels, also where a group holds channels of both."""
    graph = spiking(
        Conv2d(name="c", inputs=("x",), weight=weights(2, 2, 1, 1)),
        integer_neuron("s", "c", threshold=5),
        Concat(name="both", inputs=("x", "s"), axis=0),
        Conv2d(name="d", inputs=("both",), weight=weights(8, 4 // groups, 2, 2), groups=groups),
        integer_neuron("n", "d", threshold=9),
        shape=(2, 3, 4),
    )
    program = assert_addresses_say_what_the_graph_says(graph)
    assert [c.source for c in program.pieces[1].connections] == [INPUT, "s"]


def test_sums_that_meet_again_bring_what_they_share_twice() -> None:
    nodes = (
        Linear(name="a", inputs=("x",), weight=weights(3, 4)),
        Linear(name="b", inputs=("x",), weight=weights(3, 4)),
        Add(name="s", inputs=("a", "b")),
        Add(name="t", inputs=("a", "s")),
        Add(name="u", inputs=("t", "s", "a")),
        integer_neuron("n", "u", threshold=9),
    )
    program = assert_addresses_say_what_the_graph_says(spiking(*nodes, shape=(4,)))
    assert len(program.pieces[0].connections) == 4 + 2  # a by four ways, b by two


def test_the_result_knows_where_each_of_its_elements_stands() -> None:
    nodes = (
        Conv2d(name="c", inputs=("x",), weight=weights(2, 1, 1, 1)),
        integer_neuron("n", "c", threshold=3),
        Permute(name="turned", inputs=("n",), axes=(2, 0, 1)),
        flat("turned", 12),
    )
    program, tensors = mapped(spiking(*nodes, shape=(1, 2, 3)))
    assert program.output.order is not None
    order = tensors[program.output.order].tolist()
    # Column by column; in each both channels, row by row. Index = channel·6 + row·3 + column.
    assert order == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    straight, _ = mapped(spiking(*nodes[:2], flat("n", 12), shape=(1, 2, 3)))
    assert (straight.output.order, straight.output.shape) == (None, (12,))


def test_the_port_of_a_vector_is_a_map_of_one_site() -> None:
    linear = Linear(name="l", inputs=("x",), weight=weights(3, 5))
    program, _ = mapped(spiking(linear, integer_neuron("n", "l", threshold=3), shape=(5,), levels=7))
    assert (program.inputs[0].shape, program.inputs[0].levels, program.inputs[0].graded) == (
        (5, 1, 1),
        7,
        False,
    )
    assert program.pieces[0].shape == (3, 1, 1)


# ---- refusals -----------------------------------------------------------------------------------


def refusal(make: Any) -> str:
    with pytest.raises(ModelError) as error:
        make()
    return str(error.value)


def conv(source: str, out: int, inner: int, name: str = "d") -> Conv2d:
    return Conv2d(name=name, inputs=(source,), source="net.d", weight=weights(out, inner, 1, 1))


NO_ADDRESS: list[tuple[tuple[Node, ...], tuple[int, ...], str]] = [
    (
        (Permute(name="t", inputs=("x",), axes=(0, 2, 1)), conv("t", 3, 2), integer_neuron("n", "d")),
        (2, 3, 3),
        "%d (net.d): a convolution behind a change of layout has no affine address function. Try the layout of the neurons in front of it.",
    ),
    (
        (Permute(name="t", inputs=("x",), axes=(0, 2, 1)), conv("t", 3, 2), integer_neuron("n", "d")),
        (2, 3, 4),
        "%d (net.d): a convolution behind a change of layout has no affine address function. Try the layout of the neurons in front of it.",
    ),
    (
        (conv("x", 3, 2), Permute(name="t", inputs=("d",), source="net.t", axes=(0, 2, 1)), integer_neuron("n", "t")),
        (2, 3, 4),
        "%t (net.t): permute between weights and neurons has no address function. Try pooling behind the neuron.",
    ),
    (
        (conv("x", 3, 2), SumPool2d(name="p", inputs=("d",), kernel=(2, 2), stride=(2, 2)), integer_neuron("n", "p")),
        (2, 4, 4),
        "%p: sum_pool2d between weights and neurons has no address function. Try pooling behind the neuron.",
    ),
    (
        (SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(1, 2)), conv("p", 3, 2), integer_neuron("n", "d")),
        (2, 4, 4),
        "%p: only pooling with stride = kernel, unpadded, right behind neurons has an address function, got kernel (2, 2), stride (1, 2), padding (0, 0).",
    ),
    (
        (SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2), padding=(1, 0)), conv("p", 3, 2), integer_neuron("n", "d")),
        (2, 4, 4),
        "%p: only pooling with stride = kernel, unpadded, right behind neurons has an address function, got kernel (2, 2), stride (2, 2), padding (1, 0).",
    ),
    (
        (
            Permute(name="t", inputs=("x",), axes=(0, 2, 1)),
            SumPool2d(name="p", inputs=("t",), kernel=(2, 2), stride=(2, 2)),
            conv("p", 3, 2),
            integer_neuron("n", "d"),
        ),
        (2, 4, 4),
        "%p: only pooling with stride = kernel, unpadded, right behind neurons has an address function, got kernel (2, 2), stride (2, 2), padding (0, 0).",
    ),
    (
        (Linear(name="l", inputs=("x",), source="net.l", weight=weights(3, 4)), integer_neuron("n", "l", source="net.n")),
        (2, 4),
        "%x.spikes: neurons stand in maps [C, H, W] or vectors [C], got [2, 4].",
    ),
    (
        (Reshape(name="r", inputs=("x",), shape=(2, 12)), Linear(name="l", inputs=("r",), source="net.l", weight=weights(3, 12)), Reshape(name="f", inputs=("l",), shape=(6,)), integer_neuron("n", "f")),
        (2, 3, 4),
        "%l (net.l): a linear layer over several rows has no address function yet, got [2, 12].",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "text"), NO_ADDRESS, ids=[t[:60] for _, _, t in NO_ADDRESS])
def test_what_has_no_address_function_is_named(
    nodes: tuple[Node, ...], shape: tuple[int, ...], text: str
) -> None:
    graph = spiking(*nodes, shape=shape)
    assert refusal(lambda: mapped(graph)) == f"[SNNC-M022] {text}"


def test_all_connections_without_an_address_are_named_at_once() -> None:
    graph = spiking(
        Permute(name="t", inputs=("x",), axes=(0, 2, 1)),
        conv("t", 2, 2, "a"),
        integer_neuron("n", "a"),
        Permute(name="u", inputs=("n",), axes=(0, 2, 1)),
        conv("u", 2, 2, "b"),
        integer_neuron("m", "b"),
        shape=(2, 3, 4),
    )
    text = "(net.d): a convolution behind a change of layout has no affine address function. Try the layout of the neurons in front of it."
    assert refusal(lambda: mapped(graph)).splitlines() == [f"[SNNC-M022] %a {text}", f"[SNNC-M022] %b {text}"]


def trained(*nodes: Node, shape: tuple[int, ...] = (2,), steps: int = 1, levels: int = 1) -> Graph:
    end = Output(name="y", inputs=(nodes[-1].name,), source="net")
    return Graph("g", Family.FLOAT, (Input(name="x", shape=shape, levels=levels), *nodes, end), steps)


def real(*rows: Any) -> Const:
    return Const(np.array(rows, np.float32))


def test_results_that_no_neuron_holds_are_refused() -> None:
    pool = AvgPool2d(name="p", inputs=("n",), source="net.p", kernel=(2, 2), stride=(2, 2))
    maps = trained(Neuron(name="n", inputs=("x",)), pool, shape=(1, 2, 2))
    assert refusal(lambda: LowerReadout().run(maps)) == (
        "[SNNC-M019] %p (net.p): the result is spikes that several addresses share. "
        "Try ending the model with a neuron or a linear layer."
    )
    steps = trained(Linear(name="l", inputs=("x",), weight=real([1, 2])), steps=3)
    assert steps.output.over_time is OverTime.NONE
    assert refusal(lambda: LowerReadout().run(steps)) == (
        "[SNNC-M019] %y (net): a membrane is read once, after the last timestep, but the result is one value a "
        "timestep. Try the mean or sum over time as result."
    )


def test_factors_that_have_no_place_are_refused() -> None:
    branches = trained(
        Neuron(name="n", inputs=("x",), output_scale=0.5),
        Scale(name="s", inputs=("x",), factor=0.25),
        Concat(name="c", inputs=("n", "s", "x"), axis=0),
        Linear(name="l", inputs=("c",), weight=real([1] * 6)),
    )
    assert refusal(lambda: FoldScale().run(branches)) == (
        "[SNNC-M023] %c: joins values whose units differ, got %n: 0.5, %s: 0.25, %x: 1. "
        "Try the same D, normalisation and pooling on both branches."
    )
    backwards = trained(Neuron(name="n", inputs=("x",), source="net.n", gain=-0.5))
    assert refusal(lambda: FoldScale().run(backwards)) == (
        "[SNNC-M021] %n (net.n): the drive's gain must be positive, got -0.5."
    )
    channel = trained(Neuron(name="n", inputs=("x",), source="net.n", gain=real(1.0, -2.0)))
    assert refusal(lambda: FoldScale().run(channel)) == (
        "[SNNC-M021] %n (net.n): the drive's gain must be positive, got -2.0."
    )
    readout = trained(Neuron(name="n", inputs=("x",), source="net.n", gain=real(1.0, 2.0), max_spikes=0))
    assert refusal(lambda: FoldScale().run(readout)) == (
        "[SNNC-M020] %n (net.n): a readout with a gain per channel has no common unit. Try one gain for the layer."
    )


def timesteps(*nodes: Node, steps: int) -> Graph:
    end = Output(name="y", inputs=(nodes[-1].name,), over_time=OverTime.SUM)
    return Graph("net", Family.INTEGER, (Input(name="x", shape=(2,), levels=1), *nodes, end), steps)


def test_schedules_that_a_network_cannot_have_are_refused() -> None:
    layer = (Linear(name="l", inputs=("x",), weight=weights(1, 2)), integer_neuron("n", "l", decay=1))
    assert refusal(lambda: ExpandSFA(SPECK2F.schedules["free"]).run(timesteps(*layer, steps=3))) == (
        "[SNNC-M024] net: the free schedule has no windows that could separate timesteps, got 3 timesteps, "
        "limit 1. Try --schedule exact on a clocked target."
    )
    delay = Delay(name="d", inputs=("x",), source="net.d", steps=1, shape=(2,), levels=1)
    delayed = (delay, Linear(name="l", inputs=("d",), weight=weights(1, 2)), integer_neuron("n", "l"))
    assert refusal(lambda: ExpandSFA().run(timesteps(*delayed, steps=3))) == (
        "[SNNC-M012] %d (net.d): a delay by timesteps has no spike form yet, got 1."
    )


def test_a_bias_that_differs_along_a_map_is_refused() -> None:
    """Channels become rows behind the weights; in place, padding has the channel's bias like every site."""
    bias = Const(np.array([3, 5], np.int32))
    layer = Conv2d(name="c", inputs=("x",), weight=weights(2, 1, 1, 1), bias=bias, padding=(1, 0))
    straight = spiking(layer, integer_neuron("n", "c"), shape=(1, 2, 3)).by_name["n"]
    assert isinstance(straight, WindowNeuron)
    assert straight.cell.bias == bias
    rows = Permute(name="t", inputs=("c",), axes=(1, 0, 2))
    nodes = (layer, rows, integer_neuron("n", "t", source="net.n"))
    assert refusal(lambda: spiking(*nodes, shape=(1, 2, 3))) == (
        "[SNNC-M020] %n (net.n): its bias differs between neurons of one channel, which cores cannot hold. Try one bias a channel."
    )
