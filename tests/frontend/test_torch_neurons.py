"""Neuron modules: their arithmetic and gradients, and their recognition and verification.

spikingjelly is not installed here. The classes below bear its names and follow the equations of
its documentation (charge, fire, reset of IFNode, LIFNode, ParametricLIFNode); the real package is
checked by tests/oracles. Neurons of a user's own and the traps of names: test_torch_neurons_traps.py.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import snncc_torch
from snncc.errors import ModelError
from snncc.ir import Neuron, Reset, Rounding
from snncc_torch import nn as snn
from snncc_torch.neurons.recognise import find_neurons


class FakeNode(nn.Module):
    """Charge is left to the subclass; fire at v ≥ θ; reset soft or hard; state kept between calls."""

    def __init__(self, v_threshold=1.0, v_reset=0.0, step_mode="m"):
        super().__init__()
        self.v_threshold, self.v_reset, self.step_mode = v_threshold, v_reset, step_mode
        start = 0.0 if v_reset is None else v_reset
        self._memories, self._memories_rv = {"v": start}, {"v": start}

    def fire(self, v, x):
        v = self.charge(v + torch.zeros_like(x), x)
        spike = (v - self.v_threshold >= 0).to(x)
        soft = self.v_reset is None
        return spike, v - spike * self.v_threshold if soft else (1 - spike) * v + spike * self.v_reset

    def step(self, x):
        spike, self._memories["v"] = self.fire(self._memories["v"], x)
        return spike

    def forward(self, x):
        return torch.stack([self.step(t) for t in x]) if self.step_mode == "m" else self.step(x)


class FakeIF(FakeNode):
    def charge(self, v, x):
        return v + x


class FakeLIF(FakeNode):
    def __init__(self, tau=2.0, decay_input=True, **base):
        super().__init__(**base)
        self.tau, self.decay_input = tau, decay_input

    def charge(self, v, x):
        rest = 0.0 if self.v_reset is None else self.v_reset
        return v + (x - (v - rest)) / self.tau if self.decay_input else v - (v - rest) / self.tau + x


class FakePLIF(FakeNode):
    def __init__(self, tau=2.0, decay_input=True, **base):
        super().__init__(**base)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))
        self.decay_input = decay_input

    def charge(self, v, x):
        rest, k = 0.0 if self.v_reset is None else self.v_reset, self.w.sigmoid()
        return v + (x - (v - rest)) * k if self.decay_input else v - (v - rest) * k + x


class Restored(FakeNode):
    """As releases 0.0.0.0.10 to .14 of `clock_driven`: parameters are memories too, which a reset restores."""

    backend = "torch"

    def __init__(self, v_threshold=1.0, v_reset=0.0, step_mode="m"):
        super().__init__(v_threshold, v_reset, step_mode)
        for name in ("v_threshold", "v_reset"):
            self._memories[name] = self._memories_rv[name] = self.__dict__.pop(name)

    def __getattr__(self, name):
        memories = self.__dict__.get("_memories", {})
        return memories[name] if name in memories else super().__getattr__(name)

    def __setattr__(self, name, value):
        memories = self.__dict__.get("_memories", {})
        if name in memories:
            memories[name] = value
        else:
            super().__setattr__(name, value)

    def step(self, x):
        assert self.backend == "torch", "no GPU here"
        return super().step(x)

    def reset(self):
        self._memories.update(self._memories_rv)


class Remembered(FakeNode):
    """As release 0.0.0.0.4 of `clock_driven`: the membrane is a plain attribute, which `reset` sets."""

    def __init__(self, v_threshold=1.0, v_reset=0.0, step_mode="m"):
        super().__init__(v_threshold, v_reset, step_mode)
        del self._memories, self._memories_rv
        self.reset()

    def step(self, x):
        spike, self.v = self.fire(self.v, x)
        return spike

    def reset(self):
        self.v = 0.0 if self.v_reset is None else self.v_reset


NEURON = "spikingjelly.activation_based.neuron"


def bear(cls, module, name):
    """The class under spikingjelly's full name."""
    return type(name, (cls,), {"__module__": module, "__qualname__": name})


IFNode = bear(FakeIF, f"{NEURON}.integrate_and_fire", "IFNode")
LIFNode = bear(FakeLIF, f"{NEURON}.lif", "LIFNode")
ParametricLIFNode = bear(FakePLIF, f"{NEURON}.plif", "ParametricLIFNode")


OLD = "spikingjelly.clock_driven.neuron"


def old(kept, charge, prefix=""):
    """A class of an old release, whose state is ``kept`` in that release's way."""
    name = prefix + charge.__name__.replace("Fake", "").replace("PLIF", "ParametricLIF") + "Node"
    return bear(type(name, (charge, kept), {}), OLD, name)


def only(module) -> Neuron:
    found = find_neurons(module.eval())
    assert not found.problems
    return found.sites[0].neuron


# ---- our own modules ----------------------------------------------------------------------------


def test_sfa_rounds_half_to_even_and_clips():
    x = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 3.49, 9.0])
    assert snn.SFA(4)(x).tolist() == [0, 0, 0, 2, 2, 3, 4]
    assert snn.SFA(4, normalize=True)(x).tolist() == [0, 0, 0, 0.5, 0.5, 0.75, 1]


def test_sfa_gradient_is_the_rectangular_window():
    x = torch.tensor([-0.1, 0.0, 0.4, 4.0, 4.1], requires_grad=True)
    snn.SFA(4)(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    x.grad = None
    snn.SFA(4, normalize=True)(x).sum().backward()
    assert x.grad.tolist() == [0, 0.25, 0.25, 0.25, 0]


def test_integrators_fire_and_reset():
    drive = torch.tensor([2.5, 0.0, 0.0, 1.2, 0.0]).reshape(5, 1, 1)
    assert snn.IF()(drive).flatten().tolist() == [1, 1, 0, 1, 0]
    assert snn.IF(v_reset=0.0)(drive).flatten().tolist() == [1, 0, 0, 1, 0]
    assert snn.LIF(tau=2.0)(drive).flatten().tolist() == [1, 0, 0, 0, 0]
    assert snn.LIF(tau=2.0, decay_input=False)(drive).flatten().tolist() == [1, 0, 0, 1, 0]


def test_an_integer_neuron_with_a_membrane_by_hand():
    """u = v/4 + x; 2.5 and 1.5 round to the even 2; -0.4 fires nothing and stays."""
    drive = torch.tensor([2.5, 0.5, 5.0, -2.0, 3.75]).reshape(5, 1, 1)
    # soft: u = 2.5, 0.625, 4.90625, -1.7734375, 3.306640625
    assert snn.ILIF(4)(drive).flatten().tolist() == [2, 1, 4, 0, 3]
    # hard: u = 2.5, 0.5, 5.125, -2, 3.25
    assert snn.ILIF(4, v_reset=0.0)(drive).flatten().tolist() == [2, 0, 4, 0, 3]
    # IF: u = 2.5, 1.0, 5.0, -1.0, 2.75
    assert snn.ILIF(4, decay=1.0, normalize=True)(drive).flatten().tolist() == [0.5, 0.25, 1, 0, 0.75]
    x = torch.tensor([-0.1, 0.0, 0.4, 4.0, 4.1]).reshape(1, 5)
    assert torch.equal(snn.ILIF(4)(x), snn.SFA(4)(x))
    assert torch.equal(snn.ILIF(4, step_mode="s")(x), snn.SFA(4)(x))


def test_the_gradient_of_an_integer_neuron_goes_through_its_membrane_and_not_through_its_reset():
    x = torch.tensor([0.4, 0.8, 9.0]).reshape(3, 1, 1).requires_grad_()
    snn.ILIF(4, decay=0.5)(x)[1].sum().backward()
    assert x.grad.flatten().tolist() == [0.5, 1, 0]
    x.grad = None
    snn.ILIF(4, decay=0.5, v_reset=0.0)(x).sum().backward()
    assert x.grad.flatten().tolist() == [1.5, 1, 0]


def test_integrators_pass_gradients_through_time():
    x = torch.full((3, 1, 2), 0.4, requires_grad=True)
    snn.LIF(tau=2.0)(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad > 0).all()


def test_single_step_mode_starts_from_rest_each_time():
    neuron = snn.IF(step_mode="s")
    x = torch.full((1, 3), 0.6)
    assert neuron(x).sum() == 0
    assert neuron(x).sum() == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: snn.SFA(0), "SFA: D must be at least 1, got 0"),
        (lambda: snn.IF(v_threshold=0), "IF: v_threshold must be positive, got 0"),
        (lambda: snn.ILIF(0), "ILIF: D must be at least 1, got 0"),
        (lambda: snn.ILIF(decay=0), "ILIF: decay must be above 0 and at most 1, got 0"),
        (lambda: snn.ILIF(decay=1.1), "ILIF: decay must be above 0 and at most 1, got 1.1"),
        (lambda: snn.LIF(tau=1.0), "LIF: tau must be greater than 1, got 1.0"),
        (lambda: snn.IF(step_mode="x"), "IF: step_mode must be 'm' or 's', got 'x'"),
    ],
)
def test_constructors_refuse_nonsense(make, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        make()


# ---- recognition --------------------------------------------------------------------------------


def test_canonical_fields_of_our_own_neurons():
    sfa = only(snn.SFA(8, normalize=True))
    assert (sfa.threshold, sfa.max_spikes, sfa.rounding, sfa.decay) == (1.0, 8, Rounding.HALF_EVEN, 0)
    assert sfa.output_scale == 0.125
    ilif = only(snn.ILIF(8, decay=0.3, v_reset=0.0, normalize=True))
    assert (ilif.threshold, ilif.max_spikes, ilif.rounding) == (1.0, 8, Rounding.HALF_EVEN)
    assert (ilif.decay, ilif.gain, ilif.reset, ilif.output_scale) == (0.3, 1.0, Reset.VALUE, 0.125)
    assert only(snn.ILIF()).reset is Reset.SUBTRACT
    lif = only(snn.LIF(tau=4.0, v_threshold=0.5, v_reset=-0.25))
    assert (lif.threshold, lif.decay, lif.gain) == (0.5, 0.75, 0.25)
    assert (lif.reset, lif.reset_to, lif.v_init) == (Reset.VALUE, -0.25, -0.25)


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.3])
@pytest.mark.parametrize(
    "make",
    [
        lambda **k: IFNode(**k),
        lambda **k: LIFNode(tau=1.7, **k),
        lambda **k: LIFNode(tau=2.0, decay_input=False, **k),
        lambda **k: ParametricLIFNode(tau=3.3, **k),
        lambda **k: ParametricLIFNode(tau=4.0, decay_input=False, **k),
        lambda **k: snn.IF(**k),
        lambda **k: snn.LIF(tau=3.0, **k),
    ],
)
def test_every_known_neuron_passes_verification(make, v_reset, step_mode):
    for threshold in (1.0, 0.7):
        neuron = only(make(v_threshold=threshold, v_reset=v_reset, step_mode=step_mode))
        assert neuron.reset is (Reset.SUBTRACT if v_reset is None else Reset.VALUE)


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.3])
@pytest.mark.parametrize("decay", [0.25, 0.7, 1.0])
def test_integer_neurons_with_a_membrane_pass_verification(decay, v_reset, step_mode):
    neuron = only(snn.ILIF(3, decay, v_reset, step_mode=step_mode))
    assert (neuron.max_spikes, neuron.decay) == (3, decay)


def test_lif_leaks_towards_its_reset_potential():
    neuron = only(LIFNode(tau=4.0, v_reset=-0.5))
    assert (neuron.decay, neuron.gain, neuron.bias, neuron.v_init) == (0.75, 0.25, -0.125, -0.5)


@pytest.mark.parametrize("prefix", ["", "MultiStep"])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.3, 0.25])
@pytest.mark.parametrize("charge", [FakeIF, FakeLIF, FakePLIF])
@pytest.mark.parametrize("kept", [Restored, Remembered])
def test_neurons_whose_reset_restores_more_than_the_membrane_pass_verification(kept, charge, v_reset, prefix):
    """The copy with exact parameters, which they are checked with too, keeps those through a reset."""
    make = old(kept, charge, prefix)
    for threshold, tau in ((1.0, 2.0), (0.7, 1.7)):
        leak = {} if charge is FakeIF else {"tau": tau}
        mode = "m" if prefix else "s"
        neuron = only(make(v_threshold=threshold, v_reset=v_reset, step_mode=mode, **leak))
        assert neuron.threshold == threshold
        assert neuron.v_init == (v_reset or 0.0)


def test_a_tie_is_seen_in_a_neuron_whose_reset_restores_its_threshold():
    """At τ = 1.7 no drive lands on the threshold: only the copy with exact parameters shows ``>``."""

    class Strict(FakeLIF):
        def fire(self, v, x):
            v = self.charge(v + torch.zeros_like(x), x)
            spike = (v - self.v_threshold > 0).to(x)
            return spike, v - spike * self.v_threshold

    node = bear(type("LIFNode", (Strict, Restored), {}), OLD, "MultiStepLIFNode")(tau=1.7, v_reset=None)
    (problem,) = find_neurons(node.eval()).problems
    assert problem.what == "MultiStepLIFNode behaves differently from the neuron whose name it bears"


@pytest.mark.parametrize("kept", [Restored, Remembered])
def test_an_old_neuron_is_captured_as_at_rest_after_a_run_and_on_a_cpu(kept):
    torch.manual_seed(0)
    node = old(kept, FakeLIF, "MultiStep")(tau=3.0, v_reset=-0.5)
    model = nn.Sequential(snn.PerStep(nn.Linear(3, 5)), node).eval()
    rested = snncc_torch.capture(model, torch.zeros(4, 1, 3))
    model(torch.randn(4, 2, 3))
    node.backend = "cupy"
    captured = snncc_torch.capture(model, torch.zeros(4, 1, 3))
    assert captured.graph == rested.graph
    note = "1: holds state of an earlier run (v); captured as at rest"
    assert [n for n in captured.notes if n not in rested.notes] == [note]
    assert node.backend == "cupy"


def test_a_threshold_that_the_next_reset_undoes_is_noted():
    node = old(Restored, FakeIF, "MultiStep")(v_threshold=1.0)
    model = nn.Sequential(snn.PerStep(nn.Linear(3, 5)), node).eval()
    node.v_threshold = 0.5
    captured = snncc_torch.capture(model, torch.zeros(4, 1, 3))
    assert captured.graph.neurons[0].threshold == 1.0
    assert "1: holds state of an earlier run (v_threshold); captured as at rest" in captured.notes


def strict(self, x):
    v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
    spike = (v - self.v_threshold > 0).to(x)
    self._memories["v"] = v - spike * self.v_threshold
    return spike


def lost_remainder(self, x):
    v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
    spike = (v >= self.v_threshold).to(x)
    self._memories["v"] = v * (1 - spike)
    return spike


def no_threshold(self, x):
    """The vendored `Qtrick` neuron: spikingjelly's name, fires without threshold."""
    v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
    spike = (v >= 0).to(x)
    self._memories["v"] = v - spike
    return spike


def wrong_leak(self, x):
    v = self._memories["v"] * 0.95 + torch.zeros_like(x) + x
    spike = (v >= self.v_threshold).to(x)
    self._memories["v"] = v - spike * self.v_threshold
    return spike


@pytest.mark.parametrize("step", [strict, lost_remainder, no_threshold, wrong_leak])
def test_other_mathematics_under_the_same_full_name_are_refused(step):
    impostor = type(
        "IFNode", (FakeIF,), {"__module__": IFNode.__module__, "__qualname__": "IFNode", "step": step}
    )
    problems = find_neurons(nn.Sequential(impostor(v_reset=None)).eval()).problems
    assert [p.code for p in problems] == ["SNNC-M005"]
    assert problems[0].where == "0"
    assert problems[0].what == "IFNode behaves differently from the neuron whose name it bears"


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: torch.floor(x + 0.5).clamp(0, self.D),
        lambda self, x: torch.round(x.clamp(0, 4)),
        lambda self, x: torch.round(x).clamp(0, self.D) / self.D,
    ],
    ids=["half-up", "limit-4", "normalised"],
)
def test_sfa_impostors_are_refused(forward):
    """The first differs on ties alone; the second is `Multispike`, whose limit is always 4."""
    impostor = type(
        "SFA", (snn.SFA,), {"__module__": "snncc_torch.nn", "__qualname__": "SFA", "forward": forward}
    )
    (problem,) = find_neurons(impostor(8).eval()).problems
    assert problem.code == "SNNC-M005"


def test_a_class_with_the_same_short_name_is_no_neuron_of_ours():
    class LIFNode(nn.Module):
        def forward(self, x):
            return (x >= 1).float()

    LIFNode = bear(LIFNode, "models", "LIFNode")
    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(nn.Sequential(nn.Linear(3, 2), LIFNode()).eval(), torch.zeros(1, 3))
    assert str(caught.value) == (
        "[SNNC-M005] 1: LIFNode fires or rounds (ge) and is no neuron that snncc knows. Try "
        'snncc.register_neuron("models.LIFNode", snncc_torch.sfa_neurons.sfa(1, rounding="floor")).'
    )


def test_a_module_that_keeps_state_without_firing_is_refused():
    class Integrator(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("v", torch.zeros(1, 2))

        def forward(self, x):
            self.v = self.v + x
            return self.v

    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(nn.Sequential(nn.Linear(3, 2), Integrator()).eval(), torch.zeros(1, 3))
    assert caught.value.code == "SNNC-M005"
    assert [p.where for p in caught.value.problems] == ["1"]


def test_a_module_that_keeps_state_in_a_plain_attribute_is_refused():
    class Integrator(nn.Module):
        v = 0.0

        def forward(self, x):
            old, self.v = self.v, x
            return x + x if isinstance(old, float) else x

    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(nn.Sequential(nn.Linear(3, 2), Integrator()).eval(), torch.zeros(1, 3))
    assert caught.value.code in ("SNNC-M005", "SNNC-M013")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v_threshold": float("nan")}, "SNNC-M007"),
        ({"v_threshold": -1.0}, "SNNC-M005"),
        ({"v_threshold": "high"}, "SNNC-M005"),
        ({"tau": 0.0}, "SNNC-M005"),
        ({"tau": None}, "SNNC-M005"),
    ],
)
def test_parameters_that_no_neuron_has(change, code):
    node = LIFNode()
    for key, value in change.items():
        setattr(node, key, value)
    (problem,) = find_neurons(node.eval()).problems
    assert problem.code == code


def test_verification_leaves_the_module_alone():
    node = LIFNode(v_reset=None).eval()
    before = copy.deepcopy(node._memories)
    find_neurons(node)
    assert node._memories == before


def test_a_model_of_spikingjelly_neurons_is_captured_after_a_run():
    model = nn.Sequential(snn.PerStep(nn.Linear(3, 5)), LIFNode(tau=3.0, v_reset=None)).eval()
    model(torch.randn(4, 1, 3))  # leaves a membrane that is the result of a computation
    captured = snncc_torch.capture(model, torch.zeros(4, 1, 3))
    assert captured.graph.steps == 4
    assert captured.comparison.worst <= 1
    assert isinstance(model[1]._memories["v"], torch.Tensor)
    np.testing.assert_allclose(captured.graph.neurons[0].decay, 2 / 3)
