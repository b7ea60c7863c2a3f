"""A line that hands on what it received a number of micro-steps ago."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class DelayLine(AbstractProcess):
    """Spikes (or counts) wait for ``delay`` >= 1 micro-steps; nothing else adds to that."""

    def __init__(self, *, shape, delay, name):
        super().__init__(shape=shape, delay=delay, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayLine(PyLoihiProcessModel):
    """The process on a CPU."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.line = np.zeros((proc_params["delay"], *proc_params["shape"]), np.int32)

    def run_spk(self):
        """One micro-step."""
        slot = self.time_step % len(self.line)
        self.s_out.send(self.line[slot].copy())
        self.line[slot] = self.s_in.recv()
