"""An artifact is checked and costed against the chip it holds, whatever the installed description says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import snncc
from cli import clinets
from snncc import api
from snncc.hw.spec import ChipSpec
from snncc.plugins import find_target, target_names


@pytest.fixture(scope="module", params=["speck2f", "loihi2", "tianjic"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / request.param
    api.compile(clinets.model(), target=request.param, out=out)
    return out


def edited(chip: ChipSpec) -> ChipSpec:
    """The chip with other limits, abilities, costs and words."""
    document = json.loads(chip.model_dump_json())
    document["limits"] |= {"state_bits": chip.limits.state_bits - 1, "weight_bits": 3, "threshold_max": 1}
    document["abilities"]["clips_counts"] ^= True
    document |= {"description": "another chip", "errata": ["smells"], "not_modelled": []}
    for costs in (document["costs"], document["mesh_costs"] or {}):
        for quantity in filter(None, costs.values()):
            quantity |= {key: 3 * quantity[key] for key in ("value", "low", "high")}
    for kind in document["core_kinds"]:
        for bound in kind["resources"].values():
            bound["limit"] = 1
    return ChipSpec.model_validate_json(json.dumps(document))


def everything(folder: Path, page: Path) -> tuple[Any, ...]:
    data = api.open_artifact(folder).calibration
    found = snncc.verify(folder, data), snncc.simulate(folder, data).cost.as_dict()
    page.unlink(missing_ok=True)
    return *found, snncc.report(folder, page, data=data).read_text()


def test_an_edited_description_moves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(folder, tmp_path / "page.html")
    assert before[0].equivalent
    target = find_target(folder.name)
    monkeypatch.setitem(target.__dict__, "chip", edited(target.chip))
    after = everything(folder, tmp_path / "page.html")
    assert after == before


def test_the_chip_is_read_back_as_it_was(folder: Path) -> None:
    assert api.open_artifact(folder).chip == find_target(folder.name).chip


@pytest.mark.parametrize("name", sorted(target_names()))
def test_every_description_survives_its_text(name: str) -> None:
    chip = find_target(name).chip
    assert ChipSpec.model_validate_json(chip.model_dump_json()) == chip
