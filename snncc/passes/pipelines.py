"""The pass sequences that targets share."""

from __future__ import annotations

from dataclasses import dataclass

from snncc.arrays import Array
from snncc.hw.spec import ChipSpec
from snncc.passes.base import Pass, placed
from snncc.passes.bound_counts import BoundCounts
from snncc.passes.canonical_layout import CanonicalLayout
from snncc.passes.chains import MergeChains, RelayChains
from snncc.passes.distribute import Distribute
from snncc.passes.drop_clip import DropClip
from snncc.passes.fold_conv_bn import FoldConvBN
from snncc.passes.fold_scale import FoldScale
from snncc.passes.fold_threshold import FoldThreshold
from snncc.passes.lower_logic import LowerLogic
from snncc.passes.lower_moves import LowerMoves
from snncc.passes.lower_products import LowerProducts
from snncc.passes.lower_readout import LowerReadout
from snncc.passes.pool_behind import PoolBehind
from snncc.passes.quantize import Quantize
from snncc.passes.relay import Relay
from snncc.passes.relay_pools import RelayPools
from snncc.passes.single_step import SingleStep
from snncc.passes.split_host import SplitHost
from snncc.passes.streams import StreamReaders


@dataclass(frozen=True)
class Words:
    """Bits, in units of a weight, of what adds up one timestep's inputs and of the membrane."""

    sum: int
    membrane: int


def to_integers(
    calibration: Array,
    chip: ChipSpec,
    own: tuple[Pass, ...] = (),
    words: Words | None = None,
    *,
    relay: bool = False,
    copies: bool = True,
    sums: bool = False,
    graded: bool = False,
    hosted: bool = False,
    per_channel: bool = False,
) -> tuple[Pass, ...]:
    """Passes from a captured float graph to the legalised integer graph of a chip.

    Args:
        calibration: inputs [N, T, *shape].
        chip: its widths and abilities.
        own: the backend's passes; each runs as soon as its family is there and what it comes after has run.
        words: widths in units of a weight, where the membrane's word does not give them.
        relay: whether graded events carry shared sums.
        sums: whether graded events may carry sums to other weights.
        copies: whether else each neuron that reads a shared sum gets a copy of the weights behind it.
        graded: whether the schedule's events carry counts.
        hosted: whether a host may send what the chip's events cannot carry.
        per_channel: whether output channels have scales of their own.
    """
    shared = (
        *quantized(calibration, chip, words, copies and not relay, graded, sums, hosted, per_channel),
        *((Relay(),) if relay else ()),
        RelayPools(),
        SingleStep(),
        BoundCounts(),
    )
    return placed(shared, own)


def quantized(
    calibration: Array,
    chip: ChipSpec,
    words: Words | None,
    copies: bool,
    graded: bool = False,
    sums: bool = False,
    hosted: bool = False,
    per_channel: bool = False,
) -> tuple[Pass, ...]:
    """The first of :func:`to_integers`, up to the integer graph with its shared sums.

    ``calibration`` holds inputs [N, T, *shape].
    """
    return (
        CanonicalLayout(),
        FoldConvBN(),
        LowerMoves(),
        *_chains(calibration, chip, words, sums),
        PoolBehind(),
        LowerLogic(),
        LowerReadout(),
        FoldScale(),
        StreamReaders(calibration, sums and chip.limits.exponent_max > 0, hosted),
        SplitHost(),
        *((Distribute(),) if copies else ()),
        *(() if chip.abilities.clips_counts else (DropClip(),)),
        FoldThreshold(),
        Quantize(
            calibration=calibration,
            bits=chip.limits.weight_bits,
            state_bits=words.membrane if words else chip.limits.state_bits,
            sum_bits=words.sum if words else None,
            exponent=chip.limits.exponent_max,
            event_bits=chip.limits.graded_bits,
            per_channel=per_channel,
        ),
        LowerProducts(graded),
    )


def _chains(calibration: Array, chip: ChipSpec, words: Words | None, sums: bool) -> tuple[Pass, ...]:
    limits = chip.limits
    word = words.sum if words else limits.state_bits
    merge = MergeChains(calibration, sums, limits.weight_bits, word)
    event = limits.graded_bits or limits.state_bits
    return (merge, RelayChains(limits.weight_bits, event)) if sums else (merge,)
