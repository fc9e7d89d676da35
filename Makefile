# `make` says what the targets do. Only Python 3.11 or newer and make are needed beforehand.

PYTHON ?= python3
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
UV ?= $(BIN)/uv
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
INPUTS := pyproject.toml constraints.txt
RUNTIME := $(VENV)/.installed
TESTING := $(VENV)/.installed-test
UNFINISHED := { echo "The installation did not finish. Run the same command again to go on with it." >&2; exit 1; }

.PHONY: help setup lab test bench constraints clean not-moved
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo "make lab           set everything up, then open JupyterLab on the course map"
	@echo "                   PORT=8123     use this port (otherwise 8888 or the next free one)"
	@echo "                   BROWSER=none  open no browser, only print the address"
	@echo "make setup         only set everything up, in .venv/"
	@echo "make test          run all checks and tests, as continuous integration does"
	@echo "                   TOPIC=rnn     only the tests of one topic; TOPIC=shared: those that belong to no topic"
	@echo "make bench         run every notebook, and print its times and memory beside their budgets"
	@echo "make constraints   renew constraints.txt, the exact versions that get installed"
	@echo "make clean         delete .venv/, build/ and caches; work/ is left alone"
	@echo
	@echo "For the first run:"
	@echo "  PYTHON=python3.12 make lab   use another interpreter than python3"
	@echo "  make lab TORCH_INDEX=URL     take torch from this package index, for example one with CPU-only builds;"
	@echo "                               its address is in the command that pytorch.org shows under \"Get started\""
	@echo "  make setup CONSTRAINTS=      install the newest versions, not those of constraints.txt"

setup: not-moved $(RUNTIME)
	@echo "Everything is installed in $(VENV)/. Next: make lab"

lab: not-moved $(RUNTIME)
	@$(BIN)/autograde lab $(if $(PORT),--port $(PORT)) $(if $(filter none,$(BROWSER)),--no-browser)

test: not-moved $(TESTING)
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check
	$(IN_VENV) mypy autograde utils
	$(IN_VENV) autograde build --check
	$(IN_VENV) pytest -n 2 --durations=10 $(if $(TOPIC),--topic $(TOPIC))

bench: not-moved $(TESTING)
	$(IN_VENV) python benchmarks/notebooks.py $(if $(TOPIC),--topic $(TOPIC))

constraints: $(UV)
	$(UV) pip compile pyproject.toml --extra test --universal --python-version 3.11 \
		--constraints constraints.in --upgrade --no-annotate \
		--custom-compile-command "make constraints" --quiet --output-file constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find autograde utils tests solutions benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A virtual environment holds absolute paths, so one that was moved runs the wrong programs or none.
not-moved:
	@if [ -f $(RUNTIME) ] && [ "$$(cat $(RUNTIME))" != "$$(pwd)" ]; then \
		echo "This folder was moved after $(VENV)/ was made in $$(cat $(RUNTIME)): run \`make clean\`, then try again." >&2; \
		exit 1; \
	fi

$(BIN)/pip:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "$(PYTHON) is not installed: install Python 3.11 or newer, or name one: PYTHON=python3.12 make lab" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1): name a newer one: PYTHON=python3.12 make lab" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: on Debian and Ubuntu install python3-venv (sudo apt-get install python3-venv)." >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV)/ with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV)

$(BIN)/uv: | $(BIN)/pip
	@$(PIP) install uv

$(RUNTIME): $(INPUTS) | $(BIN)/pip
	@echo "Installing into $(VENV)/ with pip. Downloaded the first time: about 0.4 GB, and torch on top of it:"
	@echo "0.1 to 0.2 GB for a CPU-only torch, but on Linux 2.6 GB for pip's usual torch, which brings CUDA along."
	@if [ -n "$(TORCH_INDEX)" ]; then \
		echo "Taking torch from $(TORCH_INDEX)"; \
		$(PIP) install --no-deps $(PINNED) --index-url "$(TORCH_INDEX)" torch; \
	fi || $(UNFINISHED)
	@$(PIP) install $(PINNED) --editable . || $(UNFINISHED)
	@pwd > $@

$(TESTING): $(INPUTS) $(RUNTIME)
	@echo "Installing what the tests need into $(VENV)/: about 0.1 GB"
	@$(PIP) install $(PINNED) --editable '.[test]' || $(UNFINISHED)
	@pwd > $@
