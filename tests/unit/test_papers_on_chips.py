"""Logic of spikes, membrane streams, maxima of currents: SEW-ResNet and the spike-driven transformer on clocked chips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import snncc
from captured_zoo import captured
from snncc.compilation import Options
from snncc.ir import MaxPool2d
from snncc.ir.batches import in_chunks
from snncc.ir.evaluation import evaluate
from snncc.mapping.partition import Partition
from snncc_loihi.target import LOIHI2
from stream_nets import given
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


@pytest.mark.parametrize("name", SEW[1:])
def test_logic_of_spikes_is_that_of_the_paper_on_loihi(name: str) -> None:
    """a·b and a·(1 - b), and the largest of a window, of the very spikes that the integers have."""
    made = LOIHI2.lower(captured(name)[2], inputs(name, 8, 1).x, Options())
    x = inputs(name, 4, 2).x
    counts = in_chunks(made.integer_graph, x).values
    logic = [p for p in made.mapped.pieces if p.name.endswith(".mul")]
    assert len(logic) == 5
    for piece in logic:
        first, second = (
            counts[c.source] if made.tensors[c.weight].max() > 0 else 1 - counts[c.source]
            for c in piece.connections
        )
        assert counts[piece.name].any()
        np.testing.assert_array_equal(counts[piece.name], first * second)
    pool = made.mapped.pieces[0]
    a = pool.connections[0].address
    taken = MaxPool2d(name="p", inputs=("x",), kernel=a.kernel, stride=a.stride, padding=a.padding)
    largest = evaluate(taken, [given(made, x)["input"].reshape(-1, *a.source_shape)])
    np.testing.assert_array_equal(counts[pool.name].reshape(largest.shape), largest)


def test_without_a_host_the_head_of_a_stream_is_refused() -> None:
    found = snncc.check(captured(SDT)[2], target="tianjic", calib=inputs(SDT, 4, 1), partition=Partition.NONE)
    assert [str(p) for p in found.problems] == [
        "%head.mean.sum (head): its sums cannot be taken into the branches, got %blocks.1.mlp.add. "
        "Try --target sim, whose events carry sums."
    ]
