# `make demo` and `make test` set up all they need; a second call is quick.
#
# Another interpreter, environment or set of versions:
#   make test PYTHON=python3.10 VENV=.venv-3.10 CONSTRAINTS=lowest.txt

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
HOST := 127.0.0.1
PORT := 3000

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export FDTCC_DEMO_HOME ?= $(CURDIR)/.demo

.DEFAULT_GOAL := help
.PHONY: help demo dev lint test test-instance fuzz soak bench clean

help:
	@echo "make demo   materialize partitions of three datasets, and print them"
	@echo "make dev    the same datasets in Dagster's UI, at http://$(HOST):$(PORT)"
	@echo "make lint   linter, type checker and layers of imports"
	@echo "make test   linter, type checker and tests"
	@echo "make test-instance  slow tests: a real webserver and daemon, killed runs, load, a soak (20 minutes)"
	@echo "make fuzz   the fuzz tests with twenty times as many examples (20 minutes)"
	@echo "make soak   half an hour of mixed pulls with random faults"
	@echo "make bench  measure against curl, Polars and the reference client (under 10 minutes; BENCH_ARGS=\"--size 1GB\": half an hour)"
	@echo "make clean  remove the demo's data, the environment $(VENV), and caches"

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[demo,test]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python -m fdtcc_dagster.demo

dev: $(INSTALLED)
	@$(BIN)/python -m fdtcc_dagster.demo --prepare
	DAGSTER_HOME="$(FDTCC_DEMO_HOME)/dagster" $(BIN)/dagster dev -w workspace.yaml -h $(HOST) -p $(PORT)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-instance: $(INSTALLED)
	$(BIN)/python -m pytest -m real_instance $(PYTEST_ARGS)

fuzz: $(INSTALLED)
	$(BIN)/python -m pytest --hypothesis-profile=long --timeout=0 \
		fdtcc_dagster_tests/client/*_fuzz.py fdtcc_dagster_tests/calendar/test_schedule_fuzz.py $(PYTEST_ARGS)

soak: $(INSTALLED)
	$(BIN)/python -m fdtcc_dagster_tests.soak --minutes 30

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)
	@$(BIN)/python benchmarks/load_time.py --rounds 1

clean:
	rm -rf $(VENV) .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
