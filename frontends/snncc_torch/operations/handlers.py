"""What each ATen operation becomes in the IR: the table of handlers, and the neuron's own.

The others stand by theme in :mod:`.layers`, :mod:`.pools`, :mod:`.arithmetic` and :mod:`.moves`; one small
function each.
"""

from __future__ import annotations

from dataclasses import replace

from snncc.ir import OverTime
from snncc_torch.neurons.sites import SiteCall
from snncc_torch.operations.arithmetic import ARITHMETIC
from snncc_torch.operations.aten import Call, Handler
from snncc_torch.operations.layers import LAYERS
from snncc_torch.operations.layout import Unsupported, Value
from snncc_torch.operations.moves import LOOP_HINT, MOVES
from snncc_torch.operations.pools import POOLS


def _neuron(call: Call) -> Value:
    x, site = call.value("x"), call.imp.sites[call.args["site"]]
    steps = call.imp.steps
    if x.reduced is not OverTime.NONE:
        raise Unsupported("a neuron behind the reduction over time")
    if site.time == "multi" and steps > 1 and x.lead not in (("T", "B"), ("TB",)):
        hint = f"another number of timesteps than {steps}: as many as the example has, or the module makes"
        raise Unsupported("a multi-step neuron needs [T, B, ...]", got=[*x.lead, *x.shape], hint=hint)
    if site.time == "batch_first" and steps > 1 and x.lead != ("B", "T"):
        raise Unsupported("a sinabs neuron needs [B, T, ...]", got=[*x.lead, *x.shape])
    if site.time == "squeezed" and steps > 1 and x.lead != ("TB",):
        raise Unsupported("a squeezed sinabs neuron needs [B·T, ...]", got=[*x.lead, *x.shape])
    if site.time == "multi" and x.lead != ("T", "B"):
        call.imp.notes.append(
            f"{site.path}: time reaches this multi-step neuron through the batch axis; right at batch 1 only"
        )
    if site.time == "single" and steps > 1 and not site.neuron.is_stateless:
        raise Unsupported("a single-step neuron gets all timesteps as a batch", got=[*x.lead], hint=LOOP_HINT)
    if site.time != "none" and any(c.path == site.path for c in call.imp.calls):
        raise Unsupported("a neuron with state is called twice in one pass", hint=LOOP_HINT)
    name = call.imp.name(site.path, "neuron", True)
    node = replace(site.neuron, name=name, inputs=(x.name,), source=site.path)
    call.imp.calls.append(SiteCall(site.path, name))
    return Value(call.imp.emit(node), x.lead, x.shape)


HANDLERS: dict[str, Handler] = {**LAYERS, **POOLS, **ARITHMETIC, **MOVES, "neuron": _neuron}
