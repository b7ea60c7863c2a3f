"""The page's table of library neurons: each row's values against the library's own equation.

The equations are written out here, in the libraries' order, and the drives are multiples of an eighth
with dyadic parameters, so that ties occur and float32 computes without rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from snncc.ir import Neuron, Reset, Rounding, SynapseOrder
from snncc.ir.membrane import Membrane, neuron_step

Array = NDArray[Any]
Step = Callable[[Array, dict[str, Array]], Array]

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"

# Values of the symbols that the table uses; all but sinabs' cap are dyadic.
THETA, TAU, K, A, D, REST, LOW, OFFSET, NORM = 0.75, 2.0, 0.25, 0.5, 0.25, 0.25, -0.5, 0.125, 4.0
SYMBOLS = {
    "theta": THETA, "tau": TAU, "k": K, "a": A, "d": D, "rest": REST, "low": LOW, "offset": OFFSET,
    "norm": NORM, "D": 3, "m": 3, "b": 0.125, "g": 0.5, "L": 4,
}  # fmt: skip
WORDS: dict[str, Callable[[str], Any]] = {
    "reset": Reset, "rounding": Rounding, "synapse_order": SynapseOrder,
}  # fmt: skip


def rows() -> Iterator[tuple[str, str, str]]:
    """(library, neuron, values) of every row; an empty library is the one above."""
    text = PAGE.read_text(encoding="utf-8").partition("| library | neuron |")[2].partition("\n\n")[0]
    library = ""
    for line in text.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        library = cells[0].strip() or library
        yield library, cells[1], cells[3].strip("` ")


def _heaviside(x: Array) -> Array:
    return (x >= 0).astype(np.float32)


def resetting(charge: Step, rest: float | None = None, by: float = THETA, offset: float = 0.0) -> Step:
    """spikingjelly: charge, s = u + offset >= θ, then u - s·by or rest."""

    def step(x: Array, state: dict[str, Array]) -> Array:
        u = charge(x, state)
        s = _heaviside(u + offset - THETA)
        state["v"] = u - s * by if rest is None else (1 - s) * u + s * rest
        return s

    return step


def _klif(x: Array, state: dict[str, Array]) -> Array:
    u = np.maximum(0, K * (state["v"] + (x - state["v"]) / TAU))
    s = _heaviside(u - THETA)
    state["v"] = u - s * THETA
    return s


def _ilif(x: Array, state: dict[str, Array]) -> Array:
    u = state["v"] + (x - state["v"]) / TAU
    n = np.rint(np.clip(u / THETA, 0, 3))
    state["v"] = u - n * THETA
    return n


def _cuba(x: Array, state: dict[str, Array]) -> Array:
    state["i"] = D * state["i"] + x
    return A * state["v"] + state["i"]


def sinabs(charge: Step, low: float | None = None) -> Step:
    """Several spikes a step, by truncation; the clamp behind the reset."""

    def step(x: Array, state: dict[str, Array]) -> Array:
        u = charge(x, state)
        n = np.where(u > 0, np.trunc(u / THETA), 0)
        v = u - n * THETA
        state["v"] = v if low is None else np.maximum(v, low)
        return n

    return step


def _synaptic(x: Array, state: dict[str, Array]) -> Array:
    state["i"] = D * (state["i"] + x)
    return A * state["v"] + (1 - A) * state["i"]


def _exp_leak(x: Array, state: dict[str, Array]) -> Array:
    state["v"] = A * state["v"] + (1 - A) * x
    return state["v"]


def snntorch(charge: Step) -> Step:
    """The reset of the stored membrane is part of the next charge; fires over θ."""

    def step(x: Array, state: dict[str, Array]) -> Array:
        state["r"] = (state["v"] > THETA).astype(np.float32)
        state["v"] = charge(x, state)
        return (state["v"] > THETA).astype(np.float32)

    return step


def _current(x: Array, state: dict[str, Array]) -> Array:
    state["i"] = D * state["i"] + x
    return A * state["v"] + state["i"]


def norse(charge: Step, rest: float | None) -> Step:
    """Fires over θ, resets in the same step."""

    def step(x: Array, state: dict[str, Array]) -> Array:
        u = charge(x, state)
        s = (u - THETA > 0).astype(np.float32)
        state["v"] = u - s * THETA if rest is None else (1 - s) * u + s * rest
        state["i"] = D * state["i"]
        return s

    return step


def _norse_lif(x: Array, state: dict[str, Array]) -> Array:
    state["i"] = state["i"] + x
    return state["v"] + K * ((REST - state["v"]) + state["i"])


def _rockpool(x: Array, state: dict[str, Array]) -> Array:
    state["i"] = D * (state["i"] + x)
    u = A * state["v"] + state["i"] + 0.125
    n = np.minimum(np.where(u >= THETA, np.floor(u / THETA), 0), 3)
    state["v"] = u - n * THETA
    return n


def _yolo(x: Array, state: dict[str, Array]) -> Array:
    u = 0.25 * (state["v"] - state["n"]) + x
    state["v"], state["n"] = u, np.rint(np.clip(u, 0, 4))
    return state["n"]


def _stateless(function: Callable[[Array], Array]) -> Step:
    return lambda x, state: function(x)


def _integer_lif(rest: float | None) -> Step:
    def step(x: Array, state: dict[str, Array]) -> Array:
        u = A * state["v"] + x
        n: Array = np.rint(np.clip(u, 0, 3))
        state["v"] = u - n if rest is None else np.where(n > 0, rest, u)
        return n

    return step


EQUATIONS: dict[tuple[str, str], Step] = {
    ("spikingjelly 2.0", "IFNode"): resetting(lambda x, s: s["v"] + x),
    ("spikingjelly 2.0", "IFNode, v_reset"): resetting(lambda x, s: s["v"] + x, REST),
    ("spikingjelly 2.0", "LIFNode, decay_input"): resetting(
        lambda x, s: s["v"] + (x - (s["v"] - REST)) / TAU, REST
    ),
    ("spikingjelly 2.0", "LIFNode"): resetting(lambda x, s: s["v"] - (s["v"] - REST) / TAU + x, REST),
    ("spikingjelly 2.0", "ParametricLIFNode"): resetting(lambda x, s: s["v"] + (x - s["v"]) * K),
    ("spikingjelly 2.0", "KLIFNode"): _klif,
    ("spikingjelly 2.0", "ILIFNode"): _ilif,
    ("spikingjelly 2.0", "CUBALIFNode"): resetting(_cuba),
    ("spikingjelly 2.0", "HalfThresholdIFNode"): resetting(lambda x, s: s["v"] + x),
    ("spikingjelly 2.0", "ActivationAwareIFNode"): resetting(lambda x, s: s["v"] + x, offset=OFFSET),
    ("sinabs 3.1", "IAF"): sinabs(lambda x, s: s["v"] + x, LOW),
    ("sinabs 3.1", "LIF"): sinabs(lambda x, s: A * s["v"] + (1 - A) * x),
    ("sinabs 3.1", "LIF, tau_syn"): sinabs(_synaptic),
    ("sinabs 3.1", "ExpLeak"): _exp_leak,
    ("snntorch 1.0", "Leaky, subtract"): snntorch(lambda x, s: A * s["v"] + x - s["r"] * THETA),
    ("snntorch 1.0", "Leaky, zero"): snntorch(lambda x, s: A * ((1 - s["r"]) * s["v"]) + x),
    ("snntorch 1.0", "Synaptic, subtract"): snntorch(lambda x, s: _current(x, s) - s["r"] * THETA),
    ("snntorch 1.0", "Synaptic, zero"): snntorch(lambda x, s: _current(x, s) * (1 - s["r"])),
    ("snntorch 1.0", "Lapicque, zero"): snntorch(lambda x, s: (A * s["v"] + 0.5 * x) * (1 - s["r"])),
    ("norse 1.1", "LIF, feed-forward"): norse(_norse_lif, REST),
    ("norse 1.1", "LIFBox, reset_subtract"): norse(lambda x, s: s["v"] + K * (x + REST - s["v"]), None),
    ("norse 1.1", "IAF"): norse(lambda x, s: s["v"] + x, REST),
    ("rockpool 3.1", "LIFTorch, no w_rec"): _rockpool,
    ("SFA paper, Eq. 5", "integer activation"): _stateless(lambda x: np.rint(np.clip(x, 0, 3))),
    ("E-SpikeFormer-large", "Multispike"): _stateless(lambda x: np.floor(np.clip(x, 0, 4) + 0.5) / 4),
    ("QCFS, clip-floor", "activation"): _stateless(
        lambda x: np.floor(np.clip(x / np.float32(THETA), 0, 1) * 4 + 0.5) / 4 * THETA
    ),
    ("SpikeYOLO", "I-LIF, mem_update"): _yolo,
    ("snncc_torch.nn", "LIF"): resetting(lambda x, s: (1 - 1 / TAU) * s["v"] + x / TAU, REST),
    ("snncc_torch.nn", "ILIF"): _integer_lif(None),
    ("snncc_torch.nn", "ILIF, v_reset"): _integer_lif(REST),
}


def starts(values: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Array]:
    """The library's state before the first step."""
    zeros = np.zeros(shape, np.float32)
    return {"v": zeros + values.get("v_init", 0), "i": zeros, "n": zeros}


@pytest.mark.parametrize(("library", "name", "text"), list(rows()), ids=lambda x: x.replace(" ", "_")[:40])
def test_a_rows_values_compute_the_librarys_equation(library: str, name: str, text: str) -> None:
    values: dict[str, Any] = eval(f"dict({text})", {"dict": dict}, SYMBOLS)
    values |= {key: word(values[key]) for key, word in WORDS.items() if key in values}
    neuron, membrane = Neuron(name="n", inputs=("x",), **values), Membrane()
    drive = np.random.default_rng(7).integers(-24, 48, (40, 1, 300)).astype(np.float32) / 8
    step, state = EQUATIONS[library, name], starts(values, drive.shape[1:])
    fired = 0.0
    for x in drive:
        want = step(x, state)
        got = neuron_step(neuron, x, membrane)
        assert np.array_equal(got, want.astype(np.float32)), f"{library} {name}"
        fired += float(got.sum())
    assert fired > 0 or values.get("max_spikes") == 0


def test_every_equation_has_its_row() -> None:
    assert [row[:2] for row in rows()] == list(EQUATIONS)
