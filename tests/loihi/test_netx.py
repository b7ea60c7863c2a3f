"""``network.net`` has the layout that lava-dl's netx reads."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from loihi.test_emit import CHIP, LIF, lif_pair
from simulator.simnets import Net, Way
from snncc_loihi.emit import chip_files


def chain(**fields: Any) -> Net:
    """Convolution -> grouped convolution with strides -> dense -> dense, all of Lava's LIF."""
    net = Net((2, 7, 6), levels=1, steps=6, period=1, seed=4)
    lif = LIF | fields
    net.layer("a", 4, Way(kernel=(3, 2), padding=(1, 0)), threshold=64 * 9, phase=1, **lif)
    net.layer("b", 6, Way("a", stride=(2, 1), dilation=(1, 2), groups=2), threshold=64 * 7, phase=2, **lif)
    net.layer("c", 5, Way("b", kernel=None), threshold=64 * 8, phase=3, **lif)
    net.layer("d", 3, Way("c", kernel=None), threshold=64 * 6, phase=4, **lif)
    return net


def test_layout() -> None:
    h5py = pytest.importorskip("h5py")
    net = chain(gain=128, decay=4000, decay_bits=12)
    files = chip_files(net.mapped(), net.tensors, CHIP)
    assert json.loads(files["network.json"])["netx"] == {"written": True, "why": None}
    with h5py.File(io.BytesIO(files["network.net"])) as file:
        assert list(file) == ["layer"]
        assert sorted(file["layer"], key=int) == ["0", "1", "2", "3", "4", "5"]
        layers = [file["layer"][str(i)] for i in range(6)]
        types = [b"input", b"conv", b"conv", b"flatten", b"dense", b"dense"]
        assert [layer["type"][0] for layer in layers] == types
        assert layers[0]["type"].dtype.kind == "S"
        shapes = [[2, 7, 6], [4, 7, 5], [6, 3, 1], [18], [5], [3]]
        assert [layer["shape"][()].tolist() for layer in layers] == shapes
        conv = layers[2]
        assert [conv[n][()].tolist() for n in ("stride", "padding", "dilation", "groups")] == [
            [2, 1],
            [0, 0],
            [1, 2],
            2,
        ]
        neuron = {name: conv["neuron"][name][()] for name in conv["neuron"]}
        assert neuron.pop("type").tolist() == [b"CUBA"]
        assert neuron == {"iDecay": 4096, "vDecay": 96, "vThMant": 7}
        for layer, piece in zip([layers[1], layers[2], *layers[4:]], net.pieces, strict=True):
            weight = net.tensors[piece.connections[0].weight].astype(int)
            dense = layer["type"][0] == b"dense"
            expected = 2 * (weight.reshape(len(weight), -1) if dense else weight)
            np.testing.assert_array_equal(layer["weight"][()], expected)
            assert layer["bias"][()].tolist() == [0] * piece.shape[0]


def test_biases_are_on_the_weights_scale() -> None:
    h5py = pytest.importorskip("h5py")
    # The start that silent steps lead to 0 would not be 0 behind the first layer.
    net = Net((2, 5, 4), levels=1, steps=6, period=1)
    bias = np.array([64, -128, 0])
    net.layer("a", 3, Way(), threshold=64 * 9, phase=1, bias=bias, **(LIF | {"v_init": bias}))
    files = chip_files(net.mapped(), net.tensors, CHIP)
    with h5py.File(io.BytesIO(files["network.net"])) as file:
        assert file["layer/1/bias"][()].tolist() == [1, -2, 0]


def test_the_same_bytes_every_time() -> None:
    pytest.importorskip("h5py")
    first, second = (
        chip_files(n.mapped(), n.tensors, CHIP)["network.net"] for n in (chain(gain=128), chain(gain=128))
    )
    assert first == second


def skip_net() -> Net:
    net = chain(gain=128)
    net.layer("e", 2, Way("d", kernel=None), Way("c", kernel=None, delay=1), threshold=64, phase=5, **LIF)
    return net


def input_net() -> Net:
    net = Net((2, 1, 1), levels=1, steps=6, period=1)
    net.layer("a", 3, Way(kernel=None), threshold=64, phase=1, **(LIF | {"gain": 128}))
    net.layer("b", 3, Way(kernel=None, delay=1), threshold=64, phase=2, **LIF)
    return net


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (chain(gain=64), "the synapses of c delay, scale or carry counts"),
        (lif_pair(bias=64, gain=128), "a starts at a membrane other than 0"),
        (lif_pair(bias=128 * 2048, gain=128), "a bias of a needs another exponent than 6"),
        (lif_pair(precharge=0), "a (hard reset) is not Lava's own hard-reset LIF"),
        (skip_net(), "e does not read d alone, netx has plain sequences only"),
        (input_net(), "b does not read a alone, netx has plain sequences only"),
    ],
)
def test_reasons_against(net: Net, why: str) -> None:
    files = chip_files(net.mapped(), net.tensors, CHIP)
    assert "network.net" not in files
    assert json.loads(files["network.json"])["netx"] == {"written": False, "why": why}
