"""Operations of the papers' networks as they run: equal to convolutions of the recorded spikes by PyTorch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit

import snncc_torch
from captured_zoo import captured
from snncc.analysis.operations import Operand
from snncc.analysis.sites import gate_behind
from snncc.ir import Conv2d, Graph, Linear, MatMul, Node, Spikes
from snncc.ir.interp import run
from snncc.metrics.conventions import Attention, Conventions, Repeat
from snncc.metrics.energy import energy_of
from snncc.metrics.figures import Figures, LayerFigures
from snncc.metrics.measure import measure, static_layers
from snncc_torch import zoo
from snncc_torch.zoo import REDUCED
from zoo_on_chips import inputs

LOG = json.loads((Path(__file__).parents[1] / "data" / "spikingformer_8_512_log.json").read_text())


def levels(graph: Graph, name: str, values: np.ndarray) -> Tensor:
    kind = graph.types[name]
    assert isinstance(kind, Spikes)
    return torch.from_numpy(np.rint(np.abs(values / kind.unit))).double()


def by_torch(graph: Graph, node: Node, x: Tensor) -> float:
    """Sum of what a node of ones makes of x [N·T, *shape], at the sites that its gate leaves open."""
    if isinstance(node, Linear):
        return float(x.sum()) * node.weight.shape[0]
    assert isinstance(node, Conv2d)
    ones = torch.ones(node.weight.shape, dtype=torch.float64)
    made = F.conv2d(x, ones, None, node.stride, node.padding, node.dilation, node.groups)
    gate = gate_behind(graph, node)
    return float((made if gate is None else made * torch.from_numpy(np.array(gate))).sum())


def product_by_torch(graph: Graph, node: MatMul, values: dict[str, np.ndarray], binary: bool) -> float:
    operands = []
    for name in node.inputs:
        if isinstance(graph.types[name], Spikes):
            x = levels(graph, name, values[name])
            operands.append((x != 0).double() if binary else x)
        else:
            operands.append(torch.ones(values[name].shape, dtype=torch.float64))
    return float((operands[0] @ operands[1]).sum())


@pytest.mark.parametrize("name", REDUCED)
def test_counts_of_the_papers_networks(name: str) -> None:
    graph, data = captured(name)[2].graph, inputs(name, 2, 5)
    figures = measure(graph, data)
    read = tuple({i for layer in figures.layers for i in graph.by_name[layer.name].inputs})
    values = run(graph, data.x, read).values
    flat = {key: v.reshape(-1, *v.shape[2:]) for key, v in values.items()}
    for layer in figures.layers:
        node = graph.by_name[layer.name]
        if isinstance(node, MatMul):
            found = [product_by_torch(graph, node, flat, binary) for binary in (True, False)]
            assert (layer.events, layer.unit_events) == tuple(found), layer.name
        elif layer.operand is Operand.REAL:
            assert (layer.events, layer.unit_events, layer.largest) == (0, 0, 0)
        else:
            x = levels(graph, node.inputs[0], flat[node.inputs[0]])
            assert layer.events == by_torch(graph, node, (x != 0).double()), layer.name
            assert layer.unit_events == by_torch(graph, node, x), layer.name
            assert layer.valid == by_torch(graph, node, torch.ones_like(x[:1])), layer.name
    assert sum(sum(n.spikes) for n in figures.neurons) == pytest.approx(
        sum(
            float(levels(graph, n.name, run(graph, data.x, (n.name,)).values[n.name]).sum())
            for n in figures.neurons
        )
    )
    assert energy_of(figures, Conventions()).energies[0].total_nj.value > 0


# ---- the log that the authors of Spikingformer published ---------------------------------------------


def logged(layers: tuple[LayerFigures, ...]) -> Figures:
    """Figures of Spikingformer-8-512 with the rates of the authors' log, in place of measured ones."""
    weights = iter(LOG["layers"])
    terms = iter([r for q, k, v in LOG["attention"]["firing_rates_q_k_v_per_block"] for r in (q, min(k, v))])
    found = []
    for layer in layers:
        if layer.is_product:
            found.append(replace(layer, term_rate=next(terms)))
            continue
        entry = next(weights)
        rate = entry["acs"] / entry["ops"] if entry["acs"] else 1.0
        found.append(replace(layer, rates=(rate,) * LOG["attention"]["T"]))
    assert next(weights, None) is next(terms, None) is None
    return Figures("8-512", 0, 4, tuple(found), (), 0, 0, 0, 0, 0, static=True)


@pytest.mark.campaign
def test_the_authors_energy_of_spikingformer_8_512() -> None:
    model = snncc_torch.capture(zoo.spikingformer("8-512").eval(), torch.zeros(4, 1, 3, 224, 224))
    figures = logged(static_layers(model.graph))
    for layer, entry in zip((n for n in figures.layers if not n.is_product), LOG["layers"], strict=True):
        runs = 1 if entry["name"] == "head" else 4  # the authors count the classifier once, behind the mean
        assert runs * (layer.dense + layer.biases) == entry["ops"], entry["name"]
    theirs = Conventions(head=Repeat.ONCE, attention=Attention.PAPERS, bias=True)
    energy = energy_of(figures, theirs).energies[0].total_nj.value / 1e6
    assert energy == pytest.approx(7.463502601886196, abs=1e-9)
    once = energy_of(figures, replace(theirs, stem=Repeat.ONCE)).energies[0].total_nj.value / 1e6
    assert once == pytest.approx(7.463502601886196 - 4.6e-9 * 0.75 * 346_816_512, abs=1e-9)
    assert once == pytest.approx(6.26699, abs=1e-5)
