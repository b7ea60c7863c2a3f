"""The artifact folder: whole or not at all, every byte checked, read back equal."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forging import forge_json
from snncc import publish, store
from snncc.api import open_artifact
from snncc.artifact import Artifact
from snncc.compilation import Options
from snncc.errors import SnnccError, fail
from snncc.ir import Input
from snncc.model import Model
from snncc.store import write_artifact
from snncc_speck import SPECK2F
from speck_nets import conv, network, spiking

FILES = {
    "manifest.json", "manifest.sha256", "float.snn", "integer.snn", "spike.snn", "mapped.json", "chip.json",
    "tensors.safetensors", "certificate.json", "calibration.safetensors", "target/speck2f.json", "target/schedule.json",
}  # fmt: skip
HASHED = FILES - {"manifest.json", "manifest.sha256"}


def write(out: Path, *, force: bool = False, channels: int = 3) -> Artifact:
    graph = network(
        Input(name="x", shape=(2, 6, 4), levels=4),
        conv("c", "x", channels, 2, padding=(1, 1)),
        spiking("n", "c"),
    )
    x = np.random.default_rng(1).integers(0, 5, (5, 1, 2, 6, 4))
    model = Model(graph, calibration=x, labels=np.arange(5), origin="net.pt", notes=("n: integer neuron",))
    lowered = SPECK2F.lower(model, x, Options())
    return write_artifact(out, model, lowered, SPECK2F.emit(lowered), SPECK2F.checker, force=force)


def refusal(path: Path) -> str:
    with pytest.raises(SnnccError) as error:
        open_artifact(path)
    return str(error.value)


def files_below(path: Path) -> set[str]:
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


def test_it_holds_what_the_design_lists_and_reads_back_equal(tmp_path: Path) -> None:
    written = write(tmp_path / "out")
    assert files_below(tmp_path / "out") == FILES
    read = open_artifact(tmp_path / "out")
    for name in ("manifest", "float_graph", "integer_graph", "spike_graph", "mapped", "chip", "certificate"):
        assert getattr(read, name) == getattr(written, name)
    assert set(read.manifest.files) == HASHED
    assert read.calibration.y is not None
    assert read.calibration.y.tolist() == [0, 1, 2, 3, 4]
    assert os.listdir(tmp_path) == ["out"]


def test_two_compilations_give_the_same_bytes(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    assert a.manifest.files == b.manifest.files


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "folder", "link"):
        for force in (False, True):
            with pytest.raises(SnnccError) as error:
                write(tmp_path / name, force=force)
            assert str(error.value) == f"[SNNC-U002] {tmp_path / name}: exists already. Try another path."
    assert (tmp_path / "folder" / "note").read_text() == "mine"
    write(tmp_path / "out")
    with pytest.raises(SnnccError) as error:
        write(tmp_path / "out")
    assert (
        str(error.value)
        == f"[SNNC-U002] {tmp_path / 'out'}: exists already. Try --force to replace this artifact, or another path."
    )
    assert write(tmp_path / "out", force=True, channels=5).mapped.pieces[0].shape[0] == 5


@pytest.mark.parametrize("failing", range(len(FILES) + 1))
def test_a_write_that_fails_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    old = write(tmp_path / "out").manifest
    calls = iter(range(100))
    real = store._write_file

    def write_file(path: Path, data: bytes) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        real(path, data)

    def exchange(a: Path, b: Path) -> int:
        return 5 if failing == len(FILES) else 0

    monkeypatch.setattr(store, "_write_file", write_file)
    monkeypatch.setattr(publish, "_exchange_at_once", exchange)
    with pytest.raises(SnnccError) as error:
        write(tmp_path / "out", force=True, channels=5)
    assert error.value.code == "SNNC-U003"
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["out"]
    assert open_artifact(tmp_path / "out").manifest == old


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_appears_while_it_is_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, force: bool
) -> None:
    out = tmp_path / "out"
    real = store._write_file

    def write_file(path: Path, data: bytes) -> None:
        real(path, data)
        if path.name == "mapped.json":
            appear(out, what)

    monkeypatch.setattr(store, "_write_file", write_file)
    with pytest.raises(SnnccError) as error:
        write(out, force=force)
    assert str(error.value) == f"[SNNC-U002] {out}: exists already. Try another path."
    assert os.listdir(tmp_path) == ["out"]
    assert holds(out) == what


def appear(out: Path, what: str) -> None:
    if what == "folder":
        out.mkdir()
        (out / "note").write_text("mine")
    elif what == "file":
        out.write_text("mine")
    else:
        out.symlink_to("nowhere")


def holds(out: Path) -> str:
    if out.is_symlink():
        return "link"
    return "folder" if (out / "note").is_file() else "file"


@pytest.mark.parametrize("at_once", [True, False])
def test_an_artifact_that_gave_way_to_something_else_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """What stands there is ours when it is looked at, and somebody else's when it is replaced."""
    out = tmp_path / "out"
    write(out)
    looks = iter([True, True, False])
    monkeypatch.setattr(store, "_is_only_ours", lambda folder: next(looks))
    if not at_once:
        monkeypatch.setattr(publish, "_exchange_at_once", lambda a, b: errno.EINVAL)
    (out / "note").write_text("mine")
    with pytest.raises(SnnccError) as error:
        write(out, force=True)
    assert str(error.value) == f"[SNNC-U002] {out}: exists already. Try another path."
    assert os.listdir(tmp_path) == ["out"]
    assert holds(out) == "folder"


def test_a_folder_that_does_not_read_back_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path, checker_of: object) -> Artifact:
        raise fail("SNNC-X001", str(folder), "does not read back")

    monkeypatch.setattr(store, "read_artifact", read)
    with pytest.raises(SnnccError, match="SNNC-X001"):
        write(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_an_empty_folder_is_a_free_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert write(tmp_path / "out").path == tmp_path / "out"
    assert os.listdir(tmp_path) == ["out"]


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "out")
    rng = np.random.default_rng(0)
    for name in sorted(HASHED):
        path = tmp_path / "out" / name
        good = path.read_bytes()
        for at in rng.integers(0, len(good), 5):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert (
                refusal(tmp_path / "out")
                == f"[SNNC-U006] {path}: differs from its recorded SHA-256. Try compiling again."
            )
        path.write_bytes(good[:-1])
        assert "SNNC-U006" in refusal(tmp_path / "out")
        path.unlink()
        assert refusal(tmp_path / "out") == f"[SNNC-U006] {path}: is missing. Try compiling again."
        path.write_bytes(good)
    open_artifact(tmp_path / "out")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "target/../../secret"])
def test_a_manifest_cannot_name_files_outside(tmp_path: Path, name: str) -> None:
    write(tmp_path / "out")
    (tmp_path / "secret").write_text("secret")
    forge_json(tmp_path / "out", "manifest.json", lambda manifest: manifest["files"].update({name: "0" * 64}))
    assert (
        refusal(tmp_path / "out")
        == f"[SNNC-S003] {tmp_path / 'out'}: {name!r}: names a file outside the artifact. Try compiling again."
    )


def linked(path: Path, to: Path) -> None:
    """``path`` moves to ``to`` and leaves a link behind."""
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)
    path.symlink_to(to)


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("name", [
    "manifest.json", "manifest.sha256", "mapped.json", "chip.json", "tensors.safetensors", "target/speck2f.json",
])  # fmt: skip
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str, where: str) -> None:
    """Even one that stays inside and leads to the very bytes; another process could point it elsewhere."""
    out = tmp_path / "out"
    write(out)
    linked(out / name, (out if where == "inside" else tmp_path) / "moved")
    assert refusal(out) == f"[SNNC-S003] {out}: {name!r}: is a link, or lies behind one. Try compiling again."


@pytest.mark.parametrize("where", ["out/elsewhere", "elsewhere"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, where: str) -> None:
    out = tmp_path / "out"
    write(out)
    linked(out / "target", tmp_path / where)
    assert refusal(out) == (
        f"[SNNC-S003] {out}: 'target/schedule.json': is a link, or lies behind one. Try compiling again."
    )


def test_a_link_that_leads_nowhere_is_a_link(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out)
    (out / "spike.snn").unlink()
    (out / "spike.snn").symlink_to("nowhere")
    text = f"[SNNC-S003] {out}: 'spike.snn': is a link, or lies behind one. Try compiling again."
    assert refusal(out) == text
    with pytest.raises(SnnccError) as error:
        write(out)
    assert error.value.code == "SNNC-U002"


def test_an_artifact_may_be_reached_through_links(tmp_path: Path) -> None:
    """Where the user keeps the folder is the user's affair."""
    written = write(tmp_path / "disk" / "out")
    (tmp_path / "shelf").symlink_to("disk")
    (tmp_path / "latest").symlink_to("shelf/out")
    for path in (tmp_path / "shelf" / "out", tmp_path / "latest"):
        assert open_artifact(path).manifest == written.manifest


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"[SNNC-U001] {tmp_path / 'none'}: no such folder."
    (tmp_path / "empty").mkdir()
    assert (
        refusal(tmp_path / "empty")
        == f"[SNNC-U006] {tmp_path / 'empty'}: has no manifest.json. Try a folder that `snncc compile` wrote."
    )


def test_every_change_of_the_manifest_or_its_sum_is_noticed(tmp_path: Path) -> None:
    """Every byte flipped, left out, or preceded by a blank."""
    write(tmp_path / "out")
    rng = np.random.default_rng(0)
    trials = 0
    for name in ("manifest.json", "manifest.sha256"):
        path = tmp_path / "out" / name
        good = path.read_bytes()
        for at in range(len(good)):
            bit = 1 << int(rng.integers(8))
            for found in (bytes([good[at] ^ bit]), b"", b" " + good[at : at + 1]):
                path.write_bytes(good[:at] + found + good[at + 1 :])
                assert refusal(tmp_path / "out").startswith("[SNNC-U006]"), (name, at, found)
                trials += 1
        for more in (b"\n", b"\0", good):
            path.write_bytes(good + more)
            assert refusal(tmp_path / "out").startswith("[SNNC-U006]")
        path.write_bytes(good)
    assert trials > 3000
    open_artifact(tmp_path / "out")


def test_a_manifest_without_its_sum_or_with_another(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out)
    manifest, total = (out / "manifest.json"), out / "manifest.sha256"
    line = f"{hashlib.sha256(manifest.read_bytes()).hexdigest()}  manifest.json\n"
    assert total.read_text() == line  # what `sha256sum -c` reads
    manifest.write_bytes(manifest.read_bytes().replace(b"net.pt", b"not.pt"))
    assert refusal(out) == f"[SNNC-U006] {manifest}: differs from manifest.sha256. Try compiling again."
    total.unlink()
    assert refusal(out) == f"[SNNC-U006] {total}: is missing. Try compiling again."


@pytest.mark.parametrize("found", [1, 3])
def test_an_artifact_of_another_version_is_refused_and_can_be_replaced(tmp_path: Path, found: int) -> None:
    """Version 1 had neither a sum of its manifest nor a chip."""
    out = tmp_path / "out"
    write(out)
    manifest = json.loads((out / "manifest.json").read_text()) | {"version": found}
    if found == 1:
        del manifest["files"]["chip.json"]
        (out / "chip.json").unlink()
        (out / "manifest.sha256").unlink()
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert refusal(out) == (
        f"[SNNC-U006] {out}: is an artifact of another version, got version {found}, limit version 2. "
        "Try compiling the model again with this snncc."
    )
    assert write(out, force=True).manifest.version == 2


def test_an_artifact_that_snncc_wrote_before_version_2_is_refused_by_its_version() -> None:
    folder = Path(__file__).parents[1] / "golden" / "artifact-v1"
    assert refusal(folder) == (
        f"[SNNC-U006] {folder}: is an artifact of another version, got version 1, limit version 2. "
        "Try compiling the model again with this snncc."
    )


WORDS = {
    "target": "speck2f in manifest.json, speck2f in mapped.json, speck2f in certificate.json, speck2f in chip.json",
    "schedule": "exact in manifest.json, exact in mapped.json, exact in certificate.json",
}


def rename(document: dict[str, Any], key: str, other: str) -> None:
    """Another word under a key, or as the name of the value there."""
    if isinstance(document[key], dict):
        document[key]["name"] = other
    else:
        document[key] = other


@pytest.mark.parametrize(
    ("word", "file", "key", "other"),
    [
        ("target", "manifest.json", "target", "speck2e"),
        ("target", "mapped.json", "target", "sim"),
        ("target", "certificate.json", "target", "loihi2"),
        ("target", "chip.json", "name", "speck"),
        ("schedule", "manifest.json", "schedule", "free"),
        ("schedule", "mapped.json", "schedule", "free"),
        ("schedule", "certificate.json", "schedule", "none"),
    ],
)
def test_files_must_agree_on_words(tmp_path: Path, word: str, file: str, key: str, other: str) -> None:
    write(tmp_path / "out")
    forge_json(tmp_path / "out", file, lambda document: rename(document, key, other))
    good = "speck2f" if word == "target" else "exact"
    got = WORDS[word].replace(f"{good} in {file}", f"{other} in {file}")
    assert (
        refusal(tmp_path / "out")
        == f"[SNNC-U006] {tmp_path / 'out'}: its files name different {word}s, got {got}."
    )


def test_the_certificate_claims_what_the_schedule_claims(tmp_path: Path) -> None:
    write(tmp_path / "out")
    forge_json(
        tmp_path / "out", "certificate.json", lambda document: document.update({"claim": "all is well"})
    )
    claim = SPECK2F.schedules["exact"].claim
    assert refusal(tmp_path / "out") == (
        f"[SNNC-U006] {tmp_path / 'out'}: its files name different claims, got {claim} in mapped.json, "
        "all is well in certificate.json."
    )


def test_the_ranges_beside_the_calibration_are_the_certificates(tmp_path: Path) -> None:
    write(tmp_path / "out")
    ranges = json.loads((tmp_path / "out" / "certificate.json").read_text())["ranges"]
    layer = ranges[0]["layer"]
    forge_json(tmp_path / "out", "certificate.json", lambda c: c["ranges"][0].update(observed=[0, 1]))
    assert refusal(tmp_path / "out") == (
        f"[SNNC-U006] {tmp_path / 'out'}: a file does not have the expected content, "
        f"got calibration.safetensors and certificate.json differ in range/{layer}."
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("costs", None),
        ("unknown", 1),
        ("limits", {"source": "x"}),
        ("weight_bits", 10**9),
        ("mesh", {"source": "x", "chips": 8, "columns": 1024, "rows": 1024, "cores_per_router": 1}),
    ],
)
def test_a_chip_that_is_no_description_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    write(tmp_path / "out")

    def change(chip: dict[str, Any]) -> None:
        (chip["limits"] if key.endswith("bits") else chip)[key] = value

    forge_json(tmp_path / "out", "chip.json", change)
    expected = f"[SNNC-U006] {tmp_path / 'out'}: a file does not have the expected content, got "
    assert refusal(tmp_path / "out").startswith(expected)
