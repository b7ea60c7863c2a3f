"""Four trained networks of the papers' kinds, each from model.pt to verified spikes and a report.

python examples/digits/demo.py --out build/demo-digits [--target sim] [NAME ...]

NAME is a folder of examples/ that has a train.py of this folder's recipe; all four if none is given.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import click

EXAMPLES = Path(__file__).parents[1]
sys.path.append(str(EXAMPLES / "mnist_sfa"))

from demo import step  # of mnist_sfa  # noqa: E402

HERE = Path(__file__).parent
NAMES = ("e_spikeformer", "spikingformer_cml", "spikingformer_ilif", "sew_resnet")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo-digits"),
    show_default=True,
    help="Folder that is made anew.",
)
@click.option("--target", default="sim", show_default=True, help="Chip.")
def main(names: tuple[str, ...], out: Path, target: str) -> None:
    """Check, compile, verify, simulate and report each example."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    step("python", HERE / "images.py", "--out", out)
    data, few = out / "test.npz", out / "few.npz"
    for name in names or NAMES:
        begin = time.monotonic()
        model, made = EXAMPLES / name / "model.pt", out / name
        step("snncc", "check", model, "--target", target)
        step("snncc", "compile", model, "--target", target, "-o", made)
        step("snncc", "verify", made, "--data", data)
        step("snncc", "simulate", made, "--data", few)
        step("snncc", "report", made, "--data", few, "--html", out / f"{name}.html")
        click.echo(f"\n{name}: {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
