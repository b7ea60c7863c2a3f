"""What this package can say of its own: prefix, letter, three digits."""

from snncc.errors import CapacityError, CodeInfo, ModelError

CODES = {
    "ACME-M001": CodeInfo(
        ModelError,
        "maximum of counts",
        "Acme pools by a wire that is high when any input is: the maximum of single spikes, not of counts. "
        "Let the neurons in front of the pooling send one spike a timestep.",
    ),
    "ACME-C001": CodeInfo(
        CapacityError,
        "too many layers",
        "Every layer stands on a slice of its own. `snncc targets show acme1` lists how many there are.",
    ),
}
