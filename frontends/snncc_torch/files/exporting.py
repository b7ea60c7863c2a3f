"""The one line for a training script: capture where the class exists, write a safe file."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from snncc.errors import fail
from snncc.graphfile import SUFFIX, write_graph_file
from snncc.model import Model
from snncc_torch.capturing import capture
from snncc_torch.files.description import ATTRIBUTE, stored_inputs, stored_labels


def export(
    module: nn.Module,
    example_input: Tensor,
    path: str | PathLike[str],
    *,
    timesteps: int | None = None,
    input_levels: int | None = None,
    calibration: Any = None,
    labels: Any = None,
    force: bool = False,
) -> Path:
    """Capture ``module`` and write it as a graph file, which ``snncc compile`` takes.

    What :func:`snncc_torch.describe` wrote into the module counts where an argument is absent.

    Args:
        module: in evaluation mode.
        example_input: as the module takes it, see :func:`snncc_torch.capture`.
        path: of the file to write; ends in ``.snnc``.
        timesteps: T.
        input_levels: largest spike count of the input; 0 for real values.
        calibration: inputs [N, *shape] or [N, T, *shape].
        labels: their classes [N].
        force: overwrite an existing file.

    Returns:
        ``path``.

    Raises:
        ModelError, DataError, UsageError: nothing is written then.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise fail("SNNC-U005", str(target), "a graph file ends in .snnc", got=target.suffix or "no suffix")
    about = getattr(module, ATTRIBUTE, {})
    steps = timesteps if timesteps is not None else about.get("timesteps")
    levels = input_levels if input_levels is not None else about.get("input_levels", 0)
    model = capture(module, example_input, steps, input_levels=levels)
    if calibration is None and labels is None:
        calibration, labels = about.get("calibration"), about.get("labels")
    write_graph_file(target, with_calibration(model, calibration, labels), force=force)
    return target


def with_calibration(model: Model, calibration: Any, labels: Any) -> Model:
    """``model`` with calibration inputs, int64 where they are spike counts, else float32."""
    if calibration is None:
        if labels is not None:
            raise fail("SNNC-U005", "labels", "belong to calibration inputs, and there are none")
        return model
    graph = model.graph
    stored = stored_inputs(calibration, graph.input.shape, graph.steps, graph.input.levels)
    x = stored.numpy().astype(np.int64 if graph.input.levels else np.float32)
    y = None if labels is None else stored_labels(labels, stored).numpy()
    return replace(model, calibration=x, labels=y)
