"""Packets a CPU second of the mesh's queues, against a heap of events in Python, and the bound's cost.

Run: ``python bench/bench_mesh.py``. One process and thread, the same packets for all; best of
several runs. The first column of times is the whole way from spikes to the time of every micro-step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulator.simnets import Net, Way
from simulator.test_mesh_timing import TIMES, reference
from snncc.hw.mesh import Mesh
from snncc.mapping.mapped import Mapped, Tile
from snncc_sim import mesh, traffic

LOIHI = Mesh(source="", chips=8, columns=8, rows=4, cores_per_router=4)
DENSITIES = (0.02, 0.1, 0.3)


def cpu_seconds(work: Callable[[], object], runs: int = 4) -> float:
    """Best CPU time of a few runs after one that compiles."""
    work()
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def network(scale: int) -> Mapped:
    """Three convolutions and a linear layer, every layer cut into channels x rows, cores in order."""
    net = Net((2, 34, 34), levels=1, steps=20, period=1)
    for phase, (name, source, channels) in enumerate((("a", "input", 16), ("b", "a", 16), ("c", "b", 8)), 1):
        way = Way(source, kernel=(5, 5) if phase == 1 else (3, 3), stride=(2, 2) if phase == 1 else (1, 1))
        net.layer(name, scale * channels, way, threshold=30, max_spikes=1, phase=phase)
    net.layer("r", 10, Way("c", kernel=None), max_spikes=0, phase=4)
    tiles: list[Tile] = []
    for piece in net.pieces:
        channels, height, width = piece.shape
        block, rows = min(8 * scale, channels), max(1, height // 3)
        for c in range(0, channels, block):
            for y in range(0, height, rows):
                high = (min(c + block, channels), min(y + rows, height), width)
                tiles.append(Tile(piece=piece.name, core=5 * len(tiles) % 128, low=(c, y, 0), high=high))
    return net.mapped().model_copy(update={"tiles": tuple(tiles)})


def main() -> None:
    heads = ("packets", "hops", "ns/packet", "queues", "bound", "loads", "x heap")
    widths = (10, 10, 11, 9, 9, 9, 9)
    print(f"{'network':24}" + "".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True)))
    for scale in (1, 4):
        mapped = network(scale)
        routes = traffic.build_routes(mapped)
        grid = mesh.build_grid(routes, LOIHI)
        rng = np.random.default_rng(0)
        for density in DENSITIES:
            counts = {
                p.name: (rng.random((1, 20, *p.shape)) < density).astype(np.int32) for p in mapped.pieces
            }
            x = (rng.random((1, 20, *mapped.inputs[0].shape)) < density).astype(np.int32)
            events = traffic.sample_events(routes, counts, x, 0)
            loads = traffic.sample_loads(routes, events)
            amounts = mesh.sample_amounts(routes, grid, loads)
            packets, hops = int(loads.flows.sum()), int(amounts.links.sum())

            def queues(e=events, a=amounts, r=routes, g=grid):
                return mesh.queue_times(r, g, e, a, TIMES)

            def bound(d=loads, a=amounts, r=routes, g=grid):
                return mesh.bound_times(r, g, d, a, TIMES)

            def prepare(r=routes, n=counts, i=x, g=grid):
                return mesh.sample_amounts(r, g, traffic.sample_loads(r, traffic.sample_events(r, n, i, 0)))

            parts = [cpu_seconds(f) for f in (queues, bound, prepare)]
            run = {"routes": routes, "events": events, "amounts": amounts}
            heap = cpu_seconds(lambda r=run: reference(r, 10, TIMES, LOIHI), runs=1)
            share = loads.flows[10].sum() / packets  # the heap plays one micro-step
            each = [1e9 * s / packets for s in parts]
            print(
                f"x{scale}, {density:4.0%} of neurons   {packets:10,}{hops:10,}{sum(each):11.1f}"
                + "".join(f"{e:9.1f}" for e in each)
                + f"{heap / share / parts[0]:9.0f}",
                flush=True,
            )
    print("ns a packet: spikes to times, of which queues, bound, and loads of tiles and cores")
    print("x heap: how much longer a heap of events in Python takes than the queues, for the same packets")


if __name__ == "__main__":
    main()
