"""Graph files: written whole, read back equal, refused when damaged or forged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from snncc.errors import SnnccError
from snncc.graphfile import read_graph_file, write_graph_file
from snncc.ir import Const, Conv2d, Family, Graph, Input, Neuron, Output, Rounding, to_text
from snncc.model import Comparison, Model
from snncc.safeio import read_tensors, tensor_bytes


def model(levels=4):
    weight = Const(np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3) / 7)
    nodes = (
        Input(name="input", shape=(1, 4, 5), levels=levels),
        Conv2d(name="conv", inputs=("input",), source='a"b\\c', weight=weight, padding=(1, 1)),
        Neuron(name="fire", inputs=("conv",), max_spikes=4, rounding=Rounding.HALF_EVEN),
        Output(name="output", inputs=("fire",)),
    )
    x = np.arange(2 * 20).reshape(2, 1, 1, 4, 5) % 5
    graph = Graph("net", Family.FLOAT, nodes)
    return Model(
        graph, x, np.array([3, 1]), Comparison(2, 2, 0.25, 1, 1e-7), ("a note",), "pkg.Net"
    )  # fmt: skip


def refusal(path):
    with pytest.raises(SnnccError) as caught:
        read_graph_file(path)
    return caught.value


def forged(tmp_path, change):
    """A graph file whose metadata and arrays went through ``change``."""
    path = tmp_path / "good.snnc"
    write_graph_file(path, model(), force=True)
    metadata, arrays = read_tensors(path)
    metadata, arrays = dict(metadata), dict(arrays)
    change(metadata, arrays)
    path.write_bytes(tensor_bytes(arrays, metadata))
    return path


@pytest.mark.parametrize("levels", [0, 4, 1000])
def test_round_trip(tmp_path, levels):
    made = model(levels)
    write_graph_file(tmp_path / "m.snnc", made)
    found = read_graph_file(tmp_path / "m.snnc")
    assert found.graph == made.graph
    assert to_text(found.graph) == to_text(made.graph)
    assert (found.comparison, found.notes, found.origin) == (made.comparison, made.notes, made.origin)
    np.testing.assert_array_equal(found.calibration, made.calibration)
    assert found.calibration.dtype == (np.int64 if levels else np.float32)
    np.testing.assert_array_equal(found.labels, made.labels)


def test_round_trip_of_a_bare_graph(tmp_path):
    write_graph_file(tmp_path / "m.snnc", Model(model().graph))
    assert read_graph_file(tmp_path / "m.snnc") == Model(model().graph)


def test_equal_models_give_equal_bytes(tmp_path):
    write_graph_file(tmp_path / "a.snnc", model())
    write_graph_file(tmp_path / "b.snnc", model())
    assert (tmp_path / "a.snnc").read_bytes() == (tmp_path / "b.snnc").read_bytes()


def test_counts_are_stored_as_bytes(tmp_path):
    write_graph_file(tmp_path / "m.snnc", model())
    assert read_tensors(tmp_path / "m.snnc")[1]["calibration/x"].dtype == np.uint8


def test_where_a_graph_file_may_be_written(tmp_path):
    path = tmp_path / "m.snnc"
    write_graph_file(path, model())
    with pytest.raises(
        SnnccError, match=r"^\[SNNC-U002\] .*m\.snnc: exists already\. Try another path, or force\.$"
    ):
        write_graph_file(path, model())
    write_graph_file(path, replace(model(), notes=()), force=True)
    assert read_graph_file(path).notes == ()
    with pytest.raises(SnnccError, match=r"^\[SNNC-U005\] .*: a graph file ends in \.snnc, got no suffix\.$"):
        write_graph_file(tmp_path / "m", model())


def about(**changes):
    def change(metadata, _arrays):
        metadata["model"] = json.dumps({**json.loads(metadata["model"]), **changes})

    return change


def text(old, new):
    def change(metadata, _arrays):
        assert old in metadata["graph"]
        metadata["graph"] = metadata["graph"].replace(old, new)

    return change


def array(name, value):
    return lambda _metadata, arrays: arrays.update({name: value})


def other_weight(_metadata, arrays):
    arrays[next(k for k in arrays if "/" not in k)] = np.zeros((2, 1, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m, a: m.pop("snncc"), "SNNC-M001"),
        (lambda m, a: m.update(snncc="2"), "SNNC-M001"),
        (lambda m, a: m.pop("graph"), "SNNC-M001"),
        (lambda m, a: m.update(model="{"), "SNNC-M001"),
        (lambda m, a: m.update(model="[]"), "SNNC-M001"),
        (about(notes="x"), "SNNC-M001"),
        (about(notes=[1]), "SNNC-M001"),
        (about(comparison={"inputs": 1}), "SNNC-M001"),
        (about(comparison=dict(inputs="x", layers=1, worst=1, flips=1, end_to_end=1)), "SNNC-M001"),
        (text("neuron", "nuron"), "SNNC-M011"),
        (text("max_spikes=4", "max_spikes=-4"), "SNNC-M010"),
        (text("max_spikes=4", "max_spikes=" + "9" * 5000), "SNNC-M011"),
        (text("padding=[1, 1]", "stride=[0, 0], padding=[1, 1]"), "SNNC-M010"),
        (text("snn float", "snn integer"), "SNNC-M010"),
        (text("%fire", "%nothing"), None),
        (text("rounding=half_even", "threshold=nan"), "SNNC-M010"),
        (text("rounding=half_even", "rounding=half_even, gain=nan"), "SNNC-M007"),
        (text("steps=1", "steps=1000000000000"), "SNNC-S002"),
        (text("{steps=1} {", "{steps=1} {" + "(" * 10), "SNNC-M011"),
        (lambda m, a: a.pop(next(k for k in a if "/" not in k)), "SNNC-M011"),
        (other_weight, "SNNC-M011"),
        (array("0" * 16, np.zeros(2)), "SNNC-M001"),
        (array("calibration/x", np.zeros((2, 1, 1, 4, 4), np.uint8)), "SNNC-M001"),
        (array("calibration/x", np.full((2, 1, 1, 4, 5), 9, np.uint8)), "SNNC-M001"),
        (array("calibration/x", np.full((2, 1, 1, 4, 5), np.nan, np.float32)), "SNNC-M007"),
        (array("calibration/y", np.zeros(3, np.int64)), "SNNC-M001"),
        (array("calibration/y", np.zeros(2, np.float32)), "SNNC-M001"),
    ],
)  # fmt: skip
def test_forged_files(tmp_path, change, code):
    path = forged(tmp_path, change)
    if code is None:
        read_graph_file(path)
    else:
        assert refusal(path).code == code


def test_messages_name_file_and_reason(tmp_path):
    path = forged(tmp_path, lambda m, a: m.update(snncc="2"))
    assert str(refusal(path)) == (
        f"[SNNC-M001] {path}: is no graph file, got 2. Try a file written by snncc.export."
    )


def test_a_huge_shape_is_refused_before_anything_is_allocated(tmp_path):
    def change(metadata, arrays):
        huge = Graph(
            "net", Family.FLOAT, (Input(name="x", shape=(10**6, 10**6)), Output(name="output", inputs=("x",)))
        )
        metadata["graph"] = to_text(huge)
        arrays.clear()

    assert [p.code for p in refusal(forged(tmp_path, change)).problems] == ["SNNC-S002"] * 2


def test_nan_weights(tmp_path):
    made = model()
    bad = Const(np.full((2, 1, 3, 3), np.nan, np.float32))
    graph = made.graph.rewrite(lambda n: replace(n, weight=bad) if isinstance(n, Conv2d) else None)
    write_graph_file(tmp_path / "m.snnc", replace(made, graph=graph))
    assert (
        str(refusal(tmp_path / "m.snnc"))
        == "[SNNC-M007] %conv: weight is NaN or infinite, got 18 of 18 numbers."
    )


def test_missing_and_other_files(tmp_path):
    assert refusal(tmp_path / "none.snnc").code == "SNNC-U001"
    for content in (b"", b"text, no graph", b"\x80\x02}."):
        (tmp_path / "x.snnc").write_bytes(content)
        assert refusal(tmp_path / "x.snnc").code == "SNNC-M001"


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "m.snnc"
    write_graph_file(path, model())
    whole = path.read_bytes()
    for keep in range(0, len(whole), 97):
        path.write_bytes(whole[:keep])
        assert refusal(path).code in ("SNNC-M001", "SNNC-S002")


def test_random_damage_of_the_text_ends_in_a_typed_error(tmp_path):
    rng = np.random.default_rng(5)
    letters = '0123456789abcdefxyz%{}[],=.-"#:<> \n'

    def damage(metadata, _arrays):
        chars = list(metadata["graph"])
        for _ in range(int(rng.integers(1, 4))):
            chars[int(rng.integers(len(chars)))] = letters[int(rng.integers(len(letters)))]
        metadata["graph"] = "".join(chars)

    codes = set()
    for _ in range(200):
        try:
            read_graph_file(forged(tmp_path, damage))
        except SnnccError as error:
            codes.add(error.code)
    assert codes <= {"SNNC-M001", "SNNC-M007", "SNNC-M010", "SNNC-M011", "SNNC-S002"}
