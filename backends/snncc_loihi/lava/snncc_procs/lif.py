"""Lava's own LIF, started anew for every sample.

The arithmetic is that of ``lava.proc.lif``, unchanged: only the moments at which it runs are set
here, as ``LIFReset`` does, but with a start value and silence between samples.
"""

import numpy as np
from lava.magma.core.decorator import implements
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import PyLifModelBitAcc
from lava.proc.lif.process import LIF

from snncc_procs.recording import Clock, Recorder


class StartedLIF(LIF):
    """LIF that starts each sample at the membrane ``v`` and is silent outside its micro-steps.

    Args:
        begin: first micro-step of a sample in which it is updated.
        first: micro-step at which its first timestep starts (its phase).
        run: see :class:`snncc_procs.recording.Clock`. ``record``: see ``Recorder``.
    """

    def __init__(self, *, shape, v, du, dv, bias_mant, bias_exp, vth, begin, first, run, record, name):
        super().__init__(
            shape=shape,
            v=v,
            du=du,
            dv=dv,
            bias_mant=bias_mant,
            bias_exp=bias_exp,
            vth=vth,
            name=name,
            start=v,
            begin=begin,
            first=first,
            run=run,
            record=record,
        )


@implements(proc=StartedLIF, protocol=LoihiProtocol)
class PyStartedLIF(PyLifModelBitAcc):
    """The process on a CPU; tags and resources are those of Lava's model."""

    implements_process = None  # what the decorator asks for in a subclass of a model

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.start_v, self.begin = proc_params["start"], proc_params["begin"]
        self.clock = Clock(proc_params["run"], proc_params["first"])
        self.recorder = Recorder(proc_params["record"], self.clock, proc_params["shape"])
        self.silence = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self):
        """One micro-step."""
        _, k = self.clock.sample(self.time_step)
        if k == 0:
            self.u[:] = 0
            self.v[:] = self.start_v
        if self.begin <= k < self.clock.begin + self.clock.steps * self.clock.micro_steps:
            super().run_spk()
            sent = self.s_out_buff
        else:
            self.a_in.recv()
            sent = self.silence
            self.s_out.send(sent)
        at = self.clock.window(k)
        self.recorder.add(self.time_step, None if at is None else at[0], sent)
