"""What is recorded of passes, and the rule that float passes keep, on figures worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from cells import integer_neuron
from snncc.analysis.layerwise import TOLERANCE, compare_layers
from snncc.errors import InternalError
from snncc.ir import (
    Const,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Reset,
    Rounding,
    Scale,
)
from snncc.passes.base import Semantics
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_scale import FoldScale
from snncc.passes.recorder import Recorder
from snncc.passes.split_host import SplitHost


@dataclass(frozen=True)
class Step:
    """Stands for a pass that ran."""

    preserves: Semantics
    name: str = "a-step"
    strength: int = 3

    def run(self, graph: Graph) -> Graph:
        return graph


EXACT, APPROXIMATE = Step(Semantics.EXACT), Step(Semantics.APPROXIMATE)


def real(*rows: Any) -> Const:
    return Const(np.array(rows, np.float32))


def graph(*nodes: Node, levels: int = 9, size: int = 2, steps: int = 1, **end: Any) -> Graph:
    output = Output(name="y", inputs=(nodes[-1].name,), **{"decode": Decode.COUNT, **end})
    return Graph("g", Family.FLOAT, (Input(name="x", shape=(size,), levels=levels), *nodes, output), steps)


def counter(threshold: float = 1.0, most: int = 9, **neuron: Any) -> Graph:
    """Two inputs, each counted by a neuron of its own."""
    return graph(
        Linear(name="c", inputs=("x",), weight=real([1, 0], [0, 1])),
        Neuron(name="n", inputs=("c",), threshold=threshold, max_spikes=most, **neuron),
    )


def inputs(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs).reshape(len(pairs), 1, 2)


# ---- the recorder -------------------------------------------------------------------------------

X = inputs((1, 0), (2, 1), (3, 4), (5, 6))


def test_an_approximate_pass_is_measured_neuron_by_neuron_and_in_decisions() -> None:
    """⌊x/2⌋ in place of x: all but one of eight counts change; of (1, 0) → (0, 0) and (2, 1) → (1, 0)."""
    recorder = Recorder(X, labels=np.array([0, 0, 1, 0]))
    recorder.observe(APPROXIMATE, counter(), counter(threshold=2.0))
    (effect,) = recorder.approximations
    assert (effect.step, effect.samples, effect.layers) == ("a-step", 4, {"n": (7, 8)})
    assert effect.decisions_changed == 0
    assert (effect.accuracy_before, effect.accuracy_after) == (0.75, 0.75)
    (record,) = recorder.records
    assert (record.spec, record.preserves) == (
        "a-step{preserves=approximate, name=a-step, strength=3}",
        "approximate",
    )
    assert record.note == (
        "7 of 8 spike counts and 0 of 4 decisions change on the calibration inputs; accuracy there 75.00% to 75.00%"
    )


def test_decisions_that_move_are_counted_and_no_labels_mean_no_accuracy() -> None:
    """Clipped at 3, (3, 4) and (5, 6) are draws, which the first class wins."""
    recorder = Recorder(X)
    recorder.observe(APPROXIMATE, counter(), counter(most=3))
    (effect,) = recorder.approximations
    assert (effect.layers, effect.decisions_changed) == ({"n": (3, 8)}, 2)
    assert (effect.accuracy_before, effect.accuracy_after) == (None, None)
    assert recorder.records[0].note == (
        "3 of 8 spike counts and 2 of 4 decisions change on the calibration inputs"
    )


def test_counts_are_compared_in_whole_units() -> None:
    """A neuron that sends quarters and one that sends ones count the same."""
    recorder = Recorder(X)
    recorder.observe(APPROXIMATE, counter(output_scale=0.25), counter())
    assert recorder.approximations[0].layers == {"n": (0, 8)}


def test_a_result_of_real_values_decides_nothing() -> None:
    recorder = Recorder(X)
    value = graph(Linear(name="c", inputs=("x",), weight=real([1, 0])), decode=Decode.VALUE)
    recorder.observe(APPROXIMATE, value, value)
    assert recorder.approximations[0].decisions_changed == -1


def test_exact_passes_are_taken_at_their_word_unless_each_is_verified() -> None:
    recorder = Recorder(X)
    recorder.observe(EXACT, counter(), counter(threshold=2.0))
    assert [(r.preserves, r.note) for r in recorder.records] == [("exact", "")]
    assert recorder.approximations == []


def integers(threshold: int = 1, *, twice: bool = False, most: int = 9) -> Graph:
    weight = Const(np.eye(2, dtype=np.int8))
    nodes: list[Node] = [
        Input(name="x", shape=(2,), levels=9),
        Linear(name="c", inputs=("x",), weight=weight),
        integer_neuron("n", "c", threshold=threshold, max_spikes=most),
        Linear(name="d", inputs=("n",), weight=Const(weight.array * np.int8(1 + twice))),
        integer_neuron("m", "d", threshold=1 + twice, max_spikes=most),
        Output(name="y", inputs=("m",), scale=2.0 if twice else 1.0),
    ]
    return Graph("g", Family.INTEGER, tuple(nodes))


@pytest.mark.parametrize(("after", "got"), [
    (integers(2), "14 counts and the result"),
    (integers(most=4), "4 counts and the result"),
    (integers(twice=True), "0 counts and the result"),
    (replace(integers(), nodes=(*integers().nodes[:-1], Output(name="y", inputs=("n",), scale=0.5))), "0 counts and the result"),
])  # fmt: skip
def test_an_exact_pass_on_integers_may_change_no_count_and_no_result(after: Graph, got: str) -> None:
    with pytest.raises(InternalError) as error:
        Recorder(X, verify_each=True).observe(EXACT, integers(), after)
    assert str(error.value) == (
        f"[SNNC-X001] pass a-step: declares itself exact but changed values, got {got}."
    )


def test_a_result_of_another_shape_is_a_change() -> None:
    wide = graph(Linear(name="c", inputs=("x",), weight=real([1, 0], [0, 1])), decode=Decode.VALUE)
    narrow = graph(Linear(name="c", inputs=("x",), weight=real([1, 0])), decode=Decode.VALUE)
    with pytest.raises(InternalError) as error:
        Recorder(X, verify_each=True).observe(EXACT, wide, narrow)
    assert "changed values, got 0 counts and the result." in str(error.value)


def test_what_was_verified_is_noted() -> None:
    recorder = Recorder(X, verify_each=True)
    recorder.observe(EXACT, integers(), integers())
    assert recorder.records[0].note == "counts and results equal on the calibration inputs"
    recorder.observe(EXACT, counter(), counter())
    assert recorder.records[1].note == (
        "float rule kept (worst 0 of the bound, 0 spikes flipped); results differ by 0 on the calibration inputs"
    )


def test_spikes_of_a_schedule_that_promises_nothing_are_not_measured_here() -> None:
    recorder = Recorder(X)
    recorder.observe(APPROXIMATE, integers(), ExpandSFA().run(integers()))
    assert (recorder.approximations, recorder.records[0].note) == ([], "")


# ---- the float rule -----------------------------------------------------------------------------


def scaled(factor: float, **neuron: Any) -> Graph:
    """One neuron that reads 3x₁ - x₂, all weights times a factor."""
    weight = Const(np.array([[3.0 * factor, -1.0 * factor]], np.float64).astype(np.float32))
    return graph(
        Linear(name="c", inputs=("x",), weight=weight),
        Neuron(name="n", inputs=("c",), threshold=16.0, max_spikes=9, **neuron),
    )


def test_drives_are_held_against_the_sum_of_absolute_products() -> None:
    """|Δ| = 2^-12·(3·4 - 2) over 1e-5·(3·4 + 2) of the changed weights: terms do not cancel in the bound."""
    report = compare_layers(scaled(1), scaled(1 + 2**-12), inputs((4, 2)))
    (layer,) = report.layers
    assert layer.worst == pytest.approx(2**-12 * 10 / (TOLERANCE * 14 * (1 + 2**-12)), rel=1e-6)
    assert (layer.flips, layer.violations, report.worst, report.flips) == (0, 0, layer.worst, 0)


def test_equal_graphs_differ_in_nothing() -> None:
    report = compare_layers(scaled(1), scaled(1), inputs((4, 2), (0, 0)))
    assert [(d.name, d.worst, d.flips, d.violations) for d in report.layers] == [("n", 0.0, 0, 0)]


def test_a_spike_on_the_threshold_may_flip_and_one_beside_it_may_not() -> None:
    """3·6 - 2 = 16 is the threshold; a weight a millionth smaller misses it, within the bound."""
    near = compare_layers(scaled(1), scaled(1 - 2**-20), inputs((6, 2)))
    assert (near.flips, near.layers[0].violations) == (1, 0)
    assert near.worst < 1
    far = compare_layers(scaled(1), scaled(0.5), inputs((7, 2)))
    assert (far.flips, far.layers[0].violations, far.worst) == (1, 1, np.inf)


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_EVEN])
def test_where_counts_round_a_threshold_lies_half_way(rounding: Rounding) -> None:
    """3·3 - 1 = 8 is half a threshold."""
    before, after = scaled(1, rounding=rounding), scaled(1 - 2**-20, rounding=rounding)
    flipped = compare_layers(before, after, inputs((3, 1)))
    assert flipped.flips == (1 if rounding is Rounding.HALF_UP else 0)
    assert flipped.layers[0].violations == 0
    moved = compare_layers(scaled(1, rounding=rounding), scaled(0.25, rounding=rounding), inputs((6, 2)))
    assert (moved.flips, moved.worst) == (1, np.inf)


def test_with_memory_the_first_flip_of_a_neuron_is_judged() -> None:
    """An integrator that misses its threshold by rounding fires a timestep later: two flips, no violation."""
    memory = {"decay": 1.0, "reset": Reset.VALUE}

    def over_time(factor: float) -> Graph:
        return replace(scaled(factor, **memory), steps=3)

    x = np.array([[6, 2], [1, 0], [0, 0]]).reshape(1, 3, 2)
    report = compare_layers(over_time(1), over_time(1 - 2**-20), x)
    assert (report.flips, report.layers[0].violations) == (2, 0)


def test_a_readout_is_held_to_its_drive_alone() -> None:
    def readout(factor: float) -> Graph:
        nodes = (
            Linear(name="c", inputs=("x",), weight=real([3.0 * factor, -factor])),
            Neuron(name="n", inputs=("c",), max_spikes=0),
        )
        return graph(*nodes, decode=Decode.MEMBRANE)

    (layer,) = compare_layers(readout(1), readout(1 + 2**-12), inputs((4, 2))).layers
    assert (layer.worst > 1, layer.flips, layer.violations) == (True, 0, 0)


def normalised() -> Graph:
    return graph(
        Linear(name="b", inputs=("x",), weight=real([1, 0], [0, 1])),
        Neuron(name="a", inputs=("b",), max_spikes=4, output_scale=0.25),
        Scale(name="s", inputs=("a",), factor=2.0),
        Linear(name="c", inputs=("s",), weight=real([1.0, -0.5])),
        Neuron(name="n", inputs=("c",), max_spikes=3, threshold=0.5),
    )


def test_units_that_a_pass_moves_are_seen_through() -> None:
    x = inputs((4, 1), (2, 2), (1, 3), (9, 0))
    folded = FoldScale().run(normalised())
    assert folded.types["a"] != normalised().types["a"]
    report = compare_layers(normalised(), folded, x)
    assert [(d.name, d.worst, d.flips) for d in report.layers] == [("a", 0.0, 0), ("n", 0.0, 0)]
    heavier = folded.by_name["c"]
    assert isinstance(heavier, Linear)
    heavier = replace(heavier, weight=Const(heavier.weight.array * np.float32(1.01)))
    broken = folded.rewrite(lambda n: heavier if n.name == "c" else None)
    assert compare_layers(normalised(), broken, x).worst > 100


def test_a_host_region_must_deliver_the_very_spikes() -> None:
    nodes = (
        Linear(name="c", inputs=("x",), weight=real([1.0, 2.0])),
        Neuron(name="e", inputs=("c",), max_spikes=9),
        Linear(name="d", inputs=("e",), weight=real([1.0])),
        Neuron(name="n", inputs=("d",)),
    )
    before = graph(*nodes, levels=0)
    x = np.array([[0.5, 1.0], [2.0, 0.25]], np.float32).reshape(2, 1, 2)
    split = SplitHost().run(before)
    report = compare_layers(before, split, x)
    assert [(d.name, d.flips) for d in report.layers] == [("e", 0), ("n", 0)]
    other = SplitHost().run(before.rewrite(lambda n: replace(n, threshold=2.0) if n.name == "e" else None))
    assert compare_layers(before, other, x).layers[0].flips == 2
