# `make demo` and `make test` set themselves up in .venv; nothing else is needed but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PAGE := src/sonde/web/static/index.html
PAGE_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' 2>/dev/null)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test soak check logic page docs bench clean

demo: $(PAGE) $(VENV)/ready  ## turn a real model into the Golden Gate Bridge, and open the page
	$(BIN)/sonde demo

test: $(PAGE) $(VENV)/ready-dev check logic  ## the quick suite, under 15 minutes on two cores
	@sh tools/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not soak"

soak: $(PAGE) $(VENV)/ready-soak check logic  ## the full suite
	@sh tools/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/ready-dev  ## style, types, the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/lint-imports

logic: $(PAGE)  ## the tests of the page's own logic
	@sh tools/node.sh $(BIN) constraints/ci.txt
	cd frontend && export PATH="$(CURDIR)/$(BIN):$$PATH" && { [ -d node_modules/vitest ] || npm ci --no-audit --no-fund --loglevel=error; } && npm test --silent

page: $(PAGE)  ## build the page from frontend/

docs: $(VENV)/ready-dev  ## run the code in docs/ and README.md
	$(BIN)/python -m pytest tests/house

bench: $(VENV)/ready-dev  ## run every benchmark; see docs/benchmarks.md
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: pyproject.toml constraints/ci.txt $(VENV)/bin/python
	$(BIN)/pip install --quiet -c constraints/ci.txt -e '.[map]'
	@touch $@

$(VENV)/ready-dev: pyproject.toml constraints/ci.txt $(VENV)/bin/python
	$(BIN)/pip install --quiet -c constraints/ci.txt -e '.[dev,table,map]'
	@touch $@ $(VENV)/ready

$(VENV)/ready-soak: pyproject.toml constraints/ci.txt $(VENV)/bin/python
	$(BIN)/pip install --quiet -c constraints/ci.txt -e '.[dev,table,map,ray,hf]'
	@touch $@ $(VENV)/ready $(VENV)/ready-dev

$(PAGE): $(PAGE_SOURCES) build_page.py | $(VENV)/bin/python
	@sh tools/node.sh $(BIN) constraints/ci.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python build_page.py

clean:
	rm -rf $(VENV) src/sonde/web/static frontend/node_modules
