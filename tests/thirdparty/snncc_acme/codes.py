"""What this package can say of its own: prefix, letter, three digits."""

from snncc.errors import CapacityError, CodeInfo, ModelError

CODES = {
    "ACME-M001": CodeInfo(
        ModelError,
        "kernel with a stride",
        "Acme's slices read a kernel in either direction, but never leave addresses out between two spikes. "
        "Upsample in front of a convolution instead.",
    ),
    "ACME-C001": CodeInfo(
        CapacityError,
        "too many layers",
        "Every layer stands on a slice of its own. `snncc targets show acme1` lists how many there are.",
    ),
}
