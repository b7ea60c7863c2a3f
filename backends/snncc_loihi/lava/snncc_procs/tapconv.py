"""Convolution whose geometry does not fit the 8-bit parameters of Lava's own ``Conv``."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class TapConv(AbstractProcess):
    """Sums kernel tap after kernel tap, with Lava's buffer of one step behind it.

    Args:
        weight: int32 [O, C/groups, kh, kw], cross-correlation as in PyTorch.
        geometry: ``{"stride", "padding", "dilation"}`` as (vertical, horizontal), and ``"groups"``.
        in_shape, out_shape: (W, H, C).
    """

    def __init__(self, *, weight, geometry, in_shape, out_shape, name):
        super().__init__(weight=weight, geometry=geometry, in_shape=in_shape, out_shape=out_shape, name=name)
        self.s_in = InPort(shape=in_shape)
        self.a_out = OutPort(shape=out_shape)


@implements(proc=TapConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyTapConv(PyLoihiProcessModel):
    """The process on a CPU."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.weight, self.geometry = proc_params["weight"], proc_params["geometry"]
        self.out_shape = proc_params["out_shape"]
        self.buffer = np.zeros(self.out_shape, np.int32)

    def run_spk(self):
        """One micro-step."""
        self.a_out.send(self.buffer)
        self.buffer = self.convolve(self.s_in.recv().transpose(2, 1, 0)).transpose(2, 1, 0)

    def convolve(self, x):
        """[O, OH, OW] int32 of [C, H, W]."""
        g, (width, height, channels) = self.geometry, self.out_shape
        (sy, sx), (py, px), (dy, dx) = g["stride"], g["padding"], g["dilation"]
        groups = g["groups"]
        x = np.pad(x, ((0, 0), (py, py), (px, px)))
        x = x.reshape(groups, -1, *x.shape[1:])
        w = self.weight.reshape(groups, channels // groups, *self.weight.shape[1:])
        out = np.zeros((groups, channels // groups, height, width), np.int32)
        for ky in range(w.shape[3]):
            for kx in range(w.shape[4]):
                y, z = ky * dy, kx * dx
                part = x[:, :, y : y + sy * (height - 1) + 1 : sy, z : z + sx * (width - 1) + 1 : sx]
                out += np.einsum("goc,gchw->gohw", w[..., ky, kx], part)
        return out.reshape(channels, height, width)
