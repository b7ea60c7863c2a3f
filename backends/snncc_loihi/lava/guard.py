"""Keeps a Lava run from hanging or leaving anything behind; imports Lava only when asked to watch it.

Lava's own run waits for ever when one of its operating-system processes dies, prints nothing of
what went wrong in it, and leaves processes and shared memory behind when it is killed.
"""

import contextlib
import ctypes
import glob
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker, shared_memory

CRASHED, OUT_OF_TIME = 70, 75  # exit codes
_POLL_SECONDS = 0.1
_KILL_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def name_memory(prefix):
    """Give the shared memory of this run names that start with ``prefix``, so that it can be found.

    To be called before Lava is imported.
    """
    shared_memory._SHM_NAME_PREFIX = "/" + prefix
    shared_memory._SHM_SAFE_NAME_LENGTH = len(prefix) + 13


def bind_children():
    """Let the operating system end all later children of this process when it ends (Linux)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    os.register_at_fork(after_in_child=lambda: libc.prctl(_KILL_WITH_PARENT, signal.SIGKILL))


class Watchdog(threading.Thread):
    """Ends the run with a message when an actor dies, time runs out, or the starting process is gone.

    Args:
        prefix: of the names of shared memory. ``limit``: seconds. ``parent``: id of the process that
            must live on; None where none need.
    """

    def __init__(self, prefix, limit, parent):
        super().__init__(daemon=True)
        self.prefix, self.parent, self.pid = prefix, parent, os.getpid()
        self.limit, self.deadline = limit, time.monotonic() + limit
        self.actors, self.armed = [], True
        self.reading = threading.Lock()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminated)

    def watch_actors(self):
        """Learn of every actor that Lava starts from now on."""
        from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing

        build, actors = MultiProcessing.build_actor, self.actors

        def build_and_note(infrastructure, target_fn, builder, exception_q=None):
            actor = build(infrastructure, target_fn, builder, exception_q)
            model = getattr(builder, "proc_model", None) or getattr(builder, "rs_class", None)
            actors.append((getattr(model, "__name__", "a runtime service"), actor))
            return actor

        MultiProcessing.build_actor = build_and_note

    def disarm(self):
        """Actors may end from now on: Lava itself reads what they leave. The time limit stays."""
        with self.reading:
            self.armed = False

    def run(self):
        """Poll until the process ends."""
        while True:
            time.sleep(_POLL_SECONDS)
            if time.monotonic() > self.deadline:
                self.abort(OUT_OF_TIME, f"the run did not end within {self.limit:g} s")
            if self.parent is not None and os.getppid() != self.parent:
                self.abort(CRASHED, "the process that started this run is gone")
            with self.reading:
                if self.armed:
                    self._look_at_actors()

    def _look_at_actors(self):
        for name, actor in list(self.actors):
            ended = actor.exitcode  # before the pipe: what an ended actor wrote is in it by then
            if actor._pconn.poll():
                left = actor._pconn.recv()
                if left is not None:
                    self.abort(CRASHED, f"{name} failed\n{left[1]}")
            elif ended is not None:
                self.abort(CRASHED, f"{name} ended with exit code {ended} in the middle of the run")

    def _terminated(self, _signal, _frame):
        if os.getpid() != self.pid:  # a child, which inherited this
            os._exit(CRASHED)
        self.abort(CRASHED, "the run was terminated")

    def abort(self, code, why):
        """Say why, end every child, remove the shared memory, and exit with ``code``."""
        print(f"snncc: {why}", file=sys.stderr, flush=True)
        for child in multiprocessing.active_children():
            child.kill()
        if sys.platform == "linux":
            self._remove_memory()
        os._exit(code)

    def _remove_memory(self):
        """What Python's own tracker would do, which adds a warning for every piece to our message."""
        tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
        if tracker is not None:
            os.kill(tracker, signal.SIGKILL)
        for path in glob.glob(f"/dev/shm/{glob.escape(self.prefix)}*"):
            with contextlib.suppress(OSError):
                os.unlink(path)
