"""What a checkpoint says about its own input: one plain attribute that rides with the module."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from snncc.errors import fail

ATTRIBUTE = "_snncc"
M = TypeVar("M", bound=nn.Module)


def describe(
    module: M,
    input_shape: tuple[int, ...],
    timesteps: int = 1,
    input_levels: int = 0,
    calibration: Any = None,
    labels: Any = None,
) -> M:
    """Write into ``module`` what ``snncc compile model.pt`` needs to know.

    The attribute is pickled with the whole module (``torch.save(module, path)``). Calibration
    inputs of spike counts are stored as bytes, so that they stay small.

    Args:
        module: trained module; changed in place.
        input_shape: of one sample at one timestep, without batch and time.
        timesteps: T.
        input_levels: largest spike count of the input; 0 for real values.
        calibration: inputs [N, *input_shape] or [N, T, *input_shape], or None.
        labels: their classes [N], or None.

    Returns:
        ``module``.

    Raises:
        UsageError: SNNC-U005 for a value that cannot be.
        DataError: SNNC-D003 to D006 for calibration inputs or labels that do not fit.
    """
    shape = _checked_shape(input_shape, timesteps, input_levels)
    about: dict[str, Any] = {
        "input_shape": shape, "timesteps": int(timesteps), "input_levels": int(input_levels),
    }  # fmt: skip
    if calibration is not None:
        about["calibration"] = stored_inputs(calibration, shape, int(timesteps), int(input_levels))
    if labels is not None:
        about["labels"] = stored_labels(labels, about.get("calibration"))
    setattr(module, ATTRIBUTE, about)
    return module


def _checked_shape(input_shape: tuple[int, ...], timesteps: int, input_levels: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in input_shape)
    if not shape or min(shape) < 1:
        raise fail("SNNC-U005", "input_shape", "sizes must be positive", got=input_shape)
    if timesteps < 1 or input_levels < 0:
        what = "timesteps must be at least 1 and input_levels not negative"
        raise fail("SNNC-U005", "describe", what, got=(timesteps, input_levels))
    return shape


def stored_inputs(inputs: Any, shape: tuple[int, ...], steps: int, levels: int) -> Tensor:
    """Calibration inputs [N, T, *shape]: uint8 where they are small counts, else float32."""
    array = np.asarray(inputs.detach().cpu() if isinstance(inputs, Tensor) else inputs)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise fail("SNNC-D003", "calibration", "must be numbers", got=array.dtype)
    if array.shape[1:] == shape and array.shape[1:] != (steps, *shape):
        array = np.broadcast_to(array[:, None], (len(array), steps, *shape))
    if array.shape[1:] != (steps, *shape):
        wanted = f"[N, {', '.join(map(str, shape))}] or [N, {steps}, {', '.join(map(str, shape))}]"
        raise fail("SNNC-D004", "calibration", "has another shape", got=list(array.shape), limit=wanted)
    if not np.all(np.isfinite(array)):
        raise fail("SNNC-D005", "calibration", "holds NaN or infinity")
    if levels and (
        np.any(array != np.rint(array)) or array.min(initial=0) < 0 or array.max(initial=0) > levels
    ):
        raise fail("SNNC-D006", "calibration", "holds a value that is no count", limit=f"0..{levels}")
    dtype = np.uint8 if 0 < levels <= 255 else np.float32
    # A copy: a broadcast view is read-only, which torch warns of.
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def stored_labels(labels: Any, calibration: Tensor | None) -> Tensor:
    """Labels [N] as int64."""
    if calibration is None:
        raise fail("SNNC-U005", "labels", "belong to calibration inputs, and there are none")
    array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise fail("SNNC-D003", "labels", "must be integers", got=array.dtype)
    if array.shape != (len(calibration),):
        raise fail("SNNC-D004", "labels", "must be one a calibration input", got=list(array.shape))
    return torch.from_numpy(array.astype(np.int64))
