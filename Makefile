# `make` alone lists the targets. DIR is the local stack's directory, PYTHON the interpreter.
DIR ?= .run
export PYTHON ?= python3
BIN := .venv/bin
SCRIPTS = $$(git grep -lIE '^\#!.*[ /](ba)?sh$$' -- ':!*.j2')

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-all bench soak fuzz contract fix check audit stack dev

help: ## This list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: stack ## Install, bring the local stack up, deliver real files, take it down
	@$(BIN)/deliv testbed demo --dir $(DIR)

up: stack ## Bring the local stack up and leave it running in DIR (.run)
	@$(BIN)/deliv testbed up --dir $(DIR)

down: ## Stop the local stack
	@$(BIN)/deliv testbed down --dir $(DIR)

test: dev ## Install, then run what must hold at every push: about a quarter of an hour
	@$(BIN)/python tools/run_tests.py

test-all: dev deploy-tools ## Every check and every test: more than an hour (needs root)
	@$(BIN)/python tools/run_tests.py all

bench: dev ## Speed and memory, as ratios of what was measured in one run
	@PYTHONPATH=tests $(BIN)/python -m bench.run

soak: dev ## Load (RATE jobs a second, 5) and trouble for MINUTES (15): is anything lost? Then the fuzzing
	@PYTHONPATH=tests $(BIN)/python -m soak.run --minutes $(or $(MINUTES),15) --rate $(or $(RATE),5)
	@$(MAKE) --no-print-directory fuzz

fuzz: dev ## INPUTS (1,000,000) of SEED (1) for all that reads what strangers send
	@PYTHONPATH=tests $(BIN)/python -m fuzz.run --inputs $(or $(INPUTS),1000000) --seed $(or $(SEED),1)

check: dev ## Formatting, lint, types, layers, insecure code, shell scripts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive deliv testbed tools
	shellcheck $(SCRIPTS)

audit: ## Known vulnerabilities of the pinned packages; needs their advisories over the network
	@tools/audit

contract: dev ## More than 10,000 requests made from the API's description, of SEED (1)
	@CONTRACT_EXAMPLES=300 CONTRACT_LEAST=10000 CONTRACT_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest tests/contract -s

fix: dev ## Repair formatting and lint where a tool can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stack:
	@tools/install-packages python stack
	@tools/install-python server

dev:
	@tools/install-packages python stack test
	@tools/install-python dev
	@tools/own-venv tls-scan

include tools/deploy.mk
