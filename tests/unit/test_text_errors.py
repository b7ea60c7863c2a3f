"""Parse errors say where: line and column, and what stands there."""

from __future__ import annotations

import numpy as np
import pytest

from snncc.errors import ModelError
from snncc.ir import Const, parse

W = Const(np.ones((3, 2), np.float32))
GOOD = f"""snn float @net {{steps=1}} {{
  %x = input {{shape=[2], levels=4}} : spikes<2, 4>
  %fc = linear %x {{weight=#{W.digest}}} : current<3, f32>
  %n = neuron %fc {{max_spikes=2}} : spikes<3, 2>
  %o = output %n : spikes<3, 2>
}}
"""


def refusal(text: str) -> str:
    with pytest.raises(ModelError) as error:
        parse(text, {W.digest: W.array})
    return str(error.value)


def test_the_good_text_parses() -> None:
    assert parse(GOOD, {W.digest: W.array}).types["n"].levels == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("linear %x", "linaer %x", "[SNNC-M011] line 3, column 9: unknown node kind, got linaer. Try linear."),
        ("max_spikes=2", "max_spikes=two", "[SNNC-M011] line 4, column 31: unexpected word, got two."),
        ("max_spikes=2", "max_spikes=true", "[SNNC-M011] line 4, column 31: max_spikes cannot be this, got True."),
        ("max_spikes=2", "spikes_max=2", "[SNNC-M011] line 4, column 20: unknown attribute, got spikes_max. Try max_spikes."),
        ("levels=4}", "levels=4, levels=4}", "[SNNC-M011] line 2, column 36: an attribute stands twice, got levels."),
        ("shape=[2], ", "", "[SNNC-M011] line 2, column 3: input lacks shape. Try shape=…."),
        ("spikes<3, 2>\n  %o", "spikes<3, 9>\n  %o", "[SNNC-M011] line 4, column 34: %n has another type, got spikes<3, 9>, limit spikes<3, 2>."),
        ("snn float", "snn floot", "[SNNC-M011] line 1, column 5: unknown family, got floot, limit float, integer, spike."),
        ("%o = output %n", "%o = output $n", "[SNNC-M011] line 5, column 15: no word or number starts here, got '$'."),
        ("}\n", "", "[SNNC-M011] line 6, column 1: expected value, got end of text."),
        ("output %n", "output %m", "[SNNC-M010] %o: reads a value that is not defined before it, got %m."),
    ],
)  # fmt: skip
def test_errors_name_line_and_column(old: str, new: str, message: str) -> None:
    head, tail = GOOD.rsplit(old, 1) if old == "}\n" else GOOD.split(old, 1)
    assert refusal(head + new + tail) == message


def test_a_missing_array_is_named() -> None:
    with pytest.raises(ModelError) as error:
        parse(GOOD, {})
    assert str(error.value) == f"[SNNC-M011] line 3, column 27: no array has this digest, got #{W.digest}."


def test_an_array_filed_under_a_wrong_digest_is_refused() -> None:
    with pytest.raises(ModelError, match="the array has another digest, got #"):
        parse(GOOD, {W.digest: W.array + 1})


def test_text_behind_the_graph_is_refused() -> None:
    assert (
        refusal(GOOD + "snn") == "[SNNC-M011] line 7, column 1: something stands behind the graph, got snn."
    )
