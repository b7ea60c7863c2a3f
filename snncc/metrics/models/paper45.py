"""The papers' rule: 4.6 pJ a multiply-accumulate, 0.9 pJ an accumulate, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from snncc.metrics.models.model import Constants, EnergyModel, Work, each
from snncc.simulation import Estimate


def _components(work: Work, constants: Constants) -> Mapping[str, Estimate]:
    return {
        "mac": each(constants["mac_pj"]).times(work.macs),
        "ac": each(constants["ac_pj"]).times(work.acs_paper),
    }


PAPER45 = EnergyModel(
    name="paper45",
    about="4.6 pJ a MAC, 0.9 pJ an AC of the trained network, for comparison with the papers' tables only",
    components=_components,
    missing="memory accesses, routing, neuron updates and static power",
    of_chips=False,
)
