"""Time and energy constants of clocked many-core chips; what is None is unknown, never zero."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from snncc.hw.quantity import Quantity


class MeshCosts(BaseModel):
    """One core's work, one packet's way, the barrier. Times in ns, energies in pJ an operation.

    Attributes:
        clock_mhz: of synchronous chips, for times in cycles; None for self-timed ones.
        axon_in: look-up of one arriving packet. synop: one synaptic operation.
        neuron_update: membrane update of one neuron and step. neuron_idle: the same where the neuron
            only leaks. spike_out: one packet sent to one core.
        hop_x, hop_y: one packet over one link between routers.
        barrier: end of a step, of one chip.
        step_time_min_ns: shortest step, barrier included; chips of fixed rounds know nothing else.
        active_power_mw: of the working chip, everything included. It makes an energy of its own that
            is never added to energies by operation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clock_mhz: Quantity | None = None
    axon_in_time_ns: Quantity | None = None
    synop_time_ns: Quantity | None = None
    neuron_update_time_ns: Quantity | None = None
    neuron_idle_time_ns: Quantity | None = None
    spike_out_time_ns: Quantity | None = None
    hop_x_time_ns: Quantity | None = None
    hop_y_time_ns: Quantity | None = None
    barrier_time_ns: Quantity | None = None
    step_time_min_ns: Quantity | None = None
    axon_in_energy_pj: Quantity | None = None
    synop_energy_pj: Quantity | None = None
    neuron_update_energy_pj: Quantity | None = None
    neuron_idle_energy_pj: Quantity | None = None
    spike_out_energy_pj: Quantity | None = None
    hop_x_energy_pj: Quantity | None = None
    hop_y_energy_pj: Quantity | None = None
    barrier_energy_pj: Quantity | None = None
    active_power_mw: Quantity | None = None
