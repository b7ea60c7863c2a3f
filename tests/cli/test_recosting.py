"""`--chip` costs an artifact under another description, says so everywhere, and refuses what cannot apply."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import snncc
from cli import clinets
from snncc import api
from snncc.hw.spec import load_chip
from snncc.mapping.profile import profile_problems

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "speck2f": ROOT / "backends" / "snncc_speck" / "speck2f.toml",
    "loihi1": ROOT / "backends" / "snncc_loihi" / "loihi1.toml",
    "loihi2": ROOT / "backends" / "snncc_loihi" / "loihi2.toml",
    "sim": ROOT / "simulators" / "snncc_sim" / "sim.toml",
    "tianjic": ROOT / "simulators" / "snncc_sim" / "tianjic.toml",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``made(target)``: its artifact of the small network; ``loihi2-graded`` with graded events."""
    base = tmp_path_factory.mktemp("recost")

    def of(name: str) -> Path:
        if not (base / name).exists():
            api.compile(clinets.model(), target=name.split("-")[0], graded="graded" in name, out=base / name)
        return base / name

    return of


def energies(document: Any, model: str) -> tuple[float, ...]:
    total = document["energy"][model]["total_nj"]
    return total["value"], total["low"], total["high"]


def test_an_edited_description_scales_what_it_changes(
    folder: Path, tmp_path: Path, run: Run, run_json: RunJson
) -> None:
    text = FILES["speck2f"].read_text()
    numbers = r"\[costs.synop_energy_pj\]\nvalue = [\d.]+\nlow = [\d.]+\nhigh = [\d.]+\n"
    table = re.search(numbers, text)
    assert table is not None
    doubled = re.sub(r"= ([\d.]+)", lambda m: f"= {2 * float(m[1])}", table[0])
    chip = tmp_path / "mine.toml"
    chip.write_text(text.replace(table[0], doubled))
    args = ("simulate", folder / "exact", "--data", folder / "x.npz")
    _, own = run_json(*args)
    code, other = run_json(*args, "--chip", chip)
    assert code == 0
    assert (own["costed_under"], own["recosted"]) == ("speck2f", None)
    said = f"costed under speck2f ({chip}), compiled for speck2f"
    assert (other["target"], other["costed_under"], other["recosted"]) == ("speck2f", "speck2f", said)
    for part in ("synapses", "control_synapses"):
        before, after = (d["energy"]["speck2f"]["components"][part] for d in (own, other))
        assert after == {key: 2 * value for key, value in before.items()}
    for key in ("total", "latency", "samples"):
        assert own[key] == other[key]
    assert f"\n{said}\nspeck2f, schedule exact" in run(*args, "--chip", chip).stdout
    assert "costed under" not in run(*args).stdout


def test_an_ideal_network_under_the_profile_of_another_ideal_chip(
    made: Any, folder: Path, tmp_path: Path, run: Run, run_json: RunJson
) -> None:
    args = (made("sim"), "--data", folder / "x.npz", "--chip", FILES["tianjic"])
    code, found = run_json("simulate", *args)
    said = f"costed under tianjic ({FILES['tianjic']}), compiled for sim"
    assert (code, found["recosted"]) == (0, said)
    _, own = run_json("simulate", *args[:3])
    assert set(found["energy"]) - set(own["energy"]) == {"tianjic", "tianjic-power"}
    assert energies(found, "paper45") == energies(own, "paper45")
    _, native = run_json("simulate", made("tianjic"), *args[1:3])
    assert found["energy"] == native["energy"]
    assert found["latency"] == native["latency"]
    page = tmp_path / "r.html"
    assert run("report", *args, "--html", page).exit_code == 0
    assert f"Energy and latency are {said}." in page.read_text()
    plain = run("report", *args[:3], "--html", tmp_path / "plain.html")
    assert plain.exit_code == 0
    assert "compiled for" not in (tmp_path / "plain.html").read_text()


def test_the_function_and_the_notebook_say_so(made: Any, folder: Path) -> None:
    found = snncc.simulate(made("loihi2"), folder / "x.npz", chip=FILES["loihi1"])
    assert found.chip.name == "loihi1"
    models = {e.model for e in found.cost.energy}
    assert {"paper45", "loihi1"} <= models
    assert "loihi2" not in models
    assert f"costed under loihi1 ({FILES['loihi1']}), compiled for loihi2" in found._repr_html_()
    own = snncc.simulate(made("loihi2"), folder / "x.npz")
    assert (own.chip, own.recosted) == (own.artifact.chip, "")
    assert "compiled for" not in own._repr_html_()


PLACES = "has other places than those on which the network stands"
STEPS = "has no micro-steps, in which the network runs, got speck2f, limit a clocked chip."
REFUSED = {
    ("loihi2", "speck2f"): (f"{PLACES}, got a list of cores, limit a mesh of cores.", STEPS),
    ("loihi2", "sim"): (f"{PLACES}, got no cores, limit a mesh of cores.",),
    ("loihi2-graded", "loihi1"): (
        "has no graded events, which the network sends, got loihi1, limit a chip that has.",
    ),
    ("speck2f", "loihi2"): (f"{PLACES}, got a mesh of cores, limit a list of cores.",),
    ("sim", "speck2f"): (f"{PLACES}, got a list of cores, limit no cores.", STEPS),
    ("sim", "loihi2"): (f"{PLACES}, got a mesh of cores, limit no cores.",),
}


@pytest.mark.parametrize(("network", "chip"), sorted(REFUSED))
def test_a_profile_that_cannot_apply(
    made: Any, folder: Path, tmp_path: Path, run: Run, network: str, chip: str
) -> None:
    file = FILES[chip]
    lines = [f"error[SNNC-U013] {chip} ({file}): {line}" for line in REFUSED[network, chip]]
    for args in (("simulate",), ("report", "--html", tmp_path / "r.html")):
        result = run(args[0], made(network), "--data", folder / "x.npz", "--chip", file, *args[1:])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines() == lines
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_chip_of_the_kind_lacks_cores(made: Any) -> None:
    mapped = api.open_artifact(made("loihi2")).mapped
    tiles = tuple(t.model_copy(update={"core": t.core + 127}) for t in mapped.tiles)
    moved = mapped.model_copy(update={"tiles": tiles})
    chip = load_chip(FILES["loihi2"])
    assert chip.mesh is not None
    small = chip.model_copy(update={"mesh": chip.mesh.model_copy(update={"chips": 1})})
    assert list(profile_problems(moved, chip, chip, "x")) == []
    found = [str(p) for p in profile_problems(moved, chip, small, "x")]
    cores = sorted(t.core for t in tiles if t.core > 127)
    got = f"{len(cores)} of {len(tiles)}, the first is core {cores[0]}"
    assert found == [f"x: lacks cores on which the network stands, got {got}, limit 128 cores."]


def test_a_chip_file_that_is_none(folder: Path, tmp_path: Path, run: Run) -> None:
    args = ("simulate", folder / "exact", "--data", folder / "x.npz", "--chip")
    missing = run(*args, tmp_path / "no.toml")
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"error[SNNC-U001] {tmp_path / 'no.toml'}: no such file.\n",
    )
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    bad = run(*args, tmp_path / "bad.toml")
    assert bad.exit_code == 2
    assert bad.stderr.startswith("error[SNNC-U009] chip file bad.toml: no valid TOML, got ")
    (tmp_path / "few.toml").write_text("schema_version = 1\nname = 'x'\n")
    few = run(*args, tmp_path / "few.toml")
    assert few.exit_code == 2
    assert "error[SNNC-U009] chip file few.toml: limits: Field required.\n" in few.stderr
