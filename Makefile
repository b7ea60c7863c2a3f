# The two commands: `make demo` and `make test`. Each makes .venv itself; a second call reuses it.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint campaign oracles clean
.DELETE_ON_ERROR:

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

demo: .venv/ready
	$(BIN)/python examples/mnist_sfa/demo.py --out build/demo

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

campaign: .venv/ready
	$(BIN)/pytest -m campaign

# torch alone first: with it installed no other package can pull in another build of it.
.venv/ready: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "snncc needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[torch,dev,examples]'
	touch $@

# A second environment with independent implementations of the neurons; see tests/oracles/.
oracles: .venv-oracles/ready
.venv-oracles/ready: constraints.txt
	$(PYTHON) -m venv .venv-oracles
	.venv-oracles/bin/python -m pip install --quiet -c constraints.txt torch
	.venv-oracles/bin/python -m pip install --quiet --no-deps sinabs spikingjelly nir nirtorch
	.venv-oracles/bin/python -m pip install --quiet pbr h5py numpy scipy loguru tqdm
	touch $@

clean:
	rm -rf .venv .venv-oracles build dist
