# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench clean

demo: $(VENV)/.demo
	$(BIN)/python -m smnoise.train.demo_video --out runs/demo

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)
	$(BIN)/python -m smnoise verify

bench: $(VENV)/.test
	$(BIN)/python bench/run.py

# torch first and alone: the other packages must find it installed, not choose one.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	touch $@

# An editable install compiles csrc/; it is made anew whenever a source changes.
$(VENV)/.%: $(VENV)/.torch pyproject.toml setup.py $(wildcard csrc/*)
	$(BIN)/pip install -q -c constraints.txt -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build runs *.egg-info smnoise/*.so
