"""Real MNIST digits that move in front of a small event camera, as spikes in time.

python examples/loihi_lif/events.py --out DIR      writes DIR/test.npz

The digits and their split are those of examples/mnist_sfa. Each makes a triangle of three jerks, as
in N-MNIST; a pixel of the camera sends an event when it turns bright (channel 0) or dark (channel 1).
The result is binary, other events in every timestep, and the same in every run.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "mnist_sfa"))

from data import LEVELS, digits

T = 12
SIDE = 16  # of the camera: one pixel sees 2x2 of the digit's
JERKS = ((1, 1), (0, -1), (-1, 0))  # how far the camera moves (y, x) in each timestep of a third of the time
BRIGHT = 0.4  # mean of a pixel's 2x2, of full brightness
EDGE = 6  # dark border around the digit, so that the camera never looks outside
START = 2  # where the camera's corner is at first

Counts = NDArray[np.uint8]


def events(images: Counts, shift: tuple[int, int] = (0, 0)) -> Counts:
    """Events [N, T, 2, 16, 16] of images [N, 1, 28, 28] in 0..4.

    Args:
        images: grey levels.
        shift: moves the whole scene by up to 2 fine pixels (y, x).
    """
    field = np.pad(images[:, 0].astype(np.uint16), [(0, 0), (EDGE, EDGE), (EDGE, EDGE)])
    frames = [_seen(field, y + shift[0], x + shift[1]) for y, x in _path()]
    steps = [np.stack([now & ~before, before & ~now], axis=1) for before, now in pairwise(frames)]
    return np.stack(steps, axis=1).astype(np.uint8)


def _path() -> list[tuple[int, int]]:
    """Places (y, x) of the camera's corner in the field, T + 1 of them; the last is the first."""
    jerks = np.repeat(JERKS, T // len(JERKS), axis=0)
    places = START + np.cumsum([(0, 0), *jerks], axis=0)
    return [(int(y), int(x)) for y, x in places]


def _seen(field: NDArray[np.uint16], y: int, x: int) -> NDArray[np.bool_]:
    """The bright pixels [N, 16, 16] of a camera whose corner is at (y, x)."""
    part = field[:, y : y + 2 * SIDE, x : x + 2 * SIDE]
    sums: NDArray[np.uint16] = part.reshape(len(part), SIDE, 2, SIDE, 2).sum(axis=(2, 4), dtype=np.uint16)
    bright: NDArray[np.bool_] = sums > BRIGHT * 4 * LEVELS
    return bright


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Its folder.")
def main(out: Path) -> None:
    """Write test.npz: the 1,000 held-back digits as events x [1000, T, 2, 16, 16] and classes y."""
    _, (images, classes) = digits()
    out.mkdir(parents=True, exist_ok=True)
    x = events(images)
    np.savez_compressed(out / "test.npz", x=x, y=classes)
    click.echo(f"{out / 'test.npz'}: x {list(x.shape)} {x.dtype}, {x.mean():.2%} of them events, y {len(x)}")


if __name__ == "__main__":
    main()
