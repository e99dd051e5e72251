# Two commands from a clean clone: `make demo` and `make test`. Both make .venv where it is missing.

VENV ?= .venv
DATASET ?= synthetic
WORKERS ?= 2
# The first one that runs: a name on the PATH may be a launcher without a Python behind it.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test soak lint types recipes check clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer on the PATH (got none)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"expected Python 3.11 or newer (got {sys.version})")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP)  ## train, apply, report; DATASET=cora for the real graph
	$(BIN)/python tools/demo.py --data $(DATASET)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

soak: $(STAMP)  ## the long checks that `make test` only samples; at most 30 minutes
	$(BIN)/python -m pytest -m soak -q

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)
	$(BIN)/mypy

recipes: $(STAMP)  ## every shipped recipe is valid
	find recipes -name '*.yaml' -print0 | sort -z | xargs -0 $(BIN)/sgq check

check: lint types recipes test

clean:
	rm -rf .venv .venv-scatter runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
