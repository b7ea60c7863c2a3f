"""Chips as data: typed descriptions read from TOML by a strict loader.

Units stand in the key names. Every physical number is a :class:`Quantity` with its source, its
grade and a band; unknown or missing keys are errors, all reported at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from snncc.errors import problem, raise_all
from snncc.hw.mesh import Mesh, Resource
from snncc.hw.quantity import Quantity as Quantity
from snncc.hw.timing import MeshCosts
from snncc.safeio import Limits as FileLimits
from snncc.safeio import read_bytes, shown

_SMALL = FileLimits(file_bytes=1 << 20)
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Bits = Annotated[int, Field(ge=1, le=64)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CoreSpec(_Model):
    """One core and what it holds; None where the chip sets no limit."""

    id: int
    kernel_words: int
    neuron_words: int
    synop_time_ns: Quantity | None = None
    errata: tuple[str, ...] = ()


class CoreKind(_Model):
    """Cores that are alike, as a chip file lists them."""

    ids: tuple[int, ...]
    kernel_words: int
    neuron_words: int
    synop_time_ns: Quantity | None = None
    errata: tuple[str, ...] = ()


class Limits(_Model):
    """What a layer may be; None or an empty tuple means the chip sets no limit. ``source`` covers all.

    ``convolution_width``: maps that are wider compile, with a caution.
    """

    source: str
    weight_bits: Annotated[int, Field(ge=2, le=8)]
    state_bits: Annotated[int, Field(ge=2, le=32)]
    threshold_max: int | None = None
    kernel_max: int | None = None
    square_kernel: bool = False
    strides: tuple[int, ...] = ()
    padding_max: int | None = None
    poolings: tuple[int, ...] = ()
    features_max: int | None = None
    input_size_max: int | None = None
    output_size_max: int | None = None
    fan_out: int | None = None
    convolution_width: int | None = None
    graded_bits: Bits | None = None
    power_of_two_memory: bool = False


class Abilities(_Model):
    """What the chip's neurons and schedule can do. ``source`` covers all.

    ``custom_neurons``: neuron models are programs (Loihi 2), not one circuit. ``graded_events``:
    an event can carry a count.
    """

    source: str
    clocked: bool
    leak_between_timesteps: bool
    hard_reset: bool
    second_accumulator: bool
    clips_counts: bool
    reads_membranes: bool
    synaptic_current: bool = False
    custom_neurons: bool = False
    graded_events: bool = False


class Costs(_Model):
    """Energy and time; what is None is unknown and is never counted as zero silently."""

    static_power_mw: Quantity | None = None
    io_power_mw: Quantity | None = None
    synop_energy_pj: Quantity | None = None
    hop_latency_ns: Quantity | None = None
    io_latency_ns: Quantity | None = None


class _ChipFile(_Model):
    schema_version: Literal[1]
    name: str = Field(pattern=NAME)
    description: str
    backend: str
    limits: Limits
    abilities: Abilities
    costs: Costs
    mesh: Mesh | None = None
    core: dict[str, Resource] = Field(default={})
    mesh_costs: MeshCosts | None = None
    core_kinds: tuple[CoreKind, ...] = ()
    errata: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = Field(default=())
    references: tuple[tuple[str, str], ...] = ()


class ChipSpec(_Model):
    """A chip.

    Attributes:
        name: as users say it; files are named by it.
        backend: name of the installed backend that lowers networks to it.
        cores: one entry a core, by id; empty for an ideal chip without limits, and for a mesh.
        mesh: how the cores of a many-core chip hang together.
        core: limits of each core of a mesh by resource; the backend says which resources it counts.
        mesh_costs: time and energy constants of a mesh.
        errata: known faults of the silicon that users should hear of.
        not_modelled: what the energy and latency figures leave out.
        references: abbreviations in sources, and the publications that they stand for.
    """

    name: str = Field(pattern=NAME)
    description: str
    backend: str
    limits: Limits
    abilities: Abilities
    costs: Costs
    cores: tuple[CoreSpec, ...]
    errata: tuple[str, ...]
    not_modelled: tuple[str, ...]
    references: tuple[tuple[str, str], ...] = ()
    mesh: Mesh | None = None
    core: dict[str, Resource] = Field(default={})
    mesh_costs: MeshCosts | None = None


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
        raise_all([problem("SNNC-U009", where, "no valid TOML", got=error)])
    try:
        file = _ChipFile.model_validate(_tuples(data))
    except ValidationError as error:
        found = error.errors()
        raise_all(
            problem(
                "SNNC-U009",
                f"{where}: {'.'.join(map(str, e['loc']))}",
                e["msg"],
                got=e.get("input") if e["type"] != "missing" else None,
            )
            for e in found
        )
    cores = [
        CoreSpec(
            id=i,
            kernel_words=k.kernel_words,
            neuron_words=k.neuron_words,
            synop_time_ns=k.synop_time_ns,
            errata=k.errata,
        )
        for k in file.core_kinds
        for i in k.ids
    ]
    ids = [c.id for c in cores]
    if len(set(ids)) != len(ids):
        raise_all([problem("SNNC-U009", where, "a core id stands twice", got=sorted(ids))])
    return ChipSpec(
        name=file.name,
        description=file.description,
        backend=file.backend,
        limits=file.limits,
        abilities=file.abilities,
        costs=file.costs,
        cores=tuple(sorted(cores, key=lambda c: c.id)),
        errata=file.errata,
        not_modelled=file.not_modelled,
        references=file.references,
        mesh=file.mesh,
        core=file.core,
        mesh_costs=file.mesh_costs,
    )


def _tuples(value: object) -> object:
    """TOML arrays as tuples, which strict validation asks for."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value


def expect(chip: ChipSpec, needed: Sequence[str], checked: Sequence[str] = ()) -> None:
    """Refuse a chip description that its backend cannot keep.

    Args:
        chip: the description.
        needed: keys without which the backend cannot do, like ``limits.strides``.
        checked: further limits that the backend checks where they are set. Whatever else is set in
            ``limits`` would be a promise that nobody keeps. The widths are always checked.

    Raises:
        UsageError: SNNC-U009, one problem a key.
    """
    who, where = f"the backend {chip.backend}", f"chip {chip.name}"
    known = {*needed, *checked, "limits.source", "limits.weight_bits", "limits.state_bits"}
    missing = [key for key in needed if _number(chip, key) in (None, (), {})]
    unread = [k for k, n in chip.limits if n not in (None, (), False) and f"limits.{k}" not in known]
    raise_all(
        (
            *(problem("SNNC-U009", f"{where}: {key}", f"{who} needs it") for key in missing),
            *(
                problem(
                    "SNNC-U009",
                    f"{where}: limits.{key}",
                    f"{who} does not check this limit",
                    got=getattr(chip.limits, key),
                    hint="leaving it out, if the network may exceed it",
                )
                for key in unread
            ),
        )
    )


def _number(chip: ChipSpec, key: str) -> object:
    value: Any = chip
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value
