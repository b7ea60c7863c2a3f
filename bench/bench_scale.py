"""CPU seconds and memory of networks at their published sizes, from capture to spikes, and growth with depth.

Run: ``python bench/bench_scale.py`` (some twenty minutes), or with names of models. Weights are random, norms
calibrated on one random image, which is the one that calibrates the scales and that runs. Each step is a
process of its own in one thread, so that its peak of resident memory is its own; they hand on files:

* capture: the module in PyTorch to a graph file;
* lower: the graph file's graph through passes and ``quantize`` (``passes``), then to pieces (``mapping``);
* integers: the integer graph of the artifact on one image;
* spikes: its pieces on that image under the ``exact`` schedule, compiled kernels loaded before; every
  neuron's count in every timestep is compared with the integers.

CPU seconds are user and system time of the named work alone, reading and writing files apart; peaks are those
of whole processes, Python and what they read included. Ends with exit code 1 if a limit is missed or a
value differs.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bench_capture import GROWTH, cpu_seconds, named, of_process, peak

from snncc import compilation
from snncc.api import open_artifact
from snncc.compilation import Options
from snncc.graphfile import read_graph_file, write_graph_file
from snncc.ir.batches import in_chunks
from snncc.plugins import choose_target, find_simulator
from snncc.store import write_artifact

DEPTHS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Limits:
    """Targets: CPU seconds, and peaks in GB (10^9 bytes); ``lower``: of passes and mapping together.

    Attributes:
        times_weights: peak of lowering as a multiple of the weights' bytes, to which 0.5 GB are added.
        spikes: whether the network runs in spikes, where no value may differ.
    """

    lower: float | None = None
    times_weights: float | None = None
    integers_s: float | None = None
    spikes_s: float | None = None
    peak: float | None = None
    spikes: bool = True


MODELS: dict[str, Limits] = {
    "E-SpikeFormer s": Limits(integers_s=1.2, spikes_s=3.5, peak=1.1),
    "E-SpikeFormer m": Limits(),
    "Spikformer 8-512": Limits(),
    "Spikingformer 8-512": Limits(),
    "SEW-ResNet-34": Limits(),
    "E-SpikeFormer 83M": Limits(lower=60, times_weights=3, spikes=False),
    "E-SpikeFormer 173M": Limits(spikes=False),
}


# ---- the steps, each in its own process -------------------------------------------------------------


def capture(name: str, folder: Path) -> dict[str, float]:
    """The module's graph file, with the image that calibrates and runs."""
    import torch

    from snncc_torch import capture as captured
    from snncc_torch.zoo import calibrate_batchnorm

    torch.manual_seed(0)
    case = named(name)
    module, x = case.build(), torch.rand(case.shape())
    with contextlib.suppress(ValueError):  # a neuron that stays silent says so in the notes
        calibrate_batchnorm(module, x, mean=0.5)
    model, seconds = cpu_seconds(lambda: captured(module, x, timesteps=getattr(module, "T", None)))
    found = {"capture_s": seconds, "capture_gb": peak()}
    shape = (1, model.graph.steps, *model.graph.input.shape)
    images = np.ascontiguousarray(np.broadcast_to(x.numpy(), shape))
    write_graph_file(folder / "model.snnc", replace(model, calibration=images))
    return found | {"parameters": sum(p.numel() for p in module.parameters())}


def lower(name: str, folder: Path) -> dict[str, float]:
    """The graph's artifact, without chip files."""
    model = read_graph_file(folder / "model.snnc")
    assert model.calibration is not None
    images, target = model.calibration, choose_target("sim", None)
    with _timed(compilation, "legalise") as passes:
        lowered, seconds = cpu_seconds(lambda: target.lower(model, images, Options()))
    found = {"passes_s": sum(passes), "mapping_s": seconds - sum(passes), "lower_gb": peak()}
    write_artifact(folder / "artifact", model, lowered, {}, target.checker, force=True)
    return found | {"pieces": len(lowered.mapped.pieces)}


@contextlib.contextmanager
def _timed(module: Any, function: str) -> Iterator[list[float]]:
    """CPU seconds of every call of a module's function."""
    seconds: list[float] = []
    original: Callable[..., Any] = getattr(module, function)

    def wrapped(*args: Any, **options: Any) -> Any:
        result, took = cpu_seconds(lambda: original(*args, **options))
        seconds.append(took)
        return result

    setattr(module, function, wrapped)
    yield seconds
    setattr(module, function, original)


def integers(name: str, folder: Path) -> dict[str, float]:
    """The integer graph's counts on the image."""
    opened = open_artifact(folder / "artifact")
    images = opened.calibration.x
    run, seconds = cpu_seconds(lambda: in_chunks(opened.integer_graph, images))
    found = {"integers_s": seconds, "integers_gb": peak()}
    np.savez(folder / "integers.npz", **{k: _narrow(v) for k, v in run.values.items()})
    fired = sum(int(np.count_nonzero(run.values[n.name])) for n in opened.integer_graph.neurons)
    return found | {"fired": fired, "neurons": sum(v[0, 0].size for v in run.values.values())}


def _narrow(counts: Any) -> Any:
    return counts if np.abs(counts).max(initial=0) >= 2**31 else counts.astype(np.int32)


def spikes(name: str, folder: Path) -> dict[str, float]:
    """The pieces' counts on the image, against the integers."""
    opened = open_artifact(folder / "artifact")
    images, simulator = opened.calibration.x, find_simulator()
    inputs = opened.spike_inputs(images, opened.host_spikes(images))

    def execute() -> Any:
        return simulator.execute(opened.mapped, opened.tensors, inputs)

    execute()  # the kernels are compiled once, whatever runs
    activity, seconds = cpu_seconds(execute)
    found = {"spikes_s": seconds, "spikes_gb": peak()}
    compared = differ = 0
    with np.load(folder / "integers.npz") as wanted:
        for piece in opened.mapped.pieces:
            got = activity.counts[piece.name]
            compared += got.size
            differ += int((wanted[piece.name].reshape(got.shape) != got).sum())
    operations = sum(layer.synaptic_operations for layer in activity.layers)
    return found | {"compared": compared, "differ": differ, "operations": operations}


STEPS = {"capture": capture, "lower": lower, "integers": integers, "spikes": spikes}


# ---- all of it ------------------------------------------------------------------------------------


def main() -> int:
    """All models, or those named on the command line."""
    if sys.argv[1:2] == ["--step"]:
        _, _, step, name, folder = sys.argv
        print(json.dumps(STEPS[step](name, Path(folder))))
        return 0
    wanted = sys.argv[1:] or [*MODELS]
    unknown = [name for name in wanted if name not in MODELS]
    if unknown:
        print(f"no such model: {', '.join(unknown)}; there are: {', '.join(MODELS)}", file=sys.stderr)
        return 2
    print("CPU seconds, and peak GB of the process behind them")
    print(f"{'model':20}{'M params':>9}" + "".join(f"{h:>15}" for h in COLUMNS))
    missed = [what for name in wanted for what in within(name, MODELS[name])]
    missed += [] if sys.argv[1:] else growth()
    print("within the limits" if not missed else "MISSED: " + "; ".join(missed))
    return 1 if missed else 0


COLUMNS = ("capture", "passes", "mapping", "integers", "spikes", "differ / values")


def steps_of(name: str, folder: str, steps: tuple[str, ...]) -> dict[str, float]:
    """What the steps of a model report."""
    found: dict[str, float] = {}
    for step in steps:
        found |= of_process(__file__, "--step", step, name, folder)
    return found


def within(name: str, limits: Limits) -> list[str]:
    """Take a model through its steps, print what they take, and say which limits it missed."""
    with tempfile.TemporaryDirectory() as folder:
        m = steps_of(name, folder, tuple(STEPS) if limits.spikes else ("capture", "lower", "integers"))
    cells = [
        f"{m['capture_s']:.1f} ({m['capture_gb']:.2f})",
        f"{m['passes_s']:.1f} ({m['lower_gb']:.2f})",
        f"{m['mapping_s']:.1f}",
        f"{m['integers_s']:.2f} ({m['integers_gb']:.2f})",
        f"{m['spikes_s']:.2f} ({m['spikes_gb']:.2f})" if limits.spikes else "not run",
        f"{m['differ']:,} / {m['compared'] / 1e6:.1f} M" if limits.spikes else "",
    ]
    print(f"{name:20}{m['parameters'] / 1e6:9.1f}" + "".join(f"{c:>15}" for c in cells), flush=True)
    heavy = None if limits.times_weights is None else limits.times_weights * 4e-9 * m["parameters"] + 0.5
    checks = (
        ("passes and mapping", m["passes_s"] + m["mapping_s"], limits.lower),
        ("peak of passes and mapping", m["lower_gb"], heavy),
        ("integers", m["integers_s"], limits.integers_s),
        ("spikes", m.get("spikes_s", 0), limits.spikes_s),
        ("peak of integers and spikes", max(m["integers_gb"], m.get("spikes_gb", 0)), limits.peak),
        ("values that differ", m.get("differ", 0), 0),
    )
    return [f"{name}: {what} {got:.3g}" for what, got, limit in checks if limit is not None and got > limit]


def growth() -> list[str]:
    """Depths at which one more block costs more in passes and mapping than it should."""
    seconds: dict[int, float] = {}
    for depth in DEPTHS:
        with tempfile.TemporaryDirectory() as folder:
            runs = [steps_of(str(depth), folder, ("capture", "lower")) for _ in range(2)]
        seconds[depth] = min(run["passes_s"] + run["mapping_s"] for run in runs)
    per_block = {b: (seconds[b] - seconds[a]) / (b - a) for a, b in pairwise(DEPTHS)}
    print("blocks: CPU s of passes and mapping   " + "   ".join(f"{d}: {s:.2f}" for d, s in seconds.items()))
    print(
        "each block more                       "
        + "   ".join(f"to {d}: {s:.3f}" for d, s in per_block.items())
    )
    return [
        f"growth to {b} blocks"
        for a, b in pairwise(per_block)
        if per_block[b] > GROWTH * max(per_block[a], per_block[DEPTHS[1]])
    ]


if __name__ == "__main__":
    sys.exit(main())
