"""The closed set of node kinds and the type each computes from its inputs.

A node is a frozen value; shapes leave out batch and time. What a node *computes* stands in
:mod:`snncc.ir.evaluation` and :mod:`snncc.ir.interp`; nothing is added here without semantics
there. The kinds stand in files by theme; this one only lists them.
"""

from __future__ import annotations

from snncc.ir.elementwise import Add, AddConst, And, BatchNorm, Function, LayerNorm, Mul, Op, Scale
from snncc.ir.graph import HostRegion
from snncc.ir.neurons import Delay, Encode, Hold, IntegerNeuron, Neuron, WindowNeuron
from snncc.ir.node import (
    Decode,
    Node,
    OverTime,
    Pair,
    Reset,
    Rounding,
    SynapseOrder,
    ill_formed,
)
from snncc.ir.pools import AvgPool2d, MaxPool2d, Mean, Resample, Sum, SumPool2d, Upsample
from snncc.ir.ports import Input, Output
from snncc.ir.schedule import Release
from snncc.ir.sites import CentreGate, SiteGate
from snncc.ir.synapses import Conv2d, ConvTranspose2d, Linear, MatMul, window_count
from snncc.ir.views import Concat, Pad, Permute, Reshape, Slice

__all__ = [
    "KINDS", "Add", "AddConst", "And", "AvgPool2d", "BatchNorm", "CentreGate", "Concat", "Conv2d",
    "ConvTranspose2d", "Decode", "Delay", "Encode", "Function", "Hold", "HostRegion", "Input",
    "IntegerNeuron", "LayerNorm", "Linear", "MatMul", "MaxPool2d", "Mean", "Mul", "Neuron", "Node", "Op",
    "Output", "OverTime", "Pad", "Pair", "Permute", "Release", "Resample", "Reset", "Reshape", "Rounding",
    "Scale", "SiteGate", "Slice", "Sum", "SumPool2d", "SynapseOrder", "Upsample", "WindowNeuron",
    "ill_formed", "window_count",
]  # fmt: skip


KINDS: dict[str, type[Node]] = {
    cls.kind: cls
    for cls in (
        Input, Linear, Conv2d, ConvTranspose2d, MatMul, BatchNorm, Scale, Add, AddConst, Mul, And, Function,
        LayerNorm, AvgPool2d, SumPool2d, MaxPool2d, Mean, Sum, Upsample, Resample, Reshape, Permute, Pad,
        Concat, Slice, SiteGate, CentreGate, Neuron, IntegerNeuron, Encode, WindowNeuron, Hold, Delay,
        HostRegion, Output,
    )
}  # fmt: skip
