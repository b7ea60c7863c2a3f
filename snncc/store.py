"""The artifact's folder: written whole, hashed, and read back without trusting it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors.numpy import save as save_safetensors

from snncc.analysis.certificate import Certificate
from snncc.artifact import VERSION, Artifact, Manifest
from snncc.compilation import Lowered
from snncc.data import Dataset
from snncc.errors import ModelError, Problem, SnnccError, fail, problem, raise_all
from snncc.hw.spec import ChipSpec
from snncc.ir.const import Const
from snncc.ir.text import parse, to_text
from snncc.mapping.check import Checker, violations
from snncc.mapping.mapped import Mapped
from snncc.model import Model
from snncc.publish import place_folder, replace_folder
from snncc.safeio import parse_tensors

MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"  # a line of sha256sum(1)
_LIMIT_BYTES = 4 << 30
_MANIFEST_BYTES = 16 << 20
_REQUIRED = (
    "float.snn",
    "integer.snn",
    "spike.snn",
    "mapped.json",
    "chip.json",
    "certificate.json",
    "tensors.safetensors",
    "calibration.safetensors",
)


def write_artifact(
    out: Path,
    model: Model,
    lowered: Lowered,
    target_files: Mapping[str, bytes],
    checker: Checker,
    *,
    force: bool,
) -> Artifact:
    """Write the folder ``out``, read back before it gets its name, whole or not at all.

    Args:
        out: the folder.
        model: with its calibration inputs.
        lowered: what was made of it.
        target_files: chip files by name.
        checker: the backend's part of the check.
        force: replace an artifact that stands there.

    Raises:
        UsageError: SNNC-U002 if ``out`` exists, SNNC-U003 if it cannot be written.
    """
    refuse_existing(out, force)
    files = _contents(model, lowered) | {f"target/{name}": data for name, data in target_files.items()}
    manifest = Manifest(
        snncc=version("snncc"),
        target=lowered.mapped.target,
        schedule=lowered.mapped.schedule.name,
        model=Path(model.origin).name,
        comparison=None
        if model.comparison is None
        else {k: float(v) for k, v in vars(model.comparison).items()},
        notes=model.notes,
        files={name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    )
    files[MANIFEST] = manifest.model_dump_json(indent=2).encode()
    files[MANIFEST_SUM] = _sum_line(files[MANIFEST])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise fail("SNNC-U003", str(out), "cannot be written", got=error.strerror) from None
    try:
        staging.chmod(0o755)
        for name, data in files.items():
            _write_file(staging / name, data)
        written = read_artifact(staging, lambda _: checker)
        _publish(staging, out, force)
    except FileExistsError:
        raise fail("SNNC-U002", str(out), "exists already", hint="another path") from None
    except OSError as error:
        raise fail("SNNC-U003", str(out), "cannot be written", got=error.strerror) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return replace(written, path=out)


def refuse_existing(out: Path, force: bool) -> None:
    """Raise SNNC-U002 if ``out`` is there and may not be replaced."""
    if not (out.exists() or out.is_symlink()):
        return
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    ours = _is_only_ours(out)
    if empty or (ours and force):
        return
    hint = "--force to replace this artifact, or another path" if ours else "another path"
    raise fail("SNNC-U002", str(out), "exists already", hint=hint)


def _is_only_ours(out: Path) -> bool:
    """Whether a folder is an artifact and holds nothing that its manifest does not name."""
    if out.is_symlink() or not out.is_dir():
        return False
    try:
        named = {MANIFEST, MANIFEST_SUM, *_Header.model_validate_json(_manifest_bytes(out)).files}
    except (ValidationError, SnnccError):
        return False
    found = (p for p in out.rglob("*") if not p.is_dir() or p.is_symlink())
    return all(p.relative_to(out).as_posix() in named for p in found)


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _publish(staging: Path, out: Path, force: bool) -> None:
    """Put the folder in its place; ``staging`` is what is left to delete."""
    try:
        place_folder(staging, out)
    except FileExistsError:
        if not (force and _is_only_ours(out)):
            raise
        replace_folder(staging, out, _is_only_ours)


def _contents(model: Model, lowered: Lowered) -> dict[str, bytes]:
    graphs = {
        "float.snn": lowered.float_graph,
        "integer.snn": lowered.integer_graph,
        "spike.snn": lowered.spike_graph,
    }
    tensors = dict(lowered.tensors)
    for graph in graphs.values():
        tensors |= graph.constants()
    assert model.calibration is not None
    calibration = {"x": np.ascontiguousarray(model.calibration)}
    if model.labels is not None:
        calibration["y"] = np.ascontiguousarray(model.labels)
    calibration |= _range_arrays(lowered.certificate)
    return {
        **{name: to_text(graph).encode() for name, graph in graphs.items()},
        "mapped.json": lowered.mapped.model_dump_json(indent=1).encode(),
        "chip.json": lowered.chip.model_dump_json(indent=1).encode(),
        "certificate.json": lowered.certificate.model_dump_json(indent=1).encode(),
        "tensors.safetensors": save_safetensors(
            {k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}
        ),
        "calibration.safetensors": save_safetensors(calibration),
    }


def _range_arrays(certificate: Certificate) -> dict[str, NDArray[np.int64]]:
    """Ranges of a certificate by layer: observed, allowed and those of all inputs, [3, 2] each."""
    found = {}
    for layer in certificate.ranges:
        key = layer.layer if layer.quantity == "membrane" else f"{layer.layer}/{layer.quantity}"
        found[f"range/{key}"] = np.array([layer.observed, layer.allowed, layer.all_inputs], np.int64)
    return found


def read_artifact(path: Path, checker_of: Callable[[ChipSpec], Checker | None]) -> Artifact:
    """Artifact of a folder; nothing outside it is opened, every byte is checked against the manifest.

    ``checker_of``: the backend's part of the check, for the chip that the artifact holds; None where that
    backend is not installed.

    Raises:
        UsageError: SNNC-U001 if there is no folder, SNNC-U006 if it is no intact artifact.
        UnsafeFileError: SNNC-S002, SNNC-S003.
    """
    if not path.is_dir():
        raise fail("SNNC-U001", str(path), "no such folder")
    manifest = _read_manifest(path)
    files = {name: _read_member(path, name, digest) for name, digest in manifest.files.items()}
    missing = [name for name in _REQUIRED if name not in files]
    if missing:
        raise fail("SNNC-U006", str(path), "files are missing", got=", ".join(missing))
    try:
        artifact = _assemble(path, manifest, files)
        raise_all(_contradictions(artifact))
        checker = checker_of(artifact.chip)
        broken = next(violations(artifact.mapped, artifact.tensors, artifact.chip, checker), None)
    except (ValidationError, ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise fail("SNNC-U006", str(path), "a file does not have the expected content", got=first) from None
    except ModelError as error:
        raise fail(
            "SNNC-U006", str(path), "a file does not have the expected content", got=str(error)
        ) from None
    if broken is not None:
        raise fail("SNNC-U006", str(path), "the mapped network is ill-formed", got=str(broken).rstrip("."))
    return artifact


def _contradictions(artifact: Artifact) -> Iterator[Problem]:
    """Words that files of the folder say of the same thing, where they differ."""
    manifest, mapped, certificate = artifact.manifest, artifact.mapped, artifact.certificate
    files = (MANIFEST, "mapped.json", "certificate.json", "chip.json")
    words = {
        "target": (manifest.target, mapped.target, certificate.target, artifact.chip.name),
        "schedule": (manifest.schedule, mapped.schedule.name, certificate.schedule),
        "claim": (None, mapped.schedule.claim, certificate.claim),
    }
    for word, said in words.items():
        if len(set(said) - {None}) > 1:
            parts = zip(said, files, strict=False)
            got = ", ".join(f"{value} in {file}" for value, file in parts if value is not None)
            yield problem("SNNC-U006", str(artifact.path), f"its files name different {word}s", got=got)


def _assemble(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Artifact:
    tensors = parse_tensors(files["tensors.safetensors"], f"{path}/tensors.safetensors")[1]
    calibration = parse_tensors(files["calibration.safetensors"], f"{path}/calibration.safetensors")[1]
    for name, array in tensors.items():
        if Const(array, copy=False).digest != name:
            raise ValueError(f"the array filed under {name} in tensors.safetensors is another")
    certificate = Certificate.model_validate_json(files["certificate.json"])
    for key, ranges in _range_arrays(certificate).items():
        if not np.array_equal(calibration[key], ranges):
            raise ValueError(f"calibration.safetensors and certificate.json differ in {key}")
    graphs = [parse(files[name].decode(), tensors) for name in ("float.snn", "integer.snn", "spike.snn")]
    return Artifact(
        path=path,
        manifest=manifest,
        float_graph=graphs[0],
        integer_graph=graphs[1],
        spike_graph=graphs[2],
        mapped=Mapped.model_validate_json(files["mapped.json"], context=tensors),
        chip=ChipSpec.model_validate_json(files["chip.json"]),
        tensors=tensors,
        certificate=certificate,
        calibration=Dataset(calibration["x"], calibration.get("y"), "the artifact's calibration inputs"),
    )


class _Header(BaseModel):
    """What every version's manifest says."""

    artifact: Literal["snncc"]
    version: int
    files: dict[str, str]


def _sum_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _refuse_link(folder: Path, name: str) -> None:
    """An artifact holds what it names: neither a file nor a folder on the way to it stands elsewhere."""
    if any((folder / part).is_symlink() for part in (Path(name), *Path(name).parents) if part.name):
        what = "is a link, or lies behind one"
        raise fail("SNNC-S003", f"{folder}: {name!r}", what, hint="compiling again")


def _manifest_bytes(path: Path) -> bytes:
    _refuse_link(path, MANIFEST)
    file = path / MANIFEST
    if not file.is_file() or file.stat().st_size > _MANIFEST_BYTES:
        raise fail("SNNC-U006", str(path), f"has no {MANIFEST}", hint="a folder that `snncc compile` wrote")
    return file.read_bytes()


def _read_manifest(path: Path) -> Manifest:
    file, data = path / MANIFEST, _manifest_bytes(path)
    try:
        header = _Header.model_validate_json(data)
        _refuse_version(path, header.version)
        _refuse_other_sum(path, data)
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise fail("SNNC-U006", str(file), f"{place}: {first['msg']}") from None


def _refuse_version(path: Path, found: int) -> None:
    if found != VERSION:
        raise fail(
            "SNNC-U006",
            str(path),
            "is an artifact of another version",
            got=f"version {found}",
            limit=f"version {VERSION}",
            hint="compiling the model again with this snncc",
        )


def _refuse_other_sum(path: Path, data: bytes) -> None:
    _refuse_link(path, MANIFEST_SUM)
    line, file = _sum_line(data), path / MANIFEST_SUM
    if not file.is_file():
        raise fail("SNNC-U006", str(file), "is missing", hint="compiling again")
    with file.open("rb") as opened:
        recorded = opened.read(len(line) + 1)
    if recorded != line:
        raise fail("SNNC-U006", str(path / MANIFEST), f"differs from {MANIFEST_SUM}", hint="compiling again")


def _read_member(folder: Path, name: str, digest: str) -> bytes:
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        what = "names a file outside the artifact"
        raise fail("SNNC-S003", f"{folder}: {name!r}", what, hint="compiling again")
    _refuse_link(folder, name)
    file = folder / name
    if not file.is_file():
        raise fail("SNNC-U006", str(file), "is missing", hint="compiling again")
    if file.stat().st_size > _LIMIT_BYTES:
        raise fail(
            "SNNC-S002", str(file), "is too large", got=file.stat().st_size, limit=f"{_LIMIT_BYTES} bytes"
        )
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise fail("SNNC-U006", str(file), "differs from its recorded SHA-256", hint="compiling again")
    return data
