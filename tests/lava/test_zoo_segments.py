"""The papers' networks on Loihi 2, in Lava: what each segment of the chip sends is the spike graph's, train by train.

Untrained, with calibrated norms, every layer fires. Our own engine computes what the host sends into a segment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_lowered_networks import spike_trains

import snncc
from captured_zoo import captured
from snncc.artifact import Artifact
from snncc.mapping.mapped import Mapped, Part
from snncc.mapping.segments import played
from snncc_loihi.runner import run_lava
from snncc_sim import SIMULATOR
from zoo_on_chips import inputs

CALIBRATION = 8
# Segments, layers on the host, samples.
NETWORKS = {
    "spike-driven-transformer": (2, 1, 2),
    "ms-resnet-basic": (1, 0, 2),
    "sew-resnet-basic-iand": (1, 0, 2),
    "spikformer-cifar": (3, 4, 1),
    "e-spikeformer": (3, 4, 1),
}


def segments(mapped: Mapped) -> tuple[Part, ...]:
    """The chip's parts; all pieces where the chip computes all."""
    whole = Part(name=".", on_host=False, pieces=tuple(p.name for p in mapped.pieces))
    return tuple(p for p in mapped.parts if not p.on_host) or (whole,)


def assert_segment_agrees(made: Artifact, part: Part, counts: dict[str, Any], trains: dict[str, Any]) -> None:
    mapped = made.mapped
    found = run_lava(made.path / "target" / part.name / "lava", played(mapped, part, counts), trains=True)
    assert sorted(found.counts) == sorted(part.pieces)
    for piece in (p for p in mapped.pieces if p.name in part.pieces):
        np.testing.assert_array_equal(found.counts[piece.name], counts[piece.name], err_msg=piece.name)
        sent = found.trains[piece.name]
        want = trains[piece.name].reshape(len(sent), -1, *piece.shape)
        if piece.is_readout:  # the graph's stands still between two timesteps
            first = (np.arange(want.shape[1]) - piece.phase) % mapped.micro_steps == 0
            want = want * first.reshape(-1, 1, 1, 1)
        both = min(sent.shape[1], want.shape[1])
        np.testing.assert_array_equal(sent[:, :both], want[:, :both], err_msg=piece.name)
        late = np.concatenate([sent[:, both:], want[:, both:]], axis=1)
        assert not late.any(), f"{piece.name} sends after its last window"


@pytest.mark.parametrize("name", NETWORKS)
def test_segments_of_the_papers_networks(name: str, tmp_path: Path) -> None:
    made = snncc.compile(
        captured(name)[2], target="loihi2", out=tmp_path / "out", calib=inputs(name, CALIBRATION, 1)
    )
    parts, (several, hosted, samples) = segments(made.mapped), NETWORKS[name]
    assert (len(parts), len(made.mapped.on_host)) == (several, hosted)
    x = inputs(name, samples, 2).x
    given = made.spike_inputs(x, made.host_spikes(x))
    simulated = SIMULATOR.execute(made.mapped, made.tensors, given)
    assert all(simulated.counts[p.name].any() for p in made.mapped.pieces), "a layer is silent"
    counts = {**given, **simulated.counts}
    trains = spike_trains(made.spike_graph, x)
    for part in parts:
        assert_segment_agrees(made, part, counts, trains)
