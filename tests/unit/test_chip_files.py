"""Chip descriptions: the strict loader, and the figures of speck2f against the datasheet's table."""

from __future__ import annotations

from pathlib import Path

import pytest

import snncc_loihi
import snncc_speck
from snncc.errors import UsageError
from snncc.hw.spec import load_chip
from snncc_loihi.target import LOIHI2
from snncc_speck import SPECK2F

TOML = (Path(snncc_speck.__file__).parent / "speck2f.toml").read_text()


def test_speck2f_has_the_datasheets_memories() -> None:
    cores = SPECK2F.chip.cores
    assert list(cores) == list(range(9))
    words = {r: [c.resources[r].limit // 1024 for c in cores.values()] for r in cores[0].resources}
    assert words == {
        "kernel_words": [16, 16, 16, 32, 32, 64, 64, 16, 16],
        "neuron_words": [64, 64, 64, 32, 32, 16, 16, 16, 16],
    }
    times = [c.synop_time_ns for c in cores.values()]
    assert all(t is not None and t.source and t.low <= t.value <= t.high for t in times)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "kernel_max = 16",
            "kernel_max = 16\nkernel_min = 1",
            "limits.kernel_min: Extra inputs are not permitted, got 1",
        ),
        (
            "kernel_max = 16",
            'kernel_max = "16"',
            "limits.kernel_max: Input should be a valid integer, got 16",
        ),
        ("low = 0.37", "low = 0.47", "costs.static_power_mw: needs 0 <= low <= value <= high"),
        (
            'grade = "fitted"',
            'grade = "guessed"',
            "costs.synop_energy_pj.grade: Input should be 'measured', 'vendor', 'estimate', 'fitted', 'simulated' or 'assumed', got guessed",
        ),
        ("fan_out = 2", "fan_out = ", "no valid TOML"),
        (
            "ids = [7, 8]",
            "ids = [7, 0]",
            "chip file chip.toml: a core id stands twice, got [0].",
        ),
        (
            "ids = [7, 8]\n",
            "",
            "chip file chip.toml: cores without ids are all cores of a mesh.",
        ),
        (
            "limit = 16384",
            "limit = 16384.5",
            "core_kinds.0.resources.kernel_words.limit: Input should be a valid integer, got 16384.5.",
        ),
        (
            "ids = [7, 8]",
            "ids = [7, 8]\nkernel_words = 1",
            "core_kinds.5.kernel_words: Extra inputs are not permitted, got 1.",
        ),
    ],
)
def test_a_wrong_key_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "chip.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        load_chip(path)
    assert error.value.code == "SNNC-U009"
    assert any(message in str(p) for p in error.value.problems)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("[0, 1, 1024]", "a core id lies outside the mesh of 1024 cores."),
        ("[-1]", "a core id lies outside the mesh of 1024 cores."),
        ("[0, 1, 1023]", None),
    ],
)
def test_cores_of_a_mesh_may_have_numbers(tmp_path: Path, ids: str, message: str | None) -> None:
    toml = (Path(snncc_loihi.__file__).parent / "loihi2.toml").read_text()
    path = tmp_path / "chip.toml"
    path.write_text(toml.replace("[[core_kinds]]", f"[[core_kinds]]\nids = {ids}"))
    if message is None:
        assert list(load_chip(path).cores) == [0, 1, 1023]
        return
    with pytest.raises(UsageError) as error:
        load_chip(path)
    assert str(error.value) == f"[SNNC-U009] chip file chip.toml: {message}"


def test_every_core_of_a_mesh_is_alike_without_numbers() -> None:
    assert list(LOIHI2.chip.cores) == list(range(1024))
    assert len({id(kind) for kind in LOIHI2.chip.cores.values()}) == 1


def test_all_wrong_keys_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(
        TOML.replace("weight_bits = 8\n", "")
        .replace("state_bits = 16", "state_bits = 16.5")
        .replace('grade = "measured"', "", 1)
    )
    with pytest.raises(UsageError) as error:
        load_chip(path)
    assert len(error.value.problems) == 3


@pytest.mark.parametrize("bits", [1, 33])
def test_an_accumulator_has_a_width_that_executors_hold(tmp_path: Path, bits: int) -> None:
    """Sums are held in 32 bits everywhere; a wider accumulator would be claimed and never had."""
    path = tmp_path / "chip.toml"
    path.write_text(TOML.replace("state_bits = 16", f"state_bits = 16\naccumulator_bits = {bits}"))
    with pytest.raises(UsageError) as error:
        load_chip(path)
    assert [p.code for p in error.value.problems] == ["SNNC-U009"]
    assert "accumulator_bits" in str(error.value)
    assert f"got {bits}" in str(error.value)
