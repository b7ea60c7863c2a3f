"""Golden text: one small residual network before and after every pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snncc.ir import (
    Add,
    AvgPool2d,
    BatchNorm,
    Const,
    Conv2d,
    Family,
    Graph,
    Input,
    Linear,
    Neuron,
    Output,
    Reshape,
    Rounding,
    Scale,
    to_text,
)
from snncc.passes.expand_sfa import ExpandSFA
from snncc.passes.pipelines import to_integers
from snncc_speck import SPECK2F


def quarter(*shape: int) -> Const:
    """Weights -1, -3/4, ..., 1 in turn: every figure in the golden files is exact in binary."""
    n = int(np.prod(shape))
    return Const((((np.arange(n) * 5) % 9 - 4) / 4).reshape(shape).astype(np.float32))


def network() -> Graph:
    four = Const(np.full(3, 4.0, np.float32))
    half = Const(np.full(3, 0.5, np.float32))
    sfa = {"max_spikes": 4, "rounding": Rounding.HALF_EVEN, "output_scale": 0.25}
    return Graph(
        "golden",
        Family.FLOAT,
        (
            Input(name="x", shape=(2, 6, 4)),
            Conv2d(name="stem", inputs=("x",), source="stem", weight=quarter(3, 2, 1, 1)),
            Neuron(name="encoder", inputs=("stem",), source="encoder", **sfa),
            Conv2d(
                name="conv", inputs=("encoder",), source="conv", weight=quarter(3, 3, 3, 3), padding=(1, 1)
            ),
            BatchNorm(name="bn", inputs=("conv",), gamma=four, beta=half, mean=half, var=four, eps=0.0),
            Neuron(name="n1", inputs=("bn",), source="n1", **sfa),
            Add(name="skip", inputs=("encoder", "n1")),
            AvgPool2d(name="pool", inputs=("skip",), kernel=(2, 2), stride=(2, 2)),
            Scale(name="twice", inputs=("pool",), factor=2.0),
            Reshape(name="flat", inputs=("twice",), shape=(18,)),
            Linear(name="fc", inputs=("flat",), source="fc", weight=quarter(5, 18), bias=quarter(5)),
            Output(name="out", inputs=("fc",)),
        ),
    )


ABILITIES = SPECK2F.chip.abilities.model_copy(update={"clips_counts": True})
CLIPPING = SPECK2F.chip.model_copy(update={"abilities": ABILITIES})
CALIBRATION = (np.arange(3 * 2 * 6 * 4).reshape(3, 1, 2, 6, 4) * 7 % 17 / 2).astype(np.float32)


def test_every_pass_prints_what_it_printed(golden: Callable[[str, str], None]) -> None:
    graph = network()
    golden("pass-captured.snn", to_text(graph))
    passes = (*to_integers(CALIBRATION, SPECK2F.chip, copies=False), ExpandSFA())
    for one in passes:
        graph = one.run(graph)
        golden(f"pass-{one.name}.snn", to_text(graph))


def test_free_schedule_prints_what_it_printed(golden: Callable[[str, str], None]) -> None:
    graph = network()
    for one in (
        *to_integers(CALIBRATION, CLIPPING, copies=False),
        ExpandSFA(SPECK2F.schedules["free"], capped=False),
    ):
        graph = one.run(graph)
    golden("free.snn", to_text(graph))
