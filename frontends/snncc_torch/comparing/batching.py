"""Whether the samples of a batch see each other, which no module compiled one by one may do.

In QKFormer-like models a multi-step neuron gets [T·B, ...] and integrates over the batch as if it
were time (docs/semantics.md#same-name-other-mathematics). At batch 1, at which modules
are captured, that is a correct neuron; at a larger one the module itself computes something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from snncc.arrays import Array
from snncc_torch.tracing.working import working_copy

# Float rounding moves results by some 1e-7 of their scale, real mixing by per cents.
NOISE = 1e-4


def batch_note(module: nn.Module, samples: Sequence[Tensor], alone: Sequence[Array], axis: int) -> str | None:
    """What to tell the user if a sample's result depends on the batch around it.

    Args:
        module: in evaluation mode, at rest; only a copy of it runs.
        samples: two inputs of batch 1.
        alone: what the module made of each.
        axis: batch axis of the inputs.
    """
    try:
        with torch.no_grad():
            together = working_copy(module)(torch.cat(list(samples), axis)).cpu().numpy()
    except Exception:  # user code with batch 1 written into it: nothing to compare
        return "the module does not run at batch 2; captured at batch 1"
    if together.size != 2 * alone[0].size:
        return "two samples of a batch have one result in the module; captured at batch 1"
    difference = mixed(together, alone)
    if not difference:
        return None
    return (
        "samples of a batch influence each other in the module (time runs through the batch): the results "
        f"at batch 2 differ by {difference:.1%} of their scale from those at batch 1, which was captured"
    )


def mixed(together: Array, alone: Sequence[Array | None]) -> float:
    """How far a batch is from its samples, over its scale; 0 where that is noise.

    Args:
        together: what the module made of the batch.
        alone: what it made of each sample, or None where that is not known.
    """
    known = next(a for a in alone if a is not None)
    for axis, (n, m) in enumerate(zip(together.shape, known.shape, strict=False)):
        if n == len(alone) * m:
            parts = zip(np.split(together, len(alone), axis), alone, strict=True)
            scale = float(np.abs(together).max()) + float(np.finfo(np.float32).tiny)
            worst = max(float(np.abs(p - a).max()) for p, a in parts if a is not None) / scale
            return 0.0 if worst <= NOISE else worst
    return 0.0  # the result has no batch axis
