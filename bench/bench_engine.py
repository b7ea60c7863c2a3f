"""Synaptic operations a CPU second of the simulator's kernels, against a dense torch convolution.

Run: ``python bench/bench_engine.py``. Both do the same layers on the same spikes in one thread and
one process; CPU seconds, best of several runs. The kernels' time is the whole ``execute`` call with
everything in it (tables, input check, counts). Dense torch executes every multiply-accumulate once
for a whole window (float32, on integer counts), the kernels one accumulate per spike.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulator.simnets import Net, Way, gate_pieces
from snncc.ir.schedule import Engine
from snncc_sim import SIMULATOR

SAMPLES = 32
LAYERS = {
    # name: input shape, output channels, kernel
    "conv 3x3 16->32 28x28": ((16, 28, 28), 32, (3, 3)),
    "conv 3x3 64->64 14x14": ((64, 14, 14), 64, (3, 3)),
    "conv 3x3 128->128 14x14": ((128, 14, 14), 128, (3, 3)),
    "conv 5x5 8->16 28x28": ((8, 28, 28), 16, (5, 5)),
    "depthwise 3x3 64 14x14": ((64, 14, 14), 64, (3, 3)),
    "linear 3136->256": ((64, 7, 7), 256, None),
    "linear 512->10": ((512, 1, 1), 10, None),
}


def cpu_seconds(work: Callable[[], object], runs: int = 4) -> float:
    """Best CPU time of a few runs after one that compiles."""
    work()
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def network(name: str, engine: Engine) -> Net:
    shape, channels, kernel = LAYERS[name]
    net = Net(shape, levels=1, period=2, engine=engine, weight_range=(-20, 20))
    groups = shape[0] if name.startswith("depthwise") else 1
    padding = (0, 0) if kernel is None else (kernel[0] // 2, kernel[1] // 2)
    # A threshold that leaves about a tenth of the neurons firing.
    fan_in = shape[0] // groups * math.prod(kernel or shape[1:])
    threshold = max(1, int(1.3 * 11.5 * math.sqrt(fan_in * 0.1)))
    way = Way(kernel=kernel, padding=padding, groups=groups)
    net.layer("a", channels, way, threshold=threshold, max_spikes=1, phase=2, capped=engine is Engine.CLOCKED)
    return net


def torch_seconds(name: str, net: Net, x: np.ndarray) -> float:
    piece = net.pieces[0]
    c = piece.connections[0]
    weight = torch.from_numpy(net.tensors[c.weight].astype(np.float32))
    data = torch.from_numpy(x[:, 0].astype(np.float32))
    with torch.inference_mode():
        return cpu_seconds(
            lambda: torch.nn.functional.conv2d(
                data, weight, padding=c.address.padding, groups=c.address.groups
            )
        )


def main() -> None:
    torch.set_num_threads(1)
    print(f"{SAMPLES} samples; G synaptic operations / CPU second, and CPU time of dense torch / kernels")
    heads = ("clocked", "x torch", "event", "x torch", "gated*", "x torch")
    print(f"{'layer':26}{'density':>8} " + "".join(f"{h:>9}" for h in heads))
    for name in LAYERS:
        for density in (0.02, 0.1, 0.3):
            cells = []
            for engine in (Engine.CLOCKED, Engine.EVENT, Engine.GATED):
                net = network(name, Engine.EVENT if engine is Engine.GATED else engine)
                mapped = net.mapped()
                if engine is Engine.GATED:
                    bound = 4 * mapped.pieces[0].cell.theta
                    mapped = gate_pieces(mapped, -bound, bound)
                x = (net.rng.random((SAMPLES, 1, *net.shape)) < density).astype(np.int32)
                activity = SIMULATOR.execute(mapped, net.tensors, x)
                operations = activity.layers[0].synaptic_operations
                seconds = cpu_seconds(lambda m=mapped, n=net, d=x: SIMULATOR.execute(m, n.tensors, d))
                cells += [operations / seconds / 1e9, torch_seconds(name, net, x) / seconds]
            print(f"{name:26}{density:8.0%} " + "".join(f"{c:9.2f}" for c in cells), flush=True)
    print("* data operations only: the time of the control events is included, their look-ups are not")


if __name__ == "__main__":
    main()
