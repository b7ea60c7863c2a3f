"""Every limit of the chip is a named check; all violations come at once, whole messages."""

from __future__ import annotations

import numpy as np
import pytest

from snncc.compilation import Options
from snncc.errors import CapacityError, ModelError, SnnccError
from snncc.hw.mesh import Bound
from snncc.hw.spec import CoreKind
from snncc.ir import Add, Const, Family, Graph, Input, Linear, Neuron, Node, Output, Reshape, SumPool2d
from snncc.mapping.place import place
from snncc.model import Model
from snncc_speck import SPECK2F
from snncc_speck.limits import chip_layers
from speck_nets import conv, lower, spiking


def refusals(*nodes: Node) -> list[str]:
    with pytest.raises(SnnccError) as error:
        lower(*nodes)
    return [f"[{p.code}] {p}" for p in error.value.problems]


def test_kernel_memory_counts_powers_of_two_and_the_gates_channel() -> None:
    """32x7x7 -> 64 needs 33 · 2^(6+6) words with the gate; 32x3x3 -> 64 needs 33,792 and fits."""
    wide = np.full((64, 32 * 49), 0.01, np.float32)
    big = (
        Input(name="x", shape=(32, 7, 7), levels=4),
        Reshape(name="f", inputs=("x",), shape=(1568,)),
        Linear(name="fc", inputs=("f",), source="fc", weight=Const(wide)),
        spiking("n", "fc"),
    )
    assert refusals(*big) == [
        "[SNNC-C001] %n (n) on speck2f: needs more kernel words than any core has, got 135,168, limit 65,536 (cores 5, 6). Try fewer channels, or a smaller map in front of it."
    ]
    small = (
        Input(name="x", shape=(32, 3, 3), levels=4),
        Reshape(name="f", inputs=("x",), shape=(288,)),
        Linear(name="fc", inputs=("f",), weight=Const(wide[:, :288])),
        spiking("n", "fc"),
    )
    assert lower(*small).mapped.tiles[0].core in (5, 6)


def test_every_violation_of_a_network_is_listed_at_once() -> None:
    nodes = (
        Input(name="x", shape=(2, 70, 66), levels=4),
        conv("c1", "x", 40, 2, padding=(1, 1)),
        spiking("n1", "c1"),
        SumPool2d(name="p", inputs=("n1",), kernel=(3, 3), stride=(3, 3)),
        conv("c2", "p", 8, 40, (17, 17)),
        spiking("n2", "c2"),
        conv("c3", "n2", 4, 8, (3, 3), stride=(3, 3), padding=(1, 1)),
        spiking("n3", "c3"),
    )
    assert refusals(*nodes) == [
        "[SNNC-C007] %n1 (n1) on speck2f: output map is too large, got 70x66, limit 64x64.",
        "[SNNC-C002] %n1 (n1) on speck2f: needs more neuron words than any core has, got 655,360, limit 65,536 (cores 0, 1, 2). Try fewer channels, or a smaller map in front of it.",
        "[SNNC-C005] %n2 (n2) on speck2f: kernel is too large, got 17x17, limit 16x16. Try pooling or stride before this layer.",
        "[SNNC-C006] %n2 (n2) on speck2f: pooling behind %n1 cannot be configured, got 3x3, limit 1, 2, 4.",
        "[SNNC-C001] %n2 (n2) on speck2f: needs more kernel words than any core has, got 167,936, limit 65,536 (cores 5, 6). Try fewer channels, or a smaller map in front of it.",
        "[SNNC-C006] %n3 (n3) on speck2f: stride cannot be configured, got 3, limit 1, 2, 4, 8.",
    ]


def test_more_layers_than_cores() -> None:
    nodes: list[Node] = [Input(name="x", shape=(2, 4, 5), levels=4)]
    for i in range(10):
        nodes += [conv(f"c{i}", nodes[-1].name, 2, 2, padding=(1, 1), seed=i), spiking(f"n{i}", f"c{i}")]
    assert refusals(*nodes) == [
        "[SNNC-C003] network net on speck2f: every neuron layer takes a core of its own, and there are more layers "
        "than cores, got 10 neuron layers, limit 9 cores. Try --target loihi2 --partition auto (a host computes what "
        "the chip lacks), or --target sim."
    ]
    # A layer that makes spikes of real values is the host's.
    analog = Graph(
        "net", Family.FLOAT, (Input(name="x", shape=(2, 4, 5)), *nodes[1:], Output(name="o", inputs=("n9",)))
    )
    assert chip_layers(analog) == 9


def test_fan_out_and_currents_of_several_kernels() -> None:
    nodes: list[Node] = [
        Input(name="x", shape=(2, 4, 5), levels=4),
        conv("c", "x", 2, 2, padding=(1, 1)),
        spiking("n", "c"),
    ]
    for i in range(3):
        nodes += [conv(f"c{i}", "n", 2, 2, padding=(1, 1), seed=i), spiking(f"n{i}", f"c{i}")]
    nodes += [
        Add(name="sum", inputs=("n0", "n1", "n2")),
        conv("ca", "sum", 2, 2, seed=7),
        conv("cb", "n0", 2, 2, seed=8),
    ]
    nodes += [Add(name="currents", inputs=("ca", "cb")), spiking("last", "currents")]
    found = refusals(*nodes)
    assert "[SNNC-C008] %n (n) on speck2f: feeds too many layers, got 3, limit 2." in found
    assert (
        "[SNNC-C012] %last (last) on speck2f: its inputs go through different kernels, and a core has one, got %n0, %n1, %n2, %n0. Try adding spikes before one convolution, not currents behind several."
        in found
    )


def test_a_gate_that_cannot_reach_every_site() -> None:
    found = refusals(
        Input(name="x", shape=(2, 4, 5), levels=4), conv("c", "x", 3, 2, padding=(2, 2)), spiking("n", "c")
    )
    assert found == [
        "[SNNC-C011] %n: one control event an output site cannot reach every site, got kernel (3, 3), padding (2, 2). Try padding of at most half the kernel."
    ]


def test_timesteps_need_a_second_accumulator() -> None:
    nodes = (
        Input(name="x", shape=(2, 4, 5), levels=1),
        conv("c", "x", 3, 2),
        Neuron(name="n", inputs=("c",), decay=1.0),
        Output(name="o", inputs=("n",)),
    )
    graph = Graph("net", Family.FLOAT, nodes, steps=2)
    with pytest.raises(CapacityError) as error:
        SPECK2F.lower(Model(graph), np.ones((2, 2, 2, 4, 5), np.int64), Options())
    assert str(error.value).startswith(
        "[SNNC-C015] network on speck2f: timesteps need a second accumulator while a window fires, got 2 timesteps, limit 1."
    )


def test_a_threshold_that_vanishes() -> None:
    weight = Const(np.full((1, 1000), 50.0, np.float32))
    nodes = (
        Input(name="x", shape=(1000,), levels=4),
        Linear(name="fc", inputs=("x",), weight=weight),
        spiking("n", "fc"),
    )
    graph = Graph("net", Family.FLOAT, (*nodes, Output(name="o", inputs=("n",))))
    with pytest.raises(ModelError) as error:
        SPECK2F.lower(Model(graph), np.full((1, 1, 1000), 4), Options())
    assert (
        str(error.value)
        == "[SNNC-M014] %n (n): threshold rounds below one, got 0.129, limit 1. Try fewer inputs a neuron, or a target with a wider accumulator."
    )


def bound(limit: int) -> Bound:
    return Bound(limit=limit, source="made up for this test", grade="assumed")


def test_placement_names_the_layers_that_compete() -> None:
    cores = {
        i: CoreKind(ids=(i,), resources={"kernel_words": bound(w), "neuron_words": bound(100)})
        for i, w in enumerate((10, 10, 50, 50))
    }
    sizes = {"a": 40, "b": 45, "c": 50, "d": 5}
    needs = {name: {"kernel_words": words, "neuron_words": 1} for name, words in sizes.items()}
    found = place(needs, cores)
    assert not isinstance(found, dict)
    words = "these layers compete for the same cores, the only ones whose memories hold them"
    assert (found.code, found.what, found.got, found.limit) == (
        "SNNC-C004",
        words,
        "3 layers",
        "2 cores (2, 3)",
    )
    named = {f"%{n} ({sizes[n]} kernel words, 1 neuron words)" for n in "abc"}
    assert {
        f"%{text}" for text in found.where[1:].split(", %")
    } == named  # %d fits elsewhere and is not blamed
    del needs["a"]
    fitting = place(needs, cores)
    assert isinstance(fitting, dict)
    assert {fitting["b"], fitting["c"]} == {2, 3}


@pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 2), (2, 4), (1, 5), (5, 2)])
def test_a_linear_layer_over_any_small_map_becomes_a_square_kernel(height: int, width: int) -> None:
    """The core's kernel is square; padding and a stride that leaves one output make it fit."""
    weight = Const(np.random.default_rng(0).normal(size=(4, 3 * height * width)).astype(np.float32))
    nodes = (
        Input(name="x", shape=(3, height, width), levels=4),
        Reshape(name="f", inputs=("x",), shape=(3 * height * width,)),
        Linear(name="fc", inputs=("f",), weight=weight),
        spiking("n", "fc"),
    )
    lowered = lower(*nodes)
    address = lowered.mapped.pieces[0].connections[0].address
    assert address.kernel == (max(height, width), max(height, width))
    assert address.target_shape == (4, 1, 1)
    digest = lowered.mapped.pieces[0].connections[0].weight
    integer = next(n for n in lowered.integer_graph.nodes if isinstance(n, Linear)).weight.array
    assert np.array_equal(address.expand(lowered.tensors[digest]), integer)


def test_unreliable_cores_are_used_last() -> None:
    def chain(layers: int) -> list[int]:
        nodes: list[Node] = [Input(name="x", shape=(2, 4, 5), levels=4)]
        for i in range(layers):
            nodes += [conv(f"c{i}", nodes[-1].name, 2, 2, padding=(1, 1), seed=i), spiking(f"n{i}", f"c{i}")]
        return [t.core for t in lower(*nodes).mapped.tiles]

    assert not {0, 1} & set(chain(7))
    assert len(set(chain(9))) == 9
