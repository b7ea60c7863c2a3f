"""The folders are the architecture: what may import what, and how plugins register."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from snncc import plugins
from snncc.errors import UsageError

ROOT = Path(__file__).parents[2]
OUTSIDE = ("torch", "onnx", "h5py", "samna", "sinabs", "snncc_torch", "snncc_speck", "snncc_sim")


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports at module level or anywhere inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


# `snncc.export` is a convenience that calls the PyTorch frontend, where torch is at hand anyway.
LAZY_TORCH = {"snncc/api.py": {"torch", "snncc_torch"}}


def test_core_imports_no_frontend_backend_or_simulator() -> None:
    files = sorted((ROOT / "snncc").rglob("*.py"))
    assert len(files) > 30
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        assert imported(path) & set(OUTSIDE) <= LAZY_TORCH.get(name, set()), name


def test_nothing_of_torch_is_loaded_by_the_whole_core() -> None:
    code = (
        "import pkgutil, importlib, sys, snncc\n"
        "for m in pkgutil.walk_packages(snncc.__path__, 'snncc.'): importlib.import_module(m.name)\n"
        f"print([m for m in {OUTSIDE!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("backends/snncc_speck", set()),
        ("simulators/snncc_sim", set()),
        ("frontends/snncc_torch", {"torch", "snncc_torch"}),
    ],
)
def test_plugins_import_only_the_core(folder: str, allowed: set[str]) -> None:
    own = {Path(folder).name}
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert imported(path) & set(OUTSIDE) <= own | allowed, path.name


def test_what_is_shown_and_stored_knows_no_plugins() -> None:
    """The chip comes with the artifact, what only a backend knows is handed in."""
    below = [*(ROOT / "snncc" / "reporting").glob("*.py")]
    below += [ROOT / "snncc" / f"{name}.py" for name in ("artifact", "store", "results", "publish")]
    assert len(below) > 10
    for path in below:
        names = {n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
        assert not names & {"snncc.plugins", "snncc.api"}, path.name


def test_aliases_stand_for_one_target() -> None:
    assert plugins.find_target("speck") is plugins.find_target("speck2f")
    assert plugins.find_target("speck").name == "speck2f"


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        plugins.find_target("loihi9")
    assert (
        str(error.value)
        == "[SNNC-U004] --target: no such target, got loihi9. Try one of loihi, loihi1, loihi2, sim, speck, speck2e, speck2f, tianjic."
    )


def test_two_packages_may_not_claim_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [EntryPoint("speck", "a:X", "snncc.targets"), EntryPoint("speck", "b:X", "snncc.targets")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: twice)
    with pytest.raises(UsageError) as error:
        plugins.find_target("speck")
    assert (
        str(error.value) == "[SNNC-U008] targets 'speck': two packages register this name, got a:X and b:X."
    )
