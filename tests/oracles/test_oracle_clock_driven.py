"""spikingjelly's `clock_driven`, which 2.0 no longer has and most published models are written for.

It stands in a folder of its own in the oracle environment (release 0.0.0.0.14) and is found as a part of
the new package.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import spikingjelly
import torch
from torch import nn

from snncc.ir.interp import run
from snncc_torch import capture

OLD = Path(sys.prefix) / "clock_driven" / "spikingjelly"
pytestmark = pytest.mark.skipif(not OLD.is_dir(), reason="make oracles installs it")

CLASSES = ("IFNode", "LIFNode", "ParametricLIFNode")
RESETS, THRESHOLDS, DECAYS = (None, 0.0, -0.3, 0.25), (1.0, 0.7), (True, False)


@pytest.fixture(scope="module")
def neuron():
    spikingjelly.__path__.append(str(OLD))
    yield importlib.import_module("spikingjelly.clock_driven.neuron")
    spikingjelly.__path__.remove(str(OLD))


def forms(cls):
    """Modules of a class in all its forms."""
    leak = {"LIFNode": "tau", "ParametricLIFNode": "init_tau"}.get(cls.__name__.removeprefix("MultiStep"))
    leaks = [{leak: tau, "decay_input": decay} for tau in (2.0, 1.7) for decay in DECAYS] if leak else [{}]
    for v_reset, threshold, more in itertools.product(RESETS, THRESHOLDS, leaks):
        yield cls(v_reset=v_reset, v_threshold=threshold, **more)


@pytest.mark.parametrize("name", [f"{prefix}{name}" for prefix in ("", "MultiStep") for name in CLASSES])
def test_every_form_is_captured_and_computes_what_the_module_does(neuron, name):
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 5), torch.rand(4, 1, 6)
    linear.weight.data.uniform_(-0.5, 1.5)
    steps = 4 if name.startswith("MultiStep") else 1
    for node in forms(getattr(neuron, name)):
        net = nn.Sequential(linear, node).eval()
        net(x[:steps])  # leaves a membrane behind
        graph = capture(net, x if steps > 1 else x[0]).graph
        node.reset()
        want = net(x if steps > 1 else x[0]).detach().numpy()
        got = run(graph, x.numpy()[:steps, 0][None]).result
        assert want.any()
        np.testing.assert_array_equal(np.ravel(got), np.ravel(want))
