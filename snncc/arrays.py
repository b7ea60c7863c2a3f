"""The one name for a numpy array whose dtype and shape stand in the docstring of what takes or gives it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
