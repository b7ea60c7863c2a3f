"""Maxima of counts and of currents, from the float graph to the simulator, and the faults that must show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snncc import simulation
from snncc.compilation import Lowered, Options
from snncc.errors import CapacityError, ModelError
from snncc.ir import (
    Add,
    Const,
    Conv2d,
    Delay,
    Family,
    Graph,
    Input,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Rounding,
)
from snncc.ir.evaluation import evaluate
from snncc.ir.interp import run
from snncc.ir.layers import layers_of
from snncc.mapping.check import NOTHING_MORE, violations
from snncc.mapping.partition import Partition
from snncc.model import Model
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.pool_behind import PoolBehind
from snncc_sim.engine import execute
from snncc_sim.target import SIM, TIANJIC

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    {"kernel": (3, 2), "stride": (1, 3), "padding": (1, 0)},
    {"kernel": (2, 3), "stride": (2, 1), "dilation": (3, 2)},
]


def _conv(name: str, reads: str, out: int, inner: int, seed: int = 0) -> Conv2d:
    rng = np.random.default_rng([seed, out, inner])
    weight = Const(rng.normal(0.05, 0.5, (out, inner, 3, 3)).astype(np.float32))
    return Conv2d(
        name=name, inputs=(reads,), weight=weight, bias=Const(rng.normal(0.2, 0.3, out).astype(np.float32)),
        padding=(1, 1),
    )  # fmt: skip


def _graph(*nodes: Node, levels: int = 1, steps: int = 1) -> Graph:
    x = Input(name="x", shape=(2, 7, 9), levels=levels)
    return Graph("pools", Family.FLOAT, (x, *nodes, Output(name="o", inputs=(nodes[-1].name,))), steps)


def _counts(d: int, steps: int, geometry: dict[str, Any]) -> Graph:
    """A maximum of counts up to ``d``, one of the input and one that stands beside a deeper branch."""
    neuron: dict[str, Any] = {"max_spikes": d, "rounding": Rounding.HALF_EVEN, "output_scale": 1 / d}
    if steps > 1:
        neuron |= {"decay": 0.5, "rounding": Rounding.FLOOR}
    return _graph(
        MaxPool2d(name="first", inputs=("x",), kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
        _conv("c0", "first", 3, 2),
        Neuron(name="s0", inputs=("c0",), **neuron),
        MaxPool2d(name="max", inputs=("s0",), **geometry),
        _conv("c1", "max", 3, 3),
        Neuron(name="s1", inputs=("c1",), **neuron),
        Add(name="both", inputs=("max", "s1")),
        MaxPool2d(name="late", inputs=("both",), kernel=(2, 2), stride=(1, 1)),
        _conv("c2", "late", 2, 3),
        Neuron(name="s2", inputs=("c2",), **neuron),
        levels=d,
        steps=steps,
    )


def _currents(steps: int, geometry: dict[str, Any], decay: float = 0.5) -> Graph:
    """CML: a maximum of currents in front of neurons, with a stream that reads it too."""
    return _graph(
        _conv("c0", "x", 3, 2),
        Neuron(name="s0", inputs=("c0",), decay=decay),
        _conv("c1", "s0", 3, 3, seed=1),
        MaxPool2d(name="max", inputs=("c1",), **geometry),
        Neuron(name="s1", inputs=("max",), decay=decay, threshold=0.8),
        _conv("c2", "s1", 3, 3, seed=2),
        Add(name="stream", inputs=("max", "c2")),
        Neuron(name="s2", inputs=("stream",), decay=decay),
        steps=steps,
    )


def _inputs(graph: Graph, n: int = 12) -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (n, graph.steps, *graph.input.shape)
    return rng.integers(0, graph.input.levels + 1, shape) * (rng.random(shape) < 0.6)


def _same_everywhere(low: Lowered, x: np.ndarray) -> dict[str, np.ndarray]:
    """Counts of every neuron, which integers, spikes and the engine agree on."""
    whole = run(low.integer_graph, x)
    spikes = run(low.spike_graph, x)
    done = execute(low.mapped, low.tensors, x)
    for name, counts in whole.values.items():
        assert np.array_equal(spikes.values[name], counts), name
        if name in done.counts:
            assert np.array_equal(done.counts[name], counts), name
    assert np.array_equal(spikes.result, whole.result)
    return whole.values


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_maximum_of_counts_is_exact_down_to_the_engine(
    geometry: dict[str, Any], d: int, steps: int
) -> None:
    graph = _counts(d, steps, geometry)
    x = _inputs(graph)
    low = SIM.lower(Model(graph), x, Options())
    counts = _same_everywhere(low, x)
    pool = MaxPool2d(name="p", **geometry)
    for t in range(steps):
        assert np.array_equal(counts["max"][:, t], evaluate(pool, [counts["s0"][:, t]]))
    assert counts["max"].max() == d


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_maximum_of_currents_is_exact_down_to_the_engine(geometry: dict[str, Any], steps: int) -> None:
    graph = _currents(steps, geometry)
    x = _inputs(graph)
    low = SIM.lower(Model(graph), x, Options())
    counts = _same_everywhere(low, x)
    assert counts["c1.to-max"].min() < 0 < counts["c1.to-max"].max()
    assert 0 < counts["s1"].mean() < 1
    assert any("the maximum is taken of sums" in note for note in low.certificate.notes)


def test_a_maximum_below_zero_arrives_below_zero() -> None:
    """Padding never wins, nor does silence where nothing is silent."""
    nodes = (
        Conv2d(name="c", inputs=("x",), weight=Const(np.full((2, 1, 1, 1), -3, np.float32)), groups=2),
        MaxPool2d(name="max", inputs=("c",), kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    )
    graph = _graph(*nodes, levels=2)
    x = _inputs(graph)
    low = SIM.lower(Model(graph), x, Options())
    _same_everywhere(low, x)
    assert run(low.integer_graph, x).result.max() == 0 > run(low.integer_graph, x).result.min()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_maximum_of_currents_moves_behind_neurons_without_memory_alone(decay: float, steps: int) -> None:
    graph = _graph(
        _conv("c", "x", 3, 2),
        MaxPool2d(name="max", inputs=("c",), **GEOMETRIES[1]),
        Neuron(name="s", inputs=("max",), decay=decay, max_spikes=3, threshold=0.4),
        levels=2,
        steps=steps,
    )
    moved = PoolBehind().run(graph)
    x = _inputs(graph).astype(np.float32)
    assert np.array_equal(run(moved, x, ("s",)).values["s"], run(graph, x, ("s",)).values["s"])
    assert isinstance(moved.by_name["s"], MaxPool2d) == (decay == 0 or steps == 1)
    forced = PoolBehind().run(replace(graph, steps=1))
    if decay and steps > 1:  # what it would compute there
        wrong = run(replace(forced, steps=steps), x, ("s",)).values["s"]
        assert not np.array_equal(wrong, run(graph, x, ("s",)).values["s"])


def test_a_current_that_others_read_too_is_not_moved() -> None:
    graph = _currents(1, GEOMETRIES[0], decay=0.0)
    assert PoolBehind().run(graph) == graph


def test_a_layer_ends_at_maxima_of_spikes_and_passes_through_those_of_currents() -> None:
    whole = SIM.lower(Model(_currents(2, GEOMETRIES[0])), _inputs(_currents(2, GEOMETRIES[0])), Options())
    (layer,) = [one for one in layers_of(whole.integer_graph.nodes) if one.pools]
    assert [pool.name for pool in layer.pools] == ["max"]
    assert layer.sources == ("c1.to-max",)
    captured = _currents(2, GEOMETRIES[0]).layers["s1"]
    assert (captured.pools, captured.sources) == ((), ("s0",))


# ---- what a chip denies, and faults --------------------------------------------------------------------


def test_a_chip_that_takes_no_maxima_says_so() -> None:
    graph = _counts(2, 1, GEOMETRIES[0])
    with pytest.raises(CapacityError) as error:
        TIANJIC.lower(Model(graph), _inputs(graph), Options(partition=Partition.NONE))
    assert str(error.value.problems[0]) == (
        "%first.max on tianjic: the chip's neurons add up what they get and take no maximum of it, "
        "got a maximum of counts. Try max pooling of single spikes, behind a neuron of one spike a timestep, "
        "or --partition auto: the host computes it."
    )
    made = TIANJIC.lower(Model(graph), _inputs(graph), Options())
    assert {"first", "max"} <= {p.name for p in made.mapped.on_host} < {p.name for p in made.mapped.pieces}


def test_a_free_schedule_has_no_maxima_of_counts() -> None:
    first = MaxPool2d(name="first", inputs=("x",), **GEOMETRIES[0])
    graph = _graph(first, _conv("c", "first", 3, 2), Neuron(name="s", inputs=("c",)), levels=2)
    with pytest.raises(ModelError) as error:
        SIM.lower(Model(graph), _inputs(graph), Options(schedule="free"))
    assert str(error.value) == (
        "[SNNC-M024] %first.max: a maximum waits for whole windows, which `free` has not. Try --schedule exact."
    )


def _sum_of_two() -> tuple[Lowered, np.ndarray]:
    """Counts 1 + 1 beside 2 + 0 under a maximum, and the same the other way round."""

    def only(channel: int) -> Const:
        return Const(np.eye(2, dtype=np.float32)[channel].reshape(1, 2, 1, 1))

    nodes = (
        Input(name="x", shape=(2, 1, 2), levels=2),
        Conv2d(name="c0", inputs=("x",), weight=only(0)),
        Neuron(name="s0", inputs=("c0",), max_spikes=2),
        Conv2d(name="c1", inputs=("x",), weight=only(1)),
        Neuron(name="s1", inputs=("c1",), max_spikes=2),
        Add(name="both", inputs=("s0", "s1")),
        MaxPool2d(name="max", inputs=("both",), kernel=(1, 2), stride=(1, 2)),
        Conv2d(name="c2", inputs=("max",), weight=Const(np.ones((1, 1, 1, 1), np.float32))),
        Output(name="o", inputs=("c2",)),
    )
    x = np.array([[[[1, 2]], [[1, 0]]], [[[2, 1]], [[0, 1]]]])[:, None]
    return SIM.lower(Model(Graph("g", Family.FLOAT, nodes)), x, Options()), x


def test_a_sum_of_trains_under_a_maximum_needs_its_relay() -> None:
    """Micro-step by micro-step the maxima of 1 + 1 and 2 + 0 are 2 and 1, of the sums it is 2."""
    low, x = _sum_of_two()
    assert _same_everywhere(low, x)["max"].ravel().tolist() == [2, 2]
    assert low.integer_graph.by_name["max.max"].inputs == ("both.to-max",)
    bare = low.integer_graph.by_name["both.summed"].inputs
    broken = low.integer_graph.rewrite(lambda n: replace(n, inputs=bare) if n.name == "max.max" else None)
    drive = run(ExpandSFA().run(broken), x).values["max"]
    assert drive.ravel().tolist() == [3, 3]


@pytest.mark.parametrize("late", [1, 2])
def test_one_source_of_a_maximum_a_micro_step_late_is_found(late: int) -> None:
    """An OR of trains that do not begin together is longer than the longest of them."""
    trains = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    assert trains.max(axis=0).sum() == 3
    shifted = np.array([trains[0], np.roll(trains[1], late)])
    assert shifted.max(axis=0).sum() == 3 + late
    low = SIM.lower(Model(_counts(2, 3, GEOMETRIES[0])), _inputs(_counts(2, 3, GEOMETRIES[0])), Options())
    x, period = _inputs(_counts(2, 3, GEOMETRIES[0])), low.spike_graph.micro_steps
    behind = low.spike_graph.rewrite(
        lambda n: replace(n, steps=n.steps + late * period) if isinstance(n, Delay) else None
    )
    good, bad = run(low.spike_graph, x).values, run(behind, x).values
    assert any(not np.array_equal(good[name], bad[name]) for name in good)


def test_windows_that_do_not_fit_their_map_are_found_in_the_mapping() -> None:
    graph = _counts(2, 1, GEOMETRIES[1])
    low = SIM.lower(Model(graph), _inputs(graph), Options())

    def broken(**change: Any) -> list[str]:
        pieces = tuple(
            p.model_copy(update={"pools": tuple(m.model_copy(update=change) for m in p.pools)})
            if p.name == "max"
            else p
            for p in low.mapped.pieces
        )
        mapped = low.mapped.model_copy(update={"pieces": pieces})
        return [str(p) for p in violations(mapped, low.tensors, low.chip, NOTHING_MORE)]

    assert broken() == []
    assert broken(stride=(3, 2)) == [
        "mapping of max: a window of maxima reaches beyond the padded input, got 10, limit 7.",
        "mapping of max: a window of maxima covers padding alone.",
    ]
    assert broken(source="nobody") == [
        "mapping of max: reads a source that does not stand before it, got nobody."
    ]
    assert broken(source="s2") == ["mapping of max: reads a source that does not stand before it, got s2."]


def test_the_checker_refuses_maxima_that_the_chip_cannot_take() -> None:
    graph = _counts(2, 1, GEOMETRIES[0])
    low = SIM.lower(Model(graph), _inputs(graph), Options())
    found = [str(p) for p in violations(low.mapped, low.tensors, TIANJIC.chip, None)]
    assert "mapping of late: takes maxima, which the chip cannot." in found


def test_events_of_maxima_are_counted_by_the_windows_that_they_are_in() -> None:
    graph = _counts(2, 1, GEOMETRIES[1])
    x = _inputs(graph)
    low = SIM.lower(Model(graph), x, Options())
    done: simulation.Activity = execute(low.mapped, low.tensors, x)
    (layer,) = [one for one in done.layers if one.name == "max"]
    counts = done.counts["s0"].sum(axis=(0, 1, 2))
    rows = [sum(0 <= y - (o * 2 - 1) < 3 for o in range(4)) for y in range(7)]
    columns = [sum(0 <= y - (o * 2 - 1) < 3 for o in range(5)) for y in range(9)]
    assert layer.events == counts.sum()
    assert layer.synaptic_operations == (counts * np.outer(rows, columns)).sum() == layer.unit_operations
    assert layer.neuron_updates == len(x) * 3 * 4 * 5 * (1 + 2)
