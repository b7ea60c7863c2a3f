"""Neurons that Lava has not: soft reset, windows of spikes (SFA), graded counts, readout.

A timestep of ``micro_steps`` micro-steps is a window. At its first one
    I = trunc(I * synapse_decay / 2^synapse_bits) + gain * inputs since the last window
    v = trunc(v * decay / 2^decay_bits) + I + bias + precharge
then a spike a micro-step while v >= threshold (v -= threshold), at most ``max_spikes``; a graded
population sends the whole count at once, which may be negative if it is ``signed``. At its last
one v -= precharge, then reset and v_min.
``max_spikes`` = 1 with one micro-step a timestep is the ordinary soft-reset neuron. A readout
(``max_spikes`` = 0) sends its membrane at the first micro-step. Rounding is toward zero.

A population that ``streams`` has one window without end: it starts at v + bias + precharge, and
in every micro-step adds gain * inputs and fires once if v >= threshold, at most ``max_spikes`` times
if ``capped``; such a readout sends its membrane in every micro-step.
"""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from snncc_procs.recording import Clock, Recorder


class Population(AbstractProcess):
    """See the module.

    Args:
        neuron: the numbers above by name, with ``graded``, ``signed``, ``streams``, ``capped``, ``reset`` and
            ``reset_to``, ``state_bits`` (the membrane saturates), ``begin`` and ``first`` (as in
            ``StartedLIF``).
        start: membrane at micro-step ``begin``, ``bias``: both int64 (W, H, C).
    """

    def __init__(self, *, shape, neuron, start, bias, run, record, name):
        super().__init__(
            shape=shape, neuron=neuron, start=start, bias=bias, run=run, record=record, name=name
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Population, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPopulation(PyLoihiProcessModel):
    """The process on a CPU."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        shape, neuron = proc_params["shape"], proc_params["neuron"]
        # Not `self.phase`, `self.time_step` or `self._action`: Lava's own attributes bear these names.
        self.neuron, self.start_v, self.bias = neuron, proc_params["start"], proc_params["bias"]
        self.clock = Clock(proc_params["run"], neuron["first"])
        self.recorder = Recorder(proc_params["record"], self.clock, shape)
        self.word = 1 << (neuron["state_bits"] - 1)
        self.restart()

    def restart(self):
        """State before a sample."""
        self.v = self.start_v.copy()
        self.current = np.zeros_like(self.v)
        self.inputs = np.zeros_like(self.v)
        self.fired = np.zeros_like(self.v)

    def run_spk(self):
        """One micro-step."""
        _, k = self.clock.sample(self.time_step)
        if k == 0:
            self.restart()
        self.inputs += self.a_in.recv()
        t, sent = (self.stream if self.neuron["streams"] else self.window)(k)
        sent = sent.astype(np.int32)
        self.s_out.send(sent)
        self.recorder.add(self.time_step, t, sent, replace=self.neuron["max_spikes"] == 0)

    def window(self, k):
        """Timestep (None: outside all) of a sample's micro-step ``k``, and what is sent in it."""
        at, silence = self.clock.window(k), np.zeros_like(self.v)
        if at is None:
            # A chip updates from its first micro-step on: only bias and leak act that early.
            if self.neuron["begin"] <= k < self.clock.begin:
                self.charge()
                self.close()
            return None, silence
        t, d = at
        if d == 0:
            self.charge()
        if self.neuron["max_spikes"] == 0:
            return (t, self.v) if d == 0 else (None, silence)
        sent = self.fire(d)
        if d == self.clock.micro_steps - 1:
            self.close()
        return t, sent

    def stream(self, k):
        """The same for a population that streams."""
        n = self.neuron
        if not self.clock.begin <= k < self.clock.end:
            return None, np.zeros_like(self.v)
        if k == self.clock.begin:
            self.v = self.v + self.bias + n["precharge"]
        self.v = self.saturate(self.v + self.arrived())
        if n["max_spikes"] == 0:
            return 0, self.v
        may = self.fired < n["max_spikes"] if n["capped"] else True
        sent = ((self.v >= n["threshold"]) & may).astype(np.int64)
        self.v = self.v - sent * n["threshold"]
        self.fired = self.fired + sent
        return 0, sent

    def arrived(self):
        """Inputs since the last call, in membrane units."""
        found, self.inputs = self.neuron["gain"] * self.inputs, np.zeros_like(self.inputs)
        return found

    def saturate(self, v):
        """``v`` within the membrane's word."""
        return np.clip(v, -self.word, self.word - 1)

    def charge(self):
        """Start of a window."""
        n = self.neuron
        self.current = leak(self.current, n["synapse_decay"], n["synapse_bits"]) + self.arrived()
        v = leak(self.v, n["decay"], n["decay_bits"])
        self.v = self.saturate(v + self.current + self.bias + n["precharge"])
        self.fired = np.zeros_like(self.v)

    def fire(self, d):
        """Spikes (or counts) of a window's micro-step ``d``."""
        n = self.neuron
        if n["graded"]:
            least = -n["max_spikes"] if n["signed"] else 0
            sent = np.clip(self.v // n["threshold"], least, n["max_spikes"]) * (d == 0)
        else:
            sent = ((self.v >= n["threshold"]) & (d < n["max_spikes"])).astype(np.int64)
        self.v = self.v - sent * n["threshold"]
        self.fired = self.fired + sent
        return sent

    def close(self):
        """End of a window."""
        n = self.neuron
        self.v = self.v - n["precharge"]
        if n["reset"] == "value":
            self.v = np.where(self.fired > 0, n["reset_to"], self.v)
        elif n["reset_by"] is not None:
            self.v = self.v + self.fired * (n["threshold"] - n["reset_by"])
        if n["v_min"] is not None:
            self.v = np.maximum(self.v, n["v_min"])


def leak(x, numerator, bits):
    """trunc(x * numerator / 2^bits), toward zero; int64."""
    return np.sign(x) * ((np.abs(x) * numerator) >> bits)
