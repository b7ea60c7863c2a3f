"""The verbs of snncc as Python functions; the command line is a thin layer over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from snncc import display, plugins
from snncc.artifact import Artifact
from snncc.compilation import Lowered, Options, Target
from snncc.data import Dataset, as_dataset, load_dataset
from snncc.equivalence.result import Verification
from snncc.errors import SnnccError, fail, raise_all
from snncc.graphfile import SUFFIX, read_graph_file
from snncc.hw.spec import ChipSpec, load_chip
from snncc.ir.batches import in_chunks
from snncc.ir.graph import Graph
from snncc.ir.nodes import Encode
from snncc.ir.schedule import EXACT
from snncc.ir.types import Spikes
from snncc.mapping.build import port_names
from snncc.mapping.check import check_mapped
from snncc.mapping.crossing import Crossing, crossings
from snncc.mapping.partition import Partition
from snncc.mapping.profile import profile_problems
from snncc.metrics.conventions import Conventions
from snncc.metrics.energy import TrainedEnergy, baselines_of, energy_of
from snncc.metrics.measure import measure, refuse_silence
from snncc.model import Model
from snncc.plugins import LoadOptions, choose_target
from snncc.reporting import notebook
from snncc.results import CheckResult, Simulation
from snncc.session import Session, checker_of, utilisation
from snncc.simulation import Progress
from snncc.store import read_artifact, refuse_existing, write_artifact

_GRADED = "graded"

for _result, _page in notebook.PAGES.items():
    display.html.register(_result, _page)


def load_model(path: str | Path, options: LoadOptions | None = None) -> Model:
    """Model of a file of any supported format.

    Raises:
        ModelError, UnsafeFileError, UsageError: with every problem found.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return read_graph_file(path)
    if not path.exists():
        raise fail("SNNC-U001", str(path), "no such file")
    frontend = plugins.find_frontend(path.suffix)
    if frontend is None:
        raise fail(
            "SNNC-M001",
            str(path),
            "no frontend reads this kind of file",
            got=path.suffix or "no suffix",
            limit=", ".join((*plugins.readable_suffixes(), SUFFIX)),
        )
    return frontend.load(path, options or LoadOptions())


def export(
    module: Any,
    example_input: Any,
    path: str | Path,
    *,
    timesteps: int | None = None,
    input_levels: int | None = None,
    calibration: Any = None,
    labels: Any = None,
) -> Path:
    """Capture a module where its class lives and write a safe graph file.

    Args:
        module: a ``torch.nn.Module`` in eval mode, or what else an installed frontend captures.
        example_input: [B, *shape], or [T, B, *shape] for a multi-step model.
        path: of the ``.snnc`` file.
        timesteps: T, where the module makes its own.
        input_levels: largest spike count of the input, 0 for real values; by default what
            ``snncc_torch.describe`` wrote.
        calibration: inputs [N, *shape] or [N, T, *shape] that choose the weight scales.
        labels: their classes [N].

    Raises:
        ModelError: with every problem found; SNNC-M016 if no installed frontend captures such an object.
    """
    return plugins.exporter_of(module)(
        module,
        example_input,
        path,
        timesteps=timesteps,
        input_levels=input_levels,
        calibration=calibration,
        labels=labels,
    )


def energy(
    model: str | Path | Model,
    data: str | Path | Dataset,
    *,
    samples: int | None = None,
    of: int | None = None,
    stem: str = "steps",
    head: str = "steps",
    integers: str = "acs",
    attention: str = "executed",
    bias: bool = False,
    baselines: Iterable[str] = (),
    progress: Progress | None = None,
) -> TrainedEnergy:
    """Rates, operations and energy of the trained network: no chip and no quantization are involved.

    Args:
        model: captured model or file.
        data: `.npz` file or inputs.
        samples: the first so many inputs only.
        of: images of the whole set that the data are a part of.
        stem: ``once`` or ``steps``; with the next four :class:`snncc.metrics.conventions.Conventions`.
        head: ``once`` or ``steps``.
        integers: ``acs`` or ``macs``.
        attention: ``executed`` or ``papers``.
        bias: whether additions of biases are counted.
        baselines: ``ann``, ``qnn``: twin networks to add.
        progress: called with the number of inputs just counted.

    Raises:
        DataError: for unusable data.
        ModelError: SNNC-M026 if nothing fires.
        UsageError: SNNC-U005 for an unknown convention or baseline, ``of`` below the number of inputs, or
            no samples.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    inputs = data if isinstance(data, Dataset) else load_dataset(Path(data), loaded.graph)
    if of is not None and of < len(inputs):
        raise fail("SNNC-U005", "--of", "fewer images than the data hold", got=of, limit=len(inputs))
    if samples is not None and samples < 1:
        raise fail("SNNC-U005", "--samples", "too few", got=samples, limit=1)
    chosen, twins = Conventions.of(stem, head, integers, attention, bias), baselines_of(baselines)
    whole = max(of or 0, len(inputs))
    used = inputs if samples is None else inputs.first(samples)
    figures = measure(loaded.graph, used, progress)
    refuse_silence(figures, used)
    return energy_of(figures, chosen, twins, whole if whole > len(used) else None)


def register_neuron(name: str | type, recogniser: Any = None, *, library: str = "torch") -> Any:
    """Tell snncc what a neuron class of your own computes; see :func:`snncc_torch.register_neuron`.

    Args:
        name: full name of the class (``package.module.Class``), or the class.
        recogniser: from a module to its :class:`snncc_torch.NeuronSpec`, or the full name of a
            known class that it is like. Without one the result is a decorator.
        library: that the class is made with.

    Raises:
        UsageError: SNNC-U005 if ``name`` is no full name.
        ModelError: SNNC-M016 if no installed frontend takes neurons of ``library``.
    """
    return plugins.neuron_register(library)(name, recogniser)


def _calibration_of(model: Model, calib: str | Path | Dataset | None) -> tuple[Model, Dataset]:
    """The model with the calibration inputs that are used, and those inputs."""
    if isinstance(calib, Dataset):
        found = calib
    elif calib is not None:
        found = load_dataset(Path(calib), model.graph)
    elif model.calibration is not None:
        found = as_dataset(model.calibration, model.labels, model.graph, "calibration inputs of the model")
    else:
        raise fail(
            "SNNC-D007",
            model.origin or "model",
            "carries no calibration inputs",
            hint="--calib x.npz with a few dozen real inputs",
        )
    return replace(model, calibration=found.x, labels=found.y), found


def _schedule_of(target: Target, schedule: str, graded: bool) -> str:
    """Which of a target's schedules is asked for; ``graded`` is a word for one."""
    if not graded:
        return target.schedule(schedule).name
    if schedule not in (EXACT.name, _GRADED):
        what = f"stands for --schedule {_GRADED} and goes with no other"
        raise fail("SNNC-U005", "--graded", what, got=f"--schedule {schedule}")
    if _GRADED not in target.schedules:
        what = "the chip's events carry no counts"
        raise fail("SNNC-U005", "--graded", what, got=target.name, hint="loihi2")
    return _GRADED


def _partition_of(name: str) -> Partition:
    try:
        return Partition(name)
    except ValueError:
        raise fail("SNNC-U005", "--partition", "is none of these", got=name, limit="auto, none") from None


def _lower(model: Model, calibration: Dataset, target: Target, options: Options) -> Lowered:
    lowered = target.lower(model, calibration.x, options)
    check_mapped(lowered.mapped, lowered.tensors, lowered.chip, target.checker)
    return lowered


def compile(
    model: str | Path | Model,
    *,
    target: str | None = None,
    chip: str | Path | ChipSpec | None = None,
    out: str | Path,
    schedule: str = "exact",
    graded: bool = False,
    partition: str = Partition.AUTO.value,
    weight_bits: int | None = None,
    per_channel: bool = False,
    calib: str | Path | Dataset | None = None,
    load: LoadOptions | None = None,
    verify_each: bool = False,
    force: bool = False,
) -> Artifact:
    """Compile a model file or captured model into an artifact folder, whole or not at all.

    Args:
        model: a captured model, or its file.
        target: name of an installed chip.
        chip: in its place, a chip description or its TOML file.
        out: folder to write.
        schedule: name of one that the target offers.
        graded: another word for ``schedule="graded"``: a count travels as one event that carries it.
        partition: ``auto``: a host computes what the chip lacks, where it can take part; ``none``: all
            stands on the chip.
        weight_bits: of the weights; by default as many as the chip holds.
        per_channel: every output channel of a layer has a scale of its own, and with it a threshold.
        calib: calibration inputs, in place of those of the model.
        load: what a model file does not tell.
        verify_each: run before and after each pass on the calibration inputs.
        force: replace an artifact that stands there.

    Raises:
        SnnccError: with every problem found; nothing is written then.
    """
    refuse_existing(Path(out), force)  # before the work, not behind it
    chosen = choose_target(target, chip).of_weights(weight_bits)
    schedule = _schedule_of(chosen, schedule, graded)
    captured = model if isinstance(model, Model) else load_model(model, load)
    captured, data = _calibration_of(captured, calib)
    options = Options(schedule, verify_each, _partition_of(partition), per_channel)
    lowered = _lower(captured, data, chosen, options)
    files = chosen.emit(lowered)
    return write_artifact(Path(out), captured, lowered, files, chosen.checker, force=force)


def check(
    model: str | Path | Model,
    *,
    target: str | None = None,
    chip: str | Path | ChipSpec | None = None,
    schedule: str = "exact",
    graded: bool = False,
    partition: str = Partition.AUTO.value,
    weight_bits: int | None = None,
    per_channel: bool = False,
    calib: str | Path | Dataset | None = None,
    load: LoadOptions | None = None,
) -> CheckResult:
    """Every problem that stands between a model and a target; writes nothing, raises nothing for them.

    Arguments as those of :func:`compile`. A target that cannot be had is a usage error, whatever the model.
    """
    chosen = choose_target(target, chip).of_weights(weight_bits)
    schedule, divided = _schedule_of(chosen, schedule, graded), _partition_of(partition)
    notes: tuple[str, ...] = ()
    try:
        captured = model if isinstance(model, Model) else load_model(model, load)
    except SnnccError as error:
        return CheckResult(None, None, error.problems)
    try:
        captured, data = _calibration_of(captured, calib)
    except SnnccError as error:
        if error.code != "SNNC-D007":
            return CheckResult(captured, None, error.problems)
        data = _largest_input(captured.graph)
        notes = ("no calibration inputs: weight scales assume the largest input everywhere",)
    try:
        options = Options(schedule, partition=divided, per_channel=per_channel)
        lowered = _lower(captured, data, chosen, options)
    except SnnccError as error:
        return CheckResult(captured, None, error.problems, notes)
    crossed, notes = _crossings_of(lowered, data), (*notes, *lowered.tied)
    return CheckResult(captured, lowered, (), notes, utilisation(lowered), crossed, len(data.x))


def _crossings_of(lowered: Lowered, data: Dataset) -> tuple[Crossing, ...]:
    """Events between host and chip that inputs cause, from the integers that spikes would count."""
    mapped, names = lowered.mapped, port_names(lowered.spike_graph)
    of = {p.name: p.name for p in mapped.pieces}
    of |= {names[n.name]: n.inputs[0] for n in lowered.spike_graph.nodes if isinstance(n, Encode)}
    found = in_chunks(lowered.integer_graph, data.x, keep=tuple(of.values())).values
    sent = {name: found[of[name]].reshape(*data.x.shape[:2], *s.shape) for name, s in mapped.senders.items()}
    return crossings(mapped, sent, sent)


def _largest_input(graph: Graph) -> Dataset:
    kind = graph.types[graph.input.name]
    level = kind.levels if isinstance(kind, Spikes) else 1
    return as_dataset(np.full((1, *kind.shape), level), None, graph, "largest input")


def _data_of(artifact: Artifact, data: str | Path | Dataset) -> Dataset:
    return data if isinstance(data, Dataset) else load_dataset(Path(data), artifact.float_graph)


def open_artifact(path: str | Path | Artifact) -> Artifact:
    """The artifact of a folder, every file checked against its recorded hash."""
    if isinstance(path, Artifact):
        return path
    return read_artifact(Path(path), checker_of)


def _session(
    artifact: str | Path | Artifact, data: str | Path | Dataset, workers: int, progress: Progress | None
) -> Session:
    opened = open_artifact(artifact)
    return Session(opened, _data_of(opened, data), workers, progress)


def _profile(artifact: Artifact, chip: str | Path | ChipSpec | None) -> tuple[ChipSpec | None, str]:
    """The description under which to cost an artifact, if not its own, and what to say of it."""
    if chip is None:
        return None, ""
    found = chip if isinstance(chip, ChipSpec) else load_chip(Path(chip))
    name = found.name if isinstance(chip, ChipSpec) else f"{found.name} ({chip})"
    raise_all(profile_problems(artifact.mapped, artifact.chip, found, name))
    return found, f"costed under {name}, compiled for {artifact.chip.name}"


def verify(
    artifact: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    executor: str = "sim",
    python: str | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Verification:
    """Compare the exported spikes with the integers, neuron by neuron.

    Args:
        artifact: folder or opened artifact.
        data: inputs, or a file of them.
        executor: what produces the spikes: the simulator, or another of the target's executors
            (``lava`` for Loihi).
        python: interpreter of the environment that the executor needs.
        workers: threads of the simulator.
        progress: called with the number of samples just finished.

    Raises:
        EquivalenceError: SNNC-Q004 if parts of the artifact disagree so that it cannot run.
    """
    if executor == "sim" and python is not None:
        raise fail("SNNC-U005", "--python", "goes with an executor that runs elsewhere", got="--executor sim")
    session = _session(artifact, data, workers, progress)
    try:
        spikes = session.execute() if executor == "sim" else session.run_elsewhere(executor, python)
        return session.verification(spikes, executor)
    except Exception:
        raise_all(session.contradictions)  # what contradicts itself need not run
        raise


def simulate(
    artifact: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    chip: str | Path | ChipSpec | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Simulation:
    """Run the mapped network and cost what it did.

    Args:
        artifact: folder or opened artifact.
        data: inputs, or a file of them.
        chip: another description of a chip, or its TOML file, to cost it under; by default its own.
        workers: threads of the simulator.
        progress: called with the number of samples just finished.

    Raises:
        EquivalenceError: SNNC-Q004 if parts of the artifact disagree.
        UsageError: SNNC-U001, SNNC-U009 for a chip file that is none, SNNC-U013 if it cannot be applied.
    """
    session = _session(artifact, data, workers, progress)
    raise_all(session.contradictions)
    profile = _profile(session.artifact, chip)
    return session.simulation(session.execute(), *profile)


def report(
    artifact: str | Path | Artifact,
    html: str | Path,
    *,
    data: str | Path | Dataset | None = None,
    chip: str | Path | ChipSpec | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    force: bool = False,
) -> Path:
    """Write one self-contained HTML page: network, chip, equivalence, energy, latency.

    Without ``data`` it runs on the artifact's calibration inputs and says so; ``chip`` is that of
    :func:`simulate`.

    Raises:
        EquivalenceError: SNNC-Q004 if parts of the artifact disagree.
        UsageError: SNNC-U002 if ``html`` exists, SNNC-U003 if it cannot be written, and as :func:`simulate`.
    """
    from snncc.reporting.html import write_report

    opened = open_artifact(artifact)
    session = _session(opened, opened.calibration if data is None else data, workers, progress)
    raise_all(session.contradictions)
    profile = _profile(opened, chip)
    spikes = session.execute()
    simulation, verification = session.simulation(spikes, *profile), session.verification(spikes)
    return write_report(Path(html), simulation, verification, session.data.origin, force=force)
