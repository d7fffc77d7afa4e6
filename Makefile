# `make demo` and `make test` set up all they need; a second call is quick.
#
# Another interpreter, environment or set of versions:
#   make test PYTHON=python3.10 VENV=.venv-3.10 CONSTRAINTS=constraints-lowest.txt

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
# Of the environment in which `make dist` installs the wheel.
DIST_PYTHON ?= $(PYTHON)
PYTEST_ARGS ?=
BENCH_ARGS ?=
HOST := 127.0.0.1
PORT := 3000

BIN := $(VENV)/bin
# The demo needs a fifth of what the tests need.
DEMO_READY := $(VENV)/.installed-demo
TEST_READY := $(VENV)/.installed-test
DIST_READY := $(VENV)/.installed-dist
DOCS_READY := $(VENV)/.installed-docs
TESTS := fdtcc_dagster_tests
# Tests without a server, a run of Dagster or another process.
QUICK := $(filter-out %_fuzz.py $(TESTS)/calendar/test_partition%,$(wildcard $(addsuffix /test_*.py,$(TESTS)/calendar $(TESTS)/pandas_csv))) \
	$(TESTS)/client/test_protocol.py $(TESTS)/test_errors.py $(TESTS)/test_window.py
FUZZ := $(shell find $(TESTS) -name '*_fuzz.py')
# Many tests wait, so there are more workers than processors: see fdtcc_dagster_tests/conftest.py.
WORKERS := auto
DIST := worksteal
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist $(DIST)

export FDTCC_DEMO_HOME ?= $(CURDIR)/.demo
# Every worker and every process that a test starts would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo dev docs lint lint-to-log pytest test quick test-all test-instance test-scale test-browser fuzz soak bench dist clean

help:
	@echo "make demo   materialize partitions of three datasets, and print them"
	@echo "make dev    the same datasets in Dagster's UI, at http://$(HOST):$(PORT)"
	@echo "make lint   linter, type checker and layers of imports"
	@echo "make quick  the tests of pure functions: calendar, protocol, parsing, errors (half a minute)"
	@echo "make test   linter, type checker and tests (under 5 minutes)"
	@echo "make test-all  the tests with more cases, and random input at greater length (10 minutes)"
	@echo "make test-instance  slow tests: a real webserver and daemon, killed runs, load, a soak (15 minutes)"
	@echo "make test-scale  several hosts: Postgres, Redis, S3, Celery workers; restricted hosts; GCS, Azure (7 minutes)"
	@echo "make test-browser  Dagster's UI and our pages in Chromium, with screenshots in .screenshots/ (3 minutes)"
	@echo "make fuzz   the fuzz tests with many more examples (20 minutes)"
	@echo "make soak   half an hour of mixed pulls with random faults"
	@echo "make bench  measure against curl, Polars and the reference client (under 10 minutes; BENCH_ARGS=\"--size 1GB\": half an hour)"
	@echo "make docs   the documentation as a site, in site/: every link and heading is checked (half a minute)"
	@echo "make dist   build the sdist and the wheel, and install the wheel in a clean environment (2 minutes)"
	@echo "make clean  remove the demo's data, the environment $(VENV), and caches"

install = $(BIN)/python -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e

$(DEMO_READY): pyproject.toml $(CONSTRAINTS)
	@echo "Installing what the demo needs into $(VENV), once: about a minute"
	$(PYTHON) -m venv $(VENV)
	$(install) '.[demo]'
	@touch $@

$(TEST_READY): pyproject.toml $(CONSTRAINTS)
	@echo "Installing what the tests need into $(VENV), once: about two minutes"
	$(PYTHON) -m venv $(VENV)
	$(install) '.[demo,test]'
	@touch $(DEMO_READY) $@

$(DIST_READY): $(TEST_READY)
	@echo "Installing what building and publishing need into $(VENV), once"
	$(install) '.[dist]'
	@touch $@

$(DOCS_READY): pyproject.toml $(CONSTRAINTS)
	@echo "Installing what the documentation needs into $(VENV), once"
	$(PYTHON) -m venv $(VENV)
	$(install) '.[docs]'
	@touch $@

demo: $(DEMO_READY)
	@$(BIN)/python -m fdtcc_dagster.demo

dev: $(DEMO_READY)
	@$(BIN)/python -m fdtcc_dagster.demo --prepare
	DAGSTER_HOME="$(FDTCC_DEMO_HOME)/dagster" $(BIN)/dagster dev -w workspace.yaml -h $(HOST) -p $(PORT)

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(TEST_READY)
	$(PYTEST) $(PYTEST_ARGS)

# Both at the same time. What lint found is shown after the tests' output, where it is seen.
test: $(TEST_READY)
	@log=$$(mktemp); $(MAKE) --no-print-directory -j2 lint-to-log pytest LINT_LOG=$$log; \
		status=$$?; cat $$log; rm $$log; exit $$status

lint-to-log:
	@$(MAKE) --no-print-directory lint >$(LINT_LOG) 2>&1 && echo "make lint: passed" >$(LINT_LOG)

quick: WORKERS := 2
quick: $(TEST_READY)
	$(PYTEST) $(QUICK) $(PYTEST_ARGS)

test-all: $(TEST_READY)
	$(PYTEST) -m 'not real_instance and not scale and not browser and not dist' --hypothesis-profile=thorough $(PYTEST_ARGS)

# A module has its instance in one worker.
test-instance: WORKERS := 3
test-instance: DIST := loadfile
test-instance: $(TEST_READY)
	$(PYTEST) -m real_instance $(PYTEST_ARGS)

test-scale: WORKERS := 0
test-scale: $(TEST_READY)
	$(PYTEST) -m scale $(PYTEST_ARGS)

test-browser: WORKERS := 0
test-browser: $(TEST_READY)
	$(PYTEST) -m browser $(PYTEST_ARGS)

fuzz: $(TEST_READY)
	$(PYTEST) --hypothesis-profile=long --timeout=0 $(FUZZ) $(PYTEST_ARGS)

soak: $(TEST_READY)
	$(BIN)/python -m fdtcc_dagster_tests.soak --minutes 30

bench: $(TEST_READY)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)
	@$(BIN)/python benchmarks/load_time.py --rounds 1

# The variable silences an announcement of mkdocs-material, about versions to come.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# What is tested is what is uploaded.
dist: WORKERS := 0
dist: $(DIST_READY)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	FDTCC_DIST="$(CURDIR)/dist" FDTCC_DIST_PYTHON="$(DIST_PYTHON)" $(PYTEST) -m '' $(TESTS)/test_dist.py $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .demo site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
