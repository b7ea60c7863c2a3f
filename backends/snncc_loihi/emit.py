"""Files of a Loihi program: our own JSON with weights, a folder that runs in Lava, and netx's file.

``network.json`` and ``tensors.safetensors`` are the program. ``lava/`` holds the same network with
the Lava processes and scripts to run it (lava-nc 0.10, numpy and nothing of snncc);
``network.net`` is written besides where netx's format can express the network.

Micro-step k of a sample is Lava's time step k + 1. Spikes of micro-step k reach a population in
micro-step k + delay + 1, the one being Lava's buffer behind every synapse. A sample ends
``sample_steps`` micro-steps after it began, when no spike is left on its way.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from snncc.arrays import Array
from snncc.hw.spec import ChipSpec
from snncc.ir.cell import Cell, leaked, one
from snncc.ir.const import each_channel
from snncc.ir.node import Reset
from snncc.mapping.address import VSC
from snncc.mapping.mapped import Connection, Mapped, Piece
from snncc_loihi.netx import network_file
from snncc_loihi.reference import FORMAT, VERSION

LAVA_FILES = (
    "run.py",
    "guard.py",
    *(
        f"snncc_procs/{name}.py"
        for name in ("__init__", "delay", "lif", "population", "recording", "source", "tapconv")
    ),
)

_LONGEST_DELAY = 62  # micro-steps in a synapse's 6 delay bits
# Lava's DelayDense writes out a matrix of outputs x (delay + 1) x inputs in every step.
_LARGEST_DELAYED = 1 << 20
_GAIN = 64  # Lava's LIF shifts what synapses deliver, biases and thresholds by 6 bits
_BYTE = 127  # Lava's Conv holds its geometry in signed bytes


def chip_files(mapped: Mapped, tensors: Mapping[str, Array], chip: ChipSpec) -> Mapping[str, bytes]:
    """Files of the ``target/`` folder by name.

    Args:
        mapped: a clocked network without pooled connections.
        tensors: its arrays by digest.
        chip: for which it was made.
    """
    document, arrays = program(mapped, tensors, chip)
    net, why = network_file(document, arrays)
    document["netx"] = {"written": net is not None, "why": why}
    text = json.dumps(document, indent=1).encode()
    here = files("snncc_loihi") / "lava"
    lava = {f"lava/{name}": here.joinpath(*name.split("/")).read_bytes() for name in LAVA_FILES}
    return {
        "network.json": text,
        "tensors.safetensors": save_safetensors(arrays),
        **({} if net is None else {"network.net": net}),
        **lava,
        "lava/network.json": text,
        "lava/weights.npz": _npz(arrays),
    }


def program(
    mapped: Mapped, tensors: Mapping[str, Array], chip: ChipSpec
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The content of ``network.json``, and the arrays that it names."""
    store = _Store(tensors)
    emitted = [_population(p, mapped, store) for p in mapped.pieces]
    connections = [
        c for p, e in zip(mapped.pieces, emitted, strict=True) for c in _connections(p, e, mapped, store)
    ]
    end = max(p.phase for p in mapped.pieces) + mapped.steps * mapped.micro_steps
    longest = max((c["delay"] for c in connections), default=0)
    output = mapped.output
    document = {
        "format": FORMAT,
        "version": VERSION,
        "chip": chip.name,
        "schedule": mapped.schedule.name,
        "steps": mapped.steps,
        "micro_steps": mapped.micro_steps,
        "end": end,
        "sample_steps": end + longest + 1,
        "inputs": [
            {
                "name": port.name,
                "shape": list(port.shape),
                "least": port.least,
                "levels": port.levels,
                "graded": port.graded,
                "phase": port.phase,
            }
            for port in mapped.inputs
        ],
        "output": {
            "population": output.piece,
            "decode": output.decode.value,
            "over_time": output.over_time.value,
            "scale": output.scale,
            "shape": list(output.shape),
            "order": None if output.order is None else store.add("order", tensors[output.order]),
        },
        "populations": [e.entry for e in emitted],
        "connections": connections,
        "tiles": [t.model_dump(mode="json") for t in mapped.tiles],
    }
    return document, store.arrays


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as an .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))
    return buffer.getvalue()


@dataclass
class _Store:
    """Arrays that the program names, each stored once."""

    tensors: Mapping[str, Array]
    arrays: dict[str, Array] = field(default_factory=dict)
    known: dict[tuple[str, str, int], str] = field(default_factory=dict)

    def add(self, kind: str, array: Array) -> str:
        """Name of a new array."""
        name = f"{kind}.{sum(1 for n in self.arrays if n.startswith(f'{kind}.'))}"
        self.arrays[name] = np.ascontiguousarray(array)
        return name

    def weight(self, digest: str, factor: int) -> str:
        """Name of a weight array times ``factor``, int16."""
        key = ("weight", digest, factor)
        if key not in self.known:
            self.known[key] = self.add("weight", self.tensors[digest].astype(np.int16) * np.int16(factor))
        return self.known[key]

    def number(self, kind: str, values: Array) -> int | str:
        """An array [C] by name, or the number where all are equal."""
        return int(values[0]) if (values == values[0]).all() else self.add(kind, values.astype(np.int32))


# ---- populations ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Emitted:
    """A population's entry, and the factor that its stored weights carry."""

    entry: dict[str, Any]
    factor: int


def _population(piece: Piece, mapped: Mapped, store: _Store) -> _Emitted:
    early = _hears_early(piece, mapped)
    cell = piece.cell
    start, bias = (each_channel(value, piece.shape[0]) for value in (cell.v_init, cell.bias))
    lif = None if early else _stock_lif(piece, mapped, bias)
    silent = None if early else _silent_start(piece, mapped, start, bias)
    # Twice the weights are stored wherever the gain has the factor 2 to give.
    gain = one(cell.gain)
    doubled = gain == 2 * _GAIN if lif is not None else gain % 2 == 0
    factor = 2 if doubled else 1
    neuron = {
        **_numbers(replace(cell, gain=gain // factor)),
        "graded": piece.graded,
        "streams": piece.streams,
        "capped": piece.capped,
        "state_bits": piece.state_bits,
        "first": piece.phase,
        "begin": piece.phase if silent is None else 0,
    }
    entry = {
        "name": piece.name,
        "layer": piece.layer,
        "shape": list(piece.shape),
        "process": "population" if lif is None else "lif",
        "kind": _kind(piece, mapped),
        "neuron": neuron,
        "start": store.number("start", start if silent is None else silent),
        "bias": store.number("bias", bias),
        "lif": lif,
    }
    return _Emitted(entry, factor)


def _kind(piece: Piece, mapped: Mapped) -> str:
    """What the population is called in the papers."""
    if piece.is_readout:
        return "readout"
    if piece.streams:
        return "streaming"
    if piece.cell.signed:
        return "relay"
    if piece.graded:
        return "graded window"
    if mapped.micro_steps > 1:
        return "window"
    return "soft reset" if piece.cell.reset is Reset.SUBTRACT else "hard reset"


def _numbers(cell: Cell) -> dict[str, Any]:
    """The cell's numbers as JSON; start values and biases are arrays of their own."""
    own = {f.name: getattr(cell, f.name) for f in fields(cell) if f.name not in ("bias", "v_init")}
    return own | {"reset": cell.reset.value}


def _hears_early(piece: Piece, mapped: Mapped) -> bool:
    """Whether a spike can reach the piece before the last micro-step that its first window waits for."""
    phases = {name: sender.phase for name, sender in mapped.senders.items()}
    return any(phases[c.source] + c.delay + 1 < piece.phase for c in piece.connections)


def _stock_lif(piece: Piece, mapped: Mapped, bias: NDArray[np.int64]) -> dict[str, int] | None:
    """Parameters of Lava's own LIF, or None if the piece is another neuron.

    In Lava, u = u·(4095 - du)/4096 + 64·a; v = v·(4096 - dv)/4096 + u + bias_mant·2^bias_exp; v > 64·vth
    fires and resets to 0. A pre-charge of -1 makes ``≥`` that ``>``.
    """
    cell = piece.cell
    leak = 0 if cell.integrates else 4096 - one(cell.decay)
    memory, gain, threshold = one(cell.synapse_decay), one(cell.gain), cell.theta
    fits = (
        mapped.micro_steps == 1
        and cell.max_spikes == 1
        and not (piece.graded or piece.streams)
        and (cell.reset, cell.reset_to, cell.v_min) == (Reset.VALUE, 0, None)
        and cell.precharge == -1
        and gain in (_GAIN, 2 * _GAIN)
        and threshold % _GAIN == 0
        and threshold // _GAIN < 1 << 17
        and (cell.integrates or cell.decay_bits == 12)
        and 0 <= leak < 4096
        and (memory == 0 or (cell.synapse_bits == 12 and 0 < memory < 4096))
    )
    exponent = _bias_exponent(bias)
    if not fits or exponent is None:
        return None
    return {"vth": threshold // _GAIN, "du": 4095 - memory, "dv": leak, "bias_exp": exponent}


def _bias_exponent(bias: NDArray[np.int64]) -> int | None:
    """The exponent, 6 where it will do, with which all biases are 13-bit mantissas."""
    for exponent in (6, 7):
        mantissa = bias >> exponent
        if (mantissa << exponent == bias).all() and -4096 <= mantissa.min() <= mantissa.max() < 4096:
            return exponent
    return None


def _silent_start(
    piece: Piece, mapped: Mapped, start: NDArray[np.int64], bias: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Membrane [C] at micro-step 0 from which leak and bias alone lead to ``start`` at the piece's phase.

    A chip updates its neurons from micro-step 0 on; the graph's start at their phase. None where
    no such membrane keeps silent (the population is then held at ``start`` until its phase), and
    for programs of windows or counts, whose clock waits for the phase anyway.
    """
    if mapped.micro_steps > 1 or piece.graded or piece.is_readout or piece.streams:
        return None
    cell, word = piece.cell, 1 << (piece.state_bits - 1)
    decay, bits = one(cell.decay), cell.decay_bits
    floor = -word if cell.v_min is None else one(cell.v_min)
    v = start
    for _ in range(piece.phase):
        u = v + one(cell.precharge)
        if u.max() >= min(cell.theta, word) or min(u.min(), v.min()) < floor:
            return None
        kept = v - bias
        v = -(-np.abs(kept) * (1 << bits) // max(decay, 1)) * np.sign(kept)
        if (leaked(v, decay, bits) != kept).any():
            return None
    return v if np.abs(v).max() < word else None


# ---- connections ------------------------------------------------------------------------------------


def _connections(piece: Piece, emitted: _Emitted, mapped: Mapped, store: _Store) -> list[dict[str, Any]]:
    """Entries of a piece's connections, in its order."""
    return [_connection(c, piece, emitted.factor, mapped, store) for c in piece.connections]


def _connection(c: Connection, piece: Piece, factor: int, mapped: Mapped, store: _Store) -> dict[str, Any]:
    weight = store.tensors[c.weight]
    assert c.address.pool == (1, 1), "pooling is absorbed into kernels before emission"
    kind, exponent = _connection_kind(c.address), c.exponent
    assert kind == "dense" or exponent == 0, "convolutions have no exponent"
    if kind == "dense" and _loses_bits(weight, factor):
        # Exact all the same: twice the weights, and the sums shifted back.
        factor, exponent = 2, exponent - 1
    return {
        "source": c.source,
        "target": piece.name,
        "kind": kind,
        "weight": store.weight(c.weight, factor),
        "weight_exp": exponent,
        "message_bits": _message_bits(c.source, mapped),
        "address": c.address.model_dump(mode="json", exclude={"pool"}),
        "delay": c.delay,
        "delay_by": _delay_by(c.delay, kind, weight.size),
    }


def _connection_kind(a: VSC) -> str:
    """``dense`` for whole-map kernels, ``conv`` for Lava's Conv, ``tapconv`` where that has too few bits."""
    whole = a.kernel == a.source_shape[1:] and a.target_shape[1:] == (1, 1)
    if whole and a.padding == (0, 0) and a.groups == 1:
        return "dense"
    reach = max(d * (k - 1) + 1 for d, k in zip(a.dilation, a.kernel, strict=True))
    return "conv" if max(reach, *a.stride, 2 * max(a.padding), a.groups) <= _BYTE else "tapconv"


def _loses_bits(weight: Array, factor: int) -> bool:
    """Whether a dense matrix has both signs, and odd values, which then lose their lowest bit."""
    return bool(weight.min() < 0 < weight.max() and ((weight.astype(np.int16) * factor) % 2).any())


def _message_bits(source: str, mapped: Mapped) -> int:
    """Bits, with the sign's, of the count that the source's events carry; 0 for plain spikes."""
    if source in mapped.ports:
        port = mapped.ports[source]
        return port.levels.bit_length() + port.signed if port.graded else 0
    piece = next(p for p in mapped.pieces if p.name == source)
    return piece.cell.max_spikes.bit_length() + piece.cell.signed if piece.graded else 0


def _delay_by(delay: int, kind: str, synapses: int) -> str:
    """What delays the spikes: nothing, Lava's DelayDense, or a delay line in front of the synapses."""
    if delay == 0:
        return "none"
    short = kind == "dense" and delay <= _LONGEST_DELAY and synapses * (delay + 1) <= _LARGEST_DELAYED
    return "DelayDense" if short else "line"
