"""``network.net``: the HDF5 file from which lava-dl's netx builds a network.

netx knows sequences of convolutions and dense layers of Lava's own LIF, nothing else. The layout
(every number a dataset, layers ``/layer/0``, ``/layer/1`` ...) is that of lava-dl 0.6.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail

_Layer = dict[str, Any]


def network_file(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[bytes | None, str | None]:
    """The file, or None and the reason why the format cannot hold the network.

    Args:
        document: content of ``network.json``.
        arrays: what it names.

    Raises:
        ToolError: SNNC-T007 without h5py: the same network gives the same files everywhere, or none.
    """
    why = reason_against(document)
    if why is not None:
        return None, why
    try:
        import h5py
    except ImportError:
        hint = "pip install 'snncc[loihi]'"
        raise fail("SNNC-T007", "network.net", "writing it needs h5py, which is missing", hint=hint) from None
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        for i, layer in enumerate(layers(document, arrays)):
            for name, value in sorted(layer.items()):
                # Without times of writing: the same network gives the same bytes.
                file.create_dataset(f"layer/{i}/{name}", data=value, track_times=False)
    return buffer.getvalue(), None


def reason_against(document: Mapping[str, Any]) -> str | None:
    """Why netx's format cannot hold the network; None if it can."""
    if len(document["inputs"]) != 1:
        return "netx has one input"
    before = document["inputs"][0]["name"]
    for p in document["populations"]:
        name = p["name"]
        if p["process"] != "lif":
            return f"{name} ({p['kind']}) is not Lava's own hard-reset LIF"
        if p["lif"]["bias_exp"] != 6:
            return f"a bias of {name} needs another exponent than 6"
        if p["start"] != 0:
            return f"{name} starts at a membrane other than 0"
        incoming = [c for c in document["connections"] if c["target"] == name]
        if [c["source"] for c in incoming] != [before]:
            return f"{name} does not read {before} alone, netx has plain sequences only"
        if incoming[0]["delay"] or incoming[0]["weight_exp"] or incoming[0]["message_bits"]:
            return f"the synapses of {name} delay, scale or carry counts"
        before = name
    return None


def layers(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[_Layer]:
    """Datasets of every layer by name; a flatten layer stands before a dense one that reads a map."""
    shape = list(document["inputs"][0]["shape"])
    found = [{"type": np.array([b"input"]), "shape": np.array(shape)}]
    by_target = {c["target"]: c for c in document["connections"]}
    for p in document["populations"]:
        c = by_target[p["name"]]
        address, weight = c["address"], arrays[c["weight"]].astype(np.int32)
        if c["kind"] == "dense":
            if found[-1]["type"][0] != b"dense":
                found.append({"type": np.array([b"flatten"]), "shape": np.array([int(np.prod(shape))])})
            layer = {
                "type": np.array([b"dense"]),
                "shape": np.array([p["shape"][0]]),
                "weight": weight.reshape(len(weight), -1),
            }
        else:
            layer = {
                "type": np.array([b"conv"]),
                "shape": np.array(p["shape"]),
                "weight": weight,
                "groups": np.array(address["groups"]),
                **{name: np.array(address[name]) for name in ("stride", "padding", "dilation")},
            }
        found.append(layer | _neuron(p, arrays))
        shape = p["shape"]
    return found


def _neuron(p: Mapping[str, Any], arrays: Mapping[str, Array]) -> _Layer:
    """Neuron and bias; netx takes du = iDecay - 1, and biases on the weights' scale."""
    bias = arrays[p["bias"]] if isinstance(p["bias"], str) else np.full(p["shape"][0], p["bias"])
    lif = p["lif"]
    return {
        "bias": (bias >> 6).astype(np.int32),
        "neuron/type": np.array([b"CUBA"]),
        "neuron/iDecay": np.array(lif["du"] + 1),
        "neuron/vDecay": np.array(lif["dv"]),
        "neuron/vThMant": np.array(lif["vth"]),
    }
