"""Models of the libraries captured and put on the chips, or refused for a reason; writes docs/support.md.

``make oracle-test ARGS=--update-golden`` writes the page anew, but for the section of the zoo's networks
(tests/support_page.py); without it the page must be what the run saw.
"""

from __future__ import annotations

import re

import oracle_models
import oracle_neurons
import pytest
import torch

from snncc.data import Dataset
from snncc.errors import ModelError
from snncc.model import Model
from snncc_torch import capture, sfa_neurons
from snncc_torch.neurons.recognise import REFUSED, find_neurons
from support_page import CALIBRATION, MEANING, PAGE, SAMPLES, TARGETS, Outcome, outcome, parts, table

INTRODUCTION = """# Which neurons and models are captured

Written by `make oracle-test ARGS=--update-golden` from what the installed libraries did
(spikingjelly 2.0.0, sinabs 3.1.3); do not edit. The test fails where this page and a run differ.

## How a neuron is recognised

By the full name of its class, and then by its behaviour. A name gives a hypothesis: the canonical
neuron with the module's parameters. snncc drives the module with random inputs and with quarters of
its threshold, which land on ties, for 8 timesteps, and refuses it (SNNC-M005) where one output
differs. For spikingjelly's IF, LIF, ParametricLIF and ILIF a copy with exact parameters is driven
too, so that the rule for ties is seen whatever the time constant is.

A class of your own, a subclass of a library's too, is never taken by its name. Say what it is:

```python
import snncc, snncc_torch

snncc.register_neuron("models.MultiSpike", snncc_torch.sfa_neurons.multi_spike)
snncc.register_neuron("models.MyLIF", "spikingjelly.activation_based.neuron.lif.LIFNode")

@snncc.register_neuron("models.Leaky")
def leaky(module):
    return snncc_torch.NeuronSpec(layout="multi", decay=module.beta, threshold=module.theta)
```

It is verified like the others. Where an unknown module behaves as one that snncc has a recogniser
for, the error prints the line to write. A method `reset()` of a registered class is called before
each run of a copy. Ready-made recognisers in `snncc_torch.sfa_neurons`, for neurons that research
code keeps in modules of its own:

| recogniser | what it is |
|---|---|
"""

NOTES = """
sinabs' `MultiSpike` knows no largest count. A graph needs one: 127 spikes a timestep are assumed, and
the report says so; `spike_fn=MaxSpike(n)` states it. More spikes than the bound are an error where
capture sees them. A squeezed sinabs model is captured for one sample: [T, ...].
The `clock_driven` neurons of spikingjelly's older releases (0.0.0.0.4 to .14: IF, LIF and ParametricLIF,
for one timestep and for several) are recognised too; a test runs them in release 0.0.0.0.14.
A single-step stateful neuron that gets [T, B, ...] takes time for a batch. It is refused, unless what
is registered says that one call is all it sees (`sfa_neurons.q_ifnode`).
"""

ON_CHIPS = """Those of spikingjelly that give a value for every timestep are averaged over time, as their training scripts do.
"""


def first_sentence(text: str) -> str:
    """Up to the first full stop of a docstring, on one line."""
    return re.split(r"\.\s", " ".join(text.split()) + " ")[0].rstrip(".")


def neuron_rows() -> list[str]:
    rows = []
    for library, variants in (
        ("spikingjelly", oracle_neurons.spikingjelly_variants()),
        ("sinabs", oracle_neurons.sinabs_variants()),
    ):
        for name, modules in variants.items():
            problems = [p for m in modules for p in find_neurons(m.eval()).problems]
            reasons = dict.fromkeys(
                re.sub(r", got .*", "", p.what.split("expressed: ")[-1]) for p in problems
            )
            verdict = f"yes, {len(modules) - len(problems)} of {len(modules)} forms"
            rows.append(f"| {library} | {name} | {verdict} | {'; '.join(reasons)} |")
        for name, reason in REFUSED.items():
            short = name.rpartition(".")[2]
            if (
                name.startswith(f"{library}.")
                and not name.startswith("spikingjelly.clock")
                and name.count(".") > 3 - (library == "sinabs")
            ):
                rows.append(f"| {library} | {short} | no | {reason} |")
    return rows


def inputs(model: Model, still: bool, count: int, seed: int) -> Dataset:
    """Random inputs [N, T, ...]; ``still``: of one image at every timestep."""
    graph, generator = model.graph, torch.Generator().manual_seed(seed)
    drawn = torch.rand((count, 1 if still else graph.steps, *graph.input.shape), generator=generator)
    return Dataset(drawn.expand(count, graph.steps, *graph.input.shape).numpy())


def on_chips(model: Model, still: bool) -> dict[str, Outcome]:
    """What becomes of a captured model on every target."""
    calibration, unseen = (inputs(model, still, *of) for of in ((CALIBRATION, 1), (SAMPLES, 2)))
    return {target: outcome(model, target, calibration, unseen) for target in TARGETS}


def verdict(entry: oracle_models.Entry) -> tuple[str, dict[str, Outcome]]:
    """One row of the table of models, and what becomes of a captured one on every target."""
    torch.manual_seed(20)
    module, example = oracle_models.fresh(entry)
    steps = entry.timesteps(module, example)
    try:
        model = capture(module, example, timesteps=steps)
    except ModelError as error:
        if "SNNC-M006" in {p.code for p in error.problems}:
            raise  # a difference is a fault of the capture, no reason
        reasons = list(dict.fromkeys(f"{p.code} {p.where}: {p.what}" for p in error.problems))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return f"| {entry.library} | {entry.name} | refused | {reasons[0]}{more} |", {}
    neurons = len(model.graph.neurons)
    silent = sum("never fired" in note for note in model.notes)
    assert model.comparison.worst <= 1
    assert silent < neurons, "a model in which nothing fires shows nothing"
    fired = f"{neurons - silent} of {neurons} neurons fired" if silent else f"{neurons} neurons"
    row = f"| {entry.library} | {entry.name} | captured | T={model.graph.steps}, {fired} |"
    return row, on_chips(model, steps is not None)


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, dict[str, Outcome]]]:
    return {}


@pytest.mark.parametrize("entry", oracle_models.MODELS, ids=lambda e: f"{e.library}: {e.name}")
def test_a_model_is_captured_or_refused_for_a_reason(entry, rows):
    rows[entry.name] = verdict(entry)


def test_the_page_is_what_the_run_saw(rows, request):
    assert len(rows) == len(oracle_models.MODELS) >= 12
    found = [rows[entry.name] for entry in oracle_models.MODELS]
    outcomes = {
        f"{entry.library}: {entry.name}": on
        for entry, (_, on) in zip(oracle_models.MODELS, found, strict=True)
        if on
    }
    known = {
        name: first_sentence(getattr(sfa_neurons, name).__doc__)
        for name in (
            "multi_spike",
            "multispike",
            "multispike_of_four",
            "qcfs",
            "q_ifnode",
            "integer_lif",
            "sfa",
        )
    }
    page = INTRODUCTION + "".join(f"| `{name}` | {text} |\n" for name, text in known.items())
    page += "\n## Neurons\n\n| library | class | supported | not supported, and why |\n|---|---|---|---|\n"
    page += "\n".join(neuron_rows()) + "\n" + NOTES
    page += f"\n## Models\n\n{len(outcomes)} of {len(found)} are captured, the graph compared with the module layer by\n"
    page += "layer; the others are refused before anything is compiled.\n\n"
    page += "| library | model | verdict | |\n|---|---|---|---|\n" + "\n".join(r for r, _ in found) + "\n"
    page += (
        f"\n## The libraries' models on the chips\n\n{ON_CHIPS}{MEANING}\n" + table(outcomes, "model") + "\n"
    )
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page + parts()[1], encoding="utf-8")
    assert parts()[0] == page, "docs/support.md is old: make oracle-test ARGS=--update-golden"
