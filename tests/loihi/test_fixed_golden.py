"""The emulator computes what Lava computed: results of lava-nc on random networks, bit for bit.

They are written by the Lava job (tests/lava/test_conformance.py) under ``--update-golden``.
"""

from collections import Counter
from pathlib import Path

import pytest

import fixed_cases

GOLDEN = Path(__file__).parents[1] / "golden" / "loihi" / "traces.npz"


@pytest.fixture(scope="module")
def golden():
    return fixed_cases.load_golden(GOLDEN)


def test_what_the_file_holds(golden):
    assert golden["lava_nc"] == "0.10.0"
    kinds = Counter(case["name"].partition("-")[0] for case in golden["cases"])
    assert kinds == {"single": 320, "net": 40}


def test_emulator_equals_lava(golden):
    differing = []
    for case in golden["cases"]:
        traces = golden["traces"][case["name"]]
        assert traces.keys() == case["populations"].keys()
        differing += fixed_cases.differences(case, fixed_cases.emulate(case), traces)
    assert differing == []


def test_a_changed_weight_shows(golden):
    """The comparison itself can fail."""
    case = next(c for c in golden["cases"] if c["name"] == "single-2")
    weights = case["links"][0]["synapses"]["weights"]
    weights += 1 << 18
    assert fixed_cases.differences(case, fixed_cases.emulate(case), golden["traces"]["single-2"])
