# The two commands: `make demo` and `make test`. Each makes .venv itself; a second call reuses it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo demo-loihi test lint campaign oracles oracle-test lava-env lava-test clean
.DELETE_ON_ERROR:

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

demo: .venv/ready
	$(BIN)/python examples/mnist_sfa/demo.py --out build/demo

# Compares with Lava as well where `make lava-env` has made an environment for it.
demo-loihi: .venv/ready
	$(BIN)/python examples/loihi/demo.py --out build/demo-loihi

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

campaign: .venv/ready
	$(BIN)/pytest -m campaign

# torch alone first: with it installed no other package can pull in another build of it.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "snncc needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[torch,dev,examples]'
	touch $@

# A second environment with independent implementations of the neurons; see tests/oracles/. Versions
# are pinned here, because users never install them. --no-deps: sinabs' dependency samna is hardware
# software whose published stub runs pip when it is imported; the tests block its import as well.
ORACLE_PIP := .venv-oracles/bin/python -m pip --disable-pip-version-check --quiet
oracles: .venv-oracles/ready
.venv-oracles/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-oracles
	$(ORACLE_PIP) install -c constraints.txt torch
	$(ORACLE_PIP) install --no-deps sinabs==3.1.3 spikingjelly==2.0.0 nir==1.0.8 nirtorch==2.6
	$(ORACLE_PIP) install --no-deps --target .venv-oracles/clock_driven spikingjelly==0.0.0.0.14
	$(ORACLE_PIP) install -c constraints.txt pbr h5py scipy matplotlib loguru tqdm pytest
	$(ORACLE_PIP) install -c constraints.txt -e .
	touch $@

oracle-test: oracles
	.venv-oracles/bin/python -m pytest -c tests/oracles/pytest.ini tests/oracles $(ARGS)

# Lava's last release needs Python 3.10 and numpy below 2; snncc runs it out of process, see tests/lava/.
LAVA_PYTHON ?= $(shell for p in python3.10 "$$(pyenv root 2>/dev/null)"/versions/3.10.*/bin/python; do "$$p" -c '' 2>/dev/null && echo "$$p" && break; done)
LAVA_PIP := .venv-lava/bin/python -m pip --disable-pip-version-check --quiet
lava-env: .venv-lava/ready
.venv-lava/ready:
	@test -n "$(LAVA_PYTHON)" && $(LAVA_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || { echo "Lava needs Python 3.10: make lava-env LAVA_PYTHON=/path/to/python3.10"; exit 1; }
	$(LAVA_PYTHON) -m venv .venv-lava
	$(LAVA_PIP) install lava-nc==0.10.0 numpy==1.26.4
	touch $@

lava-test: .venv/ready lava-env
	$(BIN)/python -m pytest -c tests/lava/pytest.ini tests/lava $(ARGS)

clean:
	rm -rf .venv .venv-oracles .venv-lava build dist
