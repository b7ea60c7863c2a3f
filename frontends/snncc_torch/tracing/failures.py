"""What the user is told where a module cannot be traced, or where the trace is no graph.

torch.export says what it gave up on, hardly where. Each function here finds the module.
"""

from __future__ import annotations

import contextlib
import copy
import io
import linecache
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, free_unbacked_symbols

from snncc.errors import Problem, SnnccError, fail, problem
from snncc.ir import OverTime
from snncc_torch.neurons.recognise import reset_state
from snncc_torch.operations.aten import module_of, op_name
from snncc_torch.operations.layout import Value

# What tracing meets where Python wants a number that only the data have.
DATA_DEPENDENT = (GuardOnDataDependentSymNode, DataDependentOutputException)

# Code in these folders is not the user's.
LIBRARIES = tuple(str(folder) + os.sep for folder in (*torch.__path__, Path(__file__).parents[1]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The tracer logs, warns and prints about what the user is told in one sentence anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---- a module that cannot be traced ---------------------------------------------------------------


def export_failure(
    module: nn.Module, opaque: Callable[[], nn.Module], example: Tensor, given: Tensor, error: Exception
) -> SnnccError:
    """SNNC-M013 that names the module which cannot be traced, and the user's line where there is one.

    Args:
        module: in evaluation mode; only a copy of it runs.
        opaque: makes what was traced: the module as the child ``model`` of another.
        example: what it was traced on.
        given: the user's example.
        error: what the tracer raised.
    """
    fresh = copy.deepcopy(module)
    reset_state(fresh)
    where, own = _running(fresh, lambda: fresh(example))
    if own is not None:
        what = f"the module fails on an input of shape {list(example.shape)}"
        fresh = copy.deepcopy(module)
        reset_state(fresh)
        taken = _running(fresh, lambda: fresh(given))[1] is None
        hint = "a module that takes one sample, or timesteps=T if an axis of the example is time"
        return fail("SNNC-M013", where, what, got=first_line(own), hint=hint if taken else None)
    root = opaque()
    where, again = _running(root, lambda: torch.export.export(root, (example,), strict=False), "model")
    if type(again) is not type(error):  # another way to trace failed, or the rewriting behind it
        where, again = "model", error
    line = _user_line(again)
    if isinstance(error, DATA_DEPENDENT):
        hint = "tensor operations in place of if, while, int() and float() on values of a tensor"
        return fail("SNNC-M013", where, "Python code depends on the data", got=line, hint=hint)
    got = first_line(error).rstrip(".") + (f" at {line}" if line else "")
    hint = "control flow that does not depend on the data, or snncc_torch.nn's layers"
    return fail("SNNC-M013", where, "torch.export cannot trace the module", got=got, hint=hint)


def first_line(error: Exception) -> str:
    """Class and first line of an exception, cut to 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")


def _running(root: nn.Module, run: Callable[[], Any], above: str = "") -> tuple[str, Exception | None]:
    """What ``run`` raises, and the path, below ``above``, of the module that was then running."""
    running: list[str] = []
    for path, part in nn.Module.named_modules(root):
        if not isinstance(part, torch.jit.ScriptModule):  # takes no hooks
            part.register_forward_pre_hook(lambda _m, _a, path=path: running.append(path))
            part.register_forward_hook(lambda _m, _a, _o: running.pop() and None)
    try:
        with quiet(), torch.no_grad():
            run()
    except Exception as error:  # user code: whatever it raises is what the user is told
        path = running[-1].removeprefix(above).removeprefix(".") if running else ""
        return path or "model", error
    return "model", None


def _user_line(error: Exception | None) -> str | None:
    """The line of the user's code where it was raised: of the innermost forward, or of what that called."""
    found, inside = None, False
    for frame, number in walk_tb(error.__traceback__ if error else None):
        file = frame.f_code.co_filename
        inside = not file.startswith(LIBRARIES) and (inside or frame.f_code.co_name == "forward")
        code = linecache.getline(file, number).strip() if inside else ""
        found = f"`{code[:100]}` ({Path(file).name}, line {number})" if code else found
    return found


# ---- a trace that is no graph ---------------------------------------------------------------------


def varying_shapes(program: Any) -> Iterator[Problem]:
    """SNNC-M004 for every operation whose result has as many elements as the data say.

    Args:
        program: what torch.export made; it carries such a size as a symbol.
    """
    for node in program.graph.nodes:
        if node.op != "call_function" or any(_symbols(n) for n in node.all_input_nodes):
            continue  # what only carries on a size is named where it came from
        if _symbols(node):
            where = module_of(node)[0] or "model"
            what = f"{op_name(node)}: the shape of the result depends on the data"
            yield problem("SNNC-M004", where, what, hint="a mask that multiplies, in place of a selection")


def _symbols(node: torch.fx.Node) -> bool:
    """Whether sizes of a traced result are known only when the data are."""
    value = node.meta.get("val")
    found = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(v, Tensor) and bool(free_unbacked_symbols(v.shape)) for v in found)


def timeless(result: Any, lead: tuple[str, ...], steps: int) -> Iterator[Problem]:
    """SNNC-U005 where T timesteps are asked of a module that neither takes nor makes them.

    Args:
        result: the value that the module returns.
        lead: labels of the leading axes of its input.
        steps: T.
    """
    if steps == 1 or {"T", "TB"} & set(lead) or not isinstance(result, Value):
        return
    if result.reduced is OverTime.NONE and not {"T", "TB"} & set(result.lead):
        what, hint = "the module has no time axis", f"an example [{steps}, B, ...], or no timesteps"
        yield problem("SNNC-U005", "timesteps", what, got=steps, limit=1, hint=hint)


# ---- state of an earlier run ----------------------------------------------------------------------


def leftover_notes(module: nn.Module, rested: nn.Module) -> Iterator[str]:
    """A note for every module that holds other tensors than at rest.

    Args:
        module: as the user gave it.
        rested: its copy, put to rest.
    """
    paths = dict(nn.Module.named_modules(rested))
    for path, part in nn.Module.named_modules(module):
        at_rest = _state(paths[path])
        kept = [key for key, value in _state(part).items() if not _same(value, at_rest.get(key))]
        if kept:
            yield f"{path or 'model'}: holds state of an earlier run ({', '.join(kept)}); captured as at rest"


def _state(module: nn.Module) -> dict[str, Tensor | float]:
    memories = getattr(module, "_memories", None)
    held = {**vars(module), **module._buffers, **(memories if isinstance(memories, dict) else {})}
    return {key: value for key, value in held.items() if isinstance(value, Tensor | float)}


def _same(held: Tensor | float, at_rest: Tensor | float | None) -> bool:
    """Whether a module is at rest; libraries have 0 or an empty tensor before they know the shape."""
    if not isinstance(held, Tensor):
        return not isinstance(at_rest, float) or held == at_rest or held != held
    if at_rest is None:
        return True
    if isinstance(at_rest, Tensor):
        if at_rest.shape != held.shape and at_rest.numel():
            return False
        at_rest = at_rest.cpu() if at_rest.numel() else 0.0
    now = held.cpu()
    return bool(((now == at_rest) | (now != now)).all())
