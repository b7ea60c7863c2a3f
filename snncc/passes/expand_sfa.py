"""expand-sfa: integers become spike trains of soft-reset integrate-and-fire neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.analysis.ranges import rest_drive
from snncc.errors import fail
from snncc.ir import (
    Add,
    Concat,
    Const,
    Conv2d,
    Delay,
    Encode,
    Family,
    Graph,
    HostRegion,
    Input,
    Integer,
    IntegerNeuron,
    Linear,
    Node,
    Output,
    Release,
    Spikes,
    ValueType,
    WindowNeuron,
)
from snncc.ir.const import number_array
from snncc.ir.node import Trait
from snncc.mapping.mapped import Schedule
from snncc.passes.base import Semantics, describe


@dataclass(frozen=True)
class ExpandSFA:
    """Makes the schedule of an integer graph explicit, one spike at most a micro-step (DESIGN §5).

    ``exact``: the window of neuron depth l starts at micro-step l·P, where P is one more than
    the largest count of any train; spikes that skip layers are delayed, so that everything a
    window sums has arrived before the neuron may fire. Counts equal the integers bit for bit.

    ``free``: no windows and no delays; a neuron fires as soon as it can. Never equivalent in
    general, hence the pass as a whole preserves only under ``exact``.

    Attributes:
        schedule: which.
        capped: whether the chip holds a neuron back after its largest count (``free``).
        clocked: whether ``free`` runs in micro-steps of a clocked chip, in place of event by event.
        graded: whether a count travels as one event that carries it; P is then 2 (Loihi 2). What a
            relay sends always does.
        native: whether a network of single spikes updates every neuron in every micro-step (P = 1),
            as chips do whose neurons integrate and fire in one step.
    """

    name: ClassVar[str] = "expand-sfa"
    schedule: Schedule = Schedule.EXACT
    capped: bool = True
    clocked: bool = False
    graded: bool = False
    native: bool = False

    @property
    def preserves(self) -> Semantics:
        """EXACT under the exact schedule."""
        return Semantics.EXACT if self.schedule is Schedule.EXACT else Semantics.APPROXIMATE

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        if self.schedule is Schedule.FREE and graph.steps > 1:
            raise fail(
                "SNNC-M012",
                graph.name,
                "the free schedule has no windows that could separate timesteps",
                got=f"{graph.steps} timesteps",
                limit="1",
                hint="--schedule exact on a clocked target",
            )
        relays = [n for n in graph.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]
        if self.schedule is Schedule.FREE and relays:
            raise fail("SNNC-M012", describe(relays[0]), "a relay waits for its window, which `free` has not")
        return _Expansion(graph, self, self._period(graph)).run()

    def _period(self, graph: Graph) -> int:
        most = largest_train(graph)
        if self.native and most == 1 and self.schedule is Schedule.EXACT:
            return 1
        return 2 if self.graded else most + 1


def largest_train(graph: Graph) -> int:
    """The most spikes that one source (input, host region or neuron) sends in a timestep; relays none."""
    kinds = (graph.types[n.name] for n in graph.nodes if isinstance(n, Input | HostRegion | IntegerNeuron))
    return max((k.levels for k in kinds if isinstance(k, Spikes) and not k.signed), default=1)


class _Expansion:
    """State of one run: new nodes with their types, the new name and depth of every spike value."""

    def __init__(self, graph: Graph, options: ExpandSFA, period: int) -> None:
        self.graph = graph
        self.options = options
        self.exact = options.schedule is Schedule.EXACT
        self.period = period
        self.nodes: list[Node] = []
        self.types: dict[str, ValueType] = {}
        self.names: dict[str, str] = {}
        self.depth: dict[str, int] = {}
        self.target = self._neuron_depths()

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self._expand(node)
        return replace(self.graph, family=Family.SPIKE, nodes=tuple(self.nodes), micro_steps=self.period)

    def _neuron_depths(self) -> dict[str, int]:
        """Depth of every spike value and of the neuron that each weighted node drives."""
        depth: dict[str, int] = {}
        for node in self.graph.nodes:
            known = [depth[i] for i in node.inputs if i in depth]
            depth[node.name] = max(known, default=0) + isinstance(node, IntegerNeuron)
        for name, layer in self.graph.layers.items():
            for weighted in layer.weighted:
                other = depth.get(f"->{weighted.name}", depth[name])
                if other != depth[name] and self.exact:
                    raise fail(
                        "SNNC-M012",
                        describe(weighted),
                        "its sums reach neurons of different depth, and currents cannot wait",
                        got=f"depths {other} and {depth[name]}",
                        hint="a neuron in front of the shortcut",
                    )
                depth[f"->{weighted.name}"] = depth[name]
        return depth

    def _expand(self, node: Node) -> None:
        match node:
            case IntegerNeuron():
                self._keep(self._window_neuron(node), self.target[node.name])
            case Linear() | Conv2d():
                source = self._aligned(node.inputs[0], self.target[f"->{node.name}"] - 1)
                self._keep(replace(node, inputs=(source,), bias=None), None)
            case Add() | Concat() if isinstance(self.graph.types[node.name], Spikes):
                level = max(self.depth[i] for i in node.inputs)
                self._keep(replace(node, inputs=tuple(self._aligned(i, level) for i in node.inputs)), level)
            case Delay():
                raise fail("SNNC-M012", describe(node), "a delay by timesteps has no spike form yet")
            case _ if not (node.has(Trait.LINEAR) or isinstance(node, Input | HostRegion | Output)):
                what = f"{node.kind} needs whole counts, which no single spike carries"
                raise fail("SNNC-M012", describe(node), what)
            case _:
                renamed = replace(node, inputs=tuple(self.names[i] for i in node.inputs))
                known = [self.depth[i] for i in node.inputs if i in self.depth]
                self._keep(renamed, max(known, default=0))
                if isinstance(node, Input | HostRegion) and isinstance(self.graph.types[node.name], Spikes):
                    self._encode(node)

    def _encode(self, node: Node) -> None:
        name = f"{node.name}.spikes"
        self._keep(Encode(name=name, inputs=(node.name,), source=node.source, graded=self.options.graded), 0)
        self.names[node.name] = name

    def _phase(self, depth: int) -> int:
        """First micro-step in which a neuron of this depth acts."""
        if self.exact:
            return depth * self.period
        return depth if self.options.clocked else 0

    def _release(self) -> Release:
        if self.exact:
            return Release.WINDOW
        return Release.STREAM if self.options.clocked else Release.FREE

    def _keep(self, node: Node, depth: int | None) -> None:
        self.nodes.append(node)
        self.types[node.name] = node.infer(tuple(self.types[i] for i in node.inputs))
        self.names[node.name] = node.name
        if depth is not None:
            self.depth[node.name] = depth

    def _aligned(self, value: str, level: int) -> str:
        """``value`` as if it came from neuron depth ``level``: delayed by whole windows."""
        missing = (level - self.depth[value]) * self.period
        name = self.names[value]
        if missing == 0 or not self.exact:
            return name
        delayed = f"{name}.delay{missing}"
        if delayed not in self.names:
            train = self.types[name]
            assert isinstance(train, Spikes)
            delay = Delay(
                name=delayed,
                inputs=(name,),
                steps=missing,
                shape=train.shape,
                levels=train.levels,
                signed=train.signed,
            )
            self._keep(delay, level)
        return delayed

    def _window_neuron(self, node: IntegerNeuron) -> WindowNeuron:
        return WindowNeuron(
            name=node.name,
            inputs=(self.names[node.inputs[0]],),
            source=node.source,
            cell=replace(node.cell, bias=_total_bias(self.graph, node)),
            graded=(self.options.graded or node.cell.signed) and not node.is_readout,
            phase=self._phase(self.target[node.name]),
            release=self._release(),
            capped=self.options.capped,
        )


def _total_bias(graph: Graph, neuron: IntegerNeuron) -> Integer:
    """Bias of the neuron with those of its weights, one or per channel."""
    rank = len(graph.types[neuron.name].shape) + 1
    rest = (rest_drive(graph, neuron) + number_array(neuron.cell.bias, rank))[0]
    per_channel = rest.reshape(rest.shape[0], -1)
    if (per_channel != per_channel[:, :1]).any():
        raise fail(
            "SNNC-M012",
            describe(neuron),
            "its bias differs between neurons of one channel, which cores cannot hold",
        )
    bias = per_channel[:, 0]
    return int(bias[0]) if (bias == bias[0]).all() else Const(bias.astype(np.int32))
