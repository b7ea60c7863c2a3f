"""When a population runs, and what is kept of its output. Imports nothing of Lava."""

import numpy as np


class Clock:
    """Places of a Lava run: sample, micro-step of the sample, timestep, micro-step of the timestep.

    Args:
        run: ``{"samples", "sample_steps", "steps", "micro_steps", "end"}``; sample s occupies the Lava
            steps ``s * sample_steps + 1 ..``, and nothing is sent from its micro-step ``end`` on.
        begin: micro-step of a sample at which the population's first timestep starts.
    """

    def __init__(self, run, begin):
        self.samples, self.sample_steps = run["samples"], run["sample_steps"]
        self.steps, self.micro_steps, self.begin = run["steps"], run["micro_steps"], begin
        self.end = run["end"]

    def sample(self, time_step):
        """(sample, micro-step k of the sample) of a Lava step, which counts from 1."""
        return divmod(time_step - 1, self.sample_steps)

    def window(self, k):
        """(timestep, its micro-step) at micro-step ``k`` of a sample; None outside all timesteps."""
        t, d = divmod(k - self.begin, self.micro_steps)
        return (t, d) if 0 <= t < self.steps else None

    def is_last(self, time_step):
        """Whether the run ends with this Lava step."""
        return time_step == self.samples * self.sample_steps


class Recorder:
    """Adds up what a population sends and writes it when the run ends.

    Reading a variable through Lava sends one message a value, so that this file is the fast way.

    Args:
        record: ``{"path", "trains"}``; ``path`` without its ending.
        clock: the population's.
        shape: (W, H, C) of the population.
    """

    def __init__(self, record, clock, shape):
        self.path, self.clock = record["path"], clock
        self.counts = np.zeros((clock.samples, clock.steps, *shape), np.int32)
        self.trains = None
        if record["trains"]:
            self.trains = np.zeros((clock.samples, clock.sample_steps, *shape), np.int32)

    def add(self, time_step, t, sent, replace=False):
        """Keep what was sent in a Lava step: added to timestep ``t``, or in its place (membranes)."""
        s, k = self.clock.sample(time_step)
        if t is not None:
            self.counts[s, t] = sent if replace else self.counts[s, t] + sent
        if self.trains is not None:
            self.trains[s, k] = sent
        if self.clock.is_last(time_step):
            np.save(self.path + ".counts.npy", self.counts)
            if self.trains is not None:
                np.save(self.path + ".trains.npy", self.trains)
