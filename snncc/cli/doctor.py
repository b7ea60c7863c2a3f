"""``snncc doctor``: what is installed, found out without importing any of it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata

from snncc.cli.base import command
from snncc.cli.output import print_json, print_table, say
from snncc.tools import Finding

# The real samna is a compiled library of many megabytes; PyPI's is a script of a few files that runs pip
# when it is imported (docs/chips.md#vendor-software). Neither is ever imported here.
_LIBRARY_SUFFIXES = (".so", ".pyd", ".dylib")


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in found.group().split(".")) if found else ()


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding(
        "python",
        platform.python_version(),
        "ok" if ok else "unusable",
        "snncc itself",
        "" if ok else "needs 3.11 or newer",
    )


def _package(name: str, purpose: str, least: str = "", install: str = "") -> Finding:
    version = _installed(name)
    if version is None:
        return Finding(name, None, "missing", purpose, install and f"pip install '{install}'")
    if least and _release(version) < _release(least):
        return Finding(name, version, "unusable", purpose, f"needs {least} or newer")
    return Finding(name, version, "ok", purpose)


def _samna() -> Finding:
    purpose = "deploying to a Speck board"
    version = _installed("samna")
    if version is None:
        return Finding(
            "samna",
            None,
            "missing",
            purpose,
            "from SynSense's own index; compiling and verifying need it not",
        )
    files = metadata.files("samna") or []
    if any(
        file.name.endswith(suffix) or f"{suffix}." in file.name
        for file in files
        for suffix in _LIBRARY_SUFFIXES
    ):
        return Finding("samna", version, "ok", purpose)
    stub = f"this is PyPI's stub ({len(files)} files, no library), which runs pip when it is imported"
    note = f"{stub}; install samna from SynSense's own index"
    return Finding("samna", version, "unusable", purpose, note)


def _sinabs() -> Finding:
    purpose = "comparing with sinabs' layers"
    version = _installed("sinabs")
    if version is None:
        return Finding(
            "sinabs",
            None,
            "missing",
            purpose,
            "pip install --no-deps sinabs nir nirtorch, then pbr h5py; `make oracles` does it apart",
        )
    return Finding("sinabs", version, "ok", purpose, "sinabs.backend.dynapcnn imports samna, see there")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    lambda: _package("numpy", "everything", "1.26"),
    lambda: _package("numba", "the simulator's kernels", "0.60"),
    lambda: _package("torch", "reading PyTorch models, snncc.export", "2.10", "snncc[torch]"),
    lambda: _package("spikingjelly", "reading modules that hold its neurons"),
    _sinabs,
    _samna,
)


@command("doctor")
def doctor(as_json: bool) -> int:
    """Say which optional tools can be used here; imports none of them."""
    from snncc import plugins

    found = [check() for check in (*CHECKS, *plugins.tool_checks())]
    if as_json:
        print_json({"tools": [asdict(finding) for finding in found]})
        return 0
    from snncc.reporting.tables import Table, columns

    rows = tuple((f.name, f.version or "–", f.status, f.purpose, f.note) for f in found)
    bad = frozenset(i for i, f in enumerate(found) if f.status == "unusable")
    print_table(Table("Tools", columns("tool", "version", "status", "needed for", "note"), rows, marked=bad))
    say("Only Python, numpy and numba are needed to verify, simulate and report an artifact.")
    return 0
