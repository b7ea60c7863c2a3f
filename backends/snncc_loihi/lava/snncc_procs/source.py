"""Input events: integers become single spikes, or one event that carries the count."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from snncc_procs.recording import Clock


class Source(AbstractProcess):
    """Plays the counts of ``inputs`` (.npy [N, T, W, H, C]).

    A count n is a spike in each of the micro-steps 0..n-1 of its timestep; if ``graded``, one event
    of value n in micro-step 0. The first timestep begins at micro-step ``phase`` of a sample.
    """

    def __init__(self, *, shape, inputs, graded, phase, run, name):
        super().__init__(shape=shape, inputs=inputs, graded=graded, phase=phase, run=run, name=name)
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySource(PyLoihiProcessModel):
    """The process on a CPU."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.counts = np.load(proc_params["inputs"], mmap_mode="r")
        self.graded = proc_params["graded"]
        self.clock = Clock(proc_params["run"], proc_params["phase"])
        self.silence = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self):
        """One micro-step."""
        s, k = self.clock.sample(self.time_step)
        at = self.clock.window(k)
        if at is None or (self.graded and at[1] > 0):
            self.s_out.send(self.silence)
            return
        t, d = at
        n = np.asarray(self.counts[s, t])
        self.s_out.send(n.astype(np.int32) if self.graded else (n > d).astype(np.int32))
