# Forebay.  Two commands do everything on a fresh machine: `make serve` and `make test`.
# A line `name: ... ## text` below is a line of `make help`.

.DEFAULT_GOAL := help
.SUFFIXES:

# What a caller may set.
PYTHON ?=
HOST ?=
PORT ?= 8000
MODEL ?=
ARGS ?=
SEED ?= 0
SECONDS ?= 60
TORCH ?= torch==2.13.0
# Tests at once: most of them wait for processes and clocks.  A file's tests stay together.
AT_ONCE ?= 2

# Debian packages that some tests use: promtool (from prometheus) checks the metrics page.
TEST_PACKAGES := curl nginx openssl postgresql prometheus prometheus-alertmanager redis-server rsyslog rsyslog-elasticsearch

BIN := .venv/bin
IMAGE := forebay:$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/forebay/__init__.py)
FAST := $(wildcard $(addprefix tests/,unit contract sim http tidy))

.PHONY: help setup serve test test-fast lint fmt check sim bench drill docs image lock clean
.PHONY: setup-tests engines test-engines sbom audit

help: ## say what each target does
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: .venv/.serve ## make .venv with what serving needs, locked by hash; a second run is free

serve: setup ## serve a model on PORT (8000); HOST, MODEL and ARGS="--set a.b=c" are passed on
	@exec $(BIN)/forebay serve $(MODEL) $(if $(HOST),--host $(HOST)) --port $(PORT) $(ARGS)

test: setup-tests ## run every test, real servers included; skips are listed with their reasons
	@sh scripts/install_packages.sh $(TEST_PACKAGES)
	@exec $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile $(ARGS)

test-engines: engines ## run the contract of every engine there is, transformers included
	@exec $(BIN)/python -m pytest tests/contract $(ARGS)

test-fast: setup-tests ## run unit, contract, sim, http and tidy tests, without the slow ones
	@exec $(BIN)/python -m pytest -n $(AT_ONCE) -m "not slow and not model" $(FAST) $(ARGS)

lint: setup-tests ## ruff format and check, mypy --strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fmt: setup-tests ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

check: lint test ## lint, then test; generated pages are checked by tests/tidy

sim: setup-tests ## run each simulation for SECONDS (60) from SEED (0); a failure prints its seed
	@SIM_SEED=$(SEED) SIM_SECONDS=$(SECONDS) exec $(BIN)/python -m pytest tests/sim $(ARGS)

bench: setup-tests ## measure against the bare engine and write benchmarks/results/
	@exec $(BIN)/python -m benchmarks $(ARGS)

drill: setup-tests ## break servers on purpose and measure what is promised; ARGS="worker --quick"
	@exec $(BIN)/forebay drill --json benchmarks/results/$(shell date +%F)-drills.json $(ARGS)

docs: setup-tests ## regenerate the generated pages of docs
	@exec $(BIN)/python -m scripts.generate_docs

sbom: setup-tests ## list every locked package as CycloneDX JSON, in build/sbom
	@exec $(BIN)/python scripts/supply_chain.py sbom

audit: setup-tests ## look locked packages up in PyPI's database of vulnerabilities, where it is reachable
	@exec $(BIN)/python scripts/supply_chain.py audit

image: ## build the container image with podman, buildah or docker; print its size
	@exec sh scripts/build_image.sh $(IMAGE) $(ARGS)

lock: ## resolve the dependencies into requirements/*.txt with hashes; UPGRADE=1 for the newest
	@exec env UPGRADE=$(UPGRADE) sh scripts/lock.sh

clean: ## remove what make and the tools made; prepared models stay
	@rm -rf .venv build dist src/*.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

setup-tests: .venv/.dev

engines: setup-tests ## add the engine transformers to .venv, with torch (1.2 GB; TORCH names another)
	@$(BIN)/pip install --disable-pip-version-check -q "$(TORCH)"
	@$(BIN)/pip install --disable-pip-version-check -q --no-deps --require-hashes \
		-r requirements/transformers.txt

.venv/bin/python:
	@echo "Making .venv ..."
	@PYTHON=$(PYTHON) sh scripts/make_venv.sh .venv

# The locked files first, then this package on top with nothing fetched for it.
.venv/.serve: requirements/serve.txt pyproject.toml | .venv/bin/python
	@echo "Installing packages into .venv (about 550 MB, once) ..."
	@$(BIN)/pip install --disable-pip-version-check -q --require-hashes -r requirements/serve.txt
	@$(BIN)/pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

# dev.txt holds all of serve.txt at the same versions.
.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing packages and tools into .venv (about 1 GB, once) ..."
	@$(BIN)/pip install --disable-pip-version-check -q --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch .venv/.serve $@
