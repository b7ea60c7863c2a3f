"""Error codes that packages bring: registered by entry point, checked, explained, with their exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result

from snncc import plugins
from snncc.errors import (
    CODES,
    CapacityError,
    CodeInfo,
    InternalError,
    ModelError,
    SnnccError,
    UsageError,
    codes,
    fail,
    problem,
    raise_all,
)
from snncc_sim.target import SIM

Register = Callable[..., None]
TOO_LOUD = CodeInfo(CapacityError, "too loud", "This chip hears 40 dB.")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Makes modules hold the given values and registers each under ``snncc.errors``."""

    def these(**values: Any) -> None:
        for name, value in values.items():
            module = ModuleType(name)
            module.CODES = value  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, name, module)
        points = [EntryPoint(name, f"{name}:CODES", "snncc.errors") for name in values]
        monkeypatch.setattr(metadata, "entry_points", lambda group: points)
        codes.cache_clear()

    yield these
    codes.cache_clear()


def test_a_packages_code_is_raised_with_the_exit_code_of_its_class(register: Register) -> None:
    register(acme={"ACME-C001": TOO_LOUD})
    error = fail("ACME-C001", "%n", "shouts", got="70 dB", limit="40 dB", hint="whispering")
    assert type(error) is CapacityError
    assert str(error) == "[ACME-C001] %n: shouts, got 70 dB, limit 40 dB. Try whispering."
    assert (error.code, error.exit_code) == ("ACME-C001", 3)


def test_own_and_built_in_problems_come_together_and_the_most_basic_decides(register: Register) -> None:
    register(acme={"ACME-C001": TOO_LOUD})
    with pytest.raises(ModelError) as error:
        raise_all([problem("ACME-C001", "%n", "shouts"), problem("SNNC-M007", "%n", "holds NaN")])
    assert [p.code for p in error.value.problems] == ["SNNC-M007", "ACME-C001"]


def test_all_codes_are_those_of_snncc_first(register: Register) -> None:
    register(acme={"ACME-C001": TOO_LOUD}, other={"OTHER-M001": TOO_LOUD})
    assert list(codes()) == [*CODES, "ACME-C001", "OTHER-M001"]


def test_a_package_that_is_on_the_path_twice_is_one(register: Register) -> None:
    same = {"ACME-C001": TOO_LOUD}
    register(acme=same, again=same)
    assert codes()["ACME-C001"] is TOO_LOUD


@pytest.mark.parametrize(
    ("registered", "message"),
    [
        (
            {"a": {"ACME-C001": TOO_LOUD}, "b": {"ACME-C001": CodeInfo(ModelError, "t", "e")}},
            "[SNNC-U008] errors 'ACME-C001': two packages register this name, got a:CODES and b:CODES.",
        ),
        (
            {"a": {"SNNC-M001": CodeInfo(ModelError, "t", "e")}},
            "[SNNC-U008] errors 'SNNC-M001': two packages register this name, got snncc and a:CODES.",
        ),
        (
            {"a": ["ACME-C001"]},
            "[SNNC-U012] entry point snncc.errors 'a': is no mapping of codes, got list.",
        ),
        (
            {"a": {"acme-1": TOO_LOUD}},
            "[SNNC-U012] entry point snncc.errors 'a': holds what is no code, got 'acme-1', limit like ACME-M001.",
        ),
        (
            {"a": {"ACME-C001": "too loud"}},
            "[SNNC-U012] entry point snncc.errors 'a': ACME-C001 is no CodeInfo with a class of snncc.errors, got 'too loud'.",
        ),
        (
            {"a": {"ACME-C001": CodeInfo(SnnccError, "t", "e")}},
            "[SNNC-U012] entry point snncc.errors 'a': ACME-C001 is no CodeInfo with a class of snncc.errors, "
            "got CodeInfo(error=<class 'snncc.errors.SnnccError'>, title='t', explanation='e').",
        ),
    ],
)
def test_what_cannot_be_registered(registered: dict[str, Any], message: str, register: Register) -> None:
    register(**registered)
    with pytest.raises(UsageError) as error:
        codes()
    assert str(error.value) == message


def test_a_code_that_nobody_registers_is_a_bug(register: Register) -> None:
    register()
    with pytest.raises(InternalError) as error:
        problem("ACME-C001", "%n", "shouts")
    assert str(error.value) == (
        "[SNNC-X001] error code ACME-C001: is registered by no installed package. "
        "Try an entry point of the group snncc.errors that holds it."
    )


def test_a_package_that_cannot_be_imported_is_named_and_snnccs_own_codes_work(register: Register) -> None:
    register(a={"acme-1": TOO_LOUD})
    assert fail("SNNC-M007", "%n", "holds NaN").code == "SNNC-M007"


@pytest.mark.parametrize("group", ["targets", "backends", "simulators", "frontends", "tools"])
def test_plugins_that_cannot_be_imported(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [EntryPoint("acme", "snncc_nowhere:ACME", f"snncc.{group}")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: broken)
    find: dict[str, Callable[[], Any]] = {
        "targets": lambda: plugins.find_target("acme"),
        "backends": lambda: plugins.target_of(SIM.chip.model_copy(update={"backend": "acme"})),
        "simulators": lambda: plugins.find_simulator("acme"),
        "frontends": lambda: plugins.find_frontend(".pt"),
        "tools": plugins.tool_checks,
    }
    with pytest.raises(UsageError) as error:
        find[group]()
    assert str(error.value) == (
        f"[SNNC-U012] entry point snncc.{group} 'acme': snncc_nowhere:ACME cannot be loaded, got "
        "ModuleNotFoundError: No module named 'snncc_nowhere'. Try installing the package again, or removing it."
    )


def test_explain_shows_a_packages_codes(register: Register, run: Callable[..., Result]) -> None:
    register(acme={"ACME-C001": TOO_LOUD})
    for code in ("ACME-C001", "acme-c001"):
        assert run("explain", code).stdout == "ACME-C001: too loud (exit code 3)\n\nThis chip hears 40 dB.\n"
    assert run("explain").stdout.split("\n")[-3].split() == ["ACME-C001", "3", "too", "loud"]


def test_explain_of_snnccs_codes_needs_no_package(register: Register, run: Callable[..., Result]) -> None:
    register(acme=None)
    assert run("explain", "M001").exit_code == 0
    assert run("explain", "ACME-C001").stderr == (
        "error[SNNC-U012] entry point snncc.errors 'acme': is no mapping of codes, got NoneType.\n"
    )
