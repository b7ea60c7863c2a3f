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
from torch import nn

from snncc.errors import SnnccError, fail, raise_all
from snncc.model import Model
from snncc.plugins import LoadOptions
from snncc.safeio import read_zip, regular_file, shown
from snncc_torch.capturing import capture
from snncc_torch.description import ATTRIBUTE
from snncc_torch.exporting import with_calibration
from snncc_torch.pickletree import MAX_PICKLE, Obj, TensorRef, read_tree
from snncc_torch.schema import CLASSES, is_state_dict, module_problems

EXPORT_HINT = "snncc.export(module, example_input, 'model.snnc') in the training script"
WEIGHTS_HINT = f"--model pkg.mod:factory --weights FILE, or {EXPORT_HINT}"
# Where training scripts keep the weights inside a checkpoint.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")


@dataclass(frozen=True)
class _File:
    """A checked archive: its tree, and the clean bytes that torch may load."""

    where: str
    tree: Any
    clean: bytes


def load_model(path: Path, options: LoadOptions) -> Model:
    """Model of a ``.pt`` file.

    Raises:
        UsageError: SNNC-U001 for a missing file, SNNC-U010 for a factory that cannot be used.
        ModelError: SNNC-M001 to M009 and M013, with every problem found.
        UnsafeFileError: SNNC-S001 to S003; nothing of the file was executed.
    """
    file = _checked(path)
    if options.factory is not None:
        module, about = _from_factory(file, options.factory), {}
    else:
        module = _from_module(file)
        about = vars(module).get(ATTRIBUTE, {})
    model = _captured(module, about, options, file.where)
    return replace(_with_described_inputs(model, about), origin=file.where)


def _with_described_inputs(model: Model, about: dict[str, Any]) -> Model:
    """``model`` with the calibration inputs of the file, if options have not changed what fits it."""
    graph = model.graph
    now = (graph.input.shape, graph.steps, graph.input.levels)
    if about and now != (tuple(about["input_shape"]), about["timesteps"], about["input_levels"]):
        note = "options change the input: the calibration inputs in the file do not fit and are not used"
        return replace(model, notes=(*model.notes, note)) if "calibration" in about else model
    return with_calibration(model, about.get("calibration"), about.get("labels"))


# ---- reading ------------------------------------------------------------------------------------


def _checked(path: Path) -> _File:
    where = shown(str(path))
    size = regular_file(path)
    if size == 0:
        raise fail("SNNC-M001", where, "is empty")
    if not zipfile.is_zipfile(path):
        raise _not_an_archive(path, where)
    members = read_zip(path)
    _refuse_other_formats(members, where)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise fail(
            "SNNC-M001", where, "is no file of torch.save", got=f"{len(pickles)} pickles", hint=EXPORT_HINT
        )
    top = pickles[0].removesuffix("data.pkl")
    if members.get(f"{top}byteorder", b"little") != b"little":
        raise fail("SNNC-M001", where, "was saved on a big-endian machine")
    prefix = f"{top}data/"
    storages = {
        name.removeprefix(prefix): len(data) for name, data in members.items() if name.startswith(prefix)
    }
    tree, problems = read_tree(members[pickles[0]], where, storages, frozenset(CLASSES))
    raise_all(problems)
    return _File(where, tree, _clean_archive(members))


def _clean_archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _refuse_other_formats(members: dict[str, bytes], where: str) -> None:
    tails = {name.partition("/")[2] for name in members}
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        raise fail("SNNC-M001", where, "is a TorchScript archive, which holds code", hint=EXPORT_HINT)
    if any(tail.startswith("models/") or tail == "archive_format" for tail in tails | set(members)):
        raise fail(
            "SNNC-M001",
            where,
            "is a torch.export archive, in which neurons are no longer whole",
            hint=EXPORT_HINT,
        )


def _not_an_archive(path: Path, where: str) -> SnnccError:
    """The error for a file that is no zip: say so if it is a pickle that would run code."""
    with path.open("rb") as opened:
        data = opened.read(MAX_PICKLE)
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
        raise _no_module(file)
    raise_all(module_problems(tree, ATTRIBUTE))
    classes = [_import_class(name, file.where) for name in sorted(_classes_in(tree))]
    module = _torch_load(file, classes)
    if not isinstance(module, nn.Module):
        raise fail("SNNC-M001", file.where, "holds no module", got=type(module).__name__)
    return module


def _no_module(file: _File) -> SnnccError:
    tree = file.tree
    if is_state_dict(tree):
        what = "holds weights without the network that they belong to"
        return fail(
            "SNNC-M003", file.where, what, got=f"a state dict of {len(tree)} tensors", hint=WEIGHTS_HINT
        )
    if isinstance(tree, dict) and any(is_state_dict(v) for v in tree.values()):
        what = "is a training checkpoint without the network that its weights belong to"
        return fail("SNNC-M003", file.where, what, got=f"a dict of {len(tree)} entries", hint=WEIGHTS_HINT)
    kind = "a tensor" if isinstance(tree, TensorRef) else f"a {type(tree).__name__}"
    return fail("SNNC-M001", file.where, "holds no model", got=kind, hint=EXPORT_HINT)


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
            return torch.load(io.BytesIO(file.clean), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything here
        line = str(error).splitlines()[0] if str(error) else ""
        raise fail(
            "SNNC-M001", file.where, "cannot be loaded", got=shown(f"{type(error).__name__}: {line}")
        ) from None


# ---- factory ------------------------------------------------------------------------------------


def _from_factory(file: _File, factory: str) -> nn.Module:
    if isinstance(file.tree, Obj):
        hint = f"{file.where} without --model"
        raise fail("SNNC-U010", "--model", "the file holds a whole module, not weights", hint=hint)
    module = _build_module(factory)
    weights = _torch_load(file, [])
    if not is_state_dict(file.tree):
        keys = [k for k in _STATE_KEYS if isinstance(file.tree, dict) and is_state_dict(file.tree.get(k))]
        if not keys:
            raise fail(
                "SNNC-M001",
                file.where,
                "holds no weights",
                limit=f"a state dict, or one under {', '.join(_STATE_KEYS)}",
            )
        weights = weights[keys[0]]
    try:
        module.load_state_dict(weights, strict=True)
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
