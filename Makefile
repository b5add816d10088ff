# Targets for people who work on promptmill. `make setup` needs Python 3.11 or later with venv and pip, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PYPROJECTS := pyproject.toml plugins/extras.py $(wildcard plugins/*/pyproject.toml)
STAMP := $(VENV)/.promptmill-setup

.PHONY: help setup demo test bench bench-peers kills pacing check format docs dist clean

help:
	@echo "make setup   build $(VENV): the core, every plugin and the development tools"
	@echo "make demo    run the demonstration, without a key and without cost"
	@echo "make test    run the tests, except those marked heavy"
	@echo "make bench   measure it beside bare clients, and its parts (about 25 minutes; a quiet machine)"
	@echo "make bench-peers  measure other libraries beside it, each in an environment of its own (downloads them)"
	@echo "make kills   kill the program 200 times (or KILLS=n) and see that nothing is lost or paid twice"
	@echo "make pacing  keep to five kinds of limit for a minute each, in real time"
	@echo "make check   lint, format, types, import contracts, documentation"
	@echo "make format  mend what the linter and the formatter can mend"
	@echo "make docs    serve the documentation on this machine"
	@echo "make dist    build the distributions of a release into dist/"
	@echo "make clean   remove what was built, but not $(VENV)"

setup: $(STAMP)

$(STAMP): $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "promptmill needs Python 3.11 or later: make setup PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]' $(addprefix -e ,$(PLUGINS))
	@touch $@

demo: setup
	$(BIN)/python examples/demo.py

# Many tests wait more than they compute. Those that measure real time come afterwards, one by one.
TESTS_AT_ONCE ?= 2

test: setup
	$(BIN)/python -m pytest -m "not heavy and not alone" -n $(TESTS_AT_ONCE) --dist worksteal
	$(BIN)/python -m pytest -m "alone and not heavy"

# BENCH='--scale 0.1 --rounds 1' is a quick look.
bench: setup
	$(BIN)/python benchmarks/compare.py $(BENCH)

bench-peers: setup
	$(BIN)/python benchmarks/peers/peers.py $(BENCH)

KILLS ?= 200

kills: setup
	PROMPTMILL_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/durability/test_kills.py tests/durability/test_batch_kills.py \
		tests/workers/test_program.py

pacing: setup
	$(BIN)/python -m pytest -s -m heavy tests/cli/test_pacing.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src plugins/extras.py $(addsuffix /src,$(PLUGINS))
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# PROMPTMILL_RELEASE makes the extras name releases; without it they name folders of this checkout.
dist: setup
	rm -rf dist
	for folder in . $(PLUGINS); do PROMPTMILL_RELEASE=1 $(BIN)/python -m build --outdir dist $$folder || exit 1; done

clean:
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
