"""The intermediate representation: types, nodes, graphs, text form, reference semantics."""

from snncc.ir.cell import Cell
from snncc.ir.const import Const, Integer, Number
from snncc.ir.graph import Graph
from snncc.ir.nodes import (
    Add,
    AddConst,
    And,
    AvgPool2d,
    BatchNorm,
    CentreGate,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Decode,
    Delay,
    Encode,
    Function,
    Hold,
    HostRegion,
    Input,
    IntegerNeuron,
    LayerNorm,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Neuron,
    Node,
    Op,
    Output,
    OverTime,
    Pad,
    Permute,
    Release,
    Resample,
    Reset,
    Reshape,
    Rounding,
    Scale,
    SiteGate,
    Slice,
    Sum,
    SumPool2d,
    SynapseOrder,
    Upsample,
    WindowNeuron,
)
from snncc.ir.text import parse, to_text
from snncc.ir.types import Current, Family, Spikes, ValueType

__all__ = [
    "Add", "AddConst", "And", "AvgPool2d", "BatchNorm", "Cell", "CentreGate", "Concat", "Const", "Conv2d",
    "ConvTranspose2d", "Current", "Decode", "Delay", "Encode", "Family", "Function", "Graph", "Hold",
    "HostRegion", "Input", "Integer", "IntegerNeuron", "LayerNorm", "Linear", "MatMul", "MaxPool2d", "Mean",
    "Mul", "Neuron", "Node", "Number", "Op", "Output", "OverTime", "Pad", "Permute", "Release",
    "Resample", "Reset", "Reshape", "Rounding", "Scale", "SiteGate", "Slice", "Spikes", "Sum", "SumPool2d",
    "SynapseOrder", "Upsample", "ValueType", "WindowNeuron", "parse", "to_text",
]  # fmt: skip
