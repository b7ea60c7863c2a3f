"""CPU seconds of the simulator's clocked engine against Lava's fixed-point processes, on one network.

Run: ``python bench/bench_lava.py`` (needs the environment of ``make lava-env``). The network: 2 channels of
34x34 events (9.9 % of all addresses a step, 100 steps), convolutions of 16 (5x5, stride 2), 16 and 8
channels (3x3), linear layers of 256 and 10 neurons; Lava's LIF without a leak, thresholds so that 8 %
of the neurons fire in a step, weights -28..31.

All run the same mapped network, Lava in the folder that is emitted from it, and before any figure is
printed every layer's spikes are compared, neuron by neuron and step by step. CPU seconds are user and
system time: of all of Lava's processes together (``RUSAGE_CHILDREN``; one a layer, one a synapse and the
runtime's), else of this process, compiled kernels warm. What a sample takes is the difference between
runs of few and of many samples; the rest of a run, once, is start-up (Lava's imports, compiler and
processes; the engine's tables).
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from loihi_nets import chip, loihi
from simulator.simnets import Net, Way
from snncc.ir.nodes import Reset
from snncc.mapping.mapped import Mapped
from snncc_loihi.emit import chip_files
from snncc_loihi.fixed import LIF, Conv, Dense
from snncc_loihi.fixed_network import FixedNetwork, Link
from snncc_loihi.runner import run_lava
from snncc_sim import SIMULATOR

Counts = dict[str, Any]

STEPS, DENSITY, FIRING = 100, 0.099, 0.08
GAIN = 64
LAYERS = (
    (16, Way(kernel=(5, 5), stride=(2, 2))),
    (16, Way("c1", kernel=(3, 3))),
    (8, Way("c2", kernel=(3, 3))),
    (256, Way("c3", kernel=None)),
    (10, Way("f4", kernel=None)),
)
FEW, MANY = 1, 5  # samples


def network() -> tuple[Mapped, dict[str, Any], Any]:
    """The benchmark's network, its arrays, and inputs [MANY, T, C, H, W]."""
    net = Net((2, 34, 34), levels=1, steps=STEPS, period=1, seed=0, weight_range=(-28, 32))
    x = (net.rng.random((MANY, STEPS, *net.shape)) < DENSITY).astype(np.int32)
    lif = {"reset": Reset.VALUE, "precharge": -1, "max_spikes": 1, "gain": GAIN, "decay": 1}
    for phase, (channels, way) in enumerate(LAYERS, 1):
        name = f"{'f' if way.kernel is None else 'c'}{phase}"
        net.layer(name, channels, way, threshold=GAIN, phase=phase, **lif)
        net.pieces[-1] = tuned(net, x[:1])
    return loihi(net), net.tensors, x


def tuned(net: Net, x: Any) -> Any:
    """The last piece with the threshold that is nearest to FIRING."""
    low, high = 1, 1 << 16
    piece = net.pieces[-1]
    while high - low > 1:
        middle = (low + high) // 2
        net.pieces[-1] = piece.model_copy(update={"threshold": GAIN * middle})
        fired = SIMULATOR.execute(loihi(net), net.tensors, x).counts[piece.name].mean()
        low, high = (middle, high) if fired > FIRING else (low, middle)
    return piece.model_copy(update={"threshold": GAIN * high})


def emulator(mapped: Mapped, tensors: dict[str, Any]) -> FixedNetwork:
    """The network as processes of the numpy emulator."""
    populations, links = {}, []
    for piece in mapped.pieces:
        populations[piece.name] = LIF(shape=piece.shape, vth=piece.cell.theta // GAIN)
        for c in piece.connections:
            weight = tensors[c.weight].astype(np.int64)
            synapses: Conv | Dense = Conv(weight, stride=c.address.stride)
            if c.address.kernel == c.address.source_shape[1:]:
                synapses = Dense(2 * weight.reshape(len(weight), -1), weight_exp=-1)
            links.append(Link(c.source, piece.name, synapses))
    return FixedNetwork({mapped.inputs[0].name: mapped.inputs[0].shape}, populations, tuple(links))


def emulate(mapped: Mapped, fixed: FixedNetwork, x: Any) -> Counts:
    """Counts [N, T, C, H, W] of the emulator; a layer's timestep t is its micro-step phase + t."""
    silence = np.zeros((len(mapped.pieces), *mapped.inputs[0].shape), np.int64)
    runs = [fixed.run({"input": np.concatenate([sample, silence])}) for sample in x]
    return {
        p.name: np.stack([run[p.name].spikes[p.phase : p.phase + STEPS] for run in runs])
        for p in mapped.pieces
    }


# ---- CPU seconds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a sample, and of what happens once a run."""

    sample: float
    once: float


def own_seconds() -> float:
    """CPU time of this process."""
    return time.process_time()


def childrens_seconds() -> float:
    """CPU time of all child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(run: Callable[[Any], Counts], x: Any, clock: Callable[[], float], runs: int) -> tuple[Cost, Counts]:
    """Least CPU seconds of several runs, and the counts of all samples."""
    counts: Counts = {}
    best = {FEW: np.inf, MANY: np.inf}
    for _ in range(runs):
        for samples in (FEW, MANY):
            start = clock()
            counts = run(x[:samples])
            best[samples] = min(best[samples], clock() - start)
    sample = (best[MANY] - best[FEW]) / (MANY - FEW)
    return Cost(sample, best[FEW] - FEW * sample), counts


def main() -> None:
    """Measure, compare, print."""
    mapped, tensors, x = network()
    fixed = emulator(mapped, tensors)

    def engine(data: Any) -> Counts:
        return dict(SIMULATOR.execute(mapped, tensors, data).counts)

    engine(x)  # compiles
    activity = SIMULATOR.execute(mapped, tensors, x)
    ours, expected = cost(engine, x, own_seconds, runs=7)
    numpy_, emulated = cost(lambda data: emulate(mapped, fixed, data), x, own_seconds, runs=1)
    with tempfile.TemporaryDirectory() as name:
        for path, data in chip_files(mapped, tensors, chip("loihi2")).items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        lava, found = cost(
            lambda data: dict(run_lava(Path(name, "lava"), data).counts), x, childrens_seconds, runs=2
        )
    for piece in mapped.pieces:
        want = expected[piece.name]
        assert want.any(), f"{piece.name} is silent: nothing was compared"
        np.testing.assert_array_equal(found[piece.name], want, err_msg=f"Lava, {piece.name}")
        np.testing.assert_array_equal(emulated[piece.name], want, err_msg=f"emulator, {piece.name}")

    operations = sum(a.synaptic_operations for a in activity.layers) / MANY
    rates = ", ".join(f"{p.name} {expected[p.name].mean():.1%}" for p in mapped.pieces)
    print(f"spikes of all 5 layers equal in Lava, engine and emulator, {MANY} samples; firing {rates}")
    print(f"{operations / 1e6:.2f} M synaptic operations a sample of {STEPS} steps")
    print(f"{'CPU seconds':28}{'a sample':>12}{'once':>10}{'M synops/s':>12}{'x Lava':>9}")
    for label, each in (("Lava fixed point", lava), ("clocked engine", ours), ("numpy emulator", numpy_)):
        print(
            f"{label:28}{each.sample:12.4f}{each.once:10.2f}"
            f"{operations / each.sample / 1e6:12.1f}{lava.sample / each.sample:9.1f}"
        )


if __name__ == "__main__":
    main()
