"""Multiply-accumulates of a captured graph are those PyTorch counts, module by module."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.utils.flop_counter import FlopCounterMode

from captured_zoo import captured
from snncc.analysis.operations import node_costs
from snncc.ir import MatMul
from snncc.model import Model
from snncc_torch import capture
from snncc_torch.nn import SFA, MaskedConv2d
from snncc_torch.zoo import REDUCED


def flops(module: nn.Module, example: Tensor) -> dict[str, int]:
    """What the flop counter counts in every module itself, without its submodules; zeros left out."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    whole = {path: sum(counts.values()) for path, counts in counter.get_flop_counts().items()}
    own = Counter(whole)
    for path, count in whole.items():
        parent = path.rpartition(".")[0]
        while parent and parent not in whole:  # a list, which nobody calls
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= count
    del own["Global"]
    assert sum(own.values()) == counter.get_total_flops()
    name = type(module).__name__
    return {path.removeprefix(name).removeprefix("."): n for path, n in own.items() if n}


def macs(model: Model) -> dict[str, int]:
    """What the graph counts for the nodes of every module; zeros left out."""
    found: Counter[str] = Counter()
    for cost in node_costs(model.graph):
        found[cost.source] += cost.operations
    return {path: n for path, n in found.items() if n}


def input_shapes(name: str, steps: int) -> dict[str, list[tuple[int, ...]]]:
    """Shapes that every module is given in a pass over ``steps`` timesteps."""
    small = REDUCED[name]
    module = replace(small, options={**small.options, "T": steps}).build().eval()
    shape = (steps, *small.shape[1:]) if len(small.shape) == 5 else small.shape
    seen: dict[str, list[tuple[int, ...]]] = {}
    for path, part in module.named_modules():
        part.register_forward_pre_hook(
            lambda _m, args, path=path: seen.setdefault(path, []).append(tuple(args[0].shape))
        )
    with torch.no_grad():
        module(torch.zeros(shape))
    return seen


def run_once(name: str, steps: int) -> set[str]:
    """Modules whose input does not grow with the number of timesteps."""
    if "T" not in REDUCED[name].options:  # one timestep
        return set()
    few, more = input_shapes(name, steps), input_shapes(name, steps + 1)
    assert few.keys() == more.keys()
    return {path for path in few if few[path] == more[path]}


def layers_run_once(name: str) -> set[str]:
    """Weighted layers that see no time axis, as the architectures are published."""
    if name.startswith("sew-"):
        return {"fc"} if name.endswith("events") else {"stem.0", "fc"}
    if name.startswith("ms-"):
        return {"fc"}
    return {"head.fc"} if name.startswith(("spikformer", "spikingformer")) else set()


@pytest.mark.parametrize("name", REDUCED)
def test_every_layer_counts_what_pytorch_counts(name: str) -> None:
    """Once, or T times where PyTorch runs the layer once for all timesteps."""
    module, example, model = captured(name)
    theirs, steps = flops(module, example), model.graph.steps
    assert all(n % 2 == 0 for n in theirs.values())
    once = run_once(name, steps)
    assert once & theirs.keys() == layers_run_once(name)
    mine = {path: n // 2 * (steps if path in once else 1) for path, n in theirs.items()}
    for path, part in module.named_modules():
        if isinstance(part, MaskedConv2d):  # PyTorch computes what the gate behind it throws away
            mine[path] = mine[path] // part.kept.numel() * int(part.kept.sum())
    assert macs(model) == mine


@pytest.mark.parametrize("name", [n for n in REDUCED if "former" in n and "driven" not in n])
def test_products_of_attention_belong_to_the_attention(name: str) -> None:
    module, example, model = captured(name)
    products: Counter[str] = Counter()
    for node, cost in zip(model.graph.nodes, node_costs(model.graph), strict=True):
        if isinstance(node, MatMul):
            products[node.source] += cost.operations
    paths = {path for path, part in module.named_modules() if type(part).__name__.endswith("Attention")}
    assert products.keys() == paths
    theirs = flops(module, example)
    assert {path: 2 * n for path, n in products.items()} == {path: theirs[path] for path in paths}


class Others(nn.Module):
    """Weighted layers that the zoo has not: groups, dilation, transposition, one dimension, bare products."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.up = nn.ConvTranspose2d(6, 4, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 0), groups=2)
        self.fire = SFA(2)
        self.line = nn.Conv1d(4, 3, 3, stride=2)
        self.mix = nn.Parameter(torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 4, H, W] → [B, 5, 5]."""
        y = self.line(self.fire(self.up(self.grouped(x))).flatten(2))
        y = self.mix @ y
        return F.linear(torch.bmm(y, y.transpose(1, 2)), torch.ones(5, 5))


def test_other_weighted_layers() -> None:
    torch.manual_seed(0)
    module, example = Others().eval(), torch.rand(1, 4, 7, 9)
    model = capture(module, example)
    assert {path: 2 * n for path, n in macs(model).items()} == flops(module, example)
