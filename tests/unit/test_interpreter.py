"""The reference interpreter against PyTorch, and the canonical neuron against its equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import integer_neuron
from snncc.errors import SnnccError
from snncc.ir import (
    AvgPool2d,
    BatchNorm,
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
    Reset,
    Rounding,
    SynapseOrder,
)
from snncc.ir.interp import evaluate, run

F = torch.nn.functional


def graph(
    *nodes: Node,
    shape: tuple[int, ...] = (1,),
    steps: int = 1,
    levels: int = 0,
    family: Family = Family.FLOAT,
    **output: Any,
) -> Graph:
    return Graph(
        "g",
        family,
        (
            Input(name="x", shape=shape, levels=levels),
            *nodes,
            Output(name="o", inputs=(nodes[-1].name,), **output),
        ),
        steps,
    )


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 2**16),
)
def test_integer_convolution_is_torchs_bit_for_bit(
    kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.integers(-127, 128, (8, 4 // groups, *kernel))
    b = rng.integers(-(2**20), 2**20, 8)
    x = rng.integers(0, 16, (3, 4, 9, 7))
    node = Conv2d(
        name="c",
        inputs=("x",),
        weight=Const(w.astype(np.int8)),
        bias=Const(b.astype(np.int32)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    want = F.conv2d(
        torch.from_numpy(x).double(),
        torch.from_numpy(w).double(),
        torch.from_numpy(b).double(),
        stride,
        padding,
        dilation,
        groups,
    )
    got = evaluate(node, [x])
    assert got.dtype == np.int64
    assert np.array_equal(got, want.long().numpy())


@pytest.mark.parametrize("largest", [2**8, 2**26, 2**56])
def test_integer_products_are_exact_at_every_size(largest: int) -> None:
    """Sums past 2^24 and 2^53 leave float32 and float64; one unit must still be seen."""
    node = Linear(name="l", inputs=("x",), weight=Const(np.array([[1, 1, -1]], np.int8)))
    x = np.array([[largest, 1, largest]])
    assert evaluate(node, [x]).tolist() == [[1]]


def test_float_nodes_are_torchs() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    t = torch.from_numpy(x)
    bn = {k: Const(rng.uniform(0.5, 2, 3).astype(np.float32)) for k in ("gamma", "beta", "mean", "var")}
    want = F.batch_norm(
        t, *(torch.from_numpy(bn[k].array.copy()) for k in ("mean", "var", "gamma", "beta")), eps=1e-3
    )
    got = evaluate(BatchNorm(name="b", inputs=("x",), eps=1e-3, **bn), [x])
    assert np.allclose(got, want.numpy(), atol=1e-6)
    pool = evaluate(AvgPool2d(name="p", inputs=("x",), kernel=(3, 2), stride=(2, 1), padding=(1, 1)), [x])
    assert np.allclose(pool, F.avg_pool2d(t, (3, 2), (2, 1), (1, 1)).numpy(), atol=1e-6)
    assert np.array_equal(
        evaluate(Permute(name="q", inputs=("x",), axes=(2, 0, 1)), [x]), t.permute(0, 3, 1, 2).numpy()
    )


def trace(neuron: Neuron, drive: list[float]) -> list[float]:
    x = np.array(drive, np.float32).reshape(1, -1, 1)
    return [float(v) for v in run(graph(neuron, steps=len(drive)), x).values["n"][0, :, 0]]


def integer_trace(drive: list[int], weight: int = 1, **numbers: Any) -> list[int]:
    layer = Linear(name="w", inputs=("x",), weight=Const(np.array([[weight]], np.int8)))
    neuron = integer_neuron("n", "w", **numbers)
    g = graph(layer, neuron, steps=len(drive), levels=100, family=Family.INTEGER)
    return [int(v) for v in run(g, np.array(drive).reshape(1, -1, 1)).values["n"][0, :, 0]]


def neuron(**fields: Any) -> Neuron:
    return Neuron(name="n", inputs=(fields.pop("source", "x"),), **fields)


DRIVE = [2.5, 0.0, 0.0, 1.2, 0.0]  # leak 0.9, threshold 1, soft reset


@pytest.mark.parametrize(
    ("fields", "spikes"),
    [
        ({"decay": 0.9}, [1, 1, 0, 1, 0]),  # spikingjelly
        ({"decay": 0.9, "max_spikes": 100}, [2, 0, 0, 1, 0]),  # sinabs: several spikes a step
        (
            {"decay": 0.9, "strict": True, "reset_by": 1 / 0.9},
            [1, 1, 0, 1, 0],
        ),  # snntorch default = reset by θ/β
        ({"decay": 0.9, "reset": Reset.VALUE}, [1, 0, 0, 1, 0]),
        ({"decay": 1.0, "reset": Reset.NONE}, [1, 1, 1, 1, 1]),
        ({"decay": 0, "max_spikes": 4, "rounding": Rounding.HALF_EVEN}, [2, 0, 0, 1, 0]),
        ({"decay": 0, "max_spikes": 4, "rounding": Rounding.HALF_UP}, [3, 0, 0, 1, 0]),
        ({"decay": 0, "max_spikes": 0}, DRIVE),
    ],
)
def test_the_shared_drive_gives_each_librarys_spikes(fields: dict[str, Any], spikes: list[float]) -> None:
    assert trace(neuron(**fields), DRIVE) == pytest.approx(spikes)


@pytest.mark.parametrize(("strict", "spikes"), [(False, [1, 1]), (True, [0, 1])])
def test_strictness_decides_on_the_threshold(strict: bool, spikes: list[float]) -> None:
    assert trace(neuron(decay=1.0, strict=strict, threshold=0.5), [0.5, 0.5]) == spikes


@pytest.mark.parametrize(
    ("order", "currents"),
    [
        (SynapseOrder.ADD_READ_DECAY, [1.0, 0.5, 1.25]),
        (SynapseOrder.DECAY_ADD_READ, [1.0, 0.5, 1.25]),
        (SynapseOrder.ADD_DECAY_READ, [0.5, 0.25, 0.625]),
    ],
)
def test_synapse_orders(order: SynapseOrder, currents: list[float]) -> None:
    assert trace(neuron(max_spikes=0, synapse_decay=0.5, synapse_order=order), [1.0, 0.0, 1.0]) == currents


def test_a_reset_in_the_next_step_acts_on_the_charged_membrane() -> None:
    # u: 1.5 | 1.5 + 0.2 - 1 = 0.7 | 0.7 + 0.4 = 1.1 | 1.1 - 1 = 0.1
    assert trace(neuron(decay=1.0, reset_next=True), [1.5, 0.2, 0.4, 0.0]) == [1, 0, 1, 0]
    # to value: the new input is lost with the old membrane (Lapicque 'zero').
    assert trace(neuron(decay=1.0, reset_next=True, reset=Reset.VALUE), [1.5, 5.0, 0.4, 0.7]) == [1, 0, 0, 1]


def test_clamp_bias_gain_and_start() -> None:
    fields = {"decay": 1.0, "v_min": -0.5, "bias": 0.25, "gain": 0.5, "v_init": 0.25}
    # u: .25+.25-2 = -1.5 -> clamp -.5 | -.5+.25+1.25 = 1.0 fires
    assert trace(neuron(**fields), [-4.0, 2.5]) == [0, 1]


@pytest.mark.parametrize(
    ("precharge", "counts"),
    [(3, [0, 1, 1, 2, 4]), (0, [0, 0, 0, 1, 4]), (-1, [0, 0, 0, 1, 4]), (-3, [0, 0, 0, 1, 4])],
)
def test_integer_rounding_on_ties(precharge: int, counts: list[int]) -> None:
    assert integer_trace([2, 3, 4, 9, 99], threshold=6, max_spikes=4, precharge=precharge) == counts
    assert integer_trace([6, 12], threshold=6, max_spikes=4, precharge=precharge) == (
        [1, 2] if precharge >= 0 else [0, 1]
    )


@pytest.mark.parametrize("theta", [5, 6])
@given(u=st.integers(-40, 60))
def test_half_up_is_a_precharge_of_half_the_threshold(theta: int, u: int) -> None:
    """n = ⌊u/θ + ½⌋ = ⌊(u + ⌊θ/2⌋)/θ⌋ for odd θ too."""
    assert (2 * u + theta) // (2 * theta) == (u + theta // 2) // theta


def test_integer_leak_rounds_toward_zero() -> None:
    leaky = {"max_spikes": 0, "decay": 3, "decay_bits": 2}
    assert integer_trace([5, 0, 0, 0], **leaky) == [5, 3, 2, 1]
    assert integer_trace([5, 0, 0], weight=-1, **leaky) == [-5, -3, -2]


def test_delay_holds_spikes_back_and_may_name_a_later_value() -> None:
    one = neuron(max_spikes=1)
    late = Delay(name="d", inputs=("n",), steps=2, shape=(1,), levels=1)
    g = graph(one, late, steps=4)
    assert run(g, np.array([1, 0, 1, 1], np.float32).reshape(1, 4, 1), ("d",)).values[
        "d"
    ].ravel().tolist() == [0, 0, 1, 0]
    loop = graph(
        Delay(name="d", inputs=("n",), steps=1, shape=(1,), levels=1),
        Linear(name="w", inputs=("d",), weight=Const(np.ones((1, 1), np.float32))),
        neuron(source="w", threshold=1.0, bias=0.0),
        steps=2,
    )
    assert loop.types["d"].shape == (1,)


@pytest.mark.parametrize(("over", "result"), [(OverTime.SUM, 2.0), (OverTime.MEAN, 2 / 3)])
def test_results_over_time(over: OverTime, result: float) -> None:
    g = graph(neuron(max_spikes=1), steps=3, over_time=over, scale=1.0)
    assert run(g, np.array([1, 0, 1], np.float32).reshape(1, 3, 1)).result.ravel() == pytest.approx(result)


def test_ill_formed_graphs_report_every_broken_rule() -> None:
    w = Const(np.ones((3, 4), np.float32))
    with pytest.raises(SnnccError) as error:
        Graph(
            "bad",
            Family.INTEGER,
            (
                Input(name="x", shape=(3,)),
                Input(name="x", shape=(3,)),
                BatchNorm(name="b", inputs=("y",), gamma=w, beta=w, mean=w, var=w, eps=0.0),
            ),
            steps=0,
        )
    assert [str(p) for p in error.value.problems] == [
        "bad: steps must be at least 1, got 0.",
        "bad: a graph has exactly one input node.",
        "bad: a graph has exactly one output node, and it stands last.",
        "%x: two nodes bear this name.",
        "%b: an integer graph has no such node, got batchnorm.",
        "%b: reads a value that is not defined before it, got %y.",
    ]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Linear(name="l", inputs=("x",), weight=Const(np.ones((3, 5), np.float32))), "[SNNC-M010] %l: linear: input features do not fit the weight, got (2, 6, 4), limit 5."),
        (Conv2d(name="c", inputs=("x",), weight=Const(np.ones((3, 3, 3, 3), np.float32))), "[SNNC-M010] %c: conv2d: input channels do not fit the weight, got 2, limit 3."),
        (Conv2d(name="c", inputs=("x",), source="net.0", weight=Const(np.ones((3, 2, 7, 3), np.float32))), "[SNNC-M010] %c (net.0): conv2d: kernel is larger than the padded input, got (7, 3), limit (6, 4)."),
        (Neuron(name="n", inputs=("x",), threshold=0.0), "[SNNC-M010] %n: neuron: threshold must be positive, got 0.0."),
        (Permute(name="p", inputs=("x",), axes=(0, 0, 1)), "[SNNC-M010] %p: permute: axes are no permutation, got (0, 0, 1)."),
    ],
)  # fmt: skip
def test_types_are_checked(node: Node, message: str) -> None:
    with pytest.raises(SnnccError) as error:
        graph(node, shape=(2, 6, 4))
    assert str(error.value) == message
