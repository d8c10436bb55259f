# make demo    sets everything up, then shows uvws at work
# make test    sets everything up, then runs the tests
# make help    says what else there is

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
# Where Autobahn's wstest finds Python 2.7; looked for if it is not given.
PYTHON2 ?=
export PYTHON2
# Further arguments for pytest: make test ARGS="-k handshake"
ARGS ?=
# Test processes, more than there are processors: most tests wait for a peer. The suites under
# instruments run in one, whose end is then looked at as well.
JOBS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
TIMEOUT ?= 60
CLANG_FORMAT_FILES = $(wildcard csrc/*.[ch] csrc/faults/*.c tests/fuzz/*.[ch] bench/c/*.[ch] src/uvws/*.h)

BIN := $(VENV)/bin
LOG := build/setup-$(VENV).log
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The suites under instruments are slower: the time limits in the tests grow by this factor.
SANITIZE_SCALE := 5
MEMCHECK_SCALE := 30

.PHONY: help setup demo test autobahn websockets-tests uvicorn-tests lint format sanitize \
        sanitize-tests memcheck wheel clean FORCE
.PHONY: soak hostile bench bench-publish bench-setup instructions profile faults faults-run
.PHONY: fuzz fuzz-wire

help:
	@echo "make demo           set up, then show an echo server and its clients at work"
	@echo "make test           set up, then run the tests (ARGS=\"-k name\" for some of them)"
	@echo "make autobahn       Autobahn's conformance tests (ARGS=\"--cases '1.*' --roles server\")"
	@echo "make uvicorn-tests  uvicorn's own tests of WebSockets, against uvws"
	@echo "make lint           ruff, mypy and clang-format, changing nothing"
	@echo "make format         put the sources into the form that lint wants"
	@echo "make sanitize       the whole suite under the address and undefined-behaviour sanitizers"
	@echo "make memcheck       a chosen part of it under valgrind"
	@echo "make faults         have each allocation fail in turn, under the sanitizers"
	@echo "make fuzz           fuzz the C core and the parsers (ARGS=\"--seconds 600\" each)"
	@echo "make fuzz-wire      hostile peers against both ends (ARGS=\"--seconds 60 --seed 1\")"
	@echo "make soak           an hour of mixed traffic with faults (ARGS=\"--minutes 5\")"
	@echo "make hostile        attacks at full size, with figures (ARGS=\"-k uvloop\")"
	@echo "make bench          measure uvws against its peers (ARGS=--quick: in two minutes)"
	@echo "make bench-publish  put the last results into README.md and docs/performance.md"
	@echo "make instructions   count instructions per message (ARGS=--check: against those kept)"
	@echo "make profile        where the time goes, by perf (ARGS=\"--row 64B-32\")"
	@echo "make websockets-tests  the asyncio tests of the websockets package, about uvws.aio"
	@echo "make wheel          a wheel in dist/"
	@echo "make clean          remove all that was built"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter; UVWS_LWS_SOURCE=PATH (a libwebsockets"
	@echo "tarball or tree) or UVWS_SYSTEM_LWS=1 chooses another libwebsockets."

# --- Setting up ---------------------------------------------------------------------------------

setup: $(VENV)/.uvws $(VENV)/.pyuv

$(VENV)/.made: tools/system-packages
	@tools/system-packages "$(PYTHON)"
	@rm -rf $(VENV)
	@tools/quietly "Creating a virtual environment in $(VENV)" $(LOG) \
	    "$(PYTHON)" -m venv $(VENV)
	@wanted="scikit-build-core>=0.11 cffi>=1.17"; \
	 command -v cmake >/dev/null || wanted+=" cmake"; \
	 command -v ninja >/dev/null || wanted+=" ninja"; \
	 tools/quietly "Installing the build tools" $(LOG) $(PIP) install $$wanted
	@touch $@

# What the build depends on besides the contents of files: which files there are, and the choice
# of libwebsockets. The list is rewritten only when it changes.
$(VENV)/.inputs: $(VENV)/.made FORCE
	@{ echo "$${UVWS_LWS_SOURCE:-} $${UVWS_SYSTEM_LWS:-}"; \
	   find build_lws.py csrc src -type f -not -name '*.pyc' | LC_ALL=C sort; } >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(VENV)/.uvws: $(VENV)/.inputs pyproject.toml build_lws.py \
               $(wildcard csrc/* csrc/lws-patches/* src/uvws/_version.py)
	@PATH="$(abspath $(BIN)):$$PATH" tools/quietly \
	    "Building uvws (libwebsockets too, the first time)" $(LOG) \
	    $(PIP) install --no-build-isolation --editable ".[uvloop,test,dev]"
	@touch $@

# Not from pip's cache: that does not know with which header a wheel was built. CFLAGS replaces the
# flags of Python's own, so that it has to ask for optimisation.
$(VENV)/.pyuv: src/uvws/pyuv_compat.h $(VENV)/.made
	@CFLAGS="-O2 -DNDEBUG -include '$(abspath $<)'" tools/quietly "Building pyuv" $(LOG) \
	    $(PIP) install --no-cache-dir --no-binary pyuv --force-reinstall pyuv==1.4.0
	@touch $@

# --- Using it -----------------------------------------------------------------------------------

demo: setup
	@$(BIN)/python examples/demo.py

# What csrc/cpython.c does is there a second time, by way of cffi, for other Pythons.
CFFI_TESTS := $(addprefix tests/test_,messages.py backpressure.py callbacks.py states.py)

# A stamp of its own, as nobody needs this who only builds. Without some of the peers there is none:
# the tests run, and the next time they are looked for again.
PEERS := build/peers/.installed

$(PEERS): tools/test-peers tests/node/package.json tests/node/package-lock.json
	@if tools/test-peers "$(PYTHON)" $(@D); then touch $@; fi

test: setup $(PEERS)
	@$(BIN)/python -m pytest -n $(JOBS) --timeout $(TIMEOUT) $(ARGS)
ifeq ($(ARGS),)
	@echo "And through cffi alone:"
	@UVWS_CFFI_ONLY=1 $(BIN)/python -m pytest -q -n $(JOBS) --timeout $(TIMEOUT) $(CFFI_TESTS)
endif

# Needs Python 2.7, and says how to get one where there is none.
autobahn: setup
	@tools/quietly "Making an environment for wstest" $(LOG) \
	    env PYTHONPATH=tests $(BIN)/python -m conformance.python2
	@PYTHONPATH=tests $(BIN)/python -m conformance $(or $(ARGS),--report docs/autobahn.md)

# What its tests need besides ours is installed for them alone.
uvicorn-tests: setup
	@tools/quietly "Installing what uvicorn's tests need" $(LOG) \
	    $(PIP) install httpx2 a2wsgi wsproto zttp
	@$(BIN)/python tests/run_uvicorn_suite.py build/uvicorn $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CLANG_FORMAT_FILES)

format: setup
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CLANG_FORMAT_FILES)

# --- Measuring ----------------------------------------------------------------------------------

# In an environment of its own, with uvws as a user gets it: from a wheel, stripped, not editable.
# socketify's library asks the system for libuv.
IN_BENCH := $(MAKE) VENV=.venv-bench

$(VENV)/.bench: $(VENV)/.inputs pyproject.toml build_lws.py \
                $(wildcard csrc/* csrc/lws-patches/* src/uvws/*.py src/uvws/*/*.py src/uvws/*.h)
	@tools/system-packages "$(PYTHON)" openssl libuv.so.1=libuv1
	@rm -rf build/bench-wheel
	@PATH="$(abspath $(BIN)):$$PATH" tools/quietly \
	    "Building uvws as for release (libwebsockets too, the first time)" $(LOG) \
	    $(PIP) wheel --no-build-isolation --no-deps --wheel-dir build/bench-wheel .
	@wheel=$$(echo build/bench-wheel/*.whl); \
	 tools/quietly "Installing it" $(LOG) $(PIP) install --no-deps --force-reinstall "$$wheel"; \
	 tools/quietly "Installing the peers to measure against" $(LOG) $(PIP) install "$$wheel[bench]"
	@touch $@

bench-setup: $(VENV)/.bench $(VENV)/.pyuv

bench:
	@$(IN_BENCH) bench-setup
	@.venv-bench/bin/python bench/run.py $(ARGS)

bench-publish:
	@$(IN_BENCH) bench-setup
	@.venv-bench/bin/python bench/publish.py $(ARGS)

instructions:
	@tools/system-packages "$(PYTHON)" valgrind
	@$(IN_BENCH) bench-setup
	@.venv-bench/bin/python bench/instructions.py $(ARGS)

# In the developer's environment: what a wheel holds is stripped of the names.
profile: setup
	@.venv/bin/python bench/perf.py $(ARGS)

# The asyncio tests of the `websockets` package, from its source package, with uvws.aio on one side.
websockets-tests: setup
	@$(BIN)/python tests/run_websockets_suite.py

# --- Under instruments --------------------------------------------------------------------------

sanitize:
	@UVWS_SANITIZE=1 $(MAKE) VENV=.venv-sanitize sanitize-tests

# The reports go to files: a test may swallow the output of a process, or its exit status. The tests
# run compilers and the like as well, which leak and must not fail for it: hence the exit status, and
# the look at Python's reports alone. faulthandler would take the signals that the address sanitizer
# explains better.
REPORTS := build/sanitize-reports
ASAN := detect_leaks=1:exitcode=0:abort_on_error=1:handle_sigill=1
ASAN := $(ASAN):log_exe_name=1:log_path=$(abspath $(REPORTS))/report

sanitize-tests: setup $(PEERS)
	@rm -rf $(REPORTS) && mkdir -p $(REPORTS)
	@export ASAN_OPTIONS="$(ASAN)"; \
	 export LSAN_OPTIONS="suppressions=$(abspath tests/lsan.supp):print_suppressions=0"; \
	 export PYTHONMALLOC=malloc UVWS_TEST_TIME_SCALE=$(SANITIZE_SCALE); \
	 status=0; \
	 LD_PRELOAD="$$(cc -print-file-name=libasan.so)" $(BIN)/python -m pytest -p no:faulthandler \
	     -n 0 --timeout $$(( $(TIMEOUT) * $(SANITIZE_SCALE) )) $(ARGS) || status=$$?; \
	 if compgen -G '$(REPORTS)/report.python*' >/dev/null; then \
	     cat $(REPORTS)/report.python*; \
	     echo "The sanitizers found faults; the reports are in $(REPORTS)." >&2; \
	     exit 1; \
	 fi; \
	 exit $$status

memcheck: setup
	@tools/system-packages "$(PYTHON)" valgrind
	@PYTHONMALLOC=malloc UVWS_TEST_TIME_SCALE=$(MEMCHECK_SCALE) \
	 valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
	     --errors-for-leak-kinds=definite --num-callers=30 --suppressions=tests/valgrind.supp \
	     $(BIN)/python -m pytest -m memcheck -p no:faulthandler -n 0 \
	     --timeout $$(( $(TIMEOUT) * $(MEMCHECK_SCALE) )) $(ARGS)

# The sanitizers look at what happens; what is lost the program counts by itself, but for what other
# libraries have. ARGS="--scenarios tls --lasting", for example, chooses what is run.
faults:
	@UVWS_FAULTS=1 $(MAKE) VENV=.venv-faults faults-run

faults-run: setup
	@ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:handle_sigill=1:allocator_may_return_null=1" \
	 PYTHONMALLOC=malloc LD_PRELOAD="$$(cc -print-file-name=libasan.so)" \
	 $(BIN)/python tests/run_faults.py $(ARGS)

# libFuzzer comes with clang.
fuzz: setup
	@tools/system-packages "$(PYTHON)" clang-14:libclang-rt-14-dev
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/fuzz/run.py $(ARGS)

fuzz-wire: setup
	@PYTHONPATH=tests $(BIN)/python -m fuzz.wire $(ARGS)

# --- Under load ---------------------------------------------------------------------------------

soak: setup
	@PYTHONPATH=tests $(BIN)/python -m soak $(ARGS)

hostile: setup
	@UVWS_HOSTILE=1 $(BIN)/python -m pytest -q -n 0 -s tests/test_hostile.py $(ARGS)

# --- Leaving ------------------------------------------------------------------------------------

wheel: $(VENV)/.made
	@PATH="$(abspath $(BIN)):$$PATH" tools/quietly "Building a wheel in dist/" $(LOG) \
	    $(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean:
	rm -rf .venv .venv-bench .venv-faults .venv-sanitize build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
