"""How large the partial sums of a node's result are: what float rounding is measured against.

Two float programs may differ by 1e-5·(Σ|w·x| + |b|) (docs/semantics.md#float-rule). With every value goes a
magnitude M of the same shape: the sum of the absolute products that it is made of, through every
node since the last spikes. An error of ε·M in each input leaves at most ε·M in the result, to
first order in ε.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.ir.const import Const, Number
from snncc.ir.evaluation import evaluate
from snncc.ir.nodes import (
    AddConst,
    And,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Function,
    LayerNorm,
    Linear,
    MatMul,
    Mul,
    Node,
    Op,
    Pad,
    Scale,
)

# Largest slope of each function; softmax: |Δy| ≤ ½·max|Δx| on every element.
_SLOPE = {Op.RELU: 1.0, Op.SIGMOID: 0.25, Op.TANH: 1.0, Op.SILU: 1.1, Op.GELU: 1.13, Op.SOFTMAX: 0.5}


def magnitude(node: Node, values: list[Array], sizes: list[Array], result: Array) -> Array:
    """Magnitude [N, *shape] of a node's result.

    Args:
        node: without state.
        values: of its inputs.
        sizes: magnitudes of its inputs, each at least as large as the value.
        result: what the node makes of ``values``.
    """
    match node:
        case MatMul() | Mul():
            (a, b), (size_a, size_b) = map(np.abs, values), sizes
            return evaluate(node, [size_a, b]) + evaluate(node, [a, size_b])
        case And():
            return np.maximum(np.ones_like(result), np.abs(result))
        case Function(op=Op.SOFTMAX):
            axis = node.axis if node.axis < 0 else node.axis + 1
            return np.asarray(np.abs(result) + _SLOPE[node.op] * sizes[0].max(axis=axis, keepdims=True))
        case Function():
            return np.asarray(np.abs(result) + np.float32(_SLOPE[node.op]) * sizes[0])
        case LayerNorm():
            return _normalised(node, values[0], sizes[0])
        case _:
            return evaluate(absolute(node), sizes)


def _normalised(node: LayerNorm, x: Array, size: Array) -> Array:
    """Centring and the spread both move with the inputs: |Δy| ≤ (|Δx| + mean|Δx|)·(1 + √n)/σ."""
    axes = tuple(range(x.ndim - len(node.gamma.shape), x.ndim))
    spread = np.sqrt(x.var(axis=axes, keepdims=True) + np.float32(node.eps))
    root = np.float32(1 + np.sqrt(node.gamma.array.size))
    moved = (size + size.mean(axis=axes, keepdims=True)) * (root / spread)
    return np.asarray(moved * np.abs(node.gamma.array) + np.abs(node.beta.array))


def absolute(node: Node) -> Node:
    """The same node with every parameter made positive: it maps magnitudes to the magnitude."""

    def size(value: Number) -> Any:
        return Const(np.abs(value.array), copy=False) if isinstance(value, Const) else abs(value)

    match node:
        case Linear() | Conv2d() | ConvTranspose2d():
            bias = None if node.bias is None else size(node.bias)
            return replace(node, weight=size(node.weight), bias=bias)
        case BatchNorm():
            mean = Const(-np.abs(node.mean.array))
            return replace(node, gamma=size(node.gamma), beta=size(node.beta), mean=mean)
        case Scale():
            return replace(node, factor=size(node.factor))
        case AddConst() | Pad():
            return replace(node, value=size(node.value))
        case _:
            return node
