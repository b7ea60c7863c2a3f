"""How a module takes its input: where time and batch stand in the example, and how many timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snncc.errors import fail
from snncc_torch.aten import SiteInfo
from snncc_torch.failures import quiet
from snncc_torch.working import working_copy


@dataclass(frozen=True)
class Form:
    """How the module takes its input.

    Attributes:
        steps: timesteps T.
        lead: labels of the input's leading axes.
        shape: features of one sample at one timestep.
    """

    steps: int
    lead: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def example(self) -> Tensor:
        """Zeros at batch 1, as the module takes them."""
        sizes = {"T": self.steps, "TB": self.steps, "B": 1}
        return torch.zeros(*(sizes[label] for label in self.lead), *self.shape)


def form_of(module: nn.Module, sites: tuple[SiteInfo, ...], example: Tensor, timesteps: int | None) -> Form:
    """The form of ``module`` by its neurons and the example.

    Args:
        module: at rest; only copies of it run.
        sites: its recognised neurons.
        example: as the module takes it.
        timesteps: T; None finds it.

    Raises:
        UsageError: SNNC-U005 if example and timesteps do not fit each other.
    """
    if not isinstance(example, Tensor) or example.dim() < 2:
        got = f"{list(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise fail("SNNC-U005", "example_input", "must be a tensor [B, ...] or [T, B, ...]", got=got)
    layouts = {site.time for site in sites}
    if layouts & {"batch_first", "squeezed"}:
        return _batch_major(layouts, example, timesteps)
    multi = "multi" in layouts or any(getattr(m, "step_mode", None) == "m" for m in nn.Module.modules(module))
    made = _made_inside(module, sites, example) if multi and timesteps in (None, 1) else None
    if made is not None and timesteps in (None, made):
        return Form(made, ("B",), _features(example, 1))
    steps = timesteps if timesteps is not None else (int(example.shape[0]) if multi else 1)
    if steps < 1:
        raise fail("SNNC-U005", "timesteps", "must be at least 1", got=steps)
    timed = example.shape[0] == steps and (steps > 1 or multi)
    if timed and example.dim() < 3:
        raise fail("SNNC-U005", "example_input", "must be [T, B, ...]", got=list(example.shape))
    lead = ("T", "B") if timed else ("B",)
    return Form(steps, lead, _features(example, len(lead)))


def _features(example: Tensor, depth: int) -> tuple[int, ...]:
    return tuple(int(n) for n in example.shape[depth:])


def _batch_major(layouts: set[str], example: Tensor, timesteps: int | None) -> Form:
    """Sinabs takes [B, T, ...], or [B·T, ...], of which the example is one sample unless T is given."""
    first = "batch_first" in layouts and "squeezed" not in layouts
    axis = 1 if first else 0
    steps = int(example.shape[axis]) if timesteps is None else timesteps
    wrong = example.shape[axis] != steps if first else steps < 1 or example.shape[0] % steps
    if steps < 1 or wrong:
        got, limit = f"{steps} timesteps", f"an example of {list(example.shape)}"
        raise fail("SNNC-U005", "timesteps", "does not fit the example", got=got, limit=limit)
    lead = ("B", "T") if first else ("TB",)
    return Form(steps, lead, _features(example, len(lead)))


def _made_inside(module: nn.Module, sites: tuple[SiteInfo, ...], example: Tensor) -> int | None:
    """T where the module repeats [B, ...] over time itself; None where it takes [T, B, ...], or fails.

    The leading size that multi-step neurons see then does not follow that of the input.
    """
    paths = {site.path for site in sites if site.time == "multi"}
    one = example[:1].detach().cpu()
    seen = _leading_sizes(module, paths, one)
    if seen == {1}:
        seen = _leading_sizes(module, paths, torch.cat([one, one]))
        return 1 if seen == {1} else None
    return seen.pop() if len(seen) == 1 else None


def _leading_sizes(module: nn.Module, paths: Iterable[str], x: Tensor) -> set[int]:
    """Leading sizes of what the modules ``paths`` are given when ``module`` runs on ``x``."""
    fresh = working_copy(module)
    found: set[int] = set()
    for path in paths:
        fresh.get_submodule(path).register_forward_pre_hook(lambda _m, args: found.add(int(args[0].shape[0])))
    try:
        with quiet(), torch.no_grad():
            fresh(x)
    except Exception:  # user code, on an input of a shape that it may not take: it tells nothing
        return set()
    return found
