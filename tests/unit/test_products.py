"""Products of spikes: layers, what is held, ranges, addresses."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from cells import integer_neuron
from snncc.analysis.ranges import extremes, type_extremes
from snncc.ir import Add, Const, Family, Graph, Hold, Input, Linear, MatMul, Mul, Node, Output, Permute, parse
from snncc.ir.nodes import Delay, Encode, WindowNeuron
from snncc.ir.text import to_text
from snncc.ir.windows import Windows
from snncc.mapping.product import ProductAddress, Strided


def integers(*nodes: Node, shape: tuple[int, ...], levels: int = 2) -> Graph:
    out = Output(name="o", inputs=(nodes[-1].name,))
    return Graph("g", Family.INTEGER, (Input(name="x", shape=shape, levels=levels), *nodes, out))


def test_a_layers_path_ends_at_products() -> None:
    graph = integers(
        integer_neuron("a", "x", max_spikes=2),
        MatMul(name="ab", inputs=("a", "x"), integer=True),
        Permute(name="turned", inputs=("ab",), axes=(1, 0)),
        Linear(name="w", inputs=("a",), weight=Const(np.eye(3, dtype=np.int8))),
        Mul(name="m", inputs=("x", "a")),
        Add(name="sum", inputs=("turned", "w", "m")),
        integer_neuron("n", "sum"),
        shape=(3, 3),
    )
    layer = graph.layers["n"]
    assert [n.name for n in layer.path] == ["ab", "turned", "w", "m", "sum"]
    assert [n.name for n in layer.weighted] == ["w"]
    assert [n.name for n in layer.products] == ["ab", "m"]
    assert [n.name for n in layer.ends] == ["ab", "w", "m"]
    assert layer.sources == ("a", "x", "a", "x", "a")


def test_contributions_of_signed_operands_are_split_by_sign() -> None:
    relay = integer_neuron("r", "x", max_spikes=3, signed=True)
    product = MatMul(name="p", inputs=("r", "x"), integer=True)
    graph = integers(relay, product, integer_neuron("n", "p"), shape=(2, 2))
    r, x = np.array([[[2, -3], [0, 1]]]), np.array([[[1, 0], [2, 2]]])
    found = extremes(graph, graph.layers["n"].neuron, {"r": r, "x": x})
    np.testing.assert_array_equal(found.high, [[[2, 0], [2, 2]]])
    np.testing.assert_array_equal(found.low, [[[-6, -6], [0, 0]]])
    np.testing.assert_array_equal(found.low + found.high, r @ x)
    most = type_extremes(graph, graph.layers["n"].neuron)
    assert (most.low.min(), most.high.max()) == (-12, 12)


def spikes(hold: bool, graded: bool) -> Graph:
    """a·b of two inputs' windows, where a is read two windows late, hence b as well."""
    held = "late" if not hold else "a"
    nodes: list[Node] = [
        Encode(name="e", inputs=("x",), graded=graded),
        Delay(name="late", inputs=("e",), steps=3, shape=(2, 2), levels=2 if graded else 1),
        *([Hold(name="a", inputs=("late",))] if hold else []),
        MatMul(name="p", inputs=(held, "late"), integer=True),
    ]
    cell = integer_neuron("n", "p", threshold=1, max_spikes=9).cell
    nodes.append(WindowNeuron(name="n", inputs=("p",), cell=cell, phase=6, graded=True))
    out = Output(name="o", inputs=("n",))
    return Graph("g", Family.SPIKE, (Input(name="x", shape=(2, 2), levels=2), *nodes, out), 2, 3)


def test_what_is_held_is_the_first_micro_step_of_every_window() -> None:
    graph = spikes(hold=True, graded=True)
    assert parse(to_text(graph), graph.constants()) == graph
    x = np.array([[[[1, 2], [0, 2]], [[2, 0], [1, 1]]]])
    machine = Windows(graph, {"x": x})
    seen = [machine.step()["a"] for _ in range(machine.micro_steps)]
    for k in range(3):
        assert not seen[k].any()
        np.testing.assert_array_equal(seen[3 + k], x[:, 0])
        np.testing.assert_array_equal(seen[6 + k], x[:, 1])
    np.testing.assert_array_equal(machine.counts["n"], x @ x)


@pytest.mark.parametrize("hold", [False, True])
def test_trains_of_several_spikes_are_no_operand_to_hold(hold: bool) -> None:
    x = np.array([[[[2, 2], [2, 2]]] * 2])
    machine = Windows(spikes(hold, graded=False), {"x": x})
    for _ in range(machine.micro_steps):
        machine.step()
    assert (machine.counts["n"] != x @ x).all()


def address(**changes: object) -> ProductAddress:
    """[2, 3] @ [3, 4]: the first is held."""
    fields: dict[str, object] = {
        "sizes": (2, 3, 4),
        "held": Strided(strides=(3, 1, 0)),
        "stream": Strided(strides=(0, 4, 1)),
        "target": Strided(strides=(4, 0, 1)),
        "held_shape": (2, 3, 1),
        "stream_shape": (3, 4, 1),
        "target_shape": (8, 1, 1),
    }
    return ProductAddress.model_validate(fields | changes)


def test_an_address_pairs_what_a_matrix_product_does() -> None:
    a = address()
    held, stream = np.arange(6) + 1, np.arange(12) - 5
    total = np.zeros(8, np.int64)
    at = [s.indices(a.sizes).ravel() for s in (a.target, a.held, a.stream)]
    np.add.at(total, at[0], held[at[1]] * stream[at[2]])
    np.testing.assert_array_equal(total.reshape(2, 4), held.reshape(2, 3) @ stream.reshape(3, 4))
    assert (a.fan_out, a.largest_sum) == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ()}, "loops must have turns"),
        ({"sizes": (2, 0, 4)}, "loops must have turns"),
        ({"held": Strided(strides=(3, 1))}, "held: one stride a loop, none of them negative"),
        (
            {"stream": Strided(offset=-1, strides=(0, 4, 1))},
            "stream: one stride a loop, none of them negative",
        ),
        ({"held": Strided(offset=1, strides=(3, 1, 0))}, "held: indices leave the map"),
        ({"target": Strided(strides=(4, 1, 1))}, "target: indices leave the map"),
        ({"stream_shape": (3, 3, 1)}, "stream: indices leave the map"),
    ],
)
def test_an_address_stays_within_its_maps(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        address(**change)
