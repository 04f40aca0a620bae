# Everything a person runs. Only python3 (3.11 or newer, with venv) and make are assumed; each target brings the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Tests start hundreds of processes: none of them should have to compile the service and the tests again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
# Many tests wait for workers, leases and time-outs rather than for a processor.
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores > 4 ? 8 : 2 * cores)))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

SEEDS ?= 100000
START ?= 1

help: ## list what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

install: $(STAMPS)/service ## the service into .venv, with tydzen and celery in .venv/bin

demo: $(STAMPS)/service ## import a sample issue and 1,000 readers, send it, show the ledger
	$(BIN)/tydzen demo

test: $(STAMPS)/test $(STAMPS)/packages ## install what tests need and run them, but for the slow ones
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not (slow or long)' $(TESTS)

slow: $(STAMPS)/test $(STAMPS)/packages ## whole installations, browsers and samples of chaos: the tests that take longer
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'slow and not long' $(TESTS)

check: $(STAMPS)/test ## what CI checks besides the tests: style, types, floors, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint --quiet --lint --profile=jinja templates

chaos: $(STAMPS)/test $(STAMPS)/packages ## kill, stop and starve everything while an issue is sent
	$(BIN)/python -m pytest -m '' tests/chaos $(TESTS)
	$(BIN)/python -m tests.chaos.matrix
	$(BIN)/python -m tests.chaos.first_second
	$(BIN)/python -m tests.chaos.run --readers 20000 --kills 10 --flushes 2
	$(BIN)/python -m tests.chaos.kills --kills 1000

simulate: $(STAMPS)/test ## run the engine under a virtual clock through SEEDS seeds of trouble
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START) --jobs $(JOBS)

mutants: $(STAMPS)/test ## put errors into the engine, and see that the simulation finds each
	$(BIN)/python -m tests.simulation --mutants --seeds 2000

bench: $(STAMPS)/test $(STAMPS)/packages ## measure the wire, end to end and part by part
	$(BIN)/python -m benchmarks

pictures: $(STAMPS)/test $(STAMPS)/packages ## photograph mails and pages, light and dark, wide and narrow
	$(BIN)/python -m tests.browser.pictures

lighthouse: $(STAMPS)/test $(STAMPS)/packages $(STAMPS)/lighthouse ## have Lighthouse judge every page (needs Node.js 18.16 or newer with npm)
	$(BIN)/python -m tests.lighthouse

lock: $(STAMPS)/venv ## write requirements/*.txt anew from pyproject.toml; UPGRADE=--upgrade takes newer versions
	$(PIP) install uv
	$(BIN)/uv pip compile $(LOCKED) pyproject.toml --output-file requirements/service.txt
	$(BIN)/uv pip compile $(LOCKED) pyproject.toml --extra test --constraint requirements/service.txt \
		--output-file requirements/test.txt

# Hashes of every file of a release, for every platform and Python; never the address of an index.
LOCKED := --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(UPGRADE)

clean: ## remove what the other targets made, but for .venv and var
	rm -rf $(STAMPS) build dist pictures var/demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/service: requirements/service.txt pyproject.toml | $(STAMPS)/venv
	$(PIP) install --require-hashes --requirement requirements/service.txt
	$(PIP) install --no-deps --editable .
	touch $@

$(STAMPS)/test: requirements/test.txt $(STAMPS)/service
	$(PIP) install --require-hashes --requirement requirements/test.txt
	touch $@

$(STAMPS)/packages: .ci/packages | $(STAMPS)/venv
	.ci/packages
	touch $@

$(STAMPS)/lighthouse: tests/lighthouse/package-lock.json | $(STAMPS)/venv
	@command -v npm >/dev/null || { echo "npm is needed: apt-get install nodejs npm" >&2; exit 1; }
	mkdir -p $(STAMPS)/node
	cp tests/lighthouse/package.json tests/lighthouse/package-lock.json tests/lighthouse/.npmrc $(STAMPS)/node/
	npm ci --prefix $(STAMPS)/node
	touch $@

.PHONY: help install demo test slow check chaos simulate mutants bench pictures lighthouse lock clean
