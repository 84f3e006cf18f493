# Every target sets up what it needs in .venv, once.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

# The tests run a thousand interpreters; where the environment forbids them to keep what they compile, each compiles
# the whole package again: a tenth of the suite's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo services test compatibility witness chaos day fleet fleet-load scale screenshots speed big memory bench check generate reference recording docs format clean dist pythons sbom audit

help:
	@echo 'make demo      send files over TLS to an embedded MESH server, and receive them'
	@echo 'make check     format, lint, types, import rules, generated code, every branch of protocol/'
	@echo 'make test      run the tests; with NEL_MESH_REQUIRE_SERVICES=1 a missing program fails its test'
	@echo 'make compatibility  run the official tests and other clients against the sandbox; needs PyPI and npm'
	@echo 'make witness   run the scenarios of a witness test against a sandbox; the report is in build/witness'
	@echo 'make services  install the programs that tests call, where they are missing; as root, from Debian'
	@echo 'make chaos     every fault at every request, a kill at every point; CHAOS="--every 5"'
	@echo 'make day       a scripted day of the agent: 20 mailboxes, 2,000 messages, kills and every trouble; DAY="--seed 2"'
	@echo 'make fleet     three agents with one ledger: killed, frozen, without their database; FLEET="--trials 200"'
	@echo 'make fleet-load  5,000 mailboxes with two agents, and a flood in one of them; LOAD="--mailboxes 1000"'
	@echo 'make scale     500 idle mailboxes, and 1,000 small files, with one agent'
	@echo 'make speed     the pages of the console over 1,000,000 messages; SPEED="--rows 10000000 --database URL"'
	@echo 'make screenshots  make the pictures of docs/console.md; needs chromium'
	@echo 'make big       a message of 5 GiB, with two kills on the way; INTO=s3, azure or sftp'
	@echo 'make memory    the memory tests at 1 GiB'
	@echo 'make bench     compare with the official client and curl; ROUNDS=5, ONLY="send-csv starts", QUICK=1'
	@echo 'make format    format the code'
	@echo 'make generate  generate the sync client from the async one'
	@echo 'make reference generate the pages of commands, settings and Python'
	@echo 'make recording record docs/session.svg: a session with the real commands'
	@echo 'make docs      build the documentation as a site in site/, readable without a network'
	@echo 'make dist      build wheel and source distribution, and try them in fresh environments'
	@echo 'make pythons   run the tests of the client with the wheel on every Python that is here'
	@echo 'make sbom      write dist/sbom: the dependencies, as CycloneDX'
	@echo 'make audit     list known vulnerabilities of the dependencies; needs PyPI'
	@echo 'make clean     remove everything that the others made'

demo: $(VENV)/.demo
	@$(PY) examples/demo.py

# Each program has the name of its package.
SERVICES := chromium git npm openssl

services:
	@missing=; for name in $(SERVICES); do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	test -x /usr/sbin/sshd || missing="$$missing openssh-server"; \
	test -z "$$missing" || $$(test $$(id -u) -eq 0 || echo sudo) apt-get install --yes --no-install-recommends $$missing

# The Azure server of the tests comes by npm, without root, into a folder that git ignores.
AZURITE := .services/node_modules/.bin/azurite-blob

$(AZURITE):
	@echo 'Bringing Azurite ...'
	@npm install --prefix .services --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --silent \
		azurite@3.37.0 || echo 'npm did not bring Azurite: its tests will be skipped, or fail where they are required'

# What the tests look at the console's pages with, in the browser.
AXE := .services/axe/node_modules/axe-core/axe.min.js

$(AXE):
	@echo 'Bringing axe-core ...'
	@npm install --prefix .services/axe --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --silent \
		axe-core@4.14.1 || echo 'npm did not bring axe-core: its tests will be skipped, or fail where they are required'

test: $(VENV)/.dev $(AZURITE) $(AXE)
	$(PY) -m pytest --numprocesses 5 --dist worksteal

# The official packages need others than ours do.
compatibility: $(PY)
	$(PYTHON) -m venv $(VENV)/compatibility
	$(VENV)/compatibility/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip
	$(VENV)/compatibility/bin/python -m pip --disable-pip-version-check install --quiet --quiet \
		--constraint constraints.txt --editable '.[cli,sandbox]' --group compatibility
	$(VENV)/compatibility/bin/python tools/compatibility

witness: $(VENV)/.dev
	$(VENV)/bin/nel-mesh witness --sandbox --report build/witness

chaos: $(VENV)/.dev
	$(PY) tests/chaos.py $(CHAOS)

day: $(VENV)/.dev
	PYTHONPATH=tests:tests/agent $(PY) tests/agent/day.py $(DAY)
	PYTHONPATH=tests:tests/agent $(PY) tests/agent/official_day.py

speed: $(VENV)/.dev
	PYTHONPATH=tests:tests/console $(PY) tests/console/speed.py $(SPEED)

screenshots: $(VENV)/.dev
	PYTHONPATH=tests:tests/console $(PY) tests/console/screenshots.py

fleet: $(VENV)/.dev
	PYTHONPATH=tests:tests/agent $(PY) tests/fleet/trials.py $(FLEET)

fleet-load: $(VENV)/.dev
	PYTHONPATH=tests:tests/agent $(PY) tests/fleet/load.py $(LOAD)

scale: $(VENV)/.dev
	PYTHONPATH=tests:tests/agent $(PY) tests/agent/scale.py $(SCALE)

big: $(VENV)/.dev
	$(PY) tests/big.py $(INTO)

memory: $(VENV)/.dev
	NEL_MESH_TEST_MEBIBYTES=1024 $(PY) -m pytest -q -s tests/test_memory.py

bench: $(VENV)/.dev $(AZURITE)
	$(PY) -m benchmarks --rounds $(or $(ROUNDS),5) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

check: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) tools/unasync.py --check
	$(PY) -m pytest -q tests/test_architecture.py
	$(PY) -m coverage run -m pytest -q tests/protocol
	$(PY) -m coverage report

generate: $(VENV)/.dev
	$(PY) tools/unasync.py

docs: $(VENV)/.docs
	$(VENV)/docs/bin/python tools/website.py

reference: $(VENV)/.dev
	$(PY) tools/reference.py
	$(PY) tools/state_tables.py

recording: $(VENV)/.dev
	$(PY) tools/recording.py

# All files in both archives have the date of the last commit: the same commit gives the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/nel_mesh/_version.py)
WHEEL := dist/nel_mesh-$(VERSION)-py3-none-any.whl
SDIST := dist/nel_mesh-$(VERSION).tar.gz
PACKAGING := $(VENV)/packaging/bin

$(WHEEL): $(VENV)/.packaging $(wildcard $(shell git ls-files 2>/dev/null))
	rm -rf dist
	$(PACKAGING)/python -m build --no-isolation --quiet .

dist: $(VENV)/.dev $(WHEEL)
	$(PACKAGING)/python -m twine check --strict $(WHEEL) $(SDIST)
	$(PACKAGING)/check-wheel-contents $(WHEEL)
	PATH="$(CURDIR)/$(PACKAGING):$$PATH" $(PACKAGING)/check-manifest --no-build-isolation
	rm -rf build/again && mkdir -p build/again && tar -xzf $(SDIST) --strip-components 1 -C build/again
	cd build/again && $(CURDIR)/$(PACKAGING)/python -m build --no-isolation --quiet .
	cmp $(WHEEL) build/again/$(WHEEL) && cmp $(SDIST) build/again/$(SDIST)
	$(PY) -m nox --session installed lowest

# Besides those on the PATH, Pythons are found in the folders of NEL_MESH_PYTHONS and where pyenv keeps its own.
pythons: $(VENV)/.dev $(WHEEL)
	folders="$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin 2>/dev/null | paste -sd: -)"; \
	PATH="$$NEL_MESH_PYTHONS:$$PATH:$$folders" $(CURDIR)/$(PY) -m nox --session tests

# An environment for each kind of installation, with the versions of today.
KINDS := base agent azure cli console fleet s3 sandbox sftp telemetry all
comma := ,
EXTRAS = $(if $(filter-out base,$*),[$(subst all,agent$(comma)azure$(comma)cli$(comma)console$(comma)fleet$(comma)s3$(comma)sandbox$(comma)sftp$(comma)telemetry,$*)])

$(KINDS:%=build/installed/%/.ready): build/installed/%/.ready: $(WHEEL)
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PY) -m pip --python $(@D)/bin/python install --quiet --quiet --only-binary :all: "$(WHEEL)$(EXTRAS)"
	touch $@

sbom: $(KINDS:%=dist/sbom/nel-mesh-%.cdx.json)

dist/sbom/nel-mesh-%.cdx.json: build/installed/%/.ready $(VENV)/.audit
	mkdir -p $(@D)
	$(VENV)/audit/bin/cyclonedx-py environment --validate --output-reproducible --mc-type library \
		--pyproject pyproject.toml --output-file $@ $(<D)/bin/python

# It fails where PyPI cannot be asked: no answer is not a good one.
audit: build/installed/all/.ready $(VENV)/.audit
	$(PY) -m pip --python $(<D)/bin/python freeze --exclude nel-mesh >build/audit.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement build/audit.txt

format: $(VENV)/.dev
	$(PY) -m ruff check --fix --quiet . || true
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .services .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache .coverage dist build site

$(PY):
	@echo 'Setting up in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(PY)
	@$(PIP) --editable '.[agent,cli,sandbox]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[agent,azure,cli,console,fleet,s3,sandbox,sftp]' --group dev
	@touch $@ $(VENV)/.demo

# The tools that build, audit and make the site have environments of their own.
$(VENV)/.packaging $(VENV)/.audit $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt $(VENV)/.dev
	@$(PYTHON) -m venv --without-pip $(VENV)/$*
	@$(PY) -m pip --python $(VENV)/$*/bin/python install --quiet --quiet --disable-pip-version-check \
		--constraint constraints.txt --group $*
	@touch $@
