"""CPU seconds and memory of capturing the zoo's models at their published sizes, and growth with depth.

Run: ``python bench/bench_capture.py`` (some ten minutes), or with names of models. Every capture runs
in a process of its own, in one thread: threads that wait for work burn CPU seconds, and the more the
busier the machine is. Seconds are user and system time of ``capture`` alone, tracing and comparison
with the module included; memory is the peak of the whole process, the module's own weights included.
Weights are random; statistics of BatchNorm are set from one random image, so that neurons fire. Ends
with exit code 1 if a limit is missed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

EVENTS = {
    "in_channels": 2,
    "num_classes": 10,
    "img_size": 128,
    "T": 16,
    "heads": 16,
    "tau": 1.5,
    "keys_first": False,
}


@dataclass(frozen=True)
class Case:
    """A builder of the zoo with its arguments; sizes that are not given are the published ones.

    Attributes:
        seconds: limit of CPU seconds.
        gigabytes: limit of the peak memory in GB (10^9 bytes).
    """

    builder: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    seconds: float | None = None
    gigabytes: float | None = None

    def build(self) -> nn.Module:
        """The module in evaluation mode."""
        from snncc_torch import zoo

        made: nn.Module = getattr(zoo, self.builder)(*self.args, **self.options)
        return made.eval()

    def shape(self) -> tuple[int, ...]:
        """Of an input of batch 1: an image, or frames of an event camera."""
        size = self.options.get("img_size", 224)
        image = (1, self.options.get("in_channels", 3), size, size)
        return (self.options["T"], *image) if self.options.get("in_channels") == 2 else image


def former(builder: str, name: str, cml: bool = False, **options: Any) -> Case:
    """Spikformer or Spikingformer, or its CML form."""
    return Case(builder, (name, cml), options)


CASES: dict[str, Case] = {
    **{
        f"{builder.capitalize()} {name}{'-CML' * cml}": former(builder, name, cml)
        for builder, names in (
            ("spikformer", ("8-384", "6-512", "8-512", "8-768")),
            ("spikingformer", ("8-384", "8-512", "8-768")),
        )
        for name in names
        for cml in (False, True)
    },
    **{
        f"{builder.capitalize()} 4-384{'-CML' * cml} CIFAR": former(builder, "4-384", cml, img_size=32)
        for builder in ("spikformer", "spikingformer")
        for cml in (False, True)
    },
    "Spikingformer 2-256 DVS": former("spikingformer", "2-256", **EVENTS),
    **{f"SEW-ResNet-{depth}": Case("sew_resnet", (depth,), {}) for depth in (18, 34, 50, 101, 152)},
    "SEW-ResNet-34 AND": Case("sew_resnet", (34, "AND"), {}),
    "SEW-ResNet-34 IAND": Case("sew_resnet", (34, "IAND"), {}),
    **{f"MS-ResNet-{depth}": Case("ms_resnet", (depth,), {}) for depth in (18, 34, 104)},
    **{
        f"Spike-driven Transformer {name}": Case("spike_driven_transformer", (name,), {})
        for name in ("8-384", "8-512", "8-768")
    },
    "Spike-driven Transformer 2-512 CIFAR": Case("spike_driven_transformer", ("2-512",), {"img_size": 32}),
    **{
        f"Meta-SpikeFormer {name}": Case("meta_spikeformer", (name,), {})
        for name in ("8-256", "8-384", "8-512")
    },
    **{f"E-SpikeFormer {name}": Case("e_spikeformer", (name,), {}) for name in ("t", "s", "m", "l", "83M")},
    "E-SpikeFormer 173M": Case("e_spikeformer", ("173M",), {}, seconds=60, gigabytes=2.5),
}
CASES["Spikingformer 8-512"] = Case("spikingformer", ("8-512",), {}, seconds=15)

DEPTHS = (4, 8, 16, 32)
# Seconds that one more block costs, at most by this much more than at half the depth.
GROWTH = 1.5


def depth_case(depth: int) -> Case:
    """A narrow Spikingformer, so that blocks and not products cost."""
    return Case("spikingformer", (f"{depth}-64",), {"img_size": 32, "T": 2})


def main() -> int:
    """All cases, or those named on the command line."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(named(sys.argv[2]))))
        return 0
    wanted = sys.argv[1:] or [*CASES]
    unknown = [name for name in wanted if name not in CASES]
    if unknown:
        print(f"no such model: {', '.join(unknown)}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    heads = ("params M", "CPU s", "peak GB", "before", "nodes", "GMAC", "worst", "silent")
    print(f"{'model':40}" + "".join(f"{h:>9}" for h in heads))
    missed = [name for name in wanted if not within(name, CASES[name])]
    missed += [] if sys.argv[1:] else growth()
    print("within the limits" if not missed else f"MISSED: {', '.join(missed)}")
    return 1 if missed else 0


def named(name: str) -> Case:
    """A case of the table, or the one of a depth."""
    return CASES[name] if name in CASES else depth_case(int(name))


def within(name: str, case: Case) -> bool:
    """Capture a model once, or twice where there are limits, and print the better run."""
    runs = [in_process(name) for _ in range(2 if case.seconds else 1)]
    best = min(runs, key=lambda run: run["seconds"])
    limits = ((case.seconds, best["seconds"]), (case.gigabytes, best["peak"]))
    kept = all(limit is None or value <= limit for limit, value in limits)
    cells = (
        f"{best['parameters']:9.1f}{best['seconds']:9.1f}{best['peak']:9.2f}{best['before']:9.2f}"
        f"{best['nodes']:9}{best['macs']:9.1f}{best['worst']:9.3f}{best['silent']:9}"
    )
    print(f"{name:40}{cells}" + ("" if kept else "  MISSED"), flush=True)
    return kept


def growth() -> list[str]:
    """Depths at which one more block costs more than it should."""
    seconds = {d: min(in_process(str(d))["seconds"] for _ in range(2)) for d in DEPTHS}
    per_block = {b: (seconds[b] - seconds[a]) / (b - a) for a, b in pairwise(DEPTHS)}
    print("blocks: CPU s   " + "   ".join(f"{d}: {s:.2f}" for d, s in seconds.items()))
    print("each block more " + "   ".join(f"to {d}: {s:.3f}" for d, s in per_block.items()))
    return [
        f"growth to {b} blocks"
        for a, b in pairwise(per_block)
        if per_block[b] > GROWTH * max(per_block[a], per_block[DEPTHS[1]])
    ]


def in_process(name: str) -> dict[str, Any]:
    """What :func:`measured` returns, of a process that did nothing before."""
    return of_process(__file__, "--one", name)


def of_process(script: str, *arguments: str) -> dict[str, Any]:
    """What a script prints last, as JSON, in a process and a thread of its own."""
    env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(case: Case) -> dict[str, Any]:
    """Capture a model in this process."""
    import torch

    from snncc.analysis.operations import node_costs
    from snncc_torch import capture
    from snncc_torch.zoo import calibrate_batchnorm

    torch.manual_seed(0)
    module, x = case.build(), torch.rand(case.shape())
    with contextlib.suppress(ValueError):  # some neurons stay silent all the same: a column counts them
        calibrate_batchnorm(module, x, mean=0.5)
    before = peak()
    seconds = cpu_seconds(lambda: capture(module, x, timesteps=getattr(module, "T", None)))
    model, took = seconds
    costs = node_costs(model.graph)  # types of every value
    comparison = model.comparison
    assert comparison is not None
    return {
        "parameters": sum(p.numel() for p in module.parameters()) / 1e6,
        "seconds": took,
        "peak": peak(),
        "before": before,
        "nodes": len(model.graph.nodes),
        "macs": sum(c.operations for c in costs) / 1e9,
        "worst": comparison.worst,
        "silent": sum("never fired" in note for note in model.notes),
    }


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` returns and its user and system time."""
    start = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    end = resource.getrusage(resource.RUSAGE_SELF)
    return result, end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    sys.exit(main())
