"""`.pt` files: what loads, what is refused with which message, and attacks that must not run."""

import collections
import io
import json
import pickle
import struct
import sys
import textwrap
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import snncc_torch
from snncc.errors import SnnccError
from snncc.ir import to_text
from snncc.plugins import LoadOptions
from snncc_torch.files import ptfile
from snncc_torch.nn import IF, ILIF, LIF, SFA, OverTime, PerStep, Residual
from snncc_torch.plugin import FRONTEND


def network():
    torch.manual_seed(0)
    layers = [
        ("conv", nn.Conv2d(1, 2, 3, padding="same")), ("norm", nn.BatchNorm2d(2)), ("fire", SFA(4)),
        ("skip", Residual(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout2d(0.1), SFA(4)))),
        ("pool", nn.AvgPool2d(2)), ("flat", nn.Flatten()), ("head", nn.Linear(8, 3)),
    ]  # fmt: skip
    return nn.Sequential(collections.OrderedDict(layers)).eval()


def described(module=None, **more):
    x = np.random.default_rng(0).integers(0, 5, (6, 1, 4, 5))
    return snncc_torch.describe(
        module or network(), (1, 4, 5), 1, 4, calibration=x, labels=np.arange(6), **more
    )


def saved(tmp_path, thing, name="model.pt", **options):
    path = tmp_path / name
    torch.save(thing, path, **options)
    return path


def load(path, **options):
    return FRONTEND.load(Path(path), LoadOptions(**options))


def refusal(path, **options):
    with pytest.raises(SnnccError) as caught:
        load(path, **options)
    return caught.value


def rezip(path, change):
    """Rewrite an archive: ``change`` maps {name: bytes} to the same."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(members).items():
            archive.writestr(name, data)
    return path


def repickled(path, change):
    def edit(members):
        (name,) = [n for n in members if n.endswith("/data.pkl")]
        return {**members, name: change(members[name])}

    return rezip(path, edit)


# ---- what loads ---------------------------------------------------------------------------------


def test_a_described_module_needs_no_options(tmp_path):
    module = described()
    model = load(saved(tmp_path, module))
    assert model.graph.input.levels == 4
    assert model.calibration.shape == (6, 1, 1, 4, 5)
    assert model.calibration.dtype == np.int64
    assert model.labels.tolist() == [0, 1, 2, 3, 4, 5]
    direct = snncc_torch.capture(module, torch.zeros(1, 1, 4, 5), input_levels=4)
    assert to_text(model.graph) == to_text(direct.graph)


def test_calibration_counts_are_stored_as_bytes():
    assert described()._snncc["calibration"].dtype is torch.uint8


def test_options_win_over_the_description(tmp_path):
    model = load(saved(tmp_path, snncc_torch.describe(network(), (1, 4, 5), 1, 4)), input_levels=0)
    assert model.graph.input.levels == 0


def test_options_that_change_the_input_drop_its_calibration(tmp_path):
    model = load(saved(tmp_path, described()), input_levels=2)
    assert model.calibration is None
    assert model.notes[-1] == (
        "options change the input: the calibration inputs in the file do not fit and are not used"
    )


def test_every_allowed_class_of_ours_loads(tmp_path):
    net = nn.Sequential(
        PerStep(nn.Conv2d(1, 2, 3), nn.Identity(), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(),
                nn.Unflatten(1, (2, 2))),
        PerStep(nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 4), nn.BatchNorm1d(4)),
        IF(), PerStep(nn.Linear(4, 4)), LIF(), ILIF(3, 0.5, 0.0), Residual(PerStep(nn.Linear(4, 4))), OverTime(),
    ).eval()  # fmt: skip
    model = load(saved(tmp_path, net), input_shape=(1, 4, 5), timesteps=3)
    assert model.graph.steps == 3


def test_a_factory_serves_state_dicts_and_checkpoints(tmp_path, monkeypatch):
    (tmp_path / "thefactory.py").write_text(
        textwrap.dedent("""
            from torch import nn
            from snncc_torch.nn import SFA
            def build():
                return nn.Sequential(nn.Linear(3, 2), SFA(4))
            def wider():
                return nn.Sequential(nn.Linear(3, 5), SFA(4))
            def nothing():
                return 5
        """)
    )
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Linear(3, 2), SFA(4))
    plain = saved(tmp_path, net.state_dict(), "sd.pt")
    checkpoint = saved(tmp_path, {"epoch": 3, "state_dict": net.state_dict()}, "check.pt")
    for path in (plain, checkpoint):
        model = load(path, factory="thefactory:build", input_shape=(3,))
        np.testing.assert_array_equal(model.graph.nodes[1].weight.array, net[0].weight.detach().numpy())
    assert str(tmp_path) not in sys.path
    text = str(refusal(plain, factory="thefactory:wider", input_shape=(3,)))
    assert text.startswith(
        "[SNNC-U010] --model: the weights do not fit what thefactory:wider builds, got Error(s)"
    )
    assert str(refusal(plain, factory="thefactory:nothing", input_shape=(3,))) == (
        "[SNNC-U010] --model: thefactory:nothing returns no torch.nn.Module, got int."
    )
    assert str(refusal(plain, factory="thefactory:missing")) == (
        "[SNNC-U010] --model: thefactory:missing cannot be called, got AttributeError: "
        "module 'thefactory' has no attribute 'missing'."
    )
    assert refusal(plain, factory="no.such:thing").code == "SNNC-U010"
    assert (
        str(refusal(plain, factory="thefactory"))
        == "[SNNC-U010] --model: must be pkg.mod:factory, got thefactory."
    )


# spikingjelly is not installed here: a stand-in with the attributes of its IFNode (2.0) and the
# equations of its documentation takes its place in sys.modules.
SPIKINGJELLY = "spikingjelly.activation_based.neuron.integrate_and_fire"


class IFNode(nn.Module):
    __module__, __qualname__ = SPIKINGJELLY, "IFNode"

    def __init__(self):
        super().__init__()
        self._memories, self._memories_rv, self._step_mode = {"v": 0.0}, {"v": 0.0}, "m"
        self.v_threshold, self.v_reset, self.detach_reset = 1.0, None, False
        self._store_v_seq, self._neuron_precision, self.v_seq, self.lava_s_cale = False, None, None, 64
        self.surrogate_function = Sigmoid()

    @property
    def step_mode(self):
        return self._step_mode

    def forward(self, x):
        v, out = self._memories["v"], []
        for t in x:
            v = v + t
            out.append((v >= self.v_threshold).to(t))
            v = v - out[-1] * self.v_threshold
        self._memories["v"] = v
        return torch.stack(out)


class Sigmoid(nn.Module):
    __module__, __qualname__ = "spikingjelly.activation_based.surrogate", "Sigmoid"

    def __init__(self):
        super().__init__()
        self.spiking, self._sg_param_names, self.alpha = True, ("alpha",), 4.0


@pytest.fixture
def spikingjelly(monkeypatch):
    names = ["spikingjelly", "spikingjelly.activation_based", "spikingjelly.activation_based.neuron"]
    for name in [*names, SPIKINGJELLY, "spikingjelly.activation_based.surrogate"]:
        module = types.ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules[SPIKINGJELLY], "IFNode", IFNode, raising=False)
    monkeypatch.setattr(
        sys.modules["spikingjelly.activation_based.surrogate"], "Sigmoid", Sigmoid, raising=False
    )
    return monkeypatch


def test_a_module_with_spikingjelly_neurons(tmp_path, spikingjelly):
    net = nn.Sequential(PerStep(nn.Linear(3, 2)), IFNode()).eval()
    net(torch.ones(2, 1, 3))  # its state goes into the file and must not reach the graph
    path = saved(tmp_path, snncc_torch.describe(net, (3,), 2))
    assert load(path).graph.neurons[0].name == "1"
    net[1].v_threshold = [1]
    assert str(refusal(saved(tmp_path, net, "forged.pt"))) == (
        "[SNNC-M009] 1: attribute v_threshold has a value it cannot have, got a list."
    )
    for name in [n for n in sys.modules if n.split(".")[0] == "spikingjelly"]:
        spikingjelly.setitem(sys.modules, name, None)
    assert str(refusal(path)) == (
        f"[SNNC-M015] {path}: needs the package spikingjelly, got {SPIKINGJELLY}.IFNode. "
        "Try pip install spikingjelly."
    )


# ---- honest mistakes, whole messages ------------------------------------------------------------


def test_missing_shape_and_timesteps(tmp_path):
    path = saved(tmp_path, network())
    assert str(refusal(path)) == (
        f"[SNNC-M003] {path}: does not say what shape one input has. Try --input-shape C,H,W, or "
        "snncc_torch.describe(module, ...) before saving."
    )
    path = saved(tmp_path, nn.Sequential(PerStep(nn.Linear(3, 2)), IF()).eval())
    assert str(refusal(path, input_shape=(3,))) == (
        f"[SNNC-M003] {path}: does not say how many timesteps it takes. Try --timesteps T."
    )


def test_state_dict_without_factory(tmp_path):
    path = saved(tmp_path, network().state_dict())
    assert str(refusal(path)) == (
        f"[SNNC-M003] {path}: holds weights without the network that they belong to, "
        "got a state dict of 11 tensors. Try --model pkg.mod:factory --weights FILE, "
        "or snncc.export(module, example_input, 'model.snnc') in the training script."
    )
    path = saved(tmp_path, {"epoch": 1, "model": network().state_dict()})
    assert str(refusal(path)).startswith(
        f"[SNNC-M003] {path}: is a training checkpoint without the network that its weights belong to, "
        "got a dict of 2"
    )


class Mine(nn.Module):
    def forward(self, x):
        return x


def test_a_users_own_class_is_refused_with_both_ways_out(tmp_path):
    path = saved(tmp_path, nn.Sequential(Mine(), nn.GELU(), nn.Linear(3, 2)).eval())
    start = f"[SNNC-M002] {path}: holds a class that is not on the allow-list"
    ways = (
        "Try snncc.export(module, example_input, 'model.snnc') in the training script, "
        "or --model pkg.mod:factory --weights sd.pt."
    )
    assert str(refusal(path)) == (
        f"{start}, got {Mine.__module__}.Mine. {ways}\n{start}, got torch.nn.modules.activation.GELU. {ways}"
    )


def test_unsupported_but_known_layers_are_named_by_path(tmp_path):
    path = saved(
        tmp_path,
        nn.Sequential(
            nn.Conv2d(1, 1, 4, padding="same"), nn.Identity(), nn.Conv2d(1, 1, 2, padding="same")
        ).eval(),
    )
    assert [(p.code, p.where) for p in refusal(path, input_shape=(1, 5, 5)).problems] == [
        ("SNNC-M004", "0"),
        ("SNNC-M004", "2"),
    ]


def test_training_mode_in_a_file(tmp_path):
    assert refusal(saved(tmp_path, network().train()), input_shape=(1, 4, 5)).code == "SNNC-M008"


def test_nan_in_a_file(tmp_path):
    net = network()
    net.head.weight.data[0, 0] = float("nan")
    assert str(refusal(saved(tmp_path, net), input_shape=(1, 4, 5))) == (
        "[SNNC-M007] head.weight: is not finite, got 1 of 24 values NaN or infinite."
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"hello, I am no model\n" * 10, "is no model file: neither a torch archive nor a graph file"),
        (pickle.dumps({"a": 1}), "is no model file: neither a torch archive nor a graph file"),
        (b"PK\x03\x04" + b"\0" * 40, "is no model file: neither a torch archive nor a graph file"),
    ],
)
def test_no_model_at_all(tmp_path, content, text):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    error = refusal(path)
    assert (error.code, error.problems[0].what) == ("SNNC-M001", text)


def test_truncated_files(tmp_path):
    whole = saved(tmp_path, described()).read_bytes()
    for keep in (1, 10, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[:keep])
        assert refusal(path).code == "SNNC-M001"


def test_missing_file_and_folder(tmp_path):
    assert refusal(tmp_path / "none.pt").code == "SNNC-U001"
    (tmp_path / "folder.pt").mkdir()
    assert refusal(tmp_path / "folder.pt").code == "SNNC-U001"


def test_a_tensor_or_number_is_no_model(tmp_path):
    assert refusal(saved(tmp_path, torch.zeros(3))).code == "SNNC-M001"
    assert refusal(saved(tmp_path, 5)).code == "SNNC-M001"
    assert refusal(saved(tmp_path, [nn.Linear(2, 2)])).code == "SNNC-M001"


# ---- attacks ------------------------------------------------------------------------------------


class Call:
    """Pickles to a call of ``function`` with ``args``."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload ran"


def payloads(marker):
    import os
    import runpy

    return [
        Call(os.system, f"touch {marker}"),
        Call(eval, f"open({str(marker)!r}, 'w')"),
        Call(exec, f"open({str(marker)!r}, 'w')"),
        Call(runpy.run_path, str(marker)),
        Call(open, str(marker), "w"),
        Call(getattr, nn.Linear(1, 1), "forward"),
        Call(torch.load, str(marker)),
        Call(torch.hub.load, "x", "y"),
        Call(np.zeros, 3),
        Call(nn.Linear, 20000, 20000),
        Call(collections.OrderedDict, [("a", 1)]),
    ]


@pytest.mark.parametrize("number", range(11))
@pytest.mark.parametrize("place", ["root", "attribute", "in a tensor's place", "legacy", "raw pickle"])
def test_a_pickle_that_calls_anything_is_refused_unrun(tmp_path, marker, number, place, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    payload = payloads(marker)[number]
    net = network()
    if place == "attribute":
        net.conv.extra = payload
    elif place == "in a tensor's place":
        net.conv._parameters["weight"] = payload
    thing = net if place in ("attribute", "in a tensor's place") else payload
    path = tmp_path / "evil.pt"
    if place == "raw pickle":
        path.write_bytes(pickle.dumps(thing))
    else:
        torch.save(thing, path, _use_new_zipfile_serialization=place != "legacy")
    error = refusal(path, input_shape=(1, 4, 5))
    assert error.code == ("SNNC-S001" if place != "legacy" else error.code)
    assert error.code in ("SNNC-S001", "SNNC-M001")
    assert error.exit_code in (5, 1)


def test_the_message_names_the_call(tmp_path, marker):
    path = saved(tmp_path, payloads(marker)[0])
    assert str(refusal(path)) == (
        f"[SNNC-S001] {path}: mentions code that could do anything, got posix.system.\n"
        f"[SNNC-S001] {path}: calls a function while it loads, got posix.system."
    )


def test_stack_global_and_old_instructions(tmp_path, marker):
    old = f"(S'touch {marker}'\nios\nsystem\n.".encode()
    new = pickle.dumps(Call(eval, "1"), protocol=5)
    for data in (old, new, b"cos\nsystem\n(S'x'\ntR.", b"\x80\x02\x82\x01."):
        path = repickled(saved(tmp_path, described()), lambda _old, data=data: data)
        assert refusal(path).code == "SNNC-S001"


def test_streams_that_the_tree_could_misread(tmp_path):
    """What torch would do and what the tree shows must not part."""

    def edited(old, new):
        def change(data):
            assert old in data
            return data.replace(old, new, 1)

        return refusal(repickled(saved(tmp_path, described()), change))

    def changed_afterwards(data):
        """The root's state is built with training=5, then the memoised dict gets the right value."""
        assert data.endswith(b"ub.")
        forged = b"X\x08\x00\x00\x00trainingK\x05u" + b"r\x00\x00\x01\x00b" + b"j\x00\x00\x01\x00"
        return data[:-3] + forged + b"X\x08\x00\x00\x00training\x89s0."

    error = edited(b")\x81", b"K\x05\x85\x81")
    assert ("SNNC-S001", "passes arguments to a constructor") in [(p.code, p.what) for p in error.problems]
    error = edited(b"b.", b"b}b.")
    assert ("SNNC-M009", "builds an object twice") in [(p.code, p.what) for p in error.problems]
    error = refusal(repickled(saved(tmp_path, described()), changed_afterwards))
    assert [(p.code, p.where, p.got) for p in error.problems] == [("SNNC-M009", "model", "5")]


def test_a_small_file_cannot_declare_a_large_tensor(tmp_path):
    net = nn.Sequential(nn.Linear(4, 4)).eval()
    net[0].weight.data = torch.zeros(1).expand(10**6, 10**6)
    path = saved(tmp_path, net)
    assert path.stat().st_size < 10_000
    assert str(refusal(path, input_shape=(4,))) == (
        f"[SNNC-S002] {path}: a tensor is larger than its storage, "
        "got shape [1000000, 1000000], limit 1 elements."
    )


def test_a_storage_that_lies_about_its_size(tmp_path):
    path = saved(tmp_path, described())

    def shorter(members):
        (name,) = [n for n in members if n.endswith("data/0")]
        return {**members, name: members[name][:-4]}

    assert refusal(rezip(path, shorter)).code == "SNNC-S002"

    def missing(members):
        return {n: d for n, d in members.items() if not n.endswith("data/0")}

    assert refusal(rezip(saved(tmp_path, described()), missing)).code == "SNNC-M001"


def test_archive_tricks(tmp_path):
    def compressed(path):
        with zipfile.ZipFile(path) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path

    assert refusal(compressed(saved(tmp_path, described()))).code == "SNNC-S002"
    for name in ("../x", "/etc/passwd", "archive/../../x", "archive\\x", "C:/x", "a\nb"):
        path = rezip(saved(tmp_path, described()), lambda m, name=name: {**m, name: b""})
        assert refusal(path).code == "SNNC-S003", name
    path = saved(tmp_path, described())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
    assert refusal(path).code in ("SNNC-S002", "SNNC-M001")
    path = saved(tmp_path, described())
    link = zipfile.ZipInfo("model/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refusal(path).code == "SNNC-S003"


def attribute_attacks():
    def hook(net):
        net.conv._forward_hooks[0] = "x"

    def child(net):
        net.conv._modules["forward"] = nn.Linear(2, 2)

    def parameter(net):
        net.conv._parameters["more"] = nn.Parameter(torch.zeros(3))

    def loop(net):
        net.skip._modules["body"] = net

    def weight(value):
        return lambda n: n.conv._parameters.update(weight=value)

    def attribute(layer, **values):
        return lambda n: vars(n.get_submodule(layer)).update(values)

    huge = {"input_shape": (10**9,) * 3, "timesteps": 1, "input_levels": 0}
    value, lacks = "attribute {} has a value it cannot have", "has an attribute that its class Conv2d lacks"
    return {
        "stride is text": (attribute("conv", stride="x"), "conv", value.format("stride")),
        "stride is huge": (attribute("conv", stride=(10**9, 1)), "conv", value.format("stride")),
        "padding is huge": (attribute("conv", padding=(10**6, 0)), "conv", value.format("padding")),
        "bool for int": (attribute("fire", D=True), "fire", value.format("D")),
        "forward": (attribute("conv", forward="x"), "conv", lacks),
        "hook": (hook, "conv", value.format("_forward_hooks")),
        "hook dict": (attribute("conv", _backward_hooks={"a": 1}), "conv", value.format("_backward_hooks")),
        "child": (child, "conv", "has child modules that its class lacks"),
        "parameter": (parameter, "conv: parameter", "names differ from the class's"),
        "weight is text": (weight("x"), "conv: parameter weight", "is no tensor of the right kind"),
        "weight has 2 axes": (weight(torch.zeros(2, 2)), "conv: parameter weight", "must have 4 axes"),
        "weight is integer": (
            weight(torch.zeros(2, 1, 3, 3, dtype=torch.int64)),
            "conv: parameter weight",
            "is no tensor of the right kind",
        ),
        "missing": (lambda n: vars(n.conv).pop("groups"), "conv", "lacks the attribute groups"),
        "eps is text": (attribute("norm", eps="1"), "norm", value.format("eps")),
        "loop": (loop, "skip.body", "contains itself or is nested too deep"),
        "about": (attribute("", _snncc=huge), "model._snncc", "input_shape has a value it cannot have"),
        "about elsewhere": (attribute("conv", _snncc={}), "conv", lacks),
    }


@pytest.mark.parametrize("name", list(attribute_attacks()))
def test_forged_attributes(tmp_path, name):
    change, where, what = attribute_attacks()[name]
    net = described()
    change(net)
    error = refusal(saved(tmp_path, net))
    assert ("SNNC-M009", where, what) in [(p.code, p.where, p.what) for p in error.problems]


def test_all_forged_attributes_are_named_at_once(tmp_path):
    net = described()
    net.conv.stride = "x"
    net.head.bias = None
    net.fire.D = 0
    net.flat.extra = 1
    problems = refusal(saved(tmp_path, net)).problems
    assert [p.where for p in problems] == ["conv", "fire", "flat"]


def test_deep_and_large_pickles(tmp_path):
    deep = b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."
    assert refusal(repickled(saved(tmp_path, described()), lambda _: deep)).code == "SNNC-M001"
    lists = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    assert refusal(repickled(saved(tmp_path, described()), lambda _: lists)).code == "SNNC-M001"


def outcome(path):
    try:
        ptfile._from_module(ptfile._checked(ptfile._members(path, "f"), "f"))
    except SnnccError as error:
        return error.code
    return "loaded"


def test_corrupted_pickles_end_in_a_typed_error(tmp_path):
    """400 random edits of the stream, each in an archive with right checksums."""
    rng = np.random.default_rng(11)
    path = saved(tmp_path, described())
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    (name,) = [n for n in members if n.endswith("/data.pkl")]
    good = members[name]
    outcomes = collections.Counter()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data)))
            data[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, content in {**members, name: bytes(data)}.items():
                archive.writestr(member, content)
        path.write_bytes(buffer.getvalue())
        outcomes[outcome(path)] += 1
    assert {code[:6] for code in outcomes} <= {"SNNC-M", "SNNC-S", "loaded"}
    assert outcomes["SNNC-M001"] > 50
    assert {"SNNC-M009", "loaded"} <= set(outcomes)


def test_nothing_is_allow_listed_beyond_the_load(tmp_path):
    load(saved(tmp_path, described()))
    allowed = {getattr(c, "__module__", "") for c in torch.serialization.get_safe_globals()}
    assert not any(name.startswith(("snncc_torch", "torch.nn.modules")) for name in allowed)


# ---- export -------------------------------------------------------------------------------------


def test_export_writes_what_load_reads(tmp_path):
    from snncc.graphfile import read_graph_file

    module = described()
    path = snncc_torch.export(module, torch.zeros(1, 1, 4, 5), tmp_path / "m.snnc")
    model = read_graph_file(path)
    loaded = load(saved(tmp_path, module))
    assert to_text(model.graph) == to_text(loaded.graph)
    np.testing.assert_array_equal(model.calibration, loaded.calibration)
    np.testing.assert_array_equal(model.labels, loaded.labels)
    assert model.comparison == loaded.comparison


def test_export_of_a_users_own_class(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.fire = nn.Linear(3, 2), SFA(2)

        def forward(self, x):
            return self.fire(self.fc(x) * 2)

    path = snncc_torch.export(Own().eval(), torch.zeros(1, 3), tmp_path / "m.snnc", input_levels=2)
    with pytest.raises(
        SnnccError, match=r"^\[SNNC-U002\] .*m\.snnc: exists already\. Try another path, or force\.$"
    ):
        snncc_torch.export(Own().eval(), torch.zeros(1, 3), path, input_levels=2)
    snncc_torch.export(Own().eval(), torch.zeros(1, 3), path, input_levels=2, force=True)


def test_a_failed_export_leaves_nothing(tmp_path):
    with pytest.raises(SnnccError):
        snncc_torch.export(nn.Sequential(nn.ELU()).eval(), torch.zeros(1, 3), tmp_path / "m.snnc")
    with pytest.raises(SnnccError, match=r"^\[SNNC-U005\] .*: a graph file ends in \.snnc, got \.pt\.$"):
        snncc_torch.export(nn.Sequential(SFA()).eval(), torch.zeros(1, 3), tmp_path / "m.pt")
    with pytest.raises(SnnccError, match=r"^\[SNNC-U003\]"):
        snncc_torch.export(nn.Sequential(SFA()).eval(), torch.zeros(1, 3), tmp_path / "no" / "m.snnc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((0, 3),), "[SNNC-U005] input_shape: sizes must be positive, got (0, 3)."),
        (
            ((3,), 0),
            "[SNNC-U005] describe: timesteps must be at least 1 and input_levels not negative, got (0, 0).",
        ),
        (
            ((3,), 1, 0, None, [1]),
            "[SNNC-U005] labels: belong to calibration inputs, and there are none.",
        ),
        (((3,), 1, 0, [["a"] * 3]), "[SNNC-D003] calibration: must be numbers, got <U1."),
        (
            ((3,), 2, 0, np.zeros((5, 4))),
            "[SNNC-D004] calibration: has another shape, got [5, 4], limit [N, 3] or [N, 2, 3].",
        ),
        (((3,), 1, 0, np.full((5, 3), np.nan)), "[SNNC-D005] calibration: holds NaN or infinity."),
        (
            ((3,), 1, 4, np.full((5, 3), 5)),
            "[SNNC-D006] calibration: holds a value that is no count, limit 0..4.",
        ),
        (
            ((3,), 1, 4, np.ones((5, 3)), [1, 2]),
            "[SNNC-D004] labels: must be one a calibration input, got [2].",
        ),
    ],
)
def test_describe_checks_its_arguments(arguments, text):
    with pytest.raises(SnnccError) as caught:
        snncc_torch.describe(nn.Identity(), *arguments)
    assert str(caught.value) == text


def test_graph_file_header_is_plain_json(tmp_path):
    path = snncc_torch.export(described(), torch.zeros(1, 1, 4, 5), tmp_path / "m.snnc")
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"]["snncc"] == "1"
    assert header["__metadata__"]["graph"].startswith("snn float @Sequential")
