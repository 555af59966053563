# Everything a fresh machine needs is Python 3.10 or newer and make: each target sets up `.venv`.
#   make demo                  the main job, from simulated recordings to the table
#   make test PYTHON=python3.12  with another interpreter

PYTHON ?= python3
EXTRAS ?= benchmarks,blazepose,dev
E2E ?= tests
BIN := .venv/bin
STAMP := .venv/.installed
# Tests that share no cluster run side by side, the slowest first.
APART := $(addprefix tests/integration/test_,store.py stored_shards.py google_store.py)
PARALLEL := tests/e2e/test_bad_input.py $(APART) tests/unit tests/property tests/oracle

# No usage reports: nothing leaves the machine, and a closed network causes no delay.
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help demo published check format unit test triton e2e clean .venv

help:  ## List the targets
	@awk -F ':.*## ' '/^[.a-z][a-z0-9.-]*:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

.venv: $(STAMP)  ## Build the virtual environment with the tested versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "metafuse_ray needs Python 3.10 or newer, but '$(PYTHON)' is missing or is" \
	       "$$($(PYTHON) --version 2>&1 | head -n 1); name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make virtual environments; install its venv package" \
	       "(Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing the tested versions into .venv: some minutes, this once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
	  -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP)  ## Simulate, meta-train both models and evaluate on two cores; prints the table
	$(BIN)/python jobs/simulate.py --config configs/demo.yaml
	$(BIN)/python jobs/meta_train.py --config configs/demo.yaml
	$(BIN)/python jobs/meta_train.py --config configs/demo.yaml problem.kind=plus problem.rigs=16 \
	  meta.rounds=12
	$(BIN)/python jobs/evaluate.py --config configs/demo.yaml output.dir=runs/demo/evaluate

P := --config configs/published.yaml
R := runs/published

published: $(STAMP)  ## The published tables once more (RECORDING=DIR): docs/published.md, hours
	@test -n "$(RECORDING)" || { echo "name a recording: make published RECORDING=DIR" >&2; exit 1; }
	$(BIN)/python jobs/simulate.py $(P)
	$(BIN)/python jobs/prepare.py $(P) data.sequence=$(RECORDING) data.shards=$(R)/recording
	$(BIN)/python jobs/meta_train.py $(P) output.dir=$(R)/dome_meta
	$(BIN)/python jobs/meta_train.py $(P) data.shards=$(R)/recording output.dir=$(R)/recording_meta
	$(BIN)/python jobs/evaluate.py $(P) --resume
	$(BIN)/python benchmarks/published.py $(R)/evaluate

check: $(STAMP)  ## Lint, formatting, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## Apply the formatter and the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One thread a process: tests run beside actors, and compare results bit for bit.
unit test triton e2e: export OMP_NUM_THREADS ?= 1

unit: $(STAMP)  ## The fast tests: no Ray, under a minute
	$(BIN)/python -m pytest tests/unit tests/property tests/oracle -m "not slow"

test: check  ## Checks and all tests but the end-to-end ones
	$(BIN)/python -m pytest $(PARALLEL) -m "not e2e" -n auto --dist loadscope
	$(BIN)/python -m pytest tests/integration tests/e2e -m "not e2e" $(PARALLEL:%=--ignore=%) \
	  -n auto --dist loadfile

triton: $(STAMP)  ## The CUDA kernels under Triton's interpreter, on the CPU
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
	  -c constraints.txt -e '.[$(EXTRAS),triton]'
	$(BIN)/python -m pytest tests/unit/methods/metafuse/operator/test_triton.py

e2e: $(STAMP)  ## Whole jobs and caused faults: the demo, submitted jobs, killed actors
	$(BIN)/python -m pytest $(E2E) -m e2e

clean:  ## Remove the virtual environment, caches and build leftovers (runs/ is kept)
	rm -rf .venv .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find metafuse_ray jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
