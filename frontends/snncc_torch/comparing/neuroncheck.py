"""Every neuron of a captured graph against the module's own, on drives that land on ties.

Random inputs of a network never hit a threshold exactly, so a run of the network cannot tell ``≥``
from ``>``, nor one rounding of ties from another. What the recogniser says of a module is verified
on such drives (:func:`snncc_torch.neurons.recognise.verify`); a node that says anything else is driven here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import nn

from snncc.errors import Problem, problem
from snncc.ir import Graph, Neuron
from snncc_torch.neurons.following import follow
from snncc_torch.neurons.recognise import answers, spec_of, twin_of
from snncc_torch.neurons.sites import SiteCall, SiteInfo


def neuron_problems(
    graph: Graph, module: nn.Module, calls: Iterable[SiteCall], sites: Iterable[SiteInfo]
) -> Iterator[Problem]:
    """SNNC-M006 for every neuron of ``graph`` that fires otherwise than its module.

    Args:
        graph: of the float family.
        module: at rest; only copies of its neurons run.
        calls: which node each call of a neuron became.
        sites: the neurons of ``module``, verified.
    """
    verified = {site.path: site.neuron for site in sites}
    for call in calls:
        node = graph.by_name.get(call.node)
        if not isinstance(node, Neuron):
            continue
        plain = replace(node, name="", inputs=(), source="")
        if plain != verified[call.path]:
            yield from _driven(node.source or node.name, plain, module.get_submodule(call.path))


def _driven(where: str, node: Neuron, part: nn.Module) -> Iterator[Problem]:
    twin = twin_of(part)
    wrong, given = _wrong(node, part)
    if not wrong and twin is not None:
        wrong, given = _wrong(_like(node, spec_of(twin).neuron()), twin)
    if wrong:
        what = f"fires otherwise than the module's {type(part).__name__}"
        yield problem("SNNC-M006", where, what, got=f"{wrong} of {given} outputs on test drives differ")


def _like(node: Neuron, twin: Neuron) -> Neuron:
    """The neuron with the twin's numbers, in which arithmetic is exact, that decides as ``node`` does."""
    return replace(
        twin, strict=node.strict, rounding=node.rounding, max_spikes=node.max_spikes, reset=node.reset,
        synapse_order=node.synapse_order,
    )  # fmt: skip


def _wrong(node: Neuron, part: nn.Module) -> tuple[int, int]:
    """Outputs that differ on test drives, and how many there are."""
    wrong = given = 0
    for drive, out in answers(spec_of(part), part):
        fits = out.shape == drive.shape
        wrong += follow(node, drive, exact=True, fired=out).wrong if fits else out.size
        given += drive.size
    return wrong, given
