"""How a module takes its input: where time and batch stand in the example, and how many timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snncc.errors import fail
from snncc_torch.neurons.sites import SiteInfo
from snncc_torch.tracing.failures import quiet
from snncc_torch.tracing.working import working_copy


@dataclass(frozen=True)
class Form:
    """How the module takes its input.

    Attributes:
        steps: timesteps T.
        lead: labels of the input's leading axes.
        shape: features of one sample at one timestep.
        note: what the user should know where it may be another.
    """

    steps: int
    lead: tuple[str, ...]
    shape: tuple[int, ...]
    note: str = ""

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
    if multi and timesteps in (None, int(example.shape[1])) and _time_is_second(module, sites, example):
        return Form(int(example.shape[1]), ("B", "T"), _features(example, 2))
    made = _made_inside(module, sites, example) if multi and timesteps in (None, 1) else None
    if made is not None and timesteps in (None, made):
        return Form(made, ("B",), _features(example, 1))
    note = ""
    if multi:
        axis = 0 if timesteps in (None, int(example.shape[0])) else None
    elif timesteps is None:
        axis, note = _guessed(module, example, layouts)
    else:
        axis = _axis_of_size(module, example, timesteps)
    steps = timesteps if timesteps is not None else 1 if axis is None else int(example.shape[axis])
    if steps < 1:
        raise fail("SNNC-U005", "timesteps", "must be at least 1", got=steps)
    if axis is not None and example.dim() < 3:
        raise fail("SNNC-U005", "example_input", "must be [T, B, ...]", got=list(example.shape))
    lead = _LEADS[axis]
    return Form(steps, lead, _features(example, len(lead)), note)


# ---- modules none of whose neurons says which axis is time ------------------------------------------
# Neurons without state take any axis, and a Python loop gives others one timestep at a call.

# By the axis of the example that is time.
_LEADS = {None: ("B",), 0: ("T", "B"), 1: ("B", "T")}


def _guessed(module: nn.Module, example: Tensor, layouts: set[str]) -> tuple[int | None, str]:
    """Axis that is time where nobody says so, None if none is, and what to tell where both may be."""
    if _folds(module, example, 0):
        return 0, ""
    if example.dim() < 3 or example.shape[0] < 2:
        return None, ""
    one, two = _result_sizes(module, example[:1], 1)
    if "single" not in layouts and example.shape[1] == 1 and one is not None and two == 2 * one:
        return 0, "the first axis of the example is taken for time: timesteps=1, if it is the batch"
    if example.dim() in (3, 5) and one is not None:
        return None, "the first axis of the example is taken for the batch: timesteps=T, if it is time"
    return None, ""


def _axis_of_size(module: nn.Module, example: Tensor, timesteps: int) -> int | None:
    """Axis (0 or 1) of the example that is time, of which somebody said how many there are."""
    first = example.shape[0] == timesteps > 1
    if example.dim() < 3 or not example.shape[1] == timesteps > 1:
        return 0 if first else None
    if first:
        return 1 if _folds(module, example, 1) and not _folds(module, example, 0) else 0
    # Channels may be as many as timesteps, but one of them alone will not do.
    return None if _result_sizes(module, example, 1)[0] is None else 1


def _folds(module: nn.Module, example: Tensor, axis: int) -> bool:
    """Whether ``axis`` (0 or 1) is time, as far as sizes tell.

    Two samples have two results, timesteps that are averaged or counted have one; a module may also
    take no other number of them. The other axis is the batch then, of which one sample alone will do.
    """
    if example.dim() < 3:
        return False
    one, two = _result_sizes(module, example, axis)
    if one is not None and two in (None, 2 * one):
        return False
    return _result_sizes(module, example, 1 - axis)[0] is not None


def _result_sizes(module: nn.Module, example: Tensor, axis: int) -> tuple[int | None, int | None]:
    """Elements of the results on zeros like the example, with size 1 and with size 2 of one axis."""
    sizes = (_with(example, axis, n) for n in (1, 2))
    one, two = (_result_size(module, x) for x in sizes)
    return one, two


def _with(example: Tensor, axis: int, size: int) -> Tensor:
    """Zeros like the example, but for the size of one axis."""
    return torch.zeros(*example.shape[:axis], size, *example.shape[axis + 1 :])


def _result_size(module: nn.Module, x: Tensor) -> int | None:
    """Elements of what a copy of ``module`` makes of ``x``; None if that is no tensor, or fails."""
    try:
        with quiet(), torch.no_grad():
            result = working_copy(module)(x)
    except Exception:  # user code, on an input of a shape that it may not take: it tells nothing
        return None
    return result.numel() if isinstance(result, Tensor) else None


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
    if len(seen) != 1:
        return None
    (steps,) = seen
    again = _leading_sizes(module, paths, torch.cat([one, one]))
    # A module with batch 1 written into it has no second size, but makes more than it was given.
    return steps if again == seen or (not again and steps > 1) else None


def _time_is_second(module: nn.Module, sites: tuple[SiteInfo, ...], example: Tensor) -> bool:
    """Whether the module takes [B, T, ...]: what multi-step neurons see follows the second axis alone."""
    steps = int(example.shape[1])
    if example.dim() < 3 or steps == 1:
        return False
    paths = {site.path for site in sites if site.time == "multi"}
    seen = (_leading_sizes(module, paths, _with(example[:1], 1, n)) for n in (1, steps))
    if any(sizes != {n} for sizes, n in zip(seen, (1, steps), strict=True)):
        return False
    # Time and batch in one axis follow both; a module with batch 1 written into it fails on two.
    return _leading_sizes(module, paths, _with(_with(example[:1], 1, 1), 0, 2)) <= {1}


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
