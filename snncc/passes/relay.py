"""relay: sums that several neurons read travel as whole numbers, each sent once; and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.analysis.fan_out import fan_out
from snncc.analysis.sites import open_maps
from snncc.arrays import Array
from snncc.ir import (
    Current,
    Delay,
    Family,
    Graph,
    HostRegion,
    Input,
    Node,
    Spikes,
    WindowNeuron,
)
from snncc.ir.batches import in_chunks
from snncc.ir.node import INTEGER_ONLY
from snncc.ir.synapses import Weighted
from snncc.passes.base import Semantics
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.distribute import Distribute
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.identity import identity, kept_closed
from snncc.passes.relay_pools import RelayPools
from snncc.passes.relays import relay
from snncc.passes.single_step import SingleStep


@dataclass(frozen=True)
class Relay:
    """Lowers membrane shortcuts (x ← x + conv(s)) of an integer graph to graded events.

    A current cannot travel between cores (docs/semantics.md#membrane-shortcuts).
    Where a sum has several readers, one neuron a value
    passes it on: threshold 1, no memory, one event that carries the sum, of either sign; its
    readers add it up through weights of 1. The sum so far goes from block to block, and no weight
    is stored twice. Biases of the weights are part of the sum that the relay carries. Its
    ``max_spikes`` is no clip: ``bound-counts`` sets it to what the sum can reach.
    """

    name: ClassVar[str] = "relay"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset()

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        shared, maps = shared_sums(graph), open_maps(graph)
        nodes: list[Node] = []
        for node in graph.nodes:
            names = {i: f"{node.name}.from.{i}" for i in node.inputs if i in shared}
            for i, name in names.items():
                weights = identity(name, _relay_name(i), graph.types[i].shape, node.source)
                passed = kept_closed(weights, maps[i])
                nodes += passed
                names[i] = passed[-1].name
            nodes.append(replace(node, inputs=tuple(names.get(i, i) for i in node.inputs)))
            if node.name in shared:
                nodes.append(relay(_relay_name(node.name), node.name, node.source))
        return replace(graph, nodes=tuple(nodes))


def shared_sums(graph: Graph) -> tuple[str, ...]:
    """Sums that more than one node reads; what a host computes is none."""
    return tuple(name for name, readers in graph.readers.items() if len(readers) > 1 and _is_sum(graph, name))


def _is_sum(graph: Graph, name: str) -> bool:
    return isinstance(graph.types[name], Current) and not isinstance(graph.by_name[name], HostRegion | Input)


def _relay_name(name: str) -> str:
    return f"{name}.relay"


@dataclass(frozen=True)
class ShortcutCost:
    """What a lowering of shortcuts adds to a network.

    Attributes:
        operations: synaptic operations a sample.
        neurons: neurons, each of which is updated once a timestep.
        micro_steps: of a sample, from the first input to the end of the last window.
        wait: micro-steps that spikes which skip layers wait at most.
    """

    operations: int
    neurons: int
    micro_steps: int
    wait: int

    def __str__(self) -> str:
        return (
            f"{self.operations:,} synaptic operations a sample and {self.neurons:,} neurons "
            f"({self.micro_steps:,} micro-steps, longest wait {self.wait:,})"
        )


@dataclass(frozen=True)
class Shortcuts:
    """Both lowerings of a network's membrane shortcuts; see :func:`compare_shortcuts`.

    Attributes:
        steps: timesteps T of a sample.
        longest: micro-steps that the chip can hold spikes back; None where nothing limits them.
    """

    distribute: ShortcutCost
    relay: ShortcutCost
    steps: int
    longest: int | None = None

    @property
    def relayed(self) -> bool:
        """Whether relays are chosen: by what the chip can hold back, then by operations and updates.

        Where both cost the same, spikes stay spikes.
        """
        if self._too_late(self.distribute) != self._too_late(self.relay):
            return self._too_late(self.distribute)
        return self._total(self.relay) < self._total(self.distribute)

    def _too_late(self, cost: ShortcutCost) -> bool:
        return self.longest is not None and cost.wait > self.longest

    def _total(self, cost: ShortcutCost) -> int:
        """Synaptic operations and neuron updates a sample."""
        return cost.operations + cost.neurons * self.steps

    def __str__(self) -> str:
        why = "fewer synaptic operations and neuron updates together"
        if self._too_late(self.distribute) != self._too_late(self.relay):
            why = f"the other waits longer than the chip can, {self.longest} micro-steps"
        elif self._total(self.relay) == self._total(self.distribute):
            why = "both cost the same"
        return (
            f"membrane shortcuts: distribute adds {self.distribute}, relay {self.relay}; "
            f"chosen: {'relay' if self.relayed else 'distribute'} ({why})"
        )


def compare_shortcuts(
    graph: Graph, calibration: Array, expand: ExpandSFA, longest: int | None = None
) -> Shortcuts | None:
    """Costs of the two lowerings of shared sums, None if there are none.

    Estimated from the values on the calibration inputs: a count n is n events, or one if graded,
    and an event's synaptic operations are the outputs that it reaches, zero weights included.

    Args:
        graph: integer graph whose sums are still shared.
        calibration: inputs [N, T, *shape].
        expand: how the network becomes spikes.
        longest: micro-steps that the chip can hold spikes back.
    """
    shared = shared_sums(graph)
    if not shared:
        return None
    sources = {name for layer in graph.layers.values() for name in layer.sources}
    values = in_chunks(graph, calibration, (*sorted(sources), *shared)).values
    values |= {_relay_name(name): values[name] for name in shared}
    distributed, relayed = Distribute().run(graph), Relay().run(graph)
    graded = expand.schedule.graded
    before, copied, passed = (_operations(g, values, graded) for g in (graph, distributed, relayed))
    samples = max(1, len(calibration))
    added = sum(graph.elements(name) for name in shared)
    return Shortcuts(
        distribute=ShortcutCost(round((copied - before) / samples), 0, *_times(distributed, expand)),
        relay=ShortcutCost(round((passed - before) / samples), added, *_times(relayed, expand)),
        steps=graph.steps,
        longest=longest,
    )


def _times(graph: Graph, expand: ExpandSFA) -> tuple[int, int]:
    """Micro-steps of a sample, and of the longest delay."""
    spikes = expand.run(BoundCounts().run(SingleStep().run(RelayPools().run(graph))))
    last = max(n.phase for n in spikes.nodes if isinstance(n, WindowNeuron))
    longest = max((n.steps for n in spikes.nodes if isinstance(n, Delay)), default=0)
    return last + spikes.steps * spikes.micro_steps, longest


def _operations(graph: Graph, values: Mapping[str, Array], graded: bool) -> int:
    """Synaptic operations of all samples; ``values`` [N, T, *shape] of what the weights read."""
    total = 0
    for node in graph.nodes:
        if not isinstance(node, Weighted):
            continue
        kind, value = graph.types[node.inputs[0]], values[node.inputs[0]]
        assert isinstance(kind, Spikes)
        events = (value != 0 if graded or kind.signed else value).sum(axis=(0, 1), dtype=np.int64)
        total += int((events * fan_out(node, kind.shape, graph.types[node.name].shape)).sum())
    return total
