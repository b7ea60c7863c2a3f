"""Operations of the trained network against spikingjelly's own counters, on the papers' networks of binary spikes.

Synaptic operations of what is declared binary, and multiply-accumulates of everything else. spikingjelly
goes by values, call by call: what is not binary is a dense multiplication, counts too (``--integers macs``);
classifiers behind a mean over time, and stems on a repeated image, run as often as PyTorch runs them.
"""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter

import snncc_torch
from snncc.analysis.operations import Operand
from snncc.data import Dataset
from snncc.metrics.conventions import Conventions, Integers, Repeat, work
from snncc.metrics.figures import Part
from snncc.metrics.measure import measure
from snncc_torch import zoo

BINARY = (
    "spikformer-cifar", "spikformer", "spikformer-cml", "spikingformer-cifar", "spikingformer", "spikingformer-cml",
    "spike-driven-transformer", "sew-resnet-basic-and", "sew-resnet-basic-iand", "ms-resnet-basic",
)  # fmt: skip
# Where PyTorch classifies every timestep, and where it runs the stem once, on the image alone.
HEAD_AT_EVERY_TIMESTEP = {"spike-driven-transformer"}
STEM_ONCE = {"sew-resnet-basic-and", "sew-resnet-basic-iand"}


@pytest.mark.parametrize("name", BINARY)
def test_synaptic_operations_of_binary_spikes(name: str) -> None:
    module, example = zoo.reduced(name)
    model = snncc_torch.capture(module, example, timesteps=getattr(module, "T", None))
    graph = model.graph
    image = torch.rand(example.shape, generator=torch.Generator().manual_seed(3))
    if image.dim() == 5:  # [T, 1, C, H, W]: the same image at every timestep
        image = image[:1].expand_as(image)
    synops, macs = SynOpCounter(), MACCounter()
    with torch.no_grad(), DispatchCounterMode([synops, macs]):
        module(image)
    x = image.reshape(-1, *graph.input.shape)[:1].expand(graph.steps, *graph.input.shape)
    figures = measure(graph, Dataset(x[None].numpy()))
    heads = name in HEAD_AT_EVERY_TIMESTEP
    binary = [n for n in figures.layers if n.operand is Operand.BINARY and (heads or n.part is not Part.HEAD)]
    assert sum(layer.events for layer in binary) == synops.get_total()
    real = [n for n in figures.layers if n not in binary]
    # What is not binary is a dense multiplication to spikingjelly, counts included.
    stem = Repeat.ONCE if name in STEM_ONCE else Repeat.STEPS
    conventions = Conventions(stem=stem, head=Repeat.ONCE, integers=Integers.MACS)
    counted = {str(op): n for op, n in macs.get_counts()["Global"].items() if "batch_norm" not in str(op)}
    assert sum(work(figures, n, conventions).macs for n in real) == sum(counted.values()), counted
