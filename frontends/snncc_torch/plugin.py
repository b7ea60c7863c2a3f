"""Registration of the PyTorch frontend; torch is imported when a file is loaded, not before."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from snncc.errors import fail
from snncc.model import Model
from snncc.plugins import LoadOptions


class TorchFrontend:
    """Reads modules, state dicts and checkpoints of ``torch.save``, and files of ``torch.export.save``."""

    suffixes: tuple[str, ...] = (".pt", ".pth", ".pt2")

    def load(self, path: Path, options: LoadOptions) -> Model:
        """Model of such a file; see :func:`snncc_torch.files.ptfile.load_model`."""
        if importlib.util.find_spec("torch") is None:
            raise fail("SNNC-M015", str(path), "needs PyTorch", hint="pip install 'snncc[torch]'")
        from snncc_torch.files.ptfile import load_model

        return load_model(path, options)


FRONTEND = TorchFrontend()
