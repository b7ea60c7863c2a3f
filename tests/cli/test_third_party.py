"""A package as somebody else writes it, installed from outside: chip, backend, pass, codes, frontend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Snncc = Callable[..., subprocess.CompletedProcess[str]]
PACKAGE = Path(__file__).parents[1] / "thirdparty"
CODES = ["ACME-M001", "ACME-C001"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, built and unpacked where nothing of ours stands."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *offline, str(PACKAGE)], check=True, capture_output=True, text=True)
    return target


@pytest.fixture(scope="module")
def snncc(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Snncc:
    """``snncc(*args)`` runs the command line where the package is installed, away from this folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def call(*args: object, path: str = str(site)) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snncc.cli", *map(str, args)]
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=env)

    return call


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, one whose kernel has a stride, one with too many layers; and inputs for all."""
    folder = tmp_path_factory.mktemp("nets")
    rng = np.random.default_rng(0)

    def weights(*sizes: int) -> list[Any]:
        pairs = zip(sizes[1:], sizes, strict=False)
        return [(rng.integers(-4, 9, pair) / 8).tolist() for pair in pairs]

    net = {"shape": [2, 4, 6], "levels": 1, "kernel": 2, "stride": 1, "layers": weights(30, 7, 5)}
    (folder / "net.acme").write_text(json.dumps(net))
    (folder / "strided.acme").write_text(json.dumps({**net, "stride": 2, "layers": weights(120, 5)}))
    (folder / "deep.acme").write_text(json.dumps({**net, "layers": weights(30, *(4,) * 8)}))
    np.savez(folder / "x.npz", x=rng.integers(0, 2, (20, 2, 4, 6)))
    return folder


@pytest.fixture(scope="module")
def compiled(snncc: Snncc, nets: Path) -> Path:
    out = nets / "out"
    args = (nets / "net.acme", "--target", "acme1", "--calib", nets / "x.npz", "-o", out)
    assert snncc("compile", *args).returncode == 0
    return out


def test_its_chip_is_listed_with_its_source(snncc: Snncc) -> None:
    listed = json.loads(snncc("targets", "--json").stdout)["targets"]
    assert [t["description"] for t in listed if t["name"] == "acme1"] == [
        "Acme One: eight slices, a layer each, kernels in either direction"
    ]
    shown = json.loads(snncc("targets", "show", "acme1", "--json").stdout)
    (kind,) = shown["core_kinds"]
    assert (kind["ids"], kind["resources"]["layers"]["limit"]) == (list(range(8)), 1)


def test_its_pass_lowers_what_the_core_does_not(snncc: Snncc, nets: Path) -> None:
    files = (nets / "net.acme", "--calib", nets / "x.npz")
    refused = snncc("check", *files, "--target", "sim")
    assert refused.returncode == 1
    assert "error[SNNC-M012] %spread: no pass lowers conv_transpose2d to spikes yet." in refused.stderr
    assert snncc("check", *files, "--target", "acme1").returncode == 0


def test_what_it_compiles_is_verified_and_costed(snncc: Snncc, nets: Path, compiled: Path) -> None:
    files = (compiled, "--data", nets / "x.npz", "--json")
    verified = json.loads(snncc("verify", *files).stdout)
    assert verified["equivalent"] is True
    assert [layer["name"] for layer in verified["layers"]][:2] == ["s", "n0"]
    assert json.loads((compiled / "target" / "slices.json").read_text())[:2] == ["s", "n0"]
    passes = json.loads((compiled / "certificate.json").read_text())["passes"]
    assert [p["spec"] for p in passes][:2] == ["mirrored", "canonical-layout"]
    assert snncc("simulate", *files).returncode == 0
    tiles = json.loads((compiled / "mapped.json").read_text())["tiles"]
    assert [t["core"] for t in tiles] == list(range(len(tiles)))
    listed = snncc("check", nets / "net.acme", "--target", "acme1", "--calib", nets / "x.npz").stdout
    assert f"Layers on acme1, schedule exact: {len(tiles)} of 8 cores, 1 chip" in listed
    assert "limits of a core: layers 1" in listed


def test_a_user_may_edit_its_chip_file(snncc: Snncc, nets: Path) -> None:
    text = (PACKAGE / "snncc_acme" / "acme1.toml").read_text()
    (nets / "small.toml").write_text(
        text.replace("ids = [0, 1, 2, 3, 4, 5, 6, 7]", "ids = [5]").replace("acme1", "small")
    )
    files = (nets / "net.acme", "--calib", nets / "x.npz")
    found = snncc("check", *files, "--chip", nets / "small.toml")
    assert found.returncode == 3
    assert (
        "error[ACME-C001] acme: has more layers than slices, got 3, limit 1. Try fewer layers.\n"
    ) in found.stderr


def test_its_problems_have_its_codes_and_the_exit_codes_of_their_classes(snncc: Snncc, nets: Path) -> None:
    x = ("--target", "acme1", "--calib", nets / "x.npz", "-o", nets / "no")
    strided, deep = (snncc("compile", nets / f"{name}.acme", *x) for name in ("strided", "deep"))
    assert strided.returncode == 1
    assert (
        "error[ACME-M001] %spread: spreads with a stride, got (2, 2). "
        "Try upsampling and a convolution in its place.\n"
    ) in strided.stderr
    assert deep.returncode == 3
    assert "error[ACME-C001] acme: has more layers than slices, got 9, limit 8. " in deep.stderr
    assert not (nets / "no").exists()


def test_its_codes_are_explained(snncc: Snncc) -> None:
    assert snncc("explain", "ACME-C001").stdout.startswith("ACME-C001: too many layers (exit code 3)\n\n")
    known = [c["code"] for c in json.loads(snncc("explain", "--json").stdout)["codes"]]
    assert known[-2:] == CODES


def test_its_objects_are_captured(site: Path, nets: Path, snncc: Snncc) -> None:
    code = (
        "import json, snncc; from snncc_acme.nets import Net; "
        f"net = Net(**json.load(open({str(nets / 'net.acme')!r}))); "
        f"print(snncc.export(net, None, {str(nets / 'net.snnc')!r}))"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert made.stdout == f"{nets / 'net.snnc'}\n"
    files = (nets / "net.snnc", "--calib", nets / "x.npz")
    assert snncc("check", *files, "--target", "acme1").returncode == 0


def test_the_suffixes_of_its_files_are_known(snncc: Snncc, nets: Path) -> None:
    (nets / "net.docx").write_bytes(b"x")
    found = snncc("check", nets / "net.docx", "--target", "acme1").stderr.splitlines()[0]
    known = found.partition("no frontend reads this kind of file, got .docx, limit ")[2]
    assert sorted(known.removesuffix(".").split(", ")) == [".acme", ".pt", ".pt2", ".pth", ".snnc"]


@pytest.mark.parametrize(
    ("entries", "args", "message"),
    [
        (
            "[snncc.targets]\nacme1 = other.target:ACME1\n",
            ("targets", "show", "acme1"),
            "error[SNNC-U008] targets 'acme1': two packages register this name, got ",
        ),
        (
            "[snncc.backends]\nacme = other.target:acme\n",
            ("check", "net.acme", "--chip", "acme1.toml"),
            "error[SNNC-U008] backends 'acme': two packages register this name, got ",
        ),
        (
            "[snncc.errors]\nother = other_codes:CODES\n",
            ("explain", "ACME-C001"),
            "error[SNNC-U008] errors 'ACME-C001': two packages register this name, got ",
        ),
    ],
)
def test_a_name_that_another_package_claims_too(
    entries: str, args: tuple[str, ...], message: str, snncc: Snncc, site: Path, nets: Path, tmp_path: Path
) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    (tmp_path / "other_codes.py").write_text(
        "from snncc.errors import CodeInfo, ModelError\nCODES = {'ACME-C001': CodeInfo(ModelError, 'a', 'b')}\n"
    )
    (tmp_path / "acme1.toml").write_text((PACKAGE / "snncc_acme" / "acme1.toml").read_text())
    (tmp_path / "net.acme").write_text((nets / "net.acme").read_text())
    here = [str(tmp_path / a) if (tmp_path / a).exists() else a for a in args]
    found = snncc(*here, path=f"{site}{os.pathsep}{tmp_path}")
    assert found.returncode == 2
    assert message in found.stderr
