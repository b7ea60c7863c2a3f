"""Which modules are neurons, and which canonical neuron each is.

Recognisers are keyed on the class's full name, never on its last part: libraries reuse names for
other mathematics (``facts/frontends.md`` §3). What one returns is a hypothesis; :func:`verify`
drives the very module and refuses it when its spikes differ.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snncc.errors import Problem, problem
from snncc.ir import Neuron, Number, Reset, Rounding
from snncc_torch.aten import SiteInfo
from snncc_torch.following import follow

Recogniser = Callable[[Any], tuple[Neuron, str]]

SPIKINGJELLY = "spikingjelly.activation_based.neuron"


def qualified_name(module: nn.Module) -> str:
    """Full name of the module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _sfa(module: Any) -> tuple[Neuron, str]:
    levels = int(module.D)
    return Neuron(
        name="",
        max_spikes=levels,
        rounding=Rounding.HALF_EVEN,
        output_scale=1.0 / levels if module.normalize else 1.0,
    ), "none"


def _soft_or_hard(threshold: float, v_reset: float | None, decay: float, gain: float, bias: float) -> Neuron:
    neuron = Neuron(name="", threshold=threshold, decay=decay, gain=gain, bias=bias)
    if v_reset is None:
        return neuron
    return replace(neuron, reset=Reset.VALUE, reset_to=float(v_reset), v_init=float(v_reset))


def _own_integrator(module: Any) -> tuple[Neuron, str]:
    decay, gain = module.factors()
    neuron = _soft_or_hard(float(module.v_threshold), module.v_reset, decay, gain, 0)
    return neuron, "multi" if module.step_mode == "m" else "single"


def _leaky(module: Any, k: float) -> tuple[Neuron, str]:
    """spikingjelly: v + (x - (v - v_reset))·k, or v - (v - v_reset)·k + x without decay_input."""
    rest = 0.0 if module.v_reset is None else float(module.v_reset)
    gain = k if module.decay_input else 1.0
    return _soft_or_hard(float(module.v_threshold), module.v_reset, 1.0 - k, gain, rest * k), _mode(module)


def _mode(module: Any) -> str:
    return "multi" if module.step_mode == "m" else "single"


def _sj_if(module: Any) -> tuple[Neuron, str]:
    return _soft_or_hard(float(module.v_threshold), module.v_reset, 1.0, 1.0, 0), _mode(module)


def _sj_lif(module: Any) -> tuple[Neuron, str]:
    return _leaky(module, 1.0 / float(module.tau))


def _sj_plif(module: Any) -> tuple[Neuron, str]:
    return _leaky(module, float(torch.sigmoid(module.w.detach())))


# spikingjelly 2.0 has one file a family; 0.0.0.0.13 and .14 have them all in neuron.py.
RECOGNISERS: dict[str, Recogniser] = {
    "snncc_torch.nn.SFA": _sfa,
    "snncc_torch.nn.IF": _own_integrator,
    "snncc_torch.nn.LIF": _own_integrator,
    f"{SPIKINGJELLY}.integrate_and_fire.IFNode": _sj_if,
    f"{SPIKINGJELLY}.lif.LIFNode": _sj_lif,
    f"{SPIKINGJELLY}.plif.ParametricLIFNode": _sj_plif,
    f"{SPIKINGJELLY}.IFNode": _sj_if,
    f"{SPIKINGJELLY}.LIFNode": _sj_lif,
    f"{SPIKINGJELLY}.ParametricLIFNode": _sj_plif,
}


@dataclass(frozen=True)
class Found:
    """Neurons of a model.

    Attributes:
        sites: what each recognised neuron is.
        modules: the neuron modules, in the order of ``sites``.
        problems: neurons that cannot be compiled.
    """

    sites: tuple[SiteInfo, ...]
    modules: tuple[nn.Module, ...]
    problems: tuple[Problem, ...]


def reset_state(root: nn.Module) -> None:
    """Put every spikingjelly memory of ``root`` back to its resting value, in place."""
    for module in nn.Module.modules(root):
        values: object = getattr(module, "_memories_rv", None)
        memories: object = getattr(module, "_memories", None)
        if isinstance(values, dict) and isinstance(memories, dict):
            memories.update(copy.deepcopy(values))


def find_neurons(root: nn.Module) -> Found:
    """Recognise every neuron of ``root`` and verify it against its module."""
    sites: list[SiteInfo] = []
    modules: list[nn.Module] = []
    problems: list[Problem] = []
    inside: list[str] = []
    for path, module in nn.Module.named_modules(root):
        if any(path.startswith(p + ".") for p in inside):
            continue
        recogniser = RECOGNISERS.get(qualified_name(module))
        if recogniser is None:
            problems.extend(_unknown_state(path, module))
            continue
        inside.append(path)
        found = _hypothesis(path, module, recogniser)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        problems.extend(verify(found, module))
        sites.append(found)
        modules.append(module)
    return Found(tuple(sites), tuple(modules), tuple(problems))


def _unknown_state(path: str, module: nn.Module) -> Iterator[Problem]:
    memories: object = getattr(module, "_memories", None)
    # spikingjelly's Dropout keeps its mask, which evaluation mode never reads.
    if isinstance(memories, dict) and set(memories) - {"mask"}:
        yield unrecognised(path, type(module).__name__, "holds state")


def unrecognised(path: str, cls: str, what: str) -> Problem:
    """The problem of a module that is a neuron, but none that snncc knows."""
    return problem(
        "SNNC-M005",
        path or "model",
        f"{cls} {what} and is no neuron that snncc knows",
        hint="snncc_torch.nn.SFA, IF or LIF, or spikingjelly's IFNode, LIFNode or ParametricLIFNode",
    )


def _hypothesis(path: str, module: nn.Module, recogniser: Recogniser) -> SiteInfo | Problem:
    where, cls = path or "model", type(module).__name__
    try:
        neuron, time = recogniser(module)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        return problem("SNNC-M005", where, f"{cls} lacks what a {cls} has", got=error)
    for name in ("threshold", "decay", "gain", "bias", "reset_to", "v_init"):
        value = getattr(neuron, name)
        if not math.isfinite(value):
            return problem("SNNC-M007", where, f"{cls}: {name} is not a finite number", got=value)
    if _number(neuron.threshold) <= 0:
        return problem("SNNC-M005", where, f"{cls}: the threshold must be positive", got=neuron.threshold)
    if neuron.max_spikes < 1:
        return problem("SNNC-M005", where, f"{cls}: D must be at least 1", got=neuron.max_spikes)
    return SiteInfo(path, neuron, time)


def _number(value: Number) -> float:
    assert isinstance(value, int | float)
    return float(value)


# ---- verification -------------------------------------------------------------------------------

_STEPS, _WIDTH = 8, 256


def drives(neuron: Neuron, steps: int) -> Iterator[NDArray[np.float32]]:
    """Test inputs [T, 1, K]: whole and half thresholds in simple fractions, then random values.

    The first kind lands on ties, where ``≥`` and ``>`` or two rounding rules part; random floats
    never do.
    """
    rng = np.random.default_rng(2024)
    unit = _number(neuron.threshold) / _number(neuron.gain)
    reach = 4 * (neuron.max_spikes + 2)
    yield (rng.integers(-reach, reach + 1, (steps, 1, _WIDTH)) * (unit / 4)).astype(np.float32)
    yield (rng.normal(0.3, 1.0, (steps, 1, _WIDTH)) * unit * (neuron.max_spikes + 1)).astype(np.float32)


def verify(site: SiteInfo, module: nn.Module) -> Iterator[Problem]:
    """Drive ``module`` and its canonical neuron alike; yield a problem if their spikes differ."""
    steps = _STEPS if site.time == "multi" else 1
    for drive in drives(site.neuron, steps):
        try:
            out = _respond(module, drive, site.time)
        except Exception as error:  # user code: whatever it raises, the module is not the neuron
            what = f"{type(module).__name__} fails on a test input"
            yield problem("SNNC-M005", site.path or "model", what, got=f"{type(error).__name__}: {error}")
            return
        wrong = (
            out.size if out.shape != drive.shape else follow(site.neuron, drive, exact=True, fired=out).wrong
        )
        if wrong:
            what = f"{type(module).__name__} behaves differently from the neuron whose name it bears"
            yield problem(
                "SNNC-M005",
                site.path or "model",
                what,
                got=f"{wrong} of {drive.size} outputs differ on a test input",
            )
            return


def _respond(module: nn.Module, drive: NDArray[np.float32], time: str) -> NDArray[Any]:
    fresh = copy.deepcopy(module)
    reset_state(fresh)
    x = torch.from_numpy(drive)
    with torch.no_grad():
        out = fresh(x) if time == "multi" else fresh(x[0])[None]
    return np.asarray(out.detach().cpu().numpy())
