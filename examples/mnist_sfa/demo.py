"""The demo: from model.pt to a verified Speck artifact and an HTML report, as a user would type it.

python examples/mnist_sfa/demo.py --out build/demo
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

HERE = Path(__file__).parent
NOT_EQUIVALENT = 4


def step(*command: str | Path, expect: int = 0) -> None:
    """Print and run one command; stop the demo if it ends otherwise than expected."""
    words = [str(c) for c in command]
    click.secho(f"\n$ {' '.join(words)}", bold=True)
    program = (
        [sys.executable, *words[1:]]
        if words[0] == "python"
        else [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    )
    code = subprocess.run(program, check=False).returncode
    if code != expect:
        raise click.ClickException(f"`{' '.join(words)}` ended with exit code {code}, expected {expect}")


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Folder that is made anew.",
)
def main(out: Path) -> None:
    """Compile, verify under both schedules, simulate and report the MNIST example."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    begin = time.monotonic()
    model, test = HERE / "model.pt", out / "test.npz"
    step("python", HERE / "data.py", "--out", out)
    step("snncc", "compile", model, "--target", "speck2f", "-o", out / "exact")
    step("snncc", "verify", out / "exact", "--data", test)
    step("snncc", "compile", model, "--target", "speck2f", "--schedule", "free", "-o", out / "free")
    step("snncc", "verify", out / "free", "--data", test, expect=NOT_EQUIVALENT)
    click.echo("Refused as it must be: a free-running chip does not compute the trained integers.")
    step("snncc", "simulate", out / "exact", "--data", test)
    step("snncc", "report", out / "exact", "--data", test, "--html", out / "report.html")
    click.echo(f"\n{out / 'report.html'} after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
