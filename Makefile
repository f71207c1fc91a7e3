# `make demo` and `make test` need python3, gcc, g++ and make; everything else is installed into a
# virtual environment in this folder. Both can be run again at once: nothing is installed twice.
#
#   PYTHON=python3.12   the interpreter that makes the environment
#   VENV=/some/folder   where the environment goes
#   CONSTRAINTS=...     a file of versions that pip keeps to
#   PYTEST_ARGS=...     more arguments for every pytest, such as "-k clip -x"

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
PYTEST_ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
WORKERS := $(shell nproc 2>/dev/null || echo 2)
# One thread per worker for Paddle's own kernels, or the workers fight for the cores; a file's tests
# stay together, since they share what was costly to make. tests/conftest.py says which files come
# first: how many tests a file has says nothing of how long they take. Bytecode is kept, or every
# worker of every part, and every process that tests start, compiles the sources anew.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n $(WORKERS) \
    --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Where tests lie that build static programs; their mark tells which of them do.
BOTH_IRS := tests/program tests/numeric

# One failing check does not hide the others.
MAKEFLAGS += --keep-going --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint types test-unit test-pir test-legacy test-cuda-all test-cpus test-minimum \
    format clean

help:
	@echo "make demo     train a small network with native RAdam and with radam_codegen, and compare"
	@echo "make test     every check: ruff, mypy, and the tests, in both static IRs of Paddle"
	@echo "make lint | types | test-unit | test-pir | test-legacy     one part of make test"
	@echo "make test-cuda-all   compile CUDA kernels of every structure and run what nvcc makes of them;"
	@echo "              make test does so with a few (an hour of one CPU; needs nvcc and cuobjdump)"
	@echo "make test-cpus      what depends on the CPU, for each level of x86-64: run where this CPU can,"
	@echo "              else compiled and inspected"
	@echo "make test-minimum   the tests with every dependency at its declared minimum, in an environment"
	@echo "              of their own"
	@echo "make format   let ruff put the code in order"
	@echo "make clean    remove the virtual environment and everything that was built"

demo: $(VENV)/.installed-demo
	@$(PY) -m radam_codegen.cli demo

test: lint types test-unit test-pir test-legacy
	@echo "make test: PASSED (ruff, mypy, unit tests, PIR tests, legacy IR tests)"

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .; checked=$$?; $(PY) -m ruff format --check . && exit $$checked

# The package is put together from four folders when it is installed. mypy knows nothing of that, so
# it is shown the installed tree, made of links.
types: $(VENV)/.installed-dev
	@rm -rf build/types && mkdir -p build/types/radam_codegen
	@ln -s $(CURDIR)/radam_codegen/* build/types/radam_codegen/
	@ln -s $(CURDIR)/runtime $(CURDIR)/templates $(CURDIR)/tools build/types/radam_codegen/
	@if $(PY) -c 'import sys; sys.exit(sys.version_info >= (3, 10))'; then \
	    echo "types: left out, as there is no current mypy for Python 3.9"; \
	else \
	    cd build/types && $(abspath $(PY)) -m mypy --config-file ../../pyproject.toml \
	        --cache-dir ../../.mypy_cache -p radam_codegen; \
	fi

test-unit: $(VENV)/.installed-dev
	$(PYTEST) -m "not both_irs"

test-pir: $(VENV)/.installed-dev
	FLAGS_enable_pir_api=1 $(PYTEST) -m both_irs $(BOTH_IRS)

test-legacy: $(VENV)/.installed-dev
	FLAGS_enable_pir_api=0 $(PYTEST) -m both_irs $(BOTH_IRS)

# To the tests, -march=native then means each of these. CPUS="..." names others of them.
CPUS ?= x86-64-v1 x86-64-v2 x86-64-v3 x86-64-v4 skylake-avx512
OF_CPUS := tests/golden/test_compiles.py tests/numeric/test_agrees_with_reference.py \
    tests/numeric/test_clip_and_decay.py tests/numeric/test_kernel_matches_interpreter.py \
    $(addprefix tests/toolchain/test_, compiler.py kernel.py launcher.py keys.py inspect.py \
    inspect_command.py bundle.py aot_command.py standalone.py doctor.py)

test-cpus: $(VENV)/.installed-dev
	@for cpu in $(CPUS); do \
	    echo "test-cpus: $$cpu"; $(PYTEST) --cpu $$cpu $(OF_CPUS) || failed="$$failed $$cpu"; \
	done; \
	test -z "$$failed" || { echo "test-cpus: FAILED for$$failed" >&2; exit 1; }

# An environment beside the other one, so that neither changes the other.
test-minimum:
	$(MAKE) VENV=$(VENV)-minimum CONSTRAINTS=constraints-minimum.txt \
	    test-unit test-pir test-legacy

# Not by file: two of them are long.
test-cuda-all: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist load $(PYTEST_ARGS) \
	    --every-structure tests/cuda/test_instructions.py tests/cuda/test_ptx.py \
	    tests/cuda/test_emulation_agrees_with_c.py

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) $(VENV)-minimum build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamp names this folder: in a checkout that was copied or moved together with its environment,
# the environment would go on importing the old place.
ifneq ($(shell cat $(VENV)/.checkout 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.checkout
endif
$(VENV)/.checkout:
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/.made-by-make ]; then \
	    echo "make: $(VENV) is there already, and this Makefile did not make it." >&2; \
	    echo "  Remove it, or name another folder: make $(MAKECMDGOALS) VENV=.venv-make" >&2; \
	    exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { \
	    echo "make: '$(PYTHON)' is not Python 3.9 or newer." >&2; \
	    echo "  Name one that is: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@rm -rf $(VENV) && mkdir -p $(VENV) && touch $(VENV)/.made-by-make
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "make: '$(PYTHON) -m venv' failed, as the lines above say." >&2; \
	    echo "  On Debian and Ubuntu the module is a package of its own: apt-get install python3-venv" >&2; \
	    echo "  Or name an interpreter that has it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@$(PIP) --quiet install "pip>=22.3" # the first with --python, which the packaging tests use
	@echo "$(CURDIR)" > $@

$(VENV)/.installed-demo: $(VENV)/.checkout pyproject.toml
	@echo "Installing Paddle and what the demo needs (about 250 MB, once)"
	@$(PIP) install $(addprefix -c ,$(CONSTRAINTS)) --editable ".[demo]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-demo
	@echo "Installing what the checks need"
	@$(PIP) --quiet install $(addprefix -c ,$(CONSTRAINTS)) --editable ".[dev]"
	@touch $@
