"""Artifacts of the small network, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import clinets
from snncc import api
from snncc.cli.main import cli


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``exact/``, ``free/`` and ``x.npz``; nobody writes to it."""
    path = tmp_path_factory.mktemp("artifacts")
    clinets.write_data(path / "x.npz")
    for schedule in ("exact", "free"):
        api.compile(clinets.model(), target="speck2f", out=path / schedule, schedule=schedule)
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    """``run(*args)`` calls the command line in this process."""

    def call(*args: object, **env: str) -> Result:
        return CliRunner(env={"SNNCC_DEBUG": None, **env}).invoke(cli, [str(a) for a in args])

    return call


@pytest.fixture
def run_json(run: Callable[..., Result]) -> Callable[..., tuple[int, Any]]:
    """Exit code and document of a ``--json`` run; nothing may stand beside the document."""

    def call(*args: object) -> tuple[int, Any]:
        result = run(*args, "--json")
        assert result.stderr == ""
        return result.exit_code, json.loads(result.stdout)

    return call
