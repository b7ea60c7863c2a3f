"""Logic of spikes, membrane streams, maxima of currents: SEW-ResNet and the spike-driven transformer on clocked chips."""

from __future__ import annotations

from pathlib import Path

import pytest

import snncc
from captured_zoo import captured
from snncc.mapping.partition import Partition
from zoo_on_chips import inputs

SEW = tuple(f"sew-resnet-basic-{function}" for function in ("add", "and", "iand"))
SDT = "spike-driven-transformer"
# Layers that the host computes; of 15, 20, 20 and 31.
HOSTED = {("loihi2", SDT): 1, ("tianjic", SDT): 13}


@pytest.mark.parametrize("target", ["sim", "loihi2", "tianjic"])
@pytest.mark.parametrize("name", [*SEW, SDT])
def test_spikes_equal_integers(name: str, target: str, tmp_path: Path) -> None:
    made = snncc.compile(captured(name)[2], target=target, out=tmp_path / "out", calib=inputs(name, 8, 1))
    assert len(made.mapped.on_host) == HOSTED.get((target, name), 0)
    found = snncc.verify(made, inputs(name, 2, 2))
    assert found.equivalent, str(found)
    assert len(found.layers) == len(made.mapped.pieces)
    assert all(layer.mismatches == 0 and layer.compared > 0 for layer in found.layers)


def test_without_a_host_the_head_of_a_stream_is_refused() -> None:
    found = snncc.check(captured(SDT)[2], target="tianjic", calib=inputs(SDT, 4, 1), partition=Partition.NONE)
    assert [str(p) for p in found.problems] == [
        "%head.mean.sum (head): its sums cannot be taken into the branches, got %blocks.1.mlp.add. "
        "Try --target sim, whose events carry sums."
    ]
