"""Trainable spiking modules that snncc compiles: SFA, I-LIF, IF and LIF neurons and containers.

Every module holds plain attributes only, so that a whole model pickles (``torch.save(model,
path)``) and loads again under torch's ``weights_only``. None keeps state between calls: a stateful
neuron starts from rest whenever it is called and loops over the leading time axis itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snncc_torch.masked import (
    Mask2d,
    MaskedBatchNorm2d,
    MaskedConv2d,
    patch_mask,
    remask,
    sparse,
    vanilla,
)

__all__ = [
    "IF", "ILIF", "LIF", "SFA", "Mask2d", "MaskedBatchNorm2d", "MaskedConv2d", "OverTime", "PerStep",
    "Residual", "patch_mask", "remask", "sparse", "vanilla",
]  # fmt: skip


class _RoundClip(torch.autograd.Function):
    """clip(round(x), 0, D); the gradient passes unchanged where 0 ≤ x ≤ D and is zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return torch.round(x).clamp(0, levels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        inside = (x >= 0) & (x <= ctx.levels)
        return grads[0] * inside, None


class _Fire(torch.autograd.Function):
    """1 where x ≥ 0; the gradient is that of arctan(π/2·α·x)/π + 1/2, as in spikingjelly's ATan."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = ctx.alpha / 2 / (1 + (torch.pi / 2 * ctx.alpha * x) ** 2)
        return grads[0] * slope, None


class SFA(nn.Module):
    """Stateless integer neuron of spike firing approximation: ``clip(round(x), 0, D)``.

    Ties round half to even, as ``torch.round`` does. In training the gradient is the paper's
    rectangular window: 1 inside [0, D], 0 outside. On the chip the integer becomes that many spikes.

    Args:
        D: largest integer, at least 1.
        normalize: deliver n/D in place of n.
    """

    def __init__(self, D: int = 4, normalize: bool = False) -> None:
        super().__init__()
        if D < 1:
            raise ValueError(f"SFA: D must be at least 1, got {D}")
        self.D = D
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Integers 0..D (or n/D) of the same shape as ``x``, [B, ...] or [T, B, ...]."""
        n: Tensor = _RoundClip.apply(x, self.D)
        return n * (1.0 / self.D) if self.normalize else n

    def extra_repr(self) -> str:
        """Parameters for ``print(module)``."""
        return f"D={self.D}, normalize={self.normalize}"


class _Integrator(nn.Module):
    """A membrane that charges ``u = decay·v + gain·x``, fires at ``u ≥ θ`` and resets.

    Args:
        v_threshold: θ, positive.
        v_reset: potential after a spike; None subtracts θ.
        step_mode: ``m``: ``x`` is [T, B, ...]; ``s``: ``x`` is [B, ...], one timestep from rest.
        alpha: width of the surrogate gradient; of no meaning after training.
    """

    def __init__(self, v_threshold: float, v_reset: float | None, step_mode: str, alpha: float) -> None:
        super().__init__()
        if v_threshold <= 0:
            raise ValueError(f"{type(self).__name__}: v_threshold must be positive, got {v_threshold}")
        if step_mode not in ("m", "s"):
            raise ValueError(f"{type(self).__name__}: step_mode must be 'm' or 's', got {step_mode!r}")
        self.v_threshold = float(v_threshold)
        self.v_reset = None if v_reset is None else float(v_reset)
        self.step_mode = step_mode
        self.alpha = float(alpha)

    def factors(self) -> tuple[float, float]:
        """(decay, gain) of the charge."""
        return 1.0, 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Spikes 0 or 1 of the same shape as ``x``."""
        return self._run(x) if self.step_mode == "m" else self._run(x.unsqueeze(0))[0]

    def _run(self, x: Tensor) -> Tensor:
        decay, gain = self.factors()
        v = torch.full_like(x[0], self.v_reset or 0.0)
        out = []
        for drive in x:
            u = decay * v + gain * drive
            spike: Tensor = _Fire.apply(u - self.v_threshold, self.alpha)
            fired = spike.detach()
            v = (
                u - fired * self.v_threshold
                if self.v_reset is None
                else torch.where(fired > 0, self.v_reset, u)
            )
            out.append(spike)
        return torch.stack(out)

    def extra_repr(self) -> str:
        """Parameters for ``print(module)``."""
        return f"v_threshold={self.v_threshold}, v_reset={self.v_reset}, step_mode={self.step_mode!r}"


class IF(_Integrator):
    """Integrate-and-fire neuron: ``u = v + x``, spike at ``u ≥ θ``; see :class:`_Integrator`."""

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        step_mode: str = "m",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(v_threshold, v_reset, step_mode, alpha)


class LIF(_Integrator):
    """Leaky neuron: ``u = (1 - 1/τ)·v + x/τ``, or ``+ x`` without ``decay_input``.

    The membrane leaks toward 0, also where ``v_reset`` is another potential.

    Args:
        tau: time constant in timesteps, greater than 1.
        v_threshold: see :class:`_Integrator`.
        v_reset: see :class:`_Integrator`.
        decay_input: whether the input is divided by τ.
        step_mode: see :class:`_Integrator`.
        alpha: see :class:`_Integrator`.
    """

    def __init__(
        self,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        decay_input: bool = True,
        step_mode: str = "m",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(v_threshold, v_reset, step_mode, alpha)
        if tau <= 1:
            raise ValueError(f"LIF: tau must be greater than 1, got {tau}")
        self.tau = float(tau)
        self.decay_input = decay_input

    def factors(self) -> tuple[float, float]:
        """(decay, gain) of the charge."""
        return 1.0 - 1.0 / self.tau, 1.0 / self.tau if self.decay_input else 1.0

    def extra_repr(self) -> str:
        """Parameters for ``print(module)``."""
        return f"tau={self.tau}, decay_input={self.decay_input}, {super().extra_repr()}"


class ILIF(_Integrator):
    """SFA with a membrane: ``u = decay·v + x``, ``n = clip(round(u), 0, D)``, then the reset.

    The multi-timestep neuron of spike firing approximation (E-SpikeFormer paper, section 4.1): each of
    T training steps becomes D micro-steps on the chip. Its four dynamics are LIF (``decay`` below 1) or
    IF (1), each with the soft reset ``v = u - n`` or the hard one, ``v = v_reset`` where n > 0. Ties
    and gradient are those of :class:`SFA`; none flows through the reset.

    Args:
        D: largest integer, at least 1.
        decay: β, what a timestep leaves of the membrane, above 0 and at most 1.
        v_reset: potential behind a step that fired, and the one it starts from; None subtracts n.
        normalize: deliver n/D in place of n.
        step_mode: see :class:`_Integrator`.
    """

    def __init__(
        self,
        D: int = 4,
        decay: float = 0.25,
        v_reset: float | None = None,
        normalize: bool = False,
        step_mode: str = "m",
    ) -> None:
        super().__init__(1.0, v_reset, step_mode, 2.0)
        if D < 1:
            raise ValueError(f"ILIF: D must be at least 1, got {D}")
        if not 0 < decay <= 1:
            raise ValueError(f"ILIF: decay must be above 0 and at most 1, got {decay}")
        self.D = D
        self.decay = float(decay)
        self.normalize = normalize

    def factors(self) -> tuple[float, float]:
        """(decay, gain) of the charge."""
        return self.decay, 1.0

    def _run(self, x: Tensor) -> Tensor:
        v = torch.full_like(x[0], self.v_reset or 0.0)
        out = []
        for drive in x:
            u = self.decay * v + drive
            n: Tensor = _RoundClip.apply(u / self.v_threshold, self.D)
            fired = n.detach()
            v = (
                u - fired * self.v_threshold
                if self.v_reset is None
                else torch.where(fired > 0, self.v_reset, u)
            )
            out.append(n * (1.0 / self.D) if self.normalize else n)
        return torch.stack(out)

    def extra_repr(self) -> str:
        """Parameters for ``print(module)``."""
        return f"D={self.D}, decay={self.decay}, normalize={self.normalize}, {super().extra_repr()}"


class PerStep(nn.Sequential):
    """Stateless layers applied to every timestep: [T, B, ...] → [T·B, ...] → layers → [T, B, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """Result [T, B, ...]."""
        y: Tensor = super().forward(x.flatten(0, 1))
        return y.view(x.shape[0], x.shape[1], *y.shape[1:])


class OverTime(nn.Module):
    """Mean (or sum) over the leading time axis: [T, B, ...] → [B, ...]. The model's last layer."""

    def __init__(self, mean: bool = True) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        """Result [B, ...]."""
        return x.mean(0) if self.mean else x.sum(0)


class Residual(nn.Module):
    """``body(x) + shortcut(x)``; without a shortcut, ``body(x) + x``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the two branches, which must agree in shape, as [B, ...] or [T, B, ...]."""
        y: Tensor = self.body(x) + self.shortcut(x)
        return y
