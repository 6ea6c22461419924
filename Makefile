# Everything from a fresh clone: Python (3.10 or newer), git and make are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-all check format

demo: $(VENV)/.installed        ## a short real search on the embedded digits
	$(BIN)/nas search --space mobilenetv3 --budget 16 --final-seeds 2
	@echo "  (nas lies in $(BIN): first type  source $(BIN)/activate)"

test: $(VENV)/.installed-test   ## the suite, without what takes minutes
	$(BIN)/pytest

test-all: $(VENV)/.installed-test
	$(BIN)/pytest -m ""

check: $(VENV)/.installed-test  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
