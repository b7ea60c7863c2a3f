"""The papers' networks on the chips: their section of docs/support.md is what a run gives."""

from __future__ import annotations

import pytest

from snncc_torch.zoo import REDUCED
from support_page import PAGE, TARGETS, parts, rows
from zoo_on_chips import outcome, section

# Of each kind one that is quick: compiled whole, with layers on the host, refused by the host and in lowering.
CHECKED = [
    ("sew-resnet-basic-and", "tianjic"),
    ("spikformer-cifar", "loihi2"),
    ("spike-driven-transformer", "loihi2"),
    ("spikformer-cifar", "loihi1"),
    ("spikformer-cifar", "speck2f"),
]


@pytest.mark.campaign
def test_the_section_is_what_a_run_gives(request: pytest.FixtureRequest) -> None:
    found, before = section(), parts()[0]
    if request.config.getoption("--update-golden"):
        PAGE.write_text(before + found, encoding="utf-8")
    assert parts()[1] == found, "docs/support.md is old: --update-golden"


@pytest.mark.parametrize(("name", "target"), CHECKED)
def test_some_cells_are_what_a_run_gives(name: str, target: str) -> None:
    assert rows()[name][TARGETS.index(target)] == outcome(name, target).cell


def test_every_network_has_a_row_that_can_be_read() -> None:
    assert list(rows()) == list(REDUCED)
    assert all(len(cells) == len(TARGETS) for cells in rows().values())
    assert max(map(len, parts()[1].splitlines())) < 200
