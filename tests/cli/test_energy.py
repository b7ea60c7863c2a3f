"""``snncc energy``: what it prints, writes as data, and refuses."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import snncc
from cli import clinets
from snncc.errors import ModelError, UsageError
from snncc.graphfile import write_graph_file
from snncc.ir import Family, Graph, Input, Output

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, Any]]

# Pairs of operations and energy as printed: Spikingformer (arXiv:2304.11954), table 2 and its repository.
PUBLISHED = """\
row,ops_g,energy_mj,stem_g,timesteps
Spikingformer-8-512,11.09,7.463,0.0867,4
SEW ResNet-34,3.88,4.035,0.1180,4
SEW ResNet-152,13.72,12.891,0.1180,4
Spiking ResNet-34,65.28,59.295,0.1180,
Spiking ResNet-50,78.29,70.934,0.1180,
Spikformer-8-768,22.09,21.5,0.520,4
Spikingformer-8-512 (log),6.52,7.464,0.0867,4
no stem,1.0,1.0,,
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.snnc"
    write_graph_file(path, clinets.model())
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return clinets.write_data(tmp_path / "x.npz", samples=6)


def test_document(run_json: RunJson, model: Path, data: Path) -> None:
    code, found = run_json("energy", model, "--data", data, "--baseline", "ann", "--baseline", "qnn")
    assert code == 0
    assert found["samples"] == 6
    assert found["subset"] is False
    assert found["of"] is None
    wanted = {"name", "rate", "rates_by_timestep", "events", "acs", "macs", "macs_valid"}
    assert all(wanted <= set(layer) for layer in found["layers"])
    total = found["total"]
    for key in ("events", "acs", "macs", "macs_valid", "acs_paper"):
        assert total[key] == pytest.approx(sum(layer[key] for layer in found["layers"]))
    assert total["over_layers"] == [layer["name"] for layer in found["layers"]]
    papers = found["energy"]["paper45"]
    each = (4.6 * total["macs"] + 0.9 * total["acs_paper"]) * 1e-9 / 6
    assert papers["total_mj"] == papers["low_mj"] == papers["high_mj"] == pytest.approx(each, rel=1e-12)
    assert found["headline_mj"] == {name: e["total_mj"] for name, e in found["energy"].items()}
    assert sum(c["value_mj"] for c in papers["components"].values()) == pytest.approx(papers["total_mj"])
    assert {c["grade"] for c in papers["constants"]} == {"estimate"}
    ann, qnn = found["baselines"]
    dense = total["dense"] / 6 / found["timesteps"]
    assert (ann["kind"], ann["macs"], ann["paper45_mj"]) == ("ann", dense, pytest.approx(4.6e-9 * dense))
    levels = max(n["levels"] for n in found["neurons"])
    assert qnn["activation_bits"] == int(np.ceil(np.log2(found["timesteps"] * levels + 1)))
    assert qnn["paper45_mj"] is None


def test_a_part_of_a_set_has_no_headline(run: Run, run_json: RunJson, model: Path, data: Path) -> None:
    said = "6 images of 50,000: a part of the set gives no headline; --allow-subset prints it"
    assert run("energy", model, "--data", data, "--of", 50_000).stdout.splitlines()[-1] == said
    code, found = run_json("energy", model, "--data", data, "--samples", 2)
    assert code == 0
    assert (found["samples"], found["of"], found["subset"], found["headline_mj"]) == (2, 6, True, None)
    shown = run("energy", model, "--data", data, "--samples", 2, "--allow-subset").stdout
    assert "means over 2 images of 6 (a part of the set)" in shown
    assert "  energy, paper45" in shown
    whole = run("energy", model, "--data", data, "--of", 6).stdout
    assert "means over 6 images, " in whole


def test_rows_of_csv_are_the_documents(run: Run, run_json: RunJson, model: Path, data: Path) -> None:
    layers = run_json("energy", model, "--data", data)[1]["layers"]
    printed = run("energy", model, "--data", data, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [{k: str(v) for k, v in layer.items() if k in rows[0]} for layer in layers] == rows


def test_latex_row(run: Run, run_json: RunJson, model: Path, data: Path) -> None:
    found = run_json("energy", model, "--data", data)[1]
    printed = run(
        "energy", model, "--data", data, "--format", "latex", "--baseline", "ann"
    ).stdout.splitlines()
    energy = found["energy"]["paper45"]["total_mj"]
    assert printed[1].startswith("% means over 6 images; stem steps, head steps")
    assert printed[2].startswith("net & ")
    assert printed[2].endswith(f" & {energy:.4g}, paper45" + r" \\")
    assert printed[-1].startswith("net (ann) & ")


def test_data_files_and_arrays_give_the_same(model: Path, data: Path) -> None:
    x, _ = clinets.inputs(6, seed=2)
    loaded = snncc.load_model(model)
    from snncc.data import as_dataset

    assert snncc.energy(model, data) == snncc.energy(loaded, as_dataset(x, None, loaded.graph, "x"))


def test_what_is_refused(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    silent = tmp_path / "zeros.npz"
    np.savez(silent, x=np.zeros_like(np.load(data)["x"]))
    got = run("energy", model, "--data", silent)
    assert got.exit_code == 1
    assert got.stderr.splitlines()[-1] == (
        f"error[SNNC-M026] net: no neuron fires on {silent}, got 6 inputs from 0 to 0. "
        "Try inputs scaled as in training."
    )
    got = run("energy", model, "--data", data, "--of", 3)
    assert got.exit_code == 2
    assert got.stderr.splitlines()[-1] == (
        "error[SNNC-U005] --of: fewer images than the data hold, got 3, limit 6."
    )
    assert run("energy", model).exit_code == 2
    with pytest.raises(UsageError, match=r"--baseline: no such twin network, got cnn, limit ann, qnn"):
        snncc.energy(model, data, baselines=["cnn"])
    with pytest.raises(UsageError, match=r"--samples: too few, got 0, limit 1"):
        snncc.energy(model, data, samples=0)
    got = run("energy", model, "--data", data, "--of", 9, "--format", "latex")
    assert got.exit_code == 2
    assert "rows of a table are of a whole set; --allow-subset prints those of a part" in got.stderr
    with pytest.raises(
        UsageError, match=r"SNNC-U005.*--stem: no such convention, got twice, limit once, steps"
    ):
        snncc.energy(model, data, stem="twice")
    plain = Graph("plain", Family.FLOAT, (Input(name="x", shape=(3,)), Output(name="y", inputs=("x",))))
    write_graph_file(tmp_path / "plain.snnc", snncc_model(plain))
    np.savez(tmp_path / "three.npz", x=np.ones((2, 3)))
    with pytest.raises(
        ModelError, match=r"SNNC-M026.*plain: has no spiking neuron, so it has no firing rate"
    ):
        snncc.energy(tmp_path / "plain.snnc", tmp_path / "three.npz")


def snncc_model(graph: Graph) -> Any:
    from snncc.model import Model

    return Model(graph)


# ---- published tables ------------------------------------------------------------------------------


def test_audit_names_the_rows_that_cannot_be(run: Run, run_json: RunJson, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(PUBLISHED)
    code, found = run_json("energy", "--audit", table)
    assert code == 0
    assert {r["row"]: r["verdict"] for r in found["rows"]} == {
        "Spikingformer-8-512": "impossible",
        "SEW ResNet-34": "once",
        "SEW ResNet-152": "once",
        "Spiking ResNet-34": "once",
        "Spiking ResNet-50": "neither",
        "Spikformer-8-768": "neither",
        "Spikingformer-8-512 (log)": "steps",
        "no stem": "unknown",
    }
    needed = {r["row"]: (round(r["macs_low_g"], 3), round(r["macs_high_g"], 3)) for r in found["rows"]}
    assert needed["Spiking ResNet-50"] == (0.102, 0.104)
    assert needed["Spikformer-8-768"] == (0.34, 0.364)
    shown = run("energy", "--audit", table)
    assert "impossible: the operations alone cost more than the energy" in shown.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "row,ops_g\na,1\n",
            "{p}: lacks columns, got energy_mj, limit row, ops_g, energy_mj, stem_g, timesteps",
        ),
        ("row,ops_g,energy_mj\n", "{p}: holds no rows"),
        (
            "row,ops_g,energy_mj,timesteps\na,1.0,x,4\nb,-1,1,2.5\n",
            "{p}:2: energy_mj is no such number, got x, limit a number from 0",
        ),
    ],
)
def test_tables_that_cannot_be_read(run: Run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    got = run("energy", "--audit", path)
    assert got.exit_code == 1
    assert f"error[SNNC-D001] {said.format(p=path)}." in got.stderr.splitlines()
    assert got.stdout == ""


def test_every_bad_cell_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("row,ops_g,energy_mj,timesteps\na,1.0,x,4\nb,-1,1,2.5\n")
    got = run("energy", "--audit", path).stderr.splitlines()
    assert [line.partition(": ")[2].partition(" is")[0] for line in got] == [
        "energy_mj",
        "ops_g",
        "timesteps",
    ]


def test_audit_stands_alone(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    got = run("energy", model, "--audit", tmp_path / "t.csv", "--data", data)
    assert got.exit_code == 2
    assert "--audit reads a table alone, without MODEL and --data" in got.stderr
