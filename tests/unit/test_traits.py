"""Traits of node kinds against what the kinds compute: declared where they hold, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snncc.errors import ModelError
from snncc.ir import (
    Add,
    AddConst,
    And,
    AvgPool2d,
    BatchNorm,
    CentreGate,
    Concat,
    Const,
    Conv2d,
    ConvTranspose2d,
    Family,
    Function,
    Graph,
    Input,
    LayerNorm,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Op,
    Output,
    Pad,
    Permute,
    Resample,
    Reshape,
    Scale,
    SiteGate,
    Slice,
    Sum,
    SumPool2d,
    Upsample,
)
from snncc.ir.interp import evaluate
from snncc.ir.node import Trait
from snncc.ir.nodes import KINDS
from snncc.ir.synapses import Weighted
from snncc.passes.expand_sfa import ExpandSFA

RNG = np.random.default_rng(7)


def real(*shape: int) -> Const:
    return Const(RNG.normal(size=shape).astype(np.float32))


ONE: dict[str, Any] = {"name": "n", "inputs": ("x",)}
WHOLE = Const(np.array([[0, 2, 0, 1], [3, 1, 2, 0]], np.int32))
SITES = Const(np.array([[1, 0, 1, 1, 0, 1]] * 4, np.uint8))
TWO: dict[str, Any] = {"name": "n", "inputs": ("x", "y")}
# One node of every kind that has no state, for maps [C, H, W] = [3, 4, 6].
NODES: tuple[Node, ...] = (
    Linear(**ONE, weight=real(5, 6)),
    Conv2d(**ONE, weight=real(4, 3, 3, 2), stride=(2, 1), padding=(1, 0)),
    ConvTranspose2d(**ONE, weight=real(3, 4, 2, 3), stride=(1, 2)),
    MatMul(**TWO),
    BatchNorm(**ONE, gamma=real(3), beta=real(3), mean=real(3), var=Const(np.ones(3, np.float32)), eps=0.1),
    Scale(**ONE, factor=-0.5),
    Add(**TWO),
    AddConst(**ONE, value=0.75),
    Mul(**TWO),
    And(**TWO),
    Function(**ONE, op=Op.TANH),
    LayerNorm(**ONE, gamma=real(6), beta=real(6), eps=0.1),
    AvgPool2d(**ONE, kernel=(2, 3), stride=(2, 3)),
    SumPool2d(**ONE, kernel=(3, 2), stride=(1, 2), padding=(1, 0)),
    MaxPool2d(**ONE, kernel=(2, 3), stride=(1, 2)),
    Mean(**ONE, axes=(1, 2)),
    Sum(**ONE, axes=(0,)),
    Upsample(**ONE, factor=(2, 1)),
    Resample(**ONE, rows=WHOLE, columns=Const(np.eye(6, dtype=np.int32)), divisor=3),
    Reshape(**ONE, shape=(12, 6)),
    Permute(**ONE, axes=(2, 0, 1)),
    Pad(**ONE, before=(0, 1, 0), after=(0, 0, 2), value=0.5),
    Concat(**TWO, axis=1),
    Slice(**ONE, axis=2, start=1, stop=6, step=2),
    SiteGate(**ONE, sites=SITES),
    CentreGate(**TWO, sites=SITES),
)
STATEFUL = {"input", "neuron", "integer_neuron", "encode", "window_neuron", "hold", "delay", "host", "output"}
BY_KIND = {n.kind: n for n in NODES}


def inputs(node: Node, binary: bool) -> list[Any]:
    """One array a value that the node reads; the right operand of a product is [C, W, K]."""
    found = []
    for i in range(len(node.inputs)):
        shape = (2, 3, 6, 5) if isinstance(node, MatMul) and i == 1 else (2, 3, 4, 6)
        opens = isinstance(node, CentreGate) and i == 1  # spikes, of which some sites have none
        draw = RNG.integers(0, 2, shape) if binary or opens else RNG.normal(size=shape)
        found.append(draw.astype(np.float32))
    return found


def is_linear(node: Node) -> bool:
    a, b = inputs(node, False), inputs(node, False)
    together = evaluate(node, [x + y for x, y in zip(a, b, strict=True)])
    return bool(np.allclose(together, evaluate(node, a) + evaluate(node, b), atol=1e-4))


def is_monotone(node: Node) -> bool:
    for _ in range(20):
        a = inputs(node, isinstance(node, And))
        up = [np.maximum(x, y) for x, y in zip(a, inputs(node, isinstance(node, And)), strict=True)]
        if (evaluate(node, up) < evaluate(node, a) - 1e-6).any():
            return False
    return True


def is_view(node: Node) -> bool:
    if len(node.inputs) != 1:
        return False
    (x,) = inputs(node, False)
    return bool(np.array_equal(np.sort(evaluate(node, [x]).ravel()), np.sort(x.ravel())))


def test_every_kind_stands_here() -> None:
    assert set(BY_KIND) | STATEFUL == set(KINDS)
    assert not any(KINDS[kind].traits for kind in STATEFUL)


@pytest.mark.parametrize("kind", BY_KIND)
def test_linear_kinds_are_linear_and_no_other_says_so(kind: str) -> None:
    assert BY_KIND[kind].has(Trait.LINEAR) == is_linear(BY_KIND[kind])


# Monotone for values that are not negative, which real values can be: not declared.
ALMOST = {"and", "mul", "matmul", "function"}


@pytest.mark.parametrize("kind", sorted(set(BY_KIND) - ALMOST))
def test_monotone_kinds_are_monotone_and_no_other_says_so(kind: str) -> None:
    assert BY_KIND[kind].has(Trait.MONOTONE) == is_monotone(BY_KIND[kind])


@pytest.mark.parametrize("kind", BY_KIND)
def test_views_keep_every_element_and_no_other_says_so(kind: str) -> None:
    assert BY_KIND[kind].has(Trait.VIEW) == is_view(BY_KIND[kind])


@pytest.mark.parametrize("kind", BY_KIND)
def test_weighted_kinds_hold_a_weight(kind: str) -> None:
    assert BY_KIND[kind].has(Trait.WEIGHTED) == hasattr(BY_KIND[kind], "weight")
    assert not isinstance(BY_KIND[kind], Weighted) or BY_KIND[kind].has(Trait.WEIGHTED)


def test_what_needs_whole_counts_has_no_spike_form() -> None:
    nodes = (
        Input(name="x", shape=(3, 4, 6), levels=2),
        MaxPool2d(name="max", inputs=("x",), source="net.pool", kernel=(2, 2), stride=(2, 2)),
        Output(name="o", inputs=("max",)),
    )
    with pytest.raises(ModelError) as caught:
        ExpandSFA().run(Graph("g", Family.INTEGER, nodes))
    assert str(caught.value) == (
        "[SNNC-M012] %max (net.pool): a maximum of counts that no neuron integrates has no spike form. "
        "Try a neuron behind it."
    )
