"""Masked networks through every executor: float, integers, spikes, addresses, engine, artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snncc import api
from snncc.analysis.claims import layer_sums
from snncc.analysis.layerwise import compare_layers
from snncc.analysis.operations import node_costs
from snncc.analysis.sites import is_gated
from snncc.compilation import Options
from snncc.data import Dataset
from snncc.equivalence.parts import part_problems
from snncc.errors import CapacityError, ModelError
from snncc.ir import (
    Add,
    BatchNorm,
    CentreGate,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Neuron,
    Node,
    Output,
    OverTime,
    Rounding,
    SiteGate,
    parse,
    to_text,
)
from snncc.ir.interp import run
from snncc.ir.node import Pair
from snncc.ir.sites import Bitmap, fired_centres, latched, offset_of, open_sites, sites_const
from snncc.ir.windows import Windows
from snncc.mapping.check import violations
from snncc.metrics.conventions import Conventions, work
from snncc.metrics.measure import measure
from snncc.model import Model
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.ungate import Ungate
from snncc_loihi.target import LOIHI2
from snncc_sim import SIMULATOR
from snncc_sim.target import SIM, TIANJIC
from snncc_speck import SPECK2F


def weights(rng: np.random.Generator, *shape: int) -> Const:
    return Const((rng.normal(size=shape) * 1.6 / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


class Net:
    """Grows a masked network: convolutions with gates, neurons, shortcuts."""

    def __init__(
        self, seed: int, size: Pair = (7, 8), levels: int = 3, steps: int = 1, **neuron: Any
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.mask: Bitmap = self.rng.random(size) < 0.6
        self.steps, self.neuron = steps, neuron
        self.nodes: list[Node] = [Input(name="x", shape=(2, *size), levels=levels)]
        self.masks: dict[str, Bitmap] = {"x": self.mask}

    def conv(
        self, reads: str, out: int, kernel: int = 3, stride: int = 1, mode: str = "mask", **more: Any
    ) -> str:
        name = f"c{len(self.nodes)}"
        inner = self.shape(reads)[0] // more.get("groups", 1)
        dilation = more.get("dilation", (1, 1))
        padding = more.get("padding", (kernel // 2 * dilation[0], kernel // 2 * dilation[1]))
        sites = open_sites(self.masks[reads], (kernel, kernel), (stride, stride), padding, dilation)
        self.nodes.append(
            Conv2d(
                name=name, inputs=(reads,), weight=weights(self.rng, out, inner, kernel, kernel),
                bias=Const(self.rng.uniform(-0.5, 0.9, out).astype(np.float32)), stride=(stride, stride),
                **{"padding": padding, **more},
            )
        )  # fmt: skip
        gate: SiteGate = SiteGate(name=f"{name}.gate", inputs=(name,), sites=sites_const(sites))
        if mode == "centre":
            offset = offset_of((kernel, kernel), padding, dilation)
            gate = CentreGate(
                name=gate.name, inputs=(name, reads), sites=gate.sites, stride=(stride, stride), offset=offset
            )
        if mode != "none":
            self.nodes.append(gate)
        return self.kept(sites if mode != "none" else np.ones_like(sites))

    def kept(self, mask: Bitmap) -> str:
        """Name of the last value, which is 0 outside of ``mask``."""
        self.masks[self.nodes[-1].name] = mask
        return self.nodes[-1].name

    def fire(self, reads: str, **fields: Any) -> str:
        name = f"n{len(self.nodes)}"
        sfa = {"max_spikes": 3, "rounding": Rounding.HALF_EVEN}
        self.nodes.append(Neuron(name=name, inputs=(reads,), **{**sfa, **self.neuron, **fields}))
        return self.kept(self.masks[reads])

    def add(self, *reads: str) -> str:
        self.nodes.append(Add(name=f"a{len(self.nodes)}", inputs=reads))
        return self.kept(np.logical_or.reduce([self.masks[name] for name in reads]))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph(name).types[name].shape

    def graph(self, last: str) -> Graph:
        over = OverTime.NONE if self.steps == 1 else OverTime.SUM
        end = Output(name="o", inputs=(last,), over_time=over)
        return Graph("masked", Family.FLOAT, (*self.nodes, end), self.steps)

    def inputs(self, samples: int = 12) -> np.ndarray[Any, Any]:
        """Counts at unmasked sites, of which about half are silent in every channel."""
        first = self.nodes[0]
        assert isinstance(first, Input)
        shape = (samples, self.steps, *first.shape)
        counts = self.rng.integers(0, first.levels + 1, shape)
        return np.asarray(counts * (self.rng.random((*shape[:2], 1, *shape[3:])) < 0.5) * self.mask)


def blocks(seed: int, modes: tuple[str, str, str, str] = ("mask",) * 4, **options: Any) -> tuple[Graph, Any]:
    """Two stages with a shortcut of spikes; groups, a stride, a dilation and an even kernel among them."""
    net = Net(seed, **options)
    first = net.fire(net.conv("x", 4, mode=modes[0]))
    second = net.fire(net.conv(first, 4, groups=4, mode=modes[1], dilation=(2, 1)))
    third = net.fire(net.conv(net.add(first, second), 4, stride=2, mode=modes[2]))
    last = net.fire(net.conv(third, 3, kernel=2, padding=(1, 1), mode=modes[3]))
    return net.graph(last), net.inputs()


MODES = [
    ("mask",) * 4,
    ("centre",) * 4,
    ("mask", "centre", "mask", "none"),
    ("centre", "none", "centre", "mask"),
]
NEURONS: list[dict[str, Any]] = [
    {},
    {"steps": 3, "decay": 1.0},
    {"steps": 3, "decay": 0.75, "max_spikes": 1, "rounding": Rounding.FLOOR},
    {"steps": 2, "decay": 0.5, "v_min": -0.25},
]


@pytest.mark.parametrize("modes", MODES, ids="-".join)
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_spikes_and_engine_are_the_integers(modes: Any, neuron: dict[str, Any]) -> None:
    graph, x = blocks(5, modes, **neuron)
    lowered = SIM.lower(Model(graph), x, Options())
    integers = run(lowered.integer_graph, x).values
    spikes = run(lowered.spike_graph, x).values
    done = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    for piece in lowered.mapped.pieces:
        assert integers[piece.name].any(), f"{piece.name} is silent"
        assert np.array_equal(spikes[piece.name], integers[piece.name]), piece.name
        assert np.array_equal(done.counts[piece.name], integers[piece.name]), piece.name


@pytest.mark.parametrize("modes", [MODES[0], MODES[3]], ids="-".join)
def test_an_artifact_holds_the_gates_and_verifies(modes: Any, tmp_path: Path) -> None:
    graph, x = blocks(6, modes)
    api.compile(Model(graph, calibration=x), target="sim", out=tmp_path / "out")
    np.savez(tmp_path / "x.npz", x=x)
    result = api.verify(tmp_path / "out", tmp_path / "x.npz")
    assert result.equivalent


def test_the_text_form_keeps_gates() -> None:
    graph, x = blocks(7, MODES[3])
    lowered = SIM.lower(Model(graph), x, Options())
    for one in (graph, lowered.integer_graph, lowered.spike_graph):
        assert parse(to_text(one), one.constants()) == one


# ---- what a closed site costs -------------------------------------------------------------------------


def counted(graph: Graph, x: Any) -> Any:
    lowered = SIM.lower(Model(graph), x, Options())
    return lowered, SIMULATOR.execute(lowered.mapped, lowered.tensors, x)


@pytest.mark.parametrize("mode", ["mask", "centre"])
def test_a_closed_site_costs_nothing(mode: str) -> None:
    """Every count of the engine against the definition, spelled out site by site."""
    net = Net(8, levels=2)
    last = net.fire(net.conv("x", 4, stride=2, mode=mode))
    x = net.inputs()
    lowered, done = counted(net.graph(last), x)
    (piece,) = lowered.mapped.pieces
    kept = open_sites(net.mask, (3, 3), (2, 2), (1, 1))
    synapses = events = 0
    for counts in x[:, 0]:
        for channel, y, x_ in np.argwhere(counts):
            reached = 0
            for oy, ox in np.argwhere(kept):
                opened = mode == "mask" or counts[:, 2 * oy, 2 * ox].any()
                reached += opened and abs(y - 2 * oy) <= 1 and abs(x_ - 2 * ox) <= 1
            synapses += 4 * int(reached) * int(counts[channel, y, x_])
            events += bool(reached) * int(counts[channel, y, x_])
    (layer,) = done.layers
    assert 0 < kept.sum() < kept.size
    assert (layer.synaptic_operations, layer.unit_operations, layer.events) == (synapses, synapses, events)
    per_window = 1 + min(piece.cell.max_spikes, lowered.mapped.micro_steps)
    assert layer.neuron_updates == len(x) * 4 * int(kept.sum()) * per_window
    assert not done.counts[piece.name][..., ~kept].any()


def test_events_on_masked_sites_are_none_where_a_plain_convolution_has_many() -> None:
    masked, x = blocks(5)
    plain = masked.without({n.name: n.inputs[0] for n in masked.nodes if isinstance(n, SiteGate)})
    gates = {n.name: n for n in masked.nodes if isinstance(n, SiteGate)}
    closed = {n.name: ~gates[n.inputs[0]].bitmap for n in masked.nodes if isinstance(n, Neuron)}
    found = []
    for graph in (masked, plain):
        _, done = counted(graph, x)
        found.append(sum(int(done.counts[name][..., sites].sum()) for name, sites in closed.items()))
    assert found[0] == 0
    assert found[1] > 300


def test_cost_counts_open_sites() -> None:
    net = Net(8, levels=2)
    first = net.fire(net.conv("x", 4))
    graph, x = net.graph(first), net.inputs()
    lowered, done = counted(graph, x)
    (piece,) = lowered.mapped.pieces
    kept = int(net.mask.sum())
    cost = SIMULATOR.estimate(lowered.mapped, done, SIM.chip, 0, lowered.tensors)
    assert cost.layers[0].operations.neurons == 4 * kept
    (layer,) = measure(graph, Dataset(x)).layers
    mean = x.sum() / (len(x) * 2 * 56)
    done = work(measure(graph, Dataset(x)), layer, Conventions())
    assert done.acs_paper == pytest.approx(mean * 4 * kept * 2 * 9)
    assert layer.unit_events == cost.operations.acs
    conv = next(n for n in graph.nodes if isinstance(n, Conv2d))
    by_name = {c.name: c.operations for c in node_costs(graph)}
    assert by_name[conv.name] == 4 * kept * 2 * 9
    assert piece.sites == piece.connections[0].sites.bitmap  # type: ignore[union-attr]
    assert lowered.tensors[piece.sites].nbytes == 7  # one bit each of 7 × 8 sites


# ---- planted faults ------------------------------------------------------------------------------------


def test_a_mask_that_is_shifted_by_one_changes_counts() -> None:
    graph, x = blocks(5)
    shifted = graph.rewrite(
        lambda n: (
            replace(n, sites=Const(np.roll(n.sites.array, 1, axis=1))) if isinstance(n, SiteGate) else None
        )
    )
    right = SIM.lower(Model(graph), x, Options())
    wrong = SIM.lower(Model(shifted), x, Options())
    counts = run(right.integer_graph, x).values
    faulty = SIMULATOR.execute(wrong.mapped, wrong.tensors, x).counts
    assert all((faulty[p.name] != counts[p.name]).any() for p in right.mapped.pieces)


def test_a_centre_that_is_asked_in_each_micro_step_changes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of latched over the window: the comparison with the integers finds it."""
    graph, x = blocks(5, ("centre",) * 4)
    lowered = SIM.lower(Model(graph), x, Options())
    integers = run(lowered.integer_graph, x).values

    def wrong() -> int:
        spikes = run(lowered.spike_graph, x).values
        return sum(int((spikes[p.name] != integers[p.name]).sum()) for p in lowered.mapped.pieces)

    assert wrong() == 0

    def unlatched(self: Windows, node: CentreGate, env: Any) -> Any:
        sums, spikes = (env[name] for name in node.inputs)
        return latched(node, sums, fired_centres(node, spikes), self.k % self.graph.micro_steps == 0)

    monkeypatch.setattr(Windows, "_gate", unlatched)
    assert wrong() > 50


def forged(lowered: Any, change: Any) -> Any:
    """The first piece's first connection with other sites."""
    piece = lowered.mapped.pieces[0]
    (first, *others) = piece.connections
    made = first.model_copy(update={"sites": change(first.sites)})
    piece = piece.model_copy(update={"connections": (made, *others)})
    return lowered.mapped.model_copy(update={"pieces": (piece, *lowered.mapped.pieces[1:])})


@pytest.mark.parametrize(("change", "what"), [
    (lambda s: s.model_copy(update={"centre": ""}), "mapping of {}: what an opened site gets does not fit"),
    (lambda s: s.model_copy(update={"centre": "", "bias": None}), "the synapses of {} are others than in spike.snn"),
    (lambda s: s.model_copy(update={"bias": None}), "the synapses of {} are others than in spike.snn"),
    (lambda s: None, "mapping of {}: synapses end at sites without neurons"),
])  # fmt: skip
def test_an_artifact_whose_gates_were_changed_is_refused(tmp_path: Path, change: Any, what: str) -> None:
    graph, x = blocks(6, ("centre",) * 4)
    made = api.compile(Model(graph, calibration=x), target="sim", out=tmp_path / "out")
    assert part_problems(made) == ()
    broken = replace(made, mapped=forged(made, change))
    name = made.mapped.pieces[0].name
    assert [p.what for p in part_problems(broken)] == [what.format(name)]


# ---- passes ---------------------------------------------------------------------------------------------


def norm(name: str, reads: str, channels: int, rng: np.random.Generator) -> BatchNorm:
    gamma, beta, mean = (Const(rng.normal(size=channels).astype(np.float32)) for _ in range(3))
    return BatchNorm(
        name=name,
        inputs=(reads,),
        gamma=gamma,
        beta=beta,
        mean=mean,
        var=Const(np.ones(channels, np.float32)),
        eps=0.1,
    )


@pytest.mark.parametrize("mode", ["mask", "centre"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_norm_between_convolution_and_gate_is_folded(mode: str, inner: bool) -> None:
    """With a gate in front of it, too: then one behind it closes as much."""
    net = Net(3)
    gate = net.conv("x", 4, mode=mode)
    outer = net.nodes.pop()
    assert isinstance(outer, SiteGate)
    if inner:
        net.nodes.append(replace(outer, name="inner"))
    net.nodes.append(norm("bn", net.nodes[-1].name, 4, net.rng))
    net.nodes.append(replace(outer, inputs=("bn", *outer.inputs[1:])))
    graph = net.graph(net.fire(gate))
    folded = FoldConvBN().run(graph)
    assert [n.kind for n in folded.nodes] == ["input", "conv2d", outer.kind, "neuron", "output"]
    x = net.inputs()
    assert compare_layers(graph, folded, x).worst <= 1


def test_gates_that_close_nothing_go() -> None:
    net = Net(3)
    net.mask[:] = True
    graph = net.graph(net.fire(net.conv("x", 4)))
    assert not any(isinstance(n, SiteGate) for n in FoldConvBN().run(graph).nodes)
    plain = Ungate().run(graph)
    assert [n.kind for n in plain.nodes] == ["input", "conv2d", "neuron", "output"]
    x = net.inputs()
    assert np.array_equal(run(plain, x).result, run(graph, x).result)


def test_a_convolution_that_needs_its_gate_is_not_made_plain() -> None:
    net = Net(3, size=(9, 9))
    net.mask[:] = True
    first = net.fire(net.conv("x", 4, kernel=2, padding=(1, 1)))
    graph = net.graph(net.fire(net.conv(first, 3, mode="centre")))
    with pytest.raises(ModelError) as caught:
        Ungate().run(graph)
    assert str(caught.value) == (
        "[SNNC-M025] %c1.gate: without its gate the convolution computes something else, got 19 of 100 sites closed, "
        "limit 0. Try no mask, and odd kernels padded by half.\n"
        "[SNNC-M025] %c4.gate: without its gate the convolution computes something else, got sites that spikes "
        "open. Try mode='mask'."
    )


def test_weights_are_not_composed_across_a_gate() -> None:
    net = Net(3)
    gate = net.conv("x", 4)
    second = Conv2d(name="next", inputs=(gate,), weight=weights(net.rng, 3, 4, 1, 1))
    net.nodes.append(second)
    graph, x = net.graph(net.fire(net.kept(net.mask))), net.inputs()
    assert is_gated(graph, "c1")
    assert not is_gated(graph, gate)
    lowered = SIM.lower(Model(graph), x, Options())
    kept = {n.name: n.weight.shape for n in lowered.integer_graph.nodes if isinstance(n, Conv2d)}
    assert (kept["c1"], kept["next"]) == ((4, 2, 3, 3), (3, 4, 1, 1))
    done = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    integers = run(lowered.integer_graph, x).values
    assert all(np.array_equal(done.counts[p.name], integers[p.name]) for p in lowered.mapped.pieces)


# ---- refusals -------------------------------------------------------------------------------------------


def test_a_neuron_that_acts_without_input_cannot_be_left_out() -> None:
    net = Net(3)
    graph = net.graph(net.fire(net.conv("x", 4), bias=2.0))
    with pytest.raises(ModelError) as caught:
        SIM.lower(Model(graph), net.inputs(), Options())
    assert str(caught.value) == (
        "[SNNC-M025] %n3: a mask closes sites whose neurons act without input, got 2 without input. "
        "Try no bias and no initial potential of the neurons' own."
    )


def test_a_gate_of_another_size() -> None:
    net = Net(3)
    net.conv("x", 4)
    net.nodes[-1] = replace(net.nodes[-1], sites=Const(np.ones((8, 7), np.uint8)))  # type: ignore[call-arg]
    with pytest.raises(ModelError) as caught:
        net.graph(net.nodes[-1].name)
    assert str(caught.value) == (
        "[SNNC-M010] %c1.gate: site_gate: mask has another size than the map, got (8, 7), limit (7, 8)."
    )


def test_a_free_schedule_has_no_windows_for_centres() -> None:
    net = Net(3)
    graph = net.graph(net.fire(net.conv("x", 4, mode="centre")))
    with pytest.raises(ModelError) as caught:
        SIM.lower(Model(graph), net.inputs(), Options("free"))
    assert str(caught.value) == (
        "[SNNC-M024] %c1.gate: spikes of a whole window open its sites, which `free` has not. Try --schedule exact."
    )


def test_masks_run_freely() -> None:
    """The event-driven engine against the definition of free-running spike graphs."""
    net = Net(3, size=(4, 5))
    graph, x = net.graph(net.fire(net.conv(net.fire(net.conv("x", 2)), 2))), net.inputs(4)
    lowered = SIM.lower(Model(graph), x, Options("free"))
    done = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    spikes = run(lowered.spike_graph, x).values
    assert all(np.array_equal(done.counts[p.name], spikes[p.name]) for p in lowered.mapped.pieces)
    assert all(spikes[p.name].any() for p in lowered.mapped.pieces)


@pytest.mark.parametrize("target", [LOIHI2, SPECK2F, TIANJIC], ids=lambda t: t.name)
def test_chips_refuse_a_masked_network(target: Any) -> None:
    graph, x = blocks(5)
    with pytest.raises(CapacityError) as caught:
        target.lower(Model(graph), x, Options())
    mine = [
        p for p in caught.value.problems if p.what == "the chip's layers work at every site of their maps"
    ]
    assert len(mine) == 4
    assert {p.code for p in mine} == {"SNNC-C012"}


def test_a_gate_that_is_not_behind_its_convolution() -> None:
    net = Net(3)
    gate = net.conv("x", 4, mode="centre")
    opened = net.nodes.pop()
    net.conv("x", 4, mode="none")
    net.masks["c1"] = net.mask
    both = net.add("c1", net.nodes[-1].name)
    net.nodes.append(replace(opened, inputs=(both, "x")))
    graph = net.graph(net.fire(gate))
    with pytest.raises(ModelError) as caught:
        SIM.lower(Model(graph), net.inputs(), Options())
    assert str(caught.value) == (
        "[SNNC-M022] %c1.gate: a gate that spikes open stands right behind the convolution whose centres they are, "
        "got %a3 is add."
    )


# ---- random networks --------------------------------------------------------------------------------------


@st.composite
def random_nets(draw: st.DrawFn) -> tuple[Graph, Any]:
    steps = draw(st.integers(1, 3))
    neuron: dict[str, Any] = {"max_spikes": draw(st.integers(1, 4))}
    if steps > 1:
        neuron["decay"] = draw(st.sampled_from([0.0, 0.5, 1.0]))
    size = (draw(st.integers(4, 8)), draw(st.integers(4, 8)))
    net = Net(draw(st.integers(0, 10**6)), size, draw(st.integers(1, 3)), steps, **neuron)
    last = "x"
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        groups = draw(st.sampled_from([1, 2]))
        pads = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        if min(net.shape(last)[1:]) + 2 * min(pads) < kernel:
            break
        mode = draw(st.sampled_from(["mask", "centre", "none"]))
        last = net.fire(net.conv(last, 4, kernel, stride, mode, padding=pads, groups=groups))
        if draw(st.booleans()):
            last = net.fire(net.add(net.conv(last, 4, mode=mode), net.conv(last, 4, 1, mode="mask")))
    return net.graph(last), net.inputs(5)


def lowered_or_refused(graph: Graph, x: Any) -> Any:
    """None where branches under different masks have no common bias, or a threshold vanishes."""
    try:
        return SIM.lower(Model(graph), x, Options())
    except ModelError as error:
        if {p.code for p in error.problems} <= {"SNNC-M020", "SNNC-M014"}:
            return None
        raise


@settings(max_examples=40, deadline=None)
@given(random_nets())
def test_random_masked_networks_are_their_integers(found: tuple[Graph, Any]) -> None:
    graph, x = found
    lowered = lowered_or_refused(graph, x)
    assume(lowered is not None)
    assert parse(to_text(lowered.spike_graph), lowered.spike_graph.constants()) == lowered.spike_graph
    integers, spikes = run(lowered.integer_graph, x).values, run(lowered.spike_graph, x).values
    done = SIMULATOR.execute(lowered.mapped, lowered.tensors, x)
    for piece in lowered.mapped.pieces:
        assert np.array_equal(spikes[piece.name], integers[piece.name])
        assert np.array_equal(done.counts[piece.name], integers[piece.name])
    assert not list(violations(lowered.mapped, lowered.tensors, SIM.chip, None))
    for sums in layer_sums(lowered.integer_graph, x):
        low, high = sums.all_inputs
        assert low <= sums.observed[0] <= sums.observed[1] <= high
