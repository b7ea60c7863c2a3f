"""Artifacts compute what those of the version compute that is recorded in golden/replay.json, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from replay_nets import NAMES, RANDOM, subject
from replaying import WAYS, Runs, differences, notes, packed, replayed, unpacked

GOLDEN = Path(__file__).parents[1] / "golden" / "replay.json"


@cache
def recorded() -> dict[str, Runs]:
    return unpacked(GOLDEN.read_text(encoding="utf-8"))


def changed(name: str) -> list[str]:
    return [str(d) for d in differences(recorded()[name], replayed(*subject(name)), (name,))]


@pytest.mark.parametrize("name", RANDOM[5::12])
def test_a_spread_of_networks_computes_what_is_recorded(name: str) -> None:
    assert changed(name) == []


@pytest.mark.campaign
@pytest.mark.parametrize("name", NAMES)
def test_campaign(name: str) -> None:
    assert changed(name) == []


def test_every_network_is_recorded_and_many_are_computed_on_each_chip() -> None:
    assert tuple(recorded()) == NAMES
    ways = [" ".join(way) for way in WAYS]
    computed = {way: sum("refused" not in runs[way] for runs in recorded().values()) for way in ways}
    assert computed == {
        "sim exact": 275,
        "sim free": 167,
        "speck2f exact": 71,
        "speck2f free": 76,
        "loihi2 exact": 302,
        "loihi2 free": 167,
        "loihi2 graded": 302,
        "loihi1 exact": 101,
        "tianjic exact": 297,
    }


def test_the_file_holds_all_that_was_packed() -> None:
    few = {name: recorded()[name] for name in RANDOM[:20]}
    assert unpacked(packed(few)) == few


# ---- what counts as a difference ------------------------------------------------------------------------

NAME = "029-chip-maps"  # computed everywhere but on loihi1


def copied(runs: Runs) -> Runs:
    """Runs that share no value, as those of the file do."""
    return json.loads(json.dumps(runs))


def differing(change: Callable[[Runs], object]) -> list[str]:
    """Differences from the recording of a network that ``change`` has changed."""
    now = copied(recorded()[NAME])
    change(now)
    return [str(d) for d in differences(recorded()[NAME], now, (NAME,))]


def test_a_difference_is_named_by_network_run_quantity_and_layer() -> None:
    was = recorded()[NAME]["speck2f exact"]["totals"]["b0"]
    now = [was[0], was[1] + 1, *was[2:]]
    found = differing(lambda runs: runs["speck2f exact"]["totals"].update(b0=now))
    assert found == [f"{NAME}: speck2f exact: totals: b0: recorded {was}, now {now}"]
    digest = recorded()[NAME]["sim free"]["counts"]["n0"]
    found = differing(lambda runs: runs["sim free"]["counts"].update(n0="0" * 16))
    assert found == [f"{NAME}: sim free: counts: n0: recorded {digest}, now {'0' * 16}"]


def test_what_is_missing_differs_and_what_is_new_does_not() -> None:
    assert differing(lambda runs: runs["tianjic exact"]["energy"].update(other={"synapses": 1.0})) == []
    lost = recorded()[NAME]["sim exact"]["energy"]["paper45"]["ac"]
    found = differing(lambda runs: runs["sim exact"]["energy"]["paper45"].pop("ac"))
    assert found == [f"{NAME}: sim exact: energy: paper45: ac: recorded {lost}, now None"]


@pytest.mark.parametrize(("end", "factor", "differs"), [(0, 1 + 1e-12, False), (2, 1 + 1e-9, True)])
def test_energies_are_compared_to_twelve_digits(end: int, factor: float, differs: bool) -> None:
    def scale(runs: Runs) -> None:
        runs["speck2f exact"]["energy"]["speck2f"]["static"][end] *= factor

    assert len(differing(scale)) == differs


def test_what_was_refused_stays_refused_whatever_the_code() -> None:
    was = recorded()[NAME]["loihi1 exact"]
    assert was == {"refused": ["SNNC-C015"]}
    other = recorded()[NAME] | {"loihi1 exact": {"refused": ["SNNC-C013", "SNNC-C014"]}}
    assert list(differences(recorded()[NAME], other)) == []
    assert list(notes(recorded()[NAME], other)) == [
        "loihi1 exact: refused as SNNC-C015, now SNNC-C013, SNNC-C014"
    ]
    computed = differing(lambda runs: runs.update({"loihi1 exact": runs["loihi2 exact"]}))
    assert computed == [f"{NAME}: loihi1 exact: refused: recorded ['SNNC-C015'], now computed"]
    refused = differing(lambda runs: runs.update({"sim exact": was}))
    assert refused == [f"{NAME}: sim exact: refused: recorded computed, now ['SNNC-C015']"]


@pytest.mark.parametrize("code", ["SNNC-X001", "SNNC-M012"])
def test_an_error_of_ours_may_be_mended_and_a_kind_be_lowered(code: str) -> None:
    before: Runs = {"loihi2 graded": {"refused": [code]}}
    after: Runs = {"loihi2 graded": recorded()[NAME]["loihi2 graded"]}
    assert list(differences(before, after)) == []
    assert list(notes(before, after)) == [f"loihi2 graded: refused as {code}, now computed"]
