"""Tables of what a network did and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from snncc.reporting.numbers import band, count, percent, plural, ratio
from snncc.reporting.tables import Table, columns

if TYPE_CHECKING:
    from snncc.simulation import Constant, Cost, Energy, Estimate, LayerCost, MicroSteps, Operations

NANO = 1e-9
# Names of energy components as people say them; another model's own names pass unchanged.
COMPONENTS = {
    "mac": "multiply-accumulates (host)",
    "ac": "accumulates",
    "host_ac": "accumulates (host)",
    "synapses": "synaptic operations, data",
    "control_synapses": "synaptic operations, control",
    "static": "static",
    "host_io": "host and I/O",
    "axon_lookups": "look-ups of arriving packets",
    "idle_neurons": "neurons that only leak",
    "packets": "packets sent",
    "hops_x": "hops along x",
    "hops_y": "hops along y",
    "active_power": "power of the working chip, everything included",
}


def joules(estimate: Estimate) -> str:
    """``12.3 µJ (9.20–37.5)``."""
    return band(estimate.value * NANO, estimate.low * NANO, estimate.high * NANO, "J")


def seconds(estimate: Estimate | None) -> str:
    """``12.3 µs (9.20–37.5)``, or a dash."""
    return (
        "–"
        if estimate is None
        else band(estimate.value * NANO, estimate.low * NANO, estimate.high * NANO, "s")
    )


def component(name: str) -> str:
    """A component's name in words."""
    return COMPONENTS.get(name, name.replace("_", " "))


def core_numbers(numbers: tuple[int, ...]) -> str:
    """The number of the core that holds a layer, how many do, or a dash."""
    if len(numbers) == 1:
        return str(numbers[0])
    return plural(len(numbers), "core") if numbers else "–"


def _counts(done: Operations, host: bool) -> tuple[str, ...]:
    numbers = (
        done.events,
        done.synaptic_operations,
        done.acs,
        done.macs,
        *((done.host_acs,) if host else ()),
        done.control_events,
        done.control_operations,
        done.spikes,
    )
    return tuple(map(count, numbers))


def _activity_row(layer: LayerCost, host: bool) -> tuple[str, ...]:
    where = "host" if layer.on_host else core_numbers(layer.cores)
    return layer.name, where, *_counts(layer.operations, host), percent(layer.firing_rate)


def activity_table(cost: Cost) -> Table:
    """Counts of every layer, exact sums over all samples; of the host's islands where there are any."""
    host = cost.operations.host_updates > 0
    return Table(
        f"Activity, sums over {count(cost.samples)} samples",
        columns(
            "layer",
            "#core",
            "#events",
            "#synaptic operations",
            "#ACs",
            "#MACs",
            *(("#host ACs",) if host else ()),
            "#control events",
            "#control operations",
            "#spikes",
            "#firing rate",
        ),
        tuple(_activity_row(layer, host) for layer in cost.layers),
        total=("total", "", *_counts(cost.operations, host), ""),
        notes=(
            "events: data spikes that arrived, one a connection.",
            "synaptic operations: weight look-ups they caused, taps outside the map excluded.",
            "ACs: accumulates on the chip. MACs: multiply-accumulates of the host, before the first spike.",
            "control: events of the gate that releases a layer.",
            *(
                ("host ACs: accumulates of the layers that the host computes while the chip runs.",)
                if host
                else ()
            ),
            "firing rate: spikes a neuron and timestep of what stands on the chip, relays and copies "
            "included; counts above one can make it exceed 100 %.",
        ),
    )


def energy_table(energy: Energy) -> Table:
    """Components of one sample's energy under one named model."""
    total = energy.total_nj
    rows = tuple(
        (component(c.name), joules(c.energy_nj), ratio(c.energy_nj.value, total.value))
        for c in energy.components
    )
    missing = tuple(f"not counted: {text}" for text in energy.missing)
    title = f"Energy a sample, model {energy.model}" + (f": {energy.about}" if energy.about else "")
    return Table(
        title,
        columns("component", "#energy (band)", "#share"),
        rows,
        total=("total", joules(total), ""),
        notes=missing,
    )


def layer_energy_table(cost: Cost) -> Table:
    """Each layer's own energy under every model, and its core's busy time."""
    own = {e.model for layer in cost.layers for e in layer.energy}
    models = [e.model for e in cost.energy if e.model in own]
    heads = columns("layer", *(f"#{m}" for m in models), "#core busy a sample")
    return Table(
        "Energy and time by layer, a sample",
        heads,
        tuple(_layer_energies(layer, models) for layer in cost.layers),
        notes=("static and I/O energy belong to the whole chip and stand in the tables by component.",),
    )


def _layer_energies(layer: LayerCost, models: list[str]) -> tuple[str, ...]:
    found = {e.model: e for e in layer.energy if e.components}
    return (
        layer.name,
        *(joules(found[m].total_nj) if m in found else "–" for m in models),
        seconds(layer.busy_ns),
    )


def latency_table(cost: Cost) -> Table:
    """Time from the first input event to the result."""
    latency = cost.latency
    rows = [("model", latency.model)]
    if latency.micro_steps is not None:
        rows.append(("micro-steps", count(latency.micro_steps)))
    rows += [("mean", seconds(latency.mean_ns)), ("largest", seconds(latency.max_ns))]
    if latency.cycles is not None:
        c = latency.cycles
        rows.append(("clock cycles", quantity(round(c.value), round(c.low), round(c.high), "")))
    if latency.steps is not None:
        rows += _micro_step_rows(latency.steps, max(cost.samples, 1))
    return Table("Latency of a sample", columns("figure", "value"), tuple(rows))


def _micro_step_rows(steps: MicroSteps, samples: int) -> Iterator[tuple[str, str]]:
    """What a mesh's micro-steps take, what they wait for, and who is busiest."""
    yield "micro-step, mean", seconds(steps.mean_ns)
    yield "micro-step, longest", seconds(steps.longest_ns)
    yield "packets", f"{steps.packets / samples:,.0f} over {steps.hops / samples:,.0f} links"
    queued = f"{plural(steps.queued_samples, 'sample')} played packet by packet"
    yield "with queues", f"{steps.queueing:.3f} × the bound, {queued}"
    for limit in steps.limits[:5]:
        yield "waits for", f"{percent(limit.share)} {limit.component}, {limit.where}"
    core = max(steps.cores, key=lambda c: max(c.update, c.send, c.receive), default=None)
    if core is not None:
        units = (("updating", core.update), ("sending", core.send), ("receiving", core.receive))
        busy = ", ".join(f"{name} {percent(share)}" for name, share in units)
        yield "busiest core", f"{core.core}: {busy}"
    link = max(steps.links, key=lambda link: link.share, default=None)
    if link is not None:
        yield "busiest link", f"{link.link}: {percent(link.share)}"


def _constant_rows(used_by: str, constants: Iterable[Constant]) -> Iterator[tuple[str, ...]]:
    """One row for a value and source; constants of several layers that share both share it."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for c in constants:
        key, _, layer = c.name.partition(" of ")
        name, unit = split_unit(key)
        found = (name, quantity(c.value, c.low, c.high, unit), c.grade, c.source)
        groups.setdefault(found, []).extend([layer] if layer else [])
    for (name, *rest), layers in groups.items():
        yield used_by, name + (f" ({', '.join(layers)})" if layers else ""), *rest


def constant_table(cost: Cost) -> Table:
    """Every constant that entered a figure, with its source."""
    return _constants([*_energy_constants(cost.energy), *_constant_rows("latency", cost.latency.constants)])


def energy_constant_table(energies: Iterable[Energy]) -> Table:
    """Every constant of some energies, with its source."""
    return _constants(_energy_constants(energies))


def _energy_constants(energies: Iterable[Energy]) -> list[tuple[str, ...]]:
    return [row for e in energies for row in _constant_rows(f"energy, {e.model}", e.constants)]


def _constants(rows: list[tuple[str, ...]]) -> Table:
    heads = columns("used for", "constant", "#value (band)", "grade", "source")
    return Table("Where every number comes from", heads, tuple(rows))


_UNITS = {"pj": "pJ", "nj": "nJ", "ns": "ns", "us": "µs", "mw": "mW", "uw": "µW", "mhz": "MHz"}


def split_unit(key: str) -> tuple[str, str]:
    """Name and unit of a key that ends in its unit: ``static_power_mw`` is static power, mW."""
    words = key.split("_")
    unit = _UNITS.get(words[-1], "")
    return " ".join(words[:-1] if unit else words), unit


def quantity(value: float, low: float, high: float, unit: str) -> str:
    """A constant as its source has it, not rounded: ``20 pJ (15–61)``."""
    text = f"{value:,.10g} {unit}".rstrip()
    return text if low == high else f"{text} ({low:,.10g}–{high:,.10g})"


def headline(cost: Cost) -> list[tuple[str, str]]:
    """The few figures that stand on top: name and value a sample."""
    samples = max(cost.samples, 1)
    figures = [(f"energy, {e.model}", joules(e.total_nj)) for e in cost.energy if e.components]
    if cost.latency.mean_ns is not None:
        figures.append(("latency, mean", seconds(cost.latency.mean_ns)))
    elif cost.latency.micro_steps is not None:
        figures.append(("latency", f"{count(cost.latency.micro_steps)} micro-steps"))
    operations = f"{cost.operations.synaptic_operations / samples:,.0f}"
    return [
        *figures,
        ("synaptic operations", operations),
        ("firing rate, trained", percent(cost.firing_rate)),
    ]
