# make setup   install everything in .venv    make test       all tests        make lint    ruff and pyrefly
# make demo    from videos to a game          make test-fast  without slow     make docs    the site, in site/
# make test-isa  the numerical tests under other instruction sets                 make clean   remove generated files
#
# Nothing is compiled. The CPU build of torch is installed from pytorch.org if reachable, else from pip's index.
# For a GPU, make setup TORCH_INDEX= installs torch from PyPI; a URL there is an additional index.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-isa lint docs clean

VENV := .venv
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(if $(shell $(p) -c 'import sys, venv, ensurepip; print(1) if (3, 11) <= sys.version_info[:2] < (3, 13) else 0' 2>/dev/null | grep 1),$(p))))
TORCH_INDEX ?= auto
TORCH_CPU := https://download.pytorch.org/whl/cpu
EXTRAS ?= play,plot,dev
TORCH := $(shell sed -n 's/^ *"\(torch[^"]*\)",/\1/p' pyproject.toml)
DEMO ?= .demo
MINUTES ?= 1
STEPS ?= 50
PRESET ?= finetune
ARGS ?=
# one thread per worker: two workers with two threads each would compete for the cores
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(or $(WORKERS),2) --jaxtyping-packages=djinn,typecheck.check

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Djinn needs Python 3.11 or 3.12 with its venv module, and none was found."; \
	  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; else from python.org),"; \
	  echo "or pass its path: make setup PYTHON=/path/to/python3.11"; \
	  exit 1; fi
	@echo "== Setting up $(VENV) with $$($(PYTHON) --version): a few minutes, most of them for torch"
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@index='$(TORCH_INDEX)'; \
	if [ "$$index" = auto ]; then index=; \
	  if $(VENV)/bin/python -c 'import urllib.request as r; r.urlopen("$(TORCH_CPU)/torch/", timeout=5)' 2>/dev/null; \
	  then index=$(TORCH_CPU); fi; fi; \
	pip() { $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --retries 1 "$$@"; }; \
	if [ -n "$$index" ]; then pip --extra-index-url "$$index" '$(TORCH)' || echo "nothing from $$index: trying without"; fi; \
	pip -e '.[$(EXTRAS)]' || { echo "pip failed; its error message is above. To retry: make setup"; exit 1; }
	@$(VENV)/bin/python -c 'import torch, djinn; print(f"== Ready: djinn {djinn.__version__}, torch {torch.__version__}")'
	@touch $@

demo:
	@echo "== Djinn demo: 1 install, 2 import videos, 3 train, 4 name actions and choose prompts, 5 play"
	@echo "== 1/5 install"
	@$(MAKE) --silent --no-print-directory setup
	@$(VENV)/bin/python recipes/demo.py --folder $(DEMO) --preset $(PRESET) --minutes $(MINUTES) --steps $(STEPS) $(ARGS)

test: setup
	@$(PYTEST) $(ARGS)

test-fast: setup
	@$(PYTEST) -m "not slow" $(ARGS)

# Numerical results differ in their last bits between CPUs. These tests must pass with any instruction set.
NUMERICAL_TESTS := tests/nn tests/models tests/generate tests/backends tests/train tests/test_shipped.py
test-isa: setup
	@for isa in "default SSE41" "avx2 AVX2"; do set -- $$isa; \
	  echo "== ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2"; \
	  ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2 $(PYTEST) $(NUMERICAL_TESTS) $(ARGS); done

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyrefly check --output-format=min-text

docs: $(VENV)/.docs
	@$(VENV)/bin/python docs/tools/cli_reference.py docs/reference/cli.md
	@PYTHONPATH=docs/tools $(VENV)/bin/zensical build --clean --strict
	@echo "== The documentation is in site/. To read it: $(VENV)/bin/python -m http.server --directory site"

$(VENV)/.docs: $(VENV)/.installed
	@$(VENV)/bin/python -m pip --disable-pip-version-check --quiet install -e '.[docs]'
	@touch $@

clean:
	rm -rf site docs/reference/cli.md $(VENV)/.installed $(DEMO) dist .pytest_cache .ruff_cache
	find src tests recipes benchmarks -name __pycache__ -type d -exec rm -rf {} +
