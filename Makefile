# make demo: measure the stages of a language model at the last four releases of MLX and build a site of them.
# make test: everything that must hold before a change lands.
PYTHON ?= python3
BIN := .venv/bin
# The operators, components and training variants double the time: mlx-velocity run measures them too.
STAGES := --bench '^(startup|prefill|first_token|decode|lora)[.]'
DEMO := --machine demo --profile tiny

.PHONY: demo test check clean

demo: .venv/made
	$(BIN)/mlx-velocity run main~4..main $(DEMO) $(STAGES) || test $$? -eq 4 # what failed is recorded and shown
	$(BIN)/mlx-velocity show main~3 main --machine demo
	$(BIN)/mlx-velocity publish

test: check
	$(BIN)/python -m pytest --cov --cov-report=term

check: .venv/made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip verifies every archive against the hashes in the lock file.
.venv/made: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlx-velocity needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Writes no index host: the lock holds names, versions and hashes.
requirements.lock: requirements.in pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --extra mlx --extra dev --extra nvidia --extra apple pyproject.toml requirements.in -o $@

clean:
	rm -rf .venv .asv
