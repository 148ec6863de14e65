# Everything a developer types. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check lint types imports unit sim sim-long bench lock wheelhouse clean

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: .venv/installed ## Start the whole cloud on this machine and tell its story
	@$(BIN)/mallee demo

test: .venv/developed .venv/libvirt lint types ## Run everything that CI runs, two files at a time: much of it waits for real processes
	$(BIN)/pytest -q -n 2 --dist loadfile tests

check: .venv/developed lint types imports unit ## The fast part, under a minute: lint, types, floors, unit tests

lint: .venv/developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/developed
	$(BIN)/mypy -p mallee

imports: .venv/developed
	$(BIN)/lint-imports

unit: .venv/developed
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" tests/unit tests/style/test_house.py

SEEDS ?= 2000
FIRST ?= 0
sim: .venv/developed ## The whole cloud in virtual time: SEEDS=2000 schedules of faults, or SEED=17 told line by line
	@if [ -n "$(SEED)" ]; then $(BIN)/python -m tests.sim --seed $(SEED); \
	else $(BIN)/python -m tests.sim --seeds $(FIRST)..$$(($(FIRST) + $(SEEDS) - 1)) --jobs $$(nproc); fi

sim-long: ## 100,000 schedules, some hours
	@$(MAKE) sim SEEDS=100000

bench: .venv/developed ## Run the benches beside moto_server; prints medians and ratios
	$(BIN)/pip install -q --require-hashes -r packaging/requirements-bench.lock
	$(BIN)/python benches/run.py

lock: ## Pin every dependency anew, with hashes (needs uv)
	uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra dev pyproject.toml -o packaging/requirements-dev.lock
	uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra dev --extra bench pyproject.toml -o packaging/requirements-bench.lock
	printf 'libvirt-python>=9.0\npillow>=12\n' | uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 - -o packaging/requirements-libvirt.lock

wheelhouse: .venv/installed ## Fill build/wheelhouse, from which `docker-compose build` installs
	@rm -rf build/wheelhouse && mkdir -p build/wheelhouse
	@$(BIN)/pip download -q --disable-pip-version-check --only-binary :all: --require-hashes -d build/wheelhouse -r requirements.lock
	@$(BIN)/pip wheel -q --disable-pip-version-check --no-deps -w build/wheelhouse .
	@ls build/wheelhouse | wc -l | xargs -I N echo "build/wheelhouse holds N wheels"

clean: ## Remove the environment and every cache
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What runs a cloud, and nothing else: `make demo` on a fresh machine downloads as little as it can.
.venv/installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing Mallee into .venv ..." >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/developed: packaging/requirements-dev.lock pyproject.toml | .venv/bin/python
	@echo "Installing Mallee and its tools into .venv ..." >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r packaging/requirements-dev.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@ .venv/installed

# Built against the machine's own library, so only where its headers are; without it real guests are not tested.
.venv/libvirt: packaging/requirements-libvirt.lock | .venv/developed
	@if pkg-config --exists libvirt 2>/dev/null; then \
		echo "Building libvirt-python into .venv ..." >&2; \
		$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r $< && touch $@; \
	else echo "No libvirt-dev here: the tests of real guests will be skipped." >&2; fi

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Mallee needs Python 3.11: apt install python3.11 python3-venv, or make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3-venv is missing: apt install python3-venv" >&2; exit 1; }
