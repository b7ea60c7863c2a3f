"""The artifact as a value: a compiled network with the chip that it was compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from snncc.analysis.certificate import Certificate
from snncc.analysis.operations import host_macs
from snncc.arrays import Array
from snncc.compilation import Lowered
from snncc.data import Dataset
from snncc.hw.spec import ChipSpec
from snncc.ir.batches import chunks
from snncc.ir.graph import Graph
from snncc.ir.interp import host_values
from snncc.ir.nodes import Encode, HostRegion
from snncc.ir.types import Spikes
from snncc.mapping.build import port_names
from snncc.mapping.mapped import Mapped

VERSION: Literal[2] = 2  # of the folder: 1 held no chip and no sum of its manifest


class Manifest(BaseModel):
    """``manifest.json``: what the folder is, and the SHA-256 of every file in it but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    artifact: Literal["snncc"] = "snncc"
    version: Literal[2] = VERSION
    snncc: str
    target: str
    schedule: str
    model: str
    comparison: dict[str, float] | None
    notes: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A compiled network, read back.

    Attributes:
        path: the folder.
        chip: what it was compiled for; checked and costed against this, whatever is installed.
        calibration: inputs that chose scales and ranges.
    """

    path: Path
    manifest: Manifest
    float_graph: Graph
    integer_graph: Graph
    spike_graph: Graph
    mapped: Mapped
    chip: ChipSpec
    tensors: Mapping[str, Array]
    certificate: Certificate
    calibration: Dataset

    @property
    def lowered(self) -> Lowered:
        """What a backend emits chip files of."""
        graphs = (self.float_graph, self.integer_graph, self.spike_graph)
        return Lowered(*graphs, self.mapped, self.certificate, self.chip, self.tensors)

    @cached_property
    def host_macs(self) -> int:
        """Multiply-accumulates a sample that the host computes before the first spike."""
        return host_macs(self.integer_graph)

    def host_spikes(self, x: Array) -> dict[str, Array]:
        """What the host regions deliver for inputs [N, T, *shape]: counts by node name."""
        if not self.host_names:
            return {}
        parts = [host_values(self.integer_graph, x[some]) for some in chunks(self.integer_graph, len(x))]
        return {name: np.concatenate([p[name] for p in parts]) for name in self.host_names}

    def spike_inputs(self, x: Array, host: Mapping[str, Array]) -> dict[str, Array]:
        """Counts [N, T, C, H, W] that enter the chip by port, of inputs and what the host made of them."""
        ports, given = port_names(self.spike_graph), {self.integer_graph.input.name: x, **host}
        found = {}
        for encode in (n for n in self.spike_graph.nodes if isinstance(n, Encode)):
            name = ports[encode.name]
            shape = self.mapped.ports[name].shape
            found[name] = given[encode.inputs[0]].reshape(len(x), self.spike_graph.steps, *shape)
        return found

    @property
    def host_names(self) -> tuple[str, ...]:
        """Host regions that deliver counts: what is analog and stands before the first spike."""
        graph = self.integer_graph
        regions = (n.name for n in graph.nodes if isinstance(n, HostRegion))
        return tuple(name for name in regions if isinstance(graph.types[name], Spikes))
