# `make demo` and `make test` need nothing but make and a Python that TensorFlow has
# wheels for; `make help` lists the rest. tools/make-env makes the environments.

PYTHON ?=                  # the interpreter to make the environments with; empty: look for one
PYTEST_WORKERS ?= 3        # processes that share the tests; some wait for children
PYTEST_ARGS ?=             # more arguments: make test PYTEST_ARGS="-k stopping -x"

# The latest JAX needs Python 3.11; 0.6 is the last that has wheels for 3.10.
JAX ?= 'jax[cpu]==0.10.2; python_version >= "3.11"' 'jax[cpu]==0.6.*; python_version < "3.11"'

# Most of the time of the tests on JAX is compilation, much of it of one program, and
# optimizations cost more than they bring in programs that run once.
JAX_CACHE := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax \
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
  XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'

# A plain `torch` for Linux brings gigabytes of CUDA, so the CPU build is named. It is
# not on PyPI, so pip may have to be told where it is.
TORCH_VERSION := 2.13.0
ifeq ($(shell uname -s),Linux)
TORCH ?= torch==$(TORCH_VERSION)+cpu
else
TORCH ?= torch==$(TORCH_VERSION)
endif
TORCH_HINT := If pip did not find $(TORCH): set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to \
  the CPU index of PyTorch (its get-started page shows the address for pip, Linux, CPU), \
  or choose another version with make TORCH=...

# The lowest supported versions: the lower bounds in pyproject.toml.
OLDEST := 'keras==3.12.*' 'tensorflow==2.20.*' 'numpy==1.26.*' \
  'tensorflow-model-optimization==0.8.0'

bin := .venv/bin
# A file stays in one process: the examples of a document build on each other.
pytest = -m pytest -n $(strip $(PYTEST_WORKERS)) --dist loadfile $(strip $(PYTEST_ARGS))

export PYTHON := $(strip $(PYTHON))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL: # the tests use all cores themselves, and targets share an environment
.PHONY: help demo test test-jax test-torch test-oldest soak lint format type docs build \
  bench check clean distclean FORCE

help: ## show this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

demo: .venv/.ready-demo ## run the demonstration on real digits
	$(bin)/python examples/quickstart.py

test: .venv/.ready-dev ## run all tests and the examples in docstrings, README and docs
	KERAS_BACKEND=tensorflow $(bin)/python $(pytest)

test-jax: .venv-jax/.ready-test ## run the backend-neutral tests on JAX
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu $(JAX_CACHE) .venv-jax/bin/python $(pytest)

test-torch: .venv-torch/.ready-test ## run the backend-neutral tests on PyTorch
	KERAS_BACKEND=torch .venv-torch/bin/python $(pytest)

soak: .venv/.ready-dev ## kill a training at 20 random moments and compare (minutes)
	KERAS_BACKEND=tensorflow $(bin)/python tests/reliability/soak.py --kills 20

test-oldest: .venv-oldest/.ready-test ## run all tests with the lowest supported versions
	KERAS_BACKEND=tensorflow .venv-oldest/bin/python $(pytest)

lint: .venv/.ready-dev ## check style, format and the floors of the house
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/lint-imports --no-logo

format: .venv/.ready-dev ## rewrite the code in the house style
	$(bin)/ruff check --fix
	$(bin)/ruff format

type: .venv/.ready-dev ## check the types
	$(bin)/mypy

# Strict, Zensical fails on broken links and references. Docstrings that the reference
# cannot read (griffe's warnings) and a reference without names fail here. Its cache knows
# nothing of the docstrings.
docs: .venv/.ready-docs ## build the manual in site/; a broken link or reference fails
	rm -rf site .cache
	@export NO_COLOR=1; said=$$($(bin)/zensical build --strict 2>&1) || failed=yes; \
	  echo "$$said"; test -z "$$failed" && ! echo "$$said" | grep -q '^griffe: '
	@grep -q 'id="keras_fitkit[.]' site/api/index.html || \
	  { echo "ERROR: the API reference is empty: is __all__ in keras_fitkit?"; exit 1; }

build: .venv/.ready-dev ## build sdist and wheel in dist/ and prove the wheel
	rm -rf dist
	$(bin)/python -m build --no-isolation
	$(bin)/twine check --strict dist/*
	$(bin)/python tools/check_wheel.py dist

bench: .venv/.ready-dev ## run every benchmark in its quick form
	set -e; for file in benchmarks/[!_]*.py; do \
	  echo "== $$file"; KERAS_BACKEND=tensorflow $(bin)/python "$$file" --quick; \
	done

# The cheapest first: what fails soon says so soon.
check: lint type build docs test demo test-jax test-torch ## everything that CI runs

clean: ## remove what was built, and caches
	rm -rf build dist site .cache .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove the environments too
	rm -rf .venv .venv-jax .venv-torch .venv-oldest

# A changed pyproject.toml runs pip again in the environment that is there. make-env is
# always asked: a stamp does not tell make that its Python is gone.
.venv/.ready-%: FORCE
	@tools/make-env .venv $* -e '.[$*]'

.venv-jax/.ready-test: FORCE
	@tools/make-env .venv-jax test -e '.[test]' $(JAX)

.venv-torch/.ready-test: FORCE
	@INSTALL_HINT='$(TORCH_HINT)' tools/make-env .venv-torch test -e '.[test]' '$(TORCH)'

.venv-oldest/.ready-test: FORCE
	@PYTHONS='3.11 3.10' tools/make-env .venv-oldest test -e '.[test]' $(OLDEST)
