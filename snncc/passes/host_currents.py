"""Currents of the host: what an analog stem adds to a sum of spikes, as signed counts at the sum's scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from snncc.arrays import Array
from snncc.ir import Family, Graph, HostRegion, Input, Neuron, Node, Output, Rounding
from snncc.passes.identity import identity
from snncc.passes.rounding import exponent_for
from snncc.passes.scales import Group, Widths


def quantized_currents(
    group: Group, scale: float, widths: Widths, values: Mapping[str, Array], margin: float
) -> Iterator[tuple[HostRegion, tuple[Node, ...]]]:
    """For each current that the host adds to a group: a region that counts it, and the weights behind it.

    The region gives round(s·x / 2^e), e = 0 where the chip's events carry that, which weights of 2^e
    turn back. It counts ``margin`` times as far as the calibration inputs reach, and one more: a value
    that has reached its end may have been cut there.
    """
    graph = group.graph
    for name in dict.fromkeys(w.inputs[0] for w in group.currents):
        most = float(np.abs(values[name]).max(initial=0)) * margin * scale + 1
        exponent = exponent_for(math.ceil(most), widths.event)
        levels = math.ceil(most / 2**exponent)
        region = _counting(graph, name, 2**exponent / scale, levels)
        readers = (w for w in group.currents if w.inputs[0] == name)
        shape = graph.types[name].shape
        yield region, tuple(_weights(w, region.name, shape, 2**exponent) for w in readers)


def _counting(graph: Graph, name: str, unit: float, levels: int) -> HostRegion:
    shape, source = graph.types[name].shape, graph.by_name[name].source
    neuron = Neuron(
        name=f"{name}.counts",
        inputs=(name,),
        source=source,
        threshold=unit,
        max_spikes=levels,
        signed=True,
        rounding=Rounding.HALF_EVEN,
    )
    end = Output(name=f"{name}.counts.out", inputs=(neuron.name,))
    nodes = (Input(name=name, shape=shape), neuron, end)
    body = Graph(f"{graph.name}.host", Family.FLOAT, nodes, graph.steps)
    return HostRegion(name=neuron.name, inputs=(name,), source=source, body=body)


def _weights(node: Node, reads: str, shape: tuple[int, ...], factor: int) -> Node:
    dtype = next(d for d in (np.int8, np.int16, np.int32) if factor <= np.iinfo(d).max)
    return replace(identity(node.name, reads, shape, node.source, dtype, factor))
