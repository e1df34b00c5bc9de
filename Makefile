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

.PHONY: setup
setup: $(STAMP)  ## prepare .venv, which then holds the command `heddle`

.PHONY: help
help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12
