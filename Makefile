PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process of one thread for each core. Each begins with tests that stand together, as they share what is costly to make.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint bench clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# The marker file makes every target install once and again only when the dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test]"
	@touch $@

install: $(VENV)/.installed  ## make a virtual environment with the package and its tools

demo: install  ## train, test and look at a small model on built-in data (minutes, on a laptop)
	$(BIN)/latent-lab demo

test: install  ## the fast tests: offline, on the CPU, under ten minutes on two cores
	$(PYTEST)

test-all: install  ## every test, the slow ones included
	$(PYTEST) -m ""

lint: install  ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## speed of training, data, metrics and maps beside other programs, as tables
	$(BIN)/python -m latent_lab.cli.bench

clean:  ## remove what the other targets made, except the virtual environment
	rm -rf runs results .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist *.egg-info
