# Every target sets itself up in .venv; the second time that takes no time.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test memory check generate format clean

help:
	@echo 'make demo      sends real files through a real TLS connection to an embedded MESH server, and back'
	@echo 'make test      runs the tests'
	@echo 'make check     format, lint, types, import rules, generated code'
	@echo 'make memory    the memory tests at 1 GiB'
	@echo 'make generate  makes the sync client from the async one'
	@echo 'make format    puts the code in order'
	@echo 'make clean     removes what the others made'

demo: $(VENV)/.demo
	@$(PY) examples/demo.py

test: $(VENV)/.dev
	$(PY) -m pytest

memory: $(VENV)/.dev
	NEL_MESH_TEST_MEBIBYTES=1024 $(PY) -m pytest -q -s tests/test_memory.py

check: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) tools/unasync.py --check
	$(PY) -m pytest -q tests/test_architecture.py

generate: $(VENV)/.dev
	$(PY) tools/unasync.py

format: $(VENV)/.dev
	$(PY) -m ruff check --fix --quiet . || true
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build

$(PY):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(PY)
	@echo 'Setting up in $(VENV) ...'
	@$(PIP) --editable '.[sandbox]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	@echo 'Setting up in $(VENV) ...'
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[sandbox]' --group dev
	@touch $@ $(VENV)/.demo
