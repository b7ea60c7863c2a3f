"""Every architecture of the zoo is captured: equal to the eager module layer by layer, with its level bounds."""

from __future__ import annotations

import pytest

from captured_zoo import captured
from snncc.analysis.operations import Operand, node_costs
from snncc.ir import Graph, Linear, Spikes
from snncc_torch.zoo import REDUCED


@pytest.mark.parametrize("name", REDUCED)
def test_the_graph_is_the_module(name: str) -> None:
    model = captured(name)[2]
    found = model.comparison
    assert found is not None
    assert found.inputs == 2
    assert found.layers >= 10
    assert found.worst <= 1
    assert not [note for note in model.notes if "never fired" in note]


def weights_see(graph: Graph) -> list[Operand | None]:
    return [c.operand for c in node_costs(graph) if c.operations and c.parameters]


def test_spikformers_residuals_raise_the_levels_and_spikingformers_do_not() -> None:
    """Spikformer: the input of block k is {0..2k} with the patch embedding's ADD, the head sees two more."""
    spikformer = captured("spikformer")[2].graph
    blocks = {n.source.split(".")[1] for n in spikformer.nodes if n.source.startswith("blocks.")}
    assert blocks
    levels = [t.levels for t in spikformer.types.values() if isinstance(t, Spikes) and t.unit == 1.0]
    assert max(levels) == 2 * len(blocks) + 2
    spikingformer = captured("spikingformer")[2].graph
    seen = weights_see(spikingformer)
    assert seen[0] is Operand.REAL
    head = [n for n in spikingformer.nodes if isinstance(n, Linear)]
    assert set(seen[1 : len(seen) - len(head)]) == {Operand.BINARY}
