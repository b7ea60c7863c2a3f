"""expand-sfa: integers become spike trains of soft-reset integrate-and-fire neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snncc.analysis.ranges import rest_drive
from snncc.analysis.sites import open_map
from snncc.errors import fail
from snncc.ir import (
    Add,
    CentreGate,
    Concat,
    Const,
    Conv2d,
    Delay,
    Encode,
    Family,
    Graph,
    Hold,
    HostRegion,
    Input,
    Integer,
    IntegerNeuron,
    Linear,
    MatMul,
    MaxPool2d,
    Mul,
    Node,
    Output,
    Permute,
    Reshape,
    SiteGate,
    Spikes,
    Sum,
    SumPool2d,
    Upsample,
    ValueType,
    WindowNeuron,
)
from snncc.ir.const import number_array
from snncc.ir.layers import Bilinear
from snncc.ir.node import INTEGER_ONLY, Trait
from snncc.ir.products import held_operand
from snncc.ir.schedule import EXACT, Schedule
from snncc.ir.sites import Bitmap, sites_const
from snncc.ir.synapses import Weighted
from snncc.ir.trains import largest_train
from snncc.passes.base import Semantics, describe


@dataclass(frozen=True)
class ExpandSFA:
    """Makes the schedule of an integer graph explicit (docs/semantics.md#windows).

    With windows, that of neuron depth l starts at micro-step l·P, P micro-steps a timestep; spikes
    that skip layers are delayed, so that everything a window sums has arrived before the neuron may
    fire. Counts equal the integers bit for bit. One operand of a product is held from the first
    micro-step of its window to the last, while the other streams.

    Without windows there are no delays; a neuron fires as soon as it can. Never equivalent in
    general, hence the pass preserves only what the schedule promises.

    Attributes:
        schedule: which. What a relay sends is one graded event under every schedule.
        capped: whether the chip holds a neuron back after its largest count (without windows).
        longest: micro-steps that the chip can hold spikes back; None where nothing limits them. With
            one timestep, spikes that would wait longer and are only added up come early instead:
            the window that sums them has no other to be kept apart from.
    """

    name: ClassVar[str] = "expand-sfa"
    takes: ClassVar[frozenset[Family]] = INTEGER_ONLY
    gives: ClassVar[Family | None] = Family.SPIKE
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset(
        {
            Input, Linear, Conv2d, MatMul, Mul, Add, Concat, Sum, SumPool2d, MaxPool2d, Upsample, Reshape,
            Permute, SiteGate, CentreGate, IntegerNeuron, HostRegion, Output,
        }
    )  # fmt: skip
    schedule: Schedule = EXACT
    capped: bool = True
    longest: int | None = None

    @property
    def preserves(self) -> Semantics:
        """EXACT under a schedule that promises it."""
        return Semantics.EXACT if self.schedule.promises else Semantics.APPROXIMATE

    def run(self, graph: Graph) -> Graph:
        """See the class."""
        name = self.schedule.name
        if not self.schedule.has_windows and graph.steps > 1:
            raise fail(
                "SNNC-M024",
                graph.name,
                f"the {name} schedule has no windows that could separate timesteps",
                got=f"{graph.steps} timesteps",
                limit="1",
                hint="--schedule exact on a clocked target",
            )
        relays = [n for n in graph.nodes if isinstance(n, IntegerNeuron) and n.cell.signed]
        if not self.schedule.has_windows and relays:
            what = f"a relay waits for its window, which `{name}` has not"
            raise fail("SNNC-M024", describe(relays[0]), what, hint="--schedule exact")
        gates = [n for n in graph.nodes if isinstance(n, CentreGate)]
        if not self.schedule.has_windows and gates:
            what = f"spikes of a whole window open its sites, which `{name}` has not"
            raise fail("SNNC-M024", describe(gates[0]), what, hint="--schedule exact")
        products = [n for n in graph.nodes if isinstance(n, Bilinear)]
        if not self.schedule.has_windows and products:
            what = f"a product holds a window's counts, which `{name}` has not"
            raise fail("SNNC-M024", describe(products[0]), what, hint="--schedule exact")
        return _Expansion(graph, self, self.schedule.micro_steps(largest_train(graph))).run()


class _Expansion:
    """State of one run: new nodes with their types, the new name and depth of every spike value."""

    def __init__(self, graph: Graph, options: ExpandSFA, period: int) -> None:
        self.graph = graph
        self.options = options
        self.schedule = options.schedule
        self.period = period
        self.nodes: list[Node] = []
        self.types: dict[str, ValueType] = {}
        self.names: dict[str, str] = {}
        self.depth: dict[str, int] = {}
        self.target = self._neuron_depths()
        self.sums = {n.name for layer in graph.layers.values() for n in layer.path}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self._expand(node)
        return replace(self.graph, family=Family.SPIKE, nodes=tuple(self.nodes), micro_steps=self.period)

    def _neuron_depths(self) -> dict[str, int]:
        """Depth of every spike value and of the neuron that each weighted node or product drives."""
        depth: dict[str, int] = {}
        for node in self.graph.nodes:
            known = [depth[i] for i in node.inputs if i in depth]
            depth[node.name] = max(known, default=0) + isinstance(node, IntegerNeuron)
        for name, layer in self.graph.layers.items():
            for end in layer.ends:
                other = depth.get(f"->{end.name}", depth[name])
                if other != depth[name] and self.schedule.has_windows:
                    raise fail(
                        "SNNC-M023",
                        describe(end),
                        "its sums reach neurons of different depth, and currents cannot wait",
                        got=f"depths {other} and {depth[name]}",
                        hint="a neuron in front of the shortcut",
                    )
                depth[f"->{end.name}"] = depth[name]
        return depth

    def _expand(self, node: Node) -> None:
        match node:
            case IntegerNeuron():
                self._keep(self._window_neuron(node), self.target[node.name])
            case Linear() | Conv2d():
                source = self._aligned(node.inputs[0], self.target[f"->{node.name}"] - 1, summed=True)
                self._keep(replace(node, inputs=(source,), bias=None), None)
            case CentreGate():
                self._keep(self._gate(node), None)
            case MatMul() | Mul() if node.name in self.sums:
                self._product(node)
            case MaxPool2d():
                self._keep(self._maximum(node), None)
            case Add() | Concat() if self._is_train(node):
                level, summed = max(self.depth[i] for i in node.inputs), self._is_summed(node.name)
                inputs = tuple(self._aligned(i, level, summed) for i in node.inputs)
                self._keep(replace(node, inputs=inputs), level)
            case Delay():
                what = "a delay by timesteps has no spike form yet"
                raise fail("SNNC-M012", describe(node), what, got=node.steps)
            case _ if not (node.has(Trait.LINEAR) or isinstance(node, Input | HostRegion | Output)):
                what = f"{node.kind} needs whole counts, which no single spike carries"
                raise fail("SNNC-M012", describe(node), what)
            case _:
                renamed = replace(node, inputs=tuple(self.names[i] for i in node.inputs))
                known = [self.depth[i] for i in node.inputs if i in self.depth]
                self._keep(renamed, max(known, default=0))
                if isinstance(node, Input | HostRegion) and isinstance(self.graph.types[node.name], Spikes):
                    self._encode(node)

    def _gate(self, node: CentreGate) -> CentreGate:
        """The gate, opened by the spikes that reach its weights, whose bias comes when it opens."""
        weights = self.graph.by_name[node.inputs[0]]
        if not isinstance(weights, Weighted):
            what = "a gate that spikes open stands right behind the convolution whose centres they are"
            raise fail("SNNC-M022", describe(node), what, got=f"%{weights.name} is {weights.kind}")
        spikes = self._aligned(node.inputs[1], self.target[f"->{weights.name}"] - 1)
        return replace(node, inputs=(weights.name, spikes), bias=weights.bias)

    def _is_train(self, node: Node) -> bool:
        """Whether a node's value travels as spikes, which wait; sums on their way to a neuron do not."""
        return node.name not in self.sums and isinstance(self.graph.types[node.name], Spikes)

    def _product(self, node: MatMul | Mul) -> None:
        """A product of what one operand holds and the other streams."""
        held = held_operand(self.graph, node, self.schedule.graded)
        if held is None:
            what = "neither factor is complete when its window begins"
            raise fail("SNNC-M012", describe(node), what, hint="the pass lower-products first")
        level = self.target[f"->{node.name}"] - 1
        operands = [self._aligned(i, level) for i in node.inputs]
        name = f"{operands[held]}.hold"
        if name not in self.types:
            self._keep(Hold(name=name, inputs=(operands[held],), source=node.source), None)
        operands[held] = name
        self._keep(replace(node, inputs=tuple(operands)), None)

    def _maximum(self, node: MaxPool2d) -> MaxPool2d:
        if f"->{node.name}" not in self.target:
            what = "a maximum of counts that no neuron integrates has no spike form"
            raise fail("SNNC-M012", describe(node), what, hint="a neuron behind it")
        if not self.schedule.has_windows:
            what = f"a maximum waits for whole windows, which `{self.schedule.name}` has not"
            raise fail("SNNC-M024", describe(node), what, hint="--schedule exact")
        return replace(node, inputs=(self._aligned(node.inputs[0], self.target[f"->{node.name}"] - 1),))

    def _encode(self, node: Node) -> None:
        name, kind = f"{node.name}.spikes", self.graph.types[node.name]
        graded = self.schedule.graded or (isinstance(kind, Spikes) and kind.signed)
        self._keep(Encode(name=name, inputs=(node.name,), source=node.source, graded=graded), 0)
        self.names[node.name] = name

    def _keep(self, node: Node, depth: int | None) -> None:
        self.nodes.append(node)
        self.types[node.name] = node.infer(tuple(self.types[i] for i in node.inputs))
        self.names[node.name] = node.name
        if depth is not None:
            self.depth[node.name] = depth

    def _is_summed(self, name: str) -> bool:
        """Whether a value of spikes only ever enters sums of weights."""
        return all(
            reader.has(Trait.WEIGHTED) or (reader.has(Trait.LINEAR) and self._is_summed(reader.name))
            for reader in self.graph.readers[name]
        )

    def _may_come_early(self, missing: int) -> bool:
        """Whether a window may get spikes by so many micro-steps too early in place of holding them.

        Windows of one micro-step are those of chips' own neurons, which would fire at once.
        """
        too_long = self.options.longest is not None and missing > self.options.longest
        return too_long and self.graph.steps == 1 and self.period > 1

    def _aligned(self, value: str, level: int, summed: bool = False) -> str:
        """``value`` as if it came from neuron depth ``level``: delayed by whole windows.

        ``summed``: what reads it only adds it up.
        """
        missing = (level - self.depth[value]) * self.period
        name = self.names[value]
        if missing == 0 or not self.schedule.has_windows or (summed and self._may_come_early(missing)):
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
        sites = open_map(self.graph, node)
        return WindowNeuron(
            name=node.name,
            inputs=(self.names[node.inputs[0]],),
            source=node.source,
            cell=replace(node.cell, bias=_total_bias(self.graph, node, sites)),
            graded=(self.schedule.graded or node.cell.signed) and not node.is_readout,
            phase=self.schedule.phase(self.target[node.name], self.period),
            release=self.schedule.release,
            capped=self.options.capped,
            sites=None if sites is None else sites_const(sites),
        )


def _total_bias(graph: Graph, neuron: IntegerNeuron, sites: Bitmap | None) -> Integer:
    """Bias of the neuron with those of its weights, one or per channel, at its open sites."""
    if sites is not None and not sites.any():
        return 0
    rank = len(graph.types[neuron.name].shape) + 1
    rest = (rest_drive(graph, neuron) + number_array(neuron.cell.bias, rank))[0]
    per_channel = rest.reshape(rest.shape[0], -1) if sites is None else rest[:, sites]
    if (per_channel != per_channel[:, :1]).any():
        raise fail(
            "SNNC-M020",
            describe(neuron),
            "its bias differs between neurons of one channel, which cores cannot hold",
            hint="one bias a channel",
        )
    bias = per_channel[:, 0]
    return int(bias[0]) if (bias == bias[0]).all() else Const(bias.astype(np.int32))
