"""Recognisers against the libraries' own classes: every form, and every wrong parameter."""

import dataclasses

import oracle_neurons
import pytest
import torch

from snncc_torch.neurons.recognise import _verify, find_neurons, qualified_name, recogniser_of

VARIANTS = {
    **{f"sj.{k}": v for k, v in oracle_neurons.spikingjelly_variants().items()},
    **{f"sinabs.{k}": v for k, v in oracle_neurons.sinabs_variants().items()},
}


def test_no_neuron_class_of_the_libraries_is_unlisted():
    assert oracle_neurons.unlisted() == []


def problems(module):
    return find_neurons(module.eval()).problems


@pytest.mark.parametrize("name", VARIANTS)
def test_every_form_is_recognised_and_verified_or_refused_with_a_reason(name):
    refused = [p for m in VARIANTS[name] for p in problems(m)]
    assert all("cannot be expressed" in p.what for p in refused), refused[:3]
    assert len(refused) < len(VARIANTS[name])


def mutations(spec):
    """The same neuron with one thing wrong that its outputs must show."""
    yield "threshold", dataclasses.replace(spec, threshold=spec.threshold * 1.02)
    if spec.layout != "single":
        yield "leak", dataclasses.replace(spec, decay=spec.decay * 0.95)
    if spec.max_spikes == 0:
        return
    yield "gain", dataclasses.replace(spec, gain=spec.gain * 1.03)
    if spec.rounding == "floor":
        yield "comparison", dataclasses.replace(spec, strict=True)
    else:
        yield "ties", dataclasses.replace(spec, rounding="half_up")
    if not spec.unbounded:
        yield "limit", dataclasses.replace(spec, max_spikes=spec.max_spikes + 1)
    if spec.layout != "single":
        yield "reset", dataclasses.replace(spec, reset="none")
        other = "value" if spec.reset == "subtract" else "subtract"
        yield "reset kind", dataclasses.replace(spec, reset=other)
    if spec.synapse_decay is not None and spec.layout != "single":
        yield "synapse", dataclasses.replace(spec, synapse_decay=None)
        # "add_read_decay" and "decay_add_read" deliver the same currents.
        other = "add_decay_read" if spec.synapse_order == "decay_add_read" else "decay_add_read"
        yield "order", dataclasses.replace(spec, synapse_order=other)
    if spec.v_min is not None and spec.layout != "single":
        yield "clamp", dataclasses.replace(spec, v_min=None)


def exact(module):
    """Whether its first charge is computed without rounding, so that ties are seen."""
    spec = recogniser_of(qualified_name(module))(module)
    plain = spec.bias == 0 and spec.v_init in (0, 0.5) and spec.synapse_decay is None
    return spec.gain in (1.0, 0.5) and spec.threshold == 1.0 and plain


@pytest.mark.parametrize("name", VARIANTS)
def test_one_wrong_parameter_is_refused(name):
    torch.manual_seed(3)
    missed = []
    for module in VARIANTS[name][:: max(1, len(VARIANTS[name]) // 12)]:
        if problems(module):
            continue
        spec = recogniser_of(qualified_name(module))(module)
        for what, wrong in mutations(spec):
            if what == "threshold" and spec.max_spikes == 0:
                continue
            if what in ("comparison", "ties") and not exact(module):
                continue
            if not list(_verify("", wrong, module)):
                missed.append((what, spec))
    assert missed == []
