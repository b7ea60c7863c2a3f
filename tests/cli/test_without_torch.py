"""An artifact folder is self-sufficient: copied elsewhere it verifies, simulates and reports without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from snncc.compilation import Options
from snncc.ir import Input
from snncc.model import Model
from snncc.store import write_artifact
from snncc_speck import SPECK2F
from speck_nets import conv, network, spiking

# Stands in the place of every module that the environment is not supposed to have.
BLOCKED = ("torch", "spikingjelly", "sinabs", "samna", "mlxtend")
RUN = (
    "import sys\n"
    f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
    "from snncc.cli.main import main\n"
    "main()\n"
)


def snncc(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_copied_artifact_needs_no_torch(tmp_path: Path) -> None:
    graph = network(
        Input(name="x", shape=(2, 6, 4), levels=4), conv("c", "x", 3, 2, padding=(1, 1)), spiking("n", "c")
    )
    x = np.random.default_rng(1).integers(0, 5, (8, 1, 2, 6, 4))
    model = Model(graph, calibration=x)
    lowered = SPECK2F.lower(model, x, Options())
    write_artifact(tmp_path / "made", model, lowered, SPECK2F.emit(lowered), SPECK2F.checker, force=False)
    shutil.copytree(tmp_path / "made", tmp_path / "copy")
    shutil.rmtree(tmp_path / "made")
    np.savez(tmp_path / "x.npz", x=x[:, 0])
    verified = snncc("verify", tmp_path / "copy", "--data", tmp_path / "x.npz", "--json")
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["equivalent"] is True
    assert [(layer["compared"], layer["mismatches"]) for layer in found["layers"]] == [(8 * 3 * 6 * 4, 0)]
    simulated = snncc("simulate", tmp_path / "copy", "--data", tmp_path / "x.npz", "--json")
    assert simulated.returncode == 0, simulated.stderr
    assert json.loads(simulated.stdout)["total"]["events"] == int(x.sum())
    reported = snncc("report", tmp_path / "copy", "--data", tmp_path / "x.npz", "--html", tmp_path / "r.html")
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
