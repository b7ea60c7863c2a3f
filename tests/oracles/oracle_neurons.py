"""The libraries' own neuron classes in all their forms, for the table of neurons."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator

import sinabs.activation as sa
import sinabs.layers as sl
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from snncc_torch.neurons.recognise import RECOGNISERS, REFUSED

RESETS, THRESHOLDS, DECAYS = (None, 0.0, -0.3), (1.0, 0.7), (True, False)


def _common() -> Iterator[dict[str, object]]:
    for v_reset, threshold, mode in itertools.product(RESETS, THRESHOLDS, "ms"):
        yield {"v_reset": v_reset, "v_threshold": threshold, "step_mode": mode}


def _klif() -> Iterator[nn.Module]:
    for common, decay, scaled, k in itertools.product(_common(), DECAYS, DECAYS, (1.0, 0.8, 1.3)):
        made = neuron.KLIFNode(tau=1.7, decay_input=decay, scale_reset=scaled, **common)
        made.k.data.fill_(k)
        yield made


def _ilif() -> Iterator[nn.Module]:
    for mode, tau, levels, threshold in itertools.product("ms", (4 / 3, 1.7, 2.0), (1, 4, 8), THRESHOLDS):
        count = surrogate.MultiLevelSpikeCount(levels)
        yield neuron.ILIFNode(tau=tau, v_threshold=threshold, surrogate_function=count, step_mode=mode)


def _cuba() -> Iterator[nn.Module]:
    for mode, v_reset, decay in itertools.product("ms", RESETS, (0.5, 0.3)):
        made = neuron.CUBALIFNode(c_decay=decay, v_reset=v_reset)
        made.step_mode = mode
        yield made


def _aware() -> Iterator[nn.Module]:
    for common, offset in itertools.product(_common(), (0.0, 0.2)):
        yield neuron.ActivationAwareIFNode(v_offset=offset, **common)
    yield neuron.ActivationAwareIFNode(v_threshold=torch.tensor([1.0, 2.0]))


def spikingjelly_variants() -> dict[str, list[nn.Module]]:
    """Modules of every class that is recognised, by the class's name."""
    soft = [c for c in _common() if c["v_reset"] is not None]
    return {
        "IFNode": [neuron.IFNode(**c) for c in _common()],
        "LIFNode": [neuron.LIFNode(tau=t, decay_input=d, **c) for c in _common() for d in DECAYS for t in (1.7, 2.0)],
        "ParametricLIFNode": [
            neuron.ParametricLIFNode(init_tau=t, decay_input=d, **c)
            for c in _common() for d in DECAYS for t in (3.3, 2.0)
        ],
        "KLIFNode": list(_klif()),
        "ILIFNode": list(_ilif()),
        "CUBALIFNode": list(_cuba()),
        "HalfThresholdIFNode": [
            neuron.HalfThresholdIFNode(v_threshold=t, step_mode=m) for t in THRESHOLDS for m in "ms"
        ],
        "ActivationAwareIFNode": list(_aware()),
        "SimpleIFNode": [neuron.SimpleIFNode(**c) for c in _common()],
        "SimpleLIFNode": [neuron.SimpleLIFNode(tau=1.7, decay_input=d, **c) for c in soft for d in DECAYS],
    }  # fmt: skip


SPIKES = (sa.MultiSpike, sa.SingleSpike, sa.MaxSpike(5))
MECHANISMS = (sa.MembraneSubtract(), sa.MembraneSubtract(0.5), sa.MembraneReset(), sa.MembraneReset(0.25))


def _sinabs(make: type, squeezed: bool, **fixed: object) -> Iterator[nn.Module]:
    sizes = ({"batch_size": 4}, {"num_timesteps": 7}) if squeezed else ({},)
    for fire, reset, low, syn, size in itertools.product(
        SPIKES, MECHANISMS, (None, -0.3), (None, 3.0), sizes
    ):
        for threshold in THRESHOLDS:
            yield make(
                spike_fn=fire, reset_fn=reset, min_v_mem=low, tau_syn=syn, spike_threshold=torch.tensor(threshold),
                **size, **fixed,
            )  # fmt: skip


def sinabs_variants() -> dict[str, list[nn.Module]]:
    """Modules of every class that is recognised, by the class's name."""
    lif = [
        (squeezed, {"tau_mem": 5.0, "norm_input": norm, "train_alphas": alphas})
        for squeezed, norm, alphas in itertools.product(DECAYS, DECAYS, DECAYS)
    ]
    found: dict[str, list[nn.Module]] = {
        "IAF": list(_sinabs(sl.IAF, False)),
        "IAFSqueeze": list(_sinabs(sl.IAFSqueeze, True)),
        "LIF": [m for sq, fixed in lif if not sq for m in _sinabs(sl.LIF, False, **fixed)],
        "LIFSqueeze": [m for sq, fixed in lif if sq for m in _sinabs(sl.LIFSqueeze, True, **fixed)],
    }
    for norm, low in itertools.product(DECAYS, (None, -1.0)):
        common = {"tau_mem": 5.0, "norm_input": norm, "min_v_mem": low}
        found.setdefault("ExpLeak", []).append(sl.ExpLeak(**common))
        found.setdefault("ExpLeakSqueeze", []).append(sl.ExpLeakSqueeze(batch_size=2, **common))
    found["LIF"].append(sl.LIF(tau_mem=torch.tensor([3.0, 5.0])))
    return found


def unlisted() -> list[str]:
    """Neuron classes of the installed libraries that are neither recognised nor refused by name.

    Base classes and layers that only move axes are left out.
    """
    plain = ("BaseNode", "FlattenTime", "UnflattenTime", "Repeat", "Merge", "ChannelShift", "Cropping2dLayer")
    found = []
    for module in (neuron, sl):
        for name, cls in vars(module).items():
            if not inspect.isclass(cls) or not issubclass(cls, nn.Module):
                continue
            full = f"{cls.__module__}.{cls.__qualname__}"
            other = name.endswith(plain) or name in ("SumPool2d", "StatefulLayer")
            if not other and full not in RECOGNISERS and full not in REFUSED:
                found.append(full)
    return found
