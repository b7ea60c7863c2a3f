"""Chips as data: typed descriptions read from TOML by a strict loader.

Units stand in the key names. Every physical number is a :class:`Quantity` with its source, its
grade and a band; unknown or missing keys are errors, all reported at once.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from snncc.errors import Problem, error_of, fail, problem, raise_all
from snncc.hw.mesh import Mesh, Resource
from snncc.hw.quantity import Grade
from snncc.hw.quantity import Quantity as Quantity
from snncc.hw.timing import MeshCosts
from snncc.safeio import Limits as FileLimits
from snncc.safeio import read_bytes, shown

_SMALL = FileLimits(file_bytes=1 << 20)
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Bits = Annotated[int, Field(ge=1, le=64)]
WeightBits = Annotated[int, Field(ge=2, le=24)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CoreKind(_Model):
    """Cores that are alike.

    Attributes:
        ids: their numbers; none for every core of a mesh.
        resources: how much one of them holds of each thing; the backend counts what a tile takes of it.
        synop_time_ns: time of one synaptic operation.
        errata: known faults of these cores.
    """

    ids: tuple[int, ...] = ()
    resources: dict[str, Resource]
    synop_time_ns: Quantity | None = None
    errata: tuple[str, ...] = ()


class Limits(_Model):
    """What a layer may be; None or an empty tuple means the chip sets no limit. ``source`` covers all.

    ``convolution_width``: maps that are wider compile, with a caution. ``weight_bits_max``: how far users
    may widen the weights; None is no further than ``weight_bits``. ``exponent_max``: largest power of two
    that stands before the weights of a connection; 0: none does.
    """

    source: str
    weight_bits: WeightBits
    weight_bits_max: WeightBits | None = None
    exponent_max: Annotated[int, Field(ge=0, le=15)] = 0
    state_bits: Annotated[int, Field(ge=2, le=32)]
    threshold_max: int | None = None
    kernel_max: int | None = None
    strides: tuple[int, ...] = ()
    padding_max: int | None = None
    poolings: tuple[int, ...] = ()
    features_max: int | None = None
    input_size_max: int | None = None
    output_size_max: int | None = None
    fan_out: int | None = None
    convolution_width: int | None = None
    graded_bits: Bits | None = None
    accumulator_bits: Annotated[int, Field(ge=2, le=32)] | None = None
    delay_max: int | None = None


class Abilities(_Model):
    """What the chip's neurons, events and schedule can do (:mod:`snncc.hw.demands` asks for each).

    Attributes:
        source: of all of them.
        clocked: it runs in micro-steps, with a barrier after each.
        windows: a neuron gathers all input of a timestep before it fires, and then as often as it has to.
        second_accumulator: meanwhile it gathers the next timestep's input apart.
        clips_counts: a neuron stops after its largest count.
        leak_between_timesteps: membranes leak, or forget, from one timestep to the next.
        hard_reset: a spike sets the membrane to 0.
        soft_reset: a spike subtracts the threshold from it.
        lower_clamp: a membrane ends a timestep at a lower bound at least.
        start_values: a sample starts at any membrane potential.
        reads_membranes: the host reads membranes back.
        synaptic_current: between synapse and membrane stands a current that fades.
        custom_neurons: neuron models are programs (Loihi 2), not one circuit.
        graded_events: an event can carry a count.
        signed_events: the count can be negative.
        gates_sites: a layer works at some sites of its map only (spike sparse convolution).
        multiplies_counts: a core holds one spike operand of a product over a window and adds it for every
            event of the other (attention).
        pools_counts: a neuron gets the largest of what several addresses send in a micro-step.
        upsamples: an event can stand at several places of the map that a kernel sees (nearest upsampling).
        channel_numbers: the neurons of a layer have thresholds, leaks, resets and bounds of their channels,
            as every chip's have biases and start values.
    """

    source: str
    clocked: bool
    windows: bool
    second_accumulator: bool
    clips_counts: bool
    leak_between_timesteps: bool
    hard_reset: bool
    soft_reset: bool
    lower_clamp: bool
    start_values: bool
    reads_membranes: bool
    synaptic_current: bool = False
    custom_neurons: bool = False
    graded_events: bool = False
    signed_events: bool = False
    gates_sites: bool = False
    multiplies_counts: bool = False
    pools_counts: bool = False
    upsamples: bool = False
    channel_numbers: bool = False


class Exchange(_Model):
    """How a host takes part while the chip runs: between two micro-steps events go out and come in.

    A chip without it is given its input, runs alone, and is read at the end.

    Attributes:
        source, grade: of the statement that it can.
        time_ns: of one exchange in one micro-step, whatever crosses; None is unknown.
    """

    source: str
    grade: Grade
    time_ns: Quantity | None = None


class Costs(_Model):
    """Energy and time; what is None is unknown and is never counted as zero silently."""

    static_power_mw: Quantity | None = None
    io_power_mw: Quantity | None = None
    synop_energy_pj: Quantity | None = None
    hop_latency_ns: Quantity | None = None
    io_latency_ns: Quantity | None = None


class ChipSpec(_Model):
    """A chip.

    Attributes:
        name: as users say it; files are named by it.
        backend: name of the installed backend that lowers networks to it.
        core_kinds: what its cores hold; none for an ideal chip without limits.
        mesh: how the cores of a many-core chip hang together.
        mesh_costs: time and energy constants of a mesh.
        exchange: what a host can do while the chip runs; None where it can do nothing.
        errata: known faults of the silicon that users should hear of.
        not_modelled: what the energy and latency figures leave out.
        references: abbreviations in sources, and the publications that they stand for.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=NAME)
    description: str
    backend: str
    limits: Limits
    abilities: Abilities
    costs: Costs
    core_kinds: tuple[CoreKind, ...] = ()
    mesh: Mesh | None = None
    mesh_costs: MeshCosts | None = None
    exchange: Exchange | None = None
    errata: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = ()
    references: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _cores_exist_once(self) -> ChipSpec:
        unnumbered = any(not kind.ids for kind in self.core_kinds)
        if unnumbered and (self.mesh is None or len(self.core_kinds) > 1):
            raise ValueError("cores without ids are all cores of a mesh")
        times = Counter(i for kind in self.core_kinds for i in kind.ids)
        if twice := sorted(i for i, n in times.items() if n > 1):
            raise ValueError(f"a core id stands twice, got {twice}")
        if self.mesh is not None and any(not 0 <= i < self.mesh.cores for i in times):
            raise ValueError(f"a core id lies outside the mesh of {self.mesh.cores} cores")
        return self

    def _ids(self, kind: CoreKind) -> Sequence[int]:
        if kind.ids or self.mesh is None:
            return kind.ids
        return range(self.mesh.cores)

    @property
    def cores(self) -> dict[int, CoreKind]:
        """Every core by its number, in order; on a mesh counted over all chips."""
        found = {i: kind for kind in self.core_kinds for i in self._ids(kind)}
        return {i: found[i] for i in sorted(found)}


def load_chip(path: Path) -> ChipSpec:
    """Chip description of a TOML file.

    Raises:
        UsageError: SNNC-U009, with every key that is missing, unknown or mistyped; SNNC-U001 if there
            is no such file.
        UnsafeFileError: SNNC-S002 if it is too large.
    """
    where = f"chip file {shown(path.name)}"
    try:
        data = tomllib.loads(read_bytes(path, _SMALL).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise fail("SNNC-U009", where, "no valid TOML", got=error) from None
    try:
        return ChipSpec.model_validate(_tuples(data))
    except ValidationError as error:
        raise error_of([_wrong_key(where, dict(e)) for e in error.errors()]) from None


def _wrong_key(where: str, error: dict[str, Any]) -> Problem:
    key = ".".join(map(str, error["loc"]))
    got = None if error["type"] == "missing" or not key else error.get("input")
    what = error["msg"].removeprefix("Value error, ")
    return problem("SNNC-U009", f"{where}: {key}" if key else where, what, got=got)


def _tuples(value: object) -> object:
    """TOML arrays as tuples, which strict validation asks for."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value


def expect(
    chip: ChipSpec,
    needed: Sequence[str],
    checked: Sequence[str] = (),
    counted: Sequence[str] = (),
    divides: bool = False,
) -> None:
    """Refuse a chip description that its backend cannot keep.

    Args:
        chip: the description.
        needed: keys without which the backend cannot do, like ``limits.strides``.
        checked: further limits that the backend checks where they are set. Whatever else is set in
            ``limits`` would be a promise that nobody keeps. The widths are always checked.
        counted: resources of a core that the backend counts; each core limits all of these and no other.
        divides: whether the backend can leave layers of a network to a host that takes part.

    Raises:
        UsageError: SNNC-U009, one problem a key.
    """
    raise_all(
        (
            *_missing(chip, needed, counted),
            *_unread(chip, (*needed, *checked), counted),
            *_wide(chip, checked),
            *(() if divides else _alone(chip)),
        )
    )


def _alone(chip: ChipSpec) -> Iterator[Problem]:
    if chip.exchange is not None:
        what = f"the backend {chip.backend} divides no network between chip and host"
        yield problem("SNNC-U009", f"chip {chip.name}: exchange", what, hint="leaving it out")


def _missing(chip: ChipSpec, needed: Sequence[str], counted: Sequence[str]) -> Iterator[Problem]:
    keys = [key for key in needed if _number(chip, key) in (None, (), {})]
    kinds = enumerate(chip.core_kinds)
    keys += [f"core_kinds.{i}.resources.{r}" for i, k in kinds for r in counted if r not in k.resources]
    for key in keys:
        yield problem("SNNC-U009", f"chip {chip.name}: {key}", f"the backend {chip.backend} needs it")


def _unread(chip: ChipSpec, known: Sequence[str], counted: Sequence[str]) -> Iterator[Problem]:
    always = ("limits.source", "limits.weight_bits", "limits.state_bits")
    limits = {f"limits.{k}": n for k, n in chip.limits if n not in (None, (), False)}
    found: dict[str, object] = {key: n for key, n in limits.items() if key not in (*known, *always)}
    for i, kind in enumerate(chip.core_kinds):
        resources = {f"core_kinds.{i}.resources.{r}": (r, bound.limit) for r, bound in kind.resources.items()}
        found |= {key: limit for key, (r, limit) in resources.items() if r not in counted}
    for key, value in found.items():
        what = f"the backend {chip.backend} does not check this limit"
        hint = "leaving it out, if the network may exceed it"
        yield problem("SNNC-U009", f"chip {chip.name}: {key}", what, got=value, hint=hint)


def _wide(chip: ChipSpec, checked: Sequence[str]) -> Iterator[Problem]:
    """Weights of more than a byte, of a backend that does not know them."""
    if chip.limits.weight_bits > 8 and "limits.weight_bits_max" not in checked:
        what, got = f"the backend {chip.backend} takes weights of a byte", chip.limits.weight_bits
        yield problem("SNNC-U009", f"chip {chip.name}: limits.weight_bits", what, got=got, limit=8)


def _number(chip: ChipSpec, key: str) -> object:
    value: Any = chip
    for part in key.split("."):
        value = getattr(value, part)
    return value
