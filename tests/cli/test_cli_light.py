"""Commands that need no artifact: help, explain, doctor, targets. None may load what it does not need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from snncc.cli.doctor import doctor
from snncc.cli.main import COMMANDS
from snncc.errors import CODES

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]

HEAVY = {"torch", "numba", "networkx", "pydantic", "numpy", "scipy", "rich", "jinja2", "safetensors"}
OPTIONAL = {"torch", "sinabs", "samna", "lava", "spikingjelly"}


def modules_after(*args: str) -> set[str]:
    """Top-level modules that a fresh process holds after a command."""
    code = (
        "import json, sys\nfrom snncc.cli.main import cli\n"
        f"try:\n    cli.main({list(args)!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n' + json.dumps([m for m in sys.modules if '.' not in m]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(json.loads(out.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    assert not HEAVY & modules_after("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    assert not HEAVY & modules_after(command, "--help")


def test_doctor_imports_no_optional_tool() -> None:
    assert not OPTIONAL & modules_after("doctor")


def test_console_script() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from snncc.cli.main import main; main()", "--help"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == list(COMMANDS)


def test_help_lines_are_those_of_the_commands(run: Run) -> None:
    for name in COMMANDS:
        result = run(name, "--help")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "--json" in result.stdout
        assert result.stdout.startswith(f"Usage: snncc {name} ")


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, "snncc 0.1.0\n")


# ---- explain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_explain_knows_every_code(code: str, run: Run, run_json: RunJson) -> None:
    text = run("explain", code).stdout
    assert text.startswith(f"{code}: {CODES[code].title} (exit code {CODES[code].error.exit_code})\n\n")
    assert " ".join(text.split("\n\n", 1)[1].split()) == CODES[code].explanation
    assert run_json("explain", code) == (
        0,
        {
            "code": code,
            "title": CODES[code].title,
            "exit_code": CODES[code].error.exit_code,
            "explanation": CODES[code].explanation,
        },
    )


def test_explain_lists_all(run: Run, run_json: RunJson) -> None:
    assert [c["code"] for c in run_json("explain")[1]["codes"]] == list(CODES)
    text = run("explain").stdout
    assert all(code in text for code in CODES)


def test_explain_takes_a_short_code(run: Run) -> None:
    assert run("explain", "c001").stdout == run("explain", "SNNC-C001").stdout


def test_explain_of_an_unknown_code(run: Run) -> None:
    result = run("explain", "SNNC-Z999")
    assert (result.exit_code, result.stdout) == (2, "")
    message = "explain: no such error code, got SNNC-Z999. Try `snncc explain` for the list."
    assert result.stderr == f"error[SNNC-U007] {message}\n"


# ---- doctor -----------------------------------------------------------------------------------------


def test_doctor_names_every_tool(run_json: RunJson) -> None:
    code, found = run_json("doctor")
    assert code == 0
    tools = {tool["name"]: tool for tool in found["tools"]}
    assert list(tools) == ["python", "numpy", "numba", "torch", "spikingjelly", "sinabs", "samna", "lava"]
    assert {t["status"] for t in tools.values()} <= {"ok", "missing", "unusable", "elsewhere"}
    assert tools["numba"]["status"] == "ok"
    assert all(set(t) == {"name", "version", "status", "purpose", "note"} for t in tools.values())


@pytest.mark.parametrize(
    ("files", "status"),
    [
        (["samna/__init__.py", "samna-0.48.6.dist-info/METADATA"], "unusable"),
        (["samna/__init__.py", "samna/libsamna.so.0"], "ok"),
        (["samna/__init__.py", "samna.cpython-311-x86_64-linux-gnu.so"], "ok"),
    ],
)
def test_doctor_tells_the_samna_stub_from_samna(
    files: list[str], status: str, monkeypatch: pytest.MonkeyPatch, run_json: RunJson
) -> None:
    from importlib.metadata import PackagePath

    from snncc.cli import doctor as module

    real = module._installed
    monkeypatch.setattr(module, "_installed", lambda name: "0.48.6" if name == "samna" else real(name))
    monkeypatch.setattr(module.metadata, "files", lambda name: [PackagePath(f) for f in files])
    samna = next(t for t in run_json("doctor")[1]["tools"] if t["name"] == "samna")
    assert (samna["version"], samna["status"]) == ("0.48.6", status)
    if status == "unusable":
        assert samna["note"] == (
            "this is PyPI's stub (2 files, no library), which runs pip when it is imported; "
            "install samna from SynSense's own index"
        )
    assert "samna" not in sys.modules


def test_doctor_refuses_an_old_torch(monkeypatch: pytest.MonkeyPatch, run_json: RunJson) -> None:
    from snncc.cli import doctor as module

    monkeypatch.setattr(module, "_installed", lambda name: {"torch": "2.9.1+cpu"}.get(name))
    torch = next(t for t in run_json("doctor")[1]["tools"] if t["name"] == "torch")
    assert (torch["status"], torch["note"]) == ("unusable", "needs 2.10 or newer")
    assert doctor.name == "doctor"


# ---- targets ----------------------------------------------------------------------------------------


def test_targets_lists_each_chip_once(run: Run, run_json: RunJson) -> None:
    _, found = run_json("targets")
    names = {t["name"]: t for t in found["targets"]}
    assert names["speck2f"]["aliases"] == ["speck"]
    assert (names["speck2f"]["cores"], names["sim"]["cores"]) == (9, 0)
    assert "speck2f" in run("targets").stdout


def test_targets_show_gives_source_and_grade_of_every_number(run: Run) -> None:
    from snncc.plugins import find_target

    text = " ".join(run("targets", "show", "speck2f", COLUMNS="400").stdout.split())
    chip = find_target("speck2f").chip
    for _, quantity in chip.costs:
        assert quantity is not None
        assert quantity.source in text
        assert f"{quantity.grade} {quantity.source}" in text
    for row in (
        "kernel words cores 0, 1, 2, 7, 8 16,384 vendor [DS] table 1, words of 8 bit",
        "kernel words cores 3, 4 32,768 vendor [DS]",
        "kernel words cores 5, 6 65,536 vendor [DS]",
        "neuron words cores 0, 1, 2 65,536 vendor [DS] table 1, words of 16 bit",
        "neuron words cores 3, 4 32,768 vendor [DS]",
        "neuron words cores 5, 6, 7, 8 16,384 vendor [DS]",
    ):
        assert row in text
    for line in (*chip.errata, *chip.not_modelled, chip.limits.source, chip.abilities.source):
        assert line in text
    used = set(re.findall(r"\[([A-Z]+)\]", text))
    assert used == {short for short, _ in chip.references}
    assert "[NC] Yao et al., Nature Communications 15:4464 (2024)" in text
    assert "20 pJ (15–61)" in text


def test_targets_show_of_a_mesh_gives_the_limits_of_a_core_with_sources(run: Run, run_json: RunJson) -> None:
    text = " ".join(run("targets", "show", "loihi2", COLUMNS="400").stdout.split())
    assert "synapse words every core 16,000 fitted [YOLO]: every printed share" in text
    assert "mesh: 8 chips of 8×4 routers of 4 cores; [BR]" in text
    _, found = run_json("targets")
    cores = {t["name"]: t["cores"] for t in found["targets"]}
    assert (cores["loihi1"], cores["loihi2"], cores["speck2f"], cores["sim"]) == (4096, 1024, 9, 0)


def test_targets_show_speaks_json(run_json: RunJson) -> None:
    code, chip = run_json("targets", "show", "speck")
    assert (code, chip["name"], sum(len(k["ids"]) for k in chip["core_kinds"])) == (0, "speck2f", 9)
    assert list(chip["schedules"]) == ["exact", "free"]
    assert set(chip["costs"]["synop_energy_pj"]) == {"value", "low", "high", "source", "grade"}


def test_targets_show_of_the_ideal_chip_says_unknown(run: Run) -> None:
    text = run("targets", "show", "sim").stdout
    assert "  - exact: spike counts of every neuron equal the integer graph's, window by window\n" in text
    assert "unknown" in text
    assert "never counted as zero silently" in text


def test_unknown_target(run: Run) -> None:
    result = run("targets", "show", "loihi9")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "error[SNNC-U004] --target: no such target, got loihi9. Try one of loihi, loihi1, loihi2, sim, speck, speck2e, speck2f, tianjic.\n"
    )
