"""A module traced to an ATen program in which its recognised neurons are opaque."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from snncc.errors import fail
from snncc_torch.neurons import sinabs
from snncc_torch.operations.layout import Value
from snncc_torch.ops import swap
from snncc_torch.tracing import fallback
from snncc_torch.tracing.failures import export_failure, first_line, quiet
from snncc_torch.tracing.forms import Form
from snncc_torch.tracing.working import working_copy


def traced_program(
    module: nn.Module, neurons: tuple[nn.Module, ...], form: Form, given: Tensor, notes: list[str]
) -> Any:
    """The exported program of a copy of ``module``, functional: nothing in it writes in place.

    Args:
        module: at rest.
        neurons: modules that become opaque, by the number of their site.
        form: of the input.
        given: the user's example.
        notes: receives one if it was traced the second way.

    Raises:
        ModelError: SNNC-M013 naming the module that cannot be traced.
    """

    def opaque() -> nn.Module:
        memo: dict[int, Any] = {}
        fresh = working_copy(module, memo)
        sinabs.simplify(fresh)
        return _Root(swap(fresh, {id(memo[id(n)]): i for i, n in enumerate(neurons)}))

    try:
        with quiet(), torch.no_grad():
            program = _traced(opaque, form.example, notes)
            if any(_mutates(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
    except Exception as error:  # whatever user code or the tracer raises, the user gets one sentence
        raise export_failure(module, opaque, form.example, given, error) from None
    return program


def _traced(opaque: Callable[[], nn.Module], example: Tensor, notes: list[str]) -> Any:
    try:
        return torch.export.export(opaque(), (example,), strict=False)
    except Exception as error:
        try:
            program = fallback.trace(opaque(), example)
        except Exception:
            raise error from None  # what torch.export says is clearer
        notes.append(f"traced by make_fx, for torch.export failed: {first_line(error)}")
        return program


class _Root(nn.Module):
    """Gives the model a parent, so that a model that is itself a neuron can be swapped too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return result


def _mutates(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def placeholders(program: Any, form: Form) -> tuple[dict[fx.Node, Any], fx.Node]:
    """Values of the placeholders of a program, and the node of its result.

    Raises:
        ModelError: SNNC-M004 if it returns more or less than one tensor.
    """
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    env: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            target = names[node.name]
            env[node] = (
                program.state_dict[target] if target in program.state_dict else program.constants[target]
            )
        elif node.op == "placeholder":
            env[node] = Value("input", form.lead, form.shape)
    outputs = list(signature.user_outputs)
    by_name = {n.name: n for n in program.graph.nodes}
    if len(outputs) != 1 or outputs[0] not in by_name:
        hint = "a forward that returns one tensor"
        raise fail("SNNC-M004", "model", "must return one tensor", got=f"{len(outputs)} results", hint=hint)
    return env, by_name[outputs[0]]
