PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS := features windows point_in_time online stream serving training

.PHONY: install demo up down test check bench

install: $(STAMP)

$(STAMP): requirements.lock requirements-torch.lock pyproject.toml
	@echo "installing into $(VENV), about three minutes ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-torch.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: install  ## the whole loop on a year of flights
	$(BIN)/fti demo

up: install  ## Dagster, MLflow and the prediction service on the demo's state
	$(BIN)/fti up

down: install
	$(BIN)/fti down

check: install  ## format, lint, types, layers, the README's table
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/readme.py --check
	$(BIN)/python docs/reference.py --check
	$(BIN)/python docs/values.py --check

test: check  ## everything CI runs
	$(BIN)/python -m pytest -n 2 -rs

bench: install  ## every benchmark (20 minutes, after `make demo`), then the README's table
	for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py > benchmarks/results/.$$name && mv benchmarks/results/.$$name benchmarks/results/$$name.json || exit 1; done
	$(BIN)/python benchmarks/readme.py
