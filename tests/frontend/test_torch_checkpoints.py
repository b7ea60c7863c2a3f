"""Training checkpoints read as data, and archives of other kinds refused with advice."""

import argparse
import collections
import datetime
import enum
import io
import os
import pathlib
import pickle
import tarfile
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snncc.errors import SnnccError
from snncc.plugins import LoadOptions
from snncc_torch.nn import SFA
from snncc_torch.plugin import FRONTEND


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), SFA(4), nn.Linear(4, 2))


def saved(tmp_path, thing, name="check.pt", **options):
    torch.save(thing, tmp_path / name, **options)
    return tmp_path / name


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a file with the factory of ``network``; torch.load must not be called."""
    (tmp_path / "checkpointfactory.py").write_text(
        textwrap.dedent("""
            from torch import nn
            from snncc_torch.nn import SFA
            def build():
                return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), SFA(4), nn.Linear(4, 2))
            def wrapped():
                model = nn.Sequential()
                model.add_module("module", build())
                return model
        """)
    )
    monkeypatch.chdir(tmp_path)

    def loaded(path, factory="build"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", None)
            return FRONTEND.load(
                Path(path), LoadOptions(factory=f"checkpointfactory:{factory}", input_shape=(3,))
            )

    return loaded


def refusal(call, *args):
    with pytest.raises(SnnccError) as caught:
        call(*args)
    return caught.value


def alone(path):
    return FRONTEND.load(Path(path), LoadOptions(input_shape=(3,)))


def first_weights(model):
    return model.graph.nodes[1].weight.array


class Mode(enum.Enum):
    FAST = 1


class Config:
    def __init__(self):
        self.lr, self.nested = 0.1, {"a": [1, 2]}


class Meter(dict):
    pass


class History(list):
    pass


Best = collections.namedtuple("Best", "epoch accuracy")


def trained():
    """A network after two steps of training, with its optimizer and scheduler."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    for _ in range(2):
        net(torch.randn(5, 3)).sum().backward()
        optimizer.step()
        scheduler.step()
    return net, optimizer, scheduler


def everything():
    """What training scripts are known to store."""
    net, optimizer, scheduler = trained()
    return net, {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs/1"), device=torch.device("cpu")),
        "epoch": np.int64(7), "best": np.float64(0.93), "loss": np.float32(0.5), "ok": np.bool_(True),
        "history": collections.OrderedDict(train=[1.0, 0.5]), "counts": collections.Counter("aab"),
        "by_class": collections.defaultdict(list, {1: [2]}), "recent": collections.deque([1, 2], 5),
        "when": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "took": datetime.timedelta(1),
        "day": datetime.date(2026, 1, 2), "path": pathlib.PurePosixPath("a/b"), "mode": Mode.FAST,
        "config": Config(), "meter": Meter(a=1), "log": History([1]), "point": Best(1, 0.5),
        "array": np.arange(6.0).reshape(2, 3), "dtype": np.dtype("float32"), "torch dtype": torch.float16,
        "size": torch.Size([1, 2]), "numpy state": np.random.get_state(), "rng": torch.get_rng_state(),
        "complex": 1j, "bytes": b"abc", "set": {1, 2}, "frozen": frozenset({1}), "range": range(3),
        "type": dict, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
        "scaler": {"scale": 65536.0}, "state_dict": net.state_dict(),
    }  # fmt: skip


def test_weights_are_taken_from_among_everything_that_scripts_store(tmp_path, load):
    net, checkpoint = everything()
    model = load(saved(tmp_path, checkpoint))
    np.testing.assert_array_equal(first_weights(model), net[0].weight.detach().numpy())
    np.testing.assert_array_equal(model.graph.nodes[2].mean.array, net[1].running_mean.numpy())
    assert model.notes[0] == "weights: those under state_dict in the checkpoint"


@pytest.mark.parametrize("name", sorted(set(everything()[1]) - {"state_dict"}))
def test_each_kind_of_thing_is_passed_over(tmp_path, load, name):
    net, checkpoint = everything()
    load(saved(tmp_path, {name: checkpoint[name], "model": net.state_dict()}))


def test_without_a_factory_the_message_says_what_the_file_holds(tmp_path):
    net, optimizer, _ = trained()
    path = saved(
        tmp_path,
        {
            "args": argparse.Namespace(lr=1),
            "epoch": 3,
            "model": net.state_dict(),
            "optim": optimizer.state_dict(),
        },
    )
    assert str(refusal(alone, path)) == (
        f"[SNNC-M003] {path}: is a training checkpoint without the network that its weights belong to, "
        "got a dict of 4 entries: args (argparse.Namespace), epoch, model (9 tensors), optim. "
        "Try --model pkg.mod:factory --weights FILE, "
        "or snncc.export(module, example_input, 'model.snnc') in the training script."
    )
    path = saved(tmp_path, {"epoch": 3, "model": network()})
    assert str(refusal(alone, path)) == (
        f"[SNNC-M003] {path}: is a training checkpoint around a whole network, "
        "got a dict of 2 entries: epoch, model (torch.nn.modules.container.Sequential). "
        "Try torch.save(checkpoint['model'], path), "
        "or snncc.export(module, example_input, 'model.snnc') in the training script."
    )
    path = saved(tmp_path, {i: i for i in range(10)})
    assert str(refusal(alone, path)).startswith(
        f"[SNNC-M001] {path}: holds no model, got a dict of 10 entries: 0, 1, 2, 3, 4, 5, 6, 7, …. Try"
    )


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema"]
)
def test_keys_and_wrappers(tmp_path, load, key, prefix):
    net = network()
    weights = {prefix + name: value for name, value in net.state_dict().items()}
    np.testing.assert_array_equal(
        first_weights(load(saved(tmp_path, {key: weights}))), net[0].weight.detach().numpy()
    )


def test_names_that_fit_are_left_alone(tmp_path, load):
    weights = {f"module.{name}": value for name, value in network().state_dict().items()}
    load(saved(tmp_path, weights), "wrapped")
    error = refusal(load, saved(tmp_path, {**weights, "3.bias": torch.zeros(2)}))
    assert str(error).startswith(
        "[SNNC-U010] --model: the weights do not fit what checkpointfactory:build builds"
    )


def test_averaged_weights_only_where_there_are_no_others(tmp_path, load):
    plain, averaged = network(), network()
    averaged[0].weight.data += 1
    model = load(saved(tmp_path, {"model_ema": averaged.state_dict(), "model": plain.state_dict()}))
    np.testing.assert_array_equal(first_weights(model), plain[0].weight.detach().numpy())
    assert model.notes[0] == "weights: those under model in the checkpoint; not those under model_ema"
    model = load(saved(tmp_path, {"model_ema": averaged.state_dict(), "model": None}))
    np.testing.assert_array_equal(first_weights(model), averaged[0].weight.detach().numpy())
    assert (
        model.notes[0] == "weights: those under model_ema in the checkpoint, which are averaged over training"
    )


def test_no_weights_under_a_usual_key(tmp_path, load):
    path = saved(tmp_path, {"mine": network().state_dict(), "model": 3})
    assert str(refusal(load, path)) == (
        f"[SNNC-M001] {path}: holds no weights, got a dict of 2 entries: mine (9 tensors), model, limit a state "
        "dict, or one under state_dict, model_state_dict, model, net, state_dict_ema, model_ema."
    )


def test_weights_of_any_strides_and_types(tmp_path, load):
    """Transposed, a part of a larger storage, shared, of another type, and as Parameters."""
    net = network()
    base = torch.randn(4, 10)
    weights = {
        "0.weight": torch.randn(3, 4).t(), "0.bias": nn.Parameter(torch.randn(8)[1::2]),
        "1.weight": torch.randn(4).half(), "1.bias": torch.randn(4).double(), "1.running_mean": base[:, 3],
        "1.running_var": base[:, 3].abs() + 1, "1.num_batches_tracked": torch.tensor(5),
        "3.weight": base[:2, 4:8], "3.bias": torch.randn(2).bfloat16(),
    }  # fmt: skip
    net.load_state_dict(weights)
    model = load(saved(tmp_path, weights))
    wanted = [net[0].weight, net[0].bias, net[1].bias, net[1].running_mean, net[3].weight, net[3].bias]
    linear, norm, last = model.graph.nodes[1], model.graph.nodes[2], model.graph.nodes[4]
    mine = [linear.weight, linear.bias, norm.beta, norm.mean, last.weight, last.bias]
    for a, b in zip(mine, wanted, strict=True):
        np.testing.assert_array_equal(a.array, b.detach().numpy())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, load, protocol):
    checkpoint = everything()[1]
    load(saved(tmp_path, checkpoint, pickle_protocol=protocol))


# ---- attacks ------------------------------------------------------------------------------------


class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload ran"


def shout(*_args):
    raise AssertionError("a function of the file was called")


class Loud:
    def __init__(self, *_args):
        shout()

    def __setstate__(self, _state):
        shout()


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("place", ["beside", "as a weight", "as a key", "in the settings"])
def test_calls_in_a_checkpoint_are_refused_unrun(tmp_path, load, marker, number, place):
    payload = [
        Call(os.system, f"touch {marker}"), Call(eval, f"open({str(marker)!r}, 'w')"), Call(open, str(marker), "w"),
        Call(getattr, {}, "get"), Call(torch.load, str(marker)), Call(np.load, str(marker)), Call(shout),
        Call(torch.hub.load, "x", "y"),
    ][number]  # fmt: skip
    state = network().state_dict()
    checkpoint = {"model": state}
    if place == "beside":
        checkpoint["evil"] = payload
    elif place == "as a weight":
        state["0.weight"] = payload
    elif place == "as a key":
        checkpoint[payload] = 1
    else:
        checkpoint["args"] = argparse.Namespace(evil=[payload])
    path = saved(tmp_path, checkpoint)
    assert refusal(load, path).code == "SNNC-S001"
    assert refusal(alone, path).code == "SNNC-S001"


def test_classes_beside_the_weights_are_never_made(tmp_path, load):
    loud = Loud.__new__(Loud)
    loud.x = 1
    net = network()
    load(saved(tmp_path, {"a": loud, "b": Call(Loud, 1), "model": net.state_dict()}))


def test_an_object_in_the_place_of_a_weight(tmp_path, load):
    state = {**network().state_dict(), "0.weight": argparse.Namespace()}
    assert refusal(load, saved(tmp_path, {"model": state})).code == "SNNC-M001"


def test_what_a_checkpoint_may_hold_a_module_may_not(tmp_path):
    """torch would make the objects of a whole module, so there the rules are strict."""
    for thing in (argparse.Namespace(a=1), datetime.date(2026, 1, 2), Config(), np.float32(1)):
        net = network().eval()
        net[0].more = thing
        assert refusal(alone, saved(tmp_path, net)).code in ("SNNC-M002", "SNNC-S001")


# ---- other formats ------------------------------------------------------------------------------


def test_torchscript(tmp_path):
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/code/__torch__.py", b"")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    message = (
        f"[SNNC-M001] {path}: is a TorchScript archive: code, in which neurons are no longer whole, "
        "and which snncc never runs. Try snncc.export(module, example_input, 'model.snnc') in the training "
        "script, with the module that torch.jit.script or torch.jit.trace was given."
    )
    assert str(refusal(alone, path)) == message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    assert str(refusal(alone, path)) == message


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_real_torchscript(tmp_path):
    torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)).save(tmp_path / "traced.pt")
    assert refusal(alone, tmp_path / "traced.pt").problems[0].what.startswith("is a TorchScript archive")


def test_formats_before_torch_1_6(tmp_path):
    path = saved(tmp_path, network().state_dict(), _use_new_zipfile_serialization=False)
    message = (
        f"[SNNC-M001] {path}: was saved by torch before 1.6, or in its format. "
        "Try torch.save(torch.load(path, weights_only=True), new_path) with torch 1.6 or newer."
    )
    assert str(refusal(alone, path)) == message
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert str(refusal(alone, path)) == message
    path.write_bytes(pickle.dumps({"a": 1}))
    assert (
        refusal(alone, path).problems[0].what == "is no model file: neither a torch archive nor a graph file"
    )
