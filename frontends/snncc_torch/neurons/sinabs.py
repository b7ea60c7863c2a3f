"""The neurons of sinabs: IAF, LIF and ExpLeak, over [B, T, ...] or squeezed [B·T, ...].

Everything here is a hypothesis that capture verifies. sinabs itself is never imported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from snncc_torch.registry import NeuronSpec, Recogniser, Refused

LAYERS = "sinabs.layers"

# sinabs' MultiSpike fires as many spikes a timestep as fit. A graph needs a bound; this one is
# far above what trained networks fire (27 were seen).
ASSUMED_LIMIT = 127


def _scalar(tensor: Any, what: str) -> float:
    if tensor.numel() != 1:
        raise Refused(f"{what} per neuron or channel is not supported yet")
    return float(tensor)


def _firing(module: Any) -> NeuronSpec:
    """How many spikes: by the spike function's own name, which verification then checks."""
    function = module.spike_fn
    # MultiSpike and SingleSpike are passed as classes, MaxSpike as an object.
    kind = function if isinstance(function, type) else type(function)
    match f"{kind.__module__}.{kind.__qualname__}".removeprefix("sinabs.activation.spike_generation."):
        case "SingleSpike":
            return NeuronSpec(max_spikes=1)
        case "MaxSpike" if function.max_num_spikes_per_bin is not None:
            return NeuronSpec(max_spikes=int(function.max_num_spikes_per_bin))
        case "MultiSpike" | "MaxSpike":
            assumed = f"at most {ASSUMED_LIMIT} a timestep are assumed"
            note = f"sinabs limits no spike count: {assumed}; MaxSpike(n) states it"
            return NeuronSpec(max_spikes=ASSUMED_LIMIT, unbounded=True, note=note)
        case other:
            raise Refused(f"its spike function {other} is none of sinabs' own")


def _reset(module: Any, spec: NeuronSpec) -> NeuronSpec:
    function = module.reset_fn
    full = f"{type(function).__module__}.{type(function).__qualname__}"
    match full.removeprefix("sinabs.activation.reset_mechanism."):
        case "MembraneSubtract":
            by = function.subtract_value
            return replace(spec, reset="subtract", reset_by=None if by is None else float(by))
        case "MembraneReset":
            # sinabs adds the value at every timestep, whether it fired or not. Seen from a membrane
            # without that shift r: it starts at -r, and its charge carries decay·r.
            shift = float(function.reset_value)
            low = None if spec.v_min is None else spec.v_min - shift
            bias = spec.decay * shift
            return replace(spec, reset="value", reset_to=0.0, v_init=-shift, bias=bias, v_min=low)
        case other:
            raise Refused(f"its reset function {other} is none of sinabs' own")


def _charge(module: Any, spec: NeuronSpec) -> NeuronSpec:
    decay = _scalar(module.alpha_mem_calculated.detach(), "tau_mem")
    spec = replace(
        spec, layout="squeezed" if hasattr(module, "num_timesteps") else "batch_first", decay=decay,
        gain=1.0 - decay if module.norm_input else 1.0,
    )  # fmt: skip
    synapse = module.alpha_syn_calculated
    if synapse is None:
        return spec
    return replace(spec, synapse_decay=_scalar(synapse.detach(), "tau_syn"), synapse_order="add_decay_read")


def spiking(module: Any) -> NeuronSpec:
    """IAF and LIF, and their squeezed forms."""
    spec = _charge(module, _firing(module))
    spec = replace(spec, threshold=_scalar(module.spike_threshold.detach(), "spike_threshold"))
    if module.min_v_mem is not None:
        spec = replace(spec, v_min=_scalar(module.min_v_mem.detach(), "min_v_mem"))
    return _reset(module, spec)


def leak(module: Any) -> NeuronSpec:
    """ExpLeak: a readout that delivers its membrane."""
    if module.min_v_mem is not None:
        raise Refused("min_v_mem bounds the membrane of a readout, which snncc's cannot")
    return _charge(module, NeuronSpec(max_spikes=0))


NEURONS: dict[str, Recogniser] = {
    f"{LAYERS}.{file}.{name}{form}": found
    for file, name, found in (("iaf", "IAF", spiking), ("lif", "LIF", spiking), ("exp_leak", "ExpLeak", leak))
    for form in ("", "Squeeze")
}


def dyadic(module: Any) -> None:
    """Give a copy of a neuron parameters in which float arithmetic is exact, so that ties are real."""
    for name, value in (
        ("spike_threshold", 1.0),
        ("min_v_mem", -0.25),
        ("alpha_mem", 0.5),
        ("alpha_syn", 0.5),
    ):
        found = getattr(module, name, None)
        if isinstance(found, nn.Parameter):
            setattr(module, name, nn.Parameter(torch.full_like(found, value, dtype=torch.float32), False))
    if getattr(module.reset_fn, "subtract_value", None) is not None:
        module.reset_fn = type(module.reset_fn)(0.5)
    if getattr(module.reset_fn, "reset_value", 0.0):
        module.reset_fn = type(module.reset_fn)(0.25)


TWINS = {name: dyadic for name, recogniser in NEURONS.items() if recogniser is spiking}

_FEEDBACK = "it feeds its own spikes back through a module of its own"
REFUSED: dict[str, str] = {
    f"{LAYERS}.alif.ALIF": "its threshold adapts to its own spikes",
    f"{LAYERS}.alif.ALIFRecurrent": _FEEDBACK,
    f"{LAYERS}.iaf.IAFRecurrent": _FEEDBACK,
    f"{LAYERS}.lif.LIFRecurrent": _FEEDBACK,
    f"{LAYERS}.pool2d.SpikingMaxPooling2dLayer": "it compares spike counts over time, mixing time and batch",
    f"{LAYERS}.quantize.QuantizeLayer": "it rounds without an upper limit and may be negative",
    f"{LAYERS}.neuromorphic_relu.NeuromorphicReLU": "a stand-in of training: convert by from_model",
    f"{LAYERS}.to_spike.Img2SpikeLayer": "it draws random spikes",
    f"{LAYERS}.to_spike.Sig2SpikeLayer": "it encodes a signal outside the network: give its spikes as input",
}
RESHAPING = frozenset(name for name in REFUSED if name.startswith((f"{LAYERS}.pool2d", f"{LAYERS}.to_spike")))


def _is_a(module: Any, name: str) -> bool:
    return any(f"{c.__module__}.{c.__qualname__}" == f"{LAYERS}.{name}" for c in type(module).__mro__)


def rest(module: Any) -> None:
    """Put a copy of a sinabs layer at rest and let it take one sample, as capture gives it."""
    if _is_a(module, "stateful_layer.StatefulLayer"):
        for name in list(module._buffers):
            # Empty: the layer makes zeros of the right shape itself.
            module.register_buffer(name, torch.zeros(0))
    if _is_a(module, "reshape.SqueezeMixin") or _is_a(module, "reshape.UnflattenTime"):
        module.batch_size = 1


class _SumPool(nn.Module):
    """sinabs' SumPool2d, which goes through p-norms, as a mean times the size of its window."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        kernel = pool.kernel_size
        self.kernel = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        self.stride, self.ceil_mode = pool.stride, pool.ceil_mode
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sums over windows."""
        mean = nn.functional.avg_pool2d(x, self.kernel, self.stride, ceil_mode=self.ceil_mode)
        return mean * float(self.kernel[0] * self.kernel[1])


def simplify(root: nn.Module) -> None:
    """Replace sum pooling in a copy that is to be traced; the comparison is with the original."""
    for module in list(nn.Module.modules(root)):
        for name, child in module._modules.items():
            full = f"{type(child).__module__}.{type(child).__qualname__}"
            if full == f"{LAYERS}.pool2d.SumPool2d" and getattr(child, "norm_type", None) == 1:
                module._modules[name] = _SumPool(child)


def any_steps(module: Any) -> None:
    """Let a copy of a squeezed layer take any number of timesteps."""
    if hasattr(module, "num_timesteps"):
        module.num_timesteps = -1
