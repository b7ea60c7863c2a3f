"""The folders are the architecture: what may import what, and how plugins register."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import networkx as nx
import pytest

from snncc import plugins
from snncc.errors import UsageError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Every package that a wheel holds, by name: a new one is under the rules as soon as it is built.
PACKAGES = {Path(p).name: ROOT / p for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}

# What a package may import beyond the standard library, the core's dependencies, and itself.
MAY = {
    "snncc": {"markupsafe", "pydantic_core"},  # parts of jinja2 and pydantic
    "snncc_torch": {"snncc", "torch"},
    "snncc_speck": {"snncc"},
    "snncc_loihi": {"snncc", "h5py"},
    "snncc_sim": {"snncc"},
}
# Scripts that run in Lava's own environment, where there is no snncc.
LAVA = ROOT / "backends/snncc_loihi/lava"
LAVA_MAY = {"lava", "numpy", "safetensors", *(p.stem for p in LAVA.iterdir())}

# The rooms of the core, files and folders, from the ground up: each may import those on lower floors.
FLOORS = (
    "errors display publish arrays",
    "safeio tools",
    "ir",
    "hw",
    "data model",
    "graphfile mapping analysis",
    "passes simulation",
    "metrics",
    "compilation",
    "artifact",
    "store equivalence results",
    "reporting",
    "plugins",  # nothing below knows what is installed: what only a backend knows is handed in
    "session",
    "api",
    "cli __init__",
)


@cache
def modules() -> dict[str, Path]:
    """Every file of every package, by its dotted name."""
    found = {}
    for folder in PACKAGES.values():
        for path in folder.rglob("*.py"):
            if LAVA not in path.parents:
                dotted = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
                found[dotted.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """What a file imports, with the line: at the top, inside functions, for types only, or by name."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from ((a.name, node.lineno) for a in node.names)
            case ast.ImportFrom(module=str(base), level=0):
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield whole if whole in modules() else base, node.lineno
            case ast.ImportFrom():
                raise AssertionError(f"{path}:{node.lineno}: a relative import hides where it leads")
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(base)), *_]
            ):
                if name in ("import_module", "__import__"):
                    yield base, node.lineno


def foreign(path: Path, allowed: set[str]) -> list[str]:
    """Imports of ``path`` that are neither allowed nor of the standard library."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imports(path)
        if (top := name.partition(".")[0]) not in allowed and top not in sys.stdlib_module_names
    ]


@cache
def dependencies() -> set[str]:
    """Import names of what the core needs; they are those of the distributions."""
    return {d.partition(">")[0] for d in PROJECT["project"]["dependencies"]}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_itself_the_core_and_what_it_may(package: str) -> None:
    """No backend, frontend, simulator or torch in the core; no torch and no other plugin in a plugin."""
    files = [p for m, p in modules().items() if m.partition(".")[0] == package]
    assert files
    allowed = dependencies() | {package} | MAY[package]
    assert [wrong for p in files for wrong in foreign(p, allowed)] == []


def test_scripts_for_lavas_environment_import_nothing_of_snncc() -> None:
    assert [wrong for p in LAVA.rglob("*.py") for wrong in foreign(p, LAVA_MAY)] == []


def room(module: str) -> str:
    """The file or folder of a package that a module is, or stands in."""
    return [*module.split("."), "__init__"][1]


@cache
def arrows() -> dict[tuple[str, str], str]:
    """Imports among the packages' own modules, each with the place where it stands."""
    found = {}
    for module, path in modules().items():
        for name, line in imports(path):
            while name and name not in modules():
                name = name.rpartition(".")[0]
            if name and name != module:
                found[module, name] = f"{path.relative_to(ROOT)}:{line} imports {name}"
    return found


def test_every_room_of_the_core_stands_on_one_floor() -> None:
    rooms = {room(m) for m in modules() if m.partition(".")[0] == "snncc"}
    assert sorted(" ".join(FLOORS).split()) == sorted(rooms)


def test_no_arrow_of_the_core_leads_to_the_same_floor_or_up() -> None:
    floor = {name: i for i, names in enumerate(FLOORS) for name in names.split()}
    core = [(room(a), room(b), w) for (a, b), w in arrows().items() if a.partition(".")[0] == "snncc"]
    assert [w for a, b, w in core if a != b and floor[b] >= floor[a]] == []


def circles(pairs: set[tuple[str, str]]) -> list[list[str]]:
    graph = nx.DiGraph((a, b) for a, b in pairs if a != b)
    return [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(set(arrows())) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    def inside(module: str) -> str:
        return f"{module.partition('.')[0]}.{room(module)}"

    assert circles({(inside(a), inside(b)) for a, b in arrows()}) == []


def test_nothing_optional_is_loaded_by_the_whole_core() -> None:
    optional = {*PACKAGES, "torch", "h5py", "onnx", "samna", "sinabs", "lava", "mlxtend"} - {"snncc"}
    code = (
        "import pkgutil, importlib, sys, snncc\n"
        "for m in pkgutil.walk_packages(snncc.__path__, 'snncc.'): importlib.import_module(m.name)\n"
        f"print([m for m in {sorted(optional)!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


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
