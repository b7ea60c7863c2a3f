"""What is recorded while passes run: what ran, and what the approximate ones changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from snncc.analysis.certificate import Approximation, PassRecord
from snncc.analysis.layerwise import compare_layers
from snncc.arrays import Array
from snncc.errors import fail
from snncc.ir.batches import accuracy, decisions, in_chunks
from snncc.ir.graph import Graph
from snncc.ir.interp import Run
from snncc.ir.nodes import Decode
from snncc.ir.types import Family, Spikes
from snncc.passes.base import Pass, Pipeline, Semantics, spec
from snncc.passes.canonical_layout import CanonicalLayout, held_in
from snncc.passes.chains import MergeChains
from snncc.passes.streams import StreamReaders


@dataclass
class Recorder:
    """Watches a pipeline: what ran, what the approximate passes changed on the calibration inputs.

    Attributes:
        calibration: inputs [N, T, *shape].
        labels: classes [N], or None.
        verify_each: also compare the graphs around every exact pass; a difference is our bug.
    """

    calibration: Array
    labels: Array | None = None
    verify_each: bool = False
    records: list[PassRecord] = field(default_factory=list)
    approximations: list[Approximation] = field(default_factory=list)
    _last: tuple[Graph, Run] | None = None

    def pipeline(self, passes: tuple[Pass, ...]) -> Pipeline:
        """A pipeline that this recorder watches."""
        return Pipeline(passes, self.observe)

    def observe(self, one: Pass, before: Graph, after: Graph) -> None:
        """Called by the pipeline behind every pass."""
        note = ""
        if isinstance(one, StreamReaders) and after is before:
            note = ""
        elif one.preserves is Semantics.APPROXIMATE and after.family is not Family.SPIKE:
            effect = self._effect(one.name, before, after)
            self.approximations.append(effect)
            note = _sentence(effect)
        elif self.verify_each and one.preserves is Semantics.EXACT:
            note = self._check_exact(one, before, after)
        if isinstance(one, StreamReaders | MergeChains):
            note = "; ".join((*one.told, note)) if note else "; ".join(one.told)
        self.records.append(PassRecord(spec=spec(one), preserves=one.preserves.value, note=note))

    def copy(self) -> Recorder:
        """A recorder that has seen the same, and goes another way from here."""
        return replace(self, records=[*self.records], approximations=[*self.approximations])

    def counts(self, graph: Graph) -> dict[str, Array]:
        """Values of ``graph`` on the calibration inputs, [N, T, *shape] by node."""
        return self._run(graph).values

    def _run(self, graph: Graph) -> Run:
        """Values on the calibration inputs; the last graph's are kept, for the next pass starts from it."""
        if self._last is None or self._last[0] is not graph:
            self._last = (graph, in_chunks(graph, self.calibration))
        return self._last[1]

    def _effect(self, step: str, before: Graph, after: Graph) -> Approximation:
        a, b = self._run(before), self._run(after)
        counted = after.output.decode is not Decode.VALUE
        return Approximation(
            step=step,
            samples=len(self.calibration),
            layers={name: _changed(x, y) for name, x, y in _common_counts(before, after, a, b)},
            decisions_changed=int((decisions(before, a.result) != decisions(after, b.result)).sum())
            if counted
            else -1,
            accuracy_before=accuracy(before, a.result, self.labels),
            accuracy_after=accuracy(after, b.result, self.labels),
        )

    def _check_exact(self, one: Pass, before: Graph, after: Graph) -> str:
        a, b = self._run(before), self._run(after)
        counts = _common_counts(before, after, a, b) if after.family is not Family.FLOAT else []
        changed = sum(_changed(x, y)[0] for _, x, y in counts)
        moved = a.result.shape != b.result.shape
        if after.family is not Family.FLOAT:
            moved = moved or bool((a.result != b.result).any())
        if moved or changed:
            got = f"{changed} counts" + (" and the result" if moved else "")
            raise fail("SNNC-X001", f"pass {one.name}", "declares itself exact but changed values", got=got)
        if after.family is Family.FLOAT:
            return self._check_float_rule(
                one, before, after, float(np.abs(a.result - b.result).max(initial=0))
            )
        return "counts and results equal on the calibration inputs"

    def _check_float_rule(self, one: Pass, before: Graph, after: Graph, apart: float) -> str:
        """Layer by layer on the same spikes, end to end only reported: docs/semantics.md#float-rule."""
        moved = held_in(before) if isinstance(one, CanonicalLayout) else None
        layers = compare_layers(before, after, self.calibration, moved)
        if layers.worst > 1:
            got = f"{layers.worst:.3g} of the bound"
            raise fail(
                "SNNC-X001", f"pass {one.name}", "declares itself exact but breaks the float rule", got=got
            )
        rule = f"float rule kept (worst {layers.worst:.2g} of the bound, {layers.flips} spikes flipped)"
        return f"{rule}; results differ by {apart:.2g} on the calibration inputs"


def _common_counts(before: Graph, after: Graph, a: Run, b: Run) -> list[tuple[str, Array, Array]]:
    """Spike counts of the neuron layers that both graphs have, in whole units."""
    found = []
    for name in [n.name for n in before.neurons if n.name in b.values]:
        kinds = before.types[name], after.types[name]
        if all(isinstance(k, Spikes) for k in kinds):
            x, y = (
                np.rint(v / k.unit)
                for v, k in zip((a.values[name], b.values[name]), kinds, strict=True)
                if isinstance(k, Spikes)
            )
            found.append((name, x, y))
    return found


def _changed(x: Array, y: Array) -> tuple[int, int]:
    return int((x != y).sum()), int(x.size)


def _sentence(effect: Approximation) -> str:
    changed = sum(c for c, _ in effect.layers.values())
    compared = sum(n for _, n in effect.layers.values())
    decided = f"{effect.decisions_changed} of {effect.samples} decisions"
    text = f"{changed} of {compared} spike counts and {decided} change on the calibration inputs"
    if effect.accuracy_before is not None and effect.accuracy_after is not None:
        text += f"; accuracy there {effect.accuracy_before:.2%} to {effect.accuracy_after:.2%}"
    return text
