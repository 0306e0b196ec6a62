# Thin names for scripts; the work is done in scripts/, src/ and bench/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check bench serve format

PATHS ?= src tests bench scripts

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | while IFS=: read -r name rest; do \
		printf '  make %-8s %s\n' "$$name" "$${rest##*## }"; done

demo: ## A whole PKI on this machine, walked through in a minute or two
	@scripts/demo $(ARGS)

test: ## All tests; ARGS="tests/x509 -k name" for a part
	@scripts/test $(ARGS)

check: ## Style, types, floors, migrations, generated reference
	@scripts/check

bench: ## Measure; FIGURE=name for one figure, JSON=file for the numbers
	@scripts/ensure-venv test
	@.venv/bin/python -m bench $(FIGURE) $(if $(JSON),--json "$(JSON)")

serve: ## Serve from this checkout, state in .scratch/serve; ARGS="--workers 2" for options
	@exec scripts/serve $(ARGS)

format: ## Let ruff tidy; PATHS="src/intaglio/x509" for a part
	@scripts/ensure-venv test
	@.venv/bin/ruff check --fix-only --quiet $(PATHS)
	@.venv/bin/ruff format $(PATHS)
