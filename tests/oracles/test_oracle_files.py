"""Whole modules of spikingjelly's own classes, saved and read again without running their pickle."""

import itertools

import oracle_models
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import snncc_torch
from snncc.errors import ModelError
from snncc.ir import to_text
from snncc.plugins import LoadOptions
from snncc_torch.plugin import FRONTEND

ATAN = {"surrogate_function": surrogate.ATan()}
MAKERS = {
    "IF": lambda: neuron.IFNode(v_reset=None, **ATAN),
    "LIF": lambda: neuron.LIFNode(tau=1.7, v_reset=-0.3, **ATAN),
    "PLIF": lambda: neuron.ParametricLIFNode(init_tau=3.3, decay_input=False, **ATAN),
    "KLIF": oracle_models.klif,
    "ILIF": neuron.ILIFNode,
    "HalfThreshold": neuron.HalfThresholdIFNode,
    "CUBALIF": neuron.CUBALIFNode,
}


@pytest.mark.parametrize(("name", "mode"), list(itertools.product(MAKERS, "ms")))
def test_a_saved_module_is_the_captured_one(name, mode, tmp_path):
    module = oracle_models.small_cnn(MAKERS[name])
    functional.set_step_mode(module, mode)
    steps = 3 if mode == "m" else 1
    x = torch.randn(3, 1, 2, 8, 8) if mode == "m" else torch.randn(1, 2, 8, 8)
    module.eval()
    module(x)  # leaves state behind, which capture must not see
    model = snncc_torch.capture(module, x)
    functional.reset_net(module)
    torch.save(snncc_torch.describe(module, (2, 8, 8), steps), tmp_path / "m.pt")
    loaded = FRONTEND.load(tmp_path / "m.pt", LoadOptions())
    assert to_text(loaded.graph) == to_text(model.graph)


class Subclass(neuron.IFNode):
    """Nothing overridden: still not on the list."""


def test_a_subclass_is_refused_with_the_line_that_registers_it():
    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(nn.Sequential(layer.Linear(3, 2), Subclass()).eval(), torch.zeros(1, 3))
    (problem,) = caught.value.problems
    assert problem.hint.startswith("snncc.register_neuron(")
    assert problem.hint.endswith('"spikingjelly.activation_based.neuron.integrate_and_fire.IFNode")')


def test_a_neuron_left_with_a_soft_surrogate_is_refused():
    soft = neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False))
    with pytest.raises(ModelError, match="behaves differently"):
        snncc_torch.capture(nn.Sequential(layer.Linear(3, 2), soft).eval(), torch.zeros(1, 3))
