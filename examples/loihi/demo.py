"""Two networks on Loihi: integers in two forms on Loihi 2, leaky neurons on Loihi 1.

python examples/loihi/demo.py --out build/demo-loihi

Every program is compared with its integer network in our simulator on all held-back digits, and on
20 of them in Lava if there is an environment for it (`make lava-env`). Nothing runs on a chip.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import click

import snncc
from snncc.errors import SnnccError
from snncc_loihi.runner import lava_python, probe

EXAMPLES = Path(__file__).parents[1]
MNIST, LIF = EXAMPLES / "mnist_sfa", EXAMPLES / "loihi_lif"
sys.path.insert(0, str(MNIST))

from demo import step  # of mnist_sfa  # noqa: E402

LAVA_SAMPLES = 20


def lava() -> Path | None:
    """The Lava environment's interpreter; says so if there is none."""
    try:
        found = probe(lava_python())
    except SnnccError as error:
        click.echo(f"Without Lava: {error}")
        return None
    if found.defect is not None:
        click.echo(f"Without Lava: {found.defect}.")
        return None
    return found.python


def check(folder: Path, data: Path, python: Path | None) -> None:
    """Verify a program in the simulator and, where there is one, in Lava."""
    step("snncc", "verify", folder, "--data", data)
    if python is not None:
        few = ("--samples", str(LAVA_SAMPLES))
        step("snncc", "verify", folder, "--data", data, *few, "--executor", "lava", "--python", python)


def compare(exact: Path, graded: Path, data: Path) -> None:
    """Print what one event that carries n costs against n events, as means of a sample."""
    names = ("n spikes for a count of n", "one event that carries n")
    columns = [figures(snncc.simulate(folder, data)) for folder in (exact, graded)]
    click.secho(f"\n{'MNIST on loihi2, a sample':30}" + "".join(f"{n:>28}" for n in names), bold=True)
    for row in zip(*columns, strict=True):
        click.echo(f"{row[0][0]:30}" + "".join(f"{value:>28}" for _, value in row))
    click.echo(
        "An operation of an event that carries n multiplies the weight by n; paper45 counts it as n\n"
        "accumulates, so that its energy shows none of the saving. Nobody published energies of Loihi 2."
    )


def figures(result: snncc.Simulation) -> list[tuple[str, str]]:
    """Names and values of one column."""
    cost, samples = result.cost, result.cost.samples
    latency, steps = cost.latency, cost.latency.steps
    assert latency.mean_ns is not None
    assert steps is not None
    mean, energy = latency.mean_ns, next(e for e in cost.energy if e.model == "paper45")
    return [
        ("micro-steps", f"{latency.micro_steps}"),
        ("events that arrive at a layer", f"{cost.operations.events / samples:,.0f}"),
        ("packets between cores", f"{steps.packets / samples:,.0f}"),
        ("links that packets cross", f"{steps.hops / samples:,.0f}"),
        ("synaptic operations", f"{cost.operations.synaptic_operations / samples:,.0f}"),
        ("accumulates", f"{cost.operations.acs / samples:,.0f}"),
        ("latency (band), µs", f"{mean.value / 1e3:,.0f} ({mean.low / 1e3:,.0f}–{mean.high / 1e3:,.0f})"),
        ("energy, paper45, µJ", f"{energy.total_nj.value / 1e3:.2f}"),
    ]


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo-loihi"),
    show_default=True,
    help="Folder that is made anew.",
)
def main(out: Path) -> None:
    """Compile, verify and simulate both networks, and compare the forms of the first."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    begin = time.monotonic()
    python = lava()
    step("python", MNIST / "data.py", "--out", out / "mnist")
    step("python", LIF / "events.py", "--out", out / "moving")
    exact, graded, lif = (out / name for name in ("mnist-exact", "mnist-graded", "lif"))
    digits, moving = out / "mnist" / "test.npz", out / "moving" / "test.npz"

    step("snncc", "compile", MNIST / "model.pt", "--target", "loihi2", "-o", exact)
    check(exact, digits, python)
    step("snncc", "compile", MNIST / "model.pt", "--target", "loihi2", "--graded", "-o", graded)
    check(graded, digits, python)
    step("snncc", "compile", LIF / "model.pt", "--target", "loihi1", "-o", lif)
    check(lif, moving, python)
    step("snncc", "simulate", lif, "--data", moving)
    step("snncc", "report", lif, "--data", moving, "--html", out / "lif.html")

    compare(exact, graded, digits)
    where = "" if python is not None else ", nothing of it in Lava"
    click.echo(f"\n{out} after {time.monotonic() - begin:.0f} s{where}")


if __name__ == "__main__":
    main()
