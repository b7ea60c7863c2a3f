"""Copies of a user's module: nothing that capture does may change the original."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from snncc.errors import Problem, fail, raise_all
from snncc_torch.neurons.recognise import refusals, reset_state, unrecognised
from snncc_torch.tracing.failures import first_line, quiet


def private_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU, with the state of every known neuron at rest.

    Raises:
        ModelError: SNNC-M013 if the module cannot be copied, SNNC-M005 for neurons refused by name.
    """
    memo: dict[int, Any] = {}
    for part in nn.Module.modules(module):
        # After a run a membrane is the result of a computation, which deepcopy refuses.
        for kept in (vars(part), part._buffers, getattr(part, "_memories", None) or {}):
            for value in kept.values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
    try:
        with quiet():
            fresh = copy.deepcopy(module, memo).cpu()
    except Exception as error:  # user code: whatever it raises, there is no copy to work on
        raise_all(refusals(module))
        raise fail("SNNC-M013", "model", "cannot be copied", got=first_line(error)) from None
    reset_state(fresh)
    return fresh


def working_copy(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy to run or to rebuild, with state of its own; it shares the parameters of ``module``."""
    memo = {} if memo is None else memo
    memo.update({id(p): p for p in nn.Module.parameters(module)})
    return copy.deepcopy(module, memo)


def overwritten(original: nn.Module, private: nn.Module) -> list[Problem]:
    """SNNC-M005 for every module of ``private`` that wrote its own parameters when it ran."""
    own = dict(nn.Module.named_parameters(private))
    paths = {
        name.rpartition(".")[0]: name.rpartition(".")[2]
        for name, p in nn.Module.named_parameters(original)
        if not torch.equal(own[name], p.cpu())
    }
    parts = dict(nn.Module.named_modules(original))
    return [unrecognised(path, parts[path], f"holds state ({name})") for path, name in paths.items()]


class Watch:
    """Which tensors a run of ``root`` assigns or writes, by module.

    torch.export drops such assignments without a word, so that only a run shows them.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.before = {id(m): _tensors_of(m) for m in nn.Module.modules(root)}

    def problems(self, known: set[str]) -> list[Problem]:
        """SNNC-M005 for every module that keeps state, but the neurons ``known`` and what they hold."""
        parts = dict(nn.Module.named_modules(self.root))
        first = dict(reversed(self._changes(known)))
        return [
            unrecognised(path, parts[path], f"holds state ({what})") for path, what in reversed(first.items())
        ]

    def _changes(self, known: set[str]) -> list[tuple[str, str]]:
        """(path, name) of every change outside ``known``."""
        inside = {id(part) for path in known for part in nn.Module.modules(self.root.get_submodule(path))}
        found = []
        for path, part in nn.Module.named_modules(self.root):
            old = self.before.get(id(part), {})
            for key, (now, version) in ({} if id(part) in inside else _tensors_of(part)).items():
                was, old_version = old.get(key, (None, 0))
                if was is not now or old_version != version:
                    found.append((path, key))
        return found


def _tensors_of(module: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Every tensor that a module holds itself, and how often it was written to."""
    held = {**vars(module), **module._buffers}
    return {key: (t, t._version) for key, t in held.items() if isinstance(t, Tensor)}
