"""The rooms of the PyTorch frontend: what may import what, and that the names users write stay where they are."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import snncc_torch

ROOT = Path(snncc_torch.__path__[0])
# Later ones may import earlier ones.
ORDER = (
    "ops", "masked", "nn", "registry", "sfa_neurons", "neurons", "operations", "tracing", "comparing", "capturing", "files",
    "plugin",
)  # fmt: skip
ROOMS = sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").exists())


def modules() -> Iterator[tuple[str, Path]]:
    """Every file with its dotted name."""
    for path in sorted(ROOT.rglob("*.py")):
        yield (
            ".".join(("snncc_torch", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
                ".__init__"
            ),
            path,
        )


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports at module level."""
    names = {name for name, _ in modules()}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "snncc_torch":
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in names else str(node.module)


def test_imports_go_from_later_rooms_to_earlier_ones() -> None:
    seen = 0
    for name, path in modules():
        part = name.split(".")[1:2]
        if not part or part == ["zoo"]:
            continue
        for other in imported(path):
            seen += 1
            assert ORDER.index(other.split(".")[1]) <= ORDER.index(part[0]), f"{name} imports {other}"
    assert seen > 80


def test_no_circle_at_module_level() -> None:
    waiting = {name: set(imported(path)) - {name} for name, path in modules()}
    while waiting:
        free = {name for name, needs in waiting.items() if not needs & set(waiting)}
        assert free, f"a circle among {sorted(waiting)}"
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_every_room_says_what_is_in_it() -> None:
    assert ROOMS == ["comparing", "files", "neurons", "operations", "tracing", "zoo"]
    for room in ROOMS:
        assert len(str(import_module(f"snncc_torch.{room}").__doc__).splitlines()) >= 3
    assert not set(ROOMS) & set(snncc_torch.__all__) - {"zoo"}, "a room must not hide a function"


@pytest.mark.parametrize("name", snncc_torch.__all__)
def test_a_public_name_is_found_without_importing_its_home(name: str) -> None:
    code = f"import snncc_torch, sys; assert 'torch' not in sys.modules; print(snncc_torch.{name}.__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith(name)


def test_what_files_on_disk_name_stays_where_it_was() -> None:
    """Pickled modules name their classes, traced programs their operator."""
    neuron = pickle.dumps(snncc_torch.nn.SFA(4))
    assert b"snncc_torch.nn" in neuron
    assert str(import_module("snncc_torch.ops").neuron._opoverload) == "snncc.neuron.default"
    assert torch.ops.snncc.neuron.default is not None
    registered = import_module("snncc_torch.registry").register_neuron
    assert registered is snncc_torch.register_neuron
    assert import_module("snncc_torch.sfa_neurons") is snncc_torch.sfa_neurons
