"""The gated schedule: integrate below the threshold, then release by control events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from snncc.analysis.certificate import LayerRange
from snncc.analysis.claims import LayerSums, layer_range
from snncc.errors import Problem, problem
from snncc.mapping.address import VSC
from snncc.mapping.mapped import Gate, Mapped, Piece

# How much wider than on the calibration inputs the sums may become before the release. A little
# less than the reserve that quantization leaves (1.25), since the lift is a multiple of its step.
MARGIN = 1.2
STEP_MAX = 127  # largest int8 weight


@dataclass(frozen=True)
class Gated:
    """A mapped network with its gates, the ranges they admit, and what stands against them."""

    mapped: Mapped
    ranges: tuple[LayerRange, ...]
    problems: tuple[Problem, ...]


def gate_network(mapped: Mapped, sums: dict[str, LayerSums]) -> Gated:
    """Gates for every layer that fires.

    The membrane starts B lower than the integers ask, with B so large that no order of the
    allowed input sums reaches the threshold before the release: start + high - B < θ
    (docs/semantics.md#gated-schedule). B is a multiple of the control event's weight min(127, θ), the one
    step that never causes two spikes, so that one extra input feature lifts exactly B.
    """
    pieces: list[Piece] = []
    ranges: list[LayerRange] = []
    problems: list[Problem] = []
    for piece in mapped.pieces:
        found = sums[piece.name]
        low, high = _wanted(found)
        if piece.is_readout:
            allowed = _word_range(piece, found, 0)
        else:
            step = min(STEP_MAX, piece.cell.theta)
            rounds = max(0, math.ceil((found.start_high + high - piece.cell.theta + 1) / step))
            allowed = _word_range(piece, found, step * rounds)
            tap, reach = _tap(piece)
            problems += reach
            feature = piece.connections[0].address.source_shape[0]
            gate = Gate(feature=feature, tap=tap, step=step, rounds=rounds)
            piece = piece.model_copy(update={"gate": gate})
        if not (allowed[0] <= low and high <= allowed[1]):
            problems.append(_too_wide(piece, (low, high), allowed))
        pieces.append(piece.model_copy(update={"admitted": allowed}))
        ranges.append(layer_range(found, piece.state_bits, allowed))
    return Gated(mapped.model_copy(update={"pieces": tuple(pieces)}), tuple(ranges), tuple(problems))


def ungated(mapped: Mapped, sums: dict[str, LayerSums]) -> Gated:
    """A free-running network as it is; its ranges are those of the membrane's word."""
    ranges = [
        layer_range(sums[p.name], p.state_bits, _word_range(p, sums[p.name], None)) for p in mapped.pieces
    ]
    return Gated(mapped, tuple(ranges), ())


def _wanted(sums: LayerSums) -> tuple[int, int]:
    """Range to be admitted: the calibrated one with its margin, or that of all inputs if it is narrower."""
    low = max(sums.all_inputs[0], math.floor(sums.observed[0] * MARGIN))
    high = min(sums.all_inputs[1], math.ceil(sums.observed[1] * MARGIN))
    return low, high


def _word_range(piece: Piece, sums: LayerSums, lift: int | None) -> tuple[int, int]:
    """Input sums that stay in the membrane's word and, if gated, below θ until the release."""
    word = 2 ** (piece.state_bits - 1)
    # A readout's threshold stands at the largest word and must not be reached either.
    top = word - 1 if piece.is_readout or lift is None else piece.cell.theta
    return -word - sums.start_low + (lift or 0), top - 1 - sums.start_high + (lift or 0)


def _too_wide(piece: Piece, wanted: tuple[int, int], allowed: tuple[int, int]) -> Problem:
    return problem(
        "SNNC-C009",
        f"%{piece.name}",
        "input sums, in any order, do not fit the membrane's word",
        got=f"{wanted[0]:,} to {wanted[1]:,}",
        limit=f"{allowed[0]:,} to {allowed[1]:,}",
        hint="fewer inputs a neuron, or calibration inputs without outliers",
    )


def _tap(piece: Piece) -> tuple[tuple[int, int], list[Problem]]:
    """Kernel tap through which one control event an output site reaches every site."""
    address = piece.connections[0].address
    taps = [next(_reaching(address, axis), None) for axis in (0, 1)]
    if None in taps:
        found = problem(
            "SNNC-C011",
            f"%{piece.name}",
            "one control event an output site cannot reach every site",
            got=f"kernel {address.kernel}, padding {address.padding}",
            hint="padding of at most half the kernel",
        )
        return (0, 0), [found]
    y, x = (t for t in taps if t is not None)
    return (y, x), []


def _reaching(address: VSC, axis: int) -> Iterator[int]:
    """Taps t for which every output o has an input site o·stride - padding + t."""
    last = (address.target_shape[1 + axis] - 1) * address.stride[axis]
    lowest = address.padding[axis]
    highest = address.pooled_shape[1 + axis] - 1 + address.padding[axis] - last
    return iter(range(lowest, min(highest, address.kernel[axis] - 1) + 1))
