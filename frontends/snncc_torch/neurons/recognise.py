"""Which modules are neurons, and which canonical neuron each is.

Recognisers are keyed on the class's full name, never on its last part: libraries reuse names for
other mathematics (docs/semantics.md#same-name-other-mathematics). What one returns is a
hypothesis; :func:`verify` drives the very module and refuses it when its outputs differ. The tables
stand in one module a library; what users register comes first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snncc.errors import Problem, problem
from snncc_torch import sfa_neurons
from snncc_torch.neurons import own, sinabs, spikingjelly
from snncc_torch.neurons.following import follow
from snncc_torch.neurons.sites import SiteInfo
from snncc_torch.registry import REGISTERED, NeuronSpec, Recogniser, Refused

# By full class name.
RECOGNISERS: dict[str, Recogniser] = {
    **own.NEURONS,
    **spikingjelly.NEURONS,
    **sinabs.NEURONS,
}
REFUSED: dict[str, str] = {**spikingjelly.REFUSED, **sinabs.REFUSED}
# Refused ones whose result has another shape than their input.
RESHAPING = spikingjelly.RESHAPING | sinabs.RESHAPING
# What gives a copy of a module parameters in which float arithmetic is exact.
TWINS: dict[str, Callable[[Any], None]] = {
    **own.TWINS,
    **spikingjelly.TWINS,
    **sinabs.TWINS,
}

REGISTER_HINT = "snncc.register_neuron (docs/support.md)"


def qualified_name(module: nn.Module) -> str:
    """Full name of the module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def recogniser_of(name: str) -> Recogniser | None:
    """Recogniser of a class by its full name; a registered class may be like another one."""
    for _ in range(len(REGISTERED) + 1):
        found = REGISTERED.get(name, RECOGNISERS.get(name))
        if not isinstance(found, str):
            return found
        if found == name:  # it is like itself: what is built in
            return RECOGNISERS.get(name)
        name = found
    return None


@dataclass(frozen=True)
class Found:
    """Neurons of a model.

    Attributes:
        sites: what each recognised neuron is. A refused one is there as a stand-in, so that the
            rest of the model is checked too.
        modules: the neuron modules, in the order of ``sites``.
        problems: neurons that cannot be compiled.
        traceable: whether what is refused can stand in for a neuron while the model is traced.
    """

    sites: tuple[SiteInfo, ...]
    modules: tuple[nn.Module, ...]
    problems: tuple[Problem, ...]
    traceable: bool = True


def reset_state(root: nn.Module) -> None:
    """Put every known memory in ``root`` back to its resting value, in place, for a batch of one."""
    for module in nn.Module.modules(root):
        values: object = getattr(module, "_memories_rv", None)
        memories: object = getattr(module, "_memories", None)
        if isinstance(values, dict) and isinstance(memories, dict):
            memories.update(copy.deepcopy(values))
        sinabs.rest(module)
        spikingjelly.rest(module)
        reset = getattr(module, "reset", None)
        if qualified_name(module) in REGISTERED and callable(reset):
            reset()


def find_neurons(root: nn.Module) -> Found:
    """Recognise every neuron of ``root`` and verify it against its module."""
    sites: list[SiteInfo] = []
    modules: list[nn.Module] = []
    problems: list[Problem] = []
    inside: list[str] = []
    traceable = True
    for path, module in nn.Module.named_modules(root):
        if any(path.startswith(p + ".") for p in inside):
            continue
        name = qualified_name(module)
        recogniser = recogniser_of(name)
        if recogniser is None and name not in REFUSED:
            problems.extend(_unknown_state(path, module))
            continue
        inside.append(path)
        modules.append(module)
        spec = _refusal(path, module) if recogniser is None else _hypothesis(path, module, recogniser)
        if isinstance(spec, Problem):
            problems.append(spec)
            traceable &= name not in RESHAPING
            sites.append(SiteInfo(path, NeuronSpec().neuron(), _stand_in_layout(module)))
            continue
        problems.extend(verify(path, spec, module))
        sites.append(SiteInfo(path, spec.neuron(), spec.layout, spec.note))
    return Found(tuple(sites), tuple(modules), tuple(problems), traceable)


def refusals(root: nn.Module) -> Iterator[Problem]:
    """The problem of every module of ``root`` that is refused by its name, without running any."""
    for path, module in nn.Module.named_modules(root):
        if qualified_name(module) in REFUSED and recogniser_of(qualified_name(module)) is None:
            yield _refusal(path, module)


def _refusal(path: str, module: nn.Module) -> Problem:
    reason = REFUSED[qualified_name(module)]
    what = f"{type(module).__name__} cannot be expressed: {reason}"
    return problem("SNNC-M005", path or "model", what, hint="another neuron; docs/support.md lists them")


def _stand_in_layout(module: nn.Module) -> str:
    if not type(module).__module__.startswith(sinabs.LAYERS):
        return "none"
    return "squeezed" if hasattr(module, "num_timesteps") else "batch_first"


def _unknown_state(path: str, module: nn.Module) -> Iterator[Problem]:
    memories: object = getattr(module, "_memories", None)
    # spikingjelly's Dropout keeps its mask, which evaluation mode never reads.
    if isinstance(memories, dict) and set(memories) - {"mask"}:
        yield unrecognised(path, module, "holds state")


def unrecognised(path: str, module: nn.Module | str, what: str) -> Problem:
    """The problem of a module that is a neuron, but none that snncc knows.

    Args:
        path: of the module.
        module: it, or its class's name.
        what: what it does that a layer does not.
    """
    cls = module if isinstance(module, str) else type(module).__name__
    line = None if isinstance(module, str) else proposal(module)
    said = f"{cls} {what} and is no neuron that snncc knows"
    return problem("SNNC-M005", path or "model", said, hint=line or REGISTER_HINT)


# A module with more parts than this is no neuron.
_MAX_PARTS = 8


def proposal(module: nn.Module) -> str | None:
    """The line that registers an unknown module as a neuron that it was verified to behave as."""
    if len(list(nn.Module.modules(module))) > _MAX_PARTS:
        return None
    known = {f'"{name}"': recogniser_of(name) for name in _bases(module)}
    for name, recogniser in {**known, **sfa_neurons.PROPOSALS}.items():
        spec = None if recogniser is None else _hypothesis("", module, recogniser)
        if isinstance(spec, NeuronSpec) and not any(verify("", spec, module)):
            return f'snncc.register_neuron("{qualified_name(module)}", {name})'
    return None


def _bases(module: nn.Module) -> Iterator[str]:
    yield from (f"{c.__module__}.{c.__qualname__}" for c in type(module).__mro__[1:])


def _hypothesis(path: str, module: nn.Module, recogniser: Recogniser) -> NeuronSpec | Problem:
    where, cls = path or "model", type(module).__name__
    try:
        spec = recogniser(module)
        neuron = spec.neuron()
    except Refused as error:
        return problem("SNNC-M005", where, f"{cls} cannot be expressed: {error}")
    except Exception as error:  # a user's recogniser may raise anything
        got = f"{type(error).__name__}: {error}"
        return problem("SNNC-M005", where, f"{cls} lacks what a {cls} has", got=got)
    for name in (
        "threshold",
        "decay",
        "gain",
        "bias",
        "reset_to",
        "v_init",
        "reset_by",
        "v_min",
        "synapse_decay",
    ):
        value = getattr(neuron, name)
        if value is not None and not math.isfinite(value):
            return problem("SNNC-M007", where, f"{cls}: {name} is not a finite number", got=value)
    if spec.threshold <= 0:
        return problem("SNNC-M005", where, f"{cls}: the threshold must be positive", got=spec.threshold)
    if spec.gain == 0 or not math.isfinite(spec.output_scale) or spec.output_scale == 0:
        return problem("SNNC-M005", where, f"{cls}: gain and output scale must not be zero")
    if spec.max_spikes < 0:
        return problem("SNNC-M005", where, f"{cls}: D must be at least 1", got=spec.max_spikes)
    return spec


# ---- verification -------------------------------------------------------------------------------

_STEPS, _WIDTH = 8, 1024


def drives(spec: NeuronSpec, steps: int) -> Iterator[NDArray[np.float32]]:
    """Test inputs [T, K]: quarters of the threshold, then random values.

    The first kind lands on ties, where ``≥`` and ``>`` or two rounding rules part; random floats
    never do. Each kind is drawn twice: over the whole range of counts, and around one spike.
    """
    rng = np.random.default_rng(2024)
    unit = abs(spec.threshold / spec.gain)
    size = (steps, _WIDTH)
    top = spec.max_spikes + 2.0
    if spec.unbounded:
        # What accumulates must not exceed a limit that the module does not have.
        kept = 1.0 if spec.reset_by is None else min(1.0, spec.reset_by / spec.threshold)
        top = max(2.0, (spec.max_spikes - 2) * kept * (1.0 - (spec.synapse_decay or 0.0)))
    for quarters in dict.fromkeys((int(4 * top), 6)):
        yield (rng.integers(-quarters, quarters + 1, size) * (unit / 4)).astype(np.float32)
    for width in dict.fromkeys((top / 2, 1.0)):
        drawn = rng.normal(0.3, 1.0, size) * width
        yield (np.clip(drawn, -top, top) * unit).astype(np.float32)


def verify(path: str, spec: NeuronSpec, module: nn.Module) -> Iterator[Problem]:
    """Drive ``module`` and its canonical neuron alike; yield a problem if their outputs differ."""
    problems = list(_verify(path, spec, module))
    twin = None if problems else twin_of(module)
    if twin is None:
        yield from problems
        return
    yield from _verify(path, spec_of(twin), twin)


def twin_of(module: nn.Module) -> nn.Module | None:
    """A copy of a neuron with parameters in which its arithmetic is exact: ties are ties there."""
    name = qualified_name(module)
    if name not in TWINS or name in REGISTERED:
        return None
    twin = copy.deepcopy(module)
    TWINS[name](twin)
    return twin


def spec_of(module: nn.Module) -> NeuronSpec:
    """What the recogniser says of a neuron that it has recognised before."""
    recogniser = recogniser_of(qualified_name(module))
    assert recogniser is not None
    return recogniser(module)


def answers(spec: NeuronSpec, module: nn.Module) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Test drives [T, K] for a neuron like ``spec``, each with the outputs of ``module``."""
    for drive in drives(spec, 1 if spec.layout == "single" else _STEPS):
        yield drive, _respond(module, drive, spec.layout)


def _verify(path: str, spec: NeuronSpec, module: nn.Module) -> Iterator[Problem]:
    where, cls = path or "model", type(module).__name__
    node = spec.neuron()
    try:
        outputs = list(answers(spec, module))
    except Exception as error:  # user code: whatever it raises, the module is not the neuron
        got = f"{type(error).__name__}: {error}"
        yield problem("SNNC-M005", where, f"{cls} fails on a test input", got=got)
        return
    for drive, out in outputs:
        wrong = out.size if out.shape != drive.shape else follow(node, drive, exact=True, fired=out).wrong
        if wrong:
            what = f"{cls} behaves differently from the neuron whose name it bears"
            got = f"{wrong} of {drive.size} outputs differ on a test input"
            yield problem("SNNC-M005", where, what, got=got)
            return


def _respond(module: nn.Module, drive: NDArray[np.float32], layout: str) -> NDArray[Any]:
    """Outputs [T, K] of a copy at rest for inputs [T, K], given as its layout wants them."""
    fresh = copy.deepcopy(module)
    reset_state(fresh)
    sinabs.any_steps(fresh)
    x = torch.from_numpy(drive)
    with torch.no_grad():
        match layout:
            case "multi":
                out = fresh(x[:, None])[:, 0]
            case "batch_first":
                out = fresh(x[None])[0]
            case "squeezed":
                out = fresh(x)
            case "single":
                out = fresh(x)
            case _:  # without state: no call and no axis knows of another
                at_once = fresh(x[:, None])[:, 0]
                out = torch.cat([fresh(step[None]) for step in x])
                out = torch.where(out == at_once, out, torch.nan)
    return np.asarray(out.detach().cpu().numpy())
