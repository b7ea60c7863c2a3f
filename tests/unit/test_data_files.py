"""Data files: every way in which ``--data`` can be wrong, whole messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snncc.data import load_dataset
from snncc.errors import SnnccError
from snncc.ir import Family, Graph, Input, Neuron, Output


def graph(levels: int = 4, steps: int = 1) -> Graph:
    nodes = (
        Input(name="x", shape=(2, 3, 4), levels=levels),
        Neuron(name="n", inputs=("x",)),
        Output(name="o", inputs=("n",)),
    )
    return Graph("g", Family.FLOAT, nodes, steps)


GOOD = np.ones((5, 2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "levels", "messages"),
    [
        ({"y": np.arange(5)}, 4, ["[SNNC-D002] F: has no array `x`. Try np.savez(path, x=inputs, y=classes)."]),
        ({"x": GOOD[:, :, :2]}, 4, ["[SNNC-D004] F: x: has the wrong shape, got [5, 2, 2, 4], limit [N, 2, 3, 4] or [N, 1, 2, 3, 4], N ≥ 1."]),
        ({"x": GOOD[:0]}, 4, ["[SNNC-D004] F: x: has the wrong shape, got [0, 2, 3, 4], limit [N, 2, 3, 4] or [N, 1, 2, 3, 4], N ≥ 1."]),
        ({"x": GOOD > 0}, 4, ["[SNNC-D003] F: x: must hold numbers, got bool, limit integers or floats."]),
        ({"x": GOOD * 5}, 4, ["[SNNC-D006] F: x: the input is spike counts, got 5 and 119 more, limit whole numbers 0..4."]),
        ({"x": GOOD * 0.5}, 4, ["[SNNC-D006] F: x: the input is spike counts, got 0.5 and 119 more, limit whole numbers 0..4."]),
        ({"x": GOOD * np.float32("nan")}, 0, ["[SNNC-D005] F: x: holds NaN or infinity, got 120 values."]),
        ({"x": GOOD[:, :1], "y": np.arange(4.0)}, 4, ["[SNNC-D004] F: x: has the wrong shape, got [5, 1, 3, 4], limit [N, 2, 3, 4] or [N, 1, 2, 3, 4], N ≥ 1.", "[SNNC-D003] F: y: must hold class numbers, got float64, limit integers."]),
        ({"x": GOOD, "y": np.arange(4)}, 4, ["[SNNC-D004] F: y: has the wrong shape, got [4], limit [5]."]),
    ],
)  # fmt: skip
def test_wrong_data_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], levels: int, messages: list[str]
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(SnnccError) as error:
        load_dataset(path, graph(levels))
    assert [f"[{p.code}] {p}".replace(str(path), "F") for p in error.value.problems] == messages
    assert error.value.exit_code == 1


def test_a_frame_is_shown_at_every_timestep(tmp_path: Path) -> None:
    x = np.arange(24).reshape(1, 2, 3, 4) % 5
    np.savez(tmp_path / "d.npz", x=x)
    data = load_dataset(tmp_path / "d.npz", graph(steps=3))
    assert data.x.shape == (1, 3, 2, 3, 4)
    assert (data.x == x[:, None]).all()
    moving = np.repeat(x[:, None], 3, axis=1)
    moving[:, 1] = 0
    np.savez(tmp_path / "m.npz", x=moving, y=[1])
    assert (load_dataset(tmp_path / "m.npz", graph(steps=3)).x == moving).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"hello", b"\x93NUMPY"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(SnnccError) as error:
        load_dataset(path, graph())
    assert error.value.code == "SNNC-D001"


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SnnccError) as error:
        load_dataset(path, graph())
    assert error.value.code in ("SNNC-D001", "SNNC-D003")
