"""The files of a Loihi program; that they compute the network is tested in tests/lava."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from simulator.simnets import Net, Way
from snncc.errors import ToolError, UsageError
from snncc.hw.spec import load_chip
from snncc.ir.nodes import Reset
from snncc_loihi import runner
from snncc_loihi.emit import LAVA_FILES, chip_files

HERE = Path(__file__).resolve().parents[2] / "backends" / "snncc_loihi"
CHIP = load_chip(HERE / "loihi2.toml")
LIF = {"reset": Reset.VALUE, "precharge": -1, "max_spikes": 1, "gain": 64, "decay": 1}


def emitted(net: Net) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, bytes]]:
    files = chip_files(net.mapped(), net.tensors, CHIP)
    return json.loads(files["network.json"]), load(files["tensors.safetensors"]), files


def lif_pair(**fields: Any) -> Net:
    net = Net((2, 5, 4), levels=1, steps=6, period=1, seed=1)
    net.layer("a", 3, Way(padding=(1, 0)), threshold=64 * 9, phase=1, **(LIF | fields))
    net.layer("b", 4, Way("a", kernel=None), threshold=64 * 7, phase=2, **(LIF | fields))
    return net


def window_net() -> Net:
    net = Net((2, 5, 4), levels=3, steps=2, period=4, seed=1)
    net.layer("a", 3, Way(padding=(1, 0)), threshold=9, max_spikes=3, phase=4, precharge=4)
    net.layer("r", 4, Way("a", kernel=None), max_spikes=0, threshold=1, phase=8)
    return net


def test_the_folder_is_whole_and_the_same_every_time() -> None:
    _, tensors, files = emitted(window_net())
    assert sorted(files) == sorted(
        ["network.json", "tensors.safetensors", "lava/network.json", "lava/weights.npz"]
        + [f"lava/{name}" for name in LAVA_FILES]
    )
    assert files["lava/network.json"] == files["network.json"]
    with np.load(io.BytesIO(files["lava/weights.npz"])) as npz:
        assert {n: npz[n].tolist() for n in npz} == {n: a.tolist() for n, a in tensors.items()}
    assert dict(files) == dict(emitted(window_net())[2])


def test_every_script_is_shipped_and_nothing_stands_beside_the_processes() -> None:
    scripts = {p.relative_to(HERE / "lava").as_posix() for p in (HERE / "lava").rglob("*.py")}
    assert scripts == set(LAVA_FILES)


def test_document_of_windows() -> None:
    net = window_net()
    document, tensors, _ = emitted(net)
    assert {k: document[k] for k in ("format", "version", "chip", "steps", "micro_steps")} == {
        "format": "snncc-loihi-network",
        "version": 3,
        "chip": "loihi2",
        "steps": 2,
        "micro_steps": 4,
    }
    assert (document["end"], document["sample_steps"]) == (16, 17)
    assert [(p["process"], p["kind"]) for p in document["populations"]] == [
        ("population", "window"),
        ("population", "readout"),
    ]
    assert [(c["source"], c["target"], c["kind"]) for c in document["connections"]] == [
        ("input", "a", "conv"),
        ("a", "r", "dense"),
    ]
    assert document["output"] == {
        "population": "r",
        "decode": "membrane",
        "over_time": "none",
        "scale": 0.5,
        "shape": [4],
        "order": None,
    }
    assert document["netx"] == {
        "written": False,
        "why": "a (window) is not Lava's own hard-reset LIF",
    }
    for c, piece in zip(document["connections"], net.pieces, strict=True):
        stored = tensors[c["weight"]] * 2.0 ** c["weight_exp"]
        assert stored.tolist() == net.tensors[piece.connections[0].weight].tolist()


def test_stock_lif_parameters() -> None:
    fields = {"decay": 4000, "decay_bits": 12, "synapse_decay": 1000, "synapse_bits": 12, "bias": -128}
    document, _, _ = emitted(lif_pair(**fields))
    assert [p["lif"] for p in document["populations"]] == [
        {"vth": 9, "du": 3095, "dv": 96, "bias_exp": 6},
        {"vth": 7, "du": 3095, "dv": 96, "bias_exp": 6},
    ]
    assert document["populations"][0]["bias"] == -128


@pytest.mark.parametrize(
    "fields",
    [
        {"reset": Reset.SUBTRACT},
        {"reset_to": 1},
        {"precharge": 0},
        {"gain": 32},
        {"threshold": 65},
        {"threshold": 64 << 17},
        {"decay": 0},
        {"decay": 5, "decay_bits": 3},
        {"synapse_decay": 1, "synapse_bits": 3},
        {"bias": 32},
        {"bias": 128 * 4096},
        {"bias": 64 * 4097},
        {"v_min": -9},
    ],
)
def test_neurons_that_are_not_lavas_lif_get_their_own_process(fields: dict[str, Any]) -> None:
    net = Net((2, 5, 4), levels=1, steps=6, period=1, seed=1)
    net.layer("a", 3, Way(), **({"threshold": 64 * 9, "phase": 1} | LIF | fields))
    assert emitted(net)[0]["populations"][0]["process"] == "population"


def test_large_biases_take_the_largest_exponent() -> None:
    entry = emitted(lif_pair(bias=128 * 4095))[0]["populations"][0]
    assert entry["lif"]["bias_exp"] == 7


def test_early_spikes_rule_out_lavas_lif() -> None:
    net = Net((2, 5, 4), levels=1, steps=6, period=1, seed=1)
    net.layer("a", 3, Way(), threshold=64 * 9, phase=2, **LIF)
    entry = emitted(net)[0]["populations"][0]
    assert (entry["process"], entry["neuron"]["begin"]) == ("population", 2)


@pytest.mark.parametrize(("gain", "stored", "exponent"), [(64, [2, -6], -1), (128, [2, -6], 0)])
def test_dense_layers_of_both_signs_are_stored_even(gain: int, stored: list[int], exponent: int) -> None:
    net = Net((2, 1, 1), levels=1, steps=2, period=1)
    net.layer(
        "a",
        1,
        Way(kernel=None, weight=np.array([1, -3]).reshape(1, 2, 1, 1)),
        threshold=64,
        phase=1,
        **(LIF | {"gain": gain}),
    )
    document, tensors, _ = emitted(net)
    connection = document["connections"][0]
    assert tensors[connection["weight"]].ravel().tolist() == stored
    assert connection["weight_exp"] == exponent
    assert document["populations"][0]["neuron"]["gain"] == 64


@pytest.mark.parametrize(
    ("fields", "start", "begin"),
    [
        ({"bias": 64, "v_init": 0}, -128, 0),  # two silent steps add 128
        ({"bias": 64, "v_init": 30, "decay": 2048, "decay_bits": 12}, -264, 0),  # -264 -> -68 -> 30
        ({"bias": -64 * 8, "v_init": 0}, 0, 2),  # would stand above the threshold before
        ({"v_init": 0}, 0, 0),
    ],
)
def test_start_of_populations_whose_phase_is_late(fields: dict[str, Any], start: int, begin: int) -> None:
    entry = emitted(lif_pair(**fields))[0]["populations"][1]
    assert (entry["start"], entry["neuron"]["begin"]) == (start, begin)


def test_interpreter_of_the_lava_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(runner.PYTHON_VARIABLE, raising=False)
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project / "sub")
    hint = (
        "Try `make lava-env`, or lava-nc 0.10 and numpy below 2 in a Python 3.10 named by SNNCC_LAVA_PYTHON."
    )
    # Not found above the project's folder, where anybody may have put one.
    for folder in (tmp_path, project):
        with pytest.raises(ToolError) as caught:
            runner.lava_python()
        assert str(caught.value) == f"[SNNC-T001] Lava: no environment for it was found. {hint}"
        (folder / ".venv-lava" / "bin").mkdir(parents=True)
        (folder / ".venv-lava" / "bin" / "python").touch()
    assert runner.lava_python() == project / ".venv-lava" / "bin" / "python"
    monkeypatch.setenv(runner.PYTHON_VARIABLE, str(tmp_path / "no"))
    with pytest.raises(ToolError) as caught:
        runner.lava_python()
    gone = f"the interpreter does not exist, got {tmp_path / 'no'}"
    assert str(caught.value) == f"[SNNC-T001] Lava: {gone}. {hint}"
    assert runner.lava_python(project / "pyproject.toml") == project / "pyproject.toml"
    with pytest.raises(ToolError) as caught:
        runner.probe(Path("/bin/false"))
    assert (
        str(caught.value)
        == f"[SNNC-T001] Lava: the interpreter does not work (CalledProcessError), got /bin/false. {hint}"
    )


@pytest.mark.parametrize(
    ("lava", "numpy", "defect"),
    [
        ("0.10.0", "1.26.4", None),
        (None, "1.26.4", "lava-nc is not installed there"),
        ("0.9.0", "1.26.4", "lava-nc is 0.9.0, networks are made for 0.10"),
        ("0.10.0", "2.1.0", "numpy is 2.1.0, lava-nc 0.10 needs one below 2"),
    ],
)
def test_versions_of_the_lava_environment(lava: str | None, numpy: str, defect: str | None) -> None:
    assert runner.LavaEnvironment(Path("python"), "3.10.1", lava, numpy).defect == defect


def test_wrong_environment_and_broken_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = runner.LavaEnvironment(Path("python"), "3.10.1", "0.10.0", "1.26.4")
    old = runner.LavaEnvironment(Path("python"), "3.10.1", "0.9.0", "1.26.4")
    monkeypatch.setattr(runner, "lava_python", lambda python: Path("python"))
    monkeypatch.setattr(runner, "probe", lambda python: old)
    x = np.zeros((1, 1, 1, 1, 1))
    with pytest.raises(ToolError, match=r"SNNC-T002.*lava-nc is 0.9.0, networks are made for 0.10"):
        runner.run_lava(tmp_path, x)
    monkeypatch.setattr(runner, "probe", lambda python: good)
    path = tmp_path / "network.json"
    with pytest.raises(UsageError, match=r"SNNC-U001.*network.json: no such file"):
        runner.run_lava(tmp_path, x)
    for text, told in [
        ("{", "cannot be read (JSONDecodeError)"),
        ("[]", "is another program, limit ('snncc-loihi-network', 3)"),
        ('{"format": "x"}', "is another program, got ('x', None), limit ('snncc-loihi-network', 3)"),
    ]:
        path.write_text(text)
        with pytest.raises(ToolError) as caught:
            runner.run_lava(tmp_path, x)
        assert str(caught.value) == f"[SNNC-T006] {path}: {told}."
    document, _, _ = emitted(window_net())
    path.write_text(json.dumps(document))
    with pytest.raises(ToolError) as caught:
        runner.run_lava(tmp_path, x)
    assert str(caught.value) == (
        f"[SNNC-T006] {tmp_path / 'weights.npz'}: cannot be read, got No such file or directory."
    )
