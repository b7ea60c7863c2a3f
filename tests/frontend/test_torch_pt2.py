"""`.pt2` files of torch.export: neurons found by what they compute, refusals, and attacks that must not run."""

import io
import json
import os
import pickle
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import snncc_torch
from snncc.errors import SnnccError
from snncc.ir import Rounding, to_text
from snncc.ir.interp import run
from snncc.plugins import LoadOptions
from snncc_torch.nn import IF, SFA, Residual
from snncc_torch.plugin import FRONTEND
from snncc_torch.zoo import reduced

pytestmark = [
    pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning"),
]


def network(*neurons):
    torch.manual_seed(0)
    fire, skip = neurons or (SFA(4), SFA(3, normalize=True))
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), fire,
        Residual(nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), skip)),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5),
    ).eval()  # fmt: skip


def exported(tmp_path, module, shape=(1, 2, 4, 5), name="net.pt2", **options):
    program = torch.export.export(module.eval(), (torch.zeros(shape),), **options)
    torch.export.save(program, tmp_path / name)
    return tmp_path / name


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


def edited(path, change, member="models/model.json"):
    """Rewrite a JSON member; ``change`` edits it in place, or returns other bytes."""

    def edit(members):
        (name,) = [n for n in members if n.endswith(member)]
        tree = json.loads(members[name])
        other = change(tree)
        return {**members, name: other if isinstance(other, bytes) else json.dumps(tree).encode()}

    return rezip(path, edit)


def operations(tree):
    return tree["graph_module"]["graph"]["nodes"]


# ---- what loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_a_file_gives_the_graph_that_the_module_gives(tmp_path, suffix):
    module = network()
    model = load(exported(tmp_path, module, name=f"net{suffix}"))
    direct = snncc_torch.capture(module, torch.zeros(1, 2, 4, 5))
    assert to_text(model.graph) == to_text(direct.graph)
    assert (model.comparison.layers, model.comparison.flips) == (direct.comparison.layers, 0)
    assert model.notes[:2] == (
        "2: integer neuron 0..4; found by what its operations compute",
        "3.body.1: integer neuron 0..3; found by what its operations compute",
    )
    assert model.origin == str(tmp_path / f"net{suffix}")


def test_a_published_architecture_gives_the_graph_that_its_module_gives(tmp_path):
    module, x = reduced("e-spikeformer")
    model = load(exported(tmp_path, module, tuple(x.shape)))
    assert to_text(model.graph) == to_text(snncc_torch.capture(module, x).graph)


class Formula(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x):
        return self.formula(x)


class Qcfs(nn.Module):
    """Clip-floor, with a trained threshold."""

    def __init__(self):
        super().__init__()
        self.thresh = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x):
        x = torch.clamp(x / self.thresh, 0, 1)
        return torch.floor(x * 8 + 0.5) / 8 * self.thresh


FORMS = {
    # MultiSpike of E-SpikeFormer, and over Norm
    "round(clamp)": (lambda x: torch.round(torch.clamp(x, 0, 4)), 4, "half_even", 1.0, 1.0),
    "round(clamp)/D": (lambda x: torch.round(torch.clamp(x, min=0, max=4)) / 4, 4, "half_even", 1.0, 0.25),
    "clamp(round)": (lambda x: x.round().clamp(0, 8), 8, "half_even", 1.0, 1.0),
    "relu, clamp_max": (lambda x: torch.round(torch.relu(x).clamp(max=3)), 3, "half_even", 1.0, 1.0),
    "hardtanh": (lambda x: torch.round(nn.functional.hardtanh(x, 0, 2)), 2, "half_even", 1.0, 1.0),
    # Multispike of the large E-SpikeFormer
    "floor(clamp+.5)": (lambda x: torch.floor(torch.clamp(x, 0, 4) + 0.5), 4, "half_up", 1.0, 1.0),
    "floor(clamp+.5)/D": (lambda x: torch.floor(torch.clamp(x, 0, 4) + 0.5) / 4, 4, "half_up", 1.0, 0.25),
    "floor(x+.5)": (lambda x: torch.floor(x + 0.5).clamp(0, 4) * 2, 4, "half_up", 1.0, 2.0),
    # Spike-driven Transformer variants
    "of four": (lambda x: torch.floor(torch.clamp(4 * x, 0, 4) + 0.5) / 4, 4, "half_up", 0.25, 0.25),
    "floor": (lambda x: torch.floor(x).clamp(0, 1), 1, "floor", 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FORMS, "qcfs"])
def test_published_integer_neurons_are_found(tmp_path, name):
    formula, levels, rounding, threshold, scale = FORMS.get(name, (None, 8, "half_up", 0.125, 0.1875))
    neuron = Qcfs() if name == "qcfs" else Formula(formula)
    module = nn.Sequential(nn.Linear(3, 6), neuron, nn.Linear(6, 2))
    graph = load(exported(tmp_path, module, (1, 3))).graph
    (found,) = graph.neurons
    name = "1.activation" if name == "qcfs" else "1"  # its division stands beside it
    assert (found.name, found.max_spikes, found.rounding) == (name, levels, Rounding(rounding))
    assert (found.threshold, found.output_scale) == (threshold, scale)
    weights = [n.kind for n in graph.nodes]
    extra = ["scale"] if name != "1" else []
    assert weights == ["input", "linear", *extra, "neuron", "linear", "output"]


@pytest.mark.parametrize("name", list(FORMS))
def test_ties_round_as_in_the_file(tmp_path, name):
    """Bit for bit, on inputs half of which are ties."""
    formula = FORMS[name][0]
    identity = nn.Linear(40, 40)
    identity.weight.data, identity.bias.data = torch.eye(40), torch.zeros(40)
    graph = load(exported(tmp_path, nn.Sequential(identity, Formula(formula)), (1, 40))).graph
    x = (np.arange(40, dtype=np.float32) - 8) / 8 if name == "of four" else (np.arange(40) - 6) / 4
    x = x.astype(np.float32)
    mine = run(graph, x[None, None], keep=()).result
    np.testing.assert_array_equal(mine.reshape(40), formula(torch.from_numpy(x)).numpy())


class Block(nn.Module):
    """One neuron called twice, functional ones, and neurons that follow each other."""

    def __init__(self):
        super().__init__()
        self.fc, self.act, self.deep = nn.Linear(4, 6), SFA(3), nn.Sequential(SFA(2), SFA(1))

    def forward(self, x):
        a, b = self.fc(x).chunk(2, -1)
        y = self.act(a) + self.act(b * 1.5)
        y = torch.round(torch.clamp(y * 0.7, 0, 4)) / 4
        return self.deep(torch.floor(torch.clamp(y * 3, 0, 4) + 0.5))


def test_every_neuron_is_found_in_its_place(tmp_path):
    graph = load(exported(tmp_path, nn.Sequential(Block(), nn.Linear(3, 2)), (1, 4))).graph
    assert [(n.name, n.max_spikes, n.output_scale) for n in graph.neurons] == [
        ("0.act", 3, 1.0), ("0.act_1", 3, 1.0), ("0.activation", 4, 0.75), ("0.activation_1", 4, 1.0),
        ("0.deep.0", 2, 1.0), ("0.deep.1", 1, 1.0),
    ]  # fmt: skip
    root = load(exported(tmp_path, Block(), (1, 4), name="root.pt2")).graph
    assert [n.name for n in root.neurons][2:4] == ["activation", "activation_1"]


def test_a_neuron_takes_nothing_of_the_one_before_it(tmp_path):
    module = network(Formula(lambda x: x.round().clamp(0, 4).round().clamp(0, 3)), SFA(2))
    graph = load(exported(tmp_path, module)).graph
    assert [(n.name, n.max_spikes) for n in graph.neurons] == [("2", 4), ("2_1", 3), ("3.body.1", 2)]


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.relu = nn.Linear(3, 4), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.fc(x))
        y += 1
        return y.round_().clamp_(0, 4)


def test_in_place_operations(tmp_path):
    module = InPlace().eval()
    graph = load(exported(tmp_path, module, (1, 3))).graph
    assert [n.kind for n in graph.nodes] == ["input", "linear", "function", "add_const", "neuron", "output"]
    x = np.random.default_rng(0).normal(0, 2, (1, 1, 3)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_array_equal(
            run(graph, x, keep=()).result.reshape(1, 4), module(torch.from_numpy(x[0]))
        )


def test_what_is_read_after_a_write_is_what_was_written(tmp_path):
    path = exported(tmp_path, InPlace(), (1, 3))
    before = load(path).graph

    def older(tree):
        """`relu_` wrote into what `linear` names too."""
        (add,) = [node for node in operations(tree) if node["target"].endswith("add_.Tensor")]
        assert add["inputs"][0]["arg"]["as_tensor"]["name"] == "relu_"
        add["inputs"][0]["arg"]["as_tensor"]["name"] = "linear"

    assert to_text(load(edited(path, older)).graph) == to_text(before)


def test_a_tensor_that_is_written_to_while_something_else_looks_at_it(tmp_path):
    def formula(x):
        y = x * 2
        z = y.view(1, 2, 3)
        y += 1
        return z * 1

    assert str(refusal(exported(tmp_path, Formula(formula), (1, 6)))) == (
        "[SNNC-M004] model: changes a tensor in place that is used elsewhere. "
        "Try torch.export.save(program.run_decompositions({}), path)."
    )


@pytest.mark.parametrize("form", ["decomposed", "strict"])
def test_other_ways_to_export(tmp_path, form):
    """ATen of the core set, and graphs inside the graph: the same neurons and the same results."""
    module = network()
    program = torch.export.export(module, (torch.zeros(1, 2, 4, 5),), strict=form == "strict")
    if form == "decomposed":
        program = program.run_decompositions({})
    torch.export.save(program, tmp_path / "net.pt2")
    model = load(tmp_path / "net.pt2")
    assert [n.max_spikes for n in model.graph.neurons] == [4, 3]
    x = np.random.default_rng(0).normal(0, 2, (1, 1, 2, 4, 5)).astype(np.float32)
    with torch.no_grad():
        want = module(torch.from_numpy(x[0])).numpy()
    np.testing.assert_allclose(run(model.graph, x, keep=()).result.reshape(1, 5), want, rtol=1e-5, atol=1e-6)


def test_timesteps_and_levels_come_from_the_options(tmp_path):
    module = nn.Sequential(snncc_torch.nn.PerStep(nn.Linear(4, 2), SFA(2)), snncc_torch.nn.OverTime())
    path = exported(tmp_path, module, (3, 1, 4))
    model = load(path, timesteps=3, input_levels=5, input_shape=(4,))
    assert (model.graph.steps, model.graph.input.levels, model.graph.input.shape) == (3, 5, (4,))
    assert str(refusal(path)) == (
        f"[SNNC-M004] {path}: was traced for one batch size, got 3, limit 1. "
        "Try --timesteps 3, if the first axis is time; else torch.export.export(module, (torch.zeros(1, 1, 4),))."
    )
    assert str(refusal(path, timesteps=3, input_shape=(5,))) == (
        "[SNNC-U005] --input-shape: is another shape than the file's, got (5,), limit (4,)."
    )


def test_a_factory_takes_the_weights_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "pt2factory.py").write_text(
        textwrap.dedent("""
            from torch import nn
            from snncc_torch.nn import IF
            def build():
                return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), IF(step_mode="s"))
        """)
    )
    monkeypatch.chdir(tmp_path)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), IF(step_mode="s"))
    module[0].weight.data = module[0].weight.data.t().contiguous().t()  # other strides
    model = load(exported(tmp_path, module, (1, 3)), factory="pt2factory:build", input_shape=(3,))
    np.testing.assert_array_equal(model.graph.nodes[1].weight.array, module[0].weight.detach().numpy())


# ---- honest refusals, whole messages ------------------------------------------------------------

HINT = "Try snncc.export(module, torch.zeros(1, 2, 4, 5), 'model.snnc') in the training script."


def test_exploded_neurons_are_named_at_once(tmp_path):
    class Fires(nn.Module):
        def forward(self, x):
            return (x > 1).float() + torch.fft.fft(x).real

    path = exported(tmp_path, network(IF(step_mode="s"), Fires()))
    loose = "stands in the file as loose operations, no longer as a neuron"
    assert str(refusal(path)) == (
        "[SNNC-M004] 3.body.1: operation fft_fft is not supported, got Fires.\n"
        "[SNNC-M004] 3.body.1: operation real is not supported, got Fires.\n"
        f"[SNNC-M005] 2: IF {loose}, got ge. {HINT}\n"
        f"[SNNC-M005] 3.body.1: Fires {loose}, got gt. {HINT}"
    )


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: x.round(),  # no limit
        lambda x: x.round().clamp(-1, 4),  # signed
        lambda x: x.round().clamp(0, 3.5),  # no whole limit
        lambda x: torch.floor(torch.clamp(x, 0, 4) + 0.25),  # another rule for ties
        lambda x: x + (x.round().clamp(0, 4) - x).detach() * 0.5 + x.round(),
        lambda x: torch.floor(torch.clamp(x, 0, 1) * 3 + 0.5),  # in float32, ties of thirds are none
        lambda x: torch.round(x, decimals=1).clamp(0, 4),
        lambda x: torch.round(torch.clamp(-x, 0, 4) * -1),
        lambda x: torch.round(torch.clamp(x, 0, 4) * x),
    ],
)
def test_rounding_that_is_no_integer_neuron(tmp_path, formula):
    path = exported(tmp_path, network(Formula(formula), SFA(2)))
    (found,) = refusal(path).problems
    assert (found.code, found.where) == ("SNNC-M005", "2")
    assert found.what == "Formula stands in the file as loose operations, no longer as a neuron"


def test_a_clamp_without_a_neuron(tmp_path):
    path = exported(tmp_path, network(Formula(lambda x: x.clamp(0, 1)), SFA(2)))
    assert str(refusal(path)) == "[SNNC-M004] 2: operation clamp is not supported."


def test_dynamic_shapes_and_batches(tmp_path):
    batch = torch.export.Dim("batch", min=1, max=8)
    path = tmp_path / "dynamic.pt2"
    program = torch.export.export(network(), (torch.zeros(2, 2, 4, 5),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    found = refusal(path).problems[0]
    assert (found.code, found.what) == ("SNNC-M004", "has sizes that are no numbers")
    assert found.hint == "torch.export.export without dynamic_shapes"
    path = exported(tmp_path, network(), (2, 2, 4, 5))
    assert str(refusal(path)) == (
        f"[SNNC-M004] {path}: was traced for one batch size, got 2, limit 1. "
        "Try torch.export.export(module, (torch.zeros(1, 2, 4, 5),))."
    )


def test_other_inputs_and_results(tmp_path):
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    program = torch.export.export(Two(), (torch.zeros(1, 3), torch.zeros(1, 3)))
    torch.export.save(program, tmp_path / "two.pt2")
    assert str(refusal(tmp_path / "two.pt2")) == (
        f"[SNNC-M004] {tmp_path / 'two.pt2'}: must take one tensor, got 2 inputs. Try a forward that takes one tensor."
    )
    path = exported(tmp_path, Formula(lambda x: (x, x + 1)), (1, 3))
    assert str(refusal(path)) == (
        f"[SNNC-M004] {path}: must return one tensor, got 2 results. Try a forward that returns one tensor."
    )


def test_a_file_that_holds_state(tmp_path):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("v", torch.zeros(1, 3))

        def forward(self, x):
            self.v.add_(x)
            return self.v * 1

    path = exported(tmp_path, Counter(), (1, 3))
    assert str(refusal(path)).startswith("[SNNC-M00")


def test_weights_of_another_type_or_not_finite(tmp_path):
    module = network()
    module[6].weight.data[0, 0] = float("nan")
    path = exported(tmp_path, module)
    assert str(refusal(path)) == "[SNNC-M007] 6.weight: is not finite, got 1 of 60 values NaN or infinite."


def test_old_archives(tmp_path):
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            archive.writestr(name, b"x")
    assert str(refusal(path)) == (
        f"[SNNC-M001] {path}: is a torch.export archive of the old, pickled form. "
        "Try torch.export.save with torch 2.8 or newer."
    )
    path = edited(exported(tmp_path, network()), lambda t: t["schema_version"].update(major=9))
    assert str(refusal(path)) == (
        f"[SNNC-M001] {path}: was written by a torch with another format, got schema 9, limit schema 8."
    )


# ---- attacks ------------------------------------------------------------------------------------


class Call:
    """Pickles to a call of ``function`` with ``args``."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.fixture
def marker(tmp_path):
    """A file that payloads make; torch and pickle must not be asked to load anything either."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload ran"


@pytest.fixture
def payload(marker):
    buffer = io.BytesIO()
    torch.save(Call(os.system, f"touch {marker}"), buffer)
    return buffer.getvalue()


@pytest.fixture
def no_loading(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("loaded")

    for owner, name in ((torch, "load"), (torch.export, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(owner, name, refuse)


def replaced(end, data):
    return lambda members: {n: data if n.endswith(end) else d for n, d in members.items()}


@pytest.mark.usefixtures("no_loading")
def test_sample_inputs_are_not_read(tmp_path, payload):
    path = rezip(exported(tmp_path, network()), replaced("sample_inputs/model.pt", payload))
    assert len(load(path).graph.neurons) == 2


@pytest.mark.usefixtures("no_loading")
def test_guards_are_not_executed(tmp_path, marker):
    code = f"__import__('os').system('touch {marker}')"
    path = edited(exported(tmp_path, network()), lambda t: t.update(guards_code=[code, f"assert {code}"]))
    assert len(load(path).graph.neurons) == 2


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_tensors_are_refused(tmp_path, payload, kind):
    path = exported(
        tmp_path, network(Formula(lambda x: (x * torch.tensor([2.0])).round().clamp(0, 4)), SFA(2))
    )
    first = {"weights": "weight_0", "constants": "tensor_9"}[kind]
    config = f"model_{kind}_config.json"
    if kind == "constants":
        entry = {"path_name": "tensor_9", "is_param": False, "use_pickle": True, "tensor_meta": None}
        rezip(path, lambda m: {**m, "net/data/constants/tensor_9": payload})
        edited(path, lambda t: t["config"].update(evil=entry), config)
        name = "evil"
    else:
        edited(path, lambda t: t["config"]["0.weight"].update(use_pickle=True), config)
        rezip(path, replaced(f"weights/{first}", payload))
        name = "0.weight"
    assert str(refusal(path)) == (
        f"[SNNC-S001] {path}: tensor {name!r} is a pickle, which could run code while it loads."
    )


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("place", ["input", "values", "weights", "argument"])
def test_symbolic_expressions_are_not_evaluated(tmp_path, marker, place):
    evil = {"as_expr": {"expr_str": f"__import__('os').system('touch {marker}')", "hint": {"as_int": 4}}}

    def change(tree):
        if place == "weights":
            tree["config"]["0.weight"]["tensor_meta"]["sizes"][0] = evil
        elif place == "argument":
            operations(tree)[0]["inputs"][3]["arg"] = {"as_sym_ints": [evil, {"as_int": 1}]}
        elif place == "input":
            tree["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][1] = evil
        else:
            tree["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"][1] = evil

    member = "model_weights_config.json" if place == "weights" else "models/model.json"
    error = refusal(edited(exported(tmp_path, network()), change, member))
    assert error.code == ("SNNC-M004" if place == "input" else "SNNC-M001")
    what = "has sizes that are no numbers" if place == "input" else "is a damaged torch.export archive"
    assert error.problems[0].what == what


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize(
    "name", ["../../weight_0", "/etc/passwd", "..", "", "weight_0/../weight_1", "weight_0\n"]
)
def test_tensors_lie_in_their_folder(tmp_path, name):
    path = exported(tmp_path, network())
    edited(path, lambda t: t["config"]["0.weight"].update(path_name=name), "model_weights_config.json")
    (found,) = refusal(path).problems
    assert (found.code, found.what) == ("SNNC-S003", "tensor '0.weight' lies outside its folder")


def test_members_that_are_missing_twice_there_or_elsewhere(tmp_path):
    path = exported(tmp_path, network())
    rezip(path, lambda m: {n: d for n, d in m.items() if not n.endswith("weights/weight_2")})
    assert str(refusal(path)) == f"[SNNC-M001] {path}: tensor '1.weight' is missing, got 'weight_2'."
    for gone in ("models/model.json", "model_weights_config.json", "archive_format"):
        path = rezip(
            exported(tmp_path, network()), lambda m, g=gone: {n: d for n, d in m.items() if not n.endswith(g)}
        )
        assert refusal(path).code == "SNNC-M001", gone
    for more in ("../x", "net/../../x", "/etc/x", "net\\x"):
        path = rezip(exported(tmp_path, network()), lambda m, more=more: {**m, more: b""})
        assert refusal(path).code == "SNNC-S003", more
    path = exported(tmp_path, network())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/models/model.json", b"{}")
    assert refusal(path).code == "SNNC-S002"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sizes": [{"as_int": 10**6}, {"as_int": 10**6}], "strides": [{"as_int": 0}] * 2}, "SNNC-S002"),
        ({"sizes": [{"as_int": 60}], "strides": [{"as_int": 2}]}, "SNNC-S002"),
        ({"sizes": [{"as_int": -5}], "strides": [{"as_int": 1}]}, "SNNC-M001"),
        ({"sizes": [{"as_int": 5}], "strides": [{"as_int": -1}]}, "SNNC-M001"),
        ({"strides": [{"as_int": 1}]}, "SNNC-M001"),
        ({"storage_offset": {"as_int": 1}}, "SNNC-S002"),
        ({"storage_offset": {"as_int": -1}}, "SNNC-M001"),
        ({"dtype": 11}, "SNNC-M001"),
        ({"dtype": True}, "SNNC-M001"),
        ({"dtype": 8}, "SNNC-S002"),
        ({"dtype": 6}, "SNNC-M004"),
        ({"layout": 1}, "SNNC-M001"),
        ({"sizes": "x"}, "SNNC-M001"),
        ({"sizes": [{"as_int": True}] * 2}, "SNNC-M001"),
        ({"sizes": [{"as_int": 12}, {"as_int": 5}], "strides": [{"as_int": 5}, {"as_int": 1}]}, "SNNC-M001"),
    ],
)
def test_tensors_that_lie_about_themselves(tmp_path, change, code):
    path = exported(tmp_path, network())
    edited(path, lambda t: t["config"]["6.weight"]["tensor_meta"].update(change), "model_weights_config.json")
    error = refusal(path)
    assert (error.code, len(error.problems)) == (code, 1)


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize(
    "target",
    [
        "os.system", "torch.load", "torch.hub.load", "torch.ops.load_library", "_operator.getitem", "math.exp",
        "#torch.export.x", "torch.ops.aten.conv2d", "torch.ops.aten.__class__.default",
        "torch.ops.aten.conv2d.__class__", "torch.ops.aten.relu.default.decompose", "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten.as_strided.default", "torch.ops.aten.add.out", "torch.ops.snncc.neuron.default",
        "torch.ops.aten.neuron.default", "torch.ops.aten.from_file.default", "torch.ops.higher_order.cond",
        "torch.ops.aten.conv2d.default\n", "torch.ops.aten.relu.__init__",
    ],
)  # fmt: skip
def test_only_known_operations_are_resolved(tmp_path, target):
    path = edited(exported(tmp_path, network()), lambda t: operations(t)[0].update(target=target))
    assert refusal(path).code in ("SNNC-M001", "SNNC-M004")


def test_names_do_not_become_code(tmp_path, marker):
    """Names and paths of the file stand in the nodes of the graph, and nothing is made of them."""
    evil = f"x = __import__('os').system('touch {marker}')\n#"
    path = exported(tmp_path, network())

    def change(tree):
        text = json.dumps(tree).replace("conv2d_1;", "").replace('"conv2d"', json.dumps(evil))
        text = text.replace("__main__", "x").replace("L__self___0,0,", f"k,{json.dumps(evil)[1:-1]},")
        tree.clear()
        tree.update(json.loads(text))

    model = load(edited(path, change))
    assert len(model.graph.neurons) == 2
    assert all(n.name.replace("_", "").replace(".", "").isalnum() for n in model.graph.nodes)


def test_shapes_are_known_before_anything_is_made(tmp_path):
    def huge(tree):
        node = {
            "target": "torch.ops.aten.full.default", "outputs": [{"as_tensor": {"name": "huge"}}], "metadata": {},
            "inputs": [
                {"name": "size", "arg": {"as_ints": [10**6, 10**6]}, "kind": 1},
                {"name": "fill_value", "arg": {"as_int": 1}, "kind": 1},
            ],
        }  # fmt: skip
        operations(tree).insert(0, node)

    path = edited(exported(tmp_path, network()), huge)
    assert str(refusal(path)) == (
        "[SNNC-S002] model: an intermediate tensor is too large, got 1000000000000 elements, limit 268435456."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff", b'{"schema_version": {"major": 8}}',
        b'{"schema_version": {"major": true}}',
    ],
)  # fmt: skip
def test_damaged_descriptions(tmp_path, content):
    path = edited(exported(tmp_path, network()), lambda _: content)
    error = refusal(path)
    assert (error.code, error.problems[0].what) == ("SNNC-M001", "is a damaged torch.export archive")


def places(tree, at=()):
    """Every path to a value of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def test_forged_descriptions_end_in_a_typed_error(tmp_path, marker):
    """300 values of the two descriptions, each replaced by one of another kind."""
    rng = np.random.default_rng(5)
    path = exported(tmp_path, nn.Sequential(nn.Linear(4, 3), SFA(4), nn.Flatten(), nn.Linear(3, 2)), (1, 4))
    good = path.read_bytes()
    others = [
        None,
        True,
        -1,
        10**30,
        1.5,
        "x",
        "../x",
        [],
        {},
        [[]],
        {"as_int": 7},
        {"as_tensor": {"name": "x"}},
    ]
    outcomes = set()
    for turn in range(300):

        def change(tree):
            every = list(places(tree))
            *above, last = every[int(rng.integers(len(every)))]
            for key in above:
                tree = tree[key]
            tree[last] = others[int(rng.integers(len(others)))]

        path.write_bytes(good)
        edited(path, change, ("models/model.json", "model_weights_config.json")[turn % 4 == 0])
        try:
            load(path)
            outcomes.add("loaded")
        except SnnccError as error:
            outcomes.update(p.code for p in error.problems)
    assert {"loaded", "SNNC-M001"} <= outcomes
    assert {code[:6] for code in outcomes} <= {"SNNC-M", "SNNC-S", "loaded"}
