"""Settings of the Lava job; see pytest.ini beside this file."""

import contextlib


def pytest_addoption(parser):
    # Within `make test` tests/conftest.py has declared it already.
    with contextlib.suppress(ValueError):
        parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/loihi")


def pytest_ignore_collect(collection_path, config):
    """Nothing here belongs to `make test`, whose settings stand in pyproject.toml."""
    return True if config.inipath is None or config.inipath.name != "pytest.ini" else None
