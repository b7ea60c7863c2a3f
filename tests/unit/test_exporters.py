"""Living objects go to the frontend that is registered for their library; the core names none."""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snncc
import snncc_torch
from snncc import plugins
from snncc.errors import ModelError


class Net(torch.nn.Sequential):
    pass


class Both(dict, torch.nn.Module):  # type: ignore[misc, type-arg]
    """Another base stands before the library's."""


@pytest.mark.parametrize("thing", [torch.nn.ReLU(), Net(), Both(), torch.zeros(1)])
def test_torchs_objects_go_to_the_pytorch_frontend(thing: object) -> None:
    assert plugins.exporter_of(thing) is snncc_torch.export


@pytest.mark.parametrize(
    ("thing", "name"),
    [(3, "builtins.int"), (np.zeros(2), "numpy.ndarray"), (Path("model.pt"), "pathlib.PosixPath")],
)
def test_what_nothing_captures(thing: object, name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        snncc.export(thing, None, tmp_path / "m.snnc")
    assert str(error.value) == (
        f"[SNNC-M016] module: nothing captures such an object, got {name}, limit those of torch."
    )
    assert list(tmp_path.iterdir()) == []


def test_without_a_frontend_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    with pytest.raises(ModelError) as error:
        snncc.export(torch.nn.ReLU(), None, "m.snnc")
    assert str(error.value) == (
        "[SNNC-M016] module: nothing captures such an object, got torch.nn.modules.activation.ReLU, "
        "limit those of no library."
    )


def test_neurons_are_registered_with_the_frontend_of_their_library() -> None:
    with pytest.raises(ModelError) as error:
        snncc.register_neuron("models.Leaky", "models.Other", library="jax")
    assert str(error.value) == (
        "[SNNC-M016] library: no package takes its neuron classes, got jax, limit those of torch."
    )


def test_a_packages_functions_are_given_what_the_user_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, f"{name}:f", group) for name in ("numpy", "torch")]

    def echo(*args: Any, **given: Any) -> Any:
        return *args, given

    monkeypatch.setattr(plugins, "entry_points", points)
    monkeypatch.setattr(plugins, "loaded", lambda point: partial(echo, point.group, point.name))
    x, given = np.zeros(2), {"timesteps": 3, "input_levels": 2, "calibration": 4, "labels": 5}
    found: Any = snncc.export(x, "example", "m.snnc", **given)
    assert found[:2] + found[3:] == ("snncc.exporters", "numpy", "example", "m.snnc", given)
    assert found[2] is x
    noted = snncc.register_neuron("a.B", "c.D", library="numpy")
    assert noted == ("snncc.neurons", "numpy", "a.B", "c.D", {})
