"""The intermediate representation: types, nodes, graphs, text form, reference semantics."""

from snncc.ir.const import Const, Number
from snncc.ir.graph import Graph
from snncc.ir.nodes import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Decode,
    Delay,
    Encode,
    HostRegion,
    Input,
    Linear,
    Mean,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Release,
    Reset,
    Reshape,
    Rounding,
    Scale,
    SumPool2d,
    SynapseOrder,
    WindowNeuron,
)
from snncc.ir.text import parse, to_text
from snncc.ir.types import Current, Family, Spikes, ValueType

__all__ = [
    "Add", "AvgPool2d", "BatchNorm", "Const", "Conv2d", "Current", "Decode", "Delay", "Encode", "Family",
    "Graph", "HostRegion", "Input", "Linear", "Mean", "Neuron", "Node", "Number", "Output", "OverTime",
    "Permute", "Release", "Reset", "Reshape", "Rounding", "Scale", "Spikes", "SumPool2d", "SynapseOrder",
    "ValueType", "WindowNeuron", "parse", "to_text",
]  # fmt: skip
