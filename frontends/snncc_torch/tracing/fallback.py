"""The second way to trace a module: make_fx, for what torch.export refuses.

torch.export watches the module's attributes and guards what it assumes; a module that stores a
tensor in a plain list, say, makes it give up. make_fx only follows the tensors of one run. It
runs on fake tensors here, so that control flow that depends on data still fails; what else it
assumed silently is left to the comparison of the graph with the module.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

STACK = "nn_module_stack"


def trace(root: nn.Module, example: Tensor) -> Any:
    """An exported program of ``root``, made of a make_fx trace; paths of modules are kept."""
    parameters = {**dict(root.named_parameters()), **dict(root.named_buffers())}
    call = _with_paths(root)
    with torch.no_grad(), fx.traceback.preserve_node_meta():
        followed = make_fx(
            lambda p, x: torch.func.functional_call(root, p, (x,)), tracing_mode="fake", pre_dispatch=True,
            _allow_non_fake_inputs=True,
        )  # fmt: skip
        try:
            graph = followed(parameters, example)
        finally:
            for handle in call:
                handle.remove()
        # Exported once more it has the form, and the functional rewriting, of the first way.
        return torch.export.export(_Replayed(graph, parameters), (example,), strict=False)


def _with_paths(root: nn.Module) -> list[Any]:
    """Hooks that write the running module's path into the nodes that are traced meanwhile.

    As torch.export does it, the second call of a module stands under the key ``path@1``.
    """
    handles = []
    for path, part in nn.Module.named_modules(root):
        if isinstance(part, torch.jit.ScriptModule):
            continue  # takes no hooks
        name = f"{type(part).__module__}.{type(part).__qualname__}"
        keys = (path if n == 0 else f"{path}@{n}" for n in count())

        def enter(_m: nn.Module, _a: Any, path: str = path, name: str = name, keys: Any = keys) -> None:
            stack = fx.traceback.current_meta.get(STACK, {})
            fx.traceback.current_meta[STACK] = {**stack, next(keys): (path, name)}

        def leave(_m: nn.Module, _a: Any, _o: Any, path: str = path) -> None:
            stack = fx.traceback.current_meta.get(STACK, {})
            fx.traceback.current_meta[STACK] = {k: v for k, v in stack.items() if v[0] != path}

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    return handles


class _Replayed(nn.Module):
    """Runs a traced graph node by node, under the metadata of each."""

    def __init__(self, graph: fx.GraphModule, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.traced = graph
        self.names = list(parameters)
        for i, tensor in enumerate(parameters.values()):
            self.register_buffer(f"p{i}", tensor.detach())
        self.eval()

    def forward(self, x: Tensor) -> Any:
        parameters = {name: getattr(self, f"p{i}") for i, name in enumerate(self.names)}
        return _Interpreter(self.traced).run(*torch.utils._pytree.tree_leaves((parameters, x)))


class _Interpreter(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        with fx.traceback.set_current_meta(n):
            return super().run_node(n)
