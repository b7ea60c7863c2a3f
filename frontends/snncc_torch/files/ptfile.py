"""Loader of ``.pt`` files: read as data first, then by torch under ``weights_only``, never trusted.

The archive is read once. Its pickle is interpreted without executing anything, every attribute
of every module is checked, and only then torch loads a clean archive made of the very bytes that
were checked, so that no second reading of the file can find something else in it.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snncc.errors import SnnccError, fail, raise_all
from snncc.model import Model
from snncc.plugins import LoadOptions
from snncc.safeio import read_zip, regular_file, shown
from snncc_torch.capturing import capture
from snncc_torch.files.checkpoint import EXPORT_HINT, no_module, tensors, unwrapped, weights_in
from snncc_torch.files.description import ATTRIBUTE
from snncc_torch.files.exporting import with_calibration
from snncc_torch.files.pickletree import MAX_PICKLE, Obj, read_tree
from snncc_torch.files.pt2file import is_pt2, read_pt2
from snncc_torch.files.pt2neurons import load_program
from snncc_torch.files.schema import CLASSES, module_problems

# How the files of torch before 1.6 begin: a pickled number, or the name of a tar archive's first member.
_LEGACY_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TAR = (257, b"ustar")


@dataclass(frozen=True)
class _File:
    """A checked archive: its tree, and its members, of which torch may load a clean archive."""

    where: str
    tree: Any
    members: dict[str, bytes]
    storages: dict[str, bytes]


# A module, what it says of itself, and notes.
_Given = tuple[nn.Module, dict[str, Any], tuple[str, ...]]


def load_model(path: Path, options: LoadOptions) -> Model:
    """Model of a file of ``torch.save`` or ``torch.export.save``, which its content tells apart.

    Raises:
        UsageError: SNNC-U001 for a missing file, SNNC-U010 for a factory that cannot be used.
        ModelError: SNNC-M001 to M009 and M013, with every problem found.
        UnsafeFileError: SNNC-S001 to S003; nothing of the file was executed.
    """
    where = shown(str(path))
    members = _members(path, where)
    if is_pt2(members):
        archive = read_pt2(members, where)
        if options.factory is None:
            return load_program(archive, options)
        given: _Given = (_filled(options.factory, archive.state), {}, ())
    else:
        given = _from_file(_checked(members, where), options.factory)
    module, about, notes = given
    model = _captured(module, about, options, where)
    model = replace(model, notes=(*notes, *model.notes), origin=where)
    return _with_described_inputs(model, about)


def _from_file(file: _File, factory: str | None) -> _Given:
    if factory is None:
        module = _from_module(file)
        return module, vars(module).get(ATTRIBUTE, {}), ()
    if isinstance(file.tree, Obj):
        hint = f"{file.where} without --model"
        raise fail("SNNC-U010", "--model", "the file holds a whole module, not weights", hint=hint)
    refs, notes = weights_in(file.tree, file.where)
    return _filled(factory, tensors(refs, file.storages)), {}, notes


def _with_described_inputs(model: Model, about: dict[str, Any]) -> Model:
    """``model`` with the calibration inputs of the file, if options have not changed what fits it."""
    graph = model.graph
    now = (graph.input.shape, graph.steps, graph.input.levels)
    if about and now != (tuple(about["input_shape"]), about["timesteps"], about["input_levels"]):
        note = "options change the input: the calibration inputs in the file do not fit and are not used"
        return replace(model, notes=(*model.notes, note)) if "calibration" in about else model
    return with_calibration(model, about.get("calibration"), about.get("labels"))


# ---- reading ------------------------------------------------------------------------------------


def _members(path: Path, where: str) -> dict[str, bytes]:
    """Members of an archive that is no TorchScript, by name."""
    if regular_file(path) == 0:
        raise fail("SNNC-M001", where, "is empty")
    if not zipfile.is_zipfile(path):
        raise _not_an_archive(path, where)
    _refuse_torchscript(path, where)
    return read_zip(path)


def _refuse_torchscript(path: Path, where: str) -> None:
    """Recognised by names alone: its members are compressed, which no others may be."""
    try:
        with zipfile.ZipFile(path) as archive:
            tails = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # read_zip says what is wrong with it
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        what = (
            "is a TorchScript archive: code, in which neurons are no longer whole, and which snncc never runs"
        )
        hint = f"{EXPORT_HINT}, with the module that torch.jit.script or torch.jit.trace was given"
        raise fail("SNNC-M001", where, what, hint=hint)


def _checked(members: dict[str, bytes], where: str) -> _File:
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise fail(
            "SNNC-M001", where, "is no file of torch.save", got=f"{len(pickles)} pickles", hint=EXPORT_HINT
        )
    top = pickles[0].removesuffix("data.pkl")
    if members.get(f"{top}byteorder", b"little") != b"little":
        raise fail("SNNC-M001", where, "was saved on a big-endian machine")
    prefix = f"{top}data/"
    storages = {name.removeprefix(prefix): data for name, data in members.items() if name.startswith(prefix)}
    sizes = {key: len(data) for key, data in storages.items()}
    tree, problems = read_tree(members[pickles[0]], where, sizes, frozenset(CLASSES))
    raise_all(problems)
    return _File(where, tree, members, storages)


def _clean_archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _not_an_archive(path: Path, where: str) -> SnnccError:
    """The error for a file that is no zip: say so if it is a pickle that would run code."""
    with path.open("rb") as opened:
        data = opened.read(MAX_PICKLE)
    if data.startswith(_LEGACY_PICKLE) or data[_TAR[0] :].startswith(_TAR[1]):
        what = "was saved by torch before 1.6, or in its format"
        hint = "torch.save(torch.load(path, weights_only=True), new_path) with torch 1.6 or newer"
        return fail("SNNC-M001", where, what, hint=hint)
    if data[:1] in (b"\x80", b"c", b"(") or data[:2] in (b"ci", b"cp"):
        try:
            _, problems = read_tree(data, where, {}, frozenset(CLASSES))
        except SnnccError:
            problems = []
        unsafe = [p for p in problems if p.code == "SNNC-S001"]
        if unsafe:
            return fail("SNNC-S001", where, unsafe[0].what, got=unsafe[0].got)
    hint = "torch.save(model, path) of torch 1.6 or newer, or snncc.export"
    return fail("SNNC-M001", where, "is no model file: neither a torch archive nor a graph file", hint=hint)


# ---- whole module -------------------------------------------------------------------------------


def _from_module(file: _File) -> nn.Module:
    tree = file.tree
    if not isinstance(tree, Obj):
        raise no_module(tree, file.where)
    raise_all(module_problems(tree, ATTRIBUTE))
    classes = [_import_class(name, file.where) for name in sorted(_classes_in(tree))]
    module = _torch_load(file, classes)
    if not isinstance(module, nn.Module):
        raise fail("SNNC-M001", file.where, "holds no module", got=type(module).__name__)
    return module


def _classes_in(root: Obj) -> set[str]:
    found, waiting = set(), [root]
    while waiting:
        module = waiting.pop()
        found.add(module.cls)
        waiting.extend(child for child in module.state["_modules"].values() if isinstance(child, Obj))
    return found


def _import_class(name: str, where: str) -> Any:
    module, _, cls = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError:
        package = module.split(".")[0]
        raise fail(
            "SNNC-M015", where, f"needs the package {package}", got=name, hint=f"pip install {package}"
        ) from None
    except AttributeError:
        raise fail("SNNC-M002", where, "holds a class that the installed package lacks", got=name) from None


def _torch_load(file: _File, classes: list[Any]) -> Any:
    try:
        with torch.serialization.safe_globals(classes):
            return torch.load(io.BytesIO(_clean_archive(file.members)), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything here
        line = str(error).splitlines()[0] if str(error) else ""
        raise fail(
            "SNNC-M001", file.where, "cannot be loaded", got=shown(f"{type(error).__name__}: {line}")
        ) from None


# ---- factory ------------------------------------------------------------------------------------


def _filled(factory: str, weights: dict[str, Tensor]) -> nn.Module:
    """What ``factory`` builds, with ``weights``."""
    module = _build_module(factory)
    try:
        module.load_state_dict(unwrapped(weights, module.state_dict()), strict=True)
    except Exception as error:  # user modules may override it
        got = shown(" ".join(str(error).split()), 300)
        raise fail("SNNC-U010", "--model", f"the weights do not fit what {factory} builds", got=got) from None
    return module.eval()


def _build_module(factory: str) -> nn.Module:
    name, _, attribute = factory.partition(":")
    if not name or not attribute:
        raise fail("SNNC-U010", "--model", "must be pkg.mod:factory", got=factory)
    try:
        with _working_directory_importable():
            made = getattr(importlib.import_module(name), attribute)()
    except Exception as error:  # the user's own code
        got = shown(f"{type(error).__name__}: {error}", 200)
        raise fail("SNNC-U010", "--model", f"{factory} cannot be called", got=got) from None
    if not isinstance(made, nn.Module):
        raise fail("SNNC-U010", "--model", f"{factory} returns no torch.nn.Module", got=type(made).__name__)
    return made


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """As in ``python -m``: the user names a module of the folder they stand in."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


# ---- capture ------------------------------------------------------------------------------------


def _captured(module: nn.Module, about: dict[str, Any], options: LoadOptions, where: str) -> Model:
    shape = options.input_shape or about.get("input_shape")
    if shape is None:
        hint = "--input-shape C,H,W, or snncc_torch.describe(module, ...) before saving"
        raise fail("SNNC-M003", where, "does not say what shape one input has", hint=hint)
    multi = any(getattr(m, "step_mode", None) == "m" for m in nn.Module.modules(module))
    steps = options.timesteps or about.get("timesteps")
    if steps is None and multi:
        raise fail("SNNC-M003", where, "does not say how many timesteps it takes", hint="--timesteps T")
    steps = steps or 1
    levels = options.input_levels if options.input_levels is not None else about.get("input_levels", 0)
    timed = steps > 1 or multi
    example = torch.zeros(*((steps, 1) if timed else (1,)), *shape)
    try:
        return capture(module, example, steps, input_levels=levels)
    except SnnccError as error:
        if steps == 1 or error.code not in ("SNNC-M013", "SNNC-M004"):
            raise
        return _captured_static(module, tuple(shape), steps, levels, error)


def _captured_static(
    module: nn.Module, shape: tuple[int, ...], steps: int, levels: int, first: SnnccError
) -> Model:
    """The module may repeat one frame over time itself; if it does not, the first error stands."""
    try:
        return capture(module, torch.zeros(1, *shape), steps, input_levels=levels)
    except SnnccError:
        raise first from None
