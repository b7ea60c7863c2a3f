"""The chip loader, key by key; shipped chips; positions on a mesh by enumeration."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snncc_loihi
import snncc_sim
import snncc_speck
from snncc.errors import UsageError
from snncc.hw.mesh import Bound, Mesh
from snncc.hw.quantity import Quantity
from snncc.hw.spec import ChipSpec, load_chip

FOLDERS = tuple(Path(next(iter(m.__path__))) for m in (snncc_speck, snncc_loihi, snncc_sim))
FILES = {p.stem: p for folder in FOLDERS for p in sorted(folder.glob("*.toml"))}

SMALL = """\
schema_version = 1
name = "small"
description = "two cores"
backend = "sim"

[limits]
source = "made up for limits"
weight_bits = 8
state_bits = 16

[abilities]
source = "made up for abilities"
clocked = true
windows = true
second_accumulator = true
clips_counts = true
leak_between_timesteps = true
hard_reset = true
soft_reset = true
lower_clamp = true
start_values = true
reads_membranes = false

[costs.synop_energy_pj]
value = 2.0
low = 1.0
high = 3.0
source = "made up"
grade = "assumed"

[[core_kinds]]
ids = [1, 0]

[core_kinds.resources.kernel_words]
limit = 64
source = "made up for kernels"
grade = "vendor"

[core_kinds.resources.neuron_words]
limit = 32
source = "made up for neurons"
grade = "fitted"
"""


def load(tmp_path: Path, text: str) -> ChipSpec:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return load_chip(path)


def refusals(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert {p.code for p in error.value.problems} == {"SNNC-U009"}
    return [str(p) for p in error.value.problems]


def required() -> Iterator[tuple[str, str]]:
    """(line, path) of each key that a chip file must have."""
    table = ""
    for line in SMALL.splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif " = " in line and not line.startswith("ids"):
            yield line, (table.replace("core_kinds.", "core_kinds.0.") + line.partition(" = ")[0])


@pytest.mark.parametrize(("line", "key"), list(required()), ids=lambda v: v.partition(" = ")[0])
def test_every_key_is_needed(tmp_path: Path, line: str, key: str) -> None:
    assert refusals(tmp_path, SMALL.replace(line + "\n", "", 1)) == [
        f"chip file small.toml: {key}: Field required."
    ]


@pytest.mark.parametrize(("old", "new", "text"), [
    ("schema_version = 1", "schema_version = 2", "schema_version: Input should be 1, got 2."),
    ('name = "small"', "name = 3", "name: Input should be a valid string, got 3."),
    ("weight_bits = 8", "weight_bits = 0", "limits.weight_bits: Input should be greater than or equal to 2, got 0."),
    ("weight_bits = 8", "weight_bits = 65", "limits.weight_bits: Input should be less than or equal to 24, got 65."),
    ("weight_bits = 8", "weight_bits = true", "limits.weight_bits: Input should be a valid integer, got True."),
    ("clocked = true", "clocked = 1", "abilities.clocked: Input should be a valid boolean, got 1."),
    ("clocked = true", "clocked = true\nfast = true", "abilities.fast: Extra inputs are not permitted, got True."),
    ("ids = [1, 0]", "ids = [1, 0.5]", "core_kinds.0.ids.1: Input should be a valid integer, got 0.5."),
    ("ids = [1, 0]", 'ids = "1"', "core_kinds.0.ids: Input should be a valid tuple, got 1."),
    ("ids = [1, 0]", "ids = [1, 1]", "a core id stands twice, got [1]."),
], ids=lambda v: v[:30])  # fmt: skip
def test_values_are_of_their_type(tmp_path: Path, old: str, new: str, text: str) -> None:
    assert refusals(tmp_path, SMALL.replace(old, new, 1)) == [f"chip file small.toml: {text}"]


@pytest.mark.parametrize(("value", "low", "high", "fits"), [
    (2.0, 2.0, 2.0, True), (0.0, 0.0, 0.0, True), (2.0, 0.0, 9.0, True),
    (2.0, 2.5, 9.0, False), (2.0, 1.0, 1.5, False), (2.0, -1.0, 3.0, False), (-1.0, -1.0, 0.0, False),
    (2.0, 1.0, 1e9, True), (2.0, 1.0, 1.1e9, False), (2.0, 1.0, float("inf"), False), (float("nan"), 1.0, 3.0, False),
])  # fmt: skip
def test_a_band_holds_its_value_and_nothing_below_zero(
    tmp_path: Path, value: float, low: float, high: float, fits: bool
) -> None:
    text = SMALL.replace("value = 2.0\nlow = 1.0\nhigh = 3.0", f"value = {value}\nlow = {low}\nhigh = {high}")
    if fits:
        energy = load(tmp_path, text).costs.synop_energy_pj
        assert energy is not None
        assert (energy.value, energy.low, energy.high) == (value, low, high)
        return
    (told,) = refusals(tmp_path, text)
    assert told.startswith("chip file small.toml: costs.synop_energy_pj: needs 0 <= low <= value <= high")


@pytest.mark.parametrize("name", list(Quantity.model_fields))
def test_a_number_without_its_band_source_or_grade_is_none(tmp_path: Path, name: str) -> None:
    line = next(x for x in SMALL[SMALL.index("synop_energy_pj") :].splitlines() if x.startswith(f"{name} ="))
    head, tail = SMALL.split("[costs.synop_energy_pj]\n")
    assert refusals(tmp_path, head + "[costs.synop_energy_pj]\n" + tail.replace(line + "\n", "", 1)) == [
        f"chip file small.toml: costs.synop_energy_pj.{name}: Field required."
    ]


def test_what_is_no_toml_says_where(tmp_path: Path) -> None:
    (told,) = refusals(tmp_path, SMALL + "\n[limits]\n")
    assert told.startswith("chip file small.toml: no valid TOML, got Cannot declare ('limits',) twice")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError) as error:
        load_chip(path)
    assert str(error.value).startswith("[SNNC-U009] chip file binary.toml: no valid TOML, got 'utf-8' codec")


def test_cores_stand_by_their_number_with_what_their_kind_holds(tmp_path: Path) -> None:
    more = SMALL + '\n[[core_kinds]]\nids = [2]\nerrata = ["slow"]\n[core_kinds.resources.slots]\n'
    chip = load(tmp_path, more + 'limit = 8\nsource = "made up"\ngrade = "assumed"\n')
    assert {
        i: ({r: b.limit for r, b in kind.resources.items()}, kind.errata) for i, kind in chip.cores.items()
    } == {
        0: ({"kernel_words": 64, "neuron_words": 32}, ()),
        1: ({"kernel_words": 64, "neuron_words": 32}, ()),
        2: ({"slots": 8}, ("slow",)),
    }
    assert list(chip.cores) == [0, 1, 2]
    assert (chip.mesh, chip.mesh_costs, chip.errata, chip.not_modelled) == (None, None, (), ())


# ---- shipped chips ------------------------------------------------------------------------------


def quantities(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table of a chip file that is a physical number."""
    if isinstance(value, dict):
        if "grade" in value and "value" in value:
            yield path, value
        for key, inner in value.items():
            yield from quantities(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from quantities(inner, f"{path}.{i}")


CHIPS = {name: path for name, path in FILES.items() if "abilities" in tomllib.loads(path.read_text())}


def test_the_chips_that_are_shipped() -> None:
    assert {"speck2f", "loihi1", "loihi2", "sim", "tianjic"} <= set(CHIPS)


@pytest.mark.parametrize("name", list(CHIPS))
def test_a_shipped_chip_names_its_unit_and_its_source_everywhere(name: str) -> None:
    data = tomllib.loads(CHIPS[name].read_text())
    known = {short for short, _ in data.get("references", [])}
    for path, quantity in quantities(data):
        assert path.rpartition("_")[2] in ("pj", "ns", "mw", "mhz"), path
        assert len(quantity["source"]) > 10, path
        assert quantity["low"] <= quantity["value"] <= quantity["high"], path
        cited = {part.partition("]")[0] for part in quantity["source"].split("[")[1:]}
        assert cited <= known, path
    chip = load_chip(CHIPS[name])
    assert chip.name == name
    assert ChipSpec.model_validate_json(chip.model_dump_json()) == chip


# ---- mesh ---------------------------------------------------------------------------------------


def mesh(chips: int, columns: int, rows: int, cores: int) -> Mesh:
    return Mesh(source="made up", chips=chips, columns=columns, rows=rows, cores_per_router=cores)


@pytest.mark.parametrize(("chips", "columns", "rows", "cores"), [(1, 1, 1, 1), (2, 3, 2, 4), (3, 2, 5, 1)])
def test_cores_fill_routers_routers_fill_rows_and_chips_stand_side_by_side(
    chips: int, columns: int, rows: int, cores: int
) -> None:
    made = mesh(chips, columns, rows, cores)
    assert made.cores_per_chip == columns * rows * cores
    expected = [
        (chip * columns + x, y)
        for chip in range(chips)
        for y in range(rows)
        for x in range(columns)
        for _ in range(cores)
    ]
    assert [made.position(core) for core in range(chips * made.cores_per_chip)] == expected


def test_a_bound_has_a_source() -> None:
    fields = {"limit": 3, "source": "made up", "grade": "vendor"}
    assert Bound.model_validate(fields).limit == 3
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Bound.model_validate(fields | {"limit": -1})
    for name in fields:
        with pytest.raises(ValueError, match="Field required"):
            Bound.model_validate({k: v for k, v in fields.items() if k != name})


def test_a_core_holds_something_of_each_resource(tmp_path: Path) -> None:
    text = FILES["loihi2"].read_text()
    head, tail = text.split("neurons]\nlimit = ", 1)
    none = head + "neurons]\nlimit = 0 # " + tail
    (told,) = refusals(tmp_path, none)
    assert told.startswith("chip file small.toml: core")
    assert "a core that holds none of it could hold no network" in told
