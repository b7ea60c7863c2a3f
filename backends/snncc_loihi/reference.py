"""The emitted network in numpy, as Lava computes it: an executor that needs no Lava environment.

Reads ``network.json`` and ``tensors.safetensors``, nothing of the artifact beside them, so that it
sees what the chip would be given. Slower than the simulator, which shares no code with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.errors import fail, raise_all
from snncc.ir.cell import Cell
from snncc.ir.const import Const
from snncc.ir.node import Reset
from snncc.safeio import read_bytes, read_tensors
from snncc.simulation import Inputs, by_port
from snncc_loihi.fixed import LIF, Conv, Dense, Neurons, Population, Streaming, Synapses
from snncc_loihi.fixed_network import FixedNetwork, Link, Trace, beyond_the_chip

Entry = Mapping[str, Any]

FORMAT, VERSION = "snncc-loihi-network", 3
WIDE_SUMS = 32  # bits of our own TapConv; Lava's Conv wraps at 24


def run_reference(folder: Path, x: Inputs, python: str | None = None) -> Mapping[str, Array]:
    """Counts [N, T, C, H, W] of every population, a readout's membranes.

    Args:
        folder: ``target/`` of an artifact.
        x: input counts [N, T, C, H, W] by port.
        python: not needed.

    Raises:
        ToolError: SNNC-T006 if the files are not a network of this version.
        CapacityError: SNNC-C009 if a number leaves the chip's field or a sum Lava's word.
    """
    network = read_network(folder)
    try:
        arrays = read_tensors(folder / "tensors.safetensors")[1]
        fixed = _network(network, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise fail("SNNC-T006", str(folder), "contradicts itself", got=repr(error)) from None
    raise_all(
        p
        for parts in (fixed.populations.items(), ((k.target, k.synapses) for k in fixed.links))
        for name, part in parts
        if part is not None
        for p in beyond_the_chip(part, name)
    )
    found: dict[str, list[Array]] = {p["name"]: [] for p in network["populations"]}
    ports = {port["name"]: port for port in network["inputs"]}
    given = by_port(tuple(ports), x)
    for sample in range(len(next(iter(given.values())))):
        sent = {name: _events(network, port, given[name][sample]) for name, port in ports.items()}
        traces = fixed.run(sent)
        for entry in network["populations"]:
            found[entry["name"]].append(_counts(entry, network, traces[entry["name"]]))
    shapes = {p["name"]: (network["steps"], *p["shape"]) for p in network["populations"]}
    return {name: np.array(parts, np.int64).reshape(-1, *shapes[name]) for name, parts in found.items()}


def read_network(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``network.json``.

    Raises:
        UsageError: SNNC-U001 if there is none.
        ToolError: SNNC-T006 if it cannot be read, or is of another version.
    """
    path = folder / "network.json"
    try:
        network = json.loads(read_bytes(path))
    except ValueError as error:
        raise fail("SNNC-T006", str(path), f"cannot be read ({type(error).__name__})") from None
    got = (network.get("format"), network.get("version")) if isinstance(network, dict) else None
    if got != (FORMAT, VERSION):
        raise fail("SNNC-T006", str(path), "is another program", got=got, limit=(FORMAT, VERSION))
    return dict(network)


def _network(network: Entry, arrays: Mapping[str, Array]) -> FixedNetwork:
    return FixedNetwork(
        {port["name"]: tuple(port["shape"]) for port in network["inputs"]},
        {p["name"]: _population(p, network, arrays) for p in network["populations"]},
        tuple(_link(c, arrays) for c in network["connections"]),
    )


def _population(entry: Entry, network: Entry, arrays: Mapping[str, Array]) -> Neurons:
    neuron, shape = entry["neuron"], tuple(entry["shape"])
    start, bias = (_number(entry[key], arrays) for key in ("start", "bias"))
    if entry["process"] == "lif":
        return _lif(entry, network, start, bias)
    own = {f.name: neuron[f.name] for f in fields(Cell) if f.name in neuron}
    cell = Cell(**{**own, "reset": Reset(neuron["reset"]), "v_init": start, "bias": bias})
    first, bits = neuron["first"], neuron["state_bits"]
    if neuron["streams"]:
        return Streaming(shape, cell, network["end"], neuron["capped"], first, bits)
    steps, micro_steps = network["steps"], network["micro_steps"]
    return Population(shape, cell, micro_steps, steps, first, neuron["begin"], neuron["graded"], bits)


def _number(value: int | str, arrays: Mapping[str, Array]) -> int | Const:
    return Const(arrays[value]) if isinstance(value, str) else value


def _lif(entry: Entry, network: Entry, start: int | Const, bias: int | Const) -> LIF:
    lif, first = entry["lif"], entry["neuron"]["first"]

    def spread(value: int | Const) -> Any:
        return value.array.astype(np.int64).reshape(-1, 1, 1) if isinstance(value, Const) else value

    return LIF(
        shape=tuple(entry["shape"]),
        vth=lif["vth"],
        du=lif["du"],
        dv=lif["dv"],
        bias_mant=spread(bias) >> lif["bias_exp"],
        bias_exp=lif["bias_exp"],
        v_init=spread(start),
        begin=entry["neuron"]["begin"],
        end=first + network["steps"] * network["micro_steps"],
    )


def _link(c: Entry, arrays: Mapping[str, Array]) -> Link:
    wait = c["delay"] if c["delay_by"] == "line" else 0
    return Link(c["source"], c["target"], _synapses(c, arrays[c["weight"]].astype(np.int64)), wait)


def _synapses(c: Entry, weight: Array) -> Synapses:
    a, bits = c["address"], c["message_bits"]
    if c["kind"] == "dense":
        matrix = weight.reshape(len(weight), -1)
        delays = np.full_like(matrix, c["delay"]) if c["delay_by"] == "DelayDense" else None
        return Dense(matrix, delays, c["weight_exp"], num_message_bits=bits)
    stride, padding, dilation = (tuple(a[key]) for key in ("stride", "padding", "dilation"))
    conv = Conv(weight, stride, padding, dilation, a["groups"], bits)
    if c["kind"] == "conv":
        return conv
    return Conv(weight, stride, padding, dilation, a["groups"], bits, WIDE_SUMS)


def _events(network: Entry, port: Entry, counts: Array) -> Array:
    """What a port sends in each micro-step of a sample, int64 [k, C, H, W], for counts [T, C, H, W]."""
    period = network["micro_steps"]
    sent = np.zeros((network["sample_steps"], *counts.shape[1:]), np.int64)
    for t, count in enumerate(counts):
        begin = port["phase"] + t * period
        if port["graded"]:
            sent[begin] = count
            continue
        for d in range(period):
            sent[begin + d] = count > d
    return sent


def _counts(entry: Entry, network: Entry, trace: Trace) -> Array:
    """Counts [T, C, H, W] of a population's trace: spikes of each timestep, a readout's membrane in it."""
    neuron, first, period = entry["neuron"], entry["neuron"]["first"], network["micro_steps"]
    if neuron["streams"]:
        sent = trace.spikes[first : network["end"]]
        return sent[-1:] if neuron["max_spikes"] == 0 else sent.sum(axis=0, keepdims=True)
    sent = trace.spikes[first : first + network["steps"] * period]
    by_step: Array = sent.reshape(network["steps"], period, *sent.shape[1:]).sum(axis=1)
    return by_step
