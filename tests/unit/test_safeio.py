"""Opening foreign files: every size and name is checked before it is used."""

import json
import os
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load as reference_load
from safetensors.numpy import save as reference_save

from snncc.errors import SnnccError
from snncc.safeio import (
    Limits,
    contained,
    load_npz,
    read_bytes,
    read_tensors,
    read_zip,
    shown,
    tensor_bytes,
    write_whole,
)

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([-1, 300], dtype=np.int16),
    "c": np.zeros((0, 4), dtype=np.int8),
    "scalar": np.array(7, dtype=np.int64),
    "transposed": np.arange(6, dtype=np.int32).reshape(2, 3).T,
}


def code_of(call, *args):
    with pytest.raises(SnnccError) as caught:
        call(*args)
    return caught.value.code


def tensors(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def written(tmp_path, data, name="t.safetensors"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


# ---- safetensors --------------------------------------------------------------------------------


def test_the_reference_library_reads_what_we_write():
    found = reference_load(tensor_bytes(ARRAYS, {"k": "v"}))
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_we_read_what_the_reference_library_writes(tmp_path):
    arrays = {k: np.ascontiguousarray(v) for k, v in ARRAYS.items()}
    metadata, found = read_tensors(written(tmp_path, reference_save(arrays, {"k": "v"})))
    assert metadata == {"k": "v"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def test_equal_content_gives_equal_bytes():
    backwards = dict(reversed(ARRAYS.items()))
    assert tensor_bytes(ARRAYS, {"x": "1", "y": "2"}) == tensor_bytes(backwards, {"y": "2", "x": "1"})


def test_a_dtype_that_the_format_lacks():
    with pytest.raises(TypeError, match=r"^tensor 'z' has dtype complex128, which safetensors lacks$"):
        tensor_bytes({"z": np.zeros(2, complex)}, {})


def entry(shape, offsets, dtype="F32"):
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "SNNC-M001"),
        (b"\0" * 7, "SNNC-M001"),
        (tensors({}, length=2**62), "SNNC-M001"),
        (tensors(b"{"), "SNNC-M001"),
        (tensors(b"[" * 50_000), "SNNC-M001"),
        (tensors(b"[]"), "SNNC-M001"),
        (tensors(b'{"a": 1, "a": 2}'), "SNNC-M001"),
        (tensors(b"\xff\xfe{}"), "SNNC-M001"),
        (tensors({"__metadata__": {"k": 5}}), "SNNC-M001"),
        (tensors({"t": 5}), "SNNC-M001"),
        (tensors(entry([2], [0, 8], "F8")), "SNNC-M001"),
        (tensors(entry([-2], [0, 8])), "SNNC-M001"),
        (tensors(entry([True], [0, 8])), "SNNC-M001"),
        (tensors(entry([2], [0])), "SNNC-M001"),
        (tensors(entry([2], [0, 8]), b"\0" * 7), "SNNC-S002"),
        (tensors(entry([10**12, 10**12], [0, 8]), b"\0" * 8), "SNNC-S002"),
        (tensors(entry([2], [8, 0]), b"\0" * 8), "SNNC-S002"),
        (tensors(entry([2], [4, 12]), b"\0" * 12), "SNNC-S002"),
        (tensors(entry([2], [0, 8]), b"\0" * 9), "SNNC-S002"),
        (tensors({**entry([1], [0, 4]), "u": entry([1], [0, 4])["t"]}, b"\0" * 4), "SNNC-S002"),
        (tensors(entry([1] * 40, [0, 4]), b"\0" * 4), "SNNC-S002"),
    ],
)
def test_damaged_and_forged_tensor_files(tmp_path, data, code):
    assert code_of(read_tensors, written(tmp_path, data)) == code


def test_limits_on_tensor_files(tmp_path):
    path = written(tmp_path, tensor_bytes(ARRAYS, {}))
    assert code_of(read_tensors, path, Limits(file_bytes=10)) == "SNNC-S002"
    assert code_of(read_tensors, path, Limits(header_bytes=10)) == "SNNC-S002"
    assert code_of(read_tensors, path, Limits(members=2)) == "SNNC-M001"


def test_random_damage_ends_in_a_typed_error(tmp_path):
    good = tensor_bytes(ARRAYS, {"k": "v"})
    rng = np.random.default_rng(3)
    codes = set()
    for _ in range(300):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            read_tensors(written(tmp_path, bytes(data)))
        except SnnccError as error:
            codes.add(error.code)
    assert {"SNNC-M001"} <= codes <= {"SNNC-M001", "SNNC-S002"}


# ---- files and names ----------------------------------------------------------------------------


def test_only_regular_files_are_opened(tmp_path):
    assert code_of(read_bytes, tmp_path / "none") == "SNNC-U001"
    assert code_of(read_bytes, tmp_path) == "SNNC-U001"
    os.mkfifo(tmp_path / "pipe")
    assert code_of(read_bytes, tmp_path / "pipe") == "SNNC-U001"


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a\\b", "C:a", "a\x00b", "a\nb", "x" * 600])
def test_names_that_leave_the_folder(name):
    assert code_of(contained, name, "file") == "SNNC-S003"


@pytest.mark.parametrize("name", ["a", "a/b.c", "archive/.data/serialization_id", "ä/θ"])
def test_harmless_names(name):
    contained(name, "file")


def test_control_characters_are_shown_escaped():
    assert shown("a\x1b]0;x\x07b") == "a\\x1b]0;x\\x07b"
    assert shown("x" * 300, 10) == "x" * 10 + "…"


def test_zip_archives(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", b"12")
        archive.writestr("a/", b"")
    assert read_zip(path) == {"a/b": b"12"}
    assert code_of(read_zip, path, Limits(members=1)) == "SNNC-S002"
    data = bytearray(path.read_bytes())
    data[data.index(b"12")] ^= 1
    assert code_of(read_zip, written(tmp_path, bytes(data))) == "SNNC-M001"
    assert code_of(read_zip, written(tmp_path, b"PK")) == "SNNC-M001"


def test_a_zip_member_that_lies_about_its_size(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1234")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    assert code_of(read_zip, written(tmp_path, bytes(data))) == "SNNC-S002"


# ---- npz ----------------------------------------------------------------------------------------


def test_npz_with_and_without_compression(tmp_path):
    x, y = np.arange(24.0).reshape(2, 3, 4).T, np.array([1, 2])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "d.npz", x=x, y=y, other=np.array([object()], dtype=object))
        found = load_npz(tmp_path / "d.npz", ("x", "y", "z"))
        assert set(found) == {"x", "y"}
        np.testing.assert_array_equal(found["x"], x)


def test_npz_refusals(tmp_path):
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    assert code_of(load_npz, tmp_path / "o.npz", ("x",)) == "SNNC-D003"
    np.savez(tmp_path / "s.npz", x=np.array(["a"]))
    assert code_of(load_npz, tmp_path / "s.npz", ("x",)) == "SNNC-D003"
    assert code_of(load_npz, tmp_path / "none.npz", ("x",)) == "SNNC-U001"
    assert code_of(load_npz, written(tmp_path, b"no zip", "t.npz"), ("x",)) == "SNNC-D001"
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10**6))
    assert code_of(load_npz, tmp_path / "bomb.npz", ("x",), Limits(file_bytes=10**5)) == "SNNC-D008"


def test_an_array_that_declares_more_than_it_has(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(4))
    raw = (tmp_path / "x.npy").read_bytes()
    damages = [
        (b"'shape': (4,)", b"'shape': (9,)"),
        (b"'shape': (4,)", b"'shape': 4000"),
        (b"'shape': (4,)", b"'shape': (4(("),
        (b"'shape': (4,)", b"'shape': (-4)"),
        (b"'<f8'", b"'<x8'"),
        (b"\x93NUMPY", b"\x93NUMPX"),
        (b"'descr'", b"'dscr' "),
    ]
    for old, new in damages:
        assert old in raw
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", raw.replace(old, new))
        assert code_of(load_npz, tmp_path / "d.npz", ("x",)) == "SNNC-D001"


# ---- writing ------------------------------------------------------------------------------------


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out"
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    assert code_of(write_whole, path, b"two") == "SNNC-U002"
    write_whole(path, b"two", force=True)
    assert path.read_bytes() == b"two"
    assert code_of(write_whole, tmp_path / "no" / "out", b"x") == "SNNC-U003"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnnccError, match=r"SNNC-U002"):
        write_whole(tmp_path / "link", b"x", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "out"]
