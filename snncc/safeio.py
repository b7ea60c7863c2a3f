"""Opening foreign files: sizes bounded before allocation, names contained, closed formats only.

A foreign file is data (docs/design.md#foreign-files). The readers here parse their formats
themselves, check every declared size against the bytes that are there, and never decompress.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import stat
import struct
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snncc.errors import UnsafeFileError, fail
from snncc.publish import place_file

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Bounds for one foreign file.

    Attributes:
        file_bytes: size of the file.
        header_bytes: size of a safetensors header.
        members: tensors or archive members.
        name_length: characters of a name.
    """

    file_bytes: int = 4 * GIB
    header_bytes: int = 64 * 2**20
    members: int = 100_000
    name_length: int = 512


LIMITS = Limits()


def regular_file(path: Path, limits: Limits = LIMITS) -> int:
    """Size of ``path`` in bytes.

    Raises:
        UsageError: SNNC-U001 if it is missing or no regular file.
        UnsafeFileError: SNNC-S002 if it is larger than the limit.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        raise fail("SNNC-U001", shown(str(path)), "no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise fail("SNNC-U001", shown(str(path)), "is no regular file", hint="the path of a file")
    if status.st_size > limits.file_bytes:
        raise fail(
            "SNNC-S002",
            shown(str(path)),
            "is too large",
            got=f"{status.st_size} bytes",
            limit=f"{limits.file_bytes} bytes",
        )
    return status.st_size


def read_bytes(path: Path, limits: Limits = LIMITS) -> bytes:
    """Content of a regular file, read once, so that what was checked is what is used.

    Raises:
        UsageError: SNNC-U001 if it is missing or cannot be read.
        UnsafeFileError: SNNC-S002 if it is larger than the limit.
    """
    regular_file(path, limits)
    try:
        with path.open("rb") as file:
            data = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise fail("SNNC-U001", shown(str(path)), "cannot be read", got=error.strerror) from None
    if len(data) > limits.file_bytes:
        raise fail("SNNC-S002", shown(str(path)), "is too large", limit=f"{limits.file_bytes} bytes")
    return data


def shown(name: str, length: int = 120) -> str:
    """A foreign name for a message: control characters escaped, cut to ``length``."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name[: length + 1])
    return text[:length] + "…" if len(text) > length else text


def contained(name: str, where: str, limits: Limits = LIMITS) -> None:
    """Refuse a name inside a file that could leave the folder it belongs to.

    Raises:
        UnsafeFileError: SNNC-S003.
    """
    parts = PurePosixPath(name).parts
    drive = len(name) > 1 and name[1] == ":"
    bad = not name or name.startswith("/") or "\\" in name or drive or ".." in parts
    if bad or len(name) > limits.name_length or not name.isprintable():
        raise fail("SNNC-S003", where, "holds a name that leaves the folder", got=repr(shown(name)))


# ---- zip archives -----------------------------------------------------------------------------


def read_zip(path: Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Members of an uncompressed zip archive, by name.

    Raises:
        ModelError: SNNC-M001 if it is no intact zip archive.
        UnsafeFileError: SNNC-S002 for a compressed, repeated or oversized member, SNNC-S003 for a
            name that leaves the folder or a link.
    """
    size = regular_file(path, limits)
    where = shown(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_members(infos, where, size, limits)
            return {info.filename: archive.read(info) for info in infos if not info.is_dir()}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        what = "is a damaged zip archive"
        raise fail("SNNC-M001", where, what, got=shown(str(error)) or type(error).__name__) from None


def _check_members(infos: list[zipfile.ZipInfo], where: str, size: int, limits: Limits) -> None:
    if len(infos) > limits.members:
        raise fail("SNNC-S002", where, "has too many members", got=len(infos), limit=limits.members)
    names: set[str] = set()
    for info in infos:
        contained(info.filename, where, limits)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise fail("SNNC-S003", where, "holds a link", got=repr(shown(info.filename)))
        if info.filename in names:
            raise fail("SNNC-S002", where, "holds two members of one name", got=repr(shown(info.filename)))
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            what = f"member {shown(info.filename)!r} is compressed"
            raise fail("SNNC-S002", where, what, got=f"{info.compress_size} to {info.file_size} bytes")
        names.add(info.filename)
    total = sum(info.file_size for info in infos)
    if total > size:
        what = "declares more bytes than it has"
        raise fail("SNNC-S002", where, what, got=f"{total} bytes", limit=f"{size} bytes")


# ---- npz ----------------------------------------------------------------------------------------


# What zipfile, its decompressors and numpy's header parser raise on damaged files.
_NPZ_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError, SyntaxError, EOFError, OSError,
    ValueError, TypeError, LookupError, NotImplementedError, RuntimeError,
)  # fmt: skip


def load_npz(path: Path, names: tuple[str, ...], limits: Limits = LIMITS) -> dict[str, NDArray[Any]]:
    """Those arrays of an ``.npz`` file, compressed or not, that bear one of ``names``.

    Raises:
        UsageError: SNNC-U001 if there is no such file.
        DataError: SNNC-D001 if it is no intact ``.npz`` file or an array is pickled, SNNC-D008 if
            it would take more memory than the limits allow.
    """
    try:
        regular_file(path, limits)
    except UnsafeFileError as error:
        found = error.problems[0]
        raise fail("SNNC-D008", found.where, found.what, got=found.got, limit=found.limit) from None
    where = shown(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {
                i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")
            }
            wanted = {name: infos[name] for name in names if name in infos}
            total = sum(i.file_size for i in wanted.values())
            if total > limits.file_bytes:
                raise fail(
                    "SNNC-D008",
                    where,
                    "is too large",
                    got=f"{total} bytes",
                    limit=f"{limits.file_bytes} bytes",
                )
            return {name: _npy(archive, info, f"{where}: {name}") for name, info in wanted.items()}
    except _NPZ_DAMAGE as error:
        what = "is no intact .npz file"
        raise fail("SNNC-D001", where, what, got=shown(str(error)) or type(error).__name__) from None


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    """One array; its declared size must be that of the member before anything is allocated."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"unknown .npy version {version}")
        with warnings.catch_warnings():
            # numpy warns of headers written by Python 2, which it reads all the same.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = readers[version](file)
        if dtype.hasobject or dtype.kind not in "biufc":
            raise fail("SNNC-D003", where, "must hold numbers", got=dtype, limit="integers or floats")
        needed, left = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if needed != left:
            raise fail(
                "SNNC-D001",
                where,
                "declares another size than it has",
                got=f"{needed} bytes",
                limit=f"{left} bytes",
            )
        flat = np.frombuffer(file.read(needed), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


# ---- safetensors ------------------------------------------------------------------------------

_DTYPES = {
    "F32": "<f4", "F64": "<f8", "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}


def read_tensors(path: Path, limits: Limits = LIMITS) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and read-only arrays of a safetensors file.

    Raises:
        ModelError: SNNC-M001 if it is no intact safetensors file.
        UnsafeFileError: SNNC-S002 if it declares more than it has.
    """
    return parse_tensors(read_bytes(path, limits), str(path), limits)


def parse_tensors(
    data: bytes, name: str, limits: Limits = LIMITS
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and read-only arrays of the bytes of a safetensors file; see :func:`read_tensors`."""
    where = shown(name)
    header, start = _tensor_header(data, where, limits)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise fail("SNNC-M001", where, "has metadata that are no text", got=type(metadata).__name__)
    body = memoryview(data)[start:]
    arrays = {key: _tensor(key, entry, body, where) for key, entry in header.items()}
    _check_layout(header, len(body), where)
    return metadata, arrays


def _tensor_header(data: bytes, where: str, limits: Limits) -> tuple[dict[str, Any], int]:
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else -1
    if not 2 <= length <= len(data) - 8:
        raise fail("SNNC-M001", where, "is no safetensors file, or a truncated one", got=f"{len(data)} bytes")
    if length > limits.header_bytes:
        raise fail(
            "SNNC-S002", where, "has a header that is too large", got=length, limit=limits.header_bytes
        )
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise fail("SNNC-M001", where, "has a header that is no JSON", got=shown(str(error))) from None
    if not isinstance(header, dict) or len(header) > limits.members:
        raise fail("SNNC-M001", where, "has no list of tensors, or too long a one", limit=limits.members)
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _tensor(name: str, entry: Any, body: memoryview, where: str) -> NDArray[Any]:
    tensor = f"tensor {shown(name)!r}"
    ok = isinstance(entry, dict) and set(entry) == {"dtype", "shape", "data_offsets"}
    if (
        not ok
        or not _counts(entry["shape"])
        or not _counts(entry["data_offsets"])
        or len(entry["data_offsets"]) != 2
    ):
        raise fail("SNNC-M001", where, f"{tensor} is ill-described", hint="dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise fail("SNNC-M001", where, f"{tensor} has an unknown dtype", got=shown(str(entry["dtype"])))
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    needed = math.prod(entry["shape"]) * dtype.itemsize
    if not begin <= end <= len(body) or end - begin != needed or len(entry["shape"]) > 32:
        what = f"{tensor} does not fit the file"
        raise fail(
            "SNNC-S002", where, what, got=f"{needed} bytes declared at {begin}..{end}", limit=len(body)
        )
    return np.frombuffer(body[begin:end], dtype).reshape(entry["shape"])


def _check_layout(header: Mapping[str, Any], size: int, where: str) -> None:
    """Tensors must fill the body without holes or overlaps, as the format demands."""
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    at = 0
    for begin, end in spans:
        if begin != at:
            raise fail(
                "SNNC-S002", where, "has tensors that overlap or leave holes", got=f"byte {begin}", limit=at
            )
        at = end
    if at != size:
        raise fail("SNNC-S002", where, "has bytes that belong to no tensor", got=f"{size} bytes", limit=at)


def tensor_bytes(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; equal content gives equal bytes.

    Raises:
        TypeError: for a dtype that the format lacks.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    parts: list[bytes] = []
    at = 0
    for name, array in sorted(arrays.items()):
        dtype = _NAMES.get(array.dtype.newbyteorder("="))
        if dtype is None:
            raise TypeError(f"tensor {name!r} has dtype {array.dtype}, which safetensors lacks")
        part = np.ascontiguousarray(array, np.dtype(_DTYPES[dtype])).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


# ---- writing ----------------------------------------------------------------------------------


def write_whole(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        UsageError: SNNC-U002 if ``path`` exists and ``force`` is not set, or is no regular file;
            SNNC-U003 if its folder cannot be written.
    """
    where = shown(str(path))
    if os.path.lexists(path) and (not force or path.is_symlink() or not path.is_file()):
        raise fail("SNNC-U002", where, "exists already", hint="another path, or force" if not force else None)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; an output is as readable as any other file of the user's.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        if force:
            os.replace(temporary, path)
        else:
            place_file(Path(temporary), path)
    except FileExistsError:
        raise fail("SNNC-U002", where, "exists already", hint="another path, or force") from None
    except (OSError, ValueError) as error:
        raise fail(
            "SNNC-U003", where, "cannot be written", got=getattr(error, "strerror", None) or error
        ) from None
    finally:
        if temporary is not None and os.path.lexists(temporary):
            os.unlink(temporary)
