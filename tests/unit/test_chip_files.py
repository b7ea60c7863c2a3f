"""Chip descriptions: the strict loader, and the figures of speck2f against the datasheet's table."""

from __future__ import annotations

from pathlib import Path

import pytest

import snncc_speck
from snncc.errors import UsageError
from snncc.hw.spec import load_chip
from snncc_speck import SPECK2F

TOML = (Path(snncc_speck.__file__).parent / "speck2f.toml").read_text()


def test_speck2f_has_the_datasheets_memories() -> None:
    cores = SPECK2F.chip.cores
    assert [c.id for c in cores] == list(range(9))
    assert [c.kernel_words // 1024 for c in cores] == [16, 16, 16, 32, 32, 64, 64, 16, 16]
    assert [c.neuron_words // 1024 for c in cores] == [64, 64, 64, 32, 32, 16, 16, 16, 16]
    times = [c.synop_time_ns for c in cores]
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
        ("low = 0.37", "low = 0.47", "costs.static_power_mw: Value error, needs 0 <= low <= value <= high"),
        (
            'grade = "fitted"',
            'grade = "guessed"',
            "costs.synop_energy_pj.grade: Input should be 'measured', 'vendor', 'fitted', 'simulated' or 'assumed', got guessed",
        ),
        ("fan_out = 2", "fan_out = ", "no valid TOML"),
        ("ids = [7, 8]", "ids = [7, 0]", "a core id stands twice"),
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
