# Everything here works on a machine that has Python 3.11+ and make, nothing else.
# The first interpreter that runs and is recent enough (a pyenv shim may exist without one behind it).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test lint proto lock bench clean

demo: $(VENV)/.runtime  ## build and sign the enclaves, start the bookstore, show what happens
	@$(BIN)/cbs demo $(ARGS)

test: $(VENV)/.dev  ## all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev  ## style, types and walls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## measure; prints a table and writes benchmarks/results.json
	@$(BIN)/python -m benchmarks $(ARGS)

# The locked packages, by hash; then the project itself, in place. A changed lock installs again.
$(VENV)/.runtime: requirements/runtime.lock pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)

# The generator is pinned to the oldest supported grpcio: stubs made by a newer one refuse older runtimes.
proto: build/proto/.ready  ## regenerate confidential_bookstore/api
	build/proto/bin/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. \
	    $$(cd proto && find . -name '*.proto' | sort | sed 's|^\./||')

build/proto/.ready: requirements/proto.lock
	@$(PYTHON) -m venv build/proto
	@build/proto/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/proto.lock
	@touch $@

lock:  ## resolve again (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command 'make lock' --extra cli -o requirements/runtime.lock pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command 'make lock' --extra cli --group dev -c requirements/runtime.lock -o requirements/dev.lock pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command 'make lock' -o requirements/proto.lock requirements/proto.in

clean:  ## remove what make and the demo have written
	rm -rf $(VENV) .run build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
