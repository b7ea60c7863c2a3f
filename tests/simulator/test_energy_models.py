"""Energy models: constants with their sources, components by hand."""

from __future__ import annotations

from importlib.resources import files

import pytest

from snncc.metrics.models import MODELS
from snncc.metrics.models.lemaire import LEMAIRE
from snncc.metrics.models.model import Work, constants
from snncc.metrics.models.paper45 import PAPER45


def parts(found: object) -> dict[str, float]:
    return {c.name: c.energy_nj.value for c in found.components}  # type: ignore[attr-defined]


def test_every_file_of_constants_belongs_to_a_model() -> None:
    folder = files("snncc.metrics.models")
    named = {path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml")}
    assert named == {m.name for m in MODELS}
    assert len(named) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_constants_have_sources_and_everything_says_what_it_is(model: object) -> None:
    found = constants(model.name)  # type: ignore[attr-defined]
    assert found
    assert all(q.source and q.low <= q.value <= q.high for q in found.values())
    assert model.about  # type: ignore[attr-defined]
    assert model.missing  # type: ignore[attr-defined]


def test_the_papers_rule() -> None:
    found = PAPER45.energy(Work(macs=2000, acs_paper=10_000, synaptic_operations=7, neuron_updates=9))
    assert parts(found) == pytest.approx({"mac": 9.2, "ac": 9.0})
    assert (found.model, found.about) == (
        "paper45",
        "4.6 pJ a MAC, 0.9 pJ an AC of the trained network, for comparison with the papers' tables only",
    )
    assert [(c.name, c.value, c.grade) for c in PAPER45.constants()] == [
        ("mac_pj", 4.6, "estimate"),
        ("ac_pj", 0.9, "estimate"),
    ]


@pytest.mark.parametrize(
    ("words", "picojoules"),
    [(0, 0.0), (1024, 5.0), (2048, 10.0), (5120, 15.0), (8192, 20.0), (262_144, 100.0), (10**7, 100.0)],
)
def test_an_access_costs_what_its_memory_does(words: int, picojoules: float) -> None:
    """32-bit words: 8, 32 and 1,024 KiB are 2,048, 8,192 and 262,144 of them."""
    found = parts(LEMAIRE.energy(Work(synaptic_operations=1000, weights=words)))
    assert found["weight_reads"] == pytest.approx(picojoules)


def test_a_layer_of_lemaires_model_by_hand() -> None:
    work = Work(macs=500, synaptic_operations=3000, neuron_updates=200, spikes=40, weights=2048, neurons=8192)
    found = LEMAIRE.energy(work)
    assert parts(found) == pytest.approx(
        {
            "additions": (3000 + 200 + 500) * 0.1e-3,
            "multiplications": 500 * 3.1e-3,
            "weight_reads": 3000 * 10e-3,
            "potential_accesses": 2 * 3200 * 20e-3,
            "spike_writes": 40 * 10e-3,
        }
    )
    assert found.total_nj.low < found.total_nj.value == found.total_nj.high
