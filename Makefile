# `make train` and `make test` work from a fresh clone with nothing but Python 3.11-3.13.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: train test verify lint clean

train: $(VENV)/installed
	$(BIN)/python train.py --mode=joint --gpus=1

test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What takes too long for every day.
verify: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[report]"
	touch $@

$(VENV)/installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info
