"""Time that islands of a host take while the chip waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from snncc.hw.quantity import Quantity
from snncc.hw.spec import ChipSpec
from snncc.mapping.crossing import exchanges
from snncc.mapping.mapped import Mapped
from snncc.simulation import Constant, Estimate, Latency


def _time(mapped: Mapped, chip: ChipSpec) -> Quantity | None:
    """Of one exchange; None where it is unknown or nothing is exchanged."""
    return chip.exchange.time_ns if mapped.on_host and chip.exchange is not None else None


def with_exchanges(latency: Latency, mapped: Mapped, chip: ChipSpec) -> Latency:
    """Latency with an exchange in every micro-step in which events may cross, where its time is known."""
    time = _time(mapped, chip)
    if time is None or latency.mean_ns is None or latency.max_ns is None:
        return latency
    all_ = Estimate(time.value, time.low, time.high).times(exchanges(mapped))
    used = Constant("exchange_time_ns", time.value, time.low, time.high, time.source, time.grade)
    return replace(
        latency,
        model=f"{latency.model}; an exchange with the host in each micro-step with events that may cross",
        mean_ns=latency.mean_ns + all_,
        max_ns=latency.max_ns + all_,
        constants=(*latency.constants, used),
    )


def exchange_gaps(mapped: Mapped, chip: ChipSpec) -> Iterator[str]:
    """What times leave out of a network that a host takes part in."""
    if not mapped.on_host:
        return
    yield "time that the host computes its islands: the chip waits for it in every micro-step that needs it"
    if _time(mapped, chip) is None:
        steps = exchanges(mapped)
        yield f"exchanges with the host: no time of one is known; events may cross in {steps:,} micro-steps"
