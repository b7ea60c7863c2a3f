"""The oracle environment: the real spikingjelly and sinabs, without what they would start.

Without those libraries nothing here is collected, so that `make test` passes over this folder.
"""

import importlib.util
import sys
import types
import warnings

import pytest

PRESENT = all(importlib.util.find_spec(name) for name in ("spikingjelly", "sinabs"))
collect_ignore_glob = [] if PRESENT else ["test_*.py"]

if PRESENT:
    # The published samna is a stub that runs pip when it is imported; sinabs.backend imports it.
    sys.modules["samna"] = None
    sys.modules["sinabs.backend"] = None
    # spikingjelly's model files want torchvision for one function, which downloads weights.
    torchvision = types.ModuleType("torchvision")
    utils = types.ModuleType("torchvision._internally_replaced_utils")
    utils.load_state_dict_from_url = None
    sys.modules["torchvision"], sys.modules["torchvision._internally_replaced_utils"] = torchvision, utils
    warnings.simplefilter("ignore")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write docs/support.md anew")


@pytest.fixture(autouse=True)
def seeded():
    import torch

    torch.manual_seed(20)
    torch.set_num_threads(1)
