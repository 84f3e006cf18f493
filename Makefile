# Every target sets itself up in .venv; the second time that takes no time.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test chaos big memory check generate commands recording format clean

help:
	@echo 'make demo      sends real files through a real TLS connection to an embedded MESH server, and back'
	@echo 'make test      runs the tests'
	@echo 'make check     format, lint, types, import rules, generated code'
	@echo 'make chaos     every fault at every request, a kill at every point: what is lost, doubled, corrupted'
	@echo 'make big       a message of 5 GiB, with two kills on the way'
	@echo 'make memory    the memory tests at 1 GiB'
	@echo 'make generate  makes the sync client from the async one'
	@echo 'make commands  writes docs/commands.md from the commands'
	@echo 'make recording writes docs/session.svg: a session with the real commands'
	@echo 'make format    puts the code in order'
	@echo 'make clean     removes what the others made'

demo: $(VENV)/.demo
	@$(PY) examples/demo.py

test: $(VENV)/.dev
	$(PY) -m pytest --numprocesses 2

chaos: $(VENV)/.dev
	$(PY) tests/chaos.py

big: $(VENV)/.dev
	$(PY) tests/big.py

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

commands: $(VENV)/.dev
	$(PY) tools/commands.py

recording: $(VENV)/.dev
	$(PY) tools/recording.py

format: $(VENV)/.dev
	$(PY) -m ruff check --fix --quiet . || true
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build

$(PY):
	@echo 'Setting up in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(PY)
	@$(PIP) --editable '.[cli,sandbox]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[cli,sandbox]' --group dev
	@touch $@ $(VENV)/.demo
