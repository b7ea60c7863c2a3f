"""Names that lie, and neurons of a user's own.

Libraries reuse a class's name for other mathematics
(docs/semantics.md#same-name-other-mathematics). The classes below bear such names;
where a library is not installed here they follow its published equations, or on purpose
do not. The real packages are checked by tests/oracles.
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

import snncc
import snncc_torch
from frontend.test_torch_neurons import FakeIF, FakeLIF, FakeNode, FakePLIF, bear
from snncc.errors import ModelError, UsageError
from snncc.ir import Neuron, Reset, Rounding, SynapseOrder
from snncc_torch import NeuronSpec, sfa_neurons
from snncc_torch.neurons.recognise import find_neurons
from snncc_torch.registry import REGISTERED

ACTIVATION, CLOCK = "spikingjelly.activation_based.neuron", "spikingjelly.clock_driven.neuron"


@pytest.fixture(autouse=True)
def only_what_a_test_registers():
    REGISTERED.clear()
    yield
    REGISTERED.clear()


def neuron_of(module) -> Neuron:
    found = find_neurons(module.eval())
    assert not found.problems, found.problems
    return found.sites[0].neuron


def refusal(module) -> str:
    (problem,) = find_neurons(nn.Sequential(module).eval()).problems
    assert problem.code == "SNNC-M005"
    assert problem.where == "0"
    return problem.what


# ---- spikingjelly -------------------------------------------------------------------------------


class OldMultiStep(FakeNode):
    """clock_driven's MultiStep classes have no step_mode: the class takes [T, B, ...]."""

    def __init__(self, **base):
        super().__init__(**base)
        del self.step_mode

    def forward(self, x):
        return torch.stack([self.step(t) for t in x])


class OldIF(OldMultiStep, FakeIF):
    pass


class OldLIF(OldMultiStep, FakeLIF):
    pass


class OldPLIF(OldMultiStep, FakePLIF):
    pass


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.3])
@pytest.mark.parametrize(
    "cls",
    [bear(OldIF, CLOCK, "MultiStepIFNode"), bear(OldLIF, CLOCK, "MultiStepLIFNode"),
     bear(OldPLIF, CLOCK, "MultiStepParametricLIFNode")],
)  # fmt: skip
def test_the_old_multi_step_classes(cls, v_reset):
    found = find_neurons(cls(v_reset=v_reset).eval())
    assert not found.problems
    assert found.sites[0].time == "multi"


def test_an_old_multi_step_class_is_captured():
    cls = bear(OldLIF, CLOCK, "MultiStepLIFNode")
    net = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(3, 5)), cls(v_threshold=0.2)).eval()
    model = snncc_torch.capture(net, torch.zeros(4, 1, 3))
    assert model.graph.steps == 4


def test_qtrick_bears_the_name_and_attributes_and_fires_without_threshold():
    """Trap 1: the vendored spikingjelly whose outputs agree on 55 % only."""

    class Qtrick(OldLIF):
        def step(self, x):
            v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
            spike = (v >= 0).to(x)
            self._memories["v"] = v - spike * self.v_threshold
            return spike

    qtrick = bear(Qtrick, CLOCK, "MultiStepLIFNode")
    assert refusal(qtrick()) == "MultiStepLIFNode behaves differently from the neuron whose name it bears"


class FakeKLIF(FakeLIF):
    def __init__(self, k=1.0, scale_reset=False, **base):
        super().__init__(**base)
        self.k, self.scale_reset = nn.Parameter(torch.tensor(k)), scale_reset

    def step(self, x):
        v = torch.relu(self.k * self.charge(self._memories["v"] + torch.zeros_like(x), x))
        spike, k = (v >= self.v_threshold).to(x), self.k if self.scale_reset else 1.0
        v = v / k
        soft = v - spike * self.v_threshold / k
        self._memories["v"] = soft if self.v_reset is None else (1 - spike) * v + spike * self.v_reset
        return spike.detach()


KLIFNode = bear(FakeKLIF, f"{ACTIVATION}.lif_variants", "KLIFNode")


@pytest.mark.parametrize("scale_reset", [True, False])
@pytest.mark.parametrize("k", [1.0, 0.8, 1.5])
@pytest.mark.parametrize("v_reset", [None, 0.0, 0.3])
def test_klif_is_a_leaky_neuron_clamped_at_zero(v_reset, k, scale_reset):
    neuron = neuron_of(KLIFNode(tau=2.0, v_reset=v_reset, k=k, scale_reset=scale_reset))
    assert neuron.v_min == 0
    assert neuron.threshold == (pytest.approx(1 / k) if scale_reset else 1.0)
    assert neuron.decay == pytest.approx(0.5 if scale_reset else 0.5 * k)


def test_klif_with_one_is_a_lif_with_a_clamp():
    neuron = neuron_of(KLIFNode(tau=4.0, v_reset=None))
    assert (neuron.decay, neuron.gain, neuron.threshold, neuron.v_min) == (0.75, 0.25, 1.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"v_reset": -0.3}, "v_reset below 0 is undone by the rectifier of the next step, got -0.3"),
        ({"k": -1.0}, "k must be positive to be a leaky neuron, got -1"),
    ],
)
def test_klif_that_cannot_be_expressed(changed, text):
    assert refusal(KLIFNode(**changed)) == f"KLIFNode cannot be expressed: {text}"


class FakeILIF(FakeLIF):
    def __init__(self, levels=4, **base):
        super().__init__(decay_input=False, v_reset=None, **base)
        self.surrogate_function = nn.Module()
        self.surrogate_function.max_spike_count = levels

    def count(self, x):
        return torch.round(x.clamp(0, self.surrogate_function.max_spike_count))

    def step(self, x):
        v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
        n = self.count(v / self.v_threshold)
        self._memories["v"] = v - n * self.v_threshold
        return n


def test_ilif_fires_integers_and_decays_behind_the_subtraction():
    ilif = bear(FakeILIF, f"{ACTIVATION}.ilif", "ILIFNode")
    neuron = neuron_of(ilif(tau=2.0, levels=8))
    assert (neuron.max_spikes, neuron.rounding, neuron.decay, neuron.gain) == (
        8,
        Rounding.HALF_EVEN,
        0.5,
        1.0,
    )
    assert neuron.reset is Reset.SUBTRACT


def test_an_ilif_that_rounds_ties_up_is_refused_whatever_its_time_constant():
    class HalfUp(FakeILIF):
        def count(self, x):
            return torch.floor(x.clamp(0, self.surrogate_function.max_spike_count) + 0.5)

    half_up = bear(HalfUp, f"{ACTIVATION}.ilif", "ILIFNode")
    assert "behaves differently" in refusal(half_up(tau=1.7, v_threshold=0.7))


def test_a_comparison_is_seen_whatever_the_time_constant_is():
    class Strict(FakeLIF):
        def step(self, x):
            v = self.charge(self._memories["v"] + torch.zeros_like(x), x)
            spike = (v > self.v_threshold).to(x)
            self._memories["v"] = (1 - spike) * v + spike * self.v_reset
            return spike

    strict = bear(Strict, f"{ACTIVATION}.lif", "LIFNode")
    assert "behaves differently" in refusal(strict(tau=1.7, v_threshold=0.7))


@pytest.mark.parametrize(
    ("file", "name", "reason"),
    [
        ("nonlinear_if", "QIFNode", "its membrane is charged by a non-linear function of itself"),
        ("nonlinear_if", "EIFNode", "its membrane is charged by a non-linear function of itself"),
        ("adapt", "IzhikevichNode", "it has a second state that adapts to its own spikes"),
        ("ternary", "TernaryIFNode", "it fires negative spikes"),
        ("lif_variants", "GatedLIFNode", "its leak, reset and conductance are gated, and differ from timestep to timestep"),
        ("lif_variants", "ComplementaryLIFNode", "it has a second (complementary) membrane that changes the reset"),
        ("psn", "PSN", "it weighs the inputs of several timesteps, later ones too, in place of a membrane"),
        ("psn", "SlidingPSN", "it weighs the inputs of the last k timesteps in place of a membrane"),
    ],
)  # fmt: skip
def test_what_no_chip_can_be_given_is_refused_by_name_and_reason(file, name, reason):
    for full in (f"{ACTIVATION}.{file}", ACTIVATION):
        cls = bear(FakeLIF, full, name)
        net = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(3, 2)), cls(), nn.Softsign(), cls()).eval()
        with pytest.raises(ModelError) as caught:
            snncc_torch.capture(net, torch.zeros(2, 1, 3))
        # Each one, and what else is wrong with the model: all at once.
        by_place = {p.where: p for p in caught.value.problems}
        assert set(by_place) >= {"1", "2", "3"}
        assert by_place["1"].what == f"{name} cannot be expressed: {reason}"


# ---- SFA neurons of research code ---------------------------------------------------------------


class MultiSpike(nn.Module):
    """E-SpikeFormer, as published: round half to even, the limit and Norm are attributes."""

    def __init__(self, max_value=4, Norm=None):
        super().__init__()
        self.min_value, self.max_value = 0, max_value
        self.Norm = max_value if Norm is None else Norm

    def forward(self, x):
        return torch.round(torch.clamp(x, self.min_value, self.max_value)) / self.Norm


class Multispike(nn.Module):
    """E-SpikeFormer-large: round half up; the clamp is 4 whatever ``lens`` says (trap 2)."""

    def __init__(self, norm=4):
        super().__init__()
        self.lens, self.norm = norm, norm

    def forward(self, x):
        return torch.floor(torch.clamp(x, 0, 4) + 0.5) / self.norm


class QCFS(nn.Module):
    def __init__(self, L=8, thresh=2.0):
        super().__init__()
        self.L, self.thresh = L, nn.Parameter(torch.tensor([thresh]), requires_grad=False)

    def forward(self, x):
        return torch.floor(torch.clamp(x / self.thresh, 0, 1) * self.L + 0.5) / self.L * self.thresh


class Q_IFNode(nn.Module):  # noqa: N801
    """Qtrick's single-step IF: fires round(clip(v, 0, 4)), always subtracts, keeps its membrane."""

    def __init__(self, by=1.0):
        super().__init__()
        self.v, self.by = 0.0, by

    def reset(self):
        self.v = 0.0

    def forward(self, x):
        v = self.v + x
        n = torch.round(v.clamp(0, 4))
        self.v = v - n * self.by
        return n


class IntegerLIF(nn.Module):
    """``mem_update`` of SpikeYOLO."""

    def forward(self, x):
        out, mem, spike = [], 0.0, 0.0
        for drive in x:
            mem = (mem - spike) * 0.25 + drive
            spike = torch.round(mem.clamp(0, 4))
            out.append(spike)
        return torch.stack(out)


# As a user's file has them.
for _cls in (MultiSpike, Multispike, QCFS, Q_IFNode, IntegerLIF):
    _cls.__module__ = "models"


@pytest.mark.parametrize(
    ("module", "recogniser", "levels", "rounding", "unit"),
    [
        (MultiSpike(), sfa_neurons.multi_spike, 4, "half_even", 0.25),
        (MultiSpike(8, Norm=1), sfa_neurons.multi_spike, 8, "half_even", 1.0),
        (Multispike(1), sfa_neurons.multispike, 4, "half_up", 1.0),
        (Multispike(8), sfa_neurons.multispike, 4, "half_up", 0.125),
        (QCFS(), sfa_neurons.qcfs, 8, "half_up", 0.25),
        (QCFS(4, 1.7), sfa_neurons.qcfs, 4, "half_up", 0.425),
    ],
)
def test_published_sfa_neurons_once_they_are_registered(module, recogniser, levels, rounding, unit):
    snncc.register_neuron(type(module), recogniser)
    neuron = neuron_of(module)
    assert (neuron.max_spikes, neuron.rounding, neuron.is_stateless) == (levels, rounding, True)
    assert neuron.output_scale == pytest.approx(unit)


@pytest.mark.parametrize(
    ("module", "recogniser"),
    [
        (MultiSpike(4, Norm=1), sfa_neurons.sfa(4, rounding="half_up")),  # differs on ties alone
        (Multispike(1), sfa_neurons.sfa(1, rounding="half_up")),  # what its attribute `lens` says
        (Multispike(8), sfa_neurons.sfa(8, rounding="half_up", divisor=8)),
        (Multispike(4), sfa_neurons.sfa(4, divisor=4)),
        (MultiSpike(), sfa_neurons.sfa(4)),  # without /D
        (MultiSpike(4, Norm=1), sfa_neurons.sfa(5)),
        (QCFS(), sfa_neurons.sfa(8, threshold=0.25, divisor=4)),
        (Q_IFNode(), sfa_neurons.integer_lif(decay=1.0)),  # takes T for time
        (IntegerLIF(), sfa_neurons.integer_lif(decay=0.5)),
        (IntegerLIF(), sfa_neurons.sfa(4)),
    ],
)
def test_a_wrong_claim_is_refused(module, recogniser):
    snncc.register_neuron(type(module), recogniser)
    assert "behaves differently" in refusal(module)


def test_a_registered_neuron_is_captured():
    snncc.register_neuron("models.MultiSpike", sfa_neurons.multi_spike)
    model = snncc_torch.capture(nn.Sequential(nn.Linear(3, 5), MultiSpike()).eval(), torch.zeros(1, 3))
    (neuron,) = model.graph.neurons
    assert (neuron.source, neuron.max_spikes, neuron.output_scale) == ("1", 4, 0.25)


def test_a_single_step_node_that_gets_all_timesteps_takes_them_for_a_batch():
    """Trap 3: no spike depends on its reset, so that it is a stateless neuron and nothing else."""
    snncc.register_neuron("models.Q_IFNode", sfa_neurons.q_ifnode)
    for node in (Q_IFNode(), Q_IFNode(by=0.3)):
        net = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(3, 5)), node).eval()
        net(torch.randn(4, 1, 3))  # leaves a membrane behind
        model = snncc_torch.capture(net, torch.zeros(4, 1, 3), timesteps=4)
        assert model.graph.neurons[0].is_stateless
        assert model.graph.steps == 4


def test_a_single_step_node_with_a_membrane_that_gets_all_timesteps_is_refused():
    node = bear(FakeIF, f"{ACTIVATION}.integrate_and_fire", "IFNode")(step_mode="s")
    net = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(3, 5)), node).eval()
    with pytest.raises(ModelError, match="a single-step neuron gets all timesteps as a batch"):
        snncc_torch.capture(net, torch.zeros(4, 1, 3), timesteps=4)


def test_a_node_with_a_membrane_called_twice_is_no_stateless_neuron():
    snncc.register_neuron("models.Q_IFNode", sfa_neurons.sfa(4))
    assert "behaves differently" in refusal(Q_IFNode())


def test_an_integer_lif_over_time():
    snncc.register_neuron("models.IntegerLIF", sfa_neurons.integer_lif())
    neuron = neuron_of(IntegerLIF())
    assert (neuron.decay, neuron.max_spikes, neuron.rounding) == (0.25, 4, Rounding.HALF_EVEN)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (MultiSpike(), '"models.MultiSpike", snncc_torch.sfa_neurons.multi_spike'),
        (Multispike(1), '"models.Multispike", snncc_torch.sfa_neurons.multispike'),
        (QCFS(), '"models.QCFS", snncc_torch.sfa_neurons.qcfs'),
    ],
)
def test_an_unknown_neuron_is_refused_with_the_line_that_registers_it(module, line):
    with pytest.raises(ModelError) as caught:
        snncc_torch.capture(nn.Sequential(nn.Linear(3, 5), module).eval(), torch.zeros(1, 3))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("SNNC-M005", "1")
    assert problem.hint == f"snncc.register_neuron({line})"


# ---- registering --------------------------------------------------------------------------------


class Leaky(nn.Module):
    """A neuron of the user's own: multi-step, strict comparison, reset to a value."""

    def __init__(self, beta=0.5, theta=1.0):
        super().__init__()
        self.beta, self.theta = beta, theta

    def forward(self, x):
        v, out = torch.zeros_like(x[0]), []
        for drive in x:
            v = self.beta * v + drive
            spike = (v > self.theta).to(x)
            v = torch.where(spike > 0, torch.tensor(0.25), v)
            out.append(spike)
        return torch.stack(out)


Leaky.__module__ = "models"


def test_register_neuron_as_a_decorator():
    @snncc.register_neuron("models.Leaky")
    def leaky(module):
        return NeuronSpec(
            decay=module.beta,
            threshold=module.theta,
            strict=True,
            reset="value",
            reset_to=0.25,
            layout="multi",
        )

    assert callable(leaky)
    neuron = neuron_of(Leaky())
    assert (neuron.strict, neuron.reset_to) == (True, 0.25)
    net = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(3, 5)), Leaky()).eval()
    assert snncc_torch.capture(net, torch.zeros(4, 1, 3)).graph.steps == 4


@pytest.mark.parametrize(
    "wrong",
    [{"strict": False}, {"reset_to": 0.0}, {"decay": 0.51}, {"reset": "subtract"}, {"max_spikes": 2}, {"v_init": 0.5}],
)  # fmt: skip
def test_a_registered_neuron_is_verified(wrong):
    right = {"decay": 0.5, "strict": True, "reset": "value", "reset_to": 0.25}
    snncc.register_neuron("models.Leaky", lambda module: NeuronSpec(**{**right, **wrong}))
    assert "behaves differently" in refusal(Leaky())


def test_a_subclass_is_registered_as_the_class_it_is_like():
    base = bear(FakeLIF, f"{ACTIVATION}.lif", "LIFNode")
    mine = bear(base, "models", "MyLIF")
    (problem,) = find_neurons(mine().eval()).problems
    assert problem.hint == f'snncc.register_neuron("models.MyLIF", "{ACTIVATION}.lif.LIFNode")'
    snncc.register_neuron("models.MyLIF", f"{ACTIVATION}.lif.LIFNode")
    assert neuron_of(mine(tau=4.0)).decay == 0.75


def test_names_that_lead_in_a_circle_are_no_neuron():
    snncc.register_neuron("models.Leaky", "models.Other")
    snncc.register_neuron("models.Other", "models.Leaky")
    assert find_neurons(Leaky()).sites == ()


@pytest.mark.parametrize("name", ["Leaky", "torch.nn.modules.activation.ReLU", nn.ReLU])
def test_a_name_that_cannot_be_registered(name):
    with pytest.raises(UsageError, match="register_neuron takes the full name of a neuron class"):
        snncc.register_neuron(name, sfa_neurons.multi_spike)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda m: NeuronSpec(layout="sideways"), "layout is 'sideways'"),
        (lambda m: NeuronSpec(rounding="nearest"), "'nearest' is not a valid Rounding"),
        (lambda m: NeuronSpec(decay=m.nothing), "no attribute 'nothing'"),
        (lambda m: None, "no attribute 'neuron'"),
        (lambda m: 1 / 0, "division by zero"),
    ],
)
def test_a_recogniser_that_fails_is_a_problem_of_the_module(function, text):
    snncc.register_neuron("models.Leaky", function)
    (problem,) = find_neurons(Leaky()).problems
    assert problem.code == "SNNC-M005"
    assert text in str(problem)


def test_registering_needs_no_torch():
    code = (
        "import sys, snncc\n"
        "snncc.register_neuron('models.MultiSpike', 'models.Other')\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_library_that_overrides_modules_hides_no_neuron():
    """Trap 5: rockpool overrides modules() and parameters()."""

    class Rockpool(nn.Sequential):
        def modules(self, *args, **kwargs):
            return {}

        def named_modules(self, *args, **kwargs):
            return {}

    found = find_neurons(Rockpool(nn.Linear(3, 5), snncc_torch.nn.SFA(4)).eval())
    assert [site.path for site in found.sites] == ["1"]


# ---- sinabs -------------------------------------------------------------------------------------

SPIKES, RESETS = "sinabs.activation.spike_generation", "sinabs.activation.reset_mechanism"


class MultiSpikeFn:
    limit = None

    @classmethod
    def fire(cls, v, threshold):
        n = (v > 0) * torch.div(v, threshold, rounding_mode="trunc")
        return n if cls.limit is None else n.clamp(max=cls.limit)


class SingleSpikeFn:
    @classmethod
    def fire(cls, v, threshold):
        return (v - threshold >= 0).float()


class Subtract:
    subtract_value = None

    def __call__(self, n, v, threshold):
        return v - n * (threshold if self.subtract_value is None else self.subtract_value)


class Zero:
    def __init__(self, reset_value=0.0):
        self.reset_value = reset_value

    def __call__(self, n, v, threshold):
        return v * (n == 0).float() + self.reset_value


FIRE = {
    "MultiSpike": bear(MultiSpikeFn, SPIKES, "MultiSpike"),
    "SingleSpike": bear(SingleSpikeFn, SPIKES, "SingleSpike"),
}
MembraneSubtract, MembraneReset = (
    bear(Subtract, RESETS, "MembraneSubtract"),
    bear(Zero, RESETS, "MembraneReset"),
)


class StatefulLayer(nn.Module):
    pass


class SqueezeMixin:
    pass


StatefulLayer = bear(StatefulLayer, "sinabs.layers.stateful_layer", "StatefulLayer")
SqueezeMixin = bear(SqueezeMixin, "sinabs.layers.reshape", "SqueezeMixin")


class FakeLayer(StatefulLayer):
    """sinabs' LIF, on [B, T, ...]; alpha None is the IAF."""

    def __init__(
        self, alpha=None, fire="MultiSpike", reset=None, threshold=1.0, low=None, synapse=None, norm=False
    ):
        super().__init__()
        self.alpha_mem_calculated = torch.tensor(1.0 if alpha is None else alpha)
        self.alpha_syn_calculated = None if synapse is None else torch.tensor(synapse)
        self.spike_fn, self.reset_fn = fire and FIRE[fire], reset or MembraneSubtract()
        self.spike_threshold = nn.Parameter(torch.tensor(threshold), requires_grad=False)
        self.min_v_mem = None if low is None else nn.Parameter(torch.tensor(low), requires_grad=False)
        self.norm_input = norm
        self.register_buffer("v_mem", torch.zeros(0))
        self.register_buffer("i_syn", torch.zeros(0))

    def forward(self, x):
        fresh = self.v_mem.shape != x[:, 0].shape
        v, i = (torch.zeros_like(x[:, 0]) if fresh else s for s in (self.v_mem, self.i_syn))
        out = []
        for t in range(x.shape[1]):
            drive = x[:, t]
            if self.alpha_syn_calculated is not None:
                drive = i = self.alpha_syn_calculated * (i + drive)
            drive = (1 - self.alpha_mem_calculated) * drive if self.norm_input else drive
            v = self.alpha_mem_calculated * v + drive
            out.append(v if self.spike_fn is None else self.spike_fn.fire(v, self.spike_threshold))
            v = v if self.spike_fn is None else self.reset_fn(out[-1], v, self.spike_threshold)
            v = v if self.min_v_mem is None else torch.relu(v - self.min_v_mem) + self.min_v_mem
        self.v_mem, self.i_syn = v, i
        return torch.stack(out, 1)


class FakeSqueeze(FakeLayer, SqueezeMixin):
    def __init__(self, batch_size=-1, num_timesteps=-1, **base):
        super().__init__(**base)
        self.batch_size, self.num_timesteps = batch_size, num_timesteps

    def forward(self, x):
        return super().forward(x.reshape(self.batch_size, self.num_timesteps, *x.shape[1:])).flatten(0, 1)


IAF, LIF = bear(FakeLayer, "sinabs.layers.iaf", "IAF"), bear(FakeLayer, "sinabs.layers.lif", "LIF")
IAFSqueeze = bear(FakeSqueeze, "sinabs.layers.iaf", "IAFSqueeze")
ExpLeak = bear(FakeLayer, "sinabs.layers.exp_leak", "ExpLeak")


@pytest.mark.parametrize(
    ("module", "fields"),
    [
        (IAF(), {"max_spikes": 127, "decay": 1.0, "v_min": None}),
        (IAF(fire="SingleSpike", low=-0.3), {"max_spikes": 1, "v_min": pytest.approx(-0.3)}),
        (LIF(alpha=0.8, norm=True), {"decay": pytest.approx(0.8), "gain": pytest.approx(0.2)}),
        (LIF(alpha=0.8, reset=MembraneReset()), {"reset": Reset.VALUE, "reset_to": 0.0}),
        (
            LIF(alpha=0.8, synapse=0.6),
            {"synapse_decay": pytest.approx(0.6), "synapse_order": SynapseOrder.ADD_DECAY_READ},
        ),
        (ExpLeak(alpha=0.8, fire=None), {"max_spikes": 0, "decay": pytest.approx(0.8)}),
    ],
)
def test_sinabs_neurons(module, fields):
    neuron = neuron_of(module)
    assert {name: getattr(neuron, name) for name in fields} == fields


def test_a_reset_value_that_sinabs_adds_at_every_step_is_expressed_as_it_is():
    """MembraneReset(r) adds r also where nothing fired: a bias, as it turns out."""
    neuron = neuron_of(LIF(alpha=0.5, reset=MembraneReset(0.25), fire="SingleSpike", low=-0.5))
    assert (neuron.bias, neuron.v_init, neuron.reset_to, neuron.v_min) == (0.125, -0.25, 0.0, -0.75)


def test_sinabs_squeezed_layers_are_captured_for_one_sample_whatever_their_batch_is():
    for batch in (1, 4):
        net = nn.Sequential(nn.Linear(3, 5), IAFSqueeze(batch_size=batch, threshold=0.5)).eval()
        net(torch.randn(8 * batch, 3))  # leaves membranes of that batch behind
        model = snncc_torch.capture(net, torch.zeros(8, 3))
        assert model.graph.steps == 8
        assert any("at most 127 a timestep are assumed" in note for note in model.notes)
        assert net[1].batch_size == batch
        assert net[1].v_mem.shape == (batch, 5)


def test_sinabs_layers_on_batch_and_time_are_captured():
    net = nn.Sequential(
        nn.Linear(3, 5), LIF(alpha=0.8, threshold=0.3), nn.Linear(5, 2), ExpLeak(alpha=0.8, fire=None)
    )
    model = snncc_torch.capture(net.eval(), torch.zeros(1, 6, 3))
    assert model.graph.steps == 6
    assert [n.is_readout for n in model.graph.neurons] == [False, True]


def test_timesteps_that_a_squeezed_layer_does_not_fit():
    net = nn.Sequential(nn.Linear(3, 5), IAFSqueeze(batch_size=1)).eval()
    with pytest.raises(UsageError, match="does not fit the example"):
        snncc_torch.capture(net, torch.zeros(8, 3), timesteps=3)


class OneSpike(MultiSpikeFn):
    limit = 1


class Rounds(MultiSpikeFn):
    @classmethod
    def fire(cls, v, threshold):
        return torch.round(v / threshold).clamp(min=0)


@pytest.mark.parametrize("impostor", [OneSpike, Rounds])
def test_sinabs_names_over_other_mathematics_are_refused(impostor):
    module = IAF()
    module.spike_fn = bear(impostor, SPIKES, "MultiSpike")
    assert "behaves differently" in refusal(module)


def test_a_clamp_before_the_reset_is_refused():
    class Early(FakeLayer):
        def forward(self, x):
            out, v = [], torch.zeros_like(x[:, 0])
            for t in range(x.shape[1]):
                v = torch.relu(v + x[:, t] - self.min_v_mem) + self.min_v_mem
                out.append(self.spike_fn.fire(v, self.spike_threshold))
                v = v - 2 * out[-1]
            return torch.stack(out, 1)

    early = bear(Early, "sinabs.layers.iaf", "IAF")
    assert "behaves differently" in refusal(early(low=-1.0))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spike_fn": nn.ReLU}, "its spike function torch.nn.modules.activation.ReLU is none of sinabs' own"),
        (
            {"reset_fn": nn.ReLU()},
            "its reset function torch.nn.modules.activation.ReLU is none of sinabs' own",
        ),
        ({"alpha_mem_calculated": torch.ones(3)}, "tau_mem per neuron or channel is not supported yet"),
    ],
)
def test_sinabs_parts_that_cannot_be_expressed(change, text):
    module = LIF(alpha=0.8)
    for name, value in change.items():
        module.__dict__[name] = value
    assert refusal(module) == f"LIF cannot be expressed: {text}"


def test_a_bounded_readout_is_refused():
    what = "ExpLeak cannot be expressed: min_v_mem bounds the membrane of a readout, which snncc's cannot"
    assert refusal(ExpLeak(alpha=0.8, fire=None, low=-1.0)) == what


def test_layers_that_change_the_shape_are_refused_before_tracing():
    pool = bear(FakeLayer, "sinabs.layers.pool2d", "SpikingMaxPooling2dLayer")
    with pytest.raises(ModelError, match="it compares spike counts over time"):
        snncc_torch.capture(nn.Sequential(nn.Linear(3, 5), pool()).eval(), torch.zeros(4, 3))


def test_sum_pooling_is_a_mean_times_its_window():
    class SumPool(nn.LPPool2d):
        pass

    pool = bear(SumPool, "sinabs.layers.pool2d", "SumPool2d")(1, 2)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), snncc_torch.nn.SFA(4), pool, nn.Flatten(), nn.Linear(12, 2)
    ).eval()
    model = snncc_torch.capture(net, torch.zeros(1, 1, 6, 6))
    assert model.comparison.worst <= 1
