"""Runs an emitted network in Lava, which lives in a Python 3.10 environment of its own.

Lava hangs on most failures and leaves processes and shared memory behind (see ``lava/guard.py``).
So it runs in a session of its own, under a time limit, with output to a file; whatever happens,
the session's processes are ended and its shared memory, known by its names, is removed.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from snncc.arrays import Array
from snncc.errors import SnnccError, fail
from snncc.simulation import Inputs, by_port
from snncc_loihi.emit import LAVA_FILES
from snncc_loihi.reference import read_network

PYTHON_VARIABLE = "SNNCC_LAVA_PYTHON"
VENV_PYTHON = Path(".venv-lava", "bin", "python")
_HINT = f"`make lava-env`, or lava-nc 0.10 and numpy below 2 in a Python 3.10 named by {PYTHON_VARIABLE}"

# Exit codes of run.py.
_REFUSED, _WRONG_VERSIONS, _OUT_OF_TIME = 64, 65, 75

_PROBE_SECONDS = 30.0
_GRACE_SECONDS = 5.0  # for the run's own time limit to act, which says more than ours
_TOLD_LINES, _TOLD_CHARACTERS = 30, 4000
_PROBE = """
import json, platform
from importlib import metadata
found = {"python": platform.python_version()}
for name in ("lava-nc", "numpy"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


@dataclass(frozen=True)
class LavaEnvironment:
    """A Python interpreter and what it holds; None where something is missing.

    Attributes:
        python: path of the interpreter.
        version: its own version.
        lava, numpy: versions of lava-nc and numpy.
    """

    python: Path
    version: str
    lava: str | None
    numpy: str | None

    @property
    def defect(self) -> str | None:
        """What keeps the environment from running networks; None if nothing does."""
        if self.lava is None or self.numpy is None:
            return "lava-nc is not installed there" if self.lava is None else "numpy is not installed there"
        if not self.lava.startswith("0.10."):
            return f"lava-nc is {self.lava}, networks are made for 0.10"
        if int(self.numpy.split(".")[0]) >= 2:
            return f"numpy is {self.numpy}, lava-nc 0.10 needs one below 2"
        return None


@dataclass(frozen=True)
class LavaRun:
    """What Lava computed.

    Attributes:
        counts: per population int32 [N, T, C, H, W]: spikes a timestep; a readout's membranes.
        trains: per population int32 [N, k, C, H, W], what it sent in each micro-step; empty unless
            asked for.
        seconds: duration, start of Lava included.
    """

    counts: Mapping[str, Array]
    trains: Mapping[str, Array]
    seconds: float


def lava_python(given: str | Path | None = None) -> Path:
    """The Lava environment's interpreter: ``given``, ``SNNCC_LAVA_PYTHON``, or ``.venv-lava`` of the project.

    The project is the working directory, or the folder above it that holds ``pyproject.toml`` or
    ``.git``.

    Raises:
        ToolError: SNNC-T001 if there is none.
    """
    named = given or os.environ.get(PYTHON_VARIABLE)
    if named:
        if Path(named).is_file():
            return Path(named)
        raise fail("SNNC-T001", "Lava", "the interpreter does not exist", got=named, hint=_HINT)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / VENV_PYTHON).is_file():
            return folder / VENV_PYTHON
        if any((folder / mark).exists() for mark in ("pyproject.toml", ".git")):
            break
    raise fail("SNNC-T001", "Lava", "no environment for it was found", hint=_HINT)


def probe(python: Path) -> LavaEnvironment:
    """Versions in the environment of an interpreter; imports neither Lava nor numpy.

    Raises:
        ToolError: SNNC-T001 if it cannot be started.
    """
    command = [str(python), "-c", _PROBE]
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
        return LavaEnvironment(python, found["python"], found["lava-nc"], found["numpy"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        what = f"the interpreter does not work ({type(error).__name__})"
        raise fail("SNNC-T001", "Lava", what, got=python, hint=_HINT) from None


def run_lava(
    folder: Path,
    x: Inputs,
    *,
    python: str | Path | None = None,
    trains: bool = False,
    time_limit: float | None = None,
) -> LavaRun:
    """Run the network of a ``lava/`` folder on inputs.

    Only ``network.json`` and ``weights.npz`` are taken from the folder; the scripts that run are
    those of this package, so that a foreign artifact brings no code.

    Args:
        folder: ``target/lava`` of an artifact.
        x: counts [N, T, C, H, W] by port.
        python: interpreter of the Lava environment; see :func:`lava_python`.
        trains: also deliver what was sent in every micro-step.
        time_limit: seconds after which the run is given up; by default five times an estimate.

    Raises:
        ToolError: SNNC-T001 or T002 without a usable Lava, T003 if the run fails, T004 if time runs
            out, T005 without a result, T006 if the network or the inputs are refused.
    """
    environment = probe(lava_python(python))
    if environment.defect is not None:
        raise fail("SNNC-T002", str(environment.python), environment.defect, hint=_HINT)
    network = read_network(folder)
    given = by_port([port["name"] for port in network["inputs"]], x)
    samples = len(next(iter(given.values())))
    limit = estimated_limit(network, samples) if time_limit is None else time_limit
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="snncc-lava-") as name:
        work = Path(name)
        _stage(folder, work)
        named: dict[str, Any] = {f"x.{i}": counts for i, counts in enumerate(given.values())}
        np.savez(work / "inputs.npz", **named)
        code, said = _supervise(environment.python, work, trains, limit)
        error = _failure(code, said, limit)
        if error is not None:
            raise error
        arrays = _results(work / "results.npz", said)
    names = [p["name"] for p in network["populations"]]
    counts, sent = (
        {name: arrays[f"{kind}.{i}"] for i, name in enumerate(names) if f"{kind}.{i}" in arrays}
        for kind in ("counts", "trains")
    )
    return LavaRun(counts, sent, time.monotonic() - begun)


def estimated_limit(network: Mapping[str, Any], samples: int) -> float:
    """Seconds that a run may take: start-up, and five times what its micro-steps should take.

    Measured on two busy cores: 0.4 ms a process and step; Lava's Conv is scipy's ``convolve2d`` of
    every pair of channels.
    """
    processes = len(network["inputs"]) + len(network["populations"])
    step = 0.0
    for c in network["connections"]:
        a, late = c["address"], c["delay_by"]
        processes += 2 if late == "line" else 1
        (channels, height, width), outputs = a["source_shape"], math.prod(a["target_shape"])
        if c["kind"] == "dense":
            step += 2e-9 * outputs * channels * height * width * (1 + (late == "DelayDense") * c["delay"])
        else:
            pairs = channels // a["groups"] * a["target_shape"][0]
            padded = (height + 2 * a["padding"][0]) * (width + 2 * a["padding"][1])
            step += pairs * (4e-5 + 4e-9 * padded * math.prod(a["kernel"]))
    step += 4e-4 * processes
    return 30.0 + 0.5 * processes + 5 * step * samples * int(network["sample_steps"])


def script(name: str) -> bytes:
    """One of the files that run in the Lava environment."""
    return (files("snncc_loihi") / "lava").joinpath(*name.split("/")).read_bytes()


def _stage(folder: Path, work: Path) -> None:
    """Put scripts and network side by side in ``work``."""
    for name in LAVA_FILES:
        path = work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(script(name))
    for name in ("network.json", "weights.npz"):
        try:
            (work / name).write_bytes((folder / name).read_bytes())
        except OSError as error:
            raise fail("SNNC-T006", str(folder / name), "cannot be read", got=error.strerror) from None


def _environment() -> dict[str, str]:
    """This process's environment without what would bind the other Python to ours."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    # One thread: Lava forks, and threads of a numeric library do not survive that.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | threads | {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _supervise(python: Path, work: Path, trains: bool, limit: float) -> tuple[int | None, str]:
    """Run ``run.py`` to its end; its exit code (None: out of time) and all that it printed."""
    prefix = f"snncc{secrets.token_hex(4)}_"
    command = [str(python.absolute()), "run.py", "--inputs", "inputs.npz", "--results", "results.npz"]
    command += ["--limit", str(limit), "--parent", str(os.getpid()), "--prefix", prefix]
    command += ["--trains"] if trains else []
    log = work / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code: int | None = process.wait(limit + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _clean(process, prefix)
    return code, log.read_text(encoding="utf-8", errors="replace")


def _clean(process: subprocess.Popen[bytes], prefix: str) -> None:
    """End all processes of the session and remove its shared memory."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for path in glob.glob(f"/dev/shm/{prefix}*"):
        with contextlib.suppress(OSError):
            os.unlink(path)


def _failure(code: int | None, said: str, limit: float) -> SnnccError | None:
    if code == 0:
        return None
    told = _last_words(said)
    if code is None or code == _OUT_OF_TIME:
        hint = "fewer samples, or a larger time limit"
        return fail("SNNC-T004", "Lava", f"the run was given up. {told}", limit=f"{limit:g} s", hint=hint)
    if code == _WRONG_VERSIONS:
        return fail("SNNC-T002", "Lava", told, hint=_HINT)
    if code == _REFUSED:
        return fail("SNNC-T006", "Lava", told)
    if code < 0:
        hint = "it again; if nobody ended it, memory ran out: fewer samples"
        return fail(
            "SNNC-T003", "Lava", f"the run was ended from outside. {told}", got=f"signal {-code}", hint=hint
        )
    return fail("SNNC-T003", "Lava", f"the run ended with exit code {code}. {told}")


def _last_words(said: str) -> str:
    """The end of what the run printed, from our own message on."""
    lines = [line.rstrip() for line in said.strip().splitlines()]
    ours = [i for i, line in enumerate(lines) if line.startswith("snncc: ")]
    lines = lines[ours[0] :] if ours else lines
    text = "\n".join(lines[-_TOLD_LINES:])[-_TOLD_CHARACTERS:]
    text = re.sub(r"^snncc: ", "", text, flags=re.MULTILINE)
    return text or "It printed nothing"


def _results(path: Path, said: str) -> dict[str, Array]:
    if not path.is_file():
        raise fail("SNNC-T005", "Lava", f"the run ended without a result. {_last_words(said)}")
    with np.load(path) as file:
        return dict(file)
