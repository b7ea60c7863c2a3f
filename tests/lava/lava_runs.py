"""Runs cases in the Lava environment: several drivers at once, each with a hard time limit."""

import contextlib
import os
import signal
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fixed_cases

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-lava" / "bin" / "python"
DRIVER = Path(__file__).with_name("lava_driver.py")
PROCESSES = Path(find_spec("snncc_loihi").origin).parent / "lava"
CASES_A_RUN, DRIVERS, SECONDS_A_CASE = 25, 2, 4


def lava_version():
    """Version of lava-nc in its environment."""
    code = "from importlib.metadata import version; print(version('lava-nc'))"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run_all(cases, folder):
    """Traces of each case by name, as Lava computes them.

    Raises:
        RuntimeError: A run failed or took too long; with what it printed.
    """
    if not PYTHON.exists():
        raise RuntimeError(f"{PYTHON} is not there: `make lava-env` makes the Lava environment")
    for case in cases:
        fixed_cases.save_case(folder, case)
    chunks = [cases[i : i + CASES_A_RUN] for i in range(0, len(cases), CASES_A_RUN)]
    with ThreadPoolExecutor(DRIVERS) as pool:
        list(pool.map(lambda chunk: _run([c["name"] for c in chunk], folder), chunks))
    return {case["name"]: _traces(case, folder) for case in cases}


def _run(names, folder):
    prefix = f"snncct{uuid.uuid4().hex[:8]}_"
    log = folder / f"{names[0]}.log"
    # Nothing of this environment: its packages are not those of Python 3.10.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    # A file, not a pipe: orphans of a killed run would hold the pipe open.
    with log.open("w") as out:
        driver = subprocess.Popen(
            [PYTHON, DRIVER, folder, prefix, PROCESSES, *names],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=inherited | {"OMP_NUM_THREADS": "1"},
        )
        try:
            code = driver.wait(timeout=30 + SECONDS_A_CASE * len(names))
        except subprocess.TimeoutExpired:
            code = "none: out of time"
        finally:
            _end(driver, prefix)
    if code != 0:
        raise RuntimeError(f"Lava's driver ended with exit code {code}:\n{log.read_text()}")


def _end(driver, prefix):
    """End the driver's whole session and remove its shared memory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    for left in Path("/dev/shm").glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


def _traces(case, folder):
    found = {}
    for name in case["populations"]:
        with np.load(folder / f"{case['name']}.{name}.npz") as file:
            # Lava's maps are [W, H, C].
            found[name] = {key: a.transpose(0, *range(a.ndim - 1, 0, -1)) for key, a in file.items()}
    return found
