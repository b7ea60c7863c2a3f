"""What passes declare is checked before they run: families, order, the node kinds that they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from snncc.compilation import Options, legalise
from snncc.errors import ModelError, UsageError
from snncc.ir import (
    Add,
    AddConst,
    AvgPool2d,
    Const,
    Conv2d,
    ConvTranspose2d,
    Family,
    Graph,
    Input,
    Linear,
    Mul,
    Neuron,
    Node,
    Output,
    Reshape,
)
from snncc.ir.interp import run
from snncc.ir.node import FLOAT_ONLY, INTEGER_ONLY
from snncc.model import Model
from snncc.passes.base import Pass, Pipeline, Semantics, placed
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.distribute import Distribute
from snncc.passes.drop_clip import DropClip
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.lower_logic import LowerLogic
from snncc.passes.lower_moves import LowerMoves
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.pipelines import to_integers
from snncc.passes.pool_behind import PoolBehind
from snncc.passes.quantize import Quantize
from snncc.passes.relay import Relay
from snncc.passes.relay_pools import RelayPools
from snncc.passes.single_step import SingleStep
from snncc.passes.split_host import SplitHost
from snncc_loihi.neurons import LoihiNeurons
from snncc_loihi.target import LOIHI2
from snncc_sim.target import SIM

X = np.random.default_rng(0).integers(0, 2, (5, 1, 2, 4, 6))
QUANTIZE = Quantize(calibration=X)
TO_INTEGERS = (FoldConvBN(), LowerReadout(), FoldScale(), SplitHost(), QUANTIZE)


def network(sums: Node) -> Graph:
    """[2, 4, 6] of binary spikes, ``sums`` [3, 1, 1] of them, and five results."""
    fc = Linear(name="fc", inputs=("n",), weight=Const(np.arange(-7, 8).reshape(5, 3).astype(np.float32)))
    fires = Neuron(name="n", inputs=("flat",), threshold=1.5, max_spikes=4)
    nodes = (
        Input(name="x", shape=(2, 4, 6), levels=1),
        sums,
        Reshape(name="flat", inputs=(sums.name,), shape=(3,)),
        fires,
        fc,
    )
    return Graph("g", Family.FLOAT, (*nodes, Output(name="o", inputs=("fc",))))


# The last kernel position alone sees the whole map.
TURNED = ConvTranspose2d(
    name="turned", inputs=("x",), weight=Const(np.ones((2, 3, 4, 6), np.float32) / 16), padding=(3, 5)
)


@dataclass(frozen=True)
class Turn:
    """A package's own pass: a transposed convolution as a convolution."""

    name: ClassVar[str] = "turn"
    preserves: ClassVar[Semantics] = Semantics.EXACT
    takes: ClassVar[frozenset[Family]] = FLOAT_ONLY
    gives: ClassVar[Family | None] = None
    after: ClassVar[tuple[str, ...]] = ()
    lowers: ClassVar[frozenset[type[Node]]] = frozenset({ConvTranspose2d})

    def run(self, graph: Graph) -> Graph:
        return graph.rewrite(lambda n: self._turned(n) if isinstance(n, ConvTranspose2d) else None)

    def _turned(self, node: ConvTranspose2d) -> Conv2d:
        weight = Const(np.ascontiguousarray(node.weight.array.swapaxes(0, 1)[..., ::-1, ::-1]))
        return Conv2d(name=node.name, inputs=node.inputs, weight=weight)


@dataclass(frozen=True)
class Step:
    """A pass that does nothing, with a contract of its own."""

    name: str
    takes: frozenset[Family] = FLOAT_ONLY
    gives: Family | None = None
    after: tuple[str, ...] = ()
    lowers: frozenset[type[Node]] = frozenset()
    preserves: Semantics = Semantics.EXACT

    def run(self, graph: Graph) -> Graph:
        return graph


ALL = (
    *(
        FoldConvBN(),
        LowerMoves(),
        PoolBehind(),
        LowerLogic(),
        LowerReadout(),
        FoldScale(),
        SplitHost(),
        Distribute(),
        DropClip(),
        QUANTIZE,
        Relay(),
        RelayPools(),
    ),
    *(SingleStep(), BoundCounts(), ExpandSFA(), LoihiNeurons(True, 1 << 16)),
)


@pytest.mark.parametrize("one", ALL, ids=lambda p: p.name)
def test_every_pass_is_refused_on_a_graph_of_a_family_that_it_does_not_take(one: Pass) -> None:
    for family in set(Family) - one.takes:
        start = Step("start", frozenset({Family.FLOAT}), family)
        with pytest.raises(UsageError) as error:
            Pipeline((start, one)).run(network(TURNED))
        wanted = " or ".join(sorted(one.takes))
        assert str(error.value.problems[0]) == (
            f"pass {one.name}: takes {wanted} graphs, got a graph of the {family} family after start. "
            f"Try a pass before it that gives {wanted} graphs."
        )
        assert error.value.code == "SNNC-U011"


def test_a_pass_that_stands_first_says_so_and_all_misplaced_ones_are_named() -> None:
    with pytest.raises(UsageError) as error:
        Pipeline((SingleStep(), FoldScale(), ExpandSFA())).run(network(TURNED))
    assert [str(p) for p in error.value.problems] == [
        "pass single-step: takes integer graphs, got a graph of the float family, and no pass before it. "
        "Try a pass before it that gives integer graphs.",
        "pass fold-scale: builds on fold-conv-bn, got single-step. Try fold-conv-bn before it.",
        "pass expand-sfa: takes integer graphs, got a graph of the float family after single-step, fold-scale. "
        "Try a pass before it that gives integer graphs.",
    ]


@pytest.mark.parametrize(
    ("one", "missing"),
    [
        (FoldScale(), "fold-conv-bn"),
        (SplitHost(), "fold-scale"),
        (QUANTIZE, "lower-readout, fold-scale, split-host"),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_what_a_pass_builds_on_must_stand_before_it(one: Pass, missing: str) -> None:
    with pytest.raises(UsageError) as error:
        Pipeline((one,)).run(network(TURNED))
    assert str(error.value) == (
        f"[SNNC-U011] pass {one.name}: builds on {missing}, got no pass before it. Try {missing} before it."
    )


def test_a_result_of_another_family_than_declared_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        Pipeline((Step("a"), Step("b", gives=Family.INTEGER, lowers=frozenset(map(type, network(TURNED).nodes))))).run(network(TURNED))  # fmt: skip
    assert (
        str(error.value) == "[SNNC-U011] pass b: says that it gives a graph of the integer family, got float."
    )
    assert error.value.__notes__ == ["in pass b after a"]


def test_a_kind_that_no_pass_takes_is_refused_before_anything_runs() -> None:
    ran: list[str] = []
    with pytest.raises(ModelError) as error:
        Pipeline(TO_INTEGERS, lambda one, _b, _a: ran.append(one.name)).run(network(TURNED))
    assert str(error.value) == "[SNNC-M012] %turned: no pass lowers conv_transpose2d to spikes yet."
    assert ran == []


def test_a_kind_is_refused_only_where_the_family_changes() -> None:
    """A pipeline that stays in a family has nothing to lower."""
    assert Pipeline((FoldConvBN(),)).run(network(TURNED)) == network(TURNED)


def test_a_pass_behind_the_next_family_lowers_nothing_before_it() -> None:
    late = Step("late", INTEGER_ONLY, lowers=frozenset({ConvTranspose2d}))
    with pytest.raises(ModelError, match="%turned: no pass lowers conv_transpose2d to spikes yet"):
        Pipeline((*TO_INTEGERS, late)).run(network(TURNED))


def test_a_pass_that_claims_a_kind_and_leaves_it_is_found_where_the_family_changes() -> None:
    idle = Step("idle", lowers=frozenset({ConvTranspose2d}))
    with pytest.raises(ModelError, match="%turned: no pass lowers conv_transpose2d to spikes yet") as error:
        Pipeline((idle, *TO_INTEGERS)).run(network(TURNED))
    assert error.value.__notes__[0].startswith("in pass quantize after idle, fold-conv-bn")


def test_the_spike_family_names_what_it_does_not_take() -> None:
    both = Mul(name="m", inputs=("x", "x"))
    nodes = (Input(name="x", shape=(3,), levels=1), both, Output(name="o", inputs=("m",)))
    g = Graph("g", Family.INTEGER, nodes)
    with pytest.raises(ModelError, match="%m: mul needs whole counts, which no single spike carries"):
        Pipeline((ExpandSFA(),)).run(g)


def test_a_packages_pass_for_a_kind_that_the_core_does_not_lower_runs() -> None:
    graph = network(TURNED)
    passes = to_integers(X, SIM.chip, own=(Turn(),))
    assert [p.name for p in passes][:2] == ["turn", "canonical-layout"]
    integer = Pipeline(passes).run(graph)
    spikes = Pipeline((ExpandSFA(),)).run(integer)
    assert run(integer, X).values["n"].any()
    assert np.array_equal(run(spikes, X).result, run(integer, X).result)


CORE = (Step("a"), Step("b"), Step("q", gives=Family.INTEGER, after=("a",)), Step("c", INTEGER_ONLY))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((Step("x"), Step("y")), "x y a b q c"),
        ((Step("x", after=("a",)), Step("y", after=("a",))), "a x y b q c"),
        ((Step("y", after=("x",)), Step("x", after=("b",))), "a b x y q c"),
        ((Step("x", INTEGER_ONLY),), "a b q x c"),
        ((Step("x", INTEGER_ONLY, after=("c",)), Step("y", INTEGER_ONLY, after=("a",))), "a b q y c x"),
        ((Step("x", after=("c",)), Step("y", after=("nothing",))), "a b q c x y"),
    ],
)
def test_own_passes_stand_as_soon_as_they_can(own: tuple[Pass, ...], expected: str) -> None:
    assert " ".join(p.name for p in placed(CORE, own)) == expected


def test_loihis_own_pass_stands_behind_the_counts_that_it_reads() -> None:
    """Which neurons are the chip's own depends on the largest counts."""
    passes = to_integers(X, SIM.chip, own=(LoihiNeurons(True, 1 << 16),), relay=True)
    assert [p.name for p in passes] == [
        *(
            "canonical-layout",
            "fold-conv-bn",
            "lower-moves",
            "merge-chains",
            "pool-behind",
            "lower-logic",
            "lower-readout",
            "fold-scale",
            "stream-readers",
            "split-host",
            "fold-threshold",
            "quantize",
        ),
        *("lower-products", "relay", "relay-pools", "single-step", "bound-counts", "loihi-neurons"),
    ]


@pytest.mark.parametrize("scaled", [True, False])
def test_a_factor_is_never_moved_through_a_kind_whose_result_does_not_scale(scaled: bool) -> None:
    """A package may lower such a kind, but in front of the pass that turns values into counts."""
    nodes = (
        Input(name="x", shape=(1, 4, 4), levels=1),
        *((AvgPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2)),) if scaled else ()),
        AddConst(name="shift", inputs=("p" if scaled else "x",), value=0.5, source="net.shift"),
        Output(name="o", inputs=("shift",)),
    )
    g = Graph("g", Family.FLOAT, nodes)
    if not scaled:
        assert FoldScale().run(g) == g
        return
    with pytest.raises(ModelError) as error:
        FoldScale().run(g)
    assert str(error.value) == (
        "[SNNC-M012] %shift (net.shift): add_const stands where values are counts, each worth 0.25. "
        "Try the pass that lowers it in front of fold-scale."
    )


def test_both_lowerings_of_shortcuts_are_compared_behind_a_backends_own_pass() -> None:
    """Else a kind that only the backend lowers would leave the chip without a choice."""
    ones = Const(np.ones((3, 3, 1, 1), np.float32))
    nodes = (
        Input(name="x", shape=(2, 4, 6), levels=1),
        TURNED,
        Neuron(name="nt", inputs=("turned",)),
        Conv2d(name="a", inputs=("nt",), weight=ones),
        Neuron(name="na", inputs=("a",)),
        Conv2d(name="b", inputs=("na",), weight=ones),
        Add(name="sum", inputs=("a", "b")),
        Neuron(name="nb", inputs=("sum",)),
        Output(name="o", inputs=("nb",)),
    )
    target = replace(LOIHI2, passes=lambda schedule: (Turn(), *LOIHI2.passes(schedule)))
    legal = legalise(target, Model(Graph("g", Family.FLOAT, nodes)), X, LOIHI2.schedule("exact"), Options())
    assert legal.shortcuts is not None
    assert legal.shortcuts.steps == 1
