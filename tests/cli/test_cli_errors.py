"""Every exit code, whole messages, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from cli import clinets
from forging import forge_json
from snncc import api
from snncc.errors import fail, problem
from snncc.graphfile import write_graph_file

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# ---- 1: data ----------------------------------------------------------------------------------------


def test_data_without_x(folder: Path, tmp_path: Path, run: Run) -> None:
    data = _save(tmp_path / "d.npz", y=np.arange(3))
    result = run("verify", folder / "exact", "--data", data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error[SNNC-D002] {data}: has no array `x`")


def test_data_of_a_wrong_shape(folder: Path, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    data = _save(tmp_path / "d.npz", x=np.zeros((2, 3, 8, 6), np.int64), y=np.zeros(2))
    result = run("simulate", folder / "exact", "--data", data)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"error[SNNC-D004] {data}: x: has the wrong shape, "
        "got [2, 3, 8, 6], limit [N, 1, 8, 6] or [N, 1, 1, 8, 6], N ≥ 1.",
        f"error[SNNC-D003] {data}: y: must hold class numbers, got float64, limit integers.",
    ]
    code, found = run_json("simulate", folder / "exact", "--data", data)
    assert code == 1
    assert list(found) == ["error"]
    assert (found["error"]["code"], found["error"]["exit_code"]) == ("SNNC-D004", 1)
    assert [p["code"] for p in found["error"]["problems"]] == ["SNNC-D004", "SNNC-D003"]


def test_counts_outside_the_levels(folder: Path, tmp_path: Path, run: Run) -> None:
    data = _save(tmp_path / "d.npz", x=np.full((1, *clinets.SHAPE), 5))
    result = run("verify", folder / "exact", "--data", data)
    assert (result.exit_code, "SNNC-D006" in result.stderr) == (1, True)


def test_a_file_that_is_no_model(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "net.docx"
    path.write_bytes(b"x")
    result = run("check", path, "--target", "speck2f")
    assert result.exit_code == 1
    message = f"{path}: no frontend reads this kind of file, got .docx, limit .pt, .pth, .pt2, .snnc."
    assert f"error[SNNC-M001] {message}\n" in result.stderr


# ---- 2: usage ---------------------------------------------------------------------------------------


def test_click_errors_become_ours(run: Run, run_json: RunJson) -> None:
    result = run("verify", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Usage: snncc verify [OPTIONS] DIR\nerror[SNNC-U005] command line: Missing option '--data'.\n"
    )
    assert run_json("nonsense") == (
        2,
        {
            "error": {
                "code": "SNNC-U005",
                "exit_code": 2,
                "problems": [
                    {
                        "code": "SNNC-U005",
                        "where": "command line",
                        "what": "No such command 'nonsense'",
                        "got": None,
                        "limit": None,
                        "hint": None,
                    }
                ],
            }
        },
    )


def test_no_arguments_show_the_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("shape", ["0,3", "a", "1,-2", "", "1.5", "99999999999"])
def test_input_shapes_that_are_none(shape: str, run: Run) -> None:
    result = run("check", "m.pt", "--target", "speck2f", "--input-shape", shape)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"{shape!r} is no list of positive sizes, for example 1,28,28.\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "MODEL: no model given. Try a model file, or --model pkg.mod:factory --weights sd.pt."),
        (("--model", "a.b:c"), "--model: needs the trained parameters too. Try --weights sd.pt."),
        (
            ("--weights", "w.pt"),
            "--weights: needs the callable that builds the module. Try --model pkg.mod:factory.",
        ),
        (
            ("m.pt", "--weights", "w.pt"),
            "MODEL: a model file and --model/--weights exclude each other, got m.pt.",
        ),
    ],
)
def test_which_model(args: tuple[str, ...], message: str, run: Run) -> None:
    result = run("check", *args, "--target", "speck2f")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error[SNNC-U005] {message}\n")


def test_missing_files(tmp_path: Path, folder: Path, run: Run) -> None:
    for args in (
        ("check", tmp_path / "no.pt", "--target", "speck2f"),
        ("check", tmp_path / "no.snnc", "--target", "speck2f"),
        ("verify", tmp_path / "no", "--data", folder / "x.npz"),
        ("verify", folder / "exact", "--data", tmp_path / "no.npz"),
        ("inspect", tmp_path / "no"),
    ):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error[SNNC-U001] " in result.stderr


def test_unknown_target(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "n.snnc"
    write_graph_file(path, clinets.model())
    for args in (("check", path), ("compile", path, "-o", tmp_path / "out")):
        result = run(*args, "--target", "brainchip")
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            result.stderr
            == "error[SNNC-U004] --target: no such target, got brainchip. Try one of loihi, loihi1, loihi2, sim, speck, speck2e, speck2f, tianjic.\n"
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_artifact(tmp_path: Path, folder: Path, run: Run) -> None:
    result = run("verify", tmp_path, "--data", folder / "x.npz")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error[SNNC-U006] {tmp_path}: has no manifest.json. Try a folder that `snncc compile` wrote.\n"
    )


def test_a_file_of_the_artifact_changed(tmp_path: Path, folder: Path, run: Run) -> None:
    out = tmp_path / "a"
    shutil.copytree(folder / "exact", out)
    with (out / "spike.snn").open("a") as file:
        file.write(" ")
    result = run("inspect", out)
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"error[SNNC-U006] {out / 'spike.snn'}: differs from its recorded SHA-256. Try compiling again.\n"
    )


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_of_several_compilations_into_one_place_one_wins(tmp_path: Path, force: tuple[str, ...]) -> None:
    """With --force a later one may replace an earlier one, which is ours."""
    write_graph_file(tmp_path / "n.snnc", clinets.model())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "snncc.cli", "compile", str(tmp_path / "n.snnc"), "--target", "speck2f"]
    runs = [
        subprocess.Popen([*command, "-o", str(out), *force], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [r.communicate()[1].decode() for r in runs]
    codes = sorted(r.returncode for r in runs)
    assert codes == ([0, 0, 0] if force else [0, 2, 2]), said
    assert all("error[SNNC-U002]" in text for text, r in zip(said, runs, strict=True) if r.returncode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.snnc", "out"]
    assert api.open_artifact(out).mapped.target == "speck2f"


# ---- 4: not equivalent --------------------------------------------------------------------------------


def _negated(config: Any) -> None:
    for layer in config["cnn_layers"].values():
        weights = layer["weights"][0][0][0]
        weights[0] = -weights[0] or 1


def _started_later(config: Any) -> None:
    for layer in config["cnn_layers"].values():
        layer["neurons_initial_value"][0][0][0] += 1


FORGERIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a weight": ("target/speck2f.json", _negated),
    "a threshold": (
        "target/speck2f.json",
        lambda c: next(iter(c["cnn_layers"].values())).update(threshold_high=9999),
    ),
    "a destination": (
        "target/speck2f.json",
        lambda c: next(iter(c["cnn_layers"].values())).update(destinations=[]),
    ),
    "rounds": ("target/schedule.json", lambda s: s["steps"][-2].update(rounds=1)),
    "a scale": ("mapped.json", lambda m: m["output"].update(scale=-1.0)),
    "the result": ("mapped.json", lambda m: m["output"].update(piece="s1")),
    "an order": (
        "mapped.json",
        lambda m: m["output"].update(order=m["pieces"][0]["connections"][0]["weight"]),
    ),
    "a start": ("target/speck2f.json", _started_later),
    "a depth": ("mapped.json", lambda m: m["pieces"][1].update(phase=1)),
}


@pytest.mark.parametrize("what", sorted(FORGERIES))
def test_an_artifact_whose_parts_disagree(
    folder: Path, tmp_path: Path, run: Run, run_json: RunJson, what: str
) -> None:
    """The hashes are right: a forger, or a bug, wrote them."""
    file, change = FORGERIES[what]
    out = tmp_path / "bad"
    shutil.copytree(folder / "exact", out)
    forge_json(out, file, change)
    code = "SNNC-Q003" if file.startswith("target/") else "SNNC-Q004"
    result = run("verify", out, "--data", folder / "x.npz")
    assert result.exit_code == 4
    assert f"error[{code}] {out}/{file}: " in result.stderr
    assert "Equivalent" not in result.stdout
    exit_code, found = run_json("verify", out, "--data", folder / "x.npz")
    assert exit_code == 4
    problems = found["error"]["problems"] if "error" in found else found["disagreements"]
    assert [p["code"] for p in problems] == [code]
    assert found.get("equivalent") is not True


def test_the_page_says_so_too(folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "bad"
    shutil.copytree(folder / "exact", out)
    forge_json(out, "target/speck2f.json", _negated)
    assert run("report", out, "--html", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Not equivalent: parts of the artifact disagree, so that nothing is certified." in page
    assert "target/speck2f.json: differs from what mapped.json gives at cnn_layers." in page
    assert "Equivalent on" not in page
    assert "holds for every input" not in page


# ---- 5: unsafe --------------------------------------------------------------------------------------


def test_an_artifact_that_names_a_file_outside(
    tmp_path: Path, folder: Path, run: Run, run_json: RunJson
) -> None:
    out = tmp_path / "a"
    shutil.copytree(folder / "exact", out)
    secret = {"../../\x1b[2Jsecret": "0" * 64}
    forge_json(out, "manifest.json", lambda manifest: manifest["files"].update(secret))
    result = run("verify", out, "--data", folder / "x.npz")
    assert (result.exit_code, "\x1b" in result.stderr) == (5, False)
    assert result.stderr.startswith("error[SNNC-S003] ")
    assert run_json("verify", out, "--data", folder / "x.npz")[1]["error"]["exit_code"] == 5


# ---- 70 and 130 -------------------------------------------------------------------------------------


def _broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a \x1b[31mbug")


def test_our_bug(folder: Path, run: Run, run_json: RunJson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "verify", _broken)
    args = ("verify", folder / "exact", "--data", folder / "x.npz")
    result = run(*args)
    assert (result.exit_code, result.stdout) == (70, "")
    hint = "again with --debug and report the traceback"
    assert result.stderr == f"error[SNNC-X001] snncc: RuntimeError: a \\x1b[31mbug. Try {hint}.\n"
    for debugged in (run(*args, "--debug"), run(*args, SNNCC_DEBUG="1")):
        assert debugged.exit_code == 70
        assert "Traceback (most recent call last)" in debugged.stderr
    code, found = run_json(*args)
    assert (code, found["error"]["code"]) == (70, "SNNC-X001")


def test_interrupted(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "verify", interrupt)
    result = run("verify", folder / "exact", "--data", folder / "x.npz")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "interrupted")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("SNNC-M001", 1),
        ("SNNC-D001", 1),
        ("SNNC-U001", 2),
        ("SNNC-C001", 3),
        ("SNNC-Q001", 4),
        ("SNNC-S001", 5),
        ("SNNC-X001", 70),
    ],
)
def test_exit_code_of_every_family(
    code: str, exit_code: int, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise fail(code, "here", "is wrong", got=3, limit=2, hint="less")

    monkeypatch.setattr(api, "simulate", refuse)
    result = run("simulate", folder / "exact", "--data", folder / "x.npz")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr == f"error[{code}] here: is wrong, got 3, limit 2. Try less.\n"


def test_exit_code_of_check_is_that_of_the_most_basic_problem(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (problem("SNNC-C001", "%a", "too large"), problem("SNNC-M004", "%b", "unsupported"))
    monkeypatch.setattr(api, "check", lambda *a, **k: api.CheckResult(None, None, found))
    result = run("check", "m.pt", "--target", "speck2f")
    assert result.exit_code == 1
    assert result.stderr == (
        "error[SNNC-M004] %b: unsupported.\nerror[SNNC-C001] %a: too large.\n"
        "m.pt does not compile for speck2f: 2 problems\n"
    )


def test_a_closed_pipe_is_no_traceback(folder: Path) -> None:
    command = f"{sys.executable} -m snncc.cli inspect {folder / 'exact'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
