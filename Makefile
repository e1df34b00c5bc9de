# Everything a newcomer needs: `make dev` runs the server, `make test` tests it, `make help` lists the rest.
# On a machine with only git, make and Python 3.11+, each target first prepares what it needs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PACKAGES := libs/core libs/server libs/cli libs/kit graphs

.DEFAULT_GOAL := help

$(STAMP): requirements.lock VERSION $(addsuffix /pyproject.toml,$(PACKAGES)) scripts/setup
	@PYTHON="$(PYTHON)" sh scripts/setup $(PACKAGES)

.PHONY: setup dev-install
dev-install: setup
setup: $(STAMP)  ## prepare .venv, which then holds the command `heddle`

.PHONY: help
help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

.PHONY: dev
dev: $(STAMP)  ## run the server on http://127.0.0.1:2024, reloading on changes (HOST and PORT are honoured)
	@exec $(BIN)/heddle dev

.PHONY: demo
demo: $(STAMP)  ## start a server on a free port and let it write a DAG, with no key and no network
	@exec $(BIN)/heddle demo

WORKERS ?= 2
.PHONY: test
test: $(STAMP)  ## run all tests that this machine can run (TESTS=path narrows it)
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal -q $(TESTS)

.PHONY: fmt format
format: fmt
fmt: $(STAMP)  ## format the code
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

.PHONY: lint
lint: $(STAMP)  ## the linter alone
	@$(BIN)/ruff check --quiet .

.PHONY: type-check
type-check: $(STAMP)  ## the type checker alone
	@$(BIN)/mypy libs graphs tests benchmarks

.PHONY: check
check: $(STAMP)  ## lint, types, import contracts, security, the lock file
	@sh scripts/check

.PHONY: ci-check
ci-check:  ## all that a change must pass: every check, every test, nothing skipped (installs what that needs)
	@sh .ci/run

.PHONY: lock
lock: $(STAMP)  ## resolve every dependency anew into requirements.lock
	@sh scripts/lock

.PHONY: bench
bench: $(STAMP)  ## measure the server against its budgets
	@$(BIN)/python -m benchmarks

include scripts/airflow.mk

.PHONY: clean
clean:  ## remove what setup and tests made; data under .heddle stays
	rm -rf .venv .airflow .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
