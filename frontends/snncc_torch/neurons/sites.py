"""What became of the neurons of a module: what each is, and where in the graph each call of it stands."""

from __future__ import annotations

from dataclasses import dataclass

from snncc.ir import Neuron


@dataclass(frozen=True)
class SiteInfo:
    """A recognised neuron.

    Attributes:
        path: of the module.
        neuron: canonical fields; name, inputs and source are filled in at each call.
        time: ``none`` stateless, ``multi`` takes [T, B, ...], ``batch_first`` [B, T, ...],
            ``squeezed`` [B·T, ...], ``single`` one timestep from rest.
        note: what a user should know.
    """

    path: str
    neuron: Neuron
    time: str
    note: str = ""


@dataclass(frozen=True)
class SiteCall:
    """One call of a recognised neuron, in the order of execution.

    Attributes:
        path: of the module.
        node: name of the IR node.
    """

    path: str
    node: str
