"""However a Lava run fails: a typed error in bounded time, no process and no shared memory left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava_folders import write_folder

from simulator.simnets import Net, Way
from snncc.errors import ToolError
from snncc_loihi import runner
from snncc_loihi.emit import LAVA_FILES
from snncc_loihi.runner import run_lava

ROOT = Path(__file__).resolve().parents[2]
POPULATION, RUN = "snncc_procs/population.py", "run.py"
UPDATE = "        self.inputs += self.a_in.recv()"  # the middle of the population's step
BOUND_SECONDS = 40.0  # far above what a failing run takes, far below for ever


def living(session: int) -> list[int]:
    """Processes of a session that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state not in "ZX":
            found.append(int(entry.name))
    return found


def assert_nothing_left(session: int, prefix: str) -> None:
    deadline = time.monotonic() + 5
    while living(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(session) == []
    assert list(Path("/dev/shm").glob(f"{prefix}*")) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net = Net((1, 3, 4), levels=2, steps=1, period=3, seed=1)
    net.layer("a", 2, Way(kernel=(2, 2)), threshold=9, max_spikes=2, phase=3)
    net.layer("b", 3, Way("a", kernel=None), threshold=9, max_spikes=2, phase=6)
    return write_folder(net.mapped(), net.tensors, tmp_path / "target")


X = np.ones((3, 1, 1, 3, 4), np.int64)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """(session, memory prefix) of every run; at the end of the test nothing of them may be left."""
    found: list[tuple[int, str]] = []
    popen = subprocess.Popen

    def noted(command: list[str], **options: Any) -> Any:
        process = popen(command, **options)
        if "--prefix" in command:
            found.append((process.pid, command[command.index("--prefix") + 1]))
        return process

    monkeypatch.setattr(runner.subprocess, "Popen", noted)
    yield found
    for session, prefix in found:
        assert_nothing_left(session, prefix)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """``broken(file, old, new)`` changes one of the scripts that run in the Lava environment."""
    original = runner.script

    def change(name: str, old: str, new: str) -> None:
        assert old in original(name).decode()

        def script(asked: str) -> bytes:
            text = original(asked)
            return text.replace(old.encode(), new.encode()) if asked == name else text

        monkeypatch.setattr(runner, "script", script)

    return change


def failure(folder: Path, x: Any = X, **options: Any) -> ToolError:
    begun = time.monotonic()
    with pytest.raises(ToolError) as caught:
        run_lava(folder, x, **options)
    assert time.monotonic() - begun < BOUND_SECONDS
    return caught.value


def after(statement: str) -> str:
    return f"{UPDATE}\n        import os, sys, time\n        if self.time_step == 7:\n            {statement}"


def test_the_folder_is_sound(folder: Path, started: list[tuple[int, str]]) -> None:
    assert run_lava(folder, X).counts["b"].shape == (3, 1, 3, 1, 1)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("raise ValueError('seven')", "ValueError: seven"),
        ("sent = np.zeros(5); self.s_out.send(sent)", "data.shape=(5,) self._shape=(3, 2, 2) Mismatch"),
        ("os._exit(3)", "PyPopulation ended with exit code 3 in the middle of the run"),
        ("os.kill(os.getpid(), 9)", "PyPopulation ended with exit code -9 in the middle of the run"),
    ],
)
def test_failure_in_a_step(
    statement: str, told: str, folder: Path, broken: Any, started: list[tuple[int, str]]
) -> None:
    broken(POPULATION, UPDATE, after(statement))
    error = failure(folder)
    assert error.code == "SNNC-T003"
    assert error.exit_code == 1
    assert told in str(error)


@pytest.mark.parametrize("statement", ["raise ValueError('early')", "import os; os._exit(4)"])
def test_failure_while_a_process_is_built(
    statement: str, folder: Path, broken: Any, started: list[tuple[int, str]]
) -> None:
    broken(POPULATION, "        self.restart()\n\n    def restart", f"        {statement}\n\n    def restart")
    error = failure(folder)
    assert error.code == "SNNC-T003"
    assert ("ValueError: early" if "early" in statement else "ended with exit code 4") in str(error)


def test_run_that_does_not_stop_lava(folder: Path, broken: Any, started: list[tuple[int, str]]) -> None:
    broken(RUN, "        processes[0].stop()\n", "")
    error = failure(folder, time_limit=6)
    assert error.code == "SNNC-T004"


def test_run_that_exits_in_the_middle(folder: Path, broken: Any, started: list[tuple[int, str]]) -> None:
    broken(RUN, "        processes[0].stop()\n", "        sys.exit(0)\n")
    assert failure(folder).code == "SNNC-T003"


def test_run_that_hangs(folder: Path, broken: Any, started: list[tuple[int, str]]) -> None:
    broken(POPULATION, UPDATE, after("time.sleep(1000)"))
    error = failure(folder, time_limit=5)
    assert str(error) == (
        "[SNNC-T004] Lava: the run was given up. the run did not end within 5 s, limit 5 s. "
        "Try fewer samples, or a larger time limit."
    )


def test_hang_that_the_watchdog_does_not_see(
    folder: Path, broken: Any, started: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_GRACE_SECONDS", 0.5)
    broken(RUN, "    watchdog.start()\n", "    import time\n    time.sleep(1000)\n")
    error = failure(folder, time_limit=2)
    assert str(error) == (
        "[SNNC-T004] Lava: the run was given up. It printed nothing, limit 2 s. "
        "Try fewer samples, or a larger time limit."
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_signal_to_the_first_process_of_the_run_only(
    number: signal.Signals, folder: Path, broken: Any, started: list[tuple[int, str]]
) -> None:
    broken(POPULATION, UPDATE, f"{UPDATE}\n        import time; time.sleep(0.5)")

    def kill() -> None:
        while not started or len(living(started[0][0])) < 8:  # all of Lava's processes are there
            time.sleep(0.1)
        os.kill(started[0][0], number)

    thread = threading.Thread(target=kill)
    thread.start()
    error = failure(folder)
    thread.join()
    assert error.code == "SNNC-T003"
    ended = (
        "the run was ended from outside." if number is signal.SIGKILL else "the run ended with exit code 70."
    )
    assert ended in str(error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_end_of_the_process_that_started_the_run(
    number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    """Ctrl-C cleans up in ``run_lava``; after SIGKILL the run itself finds that it is alone."""
    script = f"""
import signal, subprocess, sys
from pathlib import Path
import numpy as np
from snncc_loihi import runner
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs behind them without
popen = subprocess.Popen
def noted(command, **options):
    process = popen(command, **options)
    if "--prefix" in command:
        print(process.pid, command[command.index("--prefix") + 1], flush=True)
    return process
runner.subprocess.Popen = noted
script = runner.script
slow = {UPDATE!r} + "\\n        import time; time.sleep(0.5)"
runner.script = lambda n: script(n).replace({UPDATE!r}.encode(), slow.encode())
runner.run_lava(Path({str(folder)!r}), np.ones((3, 1, 1, 3, 4)))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    pid, prefix = process.stdout.readline().decode().split()
    deadline = time.monotonic() + 30
    while len(living(int(pid))) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    if number is signal.SIGINT:
        assert b"KeyboardInterrupt" in told
        assert_nothing_left(int(pid), prefix)
        return
    assert process.returncode == -signal.SIGKILL
    assert_nothing_left(int(pid), prefix)


def test_dangling_population_is_refused_before_lava_starts(
    folder: Path, started: list[tuple[int, str]]
) -> None:
    path = folder / "network.json"
    network = json.loads(path.read_text())
    del network["connections"][1]
    network["connections"][0]["source"] = "nowhere"
    path.write_text(json.dumps(network))
    begun = time.monotonic()
    error = failure(folder)
    assert time.monotonic() - begun < 5
    assert str(error) == (
        "[SNNC-T006] Lava: population 'b' has no connection: its input would dangle\n"
        "connection 0: there is no source 'nowhere'."
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("weight", "weight.7", "there is no array 'weight.7' of shape [2, 1, 2, 2]"),
        ("target_shape", [2, 9, 3], "target_shape [2, 9, 3] is not [2, 2, 3] of 'a'"),
    ],
)
def test_contradictions_are_refused(
    key: str, value: Any, told: str, folder: Path, started: list[tuple[int, str]]
) -> None:
    path = folder / "network.json"
    network = json.loads(path.read_text())
    entry = network["connections"][0]
    (entry if key in entry else entry["address"])[key] = value
    path.write_text(json.dumps(network))
    assert str(failure(folder)) == f"[SNNC-T006] Lava: connection 0: {told}."


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (X[:, :, :, :2], "x.0 has shape [3, 1, 1, 2, 4], the network takes [N, 1, 1, 3, 4]"),
        (X * 3, "x.0 holds 3..3, the network takes whole numbers 0..2"),
        (X * 0.5, "x.0 holds 0.5..0.5, the network takes whole numbers 0..2"),
    ],
)
def test_inputs_are_refused(x: Any, told: str, folder: Path, started: list[tuple[int, str]]) -> None:
    assert str(failure(folder, x)) == f"[SNNC-T006] Lava: {told}."


def test_run_without_a_result(folder: Path, broken: Any, started: list[tuple[int, str]]) -> None:
    broken(RUN, "    os.replace(staging, path)\n", "")
    error = failure(folder)
    assert str(error) == "[SNNC-T005] Lava: the run ended without a result. It printed nothing."


def test_scripts_of_the_folder_and_beside_it_do_not_run(
    folder: Path, tmp_path: Path, started: list[tuple[int, str]]
) -> None:
    """``run_lava`` takes data from a folder, not code; Lava executes what stands beside a process's file."""
    marker = tmp_path / "marker"
    bad = f"open({str(marker)!r}, 'w')\n"
    (folder / "stray.py").write_text(bad)
    shutil.copytree(folder, tmp_path / "standalone")
    for name in LAVA_FILES:
        (folder / name).write_text(bad)
    run_lava(folder, X)
    assert not marker.exists()

    np.savez(tmp_path / "in.npz", **{"x.0": X})
    command = [runner.lava_python(), "run.py", "--inputs", "../in.npz", "--results", "../out.npz"]
    subprocess.run(command, cwd=tmp_path / "standalone", check=True, timeout=60, capture_output=True)
    assert (tmp_path / "out.npz").exists()
    assert not marker.exists()
