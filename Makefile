# Every target makes the virtual environment .venv that it needs, from nothing; the second run is quick.
#
#   make demo    train a small model, map it naively and fast, draw the map (in fastism-demo/)
#   make test    lint, then the tests on TensorFlow, JAX and PyTorch (those of files and pictures once), then
#                exactness in float64 on each
#   make lint    ruff and pyright
#   make docs    these pages and the reference as a site, in docs/_build/html
#   make clean   remove the environment and everything generated

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test
.PHONY: demo test lint docs clean

PYTHON ?= python3
TORCH ?= torch==2.13.0
PYTEST_ARGS ?= -q -n auto
VENV := .venv
# tests of files, tables and plots, and the site: no backend takes part, so they run once
ONCE := bed genome kinds mutations plot plot_more report result scores sequences store vcf \
	writers writers_bigwig writers_tables
AGAIN := $(ONCE:%=--ignore=tests/test_%.py) --deselect=tests/test_docs.py::test_site_builds_without_warnings
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL := 3

demo: $(VENV)/.demo
	$(BIN)/fastism demo

# compiling takes most of the time of these tests: leave out what makes compiled code faster
test: export XLA_FLAGS := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
# and every worker has a core of its own
test: export OMP_NUM_THREADS := 1
test: lint
	for backend in tensorflow jax torch; do \
		echo "== KERAS_BACKEND=$$backend"; \
		if [ $$backend = tensorflow ]; then once=; else once="$(AGAIN)"; fi; \
		KERAS_BACKEND=$$backend $(BIN)/python -m pytest $(PYTEST_ARGS) $$once; \
	done
	for backend in tensorflow jax torch; do \
		echo "== KERAS_BACKEND=$$backend, exactness in float64"; \
		KERAS_BACKEND=$$backend FASTISM_TEST_FLOAT=float64 \
			$(BIN)/python -m pytest $(PYTEST_ARGS) tests/test_exactness.py tests/test_model_exactness.py \
			tests/test_architectures.py tests/test_fuzz.py; \
	done

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist docs/_build fastism.egg-info fastism-demo .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/pip install -q -e ".[plot,genome]"
	touch $@

# torch first and pinned: left to itself, pip may take a build with several GB of CUDA libraries
$(VENV)/.dev: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q -e ".[dev]"
	touch $@ $(VENV)/.demo
