"""Own reader of ``torch.export`` archives (``.pt2``); torch's is never called.

``torch.export.load`` runs code twice over: it falls back to a full unpickling of the sample inputs,
and it executes the strings of ``guards_code``. Here an archive is a zip of JSON and raw bytes: the
pickled sample inputs, the guards and every symbolic expression are left unread, and a tensor that
lies there as a pickle is refused. What the graph may call stands in :mod:`snncc_torch.files.pt2graph`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snncc.errors import Problem, SnnccError, fail, problem, raise_all
from snncc.safeio import shown
from snncc_torch.files.checkpoint import tensor_over
from snncc_torch.files.pickletree import beyond_storage

# The schema of torch 2.13; torch promises that a minor version only adds.
SCHEMA_MAJOR = 8
MAX_JSON = 128 * 2**20
MAX_RANK = 16

# torch's numbers of element types, as far as a network has them.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_STRIDED = 7
# What torch up to 2.7 wrote, where weights and constants were pickles.
_OLD = "serialized_exported_program.json"


class Damaged(Exception):  # noqa: N818 - caught in this package, which makes the error of it
    """The description lacks something, or has it of another type; the message says what."""


@dataclass(frozen=True)
class Archive:
    """What is in a ``.pt2`` file.

    Attributes:
        where: file, for messages.
        graph: of operations, as JSON.
        signature: of its inputs and outputs, as JSON.
        state: parameters and buffers by full name: the state dict.
        constants: other tensors by name.
    """

    where: str
    graph: dict[str, Any]
    signature: dict[str, Any]
    state: dict[str, Tensor]
    constants: dict[str, Tensor]


def is_pt2(members: dict[str, bytes]) -> bool:
    """Whether the members of an archive are those of ``torch.export.save``, of any version."""
    tails = {name.partition("/")[2] for name in members}
    return _OLD in members or "archive_format" in tails or any(t.startswith("models/") for t in tails)


def read_pt2(members: dict[str, bytes], where: str) -> Archive:
    """The graph and the tensors of an archive, each checked against the bytes that are there.

    Args:
        members: of the zip archive, by name.
        where: file, for messages.

    Raises:
        ModelError: SNNC-M001 if it is damaged or of another version.
        UnsafeFileError: SNNC-S001 for a pickled tensor, SNNC-S002 for one that declares more than
            it has, SNNC-S003 for one that lies elsewhere.
    """
    top = _top(members, where)
    try:
        program = _json(members[f"{top}models/model.json"])
        version = field(field(program, "schema_version", dict), "major", int)
        if version != SCHEMA_MAJOR:
            what = "was written by a torch with another format"
            raise fail("SNNC-M001", where, what, got=f"schema {version}", limit=f"schema {SCHEMA_MAJOR}")
        module = field(program, "graph_module", dict)
        problems: list[Problem] = []
        state = _tensors(members, f"{top}data/weights/", "model_weights_config.json", where, problems)
        constants = _tensors(members, f"{top}data/constants/", "model_constants_config.json", where, problems)
        raise_all(problems)
        return Archive(
            where, field(module, "graph", dict), field(module, "signature", dict), state, constants
        )
    except Damaged as error:
        raise damaged(where, error) from None


def damaged(where: str, error: Damaged) -> SnnccError:
    """The error for a description that is not as torch writes it."""
    return fail("SNNC-M001", where, "is a damaged torch.export archive", got=shown(str(error)))


def field(node: Any, key: str, kind: type) -> Any:
    """``node[key]``, which must be of exactly this type.

    Raises:
        Damaged: if it is not.
    """
    value = node.get(key) if isinstance(node, dict) else None
    if type(value) is not kind:
        raise Damaged(f"{key} is no {kind.__name__}")
    return value


def records(node: Any, key: str) -> list[dict[str, Any]]:
    """``node[key]``, which must be a list of objects.

    Raises:
        Damaged: if it is not.
    """
    found: list[Any] = field(node, key, list)
    if not all(type(item) is dict for item in found):
        raise Damaged(f"{key} is no list of objects")
    return found


def whole_number(node: Any) -> int:
    """A size: ``{"as_int": n}``. A symbolic one is an expression that torch would evaluate.

    Raises:
        Damaged: if it is anything else.
    """
    if isinstance(node, dict) and list(node) == ["as_int"] and type(node["as_int"]) is int:
        return int(node["as_int"])
    raise Damaged("a size is no whole number (dynamic shapes are not read)")


def _top(members: dict[str, bytes], where: str) -> str:
    """The one folder that everything lies in."""
    if _OLD in members:
        hint = "torch.export.save with torch 2.8 or newer"
        raise fail("SNNC-M001", where, "is a torch.export archive of the old, pickled form", hint=hint)
    tops = {name.partition("/")[0] for name in members}
    models = [name for name in members if name.partition("/")[2].startswith("models/")]
    if len(tops) != 1 or models != [f"{min(tops)}/models/model.json"]:
        got = f"{len(models)} models" if len(tops) == 1 else f"{len(tops)} folders"
        raise fail("SNNC-M001", where, "is no archive of torch.export.save", got=got, limit="one of each")
    top = f"{min(tops)}/"
    if members.get(f"{top}archive_format", b"") != b"pt2":
        raise fail("SNNC-M001", where, "is a damaged torch.export archive", got="no archive_format")
    if members.get(f"{top}byteorder", b"little") != b"little":
        raise fail("SNNC-M001", where, "was saved on a big-endian machine")
    return top


def _json(data: bytes) -> Any:
    if len(data) > MAX_JSON:
        raise Damaged(f"{len(data)} bytes of JSON, more than {MAX_JSON}")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


# ---- tensors ------------------------------------------------------------------------------------


def _tensors(
    members: dict[str, bytes], folder: str, config: str, where: str, problems: list[Problem]
) -> dict[str, Tensor]:
    """Tensors by name as a config lists them; what is wrong with one goes to ``problems``."""
    if f"{folder}{config}" not in members:
        raise Damaged(f"{config} is missing")
    listed = field(_json(members[f"{folder}{config}"]), "config", dict)
    storages: dict[tuple[str, torch.dtype], Tensor] = {}
    found = {}
    for name, entry in listed.items():
        tensor = _tensor(members, folder, f"tensor {shown(name)!r}", entry, where, storages)
        if isinstance(tensor, Problem):
            problems.append(tensor)
        else:
            found[name] = tensor
    return found


def _tensor(
    members: dict[str, bytes], folder: str, name: str, entry: Any, where: str,
    storages: dict[tuple[str, torch.dtype], Tensor],
) -> Tensor | Problem:  # fmt: skip
    path = field(entry, "path_name", str)
    if field(entry, "use_pickle", bool):
        return problem("SNNC-S001", where, f"{name} is a pickle, which could run code while it loads")
    if not re.fullmatch(r"(weight|tensor)_\d{1,9}", path):
        return problem("SNNC-S003", where, f"{name} lies outside its folder", got=repr(shown(path)))
    if folder + path not in members:
        return problem("SNNC-M001", where, f"{name} is missing", got=repr(path))
    meta = field(entry, "tensor_meta", dict)
    number, data = field(meta, "dtype", int), members[folder + path]
    if number not in DTYPES or field(meta, "layout", int) != _STRIDED:
        return problem("SNNC-M001", where, f"{name} has an element type or a layout that is not read")
    dtype = DTYPES[number]
    size, stride = (tuple(map(whole_number, field(meta, key, list))) for key in ("sizes", "strides"))
    offset = whole_number(meta.get("storage_offset"))
    if len(size) != len(stride) or len(size) > MAX_RANK or min(0, offset, *size, *stride) < 0:
        return problem("SNNC-M001", where, f"{name} has sizes and strides that do not fit each other")
    wrong = beyond_storage(size, stride, offset, len(data) // dtype.itemsize)
    if wrong or len(data) % dtype.itemsize:
        what, got = f"{name} does not fit its bytes", f"shape {list(size)}"
        return problem("SNNC-S002", where, what, got=got, limit=f"{len(data)} bytes")
    return tensor_over(storages, path, data, dtype, size, stride, offset)
