"""Each pass on a graph of two or three layers: the whole text after it, every number worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cells import integer_neuron
from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Const,
    Conv2d,
    Decode,
    Family,
    Graph,
    Input,
    Linear,
    Mean,
    Neuron,
    Node,
    Output,
    OverTime,
    Permute,
    Reset,
    Reshape,
    Scale,
    WindowNeuron,
)
from snncc.ir.interp import run
from snncc.ir.schedule import EXACT
from snncc.passes.base import Pass
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.distribute import Distribute
from snncc.passes.drop_clip import DropClip
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.relay import Relay
from snncc.passes.single_step import SingleStep
from snncc.passes.split_host import SplitHost
from snncc_loihi.target import LOIHI2
from snncc_speck import SPECK2F
from spelled import spelled


def real(*rows: Any) -> Const:
    return Const(np.array(rows, np.float32))


def whole(*rows: Any) -> Const:
    return Const(np.array(rows, np.int8))


def graph(*nodes: Node, shape: tuple[int, ...], levels: int = 1, steps: int = 1, **end: Any) -> Graph:
    output = Output(name="y", inputs=(nodes[-1].name,), **end)
    return Graph("g", Family.FLOAT, (Input(name="x", shape=shape, levels=levels), *nodes, output), steps)


def integers(*nodes: Node, levels: int = 3, steps: int = 1, **end: Any) -> Graph:
    output = Output(name="y", inputs=(nodes[-1].name,), **end)
    return Graph("g", Family.INTEGER, (Input(name="x", shape=(2,), levels=levels), *nodes, output), steps)


def every_input(g: Graph) -> Any:
    """All inputs of a few features and timesteps, [N, T, *shape]."""
    n, size = g.input.levels + 1, g.steps * int(np.prod(g.input.shape))
    return (np.arange(n**size)[:, None] // n ** np.arange(size) % n).reshape(-1, g.steps, *g.input.shape)


def exact(one: Pass, before: Graph) -> str:
    """The text behind a pass that must change no result of any input; of integers no count either."""
    after = one.run(before)
    x = every_input(before)
    a, b = run(before, x), run(after, x)
    np.testing.assert_array_equal(a.result, b.result)
    if before.family is Family.INTEGER:
        for name in a.values.keys() & b.values.keys():
            np.testing.assert_array_equal(a.values[name], b.values[name], err_msg=name)
    return spelled(after)


def test_a_normalisation_scales_rows_and_shifts_their_bias() -> None:
    """γ/√(σ²+ε) = 4/2 and -2/4; β - μ·that = -3/2 and 5/4."""
    norm = BatchNorm(
        name="b",
        inputs=("a",),
        gamma=real(4, -2),
        beta=real(0.5, 0.25),
        mean=real(1, 2),
        var=real(3, 15),
        eps=1.0,
    )
    linear = Linear(name="a", inputs=("x",), weight=real([1, 2], [3, -4]), bias=real(1, -1))
    assert (
        exact(FoldConvBN(), graph(linear, norm, Neuron(name="n", inputs=("b",)), shape=(2,)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %a = linear %x {weight=[[2.0,4.0],[-1.5,2.0]], bias=[0.5,1.75]} : current<2, f32>
  %n = neuron %a : spikes<2, 1>
  %y = output %n : spikes<2, 1>
}
"""
    )


def test_a_normalisation_behind_spikes_and_a_negative_scale_become_one_depthwise_layer() -> None:
    """γ/√(σ²+ε) = 2, shift -3/2, and both times -2."""
    nodes = (
        Conv2d(name="c", inputs=("x",), weight=real([[[1.0]], [[2.0]]])),
        Neuron(name="n", inputs=("c",), output_scale=0.5, max_spikes=2),
        BatchNorm(name="b", inputs=("n",), gamma=real(4), beta=real(0.5), mean=real(1), var=real(3), eps=1.0),
        Scale(name="s", inputs=("b",), factor=real(-2)),
        Neuron(name="m", inputs=("s",)),
    )
    assert (
        exact(FoldConvBN(), graph(*nodes, shape=(2, 1, 2)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2, 1, 2], levels=1} : spikes<2x1x2, 1>
  %c = conv2d %x {weight=[[[[1.0]],[[2.0]]]]} : current<1x1x2, f32>
  %n = neuron %c {max_spikes=2, output_scale=0.5} : spikes<1x1x2, 2, unit=0.5>
  %b = conv2d %n {weight=[[[[-4.0]]]], bias=[3.0]} : current<1x1x2, f32>
  %m = neuron %b : spikes<1x1x2, 1>
  %y = output %m : spikes<1x1x2, 1>
}
"""
    )


def test_a_normalisation_of_vectors_behind_spikes_passes_through_a_map() -> None:
    norm = BatchNorm(
        name="b", inputs=("x",), gamma=real(1, 3), beta=real(0, 1), mean=real(2, 0), var=real(1, 1), eps=0.0
    )
    assert (
        exact(FoldConvBN(), graph(norm, Neuron(name="n", inputs=("b",)), shape=(2,)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %b.as_map = reshape %x {shape=[2, 1, 1]} : spikes<2x1x1, 1>
  %b.affine = conv2d %b.as_map {weight=[[[[1.0]]],[[[3.0]]]], bias=[-2.0,1.0], groups=2} : current<2x1x1, f32>
  %b = reshape %b.affine {shape=[2]} : current<2, f32>
  %n = neuron %b : spikes<2, 1>
  %y = output %n : spikes<2, 1>
}
"""
    )


def scaled() -> Graph:
    """Units ¼ (normalised), 1/16 (pooled), 3/16 (scaled); then a gain of 2, a mean of two and a half."""
    return graph(
        Neuron(name="n", inputs=("x",), max_spikes=4, output_scale=0.25),
        AvgPool2d(name="p", inputs=("n",), kernel=(2, 2), stride=(2, 2)),
        Scale(name="s", inputs=("p",), factor=3.0),
        Neuron(
            name="m", inputs=("s",), threshold=1.5, gain=2.0, bias=0.75, v_init=0.375, v_min=-3.0, decay=0.5,
            reset=Reset.VALUE, reset_to=-0.75,
        ),
        Mean(name="q", inputs=("m",)),
        Linear(name="l", inputs=("q",), weight=real([8.0])),
        Scale(name="t", inputs=("l",), factor=0.5),
        shape=(1, 2, 4),
        levels=8,
    )  # fmt: skip


def test_factors_end_in_potentials_in_weights_and_in_the_result() -> None:
    """The drive of m is 2·3/16 = ⅜ of its spikes: its potentials are over that."""
    before = scaled()
    after = FoldScale().run(before)
    assert (
        spelled(after)
        == """\
snn float @g {steps=1} {
  %x = input {shape=[1, 2, 4], levels=8} : spikes<1x2x4, 8>
  %n = neuron %x {max_spikes=4} : spikes<1x2x4, 4>
  %p = sum_pool2d %n {kernel=[2, 2], stride=[2, 2]} : spikes<1x1x2, 16>
  %m = neuron %p {threshold=4.0, decay=0.5, bias=2.0, reset=value, reset_to=-2.0, v_min=-8.0, v_init=1.0} : spikes<1x1x2, 1>
  %q.sum = sum_pool2d %m {kernel=[1, 2], stride=[1, 2]} : spikes<1x1x1, 2>
  %q = reshape %q.sum {shape=[1]} : spikes<1, 2>
  %l = linear %q {weight=[[4.0]]} : current<1, f32>
  %y = output %l {scale=0.5} : current<1, f32>
}
"""
    )
    x = np.random.default_rng(0).integers(0, 9, (20, 1, 1, 2, 4))
    np.testing.assert_array_equal(run(before, x).values["m"], run(after, x).values["m"])
    np.testing.assert_array_equal(run(before, x).result, run(after, x).result)


def test_a_value_added_to_itself_is_a_factor() -> None:
    nodes = (
        Add(name="d", inputs=("x", "x")),
        Add(name="t", inputs=("d", "d", "d", "d")),
        Linear(name="l", inputs=("t",), weight=real([1.0, -2.0])),
        Neuron(name="n", inputs=("l",), output_scale=0.5),
    )
    assert (
        exact(FoldScale(), graph(*nodes, shape=(2,)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %l = linear %x {weight=[[8.0,-16.0]]} : current<1, f32>
  %n = neuron %l : spikes<1, 1>
  %y = output %n {scale=0.5} : spikes<1, 1>
}
"""
    )


def test_sums_of_equal_units_keep_theirs_and_a_mean_that_keeps_its_axes_divides() -> None:
    """Both branches count quarters; the mean over four sites makes sixteenths, which end in the weight of 32."""
    nodes = (
        Neuron(name="a", inputs=("x",), max_spikes=2, output_scale=0.25),
        Neuron(name="b", inputs=("x",), max_spikes=2, output_scale=0.25, threshold=2.0),
        Add(name="s", inputs=("a", "b")),
        Mean(name="m", inputs=("s",), keepdim=True),
        Conv2d(name="c", inputs=("m",), weight=real([[[32.0]]])),
        Neuron(name="n", inputs=("c",)),
    )
    assert (
        exact(FoldScale(), graph(*nodes, shape=(1, 2, 2), levels=3))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[1, 2, 2], levels=3} : spikes<1x2x2, 3>
  %a = neuron %x {max_spikes=2} : spikes<1x2x2, 2>
  %b = neuron %x {threshold=2.0, max_spikes=2} : spikes<1x2x2, 2>
  %s = add %a %b : spikes<1x2x2, 4>
  %m = sum_pool2d %s {kernel=[2, 2], stride=[2, 2]} : spikes<1x1x1, 16>
  %c = conv2d %m {weight=[[[[2.0]]]]} : current<1x1x1, f32>
  %n = neuron %c : spikes<1x1x1, 1>
  %y = output %n : spikes<1x1x1, 1>
}
"""
    )


def test_potentials_of_channels_are_over_the_gain_of_the_layer() -> None:
    neuron = Neuron(name="n", inputs=("x",), gain=0.5, threshold=real(2.0, 1.0), bias=real(0.25, 0.0))
    assert (
        exact(FoldScale(), graph(neuron, shape=(2,), levels=9))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=9} : spikes<2, 9>
  %n = neuron %x {threshold=[4.0,2.0], bias=[0.5,0.0], reset_to=0.0, v_init=0.0} : spikes<2, 1>
  %y = output %n : spikes<2, 1>
}
"""
    )


def test_a_readouts_gain_becomes_the_unit_of_the_result() -> None:
    """Membranes of half the drive: twice the start value, and each unit counts half."""
    neuron = Neuron(name="n", inputs=("x",), gain=0.5, v_init=0.75, max_spikes=0, decay=1.0)
    assert (
        exact(FoldScale(), graph(neuron, shape=(2,), levels=9, decode=Decode.MEMBRANE))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=9} : spikes<2, 9>
  %n = neuron %x {threshold=2.0, max_spikes=0, decay=1.0, bias=0.0, reset_to=0.0, v_init=1.5} : current<2, f32>
  %y = output %n {decode=membrane, scale=0.5} : current<2, f32>
}
"""
    )


def test_a_gain_per_channel_makes_potentials_per_channel() -> None:
    neuron = Neuron(name="n", inputs=("x",), gain=real(0.5, 4.0), threshold=2.0, v_min=real(-1.0, -8.0))
    assert (
        exact(FoldScale(), graph(neuron, shape=(2,), levels=9))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=9} : spikes<2, 9>
  %n = neuron %x {threshold=[4.0,0.5], bias=[0.0,0.0], reset_to=[0.0,0.0], v_min=[-2.0,-2.0], v_init=[0.0,0.0]} : spikes<2, 1>
  %y = output %n : spikes<2, 1>
}
"""
    )


def test_the_last_weights_become_neurons_that_never_fire_and_bare_neurons_get_weights() -> None:
    nodes = (
        Neuron(name="n", inputs=("x",), decay=0.5),
        Linear(name="l", inputs=("n",), source="net.l", weight=real([1, 2], [3, 4])),
        Permute(name="v", inputs=("l",), axes=(0,)),
    )
    sums = graph(*nodes, shape=(2,), steps=2, over_time=OverTime.MEAN)
    assert (
        exact(LowerReadout(), sums)
        == """\
snn float @g {steps=2} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %n.identity = linear %x {weight=[[1.0,0.0],[0.0,1.0]]} : current<2, f32>
  %n = neuron %n.identity {decay=0.5} : spikes<2, 1>
  %l = linear %n {source="net.l", weight=[[1.0,2.0],[3.0,4.0]]} : current<2, f32>
  %l.readout = neuron %l {source="net.l", max_spikes=0, decay=1} : current<2, f32>
  %v = permute %l.readout {axes=[0]} : current<2, f32>
  %y = output %v {decode=membrane, scale=0.5} : current<2, f32>
}
"""
    )


def test_bare_neurons_of_a_map_get_one_weight_a_channel_and_sums_over_time_keep_their_scale() -> None:
    nodes = (
        Neuron(name="n", inputs=("x",), decay=0.5),
        Reshape(name="f", inputs=("n",), shape=(6,)),
        Linear(name="l", inputs=("f",), weight=real([1, 2, 3, 4, 5, 6])),
    )
    before = graph(*nodes, shape=(2, 1, 3), steps=2, over_time=OverTime.SUM, scale=0.25)
    assert (
        exact(LowerReadout(), before)
        == """\
snn float @g {steps=2} {
  %x = input {shape=[2, 1, 3], levels=1} : spikes<2x1x3, 1>
  %n.identity = conv2d %x {weight=[[[[1.0]]],[[[1.0]]]], groups=2} : current<2x1x3, f32>
  %n = neuron %n.identity {decay=0.5} : spikes<2x1x3, 1>
  %f = reshape %n {shape=[6]} : spikes<6, 1>
  %l = linear %f {weight=[[1.0,2.0,3.0,4.0,5.0,6.0]]} : current<1, f32>
  %l.readout = neuron %l {max_spikes=0, decay=1} : current<1, f32>
  %y = output %l.readout {decode=membrane, scale=0.25} : current<1, f32>
}
"""
    )


def test_spikes_that_join_currents_get_weights_of_one() -> None:
    nodes = (
        Linear(name="l", inputs=("x",), weight=real([1, 2], [3, 4])),
        Add(name="s", inputs=("x", "l")),
        Neuron(name="n", inputs=("s",)),
    )
    assert (
        exact(LowerReadout(), graph(*nodes, shape=(2,)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %l = linear %x {weight=[[1.0,2.0],[3.0,4.0]]} : current<2, f32>
  %s.identity = linear %x {weight=[[1.0,0.0],[0.0,1.0]]} : current<2, f32>
  %s = add %s.identity %l : current<2, f32>
  %n = neuron %s : spikes<2, 1>
  %y = output %n {decode=count} : spikes<2, 1>
}
"""
    )


def test_the_stem_of_real_values_becomes_one_node_of_the_host() -> None:
    nodes = (
        Linear(name="a", inputs=("x",), weight=real([1, 2], [3, 4])),
        Neuron(name="e", inputs=("a",), source="net.e", decay=0.5),
        Linear(name="b", inputs=("e",), weight=real([1, -1])),
        Neuron(name="n", inputs=("b",)),
    )
    assert (
        spelled(SplitHost().run(graph(*nodes, shape=(2,), levels=0, steps=2)))
        == """\
snn float @g {steps=2} {
  %x = input {shape=[2]} : current<2, f32>
  %e = host %x {source="net.e"} : spikes<2, 1>
    snn float @g.host {steps=2} {
      %x = input {shape=[2]} : current<2, f32>
      %a = linear %x {weight=[[1.0,2.0],[3.0,4.0]]} : current<2, f32>
      %e = neuron %a {source="net.e", decay=0.5} : spikes<2, 1>
      %e.out = output %e : spikes<2, 1>
    }
  %b = linear %e {weight=[[1.0,-1.0]]} : current<1, f32>
  %n = neuron %b : spikes<1, 1>
  %y = output %n : spikes<1, 1>
}
"""
    )


def test_a_clip_is_dropped_from_what_fires_alone() -> None:
    nodes = (
        Neuron(name="n", inputs=("x",), max_spikes=4),
        Linear(name="l", inputs=("n",), weight=real([1, -1])),
        Neuron(name="r", inputs=("l",), max_spikes=0),
    )
    assert (
        spelled(DropClip().run(graph(*nodes, shape=(2,), decode=Decode.MEMBRANE)))
        == """\
snn float @g {steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %n = neuron %x {max_spikes=1073741824} : spikes<2, 1073741824>
  %l = linear %n {weight=[[1.0,-1.0]]} : current<1, f32>
  %r = neuron %l {max_spikes=0} : current<1, f32>
  %y = output %r {decode=membrane} : current<1, f32>
}
"""
    )


def shortcut() -> Graph:
    """x ← x + conv(n(x)): n and m read the sum a, m with what n adds."""
    return integers(
        Linear(name="a", inputs=("x",), weight=whole([1, 2], [3, -1])),
        integer_neuron("n", "a", threshold=2, max_spikes=3),
        Linear(
            name="b", inputs=("n",), weight=whole([1, 0], [-1, 2]), bias=Const(np.array([4, -4], np.int32))
        ),
        Add(name="s", inputs=("a", "b")),
        integer_neuron("m", "s", threshold=3, max_spikes=2),
    )


def test_the_second_reader_of_a_sum_gets_a_copy_of_its_weights() -> None:
    assert (
        exact(Distribute(), shortcut())
        == """\
snn integer @g {steps=1} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %a = linear %x {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = integer_neuron %a {threshold=2, max_spikes=3} : spikes<2, 3>
  %a.copy1 = linear %x {weight=[[1,2],[3,-1]]} : current<2, i32>
  %b = linear %n {weight=[[1,0],[-1,2]], bias=[4,-4]} : current<2, i32>
  %s = add %a.copy1 %b : current<2, i32>
  %m = integer_neuron %s {threshold=3, max_spikes=2} : spikes<2, 2>
  %y = output %m : spikes<2, 2>
}
"""
    )


def test_a_relay_carries_the_sum_to_both_readers_and_9_is_its_largest() -> None:
    """|x₁ + 2x₂| ≤ 9 and -3 ≤ 3x₁ - x₂ ≤ 9 for counts up to 3."""
    relayed = Relay().run(shortcut())
    assert (
        exact(BoundCounts(), relayed)
        == """\
snn integer @g {steps=1} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %a = linear %x {weight=[[1,2],[3,-1]]} : current<2, i32>
  %a.relay = integer_neuron %a {max_spikes=9, signed=true} : spikes<2, 9, signed>
  %n.from.a = linear %a.relay {weight=[[1,0],[0,1]]} : current<2, i32>
  %n = integer_neuron %n.from.a {threshold=2, max_spikes=3} : spikes<2, 3>
  %b = linear %n {weight=[[1,0],[-1,2]], bias=[4,-4]} : current<2, i32>
  %s.from.a = linear %a.relay {weight=[[1,0],[0,1]]} : current<2, i32>
  %s = add %s.from.a %b : current<2, i32>
  %m = integer_neuron %s {threshold=3, max_spikes=2} : spikes<2, 2>
  %y = output %m : spikes<2, 2>
}
"""
    )
    assert exact(Relay(), shortcut()) == spelled(relayed)
    assert "max_spikes=1073741824, signed=true" in spelled(relayed)


def test_graded_windows_take_one_micro_step_a_layer() -> None:
    """The relay acts at 1, n at 2, m at 3; the relay's number waits for n's window. Biases move to neurons."""
    assert (
        exact(ExpandSFA(LOIHI2.schedules["graded"]), BoundCounts().run(Relay().run(shortcut())))
        == """\
snn spike @g {steps=1, micro_steps=1} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %x.spikes = encode %x {graded=true} : spikes<2, 3>
  %a = linear %x.spikes {weight=[[1,2],[3,-1]]} : current<2, i32>
  %a.relay = window_neuron %a {max_spikes=9, signed=true, graded=true, phase=1} : spikes<2, 9, signed>
  %n.from.a = linear %a.relay {weight=[[1,0],[0,1]]} : current<2, i32>
  %n = window_neuron %n.from.a {threshold=2, max_spikes=3, graded=true, phase=2} : spikes<2, 3>
  %b = linear %n {weight=[[1,0],[-1,2]]} : current<2, i32>
  %a.relay.delay1 = delay %a.relay {steps=1, shape=[2], levels=9, signed=true} : spikes<2, 9, signed>
  %s.from.a = linear %a.relay.delay1 {weight=[[1,0],[0,1]]} : current<2, i32>
  %s = add %s.from.a %b : current<2, i32>
  %m = window_neuron %s {threshold=3, max_spikes=2, bias=[4,-4], graded=true, phase=3} : spikes<2, 2>
  %y = output %m : spikes<2, 2>
}
"""
    )


def test_a_relays_number_makes_no_window_longer() -> None:
    """It is one event, whatever it carries: counts up to 3 make windows of 3 micro-steps, the relay's 9 none of 9."""
    spikes = ExpandSFA().run(BoundCounts().run(Relay().run(shortcut())))
    assert spikes.micro_steps == 3
    assert {n.name: (n.phase, n.graded) for n in spikes.nodes if isinstance(n, WindowNeuron)} == {
        "a.relay": (3, True),
        "n": (6, False),
        "m": (9, False),
    }
    x = every_input(shortcut())
    np.testing.assert_array_equal(run(spikes, x).result, run(shortcut(), x).result)


def test_a_readout_sends_nothing_that_could_be_graded() -> None:
    graded = ExpandSFA(LOIHI2.schedules["graded"]).run(binary())
    assert [(n.name, n.graded) for n in graded.neurons if isinstance(n, WindowNeuron)] == [
        ("n", True),
        ("r", False),
    ]


def test_a_pass_preserves_what_its_schedule_promises() -> None:
    promised = {name: ExpandSFA(s).preserves.value for name, s in LOIHI2.schedules.items()}
    assert promised == {"exact": "exact", "graded": "exact", "free": "approximate"}


def test_without_windows_sums_may_reach_any_depth() -> None:
    """Nothing waits, so that one current drives neurons of several depths."""
    free = ExpandSFA(SPECK2F.schedules["free"]).run(shortcut())
    assert [n.name for n in free.nodes if isinstance(n, Linear)] == ["a", "b"]


def test_windows_are_as_long_as_the_largest_count() -> None:
    """Counts up to 3 in windows of 3; what x sends to m waits for n's window."""
    assert (
        exact(ExpandSFA(), Distribute().run(shortcut()))
        == """\
snn spike @g {steps=1, micro_steps=3} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %x.spikes = encode %x : spikes<2, 1>
  %a = linear %x.spikes {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = window_neuron %a {threshold=2, max_spikes=3, phase=3} : spikes<2, 1>
  %x.spikes.delay3 = delay %x.spikes {steps=3, shape=[2]} : spikes<2, 1>
  %a.copy1 = linear %x.spikes.delay3 {weight=[[1,2],[3,-1]]} : current<2, i32>
  %b = linear %n {weight=[[1,0],[-1,2]]} : current<2, i32>
  %s = add %a.copy1 %b : current<2, i32>
  %m = window_neuron %s {threshold=3, max_spikes=2, bias=[4,-4], phase=6} : spikes<2, 1>
  %y = output %m : spikes<2, 1>
}
"""
    )


def binary() -> Graph:
    return integers(
        Linear(
            name="a", inputs=("x",), weight=whole([1, 2], [3, -1]), bias=Const(np.array([4, -4], np.int32))
        ),
        integer_neuron("n", "a", threshold=3, bias=-2, decay=1, decay_bits=1, reset=Reset.VALUE),
        Linear(name="b", inputs=("n",), weight=whole([1, 1])),
        integer_neuron("r", "b", max_spikes=0, decay=1),
        levels=1,
        steps=3,
        decode=Decode.MEMBRANE,
        scale=0.5,
    )


def test_single_spikes_take_one_micro_step() -> None:
    assert (
        exact(ExpandSFA(), binary())
        == """\
snn spike @g {steps=3, micro_steps=1} {
  %x = input {shape=[2], levels=1} : spikes<2, 1>
  %x.spikes = encode %x : spikes<2, 1>
  %a = linear %x.spikes {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = window_neuron %a {threshold=3, bias=[2,-6], decay=1, decay_bits=1, reset=value, phase=1} : spikes<2, 1>
  %b = linear %n {weight=[[1,1]]} : current<1, i32>
  %r = window_neuron %b {max_spikes=0, decay=1, phase=2} : current<1, i32>
  %y = output %r {decode=membrane, scale=0.5} : current<1, i32>
}
"""
    )
    spared = ExpandSFA(replace(EXACT, spare=True)).run(binary())
    assert spared.micro_steps == 2
    assert [n.phase for n in spared.neurons] == [2, 4]  # type: ignore[union-attr]


def test_counts_have_windows() -> None:
    assert ExpandSFA(LOIHI2.schedules["exact"]).run(shortcut_free()).micro_steps == 3


def shortcut_free() -> Graph:
    return integers(
        Linear(name="a", inputs=("x",), weight=whole([1, 2])), integer_neuron("n", "a", threshold=3)
    )


def test_the_free_schedule_has_neither_windows_nor_delays() -> None:
    """Largest count 3, so that a timestep lasts three micro-steps; a chip without a clip is told so."""
    free = ExpandSFA(SPECK2F.schedules["free"], capped=False).run(Distribute().run(shortcut()))
    assert (
        spelled(free)
        == """\
snn spike @g {steps=1, micro_steps=3} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %x.spikes = encode %x : spikes<2, 1>
  %a = linear %x.spikes {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = window_neuron %a {threshold=2, max_spikes=3, release=free, capped=false} : spikes<2, 1>
  %a.copy1 = linear %x.spikes {weight=[[1,2],[3,-1]]} : current<2, i32>
  %b = linear %n {weight=[[1,0],[-1,2]]} : current<2, i32>
  %s = add %a.copy1 %b : current<2, i32>
  %m = window_neuron %s {threshold=3, max_spikes=2, bias=[4,-4], release=free, capped=false} : spikes<2, 1>
  %y = output %m : spikes<2, 1>
}
"""
    )


def test_one_timestep_keeps_what_the_initial_potential_adds_and_nothing_else() -> None:
    """-1 + trunc(±5/2) = 1 and -3."""
    neuron = integer_neuron(
        "n", "a", threshold=2, max_spikes=3, half_up=True, decay=1, decay_bits=1, bias=-1, v_min=0,
        v_init=Const(np.array([5, -5], np.int32)), reset=Reset.VALUE, reset_to=7, synapse_decay=3, synapse_bits=2,
    )  # fmt: skip
    linear = Linear(name="a", inputs=("x",), weight=whole([1, 2], [3, -1]))
    assert (
        exact(SingleStep(), integers(linear, neuron))
        == """\
snn integer @g {steps=1} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %a = linear %x {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = integer_neuron %a {threshold=2, max_spikes=3, precharge=1, bias=[1,-3]} : spikes<2, 3>
  %y = output %n : spikes<2, 3>
}
"""
    )
    several = integers(linear, neuron, steps=2)
    assert SingleStep().run(several) is several


def test_bounds_of_counts_follow_from_layer_to_layer() -> None:
    """⌊(9 + 2)/4⌋ = 2; ⌊(5·2 + 3 - 1)/4⌋ = 3; nothing excites the last, which keeps one level."""
    nodes = (
        Linear(name="a", inputs=("x",), weight=whole([1, 2], [3, -1])),
        integer_neuron("n", "a", threshold=4, max_spikes=9, half_up=True),
        Linear(name="b", inputs=("n",), weight=whole([5, -2]), bias=Const(np.array([3], np.int32))),
        integer_neuron("m", "b", threshold=4, max_spikes=1 << 30, strict=True),
        Linear(name="c", inputs=("m",), weight=whole([-1])),
        integer_neuron("k", "c", threshold=4, max_spikes=7),
    )
    assert (
        exact(BoundCounts(), integers(*nodes))
        == """\
snn integer @g {steps=1} {
  %x = input {shape=[2], levels=3} : spikes<2, 3>
  %a = linear %x {weight=[[1,2],[3,-1]]} : current<2, i32>
  %n = integer_neuron %a {threshold=4, max_spikes=2, precharge=2} : spikes<2, 2>
  %b = linear %n {weight=[[5,-2]], bias=[3]} : current<1, i32>
  %m = integer_neuron %b {threshold=4, max_spikes=3, precharge=-1} : spikes<1, 3>
  %c = linear %m {weight=[[-1]]} : current<1, i32>
  %k = integer_neuron %c {threshold=4} : spikes<1, 1>
  %y = output %k : spikes<1, 1>
}
"""
    )


def test_what_a_membrane_keeps_raises_its_bound() -> None:
    """Over three timesteps an integrator holds three inputs: ⌊(3·3 + 0)/4⌋ = 2, and its start."""

    def bounded(**numbers: int) -> int:
        nodes = (
            Linear(name="a", inputs=("x",), weight=whole([1, 0])),
            integer_neuron("n", "a", threshold=4, max_spikes=99, **numbers),
            Reshape(name="f", inputs=("n",), shape=(1, 1, 1)),
        )
        after = BoundCounts().run(integers(*nodes, steps=3))
        return after.neurons[0].cell.max_spikes  # type: ignore[union-attr]

    assert [bounded(), bounded(decay=1), bounded(decay=1, v_init=3)] == [1, 2, 3]
    assert bounded(decay=1, bias=1) == 3  # 9 + 3
