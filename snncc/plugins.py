"""Plugins: frontends, exporters, targets, backends and simulators, found by entry point.

Built-ins register as a third party's package would. A name that two distributions claim is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from snncc.compilation import Target
from snncc.errors import fail, loaded
from snncc.hw.spec import ChipSpec, load_chip
from snncc.model import Model
from snncc.simulation import Simulator
from snncc.tools import Finding


@dataclass(frozen=True)
class LoadOptions:
    """What the user says about a model file that the file itself may not.

    Attributes:
        input_shape: (C, H, W) of one sample at one timestep.
        timesteps: T.
        input_levels: largest spike count of the input; None for what the file says.
        factory: ``pkg.mod:callable`` that builds the module; the file then holds a state dict.
    """

    input_shape: tuple[int, ...] | None = None
    timesteps: int | None = None
    input_levels: int | None = None
    factory: str | None = None


class Frontend(Protocol):
    """Reads model files of some suffixes into float graphs."""

    suffixes: tuple[str, ...]

    def load(self, path: Path, options: LoadOptions) -> Model:
        """Model of a file.

        Raises:
            ModelError, UnsafeFileError: with every problem found.
        """
        ...


class Exporter(Protocol):
    """Captures objects that live in the user's program; registered by the import name of their library."""

    def __call__(
        self,
        module: Any,
        example_input: Any,
        path: str | Path,
        *,
        timesteps: int | None,
        input_levels: int | None,
        calibration: Any,
        labels: Any,
    ) -> Path:
        """Write a graph file; see :func:`snncc.api.export`."""
        ...


def _points(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"snncc.{group}"):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise fail(
                "SNNC-U008",
                f"{group} '{point.name}'",
                "two packages register this name",
                got=f"{other.value} and {point.value}",
            )
        found[point.name] = point
    return found


def _registered(group: str, name: str, code: str, where: str, what: str) -> EntryPoint:
    """The entry point of that name, or an error that lists those there are."""
    points = _points(group)
    if name not in points:
        # None at all: an installation from before the group was an entry point.
        hint = f"one of {', '.join(sorted(points))}" if points else "installing snncc once more"
        raise fail(code, where, what, got=name, hint=hint)
    return points[name]


Backend = Callable[[ChipSpec], Target]


def target_of(chip: ChipSpec) -> Target:
    """The target that a chip description makes, by the backend that it names.

    Raises:
        UsageError: SNNC-U009 if no such backend is installed, or if it cannot use the description.
    """
    what = "no such backend is installed"
    point = _registered("backends", chip.backend, "SNNC-U009", f"chip {chip.name}: backend", what)
    return cast(Backend, loaded(point))(chip)


def choose_target(name: str | None, chip: str | Path | ChipSpec | None) -> Target:
    """The target registered under ``name``, or that of a chip description; one of them must be given.

    Raises:
        UsageError: SNNC-U004, U005 or U009; U001 if there is no such file.
    """
    if name is not None and chip is not None:
        raise fail("SNNC-U005", "--chip", "goes in place of --target", got=f"--target {name}")
    if name is not None:
        return find_target(name)
    if chip is None:
        hint = "--target NAME (`snncc targets` lists them), or --chip FILE.toml"
        raise fail("SNNC-U005", "--target", "no chip given", hint=hint)
    return target_of(chip if isinstance(chip, ChipSpec) else load_chip(Path(chip)))


def tool_checks() -> tuple[Callable[[], Finding], ...]:
    """Checks that backends register for the tools they run outside of snncc, by name."""
    return tuple(loaded(point) for _, point in sorted(_points("tools").items()))


def target_names() -> dict[str, str]:
    """Registered target names and the object each stands for, sorted; aliases share an object."""
    return {name: point.value for name, point in sorted(_points("targets").items())}


def find_target(name: str) -> Target:
    """The target registered under ``name``.

    Raises:
        UsageError: SNNC-U004 if there is none.
    """
    return cast(Target, loaded(_registered("targets", name, "SNNC-U004", "--target", "no such target")))


def find_simulator(name: str = "sim") -> Simulator:
    """The simulator registered under ``name``.

    Raises:
        UsageError: SNNC-U004 if there is none.
    """
    point = _registered("simulators", name, "SNNC-U004", "simulator", "no such simulator")
    return cast(Simulator, loaded(point))


def find_frontend(suffix: str) -> Frontend | None:
    """The frontend that reads files of ``suffix``, or None."""
    return next((one for one in _frontends() if suffix in one.suffixes), None)


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that installed frontends read."""
    return tuple(suffix for one in _frontends() for suffix in one.suffixes)


def _frontends() -> Iterator[Frontend]:
    return (cast(Frontend, loaded(point)) for point in _points("frontends").values())


def neuron_register(library: str) -> Callable[[str | type, Any], Any]:
    """The function that notes what a neuron class of ``library`` computes.

    Raises:
        ModelError: SNNC-M016 if no package registers one.
    """
    points = _points("neurons")
    if library not in points:
        what = "no package takes its neuron classes"
        raise fail("SNNC-M016", "library", what, got=library, limit=_known(points))
    return cast(Callable[[str | type, Any], Any], loaded(points[library]))


def exporter_of(thing: object) -> Exporter:
    """The function that captures an object, by the libraries of its class and of those it inherits from.

    Raises:
        ModelError: SNNC-M016 if there is none.
    """
    points = _points("exporters")
    kind = type(thing)
    libraries = (base.__module__.partition(".")[0] for base in kind.__mro__)
    found = next((name for name in libraries if name in points), None)
    if found is None:
        got = f"{kind.__module__}.{kind.__qualname__}"
        raise fail("SNNC-M016", "module", "nothing captures such an object", got=got, limit=_known(points))
    return cast(Exporter, loaded(points[found]))


def _known(points: Mapping[str, EntryPoint]) -> str:
    return f"those of {', '.join(sorted(points)) or 'no library'}"
