"""Integers against exported spikes: every neuron of every layer, on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snncc.analysis.free_bounds import free_bounds
from snncc.analysis.host_currents import cut_samples
from snncc.arrays import Array
from snncc.equivalence.result import (
    Accuracy,
    Divergence,
    Excursion,
    LayerBounds,
    LayerMatch,
    OtherOrder,
    ResultMatch,
    Verification,
)
from snncc.errors import Problem, fail
from snncc.ir.batches import accuracy, chunks, decisions, in_chunks
from snncc.ir.interp import Run
from snncc.mapping.mapped import Mapped
from snncc.simulation import Activity

if TYPE_CHECKING:
    from snncc.artifact import Artifact
    from snncc.data import Dataset


SHUFFLE_SEED = 1


def verify_artifact(
    artifact: Artifact,
    data: Dataset,
    host: Mapping[str, Array],
    executor: str,
    spikes: Activity,
    other_order: Activity | None,
    disagreements: tuple[Problem, ...] = (),
) -> Verification:
    """Compare the integer graph with what the mapped network of the artifact did.

    The reference is :mod:`snncc.ir.interp` on ``integer.snn``. Counts and results are compared bit for bit.

    Args:
        artifact: the compiled network.
        data: inputs.
        host: spikes of the host's part, from which both sides start.
        executor: name of what executed ``mapped.json``.
        spikes: its activity on ``data``.
        other_order: the same with shuffled input events, where their order matters.
        disagreements: of the artifact's parts and chip files.

    Raises:
        InternalError: SNNC-X001 if a sample left a range that is proven, and no part disagrees.
    """
    mapped, graph = artifact.mapped, artifact.integer_graph
    integer = in_chunks(graph, data.x, host=host)
    real = in_chunks(artifact.float_graph, data.x, keep=())
    layers = tuple(_match(mapped, integer, spikes))
    excursions = (*_cut_currents(artifact, host), *_excursions(spikes))
    if not disagreements:
        _keep_the_proof(artifact, excursions)
    promises = mapped.schedule.promises
    equal = all(layer.mismatches == 0 for layer in layers)
    results = _results(integer.result, spikes.result)
    good = equal and results.mismatches == 0 and not excursions and not disagreements
    return Verification(
        equivalent=promises and good,
        schedule=mapped.schedule.name,
        promises=promises,
        target=mapped.target,
        pair=("snncc.ir.interp on integer.snn", f"{executor} ({mapped.engine.value}) on mapped.json"),
        samples=len(data),
        layers=layers,
        accuracy=Accuracy(
            float=accuracy(artifact.float_graph, real.result, data.y),
            integer=accuracy(graph, integer.result, data.y),
            spikes=accuracy(graph, spikes.result, data.y),
        ),
        agreement=float((decisions(graph, integer.result) == decisions(graph, spikes.result)).mean()),
        results=results,
        first_divergence=None if equal else _first(mapped, integer, spikes),
        excursions=excursions,
        proven=promises and artifact.certificate.proven and not disagreements,
        order=mapped.order,
        not_compared=artifact.host_names,
        bounds=() if promises else tuple(_bounds(artifact, data, spikes)),
        shuffled=None if other_order is None else _shuffled(artifact, data, integer, other_order),
        disagreements=disagreements,
    )


def _results(want: Array, got: Array) -> ResultMatch:
    """Results [N, ...], bit for bit; of another shape they differ altogether."""
    differ = want != got if want.shape == got.shape else np.ones_like(want, bool)
    return ResultMatch(compared=int(want.size), mismatches=int(differ.sum()))


def _values(mapped: Mapped, integer: Run, spikes: Activity) -> list[tuple[Any, Array, Array]]:
    found = []
    for piece in mapped.pieces:
        got = spikes.counts[piece.name]
        want = integer.values[piece.name].reshape(got.shape)
        if piece.is_readout:
            # A membrane is read once, after the last timestep.
            want, got = want[:, -1:], got[:, -1:]
        found.append((piece, want, got))
    return found


def _match(mapped: Mapped, integer: Run, spikes: Activity) -> list[LayerMatch]:
    return [
        LayerMatch(
            name=piece.name,
            layer=piece.layer,
            quantity="membrane potential" if piece.is_readout else "spike count",
            neurons=int(np.prod(piece.shape)),
            compared=int(want.size),
            mismatches=int((want != got).sum()),
        )
        for piece, want, got in _values(mapped, integer, spikes)
    ]


def _first(mapped: Mapped, integer: Run, spikes: Activity) -> Divergence:
    for piece, want, got in _values(mapped, integer, spikes):
        differ = np.argwhere(want != got)
        if len(differ):
            at = tuple(int(i) for i in differ[0])
            return Divergence(
                layer=piece.name,
                sample=at[0],
                timestep=mapped.steps - 1 if piece.is_readout else at[1],
                neuron=at[2:],
                integer=int(want[at]),
                spikes=int(got[at]),
            )
    raise AssertionError("no divergence to report")


def _keep_the_proof(artifact: Artifact, excursions: tuple[Excursion, ...]) -> None:
    """No sample may leave a range that the certificate calls proven."""
    ranges = artifact.certificate.ranges
    proven = {r.layer for r in ranges} - {r.layer for r in ranges if not r.proven}
    for left in excursions:
        if left.layer in proven:
            where = f"%{left.layer}"
            raise fail(
                "SNNC-X001", where, "a sample left a range that was called proven", got=left.first_sample
            )


def _excursions(spikes: Activity) -> list[Excursion]:
    return [
        Excursion(
            layer=a.name,
            samples=len(a.out_of_range),
            first_sample=a.out_of_range[0],
            saturations=a.saturations,
            early=a.early,
        )
        for a in spikes.layers
        if a.out_of_range
    ]


def _cut_currents(artifact: Artifact, host: Mapping[str, Array]) -> Iterator[Excursion]:
    """Currents of the host that may have been cut at their largest count."""
    for name, samples, times in cut_samples(artifact.integer_graph, host):
        yield Excursion(layer=name, samples=len(samples), first_sample=samples[0], saturations=times, early=0)


def _shuffled(artifact: Artifact, data: Dataset, integer: Run, other: Activity) -> OtherOrder:
    layers = tuple(_match(artifact.mapped, integer, other))
    right = accuracy(artifact.integer_graph, other.result, data.y)
    return OtherOrder(seed=SHUFFLE_SEED, layers=layers, accuracy=right)


def _bounds(artifact: Artifact, data: Dataset, spikes: Activity) -> Iterator[LayerBounds]:
    """Interval bounds of a free-running network, and whether the measured counts keep them."""
    pieces = artifact.mapped.pieces
    capped, clocked = all(p.capped for p in pieces), any(p.streams for p in pieces)
    graph = artifact.integer_graph
    found = [free_bounds(graph, data.x[some], capped, clocked) for some in chunks(graph, len(data))]
    for name in found[0]:
        low, high = (np.concatenate([f[name][end] for f in found]) for end in (0, 1))
        got = spikes.counts[name].reshape(high.shape)
        yield LayerBounds(
            name=name,
            values=int(high.size),
            outside=int(((got < low) | (got > high)).sum()),
            decided=int((low == high).sum()),
            mean_low=float(np.broadcast_to(low, high.shape).mean()),
            mean_high=float(high.mean()),
        )
