"""The real spikingjelly against our canonical neurons: run with the oracle environment.

    make oracles && PYTHONPATH=.:frontends .venv-oracles/bin/python tests/oracles/check_spikingjelly.py

Captures every supported neuron with every reset, decay and step mode inside a small convolutional
net built of spikingjelly's own layers, saves it as a whole module, loads it again through the
plugin, and checks that a subclass and a neuron of other equations are refused.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

import snncc_torch
from snncc.errors import SnnccError
from snncc.ir import to_text
from snncc.plugins import LoadOptions
from snncc_torch.plugin import FRONTEND

warnings.simplefilter("ignore")
from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: E402


def net(make, mode):
    """Conv, BN, neuron, pool, flatten, dropout, linear, neuron: all in spikingjelly's layers."""
    module = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), make(), layer.AvgPool2d(2), layer.Flatten(),
        layer.Dropout(0.3), layer.Linear(24, 10), make(),
    )  # fmt: skip
    functional.set_step_mode(module, mode)
    module[1].running_mean.normal_()
    return module.eval()


def makers():
    """Every supported neuron, by name."""
    for v_reset, threshold in itertools.product((None, 0.0, -0.3), (1.0, 0.7)):
        common = {"v_reset": v_reset, "v_threshold": threshold, "surrogate_function": surrogate.ATan()}
        yield f"IF {v_reset} {threshold}", lambda c=common: neuron.IFNode(**c)
        for decay in (True, False):
            k = {**common, "decay_input": decay}
            yield f"LIF {v_reset} {threshold} {decay}", lambda k=k: neuron.LIFNode(tau=1.7, **k)
            yield (
                f"PLIF {v_reset} {threshold} {decay}",
                lambda k=k: neuron.ParametricLIFNode(init_tau=3.3, **k),
            )


class Subclass(neuron.IFNode):
    """Same name family, nothing overridden: still not on the list."""


def main() -> int:
    """Number of failures."""
    failures = checked = 0
    folder = Path(tempfile.mkdtemp())
    for (name, make), mode in itertools.product(makers(), "ms"):
        module = net(make, mode)
        steps = 3 if mode == "m" else 1
        x = torch.randn(3, 1, 2, 4, 6) if mode == "m" else torch.randn(1, 2, 4, 6)
        module(x)  # leaves state behind, which capture must not see
        try:
            model = snncc_torch.capture(module, x)
            functional.reset_net(module)
            torch.save(snncc_torch.describe(module, (2, 4, 6), steps), folder / "m.pt")
            loaded = FRONTEND.load(folder / "m.pt", LoadOptions())
            same = to_text(loaded.graph) == to_text(model.graph)
            print(
                f"{'ok ' if same else 'BAD'} {name} {mode}: worst {model.comparison.worst:.3f} of the bound"
            )
            failures += not same
        except SnnccError as error:
            print(f"BAD {name} {mode}: {error}")
            failures += 1
        checked += 1
    soft = neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False))
    for refused in (Subclass(), neuron.QIFNode(), neuron.KLIFNode(), soft):
        try:
            snncc_torch.capture(nn.Sequential(nn.Linear(3, 2), refused).eval(), torch.zeros(1, 3))
            print(f"BAD {type(refused).__name__} was accepted")
            failures += 1
        except SnnccError as error:
            print(f"ok  {type(refused).__name__} refused: {error.code}")
            failures += error.code != "SNNC-M005"
    print(f"{checked} neurons, {failures} failures")
    return failures


if __name__ == "__main__":
    sys.exit(bool(main()))
