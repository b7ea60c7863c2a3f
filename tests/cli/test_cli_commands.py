"""check, compile, verify, simulate, report, inspect and export on a small network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from cli import clinets
from forging import forge_json
from snncc.api import open_artifact
from snncc.graphfile import write_graph_file

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_graph_file(tmp_path / "net.snnc", clinets.model())
    return tmp_path / "net.snnc"


# ---- check and compile ------------------------------------------------------------------------------


def test_check_that_fits(model: Path, run: Run, run_json: RunJson) -> None:
    result = run("check", model, "--target", "speck2f")
    assert result.exit_code == 0
    assert "128 (0." in result.stdout
    assert result.stdout.endswith(f"{model} fits speck2f.\n")
    code, found = run_json("check", model, "--target", "speck")
    assert code == 0
    assert list(found) == [
        "fits", "model", "target", "schedule", "layers", "parts", "nodes", "notes", "error",
    ]  # fmt: skip
    conv1 = next(n for n in found["nodes"] if n["source"] == "conv1" and n["operations"])
    assert (conv1["operations"], conv1["operand"]) == (4 * 8 * 6 * 9, "spike counts")
    assert (found["fits"], found["error"]) == (True, None)
    first = found["layers"][0]
    assert (first["name"], first["layer"], first["largest_tile"]) == ("s1", "conv1", [4, 8, 6])
    assert len(first["cores"]) == 1
    # One input channel and the gate's; 3x3 taps fill 16 words, times 4 features.
    assert first["kernel_words"]["used"] == 2 * 16 * 4
    assert first["neuron_words"]["used"] == 4 * 8 * 8
    assert sorted(p.name for p in model.parent.iterdir()) == ["net.snnc"]


def test_check_of_the_ideal_chip_has_no_limits(model: Path, run: Run) -> None:
    result = run("check", model, "--target", "sim")
    assert result.exit_code == 0
    assert "no limit" in result.stdout


def test_check_says_all_problems_at_once(tmp_path: Path, run: Run, run_json: RunJson) -> None:
    path = tmp_path / "big.snnc"
    write_graph_file(path, clinets.model(channels=1100))
    result = run("check", path, "--target", "speck2f")
    assert result.exit_code == 3
    codes = re.findall(r"^error\[(SNNC-C\d+)\] %s", result.stderr, re.MULTILINE)
    assert {"SNNC-C001", "SNNC-C007"} <= set(codes)
    assert result.stderr.endswith(f"{path} does not compile for speck2f: {len(codes)} problems\n")
    assert result.stdout.startswith("float graph ")
    code, found = run_json("check", path, "--target", "speck2f")
    assert (code, found["fits"], found["layers"]) == (3, False, [])
    assert found["error"]["exit_code"] == 3
    assert [p["code"] for p in found["error"]["problems"]] == codes
    assert set(found["error"]["problems"][0]) == {"code", "where", "what", "got", "limit", "hint"}


def test_compile_writes_an_artifact(model: Path, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    out = tmp_path / "out"
    result = run("compile", model, "--target", "speck2f", "-o", out)
    assert result.exit_code == 0
    assert result.stdout.endswith(f"wrote {out}; next: snncc verify {out} --data x.npz\n")
    for title in (
        "Layers on speck2f, schedule exact: 2 of 9 cores, 1 chip",
        "Compilation steps",
        "Certificate",
    ):
        assert f"\n{title}\n" in f"\n{result.stdout}"
    assert open_artifact(out).mapped.target == "speck2f"
    code, found = run_json(
        "compile", model, "--target", "speck2f", "-o", out, "--force", "--schedule", "free"
    )
    assert code == 0
    assert list(found) == ["artifact", "manifest", "layers", "certificate", "host_macs"]
    assert found["manifest"]["schedule"] == "free"


def test_compile_does_not_overwrite(model: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    for force in ((), ("--force",)):
        result = run("compile", model, "--target", "speck2f", "-o", out, *force)
        assert result.exit_code == 2
        assert result.stderr == f"error[SNNC-U002] {out}: exists already. Try another path.\n"
    assert (out / "thesis.tex").read_text() == "x"


def test_calibration_from_a_file(tmp_path: Path, model: Path, run_json: RunJson) -> None:
    data = clinets.write_data(tmp_path / "c.npz", samples=9)
    code, _ = run_json("compile", model, "--target", "speck2f", "-o", tmp_path / "out", "--calib", data)
    assert code == 0
    assert len(open_artifact(tmp_path / "out").calibration) == 9


# ---- verify -----------------------------------------------------------------------------------------


def test_verify_exact(folder: Path, run: Run, run_json: RunJson) -> None:
    code, found = run_json("verify", folder / "exact", "--data", folder / "x.npz")
    assert code == 0
    assert (found["equivalent"], found["schedule"], found["samples"], found["first_divergence"]) == (
        True,
        "exact",
        6,
        None,
    )
    assert {"name", "neurons", "compared", "mismatches"} <= set(found["layers"][0])
    assert [(x["name"], x["neurons"], x["compared"], x["mismatches"]) for x in found["layers"]] == [
        ("s1", 192, 1152, 0),
        ("s2", 5, 30, 0),
    ]
    assert set(found["accuracy"]) == {"float", "integer", "spikes"}
    result = run("verify", folder / "exact", "--data", folder / "x.npz", "--workers", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Equivalent on 6 samples: all 1,182 compared values of all 2 layers agree.\n" in result.stdout


CLAIMS = re.compile(
    r"\bequal|\bidentical|\bexact|\bperfect|\bsame\b|(?<!not )\bequivalent|\bmatch(?!es\b)", re.IGNORECASE
)


def test_verify_free_is_not_equivalent_and_claims_nothing(folder: Path, run: Run, run_json: RunJson) -> None:
    code, found = run_json("verify", folder / "free", "--data", folder / "x.npz")
    assert code == 4
    assert (found["equivalent"], found["schedule"], found["proven"]) == (False, "free", False)
    assert found["shuffled"]["layers"][0]["compared"] == 1152
    result = run("verify", folder / "free", "--data", folder / "x.npz")
    assert result.exit_code == 4
    wrong = sum(layer["mismatches"] for layer in found["layers"])
    assert f"Not equivalent: {wrong:,} of 1,182 compared values differ" in result.stdout
    assert "accuracy" in result.stdout
    assert "shuffled (seed 1)" in result.stdout
    assert result.stderr == (
        f"error[SNNC-Q001] {folder / 'free'}: not equivalent under the schedule `free`, "
        f"got {wrong:,} of 1,182 values different. Try compiling without `--schedule free`.\n"
    )
    said = (result.stdout + result.stderr).replace(str(folder), "")
    assert CLAIMS.findall(said) == []


def _tampered(folder: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the exact artifact with another mapped.json that nothing is proven of, hashed anew."""
    shutil.copytree(folder / "exact", out)
    forge_json(out, "mapped.json", change)
    forge_json(out, "certificate.json", _unproven)
    return out


def _unproven(certificate: dict[str, Any]) -> None:
    for layer in certificate["ranges"]:
        layer["proven"] = False


def test_verify_finds_a_changed_threshold(folder: Path, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    def change(mapped: dict[str, Any]) -> None:
        mapped["pieces"][0]["cell"]["threshold"] += 7

    bad = _tampered(folder, tmp_path / "bad", change)
    code, found = run_json("verify", bad, "--data", folder / "x.npz")
    assert code == 4
    assert (found["equivalent"], found["first_divergence"]["layer"]) == (False, "s1")
    result = run("verify", bad, "--data", folder / "x.npz")
    assert result.exit_code == 4
    assert "Not equivalent: " in result.stdout
    assert "First divergence: layer s1, sample " in result.stdout
    assert result.stderr.startswith(
        f"error[SNNC-Q001] {bad}: not equivalent under the schedule `exact`, got "
    )


def test_verify_reports_a_sample_outside_the_calibrated_range(folder: Path, tmp_path: Path, run: Run) -> None:
    def change(mapped: dict[str, Any]) -> None:
        # Made for hardly any input at all.
        mapped["pieces"][0]["admitted"] = [-1, 1]

    bad = _tampered(folder, tmp_path / "bad", change)
    result = run("verify", bad, "--data", folder / "x.npz")
    assert result.exit_code == 4
    assert "Samples outside the calibrated range" in result.stdout
    assert (
        f"error[SNNC-Q002] {bad}: s1: samples left the range for which the schedule was made, got "
        in result.stderr
    )


# ---- simulate ---------------------------------------------------------------------------------------


def test_simulate_document(folder: Path, run_json: RunJson) -> None:
    code, found = run_json("simulate", folder / "exact", "--data", folder / "x.npz")
    assert code == 0
    assert {
        "artifact",
        "data",
        "target",
        "schedule",
        "engine",
        "samples",
        "layers",
        "total",
        "energy",
        "latency",
        "not_modelled",
    } <= set(found)
    assert (found["target"], found["schedule"], found["engine"], found["samples"]) == (
        "speck2f",
        "exact",
        "gated",
        6,
    )
    for key in (
        "events",
        "synaptic_operations",
        "acs",
        "macs",
        "control_events",
        "control_operations",
        "spikes",
    ):
        assert found["total"][key] == sum(layer[key] for layer in found["layers"]), key
    assert {"firing_rate", "acs_paper_per_sample"} <= set(found["total"])
    assert {"paper45", "lemaire", "speck2f"} == set(found["energy"])
    for energy in found["energy"].values():
        for part in ("value", "low", "high"):
            assert energy["total_nj"][part] == pytest.approx(
                sum(c[part] for c in energy["components"].values())
            )


def test_simulate_text(folder: Path, run: Run) -> None:
    result = run("simulate", folder / "exact", "--data", folder / "x.npz")
    assert (result.exit_code, result.stderr) == (0, "")
    for title in (
        "Activity, sums over 6 samples",
        "Energy a sample, model speck2f",
        "Latency of a sample",
        "Where every number comes from",
    ):
        assert f"\n{title}\n" in f"\n{result.stdout}"
    assert "Not modelled:\n  - " in result.stdout
    assert re.search(r"energy, speck2f +[\d.]+ nJ \([\d.]+–[\d.]+\)\n", result.stdout)


def test_result_does_not_depend_on_workers(folder: Path, run: Run) -> None:
    one, two = (
        run("simulate", folder / "exact", "--data", folder / "x.npz", "--json", "--workers", n).stdout
        for n in (1, 2)
    )
    assert one == two


# ---- inspect ----------------------------------------------------------------------------------------


def test_inspect_a_model_gives_the_text_form(model: Path, run: Run) -> None:
    from snncc.ir.text import to_text

    result = run("inspect", model)
    assert result.exit_code == 0
    assert to_text(clinets.graph()) in result.stdout


def test_inspect_an_artifact(folder: Path, run: Run, run_json: RunJson) -> None:
    _, found = run_json("inspect", folder / "exact")
    assert list(found["graphs"]) == ["float", "integer", "spike"]
    assert found["graphs"]["spike"]["nodes"][0]["kind"] == "input"
    _, found = run_json("inspect", folder / "exact", "--graph", "integer")
    assert list(found["graphs"]) == ["integer"]
    assert (folder / "exact" / "integer.snn").read_text() == found["graphs"]["integer"]["text"]
    table = run("inspect", folder / "exact", "--graph", "spike", "--table").stdout
    assert "spike graph net" in table


def test_names_are_data(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "evil.snnc"
    write_graph_file(path, clinets.model(module=clinets.EVIL + "[bold]\u202e"))
    for args in (("inspect", path), ("inspect", path, "--table"), ("check", path, "--target", "speck2f")):
        result = run(*args)
        assert result.exit_code == 0
        out = result.stdout + result.stderr
        assert "\x1b" not in out
        assert "\u202e" not in out
        flat = "".join(out.split())
        assert "\\x1b[31m[bold]\\u202e" in flat


def test_inspect_refuses_the_spike_graph_of_a_model(model: Path, run: Run) -> None:
    result = run("inspect", model, "--graph", "spike")
    assert result.exit_code == 2
    assert "a model file holds the float graph alone" in result.stderr


# ---- export -----------------------------------------------------------------------------------------


def test_export_without_options_explains_the_function(run: Run, run_json: RunJson) -> None:
    text = run("export").stdout
    assert "snncc.export(module.eval(), example_input" in text
    assert run_json("export")[1]["how"] + "\n" == text


def test_export_puts_calibration_into_a_graph_file(model: Path, tmp_path: Path, run: Run) -> None:
    from snncc.graphfile import read_graph_file

    data = clinets.write_data(tmp_path / "c.npz", samples=5)
    out = tmp_path / "new.snnc"
    result = run("export", model, "-o", out, "--calib", data)
    assert (result.exit_code, result.stdout) == (
        0,
        f"wrote {out}: 8 nodes; next: snncc check {out} --target speck2f\n",
    )
    found = read_graph_file(out)
    assert found.graph == clinets.graph()
    assert found.calibration is not None
    np.testing.assert_array_equal(found.calibration[:, 0], np.load(data)["x"])
    again = run("export", model, "-o", out)
    assert (again.exit_code, again.stderr) == (
        2,
        f"error[SNNC-U002] {out}: exists already. Try another path, or --force.\n",
    )
    assert run("export", model, "-o", out, "--force").exit_code == 0


def test_export_needs_an_output(model: Path, run: Run) -> None:
    result = run("export", model)
    assert result.exit_code == 2
    assert result.stderr.endswith("error[SNNC-U005] command line: Missing option '-o' / '--out'.\n")
