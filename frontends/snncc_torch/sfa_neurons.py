"""Recognisers of published stateless integer neurons, to be registered under their class's name.

Research code keeps its neurons in modules of its own (``models.MultiSpike``), and the same name
stands for other mathematics elsewhere: neither ``Multispike`` nor ``MultiSpike`` says how a tie
rounds or where the count ends. snncc therefore takes none of them by name. Say which it is::

    snncc.register_neuron("models.MultiSpike", snncc_torch.sfa_neurons.multi_spike)

and it is verified on every module. Where snncc meets an unknown module that behaves as one of these,
its error prints that line.
"""

from __future__ import annotations

from typing import Any

from snncc_torch.registry import NeuronSpec, Recogniser, Refused


def sfa(
    levels: int, *, rounding: str = "half_even", threshold: float = 1.0, divisor: float = 1.0
) -> Recogniser:
    """Any stateless integer neuron: clip(round(x/threshold), 0, levels) / divisor.

    Args:
        levels: D.
        rounding: ``half_even`` (torch.round), ``half_up`` (floor(x + 0.5)) or ``floor``.
        threshold: what one spike stands for: 0.25 for a neuron that rounds 4·x.
        divisor: what the integer is divided by (``Norm``, D, or 1).
    """
    spec = NeuronSpec(
        layout="none", max_spikes=levels, rounding=rounding, threshold=threshold, output_scale=1.0 / divisor
    )
    return lambda module: spec


def multi_spike(module: Any) -> NeuronSpec:
    """``MultiSpike(min_value=0, max_value=D, Norm)`` of E-SpikeFormer: round half to even, over Norm."""
    if module.min_value != 0:
        raise Refused(f"min_value must be 0, got {module.min_value}")
    return sfa(int(module.max_value), divisor=float(module.Norm))(module)


def multispike(module: Any) -> NeuronSpec:
    """``Multispike(norm)`` of the large E-SpikeFormer: floor(x + 0.5) over norm.

    Its limit is always 4: the attribute ``lens`` never reaches the function that clamps. For a
    file that says ``T = 8`` register ``sfa(8, rounding="half_up", divisor=...)``.
    """
    return sfa(4, rounding="half_up", divisor=float(module.norm))(module)


def multispike_of_four(module: Any) -> NeuronSpec:
    """``Multispike(lens)`` of Spike-driven Transformer variants: floor(clamp(4·x, 0, 4) + 0.5) / 4."""
    return sfa(4, rounding="half_up", threshold=0.25, divisor=4.0)(module)


def qcfs(module: Any) -> NeuronSpec:
    """QCFS / clip-floor: floor(clamp(x/θ, 0, 1)·L + 0.5)/L · θ, with (L, thresh) or (t, up)."""
    levels = int(getattr(module, "L", None) or module.t)
    top = float(module.thresh if hasattr(module, "thresh") else module.up)
    if levels < 1 or top <= 0:
        raise Refused(f"needs L of at least 1 and a positive threshold, got {levels} and {top:g}")
    return sfa(levels, rounding="half_up", threshold=top / levels, divisor=levels / top)(module)


def q_ifnode(module: Any) -> NeuronSpec:
    """``Q_IFNode`` of the vendored Qtrick spikingjelly: a single-step IF that fires round(clip(v, 0, 4)).

    The published models give it [T, B, ...] in one call, so that T is a batch to it and its
    membrane is never seen again: it computes a stateless integer neuron.
    """
    return NeuronSpec(layout="single", max_spikes=4, rounding="half_even")


def integer_lif(levels: int = 4, decay: float = 0.25, divisor: float = 1.0) -> Recogniser:
    """I-LIF (``mem_update`` of SpikeYOLO) over [T, B, ...]: u = decay·(u - n) + x, rounded half to even."""
    spec = NeuronSpec(
        layout="multi", decay=decay, max_spikes=levels, rounding="half_even", output_scale=1.0 / divisor
    )
    return lambda module: spec


# What an error may propose for a module that snncc does not know, in this order.
PROPOSALS: dict[str, Recogniser] = {
    f"snncc_torch.sfa_neurons.{name}": recogniser
    for name, recogniser in {
        "multi_spike": multi_spike,
        "multispike": multispike,
        "qcfs": qcfs,
        "multispike_of_four": multispike_of_four,
        "q_ifnode": q_ifnode,
        'sfa(1, rounding="floor")': sfa(1, rounding="floor"),
        **{f"sfa({d})": sfa(d) for d in (1, 2, 4, 8)},
        **{f'sfa({d}, rounding="half_up")': sfa(d, rounding="half_up") for d in (4, 8)},
        "integer_lif()": integer_lif(),
    }.items()
}
