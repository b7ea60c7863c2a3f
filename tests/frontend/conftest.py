"""One thread: the tensors here are small, and a pool of threads that wait for each other costs more."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
