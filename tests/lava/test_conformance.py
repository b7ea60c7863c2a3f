"""The emulator of Lava's fixed-point processes against Lava itself, bit for bit, step by step.

Lava's results are kept in tests/golden/loihi (``--update-golden`` writes them), so that `make test`
compares the emulator with them without Lava.
"""

import dataclasses

import lava_runs
import numpy as np
import pytest
import random_cases

import fixed_cases
from snncc.ir.cell import leaked
from snncc_loihi.fixed import HALF, UNITY, Conv, synaptic_sums

GOLDEN = lava_runs.ROOT / "tests" / "golden" / "loihi" / "traces.npz"
CASES = random_cases.singles(320) + random_cases.networks(40)


@pytest.fixture(scope="module")
def lava(tmp_path_factory):
    """Traces of all cases by Lava."""
    return lava_runs.run_all(CASES, tmp_path_factory.mktemp("cases"))


def test_emulator_equals_lava(lava):
    differing = [fixed_cases.differences(c, fixed_cases.emulate(c), lava[c["name"]]) for c in CASES]
    assert [line for lines in differing for line in lines] == []


def test_golden_traces_are_those_of_lava(lava, request):
    content = {"lava_nc": lava_runs.lava_version(), "cases": CASES, "traces": lava}
    if request.config.getoption("--update-golden"):
        fixed_cases.save_golden(GOLDEN, content)
    stored = fixed_cases.load_golden(GOLDEN)
    assert stored["lava_nc"] == content["lava_nc"]
    assert GOLDEN.stat().st_size < 1_700_000
    assert [c["name"] for c in stored["cases"]] == [c["name"] for c in CASES]
    for case, kept in zip(CASES, stored["cases"], strict=True):
        assert fixed_cases.split(case, []) == fixed_cases.split(kept, [])
        assert fixed_cases.differences(case, stored["traces"][case["name"]], lava[case["name"]]) == []
        assert fixed_cases.differences(case, fixed_cases.emulate(kept), lava[case["name"]]) == []


# ---- whether the cases reach what they aim at ---------------------------------------------------------


def lifs(lava):
    """Fields, traces and case of every LIF."""
    for case in CASES:
        for name, p in case["populations"].items():
            if p["kind"] == "lif":
                yield p, lava[case["name"]][name], case


def synapses():
    """Fields of every connection with synapses, and its case."""
    return [(link["synapses"], case) for case in CASES for link in case["links"] if link["synapses"]]


def test_cases_reach_the_limits_of_the_neurons(lava):
    saturated = on_threshold = wrapped = at_limit = reset = started = signs = 0
    for p, trace, case in lifs(lava):
        saturated += bool((np.abs(trace["v"]) == HALF - 1).any())
        on_threshold += p["vth"] > 0 and bool((trace["v"] == p["vth"] << 6).any())
        at_limit += bool((trace["u"] == HALF).any())
        reset, started = reset + (p["reset_interval"] > 1), started + ("started" in p)
        signs += bool((np.min(p["bias_exp"]) < 0) and (np.min(p["bias_mant"]) < 0))
        if case["links"][0]["synapses"] is None and "started" not in p and not p["reset_interval"]:
            before = np.concatenate([np.zeros_like(trace["u"][:1]), trace["u"][:-1]])
            unbounded = leaked(before, UNITY - p["du"] - 1, 12) + (case["inputs"]["in"] << 6)
            wrapped += bool((unbounded != trace["u"]).any())
    assert saturated >= 20
    assert on_threshold >= 50
    assert wrapped >= 10
    assert at_limit >= 8
    assert min(reset, started) >= 8
    assert signs >= 15
    edges = {(key, p[key]) for p, _, _ in lifs(lava) for key in ("du", "dv")}
    assert edges >= {("du", d) for d in (0, 1, 4095)} | {("dv", d) for d in (0, 1, 4095, 4096)}


def test_cases_reach_the_limits_of_the_synapses():
    matrices = [(s, c) for s, c in synapses() if s["kind"] in ("dense", "sparse")]
    assert {s["weight_exp"] for s, _ in matrices} == set(range(-7, 8))
    assert {s["num_weight_bits"] for s, _ in matrices} == set(range(1, 9))
    assert {s["sign_mode"] for s, _ in matrices} == {None, "mixed", "excitatory", "inhibitory"}
    assert sum(bool((np.abs(s["weights"]) > 256).any()) for s, _ in matrices) >= 15
    assert sum(s["kind"] == "sparse" for s, _ in matrices) >= 50
    delayed = [s["delays"].max() for s, _ in matrices if s["kind"] == "dense" and s["delays"] is not None]
    assert len(delayed) >= 25
    assert max(delayed) == 7
    binarised = [
        c for s, c in synapses() if not s["num_message_bits"] and np.abs(c["inputs"]["in"]).max() > 1
    ]
    assert len(binarised) >= 20
    assert sum(link["wait"] > 0 for case in CASES for link in case["links"]) >= 20
    assert sum(link["source"] == link["target"] for case in CASES for link in case["links"]) >= 10


def test_cases_reach_the_limits_of_convolution():
    convs = [(s, c) for s, c in synapses() if s["kind"] == "conv"]
    assert len(convs) >= 80
    for key, values in (("stride", {1, 2, 3}), ("padding", {0, 1, 2}), ("dilation", {1, 2})):
        assert {s[key][0] for s, _ in convs} == {s[key][1] for s, _ in convs} == values
        assert sum(s[key][0] != s[key][1] for s, _ in convs) >= 20
    assert {s["groups"] for s, _ in convs} == {1, 2, 3}
    shapes = [c["inputs"]["in"].shape[1:] for _, c in convs if len(c["inputs"]["in"].shape) == 4]
    assert all(len({*shape}) == 3 for shape in shapes)
    wrapped = 0
    for s, case in convs:
        p = fixed_cases.process(s)
        assert isinstance(p, Conv)
        x = case["inputs"]["in"][0]
        if case["name"].startswith("single"):
            wrapped += bool(
                (synaptic_sums(p, x) != synaptic_sums(dataclasses.replace(p, sum_bits=60), x)).any()
            )
    assert wrapped >= 10
