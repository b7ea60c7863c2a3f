"""One wrong number in one neuron of a captured graph: the comparison with the module names that neuron."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from captured_zoo import traced
from snncc.errors import ModelError
from snncc.ir import Neuron, Reset, Rounding
from snncc_torch.comparing.lockstep import compare
from snncc_torch.zoo import REDUCED


def mutations(node: Neuron) -> Iterator[tuple[str, Neuron]]:
    """What a frontend gets wrong in a neuron: each kind that this one has."""
    yield "threshold", replace(node, threshold=node.threshold * 1.02)
    if node.rounding is Rounding.FLOOR:
        yield "comparison", replace(node, strict=not node.strict)
    else:
        yield "ties", replace(node, rounding=Rounding.HALF_UP)
    if node.max_spikes > 1:
        yield "D", replace(node, max_spikes=node.max_spikes - 1)
    if not node.is_stateless:
        yield "decay", replace(node, decay=node.decay * 0.98)
        for reset in {*Reset} - {node.reset}:
            yield f"reset {reset}", replace(node, reset=reset)


def expected(node: Neuron) -> set[str]:
    if node.is_stateless:
        return {"threshold", "ties", "D"}
    kind = {"comparison"} if node.max_spikes == 1 else {"ties", "D"}
    others = (
        {"reset value", "reset none"} if node.reset is Reset.SUBTRACT else {"reset subtract", "reset none"}
    )
    return {"threshold", "decay", *kind, *others}


@pytest.mark.parametrize("name", REDUCED)
def test_a_wrong_neuron_is_named(name: str) -> None:
    found = traced(name)[2]
    neurons = found.graph.neurons
    # Another place in every model: some stand behind a sum, some in front of an attention.
    site = neurons[len(name) * 7 % len(neurons)]
    assert isinstance(site, Neuron)
    seen = set()
    for what, wrong in mutations(site):
        graph = found.graph.rewrite(lambda n, wrong=wrong: wrong if n.name == wrong.name else None)
        with pytest.raises(ModelError) as caught:
            compare(graph, found)
        assert {(p.code, p.where) for p in caught.value.problems} == {("SNNC-M006", site.source)}, what
        seen.add(what)
    assert seen == expected(site)
