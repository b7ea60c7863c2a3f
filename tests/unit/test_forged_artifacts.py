"""No change of a part that goes to the chip passes verification, whatever hashes are written beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snncc
from forging import forge, forge_json
from mutated_nets import WAYS, write
from mutations import Mutation, mutations
from snncc import plugins
from snncc.artifact import Artifact
from snncc.data import Dataset
from snncc.equivalence.difference import Difference, first_difference
from snncc.errors import EquivalenceError, SnnccError
from snncc.ir.const import Const
from snncc.plugins import find_target

Good = Callable[[str], tuple[Path, Dataset]]

# Neither goes to the chip; the float graph's accuracy stands beside the others and nothing is claimed of it.
BESIDE = ("float.snn", "calibration.safetensors", "chip.json", "certificate.json")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    """``good(way)``: an artifact that nobody writes to, and inputs for it."""
    made: dict[str, tuple[Path, Dataset]] = {}
    base = tmp_path_factory.mktemp("good")

    def of(way: str) -> tuple[Path, Dataset]:
        if way not in made:
            made[way] = base / way, write(base / way, way)[1]
        return made[way]

    return of


def copied(good: Good, way: str, out: Path) -> tuple[Path, Dataset]:
    folder, data = good(way)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out)
    return out, data


def verdict(folder: Path | Artifact, data: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether it passes, and the codes of what stands against it."""
    try:
        found = snncc.verify(folder, data, workers=1)
    except SnnccError as error:
        return False, tuple(p.code for p in error.problems)
    return found.equivalent, tuple(p.code for p in found.disagreements)


def messages(folder: Path | Artifact, data: Dataset) -> list[str]:
    """What disagrees, whether the artifact can run or not."""
    try:
        return [str(p) for p in snncc.verify(folder, data, workers=1).disagreements]
    except EquivalenceError as error:
        return [str(p) for p in error.problems]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_what_nobody_changed_passes(good: Good, way: str) -> None:
    assert verdict(*good(way)) == (not way.endswith("free"), ())


# ---- one change at a time -----------------------------------------------------------------------------


def all_mutations(folder: Path) -> list[Mutation]:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return [m for file in files if file not in BESIDE for m in mutations(folder, file)]


def changes_nothing(m: Mutation) -> bool:
    """The distance between the taps of a kernel that has one."""
    return m.file == "mapped.json" and "dilation" in m.what


def passes_none(good: Good, way: str, tmp_path: Path, chosen: list[Mutation]) -> None:
    for m in chosen:
        folder, data = copied(good, way, tmp_path / "forged")
        forge(folder, m.file, m.change)
        equivalent, codes = verdict(folder, data)
        assert not equivalent, (m.file, m.what)
        assert not any(code.startswith("SNNC-X") for code in codes), (m.file, m.what, codes)


@pytest.mark.parametrize(("way", "samples"), [("sim", 50), ("speck2f", 60), ("loihi2", 60), ("loihi1", 40)])
def test_some_changes_of_one_field(good: Good, tmp_path: Path, way: str, samples: int) -> None:
    found = [m for m in all_mutations(good(way)[0]) if not changes_nothing(m)]
    assert len(found) > 300
    # The larger a file the more of its fields are alike: each file has the same chance.
    rng = np.random.default_rng(sum(map(ord, way)))
    files = sorted({m.file for m in found})
    by_file = {file: [m for m in found if m.file == file] for file in files}
    chosen = [by_file[files[i % len(files)]] for i in range(samples)]
    passes_none(good, way, tmp_path, [each[int(rng.integers(len(each)))] for each in chosen])


@pytest.mark.campaign
@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_change_of_one_field(good: Good, tmp_path: Path, way: str) -> None:
    found = [m for m in all_mutations(good(way)[0]) if not changes_nothing(m)]
    passes_none(good, way, tmp_path, found)


# ---- the chip files -----------------------------------------------------------------------------------


def test_a_negated_weight_in_the_chip_file(good: Good, tmp_path: Path) -> None:
    folder, data = copied(good, "speck2f", tmp_path / "out")
    config = json.loads((folder / "target" / "speck2f.json").read_text())
    core = min(config["cnn_layers"], key=int)
    weights = np.array(config["cnn_layers"][core]["weights"])
    at = tuple(int(i) for i in np.argwhere(weights != 0)[0])
    place, value = ".".join(map(str, at)), int(weights[at])

    def negate(document: Any) -> None:
        inner = document["cnn_layers"][core]["weights"]
        for i in at[:-1]:
            inner = inner[i]
        inner[at[-1]] = -value

    forge_json(folder, "target/speck2f.json", negate)
    assert messages(folder, data) == [
        f"{folder}/target/speck2f.json: differs from what mapped.json gives at "
        f"cnn_layers.{core}.weights.{place}, got {-value}, limit {value}. "
        "Try compiling again, or snncc 0.1.0, which wrote it."
    ]


def test_files_that_are_missing_or_too_many(good: Good, tmp_path: Path) -> None:
    folder, data = copied(good, "speck2f", tmp_path / "out")
    (folder / "target" / "schedule.json").unlink()
    forge_json(folder, "manifest.json", lambda m: m["files"].pop("target/schedule.json"))
    (folder / "target" / "more.json").write_text("{}")
    forge(folder, "target/more.json", lambda _: b"{}")
    again = "Try compiling again, or snncc 0.1.0, which wrote it."
    assert messages(folder, data) == [
        f"{folder}/target/more.json: is no file that mapped.json gives. {again}",
        f"{folder}/target/schedule.json: is missing: mapped.json gives such a file. {again}",
    ]
    found = snncc.verify(folder, data, workers=1)
    assert found.layers[0].mismatches == 0  # the values are right, the files are not
    assert not found.equivalent


@pytest.mark.parametrize("name", ["lava/run.py", "tensors.safetensors", "lava/weights.npz"])
def test_the_first_byte_that_differs_is_named(good: Good, tmp_path: Path, name: str) -> None:
    folder, data = copied(good, "loihi2", tmp_path / "out")
    byte = (folder / "target" / name).read_bytes()[100]
    forge(folder, f"target/{name}", lambda b: b[:100] + bytes([byte ^ 7]) + b[101:])
    assert messages(folder, data) == [
        f"{folder}/target/{name}: differs from what mapped.json gives at byte 100, got {byte ^ 7}, limit {byte}. "
        "Try compiling again, or snncc 0.1.0, which wrote it."
    ]


def test_a_chip_file_of_another_spelling_is_another_file(good: Good, tmp_path: Path) -> None:
    """The same document with blanks: an equal JSON value, and other bytes."""
    folder, data = copied(good, "speck2f", tmp_path / "out")
    forge(folder, "target/schedule.json", lambda data: data + b" ")
    end = len((folder / "target" / "schedule.json").read_bytes()) - 1
    assert f"at byte {end}, got 32, limit nothing" in messages(folder, data)[0]


def test_without_its_backend_an_artifact_is_not_certified(
    good: Good, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = good("speck2f")
    points = plugins._points
    left = {name: point for name, point in points("backends").items() if name != "speck"}
    monkeypatch.setattr(plugins, "_points", lambda group: left if group == "backends" else points(group))
    found = snncc.verify(folder, data, workers=1)
    assert not found.equivalent
    assert [(p.code, str(p)) for p in found.disagreements] == [
        (
            "SNNC-Q005",
            f"{folder}/target: could not be checked, got chip speck2f: backend: no such backend is installed. "
            f"Try one of {', '.join(left)}.",
        )
    ]


def test_without_h5py_a_network_for_netx_is_not_certified(
    good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = good("loihi1")
    assert (folder / "target" / "network.net").is_file()
    monkeypatch.setitem(sys.modules, "h5py", None)
    said = "writing it needs h5py, which is missing"
    assert messages(folder, data) == [
        f"{folder}/target: could not be checked, got network.net: {said}. Try pip install 'snncc[loihi]'."
    ]
    with pytest.raises(SnnccError) as error:
        write(tmp_path / "out", "loihi1")
    assert str(error.value) == f"[SNNC-T007] network.net: {said}. Try pip install 'snncc[loihi]'."
    assert os.listdir(tmp_path) == []


EMIT = """
import hashlib, sys
from snncc.plugins import find_target
from snncc.api import open_artifact
from pathlib import Path
for folder in map(Path, sys.argv[1:]):
    artifact = open_artifact(folder)
    for name, data in sorted(find_target(artifact.mapped.target).emit(artifact.lowered).items()):
        print(folder / "target" / name, hashlib.sha256(data).hexdigest())
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_emission_gives_the_same_bytes_in_every_process(good: Good, seed: str) -> None:
    folders = [good(way)[0] for way in sorted(WAYS)]
    said = subprocess.run(
        [sys.executable, "-c", EMIT, *map(str, folders)],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    emitted = dict(line.split() for line in said.splitlines())
    for folder in folders:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        recorded = {
            f"{folder / name}": digest for name, digest in files.items() if name.startswith("target/")
        }
        assert {n: d for n, d in emitted.items() if n.startswith(f"{folder}/")} == recorded


# ---- changes that agree with each other ------------------------------------------------------------------


def reemitted(artifact: Artifact, folder: Path, **changes: Any) -> Path:
    """The folder with another mapped network, and the chip files that a backend would give for it."""
    forged = replace(artifact, **changes)
    shutil.copytree(artifact.path, folder)
    forge(folder, "mapped.json", lambda _: forged.mapped.model_dump_json().encode())
    from safetensors.numpy import save

    forge(folder, "tensors.safetensors", lambda _: save(dict(forged.tensors)))
    for name, data in find_target(forged.mapped.target).emit(forged.lowered).items():
        forge(folder, f"target/{name}", lambda _, data=data: data)
    return folder


@pytest.mark.parametrize("way", ["sim", "speck2f", "loihi2", "loihi1"])
def test_an_output_of_the_other_sign_everywhere(good: Good, tmp_path: Path, way: str) -> None:
    folder, data = good(way)
    artifact = snncc.open_artifact(folder)
    port = artifact.mapped.output.model_copy(update={"scale": -1.0})
    scale = artifact.mapped.output.scale
    forged = reemitted(artifact, tmp_path / "out", mapped=artifact.mapped.model_copy(update={"output": port}))
    found = snncc.verify(forged, data, workers=1)
    assert not found.equivalent
    assert found.results.mismatches > 0
    assert [str(p) for p in found.disagreements] == [
        f"{forged}/mapped.json: differs from what spike.snn says at output.scale, got -1.0, limit {scale}."
    ]


@pytest.mark.parametrize("way", ["sim", "speck2f", "loihi2", "loihi1"])
def test_a_negated_weight_everywhere_but_in_the_graphs(good: Good, tmp_path: Path, way: str) -> None:
    """Of a channel and tap that may be silent in all data: one weight of the first connection."""
    folder, data = good(way)
    artifact = snncc.open_artifact(folder)
    piece = artifact.mapped.pieces[0]
    weight = artifact.tensors[piece.connections[0].weight].copy()
    at = tuple(np.argwhere(weight != 0)[0])
    weight[at] = -weight[at]
    const = Const(weight)
    connection = piece.connections[0].model_copy(update={"weight": const.digest})
    pieces = (
        piece.model_copy(update={"connections": (connection, *piece.connections[1:])}),
        *artifact.mapped.pieces[1:],
    )
    forged = reemitted(
        artifact,
        tmp_path / "out",
        mapped=artifact.mapped.model_copy(update={"pieces": pieces}),
        tensors=dict(artifact.tensors) | {const.digest: const.array},
    )
    silent = Dataset(np.zeros_like(data.x))
    assert snncc.verify(folder, silent, workers=1).equivalent
    found = snncc.verify(forged, silent, workers=1)
    assert not found.equivalent
    assert sum(layer.mismatches for layer in found.layers) == 0  # no sample shows it
    heard = int(np.prod(piece.shape[1:]))
    assert len(found.disagreements) == 1
    what = f"{forged}/mapped.json: the synapses of n1 are others than in spike.snn, got "
    assert str(found.disagreements[0]).startswith(what)
    differ = int(str(found.disagreements[0])[len(what) :].split()[0])
    assert 0 < differ <= heard


def test_a_synapse_that_waits_too_long_is_another_synapse(good: Good) -> None:
    folder, data = good("sim")
    artifact = snncc.open_artifact(folder)
    late = [(p, c) for p in artifact.mapped.pieces for c in p.connections if c.delay]
    assert late
    piece, connection = late[0]
    wrong = tuple(
        c.model_copy(update={"delay": c.delay - 1}) if c is connection else c for c in piece.connections
    )
    pieces = tuple(
        p.model_copy(update={"connections": wrong}) if p is piece else p for p in artifact.mapped.pieces
    )
    forged = replace(artifact, mapped=artifact.mapped.model_copy(update={"pieces": pieces}))
    neurons = int(np.prod(piece.shape))
    assert messages(forged, data) == [
        f"{folder}/mapped.json: the synapses of {piece.name} are others than in spike.snn, "
        f"got {neurons} neurons that hear something else, limit 0."
    ]


def test_a_threshold_of_the_integers_alone(good: Good, tmp_path: Path) -> None:
    folder, data = copied(good, "sim", tmp_path / "out")
    text = (folder / "integer.snn").read_text()
    old = next(line for line in text.splitlines() if "= integer_neuron" in line)
    threshold = int(old.split("threshold=")[1].split(",")[0])
    forge(
        folder,
        "integer.snn",
        lambda b: b.replace(f"threshold={threshold},".encode(), f"threshold={threshold + 2},".encode(), 1),
    )
    said = messages(folder, data)
    assert len(said) == 1
    assert said[0].startswith(f"{folder}/spike.snn: differs from the spike form of integer.snn in line ")
    assert f"threshold={threshold}," in said[0]
    assert f"threshold={threshold + 2}," in said[0]


@pytest.mark.parametrize(
    ("way", "field", "value"),
    [
        ("sim", "engine", "event"),
        ("loihi2", "engine", "gated"),
        ("speck2f", "engine", "clocked"),
        ("sim-free", "engine", "clocked"),
        ("sim-free", "promises", True),
        ("loihi2-free", "promises", True),
        ("loihi2", "spare", True),
        ("loihi2-graded", "spare", True),
        ("sim", "release", "free"),
    ],
)
def test_another_schedule_of_the_same_name(
    good: Good, tmp_path: Path, way: str, field: str, value: Any
) -> None:
    folder, data = copied(good, way, tmp_path / "out")
    own = json.loads((folder / "mapped.json").read_text())["schedule"]
    forge_json(folder, "mapped.json", lambda mapped: mapped["schedule"].update({field: value}))
    equivalent, codes = verdict(folder, data)
    assert not equivalent
    assert codes in (("SNNC-Q004",), ("SNNC-U006",)), codes
    if field in ("engine", "promises") and codes == ("SNNC-Q004",):
        what = f"is no schedule that the backend offers, by its {field}"
        said = f"{folder}/mapped.json: {own['name']}: {what}, got {value}, limit {own[field]}."
        assert messages(folder, data) == [said]


def test_an_array_that_only_the_mapping_names_is_what_its_name_says(good: Good, tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    folder, data = copied(good, "speck2f", tmp_path / "out")
    order = json.loads((folder / "mapped.json").read_text())["output"]["order"]
    forge(folder, "tensors.safetensors", lambda b: save(load(b) | {order: load(b)[order][::-1].copy()}))
    with pytest.raises(SnnccError) as error:
        snncc.verify(folder, data)
    assert str(error.value) == (
        f"[SNNC-U006] {folder}: a file does not have the expected content, "
        f"got the array filed under {order} in tensors.safetensors is another."
    )


def test_neurons_that_stand_on_no_core(good: Good, tmp_path: Path) -> None:
    folder, data = copied(good, "loihi2", tmp_path / "out")
    forge_json(folder, "mapped.json", lambda mapped: mapped.update(tiles=[]))
    with pytest.raises(SnnccError) as error:
        snncc.verify(folder, data)
    assert str(error.value) == (
        f"[SNNC-U006] {folder}: the mapped network is ill-formed, "
        "got mapping of n1: neurons stand on no core, got 72, limit 0."
    )


def test_a_core_that_the_chip_has_not(good: Good, tmp_path: Path) -> None:
    folder, data = copied(good, "sim", tmp_path / "out")
    tile = {"piece": "n1", "core": 0, "low": [0, 0, 0], "high": [1, 1, 1]}
    forge_json(folder, "mapped.json", lambda mapped: mapped.update(tiles=[tile]))
    with pytest.raises(SnnccError) as error:
        snncc.verify(folder, data)
    assert str(error.value) == (
        f"[SNNC-U006] {folder}: the mapped network is ill-formed, "
        "got mapping of sim: has tiles, but the chip has no cores, got 1."
    )


# ---- the certificate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "change", "said"),
    [
        ("sim", {"ties": 99}, "ties of the membrane of n1 is another than integer.snn gives, got 99, limit "),
        (
            "sim",
            {"bits": 16},
            "bits of the membrane of n1 is another than integer.snn gives, got 16, limit 32.",
        ),
        (
            "sim",
            {"proven": False},
            "ranges.0: a range is proven where it covers all inputs, and nowhere else, got False, limit True.",
        ),
        ("sim", {"allowed": [-(2**40), 2**40]}, "allowed sums leave the membrane's word of n1, got "),
        ("speck2f", {"allowed": [-9, 9]}, "n1 admits a range that the certificate does not allow, got "),
        (
            "loihi1",
            {"quantity": "current"},
            "says nothing of the membrane of n1.",
        ),
    ],
)
def test_a_certificate_that_says_something_else(
    good: Good, tmp_path: Path, way: str, change: dict[str, Any], said: str
) -> None:
    folder, data = copied(good, way, tmp_path / "out")
    forge_certificate(folder, change)
    found = messages(folder, data)
    assert any(said in text for text in found), found
    assert not snncc.verify(folder, data, workers=1).equivalent


def test_what_the_certificate_leaves_open_is_watched(good: Good) -> None:
    folder, data = good("loihi2")
    artifact = snncc.open_artifact(folder)
    ranges = list(artifact.certificate.ranges)
    at = next(i for i, r in enumerate(ranges) if r.quantity != "membrane")
    open_ = ranges[at].model_copy(update={"allowed": (-1, 1), "proven": False})
    ranges[at] = open_
    certificate = artifact.certificate.model_copy(update={"ranges": tuple(ranges)})
    assert messages(replace(artifact, certificate=certificate), data) == [
        f"{folder}/mapped.json: {open_.layer} does not watch the range that the certificate leaves open, "
        "got none, limit [(-1, 1)]."
    ]


def forge_certificate(folder: Path, change: dict[str, Any]) -> None:
    """The first range of the certificate changed, and the copy beside the calibration inputs with it."""
    from safetensors.numpy import load, save

    from snncc.analysis.certificate import Certificate
    from snncc.store import _range_arrays

    forge_json(folder, "certificate.json", lambda c: c["ranges"][0].update(change))
    certificate = Certificate.model_validate_json((folder / "certificate.json").read_bytes())
    ranges = _range_arrays(certificate)
    forge(folder, "calibration.safetensors", lambda b: save(load(b) | ranges))


# ---- other verbs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["simulate", "report"])
def test_what_contradicts_itself_is_neither_costed_nor_reported(
    good: Good, tmp_path: Path, verb: str
) -> None:
    folder, data = copied(good, "sim", tmp_path / "out")
    forge_json(folder, "mapped.json", lambda mapped: mapped["output"].update(shape=[13]))
    run = snncc.simulate if verb == "simulate" else partial(snncc.report, html=tmp_path / "page.html")
    with pytest.raises(EquivalenceError) as error:
        run(folder, data=data)
    assert [str(p) for p in error.value.problems] == [
        f"{folder}/mapped.json: differs from what spike.snn says at output.shape.0, got 13, limit 12."
    ]
    assert os.listdir(tmp_path) == ["out"]


def test_where_documents_differ_first() -> None:
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) is None
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == Difference("a.1.b", "2", "3")
    assert first_difference([1, 2], [1]) == Difference("1", "2", "nothing")
    assert first_difference({"a": 1}, {"a": 1, "b": None}) == Difference("b", "nothing", "None")
    assert first_difference({"a": 1}, {"a": 1.0}) == Difference("a", "1", "1.0")
    assert first_difference({"a": "x" * 200}, {}) == Difference("a", "x" * 120 + "…", "nothing")
