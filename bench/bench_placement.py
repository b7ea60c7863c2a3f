"""Placement against row-major order, and CPU time of cutting and placing a MobileNet.

Run: ``python bench/bench_placement.py``. Hops are expected packets of a sample times the links they
cross. Both orders are computed in the same run from the same packets; CPU seconds are those of
``place_network`` as the compiler calls it: partition, annealing and the independent check, and in
the first row the compilation of the annealing unless it is cached.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from loihi_nets import boards, chip, mobilenet, pilotnet, yolo_kp
from snncc.hw.mesh import Mesh
from snncc.mapping.mapped import Mapped
from snncc.mapping.utilisation import utilisation_of
from snncc_loihi.check import core_use
from snncc_loihi.place import Traffic, place, place_network

# A layer a row: 28 layers with weights and a spiking pooling in front of the last.
NETWORKS = {
    "PilotNet 66x200": (pilotnet, 8),
    "YOLO-KP 448x448": (yolo_kp, 8),
    "MobileNet 128x128": (lambda: mobilenet(128), 8),
    "MobileNet 224x224": (lambda: mobilenet(224), 16),
}


def clusters(seed: int) -> Traffic:
    """32 clusters; an eighth of all pairs exchange 1 to 20 packets."""
    rng = np.random.default_rng(seed)
    packets = (rng.random((32, 32)) < 1 / 8) * rng.integers(1, 21, (32, 32))
    np.fill_diagonal(packets, 0)
    source, target = np.nonzero(packets)
    return Traffic(32, source, target, packets[source, target].astype(float))


def weights(mapped: Mapped) -> dict[str, np.ndarray]:
    addresses = {c.weight: c.address for p in mapped.pieces for c in p.connections}
    return {
        digest: np.zeros((a.target_shape[0], a.source_shape[0] // a.groups, *a.kernel), np.int8)
        for digest, a in addresses.items()
    }


def main() -> None:
    for name, (make, chips) in NETWORKS.items():
        for spec in (boards(chip("loihi2"), chips), boards(chip("loihi1"), 64)):
            mapped = make()
            tensors = weights(mapped)
            start = time.process_time()
            placed, found = place_network(mapped, tensors, spec)
            seconds = time.process_time() - start
            table = utilisation_of(placed, spec, core_use(placed, spec))
            size = f"{len(table.rows):3} layers {table.cores:5} cores {table.chips:3} chips"
            ratio = found.hops / found.hops_row_major
            print(
                f"{name:18} {spec.name} {size}  hops / row-major {ratio:5.2f}  {seconds:6.1f} CPU s",
                flush=True,
            )
    mesh = Mesh(source="8 x 8 routers", chips=1, columns=8, rows=8, cores_per_router=1)
    found = [place(clusters(seed), mesh) for seed in range(20)]
    ratios = [p.hops / p.hops_row_major for p in found]
    before, after = (
        statistics.mean(h) for h in zip(*((p.hops_row_major, p.hops) for p in found), strict=True)
    )
    print(f"32 random clusters on 8x8, 20 draws: row-major {before:.0f}, annealed {after:.0f} on average;")
    print(f"  annealed / row-major: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
