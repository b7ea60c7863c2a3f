"""Chip files: configuration and event schedule as JSON with the vendor's documented property names.

The spelling that samna's own ``to_json`` uses is published nowhere, so these files are ours:
versioned, with the names of the documented classes (CnnLayerConfig and its parts), to be set
attribute by attribute on a real ``SpeckConfiguration``. Weights are [feature][channel][x][y] and
states [feature][x][y], x before y, as the documentation has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.hw.spec import ChipSpec
from snncc.ir.const import each_channel
from snncc.ir.nodes import Decode
from snncc.mapping.mapped import Mapped, Piece


def chip_files(mapped: Mapped, tensors: Mapping[str, Array], chip: ChipSpec) -> Mapping[str, bytes]:
    """Files of the ``target/`` folder by name."""
    config = {
        "format": "snncc-speck-config",
        "version": 1,
        "chip": chip.name,
        "cnn_layers": {str(_core(p, mapped)): _layer(p, mapped, tensors) for p in mapped.pieces},
        "errata": list(chip.errata),
    }
    schedule = {
        "format": "snncc-speck-schedule",
        "version": 1,
        "schedule": mapped.schedule.name,
        "steps": _schedule(mapped, tensors),
    }
    return {
        f"{chip.name}.json": json.dumps(config, separators=(",", ":")).encode(),
        "schedule.json": json.dumps(schedule, indent=1).encode(),
    }


def start_states(piece: Piece) -> Array:
    """Membrane per feature before the first event, int64 [C]: biases, pre-charge, less the gate's lift."""
    cell, channels = piece.cell, piece.shape[0]
    parts = (each_channel(part, channels) for part in (cell.precharge, cell.bias, cell.v_init))
    start: Array = np.sum(list(parts), axis=0)
    return start - (piece.gate.lift if piece.gate else 0)


def _core(piece: Piece, mapped: Mapped) -> int:
    """The core that holds a layer, whole."""
    (core,) = mapped.cores_of(piece.name)
    return core


def _layer(piece: Piece, mapped: Mapped, tensors: Mapping[str, Array]) -> dict[str, Any]:
    address = piece.connections[0].address
    weight = tensors[piece.connections[0].weight]
    if piece.gate is not None:
        control = np.zeros((weight.shape[0], 1, *weight.shape[2:]), weight.dtype)
        control[:, 0, piece.gate.tap[0], piece.gate.tap[1]] = piece.gate.step
        weight = np.concatenate([weight, control], axis=1)
    _, height, width = address.pooled_shape
    states = np.broadcast_to(
        start_states(piece)[:, None, None], (piece.shape[0], piece.shape[2], piece.shape[1])
    )
    return {
        "snncc_piece": piece.name,
        "dimensions": {
            "padding": _xy(*address.padding),
            "stride": _xy(*address.stride),
            "kernel_size": address.kernel[0],
            "input_shape": {"feature_count": weight.shape[1], "size": _xy(height, width)},
            "output_shape": {"feature_count": piece.shape[0], "size": _xy(piece.shape[1], piece.shape[2])},
        },
        "weights": weight.transpose(0, 1, 3, 2).tolist(),
        "biases": [0] * piece.shape[0],
        "neurons_initial_value": states.tolist(),
        "threshold_high": 2 ** (piece.state_bits - 1) - 1 if piece.is_readout else piece.cell.theta,
        "threshold_low": -(2 ** (piece.state_bits - 1)),
        "return_to_zero": False,
        "leak_enable": False,
        "monitor_enable": piece.name == mapped.output.piece,
        "destinations": _destinations(piece, mapped),
    }


def _xy(vertical: int, horizontal: int) -> dict[str, int]:
    return {"x": horizontal, "y": vertical}


def _destinations(piece: Piece, mapped: Mapped) -> list[dict[str, Any]]:
    found = {
        (_core(p, mapped), c.address.pool[0])
        for p in mapped.pieces
        for c in p.connections
        if c.source == piece.name
    }
    return [
        {"enable": True, "layer": core, "pooling": pool, "feature_shift": 0}
        for core, pool in sorted(found, key=str)
    ]


def _schedule(mapped: Mapped, tensors: Mapping[str, Array]) -> list[dict[str, Any]]:
    """What the host plays for one sample, step after step; each step waits until the chip is quiet."""
    steps: list[dict[str, Any]] = [
        {
            "do": "write_states",
            "layers": [_core(p, mapped) for p in mapped.pieces],
            "values": "neurons_initial_value",
        }
    ]
    for piece in mapped.pieces:
        for c in piece.connections:
            if c.source in mapped.ports:
                steps.append(
                    {
                        "do": "play_input",
                        "layer": _core(piece, mapped),
                        "order": mapped.order,
                        "pooling": list(c.address.pool),
                        # Pooled events outside this map (a rest of the pooling) are not played.
                        "map": _xy(*c.address.pooled_shape[1:]),
                    }
                )
    steps += [_release(p, _core(p, mapped)) for p in mapped.pieces if p.gate is not None]
    result = next(p for p in mapped.pieces if p.name == mapped.output.piece)
    kind = "read_neuron_values" if mapped.output.decode is Decode.MEMBRANE else "count_spikes"
    order = None if mapped.output.order is None else tensors[mapped.output.order].tolist()
    read = {"do": kind, "layer": _core(result, mapped), "scale": mapped.output.scale, "order": order}
    return [*steps, read]


def _release(piece: Piece, core: int) -> dict[str, Any]:
    """``rounds`` times one control spike at every listed input site (y, x) of the layer's core."""
    assert piece.gate is not None
    address, tap = piece.connections[0].address, piece.gate.tap
    rows, columns = (
        [
            o * address.stride[axis] - address.padding[axis] + tap[axis]
            for o in range(address.target_shape[1 + axis])
        ]
        for axis in (0, 1)
    )
    return {
        "do": "release",
        "layer": core,
        "feature": piece.gate.feature,
        "rounds": piece.gate.rounds,
        "y": rows,
        "x": columns,
    }
