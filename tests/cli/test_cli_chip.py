"""A chip as one TOML file: ``--chip`` in place of ``--target``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import snncc_loihi.target
import snncc_sim.target
import snncc_speck.target
from cli import clinets
from snncc import api
from snncc.errors import UsageError
from snncc.graphfile import write_graph_file
from snncc.hw.spec import load_chip

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]

FILES = {
    "sim": Path(snncc_sim.target.__file__).with_name("sim.toml"),
    "speck2f": Path(snncc_speck.target.__file__).with_name("speck2f.toml"),
    "loihi2": Path(snncc_loihi.target.__file__).with_name("loihi2.toml"),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_graph_file(tmp_path / "net.snnc", clinets.model())
    return tmp_path / "net.snnc"


def edited(path: Path, base: str, **changes: str) -> Path:
    """A chip file called as ``path`` is, with the text of other values in place of some."""
    text = FILES[base].read_text()
    for key, value in {"name": f'"{path.stem}"', **changes}.items():
        text, n = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
        assert n == 1, key
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("base", "table"), [("sim", "no limit"), ("speck2f", "16,384"), ("loihi2", "axons in")]
)
def test_a_file_goes_all_the_way(
    base: str, table: str, model: Path, folder: Path, tmp_path: Path, run: Run, run_json: RunJson
) -> None:
    chip = edited(tmp_path / "mine.toml", base, description='"of my own"')
    result = run("check", model, "--chip", chip, COLUMNS="200")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, f"{model} fits {chip}.")
    assert table in result.stdout
    code, found = run_json("compile", model, "--chip", chip, "-o", tmp_path / "out")
    assert (code, found["manifest"]["target"], found["certificate"]["target"]) == (0, "mine", "mine")
    chip.unlink()  # the folder holds it
    code, found = run_json("verify", tmp_path / "out", "--data", folder / "x.npz")
    assert (code, found["equivalent"], found["target"], found["schedule"]) == (0, True, "mine", "exact")
    code, found = run_json("simulate", tmp_path / "out", "--data", folder / "x.npz")
    assert (code, found["target"]) == (0, "mine")
    html = tmp_path / "page.html"
    assert run("report", tmp_path / "out", "--html", html).exit_code == 0
    assert "mine" in html.read_text()


def test_its_limits_are_the_files(model: Path, tmp_path: Path, run: Run) -> None:
    chip = edited(tmp_path / "small.toml", "speck2f", kernel_max="2", output_size_max="3")
    result = run("check", model, "--chip", chip)
    assert result.exit_code == 3
    assert "kernel is too large, got 3x3, limit 2x2" in result.stderr
    assert "limit 3x3" in result.stderr


def test_a_file_and_a_description_are_the_same_to_python(model: Path, tmp_path: Path) -> None:
    path = edited(tmp_path / "mine.toml", "sim", state_bits="20")
    made = [
        api.compile(model, chip=chip, out=tmp_path / name)
        for chip, name in ((path, "a"), (str(path), "b"), (load_chip(path), "c"))
    ]
    assert made[0].manifest.files == made[1].manifest.files == made[2].manifest.files
    assert {p.state_bits for p in made[0].mapped.pieces} == {20}


USAGE = {
    "both": "error[SNNC-U005] --chip: goes in place of --target, got --target sim.\n",
    "neither": "error[SNNC-U005] --target: no chip given. "
    "Try --target NAME (`snncc targets` lists them), or --chip FILE.toml.\n",
    "no file": "error[SNNC-U001] {chip}: no such file.\n",
    "no backend": "error[SNNC-U009] chip mine: backend: no such backend is installed, got tpu. "
    "Try one of loihi1, loihi2, sim, speck.\n",
}


@pytest.mark.parametrize("case", list(USAGE))
@pytest.mark.parametrize("verb", ["check", "compile"])
def test_wrong_use(case: str, verb: str, model: Path, tmp_path: Path, run: Run) -> None:
    chip = tmp_path / "mine.toml"
    if case != "no file":
        edited(chip, "sim", backend='"tpu"' if case == "no backend" else '"sim"')
    options: list[Any] = [] if case == "neither" else ["--chip", chip]
    options += ["--target", "sim"] if case == "both" else []
    options += ["-o", tmp_path / "out"] if verb == "compile" else []
    result = run(verb, model, *options)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", USAGE[case].format(chip=chip))
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_in_the_file_is_said_at_once(model: Path, tmp_path: Path, run_json: RunJson) -> None:
    chip = edited(tmp_path / "mine.toml", "sim", weight_bits='"eight"', hard_reset="1", name='"../mine"')
    code, found = run_json("check", model, "--chip", chip)
    assert (code, found["error"]["code"]) == (2, "SNNC-U009")
    assert [p["where"] for p in found["error"]["problems"]] == [
        f"chip file mine.toml: {key}" for key in ("name", "limits.weight_bits", "abilities.hard_reset")
    ]


def test_numbers_that_a_backend_needs_are_named(tmp_path: Path) -> None:
    chip = edited(tmp_path / "mine.toml", "sim", backend='"loihi2"')
    with pytest.raises(UsageError) as caught:
        api.check(tmp_path / "no.pt", chip=chip)
    assert [str(p) for p in caught.value.problems[:3]] == [
        f"chip mine: {key}: the backend loihi2 needs it."
        for key in ("mesh", "core_kinds", "limits.threshold_max")
    ]
    with pytest.raises(UsageError) as caught:
        api.check(tmp_path / "no.pt", chip=edited(tmp_path / "mine.toml", "sim", backend='"speck"'))
    assert [p.where for p in caught.value.problems] == [
        f"chip mine: {key}"
        for key in (
            "core_kinds",
            "limits.strides",
            "limits.poolings",
            "limits.weight_bits_max",
            "limits.exponent_max",
        )
    ]


def test_limits_that_a_backend_does_not_check_are_refused(tmp_path: Path) -> None:
    chip = edited(tmp_path / "mine.toml", "speck2f", backend='"sim"', strides="[]", poolings="[]")
    with pytest.raises(UsageError) as caught:
        api.check(tmp_path / "no.pt", chip=chip)
    found = {p.where.removeprefix("chip mine: "): str(p) for p in caught.value.problems}
    assert found["limits.fan_out"] == (
        "chip mine: limits.fan_out: the backend sim does not check this limit, got 2. "
        "Try leaving it out, if the network may exceed it."
    )
    assert found["core_kinds.3.resources.kernel_words"] == (
        "chip mine: core_kinds.3.resources.kernel_words: the backend sim does not check this limit, got 32768. "
        "Try leaving it out, if the network may exceed it."
    )
    limits = [key.removeprefix("limits.") for key in found if key.startswith("limits.")]
    assert sorted(limits) == [
        "fan_out", "features_max", "input_size_max", "kernel_max", "output_size_max", "padding_max", "threshold_max",
    ]  # fmt: skip
    assert len(found) == len(limits) + 6 * 2  # kinds of cores, resources of each


def test_a_core_must_limit_what_its_backend_counts(tmp_path: Path) -> None:
    path = edited(tmp_path / "mine.toml", "speck2f")
    path.write_text(path.read_text().replace("resources.neuron_words", "resources.leak_words", 1))
    with pytest.raises(UsageError) as caught:
        api.check(tmp_path / "no.pt", chip=path)
    assert [str(p) for p in caught.value.problems] == [
        "chip mine: core_kinds.0.resources.neuron_words: the backend speck needs it.",
        "chip mine: core_kinds.0.resources.leak_words: the backend speck does not check this limit, got 65536. "
        "Try leaving it out, if the network may exceed it.",
    ]


def test_words_of_a_files_own_widths(model: Path, tmp_path: Path, run: Run) -> None:
    narrow = edited(tmp_path / "narrow.toml", "loihi2", graded_bits="2")
    result = run("check", model, "--chip", narrow, "--schedule", "graded")
    assert result.exit_code == 3
    assert "%s2: a graded event leaves its word, got 3 bits, limit 2. Try fewer levels." in result.stderr
    assert run("check", model, "--chip", narrow).exit_code == 0
    low = edited(tmp_path / "low.toml", "speck2f", threshold_max="20")
    result = run("check", model, "--chip", low)
    assert result.exit_code == 3
    assert "threshold leaves its range" in result.stderr
    assert "limit 20" in result.stderr


def test_a_verb_with_a_chip_of_a_missing_backend_says_so(
    model: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snncc import plugins

    out = tmp_path / "out"
    api.compile(model, chip=edited(tmp_path / "mine.toml", "sim"), out=out)
    kept = plugins.entry_points
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group: [p for p in kept(group=group) if p.name != "sim" or group != "snncc.backends"],
    )
    result = run("verify", out, "--data", folder / "x.npz", "--executor", "lava")
    assert result.exit_code == 2
    assert "chip mine: backend: no such backend is installed, got sim" in result.stderr
    found = json.loads(run("simulate", out, "--data", folder / "x.npz", "--json").stdout)  # needs no backend
    assert found["target"] == "mine"
    assert json.loads((out / "chip.json").read_text())["backend"] == "sim"


def test_without_any_backend_the_installation_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    from snncc import plugins

    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    with pytest.raises(UsageError) as caught:
        plugins.target_of(snncc_sim.target.SIM.chip)
    assert str(caught.value) == (
        "[SNNC-U009] chip sim: backend: no such backend is installed, got sim. Try installing snncc once more."
    )
